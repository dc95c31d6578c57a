"""Results of GuideLLM: the load it sent and what it measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blis_sim.errors import TraceError
from blis_sim.units import US_PER_MS, US_PER_S
from blis_sim.workload.columns import ReadOptions, TraceColumns
from blis_sim.workload.formats.json_rows import MeasuredRows, latency_us, list_of, object_of
from blis_sim.workload.json_file import BadValueError, json_document, shown_json, whole_number
from blis_sim.workload.trace_file import BadRows
from blis_sim.workload.trace_sample import FileSample

_MAX_EPOCH_S = 1e10


class GuideLlmJson:
    """GuideLLM's ``benchmarks.json``: several benchmarks, each with its requests.

    A request of ``benchmarks[].requests.successful[]`` has ``prompt_tokens``,
    ``output_tokens``, ``request_start_time`` (``start_time`` up to version 0.3; s since 1970),
    ``time_to_first_token_ms`` and ``request_latency`` (s). Incomplete and errored requests
    are left out and counted. The benchmarks of a sweep follow one another as they did.
    """

    name = "guidellm"
    title = "GuideLLM JSON"

    def recognises(self, sample: FileSample) -> bool:
        """Return whether the document has benchmarks."""
        return sample.kind == "json" and sample.has("benchmarks")

    def read(self, path: Path, options: ReadOptions) -> TraceColumns:
        """Read the successful requests of all benchmarks."""
        bad_rows = BadRows(path, options.skip_bad_rows)
        rows = MeasuredRows()
        num_sampled = 0
        try:
            benchmarks = list_of(object_of(json_document(path), "file").get("benchmarks"), _ROOT)
            for number, benchmark in enumerate(benchmarks):
                num_sampled += _add_benchmark(rows, benchmark, f"{_ROOT}[{number}]", bad_rows)
        except BadValueError as error:
            raise TraceError(f"{path}: {error}") from None
        bad_rows.require_rows(len(rows.prompt_tokens), "no successful request with its facts")
        columns = rows.columns(path)
        if len(benchmarks) > 1:
            columns.notices.append(
                f"{path}: {len(benchmarks)} benchmarks, one after the other as they were run; "
                "start_s and duration_s choose a stretch"
            )
        if num_sampled:
            columns.notices.append(
                f"{path}: the file holds a sample only; {num_sampled:,} successful requests are "
                "not in it, so the rate is lower than it was"
            )
        columns.notices += bad_rows.notices()
        return columns


_ROOT = "benchmarks"


def _add_benchmark(rows: MeasuredRows, value: Any, place: str, bad_rows: BadRows) -> int:
    """Add the requests of a benchmark; return how many successful ones the file lacks."""
    benchmark = object_of(value, place)
    requests = object_of(benchmark.get("requests"), f"{place}.requests")
    where = f"{place}.requests.successful"
    successful = list_of(requests.get("successful"), where)
    for index, item in enumerate(successful):
        try:
            _add_request(rows, object_of(item, f"{where}[{index}]"), f"{where}[{index}]")
        except BadValueError as error:
            bad_rows.add(str(error))
    for status in ("incomplete", "errored"):
        rows.num_failed += len(requests.get(status) or ())
    return max(_num_successful(benchmark) - len(successful), 0)


def _num_successful(benchmark: Mapping[str, Any]) -> int:
    """Return the count the benchmark states, 0 where it states none."""
    metrics = benchmark.get("metrics")
    for holder in (benchmark, metrics if isinstance(metrics, dict) else {}):
        totals = holder.get("request_totals")
        count = totals.get("successful") if isinstance(totals, dict) else None
        if type(count) is int:
            return count
    return 0


def _add_request(rows: MeasuredRows, item: Mapping[str, Any], place: str) -> None:
    prompt = whole_number(item.get("prompt_tokens"), f"{place}.prompt_tokens", 1)
    output = whole_number(item.get("output_tokens"), f"{place}.output_tokens", 0)
    key = "request_start_time" if "request_start_time" in item else "start_time"
    start_s = item.get(key)
    if type(start_s) not in {int, float} or not 0 <= start_s <= _MAX_EPOCH_S:  # type: ignore[operator]
        raise BadValueError(
            f"{place}.{key} must be a time in s since 1970; got {shown_json(start_s)}"
        )
    key = "time_to_first_token_ms"
    ttft = latency_us(item.get(key), f"{place}.{key}", "ms", US_PER_MS)
    key = "request_latency"
    e2e = latency_us(item.get(key), f"{place}.{key}", "s", US_PER_S)
    rows.start_us.append(round(start_s * US_PER_S))  # type: ignore[operator]
    rows.prompt_tokens.append(prompt)
    rows.output_tokens.append(output)
    rows.ttft_us.append(ttft)
    rows.e2e_us.append(e2e)
