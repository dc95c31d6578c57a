"""What the metric formulas read: one run, or a part of it, derived on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property

import numpy as np

from blis_sim.errors import ConfigError, unknown_name
from blis_sim.metrics.lifetimes import paid_us, serving_us
from blis_sim.metrics.percentiles import BoolArray, Distribution, Float64Array, Int64Array
from blis_sim.metrics.records import ABSENT, EngineCounters, RequestColumns, RunData, Status
from blis_sim.units import US_PER_HOUR, US_PER_MS, us_to_seconds

SLO_LIMITS = ("ttft_ms", "tpot_ms", "e2el_ms")
FAILED = (Status.ABORTED, Status.TIMED_OUT, Status.REJECTED, Status.DROPPED)


class Measured:
    """A finished run as the metric formulas see it.

    Parameters
    ----------
    run : RunData
        Columns and counters of the run.
    num_gpus : int
        GPUs of the deployment, >= 1; a cluster's are those of its instances instead.
    slo : mapping of str to float or None
        Limits in milliseconds under ``ttft_ms``, ``tpot_ms``, ``e2el_ms``; None or a missing
        key = no limit.
    chosen : bool array, shape (requests,), or int64 array of rows, or None
        Which requests count; None = all.
    instances : sequence of int or None
        Which instances count; None = all.
    usd_per_gpu_hour : mapping of str to float
        Prices by the names of GPUs.
    gpu : str
        Name of the GPU of a run without a cluster.

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
        chosen: BoolArray | Int64Array | None = None,
        instances: Sequence[int] | None = None,
        usd_per_gpu_hour: Mapping[str, float] | None = None,
        gpu: str = "",
    ) -> None:
        self.run = run
        self._usd_per_gpu_hour = usd_per_gpu_hour or {}
        self._gpu = gpu
        self.columns = run.requests if chosen is None else _rows(run.requests, chosen)
        self.instances = range(len(run.counters)) if instances is None else instances
        self._num_gpus = num_gpus
        self.slo = {name: limit for name, limit in (slo or {}).items() if limit is not None}
        for name in self.slo:
            if name not in SLO_LIMITS:
                raise ConfigError(unknown_name("slo", name, SLO_LIMITS))

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
        return int(self.columns.request_id.size)

    def num_with(self, *statuses: Status) -> int:
        """Return how many requests ended (or are) in one of ``statuses``."""
        return int(np.count_nonzero(np.isin(self.columns.status, statuses)))

    @cached_property
    def completed(self) -> BoolArray:
        """Which requests count and completed."""
        completed: BoolArray = self.columns.status == Status.COMPLETED
        return completed

    @cached_property
    def ttft_us(self) -> Int64Array:
        """First token - arrival, one per completed request."""
        columns = self.columns
        return (columns.first_token_us - columns.arrival_us)[self.completed]

    @cached_property
    def e2e_us(self) -> Int64Array:
        """Last token - arrival, one per completed request."""
        columns = self.columns
        return (columns.last_token_us - columns.arrival_us)[self.completed]

    @cached_property
    def output_tokens(self) -> Int64Array:
        """Tokens received, one per completed request."""
        return self.columns.output_tokens[self.completed]

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
        if self.columns is not self.run.requests:
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
        rate, gpus = self.per_second(amount), self.time_mean(self.gpu_us)
        return None if rate is None or gpus is None else ratio(rate, gpus)

    def input_tokens(self) -> int:
        """Return the prompt tokens of the completed requests."""
        return int(self.columns.prompt_tokens[self.completed].sum())

    def peak_concurrent_requests(self) -> int | None:
        """Return the largest number of requests between arrival and end, None without any.

        At one instant departures come before arrivals. A request still in the system counts
        to the end of the run. One that ended without completing counts to its last recorded
        moment: when its client gave up is not recorded, so it is a lower bound then.
        """
        columns = self.columns
        arrivals = columns.arrival_us
        if not arrivals.size:
            return None
        departures = arrivals
        for name in ("enqueued_us", "scheduled_us", "first_token_us", "last_token_us"):
            # ABSENT is the smallest integer and never wins.
            departures = np.maximum(departures, getattr(columns, name))
        ended = np.isin(columns.status, (Status.COMPLETED, *FAILED))
        departures = np.sort(departures[ended])
        arrivals = np.sort(arrivals)
        present = np.searchsorted(arrivals, arrivals, side="right")
        present -= np.searchsorted(departures, arrivals, side="right")
        return int(present.max())

    def total(self, counter: str) -> int:
        """Return the sum over instances of one of the :class:`EngineCounters`."""
        return sum(int(getattr(each, counter)) for each in self.counters)

    @cached_property
    def counters(self) -> list[EngineCounters]:
        """The counters of each instance that counts."""
        return [self.run.counters[instance] for instance in self.instances]

    @cached_property
    def serving_us(self) -> list[int]:
        """Time from ready to stopped of each instance that counts, within the run."""
        return [serving_us(self.run, instance) for instance in self.instances]

    @cached_property
    def gpu_us(self) -> int:
        """GPUs x time that was paid for, within the run."""
        if not self.run.instances:
            return self._num_gpus * self.duration_us
        return self.gpu_weighted([paid_us(self.run, instance) for instance in self.instances])

    @cached_property
    def cost_usd(self) -> float | None:
        """Price of the GPUs for the time they were paid for, None when one is not known."""
        run, prices = self.run, self._usd_per_gpu_hour
        if not run.instances:
            price = prices.get(self._gpu)
            return None if price is None else self.gpu_us / US_PER_HOUR * price
        total = 0.0
        for instance in self.instances:
            pool = run.pools[run.instances[instance].pool]
            if pool.gpu not in prices:
                return None
            gpu_us = pool.gpus_per_instance * paid_us(run, instance)
            total += gpu_us / US_PER_HOUR * prices[pool.gpu]
        return total

    def gpu_weighted(self, amounts: Sequence[int]) -> int:
        """Return the sum over instances of ``amounts``, each times the instance's GPUs.

        Without a cluster all instances are alike and the weights 1.
        """
        run = self.run
        if not run.instances:
            return sum(amounts)
        pools = (run.pools[run.instances[instance].pool] for instance in self.instances)
        return sum(p.gpus_per_instance * n for p, n in zip(pools, amounts, strict=True))

    def time_mean(self, integral_us: int) -> float | None:
        """Return the mean over the run of what was integrated over time."""
        return integral_us / self.duration_us if self.duration_us > 0 else None


def ratio(part: float, whole: float) -> float | None:
    """Return ``part / whole``, None when there is no whole."""
    return part / whole if whole else None


def _rows(columns: RequestColumns, chosen: BoolArray | Int64Array) -> RequestColumns:
    return RequestColumns(**{f.name: getattr(columns, f.name)[chosen] for f in fields(columns)})
