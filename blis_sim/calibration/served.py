"""Requests that a server answered, with their times, from any of the files that hold such."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from blis_sim.calibration.steps import has_steps
from blis_sim.calibration.table import DataTable, FloatArray, Quantity, read_table
from blis_sim.errors import TraceError
from blis_sim.units import US_PER_MS, US_PER_S
from blis_sim.validation.requests_file import ServedRequests, read_requests
from blis_sim.workload.base import MAX_TIME_US
from blis_sim.workload.cells import ABSENT
from blis_sim.workload.columns import TraceColumns
from blis_sim.workload.trace import read_trace, trace_formats
from blis_sim.workload.trace_sample import FileSample, look_at

_UNITS = (("_us", 1.0), ("_ms", float(US_PER_MS)), ("_s", float(US_PER_S)))
_RESULTS = ("vllm", "guidellm", "aiperf")
"""Formats of benchmark results that hold measured times."""
_LOGGED = {"input_toks", "output_toks"}
"""Keys of the JSONL that `read_requests` reads."""


def _times(what: str, *names: str) -> Quantity:
    return Quantity(what, {f"{name}{unit}": each for unit, each in _UNITS for name in names})


PROMPT = Quantity(
    "prompt tokens",
    dict.fromkeys(("prompt_tokens", "input_tokens", "input_toks"), 1.0),
    is_positive=True,
    is_whole=True,
)
OUTPUT = Quantity(
    "output tokens",
    dict.fromkeys(("output_tokens", "output_toks"), 1.0),
    is_whole=True,
)
ARRIVAL = _times("arrival of a request", "arrival", "arrival_time", "start_time")
TTFT = _times("time to first token", "ttft")
E2E = _times("time to last token", "e2e", "latency")
FIRST_TOKEN = _times("time of the first token, on the clock of the arrival", "first_token")
LAST_TOKEN = _times("time of the last token, on the clock of the arrival", "last_token")
STATUS = "status"
_DONE = "completed"


class DataKind(StrEnum):
    """What a file of measurements holds."""

    STEPS = "steps"
    REQUESTS = "requests"


@dataclass(frozen=True, slots=True)
class Served:
    """Requests with the times at which each was answered.

    Attributes
    ----------
    requests : ServedRequests
        In order of arrival; both times are there.
    notices : tuple of str
        What was left out.
    """

    requests: ServedRequests
    notices: tuple[str, ...] = ()

    @property
    def ttft_us(self) -> npt.NDArray[np.int64]:
        """From sending a request to its first token."""
        assert self.requests.ttft_us is not None
        return self.requests.ttft_us

    @property
    def e2e_us(self) -> npt.NDArray[np.int64]:
        """From sending a request to its last token."""
        assert self.requests.e2e_us is not None
        return self.requests.e2e_us

    @property
    def gaps(self) -> npt.NDArray[np.int64]:
        """Gaps between the tokens of each answer: one less than its tokens, >= 0."""
        return np.maximum(self.requests.output_tokens - 1, 0)


def kind_of(path: Path) -> DataKind:
    """Return what a file holds, judged by its columns or keys.

    Raises
    ------
    TraceError
        It cannot be read, or is neither or both.
    """
    sample = look_at(path)
    is_steps = has_steps(sample.names)
    is_requests = _is_result(sample) or set(sample.names) >= _LOGGED or _has_requests(sample)
    if is_steps == is_requests:
        raise TraceError(
            f"{path}: data must be steps (with prefill tokens, decodes and a duration) or "
            f"requests (with arrival, tokens and TTFT), not {'both' if is_steps else 'neither'}; "
            f"got {sample}; say which with --steps or --requests"
        )
    return DataKind.STEPS if is_steps else DataKind.REQUESTS


def _has_requests(sample: FileSample) -> bool:
    return all(
        each.column_in(sample.names) is not None for each in (PROMPT, OUTPUT, ARRIVAL)
    ) and any(each.column_in(sample.names) is not None for each in (TTFT, FIRST_TOKEN))


def _is_result(sample: FileSample) -> bool:
    return any(each.recognises(sample) for each in trace_formats() if each.name in _RESULTS)


def read_served(path: Path) -> Served:
    """Read requests with the times at which each was answered.

    Parameters
    ----------
    path : Path
        A result of ``vllm bench serve --save-result --save-detailed`` (or of GuideLLM or
        AIPerf), the JSONL that ``blis validate --requests`` reads, or a table (CSV, JSONL)
        with arrival, tokens, and TTFT and E2E or the times of the first and last token.

    Raises
    ------
    TraceError
        The file cannot be read, lacks something, or a value is not what it must be.
    """
    sample = look_at(path)
    if _is_result(sample):
        return _of_result(path)
    if set(sample.names) >= _LOGGED and sample.kind == "json":
        requests = read_requests(path)
        if requests.ttft_us is None or requests.e2e_us is None:
            raise TraceError(
                f"{path}: requests must have first_token_ts and last_token_ts; got arrivals alone"
            )
        return _checked(requests, [])
    return _of_table(read_table(path))


# -- results of benchmarks ------------------------------------------------


def _of_result(path: Path) -> Served:
    columns, found = read_trace(path)
    if columns.arrival_us is None:
        raise TraceError(
            f"{path}: result must have start_times, when each request was sent; got none: the "
            "load cannot be simulated without them; measure again with a vLLM whose "
            "--save-detailed writes them, or give requests with arrival times as a CSV"
        )
    missing = "ttfts" if columns.measured_ttft_us is None else "itls (or latencies)"
    if columns.measured_ttft_us is None or columns.measured_e2e_us is None:
        raise TraceError(
            f"{path}: result must have {missing} of each request; got none in this "
            f"{found.title}; save it with --save-detailed"
        )
    return _from_columns(path, columns)


def _from_columns(path: Path, columns: TraceColumns) -> Served:
    assert columns.arrival_us is not None
    assert columns.measured_ttft_us is not None
    assert columns.measured_e2e_us is not None
    is_there = (columns.measured_ttft_us != ABSENT) & (columns.measured_e2e_us != ABSENT)
    notices = list(columns.notices)
    if not is_there.all():
        notices.append(f"{path}: {int((~is_there).sum()):,} requests without times left out")
    rows = np.flatnonzero(is_there)
    return _ordered(
        path,
        arrival_us=columns.arrival_us[rows],
        prompt_tokens=columns.prompt_tokens[rows],
        output_tokens=columns.output_tokens[rows],
        ttft_us=columns.measured_ttft_us[rows],
        e2e_us=columns.measured_e2e_us[rows],
        notices=notices,
    )


# -- tables ---------------------------------------------------------------


def _of_table(table: DataTable) -> Served:
    notices: list[str] = []
    if STATUS in table.names:
        keep = [place for place, text in enumerate(table.texts(STATUS)) if text == _DONE]
        if len(keep) < len(table.rows):
            left = len(table.rows) - len(keep)
            notices.append(f"{table.path}: {left:,} requests not {_DONE} left out")
            table = table.take(keep)
    arrival_us = table.require(ARRIVAL)
    ttft_us, e2e_us = (
        _latency(table, arrival_us, *pair) for pair in ((TTFT, FIRST_TOKEN), (E2E, LAST_TOKEN))
    )
    bad = np.flatnonzero(e2e_us < ttft_us)
    if bad.size:
        raise TraceError(
            f"{table.path}:{table.lines[bad[0]]}: the last token must be at or after the first; "
            f"got TTFT {ttft_us[bad[0]] / US_PER_MS:.3f} ms, E2E {e2e_us[bad[0]] / US_PER_MS:.3f}"
        )
    first = float(arrival_us.min(initial=0)) if arrival_us.size == 0 else float(arrival_us.min())
    if arrival_us.size and float(arrival_us.max()) - first > MAX_TIME_US:
        raise TraceError(
            f"{table.path}: arrivals must lie within {MAX_TIME_US // US_PER_S} s of one another"
        )
    return _ordered(
        table.path,
        arrival_us=_whole(arrival_us - first),
        prompt_tokens=_whole(table.require(PROMPT)),
        output_tokens=_whole(table.require(OUTPUT)),
        ttft_us=_whole(ttft_us),
        e2e_us=_whole(e2e_us),
        notices=notices,
    )


def _latency(
    table: DataTable, arrival_us: FloatArray, latency: Quantity, moment: Quantity
) -> FloatArray:
    """Return a latency, as it was written or from the moment of a token."""
    if latency.column_in(table.names) is not None:
        return table.require(latency)
    at_us = table.find(moment)
    if at_us is None:
        raise TraceError(
            f"{table.path}: {latency.what} must be in a column {' or '.join(latency.names)}, or "
            f"as {' or '.join(moment.names)}; got {', '.join(table.names)}"
        )
    bad = np.flatnonzero(at_us < arrival_us)
    if bad.size:
        raise TraceError(
            f"{table.path}:{table.lines[bad[0]]}: {moment.column_in(table.names)} must be at or "
            "after the arrival; got an earlier one: are they on one clock?"
        )
    return at_us - arrival_us


def _whole(values: FloatArray) -> npt.NDArray[np.int64]:
    return np.rint(values).astype(np.int64)


# -- both -----------------------------------------------------------------


def _ordered(
    path: Path,
    *,
    arrival_us: npt.NDArray[np.int64],
    prompt_tokens: npt.NDArray[np.int64],
    output_tokens: npt.NDArray[np.int64],
    ttft_us: npt.NDArray[np.int64],
    e2e_us: npt.NDArray[np.int64],
    notices: list[str],
) -> Served:
    order = np.argsort(arrival_us, kind="stable")
    first = int(arrival_us.min()) if arrival_us.size else 0
    requests = ServedRequests(
        path,
        arrival_us=arrival_us[order] - first,
        prompt_tokens=prompt_tokens[order],
        output_tokens=output_tokens[order],
        ttft_us=ttft_us[order],
        e2e_us=e2e_us[order],
    )
    return _checked(requests, notices)


def _checked(requests: ServedRequests, notices: list[str]) -> Served:
    """Leave out what has no answer or no time; raise where too little is left."""
    assert requests.ttft_us is not None
    assert requests.e2e_us is not None
    keep = (requests.output_tokens >= 1) & (requests.ttft_us > 0)
    if not keep.all():
        left = int((~keep).sum())
        notices.append(f"{requests.path}: {left:,} requests without an answer left out")
    if not keep.any():
        raise TraceError(f"{requests.path}: file must have requests with an answer; got none")
    return Served(
        ServedRequests(
            requests.path,
            arrival_us=requests.arrival_us[keep],
            prompt_tokens=requests.prompt_tokens[keep],
            output_tokens=requests.output_tokens[keep],
            ttft_us=requests.ttft_us[keep],
            e2e_us=requests.e2e_us[keep],
        ),
        tuple(notices),
    )
