"""Per-request records of AIPerf: the load it sent and what it measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blis_sim.units import US_PER_MS, US_PER_S
from blis_sim.workload.cells import ABSENT
from blis_sim.workload.columns import ReadOptions, TraceColumns
from blis_sim.workload.formats.json_rows import MeasuredRows, latency_us, object_of
from blis_sim.workload.json_file import BadValueError, json_lines, whole_number
from blis_sim.workload.trace_file import BadRows, shown
from blis_sim.workload.trace_sample import FileSample

_MAX_NS = 2**63 - 1
_NS_PER_US = 1_000
_UNITS_US = {"ns": 1e-3, "us": 1.0, "ms": float(US_PER_MS), "s": float(US_PER_S)}


class AiPerfJsonl:
    """AIPerf's ``profile_export.jsonl``: one record per request.

    ``metadata.request_start_ns`` (since 1970) is the arrival; ``metrics`` holds
    ``{"value", "unit"}`` of ``input_sequence_length``, ``output_sequence_length``,
    ``time_to_first_token`` and ``request_latency``. Records with an error and cancelled ones
    are left out and counted, and so are those of a warm-up phase.
    """

    name = "aiperf"
    title = "AIPerf profile export JSONL"

    def recognises(self, sample: FileSample) -> bool:
        """Return whether the first object is a record."""
        return sample.kind == "json" and sample.has("metadata", "metrics")

    def read(self, path: Path, options: ReadOptions) -> TraceColumns:
        """Read the records of successful requests."""
        bad_rows = BadRows(path, options.skip_bad_rows)
        rows = MeasuredRows()
        num_warmup = num_followups = 0
        for line, item in json_lines(path, bad_rows):
            try:
                metadata = object_of(item.get("metadata"), "metadata")
                if metadata.get("benchmark_phase", "profiling") != "profiling":
                    num_warmup += 1
                elif item.get("error") or metadata.get("was_cancelled"):
                    rows.num_failed += 1
                else:
                    metrics = object_of(item.get("metrics"), "metrics")
                    _add(rows, metadata, metrics)
                    num_followups += metadata.get("turn_index") not in (None, 0)
            except BadValueError as error:
                bad_rows.add(str(error), line)
        bad_rows.require_rows(len(rows.prompt_tokens), f"{rows.num_failed:,} failed requests")
        columns = rows.columns(path)
        if num_warmup:
            columns.notices.append(f"{path}: {num_warmup:,} requests of the warm-up left out")
        if num_followups:
            columns.notices.append(
                f"{path}: {num_followups:,} follow-up turns are replayed at their times; what "
                "they share with earlier turns is not in the file"
            )
        columns.notices += bad_rows.notices()
        return columns


def _add(rows: MeasuredRows, metadata: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    start_ns = whole_number(
        metadata.get("request_start_ns"), "metadata.request_start_ns", 0, _MAX_NS, "ns"
    )
    prompt = _tokens(metrics, "input_sequence_length", 1)
    output = _tokens(metrics, "output_sequence_length", 0)
    ttft = _latency_us(metrics, "time_to_first_token")
    e2e = _latency_us(metrics, "request_latency")
    rows.start_us.append((start_ns + _NS_PER_US // 2) // _NS_PER_US)
    rows.prompt_tokens.append(prompt)
    rows.output_tokens.append(output)
    rows.ttft_us.append(ttft)
    rows.e2e_us.append(e2e)


def _tokens(metrics: Mapping[str, Any], name: str, minimum: int) -> int:
    metric = object_of(metrics.get(name), f"metrics.{name}")
    return whole_number(metric.get("value"), f"metrics.{name}.value", minimum)


def _latency_us(metrics: Mapping[str, Any], name: str) -> int:
    if metrics.get(name) is None:
        return ABSENT
    metric = object_of(metrics[name], f"metrics.{name}")
    unit = str(metric.get("unit"))
    if unit not in _UNITS_US:
        raise BadValueError(
            f"metrics.{name}.unit must be one of {', '.join(_UNITS_US)}; got {shown(unit)}"
        )
    return latency_us(metric.get("value"), f"metrics.{name}.value", unit, _UNITS_US[unit])
