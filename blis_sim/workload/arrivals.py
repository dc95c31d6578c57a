"""When requests arrive, whatever becomes of the others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from blis_sim.config.workload import ArrivalProcess
from blis_sim.units import US_PER_S, seconds_to_us
from blis_sim.workload.base import CHUNK_REQUESTS, Int64Array
from blis_sim.workload.gaps import FloatArray, GapProcess
from blis_sim.workload.rate import FAR_S, SNAP, Clock, Rate

_LAST_US = float(2**62)
_BLOCK = 4096


def chunk_sizes(total: int | None, chunk: int) -> Iterator[int]:
    """Yield sizes of at most ``chunk`` that add up to ``total``; without end when it is None."""
    while total is None:
        yield chunk
    for start in range(0, total, chunk):
        yield min(chunk, total - start)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivalPlan:
    """Arrivals of a process at a rate over time, the first one a gap after the begin.

    The gaps are drawn with mean 1 and added up, and the sums are mapped to the times at which
    the rate makes so many arrivals due: times never decrease, do not depend on how many are
    drawn at once, and another rate stretches the very same arrivals.

    With ``normalize_span`` each stage has exactly as many arrivals as its rate makes due
    (rounded, a half up), from a random stream of its own, and their gaps are rescaled so that
    the last one is at exactly the end of the stage; where the rate is 0 at the end of the
    stage, at the last moment when it is not.

    Attributes
    ----------
    gaps : GapProcess
        How the gaps are drawn.
    rate : Rate
        Arrivals per second over time, from the begin on; ``inf`` = all at the begin.
    limit : int or None
        Most arrivals. With ``normalize_span`` it also sets the span where neither stages nor
        ``duration_s`` do: until the rate makes ``limit`` arrivals due.
    start_s : float
        Begin, seconds >= 0; stages, curves and ``duration_s`` count from here.
    duration_s : float or None
        No arrival is later than this after the begin, seconds > 0; stages are cut there.
    normalize_span : bool
        Whether the numbers and spans of arrivals are exact.
    stage : int or None
        If given, only the arrivals in the stage with this number, from 0, and with times from
        the begin of the stage.
    """

    gaps: GapProcess
    rate: Rate
    limit: int | None = None
    start_s: float = 0.0
    duration_s: float | None = None
    normalize_span: bool = False
    stage: int | None = None

    @property
    def is_at_once(self) -> bool:
        """Whether all arrive at the begin."""
        return self.gaps.process == ArrivalProcess.ALL_AT_ONCE or (
            self.rate.constant_per_s == math.inf
        )

    @property
    def window(self) -> Rate:
        """The rate, up to the end of ``duration_s``."""
        return self.rate if self.duration_s is None else self.rate.until(self.duration_s)

    @property
    def num_requests(self) -> int | None:
        """Number of arrivals; None where it is random or without end."""
        window = self.window
        if self.is_at_once or math.isinf(window.end_s):
            return self.limit
        if self.normalize_span:
            counts = self._counts()
        elif self.gaps.process == ArrivalProcess.CONSTANT:
            ends = [window.due(window.stages[:number]) for number in range(len(window.stages) + 1)]
            arrived = [self._limited(math.floor(end * (1 + SNAP))) for end in ends]
            counts = np.diff(arrived).tolist()
        else:
            return None
        return sum(counts) if self.stage is None else counts[self.stage]

    @property
    def end_us(self) -> int | None:
        """No arrival is later, microseconds; None where that is random or without end."""
        start_us, window = seconds_to_us(self.start_s), self.window
        if self.is_at_once:
            return start_us
        if self.stage is not None and math.isfinite(window.end_s):
            stage = window.stages[self.stage]
            return seconds_to_us(stage.end_s) - seconds_to_us(stage.begin_s)
        if math.isfinite(window.end_s):
            return start_us + seconds_to_us(window.end_s)
        is_exact = self.normalize_span or self.gaps.process == ArrivalProcess.CONSTANT
        if self.limit is None or not is_exact:
            return None
        return start_us + round(self._due_us(self.limit))

    @property
    def mean_rate(self) -> float | None:
        """Arrivals per second, on average from the begin to the end of the plan.

        The end is that of the stages or of ``duration_s``, else the time by which ``limit``
        arrivals are due; None for a rate that changes without end.
        """
        window = self.window
        if self.is_at_once:
            return math.inf
        if math.isfinite(window.end_s):
            stages = window.stages if self.stage is None else (window.stages[self.stage],)
            return window.due(stages) / (stages[-1].end_s - stages[0].begin_s)
        if self.rate.constant_per_s is not None:
            return self.rate.constant_per_s
        return None if self.limit is None else self.limit / self._due_us(self.limit) * US_PER_S

    def scaled(self, factor: float) -> ArrivalPlan:
        """Return the plan at a share of the rate, > 0; the limit stays."""
        return replace(self, rate=self.rate.scaled(factor))

    def stage_plans(self) -> tuple[ArrivalPlan, ...]:
        """Return a plan for each stage, with times from the begin of the stage.

        One after another they give the arrivals of this plan: a pause between two stages
        moves arrivals, and changes nothing else.
        """
        stages = range(len(self.window.stages))
        return tuple(replace(self, start_s=0.0, stage=number) for number in stages)

    def times_us(
        self, seed: int, names: tuple[str, ...] = ("workload",), chunk: int = CHUNK_REQUESTS
    ) -> Iterator[Int64Array]:
        """Yield the arrival times, in order, in microseconds.

        Parameters
        ----------
        seed : int
            Seed of the run, >= 0.
        names : tuple of str
            Whose arrivals they are; the random streams are ``(*names, "arrivals")`` and, with
            ``normalize_span``, ``(*names, "arrivals", "stage-1")`` for the second stage, etc.
        chunk : int
            Length of the arrays, but for the last; changes nothing else.

        Raises
        ------
        ConfigError
            If a curve changes so often, for the few arrivals, that the next is out of reach.
        """
        names = (*names, "arrivals")
        blocks: Iterator[FloatArray]
        if self.is_at_once:
            blocks = (np.zeros(count) for count in chunk_sizes(self.limit, _BLOCK))
        elif self.normalize_span:
            blocks = self._normalized_us(seed, names)
        else:
            blocks = self._drawn_us(seed, names)
        return _in_chunks(self._rounded(blocks), chunk)

    def _rounded(self, blocks: Iterable[FloatArray]) -> Iterator[Int64Array]:
        offset_us = seconds_to_us(self.start_s)
        if self.stage is not None:
            offset_us -= seconds_to_us(self.window.stages[self.stage].begin_s)
        last_us = 0.0
        for times_us in blocks:
            times = np.minimum(np.rint(times_us), _LAST_US)
            if len(times):
                # The square roots of a ramp may be in the wrong order by their last bit.
                times[0] = max(times[0], last_us)
                np.maximum.accumulate(times, out=times)
                last_us = times[-1]
            yield times.astype(np.int64) + offset_us

    def _drawn_us(self, seed: int, names: tuple[str, ...]) -> Iterator[FloatArray]:
        window = self.window
        stages, before = window.stages, 0.0
        if self.stage is not None:
            before = window.due(stages[: self.stage])
            stages = stages[self.stage : self.stage + 1]
        clock = Clock(window.walk(stages, before))
        for block in _first(self.limit, self.gaps.sums(seed, *names)):
            sums = block
            if self.stage:
                sums = sums[np.searchsorted(sums, before * (1 + SNAP), side="right") :]
            times_s = clock.times_s(sums)
            if len(times_s) < len(sums) and math.isinf(stages[-1].end_s):
                times_s = np.append(times_s, np.full(len(sums) - len(times_s), FAR_S))
            yield times_s * US_PER_S
            if len(times_s) < len(sums):
                return

    def _normalized_us(self, seed: int, names: tuple[str, ...]) -> Iterator[FloatArray]:
        window = self.window
        if math.isinf(window.end_s):
            yield from self._span_us(seed, names)
            return
        for number, (stage, taken) in enumerate(zip(window.stages, self._counts(), strict=True)):
            if not taken or self.stage not in (None, number):
                continue
            stream = (*names, f"stage-{number}") if number else names
            due = window.due((stage,))
            total = self.gaps.total(_rounded_count(due), seed, *stream)
            clock = Clock(window.cells(stage))
            for sums in _first(taken, self.gaps.sums(seed, *stream)):
                # The last sum is the total: its quotient is exactly 1.
                yield clock.times_s(sums / total * due) * US_PER_S

    def _span_us(self, seed: int, names: tuple[str, ...]) -> Iterator[FloatArray]:
        """Yield times of a rate without end, the last when ``limit`` arrivals are due."""
        assert self.limit is not None
        total = self.gaps.total(self.limit, seed, *names)
        clock = Clock(self.rate.walk(self.rate.stages))
        per_s = self.rate.constant_per_s
        for sums in _first(self.limit, self.gaps.sums(seed, *names)):
            if per_s is not None:
                yield sums / total * (self.limit * US_PER_S / per_s)
            else:
                yield clock.times_s(sums / total * self.limit) * US_PER_S

    def _counts(self) -> list[int]:
        """Return the arrivals in each stage when their number is exact."""
        window = self.window
        counts: list[int] = []
        for stage in window.stages:
            count = _rounded_count(window.due((stage,)))
            counts.append(self._limited(count + sum(counts)) - sum(counts))
        return counts

    def _limited(self, count: int) -> int:
        return count if self.limit is None else min(count, self.limit)

    def _due_us(self, count: int) -> float:
        """Return when so many arrivals are due at a rate without end, microseconds."""
        times_s = Clock(self.rate.walk(self.rate.stages)).times_s(np.array([float(count)]))
        return times_s.item() * US_PER_S if len(times_s) else _LAST_US

    def __str__(self) -> str:
        if self.is_at_once:
            text = "all at once"
        else:
            text = f"{self.gaps} arrivals at {self.rate}"
            if math.isfinite(self.rate.end_s):
                count = len(self.rate.stages)
                word = "stage" if count == 1 else "stages"
                text = f"{self.gaps} arrivals in {count} {word} ({self.rate})"
            parts = [text, *map(str, self.rate.curves)]
            end_s = self.window.end_s
            if math.isfinite(end_s):
                parts.append(f"{end_s:,g} s")
            text = ", ".join(parts)
        if self.stage is not None:
            text += f", stage {self.stage + 1}"
        return text + f", from {self.start_s:,g} s" * (self.start_s > 0)


def _rounded_count(due: float) -> int:
    """Return ``due`` rounded, a half up, and what is a half but for its last bits too."""
    return math.floor(due * (1 + SNAP) + 0.5)


def _first(limit: int | None, blocks: Iterable[FloatArray]) -> Iterator[FloatArray]:
    """Yield the first ``limit`` numbers of the blocks."""
    if limit is None:
        yield from blocks
        return
    for block in blocks:
        yield block[:limit]
        limit -= len(block)
        if limit <= 0:
            return


def _in_chunks(blocks: Iterable[Int64Array], chunk: int) -> Iterator[Int64Array]:
    """Yield the same numbers in arrays of ``chunk``, the last one shorter but not empty."""
    kept: list[Int64Array] = []
    count = 0
    for block in blocks:
        kept.append(block)
        count += len(block)
        if count < chunk:
            continue
        joined = np.concatenate(kept)
        whole = count - count % chunk
        for begin in range(0, whole, chunk):
            yield joined[begin : begin + chunk]
        kept, count = [joined[whole:]], count - whole
    if count:
        yield np.concatenate(kept)
