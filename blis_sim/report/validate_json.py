"""``blis validate``: every error and what they amount to, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from blis_sim.metrics.plain import to_plain
from blis_sim.validation.compare import Compared, ComparedTimes, ValidatedRow
from blis_sim.validation.figures import FIGURES
from blis_sim.validation.shipped import LeftOut
from blis_sim.validation.summary import summarize, summarize_groups
from blis_sim.validation.validate import ValidatedRequests, Validation
from blis_sim.version import package_version


def validation_json(
    validation: Validation, asked: Mapping[str, Any], left_out: Sequence[LeftOut] = ()
) -> str:
    """Return everything as strict JSON text, ending in a newline.

    Parameters
    ----------
    validation : Validation
        What came out.
    asked : mapping
        The question: files, seeds, overrides, as plain values.
    left_out : sequence of LeftOut
        Published rows that are not in the table.
    """
    rows = validation.rows
    document: dict[str, Any] = {
        "blis_sim_version": package_version(),
        "asked": dict(asked),
        "experiments": [_row(row) for row in rows],
        "summary": _summaries(rows),
        "summary_simulated": _summaries([row for row in rows if not row.reason]),
        "by": {
            grouping: {
                name: {figure: asdict(each) for figure, each in figures.items()}
                for name, figures in groups.items()
            }
            for grouping, groups in summarize_groups(rows).items()
        },
        "num_rows": len(rows),
        "num_not_simulated": sum(bool(row.reason) for row in rows),
        "left_out": [asdict(each) for each in left_out],
        "requests": [_requests(each) for each in validation.requests],
        "metric_definitions": {
            f.name: {"unit": f.unit, "formula": f.formula}
            for f in FIGURES
            if any(f.name in row.metrics for row in rows)
        },
    }
    return json.dumps(to_plain(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _summaries(rows: Sequence[ValidatedRow]) -> dict[str, Any]:
    return {name: asdict(each) for name, each in summarize(rows).items()}


def _compared(compared: Compared) -> dict[str, float | None]:
    return {
        "measured": compared.measured,
        "predicted": compared.predicted,
        "error_pct": compared.error_pct,
    }


def _row(row: ValidatedRow) -> dict[str, Any]:
    record: dict[str, Any] = {
        "dataset": row.dataset,
        "exp_id": row.exp_id,
        "stage": row.stage,
        "role": row.role,
        "model": row.model,
        "gpu": row.gpu,
        "tp": row.tp,
        "load": row.load,
        "requests_in_flight": row.in_flight,
        "latency_model": row.latency_model or None,
        "metrics": {name: _compared(each) for name, each in row.metrics.items()},
        "notices": list(row.notices),
    }
    return record | ({"reason": row.reason} if row.reason else {})


def _times(times: ComparedTimes) -> dict[str, float | None]:
    return {
        **_compared(times.mean),
        "median_abs_error_pct": times.median_abs_error_pct,
        "wasserstein_ms": times.wasserstein_ms,
    }


def _requests(validated: ValidatedRequests) -> dict[str, Any]:
    case, answer = validated.case, validated.answer
    record: dict[str, Any] = {
        "file": validated.served.path.name,
        "dataset": case.dataset,
        "exp_id": case.exp_id,
        "model": case.model,
        "gpu": case.gpu,
        "tp": case.tp,
        "num_requests": validated.served.num_requests,
        "num_completed": answer.num_completed,
        "latency_model": answer.latency_model or None,
        "times": {f"{name}_ms": _times(each) for name, each in answer.times.items()},
    }
    return record | ({"reason": answer.reason} if answer.reason else {})
