"""``--results-path``: the result in the JSON layout of the BLIS simulator (v0.6.1).

Only the layout is BLIS's. Every number is computed as everywhere else in this package, from
completed requests, and null stands where there is none. The per-request
``scheduling_delay_ms`` is in milliseconds, as its name says (v0.6.1 itself writes
microseconds there).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from blis_sim.atomic import atomic_write, check_output_path
from blis_sim.metrics.columns import Column, request_columns
from blis_sim.metrics.records import Status
from blis_sim.metrics.result import Result
from blis_sim.units import us_to_seconds

FLAG = "--results-path"

# BLIS's name of a latency: our tag, and the statistics it reports.
_LATENCIES = {
    "e2e": ("e2el", ("mean", "p90", "p95", "p99")),
    "ttft": ("ttft", ("mean", "p90", "p95", "p99")),
    "itl": ("itl", ("mean", "p90", "p95", "p99")),
    "scheduling_delay": ("scheduling_delay", ("p99",)),
}
_TIMES_MS = ("ttft_ms", "tpot_ms", "e2e_ms", "scheduling_delay_ms")
_INDENT = "    "


def check_blis_path(path: str | Path) -> None:
    """Check, before a run, that ``path`` can be written; ConfigError when not."""
    check_output_path(path, FLAG)


def blis_summary(result: Result) -> dict[str, Any]:
    """Return everything but the requests, under BLIS's keys and in its order.

    ``vllm_estimated_duration_s`` is the clock at the end, counted from 0 as BLIS does, and
    the two rates are per second of it.
    """
    summary, counts = result.summary, result.conservation
    end_s = us_to_seconds(result.run.end_us)
    report: dict[str, Any] = {
        "instance_id": "cluster",
        "completed_requests": counts["completed"],
        "still_queued": counts["in_frontend"] + counts["in_gateway"] + counts["waiting"],
        "still_running": counts["running"] + counts["in_transfer"],
        "injected_requests": counts["injected"],
        "total_input_tokens": summary["total_input_tokens"],
        "total_output_tokens": summary["total_output_tokens"],
        "vllm_estimated_duration_s": end_s,
        "responses_per_sec": counts["completed"] / end_s if end_s else None,
        "tokens_per_sec": summary["total_output_tokens"] / end_s if end_s else None,
    }
    for name, (tag, statistics) in _LATENCIES.items():
        report |= {f"{name}_{stat}_ms": summary[f"{stat}_{tag}_ms"] for stat in statistics}
    return report | {
        "preemption_count": summary["num_preemptions"],
        "dropped_unservable": counts["dropped"],
        "length_capped_requests": counts["completed_length_capped"],
        "timed_out_requests": counts["timed_out"],
    }


def write_blis_json(result: Result, path: str | Path) -> None:
    """Write the result in BLIS's layout, requests in order of arrival, whole or not at all.

    Raises
    ------
    ConfigError
        The file cannot be written.
    """
    head = json.dumps(blis_summary(result), indent=2, allow_nan=False)
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        # The requests are streamed: a million of them need not be in memory as dictionaries.
        stream.write(head.removesuffix("\n}") + ',\n  "requests": [')
        _write_requests(result, stream)
        stream.write("\n  ]\n}\n")


def _write_requests(result: Result, stream: TextIO) -> None:
    separator = "\n"
    for request in _requests(result):
        stream.write(f"{separator}{_INDENT}{json.dumps(request, ensure_ascii=False)}")
        separator = ",\n"


def _requests(result: Result) -> Iterator[dict[str, Any]]:
    """Yield each request under BLIS's keys; empty labels are left out, as BLIS does."""
    run = result.run
    columns = run.requests
    table = {column.name: column for column in request_columns(run)}
    times = [_values(table[name]) for name in _TIMES_MS]
    completed = columns.status == Status.COMPLETED
    labels = [_texts(table["slo_class"]), _texts(table["tenant"]), _values(table["instance"])]
    order = np.argsort(columns.arrival_us, kind="stable").tolist()
    numbers = columns.request_id.tolist()
    arrivals = columns.arrival_us.tolist()
    prompts = columns.prompt_tokens.tolist()
    outputs = columns.output_tokens.tolist()
    capped = (completed & (columns.length_capped > 0)).tolist()
    for row in order:
        ttft_ms, tpot_ms, e2e_ms, delay_ms = (values[row] for values in times)
        slo_class, tenant, instance = (values[row] for values in labels)
        request = {
            "arrived_at": us_to_seconds(arrivals[row]),
            "requestID": f"request_{numbers[row]}",
            "num_prefill_tokens": prompts[row],
            "num_decode_tokens": outputs[row],
            "ttft_ms": ttft_ms,
            "itl_ms": tpot_ms,
            "e2e_ms": e2e_ms,
            "scheduling_delay_ms": delay_ms,
        }
        if slo_class is not None:
            request["slo_class"] = slo_class
        if tenant is not None:
            request["tenant_id"] = tenant
        if instance is not None:
            request["handled_by"] = f"instance_{instance}"
        if capped[row]:
            request["length_capped"] = True
        yield request


def _values(column: Column) -> list[Any]:
    """Return a column as numbers, None where absent."""
    numbers = column.data / 10**column.decimals if column.decimals else column.data
    return _masked(column, numbers.tolist())


def _texts(column: Column) -> list[Any]:
    labels = column.labels or ()
    return [None if code < 0 else labels[code] for code in column.data.tolist()]


def _masked(column: Column, values: list[Any]) -> list[Any]:
    if column.present is None:
        return values
    there = column.present.tolist()
    return [value if known else None for value, known in zip(values, there, strict=True)]
