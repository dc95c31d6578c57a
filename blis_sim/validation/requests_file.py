"""Requests that a real server answered, one per line: their arrivals and what was measured."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blis_sim.errors import TraceError, unknown_name
from blis_sim.units import US_PER_S
from blis_sim.workload.base import MAX_TIME_US
from blis_sim.workload.json_file import BadValueError, shown_json, whole_number
from blis_sim.workload.trace_file import json_objects

Int64Array = npt.NDArray[np.int64]

_LENGTHS = ("input_toks", "output_toks")
_ENTERED = ("queued_ts", "arrival_time")
"""When a request entered, the better one first: the other times are on the clock of the first."""
_ANSWERED = ("first_token_ts", "last_token_ts")
_KEYS = ("request_id", *_LENGTHS, *_ENTERED, "scheduled_ts", *_ANSWERED)


@dataclass(frozen=True, slots=True)
class ServedRequests:
    """Requests in order of arrival; times in microseconds from the first arrival.

    Attributes
    ----------
    path : Path
        Where they are from.
    arrival_us : int64 array
        When each entered the engine.
    prompt_tokens, output_tokens : int64 array
        Lengths.
    ttft_us, e2e_us : int64 array or None
        Measured, from entering the engine to the first and the last token; None = the file has
        arrivals alone.
    """

    path: Path
    arrival_us: Int64Array
    prompt_tokens: Int64Array
    output_tokens: Int64Array
    ttft_us: Int64Array | None = None
    e2e_us: Int64Array | None = None

    @property
    def num_requests(self) -> int:
        """How many there are."""
        return int(self.arrival_us.size)

    def write_trace(self, path: Path) -> None:
        """Write the arrivals and lengths as a trace in the package's own CSV format."""
        columns = (self.arrival_us, self.prompt_tokens, self.output_tokens)
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["arrival_us", "prompt_tokens", "output_tokens"])
            writer.writerows(zip(*(column.tolist() for column in columns), strict=True))


def read_requests(path: Path) -> ServedRequests:
    """Return the requests of a JSONL file.

    Parameters
    ----------
    path : Path
        One object per line with ``input_toks``, ``output_toks`` and ``arrival_time`` or
        ``queued_ts`` (seconds, each on any clock); with ``first_token_ts`` and
        ``last_token_ts`` on the clock of ``queued_ts`` it has measured times, too.

    Raises
    ------
    TraceError
        The file cannot be read, or a line is not what it must be; names line and key.
    """
    rows: list[Mapping[str, Any]] = []
    for line, item in json_objects(path):
        try:
            _check_keys(item, rows[0] if rows else item)
            lengths = {
                key: whole_number(item[key], key, least)
                for key, least in zip(_LENGTHS, (1, 0), strict=True)
            }
            times = {key: _seconds(item, key) for key in item if key not in (*lengths, _KEYS[0])}
            _check_order(times)
        except BadValueError as error:
            raise TraceError(f"{path}:{line}: {error}") from None
        rows.append(lengths | times)
    if not rows:
        raise TraceError(f"{path}: file must have at least one request; got none")
    return _requests(path, rows)


def _check_keys(item: Mapping[str, Any], first: Mapping[str, Any]) -> None:
    for key in item:
        if key not in _KEYS:
            raise BadValueError(unknown_name("key", key, _KEYS))
    needed = [*_LENGTHS, *first]
    if not any(key in item for key in _ENTERED):
        needed.insert(0, _ENTERED[1])
    if any(key in item for key in _ANSWERED):
        needed += [_ENTERED[0], *_ANSWERED]
    missing = next((key for key in needed if key not in item), None)
    if missing is not None:
        raise BadValueError(f"row must have {missing}; got {', '.join(item) or 'nothing'}")
    added = next((key for key in item if key not in first and key != _KEYS[0]), None)
    if added is not None:
        raise BadValueError(f"{added} must be in every row or in none; the first has none")


def _seconds(item: Mapping[str, Any], key: str) -> float:
    value = item[key]
    if type(value) not in {int, float} or not abs(value) < 1e12:
        raise BadValueError(f"{key} must be a number of seconds; got {shown_json(value)}")
    return float(value)


def _check_order(times: Mapping[str, float]) -> None:
    order = [key for key in ("queued_ts", "scheduled_ts", *_ANSWERED) if key in times]
    for before, after in itertools.pairwise(order):
        if times[after] < times[before]:
            raise BadValueError(
                f"{after} must be at or after {before} ({times[before]:.6f} s); got "
                f"{times[after]:.6f} s"
            )


def _requests(path: Path, rows: Sequence[Mapping[str, Any]]) -> ServedRequests:
    entered = next(key for key in _ENTERED if key in rows[0])
    order = sorted(range(len(rows)), key=lambda number: rows[number][entered])
    first_s = rows[order[0]][entered]
    span_s = rows[order[-1]][entered] - first_s
    if span_s > MAX_TIME_US / US_PER_S:
        raise TraceError(
            f"{path}: {entered} must lie within {MAX_TIME_US // US_PER_S} s; got {span_s:.0f} s "
            "from the first to the last"
        )

    def column(key: str, since: str = "") -> Int64Array:
        values = [rows[number][key] - (rows[number][since] if since else 0) for number in order]
        return np.array(values, dtype=np.int64)

    def times_us(key: str, since_s: Sequence[float]) -> Int64Array:
        pairs = zip(order, since_s, strict=True)
        return np.array([round((rows[n][key] - s) * US_PER_S) for n, s in pairs], dtype=np.int64)

    entered_s = [rows[number][entered] for number in order]
    has_times = _ANSWERED[0] in rows[0]
    return ServedRequests(
        path,
        arrival_us=times_us(entered, [first_s] * len(order)),
        prompt_tokens=column(_LENGTHS[0]),
        output_tokens=column(_LENGTHS[1]),
        ttft_us=times_us(_ANSWERED[0], entered_s) if has_times else None,
        e2e_us=times_us(_ANSWERED[1], entered_s) if has_times else None,
    )
