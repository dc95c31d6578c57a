"""Detailed results of ``vllm bench serve``: the load it sent and what it measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blis_sim.errors import TraceError
from blis_sim.units import US_PER_S
from blis_sim.workload.cells import ABSENT
from blis_sim.workload.columns import ReadOptions, TraceColumns
from blis_sim.workload.formats.json_rows import MeasuredRows, list_of, object_of
from blis_sim.workload.json_file import BadValueError, duration_us, json_document, whole_number
from blis_sim.workload.trace_file import BadRows
from blis_sim.workload.trace_sample import FileSample

_REQUIRED = ("input_lens", "output_lens")
_OPTIONAL = ("start_times", "ttfts", "itls", "latencies", "errors")


class VllmBenchJson:
    """Result of ``vllm bench serve --save-result --save-detailed``.

    One array per fact, one entry per request: ``input_lens``, ``output_lens`` (tokens) and,
    as far as the version wrote them, ``start_times`` (s on some clock), ``ttfts``, ``itls``,
    ``latencies`` (s) and ``errors``. Requests with an error or without any output token
    failed: they are left out and counted. Results without ``start_times`` have no arrivals.
    """

    name = "vllm"
    title = "vllm bench serve JSON"

    def recognises(self, sample: FileSample) -> bool:
        """Return whether the first keys are those of a result, detailed or not."""
        return sample.kind == "json" and (
            sample.has_any(*_REQUIRED)
            or sample.has("total_input_tokens", "total_output_tokens", "request_throughput")
        )

    def read(self, path: Path, options: ReadOptions) -> TraceColumns:
        """Read the requests that were answered."""
        arrays = _arrays(path)
        bad_rows = BadRows(path, options.skip_bad_rows)
        rows = MeasuredRows()
        for index in range(len(arrays["input_lens"])):
            try:
                _add(rows, arrays, index)
            except BadValueError as error:
                bad_rows.add(str(error))
        bad_rows.require_rows(len(rows.prompt_tokens), f"{rows.num_failed:,} failed requests")
        columns = rows.columns(path)
        columns.notices += bad_rows.notices()
        return columns


def _arrays(path: Path) -> dict[str, list[Any]]:
    """Return the arrays of the file that are there, all of one length."""
    try:
        result = object_of(json_document(path), "file")
        missing = next((name for name in _REQUIRED if name not in result), None)
        if missing:
            raise TraceError(
                f"{path}: result must have the array {missing}; got none; save it with "
                "vllm bench serve --save-result --save-detailed"
            )
        arrays = {
            name: list_of(result[name], name)
            for name in (*_REQUIRED, *_OPTIONAL)
            if result.get(name) is not None
        }
    except BadValueError as error:
        raise TraceError(f"{path}: {error}") from None
    count = len(arrays["input_lens"])
    for name, array in arrays.items():
        if len(array) != count:
            raise TraceError(
                f"{path}: {name} must have {count} entries, one per entry of input_lens; "
                f"got {len(array)}"
            )
    return arrays


def _add(rows: MeasuredRows, arrays: Mapping[str, list[Any]], index: int) -> None:
    output = whole_number(arrays["output_lens"][index], f"output_lens[{index}]", 0)
    if output == 0 or ("errors" in arrays and arrays["errors"][index]):
        rows.num_failed += 1
        return
    prompt = whole_number(arrays["input_lens"][index], f"input_lens[{index}]", 1)
    ttft = e2e = ABSENT
    if "ttfts" in arrays:
        ttft = _seconds_us(arrays, "ttfts", index)
    if "latencies" in arrays:
        e2e = _seconds_us(arrays, "latencies", index)
    elif "ttfts" in arrays and "itls" in arrays:
        e2e = ttft + _sum_us(arrays["itls"][index], f"itls[{index}]")
    if "start_times" in arrays:
        rows.start_us.append(_seconds_us(arrays, "start_times", index))
    rows.prompt_tokens.append(prompt)
    rows.output_tokens.append(output)
    rows.ttft_us.append(ttft)
    rows.e2e_us.append(e2e)


def _seconds_us(arrays: Mapping[str, list[Any]], name: str, index: int) -> int:
    return duration_us(arrays[name][index], f"{name}[{index}]", "s", US_PER_S)


def _sum_us(gaps: Any, place: str) -> int:
    """Return the sum of the gaps between tokens, added up before it is rounded."""
    total_s = 0.0
    for number, gap in enumerate(list_of(gaps, place)):
        duration_us(gap, f"{place}[{number}]", "s", US_PER_S)
        total_s += gap
    return round(total_s * US_PER_S)
