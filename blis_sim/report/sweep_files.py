"""``blis sweep``: all results as CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from blis_sim.metrics.definitions import metric_definitions
from blis_sim.metrics.plain import to_plain
from blis_sim.version import package_version

if TYPE_CHECKING:
    from blis_sim.capacity.study import Label, Outcome
    from blis_sim.capacity.sweep import SweepRow

DEPLOYMENT = (
    *("model", "gpu", "tensor_parallel_size", "num_instances", "num_gpus", "num_kv_blocks"),
    *("latency_model", "usd_per_gpu_hour"),
)


def outcome_record(labels: Mapping[str, Label], outcome: Outcome | None) -> dict[str, Any]:
    """Return one line: labels, what was deployed, whether there are figures, the figures."""
    record: dict[str, Any] = dict(labels)
    if outcome is None:
        return record | {"status": "not finished", "reason": None}
    deployment = {name: outcome.deployment.get(name) for name in DEPLOYMENT if name not in record}
    return record | {
        "status": outcome.status.value,
        "reason": outcome.reason or None,
        **deployment,
        "request_rate": outcome.request_rate,
        "seed": outcome.seed,
        **outcome.metrics,
        "num_requests": outcome.num_requests,
        "wall_s": outcome.wall_s,
    }


def records_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """Return one line per record below a header; an absent value is an empty cell."""
    columns = list(dict.fromkeys(name for record in records for name in record))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return stream.getvalue()


def sweep_csv(rows: Sequence[SweepRow]) -> str:
    """Return one line per combination and replication."""
    return records_csv(
        [
            outcome_record(_labels(row, number), outcome)
            for row in rows
            for number, outcome in enumerate(row.outcomes)
        ]
    )


def _labels(row: SweepRow, number: int) -> dict[str, Label]:
    return dict(row.labels) | ({"replication": number} if len(row.outcomes) > 1 else {})


def sweep_json(rows: Sequence[SweepRow]) -> str:
    """Return everything as strict JSON text, ending in a newline."""
    document = {
        "blis_sim_version": package_version(),
        "points": [
            {"labels": _labels(row, number), **outcome.to_json_dict()}
            for row in rows
            for number, outcome in enumerate(row.outcomes)
        ],
        "metric_definitions": metric_definitions(),
    }
    return json.dumps(to_plain(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
