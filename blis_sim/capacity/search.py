"""The highest rate that keeps some limits, found with few simulations.

The search asks for probes and is told what they showed; it knows nothing of simulations. Rates
share their random numbers, so that what is measured is nearly monotone in the rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from blis_sim.capacity.probe import MOST_MARGIN, SURE, Measurement, Probe, Verdict

__all__ = ["SURE", "FoundRate", "Measurement", "Probe", "RateSearch", "Verdict"]

_VERY_SURE = 2.0
"""How many times as sure a short probe must be to count."""
_STEP = 1.3
_FIRST = 20.0
"""First guess over the lowest rate where nothing is known."""
_RESERVED = 4
"""Probes left for full ones at least."""
_ENOUGH = 0.9
"""Part of the requests that a full probe should have which it must have."""
_EDGE = 0.12
"""Part of a bracket next to its ends in which no probe is made."""
_MOST_STEP, _LAST_STEP = 3.0, 1.5
_COARSE = 1.2
"""Ratio of the ends of a bracket at which full probes begin."""
_USUAL_SLOPE, _LEAST_SLOPE = 60.0, 6.0
"""Standard errors that a margin falls by where the rate grows e-fold, until two probes tell."""
_SAFE = 0.4
_NEAR = 3.0
"""Ratio of the upper end to the idle probe below which that probe is the lower end."""
_LOWER_COUNTS = 2.0
"""How many times as much the lower end of the bracket counts: the plan is made with it."""
_SAME = 2e-4
"""Rates that differ by less, relatively, are one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRate:
    """The end of a search.

    Attributes
    ----------
    rate : float
        Highest rate at which the limits are surely kept, requests/s; 0 = none was found.
    upper : float
        Lowest rate at which they are surely missed; ``inf`` = none was found. The true rate
        lies in between.
    at_rate, at_upper : Measurement or None
        What these probes showed.
    measurements : sequence of Measurement
        All probes in their order.
    """

    rate: float
    upper: float
    at_rate: Measurement | None
    at_upper: Measurement | None
    measurements: Sequence[Measurement]

    @property
    def tolerance(self) -> float:
        """How much higher the true rate may be, as a fraction; ``inf`` without an upper end."""
        return self.upper / self.rate - 1 if self.rate > 0 else math.inf


class RateSearch:
    """Asks for probes until the bracket is narrow enough.

    An idle probe comes first: what misses a limit there misses it at every rate. Short probes,
    taken at face value, bracket the answer. Full ones look for the highest rate that is surely
    kept and the lowest that is surely missed; between the two lies what so many requests cannot
    tell. They alone count in the answer, but for an upper end that none of them came to.

    Parameters
    ----------
    lowest : float
        Rate of the first probe, at which the engine is nearly idle.
    guess : float or None
        Where the answer may be, above the lowest; it may be set after the first probe.
    tolerance : float
        Relative width of the bracket at which the search ends, > 0.
    max_simulations : int
        Probes at most, >= 4.
    least_requests, most_requests : int
        Requests of a short probe and of a full one.
    available : int
        Requests that the load has.

    Attributes
    ----------
    least_duration_s : float
        A probe simulates at least so long, as far as there are requests; it may be set after the
        first probe.
    measurements : list of Measurement
        What was told.
    """

    def __init__(
        self,
        *,
        lowest: float,
        guess: float | None = None,
        tolerance: float = 0.03,
        max_simulations: int = 12,
        least_requests: int = 1000,
        most_requests: int = 16_000,
        available: int = 10**9,
    ) -> None:
        self.lowest = lowest
        self.guess = guess
        self.tolerance = tolerance
        self.max_simulations = max_simulations
        self.most_requests = min(most_requests, available)
        self.least_requests = min(least_requests, self.most_requests)
        self.available = available
        self.least_duration_s = 0.0
        self.measurements: list[Measurement] = []
        self._idle: list[Measurement] = []
        self._probes: list[Measurement] = []
        """All but the idle ones."""

    # -- what is asked --------------------------------------------------------

    def ask(self) -> Probe | None:
        """Return the next probe, None when the search is over."""
        left = self.max_simulations - len(self.measurements)
        if left <= 0:
            return None
        if not self._idle or not self._idle[-1].seems_kept:
            return self._next_idle()
        rate = self._next_coarse(left)
        if rate is not None:
            return Probe(rate, self._num_requests(rate, self.least_requests))
        rate = self._next_full(left)
        if rate is None or any(abs(rate / m.probe.rate - 1) < _SAME for m in self._full):
            return None
        return Probe(rate, self._num_requests(rate, self.most_requests))

    def tell(self, measurement: Measurement) -> None:
        """Take note of what the probe asked for last showed."""
        is_idle = measurement.probe.rate == self.lowest and not self._probes
        (self._idle if is_idle else self._probes).append(measurement)
        self.measurements.append(measurement)

    def _num_requests(self, rate: float, least: int) -> int:
        return min(max(least, math.ceil(rate * self.least_duration_s)), self.available)

    @property
    def _full(self) -> list[Measurement]:
        """Probes that are as long as is known by now that they must be."""
        return [m for m in self._probes if self._is_full(m.probe)]

    def _is_full(self, probe: Probe) -> bool:
        return probe.num_requests >= _ENOUGH * self._num_requests(probe.rate, self.most_requests)

    def _next_idle(self) -> Probe | None:
        """Return a probe at the lowest rate, None when it is sure that nothing keeps the limits.

        A few requests may look worse than they are: once more, with more of them.
        """
        if not self._idle:
            return Probe(self.lowest, min(max(self.least_requests // 3, 100), self.available))
        is_sure = len(self._idle) > 1 or self._idle[-1].verdict is Verdict.MISSED
        return None if is_sure else Probe(self.lowest, self.least_requests)

    def _next_coarse(self, left: int) -> float | None:
        """Return the next rate of the coarse search, None when the bracket is narrow enough.

        Steps grow as long as all is kept, or missed.
        """
        if left <= min(_RESERVED, self.max_simulations // 2):
            return None
        kept, missed = self._seeming()
        growing = math.pow(_STEP, 2.0 ** (len(self._probes) - 1))
        if kept is not None and missed is not None:
            is_narrow = missed.probe.rate / kept.probe.rate <= _COARSE
            return None if is_narrow else _between(kept, missed)
        if kept is not None:
            return kept.probe.rate * growing
        if missed is not None:
            high = missed.probe.rate
            return max(high / growing**2, math.sqrt(high * self.lowest))
        return self.lowest * _FIRST if self.guess is None else max(self.guess, 2 * self.lowest)

    def _seeming(self) -> tuple[Measurement | None, Measurement | None]:
        """Return the highest rate that seems kept and the lowest that does not."""
        kept = max((m for m in self._probes if m.seems_kept), key=_at, default=None)
        missed = min((m for m in self._probes if not m.seems_kept), key=_at, default=None)
        return kept, missed

    def _next_full(self, left: int) -> float | None:
        """Return the next rate for a full probe, None when more of them tell nothing new."""
        if not self._full:
            return self._first_full()
        kept, missed = self._ends()
        if kept is None:
            return self._below(is_last=left == 1)
        if missed is None:
            return self._above()
        low, high = kept.probe.rate, missed.probe.rate
        if high / low <= 1 + self.tolerance:
            return None
        unclear = sorted((m for m in self._full if low < m.probe.rate < high), key=_at)
        if not unclear:
            return _between(kept, missed)
        # Where a line through the margins is a little more than sure; how far that moves an end.
        lower = _crossing(kept, unclear[0], SURE + _SAFE)
        upper = _crossing(unclear[-1], missed, -SURE - _SAFE)
        up, down = math.log(lower / low), math.log(high / upper)
        if max(up, down) < self.tolerance / 3:
            return None
        return lower if _LOWER_COUNTS * up >= down else upper

    def _first_full(self) -> float:
        """Return where the short probes see the limit."""
        kept, missed = self._seeming()
        if kept is not None and missed is not None:
            return _between(kept, missed)
        if missed is not None:
            return math.sqrt(self.lowest * missed.probe.rate)
        return self.lowest if kept is None else kept.probe.rate

    def _below(self, *, is_last: bool) -> float | None:
        """Return a rate below all full probes that may be surely kept.

        Steps grow from one to the next: margins may change very little where few requests come
        near a limit. The first is no longer than half way to what a short probe was sure of.
        """
        full = sorted(self._full, key=_at)
        step = self._step(full, SURE + _SAFE) * 2 ** max(0, len(full) - 2)
        step = min(max(step, math.log(_LAST_STEP if is_last else 1)), math.log(_MOST_STEP))
        edge = full[0]
        rate = edge.probe.rate * math.exp(-step)
        hint = max((m for m in self._probes if _is_hint(m, edge)), key=_at, default=None)
        if len(full) == 1 and hint is not None:
            rate = max(rate, _between(hint, edge))
        return rate if rate > self.lowest else None

    def _above(self) -> float:
        """Return a rate above all full probes that may be surely missed."""
        full = sorted(self._full, key=_at, reverse=True)
        step = self._step(full, -SURE - _SAFE)
        return full[0].probe.rate * math.exp(min(step, math.log(_MOST_STEP)))

    def _step(self, full: Sequence[Measurement], margin: float) -> float:
        """Return how far in logarithms a margin lies beyond the first of some probes."""
        slope = _USUAL_SLOPE
        if len(full) > 1 and abs(full[0].margin) < MOST_MARGIN:
            run = abs(math.log(full[1].probe.rate / full[0].probe.rate))
            rise = abs(full[1].margin - full[0].margin)
            slope = max(rise / run, _LEAST_SLOPE) if run > 0 and rise < MOST_MARGIN else slope
        return max(abs(full[0].margin - margin) / slope, self.tolerance)

    # -- what was found -------------------------------------------------------

    def _ends(self) -> tuple[Measurement | None, Measurement | None]:
        """Return the highest rate surely kept and the lowest surely missed, by full probes.

        Where they contradict each other the lower rate counts. A short probe that is very sure
        is an upper end as long as there is no other.
        """
        sure = [m for m in self._full if m.verdict is Verdict.MISSED]
        missed = min(sure, key=_at, default=None)
        below = math.inf if missed is None else missed.probe.rate
        sure = [m for m in self._full if m.verdict is Verdict.KEPT and m.probe.rate < below]
        kept = max(sure, key=_at, default=None)
        if missed is None:
            low = 0.0 if kept is None else kept.probe.rate
            short = [m for m in self._probes if _is_surely_missed(m)]
            missed = min((m for m in short if m.probe.rate > low), key=_at, default=None)
        return kept, missed

    def result(self) -> FoundRate:
        """Return what was found so far.

        The idle probe counts as kept where it seems so and the upper end is not far: its few
        requests can tell no more.
        """
        kept, missed = self._ends()
        idle = self._idle[-1] if self._idle else None
        if idle is not None and not idle.seems_kept:
            missed = idle
        elif kept is None and missed is not None and missed.probe.rate < _NEAR * self.lowest:
            kept = idle
        return FoundRate(
            rate=0.0 if kept is None else kept.probe.rate,
            upper=math.inf if missed is None else missed.probe.rate,
            at_rate=kept,
            at_upper=missed,
            measurements=tuple(self.measurements),
        )


def _at(measurement: Measurement) -> float:
    return measurement.probe.rate


def _is_hint(short: Measurement, edge: Measurement) -> bool:
    """Return whether a short probe was sure of what a full one may be, below another full one."""
    return short.verdict is Verdict.KEPT and short.probe.rate < edge.probe.rate


def _is_surely_missed(short: Measurement) -> bool:
    """Return whether even a short probe counts: its limits alone say so, not a growing queue."""
    return min(short.margins.values(), default=0.0) <= -_VERY_SURE * SURE


def _crossing(lower: Measurement, upper: Measurement, margin: float) -> float:
    """Return the rate between two probes where a line through their margins has a value."""
    low, high = math.log(lower.probe.rate), math.log(upper.probe.rate)
    fall = lower.margin - upper.margin
    part = (lower.margin - margin) / fall if fall > 0 else 0.5
    return math.exp(low + min(max(part, 0.0), 1.0) * (high - low))


def _between(kept: Measurement, missed: Measurement) -> float:
    """Return where a line through both in logarithms reaches the limit, not too near an end."""
    low, high = math.log(kept.probe.rate), math.log(missed.probe.rate)
    below, above = kept.ratio, missed.ratio
    part = 0.5
    if 0 < below < 1 < above:
        part = -math.log(below) / (math.log(above) - math.log(below))
        # What explodes beyond the limit bends the line: half way is safer.
        part = (part + 0.5) / 2
    return math.exp(low + min(max(part, _EDGE), 1 - _EDGE) * (high - low))
