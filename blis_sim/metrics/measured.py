"""What the metric formulas read: one run (or one class of its requests), derived on demand."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from blis_sim.errors import ConfigError, unknown_name
from blis_sim.metrics.percentiles import BoolArray, Distribution, Float64Array, Int64Array
from blis_sim.metrics.records import ABSENT, EngineCounters, RunData, Status
from blis_sim.units import US_PER_MS, us_to_seconds

SLO_LIMITS = ("ttft_ms", "tpot_ms", "e2el_ms")
FAILED = (Status.ABORTED, Status.TIMED_OUT, Status.REJECTED, Status.DROPPED)


class Measured:
    """A finished run as the metric formulas see it.

    Parameters
    ----------
    run : RunData
        Columns and counters of the run.
    num_gpus : int
        GPUs of the whole deployment, >= 1.
    slo : mapping of str to float or None
        Limits in milliseconds under ``ttft_ms``, ``tpot_ms``, ``e2el_ms``; None or a missing
        key = no limit.
    chosen : bool array, shape (requests,), or None
        Which requests count; None = all.

    Raises
    ------
    ConfigError
        ``slo`` has an unknown key.
    """

    def __init__(
        self,
        run: RunData,
        *,
        num_gpus: int = 1,
        slo: Mapping[str, float | None] | None = None,
        chosen: BoolArray | None = None,
    ) -> None:
        self.run = run
        self.num_gpus = num_gpus
        self.slo = {name: limit for name, limit in (slo or {}).items() if limit is not None}
        for name in self.slo:
            if name not in SLO_LIMITS:
                raise ConfigError(unknown_name("slo", name, SLO_LIMITS))
        status = run.requests.status
        self.chosen = np.ones(status.shape, dtype=np.bool_) if chosen is None else chosen

    @property
    def duration_us(self) -> int:
        """First arrival to last token (or the horizon)."""
        return self.run.end_us - self.run.start_us

    @property
    def duration_s(self) -> float:
        """``duration_us`` in seconds."""
        return us_to_seconds(self.duration_us)

    @property
    def num_injected(self) -> int:
        """Requests that arrived."""
        return int(np.count_nonzero(self.chosen))

    def num_with(self, *statuses: Status) -> int:
        """Return how many requests ended (or are) in one of ``statuses``."""
        return int(np.count_nonzero(self.chosen & np.isin(self.run.requests.status, statuses)))

    @cached_property
    def completed(self) -> BoolArray:
        """Which requests count and completed."""
        completed: BoolArray = self.chosen & (self.run.requests.status == Status.COMPLETED)
        return completed

    @cached_property
    def ttft_us(self) -> Int64Array:
        """First token - arrival, one per completed request."""
        columns = self.run.requests
        return (columns.first_token_us - columns.arrival_us)[self.completed]

    @cached_property
    def e2e_us(self) -> Int64Array:
        """Last token - arrival, one per completed request."""
        columns = self.run.requests
        return (columns.last_token_us - columns.arrival_us)[self.completed]

    @cached_property
    def output_tokens(self) -> Int64Array:
        """Tokens received, one per completed request."""
        return self.run.requests.output_tokens[self.completed]

    @cached_property
    def tpot_us(self) -> Float64Array:
        """(E2E - TTFT) / (N - 1), one per completed request; NaN where N < 2."""
        num_gaps = self.output_tokens - 1
        tpot = np.full(num_gaps.shape, np.nan)
        np.divide(self.e2e_us - self.ttft_us, num_gaps, out=tpot, where=num_gaps >= 1)
        return tpot

    def since(self, column: Int64Array, origin: Int64Array) -> Int64Array:
        """Return ``column - origin`` of the completed requests that have both."""
        both = self.completed & (column != ABSENT) & (origin != ABSENT)
        elapsed: Int64Array = (column - origin)[both]
        return elapsed

    def gaps(self) -> Distribution | None:
        """Return every gap between consecutive tokens, or None for a part of the requests.

        Gaps are pooled while the simulation runs; they are not kept by class.
        """
        if not self.chosen.all():
            return None
        return Distribution.from_histogram(self.run.itl_us, self.run.itl_count)

    @cached_property
    def num_good(self) -> int | None:
        """Completed requests that meet every limit, None without limits."""
        if not self.slo:
            return None
        good = np.ones(self.ttft_us.shape, dtype=np.bool_)
        for name, limit_ms in self.slo.items():
            times_us = {"ttft_ms": self.ttft_us, "tpot_ms": self.tpot_us, "e2el_ms": self.e2e_us}
            # NaN (no TPOT below two tokens) exceeds nothing.
            good &= ~(times_us[name] > limit_ms * US_PER_MS)
        return int(np.count_nonzero(good))

    def per_second(self, amount: float | None) -> float | None:
        """Return ``amount`` per second of the run, None without an amount or a duration."""
        if amount is None or self.duration_us <= 0:
            return None
        return amount / self.duration_s

    def per_gpu_second(self, amount: float | None) -> float | None:
        """Return ``amount`` per second and GPU."""
        rate = self.per_second(amount)
        return None if rate is None else rate / self.num_gpus

    def input_tokens(self) -> int:
        """Return the prompt tokens of the completed requests."""
        return int(self.run.requests.prompt_tokens[self.completed].sum())

    def peak_concurrent_requests(self) -> int | None:
        """Return the largest number of requests between arrival and end, None without any.

        At one instant departures come before arrivals. A request still in the system counts
        to the end of the run. One that ended without completing counts to its last recorded
        moment: when its client gave up is not recorded, so it is a lower bound then.
        """
        columns = self.run.requests
        arrivals = columns.arrival_us[self.chosen]
        if not arrivals.size:
            return None
        departures = arrivals
        for name in ("enqueued_us", "scheduled_us", "first_token_us", "last_token_us"):
            # ABSENT is the smallest integer and never wins.
            departures = np.maximum(departures, getattr(columns, name)[self.chosen])
        ended = np.isin(columns.status[self.chosen], (Status.COMPLETED, *FAILED))
        departures = np.sort(departures[ended])
        arrivals = np.sort(arrivals)
        present = np.searchsorted(arrivals, arrivals, side="right")
        present -= np.searchsorted(departures, arrivals, side="right")
        return int(present.max())

    def total(self, counter: str) -> int:
        """Return the sum over instances of one of the :class:`EngineCounters`."""
        return sum(int(getattr(each, counter)) for each in self.run.counters)

    @property
    def counters(self) -> list[EngineCounters]:
        """The counters of each instance."""
        return self.run.counters

    def time_mean(self, integral_us: int) -> float | None:
        """Return the mean over the run of what was integrated over time."""
        return integral_us / self.duration_us if self.duration_us > 0 else None


def ratio(part: float, whole: float) -> float | None:
    """Return ``part / whole``, None when there is no whole."""
    return part / whole if whole else None
