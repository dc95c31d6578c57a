"""The figures that are compared, and how each follows from simulated requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blis_sim.metrics.percentiles import Distribution
from blis_sim.metrics.records import RequestColumns, Status
from blis_sim.units import US_PER_MS, US_PER_S

Int64Array = npt.NDArray[np.int64]


BoolArray = npt.NDArray[np.bool_]


def completed(columns: RequestColumns) -> BoolArray:
    """Return which requests were answered, with at least one token."""
    is_done: BoolArray = columns.status == Status.COMPLETED
    return is_done & (columns.output_tokens >= 1)


@dataclass(frozen=True, slots=True)
class Sample:
    """The completed ones of some requests; client times in microseconds, one entry per request.

    Attributes
    ----------
    arrival_us, scheduled_us, first_token_us, last_token_us : int64 array
        When it was sent, first given tokens, and answered.
    output_tokens : int64 array
        Tokens of the answer.
    num_open : int
        Requests that were sent and not completed; they have no entry.
    """

    arrival_us: Int64Array
    scheduled_us: Int64Array
    first_token_us: Int64Array
    last_token_us: Int64Array
    output_tokens: Int64Array
    num_open: int

    @classmethod
    def of(cls, columns: RequestColumns, rows: BoolArray) -> Sample:
        """Return the sample of the marked rows."""
        done = rows & completed(columns)
        return cls(
            arrival_us=columns.arrival_us[done],
            scheduled_us=columns.scheduled_us[done],
            first_token_us=columns.first_token_us[done],
            last_token_us=columns.last_token_us[done],
            output_tokens=columns.output_tokens[done],
            num_open=int(rows.sum() - done.sum()),
        )

    @property
    def ttft_us(self) -> Int64Array:
        """First token - arrival."""
        return self.first_token_us - self.arrival_us

    @property
    def e2e_us(self) -> Int64Array:
        """Last token - arrival."""
        return self.last_token_us - self.arrival_us

    @property
    def tpot_us(self) -> npt.NDArray[np.float64]:
        """(E2E - TTFT) / (N - 1) of each answer of N >= 2 tokens."""
        several = self.output_tokens >= 2
        decoding_us = (self.last_token_us - self.first_token_us)[several]
        return decoding_us / (self.output_tokens[several] - 1)


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a serving run.

    Attributes
    ----------
    name : str
        Column of a table of runs, and key in JSON.
    header, unit : str
        For people.
    formula : str
        What is computed.
    decimals : int
        Digits after the point in tables.
    compute : callable
        From a sample to its value; None = no request of the sample has one.
    """

    name: str
    header: str
    unit: str
    formula: str
    decimals: int
    compute: Callable[[Sample], float | None]


def _mean_ms(values: Int64Array | npt.NDArray[np.float64]) -> float | None:
    found = Distribution.from_values(values)
    return None if found is None else found.mean() / US_PER_MS


def _percentile_ms(values: Int64Array, rank: float) -> float | None:
    found = Distribution.from_values(values)
    return None if found is None else found.percentiles([rank])[0] / US_PER_MS


def _itl_ms(sample: Sample) -> float | None:
    tokens = int(sample.output_tokens.sum())
    serving_us = int((sample.last_token_us - sample.scheduled_us).sum())
    return serving_us / tokens / US_PER_MS if tokens else None


def _throughput_per_s(sample: Sample) -> float | None:
    if not sample.arrival_us.size:
        return None
    makespan_us = int(sample.last_token_us.max() - sample.arrival_us.min())
    return sample.arrival_us.size / makespan_us * US_PER_S if makespan_us else None


FIGURES = (
    Figure(
        "ttft_mean_ms",
        "TTFT mean",
        "ms",
        "mean of first token - arrival",
        1,
        lambda s: _mean_ms(s.ttft_us),
    ),
    Figure(
        "ttft_p90_ms",
        "TTFT p90",
        "ms",
        "90th percentile of first token - arrival",
        1,
        lambda s: _percentile_ms(s.ttft_us, 90),
    ),
    Figure(
        "ttft_p99_ms",
        "TTFT p99",
        "ms",
        "99th percentile of first token - arrival",
        1,
        lambda s: _percentile_ms(s.ttft_us, 99),
    ),
    Figure(
        "tpot_mean_ms",
        "TPOT mean",
        "ms",
        "mean of (E2E - TTFT) / (N - 1) over answers of N >= 2 tokens",
        2,
        lambda s: _mean_ms(s.tpot_us),
    ),
    Figure(
        "itl_mean_ms",
        "ITL mean",
        "ms",
        "sum of last token - first scheduled over the sum of output tokens, as in BLIS's files",
        2,
        _itl_ms,
    ),
    Figure(
        "e2e_mean_ms",
        "E2E mean",
        "ms",
        "mean of last token - arrival",
        0,
        lambda s: _mean_ms(s.e2e_us),
    ),
    Figure(
        "e2e_p90_ms",
        "E2E p90",
        "ms",
        "90th percentile of last token - arrival",
        0,
        lambda s: _percentile_ms(s.e2e_us, 90),
    ),
    Figure(
        "e2e_p99_ms",
        "E2E p99",
        "ms",
        "99th percentile of last token - arrival",
        0,
        lambda s: _percentile_ms(s.e2e_us, 99),
    ),
    Figure(
        "request_throughput",
        "requests",
        "/s",
        "requests over the time from the first arrival to the last token",
        3,
        _throughput_per_s,
    ),
)
"""In the order of reports; completed requests only."""


def figures_of(sample: Sample) -> dict[str, float]:
    """Return the figures of a sample by their names; those without data are absent."""
    computed = {figure.name: figure.compute(sample) for figure in FIGURES}
    return {name: value for name, value in computed.items() if value is not None}
