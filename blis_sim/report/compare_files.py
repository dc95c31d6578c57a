"""``blis compare``: deployments side by side, as CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from blis_sim.capacity.compared import LATENCY_TAGS, METRICS, ComparedRun
from blis_sim.metrics.definitions import metric_definitions
from blis_sim.metrics.plain import to_plain
from blis_sim.report.compare_names import deployment, notes_of
from blis_sim.version import package_version


def _record(row: ComparedRun) -> dict[str, Any]:
    """Return a row with its fixed columns."""
    return {
        "name": row.name or None,
        "model": row.model,
        "gpu": row.gpu,
        "tensor_parallel_size": row.tensor_parallel_size,
        "num_instances": row.num_instances,
        "deployment": deployment(row),
        "request_rate": row.request_rate,
        "seed": row.seed,
        "latency_model": row.latency_model or None,
        "latency_model_reason": row.latency_reason or None,
        "latency_model_source": row.latency_source or None,
        "num_kv_blocks": row.num_kv_blocks,
        **{key: row.metrics.get(key) for key in METRICS},
        "not_simulated": row.reason or None,
    }


def comparison_json(rows: Sequence[ComparedRun]) -> str:
    """Return the comparison as strict JSON text, ending in a newline."""
    definitions = metric_definitions()
    kept = [tag for tag in definitions if tag in METRICS or tag in LATENCY_TAGS]
    document = {
        "blis_sim_version": package_version(),
        "rows": [
            _record(row)
            | {
                "pools": [asdict(pool) for pool in row.pools],
                "load": row.load or None,
                "notices": list(row.notices),
            }
            for row in rows
        ],
        "notes": notes_of(rows),
        "metric_definitions": {tag: definitions[tag] for tag in kept},
    }
    return json.dumps(to_plain(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def comparison_csv(rows: Sequence[ComparedRun]) -> str:
    """Return one line per deployment below a header; an absent value is an empty cell."""
    stream = io.StringIO()
    records = [to_plain(_record(row)) for row in rows]
    writer = csv.DictWriter(stream, list(_record(rows[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return stream.getvalue()
