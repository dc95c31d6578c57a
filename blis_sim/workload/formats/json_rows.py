"""Collecting the rows of a JSON trace, object by object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from blis_sim.errors import TraceError
from blis_sim.units import US_PER_S
from blis_sim.workload.base import MAX_TIME_US, Int64Array
from blis_sim.workload.cells import ABSENT
from blis_sim.workload.columns import TraceColumns
from blis_sim.workload.json_file import BadValueError, duration_us, shown_json


@dataclass(slots=True)
class MeasuredRows:
    """Requests of a benchmark result, with the latencies it measured.

    Attributes
    ----------
    start_us : list of int
        When each was sent, microseconds on any clock; empty where the file does not say.
    prompt_tokens, output_tokens : list of int
        Their lengths.
    ttft_us, e2e_us : list of int
        Measured latencies, or ``ABSENT``.
    num_failed : int
        Requests left out because they failed or were not finished.
    """

    start_us: list[int] = field(default_factory=list)
    prompt_tokens: list[int] = field(default_factory=list)
    output_tokens: list[int] = field(default_factory=list)
    ttft_us: list[int] = field(default_factory=list)
    e2e_us: list[int] = field(default_factory=list)
    num_failed: int = 0

    def columns(self, path: Path) -> TraceColumns:
        """Return the rows, the first send at time 0, and the notices about them."""
        notices = []
        if self.num_failed:
            notices.append(
                f"{path}: {self.num_failed:,} requests that failed or were not finished left out"
            )
        return TraceColumns(
            arrival_us=since_first(path, self.start_us) if self.start_us else None,
            prompt_tokens=np.array(self.prompt_tokens, dtype=np.int64),
            output_tokens=np.array(self.output_tokens, dtype=np.int64),
            measured_ttft_us=measured(self.ttft_us),
            measured_e2e_us=measured(self.e2e_us),
            notices=notices,
        )


def since_first(path: Path, stamps_us: list[int]) -> Int64Array:
    """Return times counted from the earliest, microseconds.

    Raises
    ------
    TraceError
        If they are too far apart.
    """
    first = min(stamps_us)
    span_us = max(stamps_us) - first
    if span_us > MAX_TIME_US:
        raise TraceError(
            f"{path}: the requests must start within {MAX_TIME_US // US_PER_S} s; got "
            f"{span_us // US_PER_S} s from the first to the last"
        )
    return np.array([stamp - first for stamp in stamps_us], dtype=np.int64)


def measured(latencies_us: list[int]) -> Int64Array | None:
    """Return measured latencies as a column; None where no request has one."""
    if all(latency == ABSENT for latency in latencies_us):
        return None
    return np.array(latencies_us, dtype=np.int64)


def object_of(value: object, place: str) -> Mapping[str, Any]:
    """Return a JSON object.

    Raises
    ------
    BadValueError
        If it is something else.
    """
    if isinstance(value, dict):
        return value
    raise BadValueError(f"{place} must be an object; got {shown_json(value)}")


def list_of(value: object, place: str) -> list[Any]:
    """Return a JSON array.

    Raises
    ------
    BadValueError
        If it is something else.
    """
    if isinstance(value, list):
        return value
    raise BadValueError(f"{place} must be an array; got {shown_json(value)}")


def latency_us(value: object, place: str, unit: str, unit_us: float) -> int:
    """Return a measured latency in microseconds, ``ABSENT`` where it is null.

    Raises
    ------
    BadValueError
        If it is no number >= 0.
    """
    return ABSENT if value is None else duration_us(value, place, unit, unit_us)
