"""The highest rate that keeps some limits, found with few simulations.

The search asks for probes and is told what they showed; it knows nothing of simulations. Rates
share their random numbers, so that what is measured is nearly monotone in the rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

SURE = 2.3
"""Standard errors between a figure and its limit from which on a verdict counts as sure."""
_MORE = 4
"""How many times the requests of a probe that could not tell."""
_LONG = 4
"""How many times the requests of a short probe a long one has."""
_MORE_NEAR = 2
_STEP_UP = 1.3
_STEP_DOWN = 0.6
_EDGE = 0.12
"""Part of a bracket next to its ends in which no probe is made."""
_COARSE = 1.2
"""Ratio of the ends of a bracket from which on longer probes are made."""
_MOST_SHORT = 5
_STEP_SIDE = 1.05
_USUAL_SLOPE = 60.0
"""Standard errors that a margin falls by where the rate grows e-fold, until two probes tell."""
_SAFE = 0.4
_MOST_MARGIN = 12.0
"""Margins beyond this are so large that their size says nothing about the distance."""


class Verdict(StrEnum):
    """What a probe showed."""

    KEPT = "kept"
    """All limits are kept, each by more than `SURE` standard errors."""
    MISSED = "missed"
    """A limit is missed by more than that, or the queue grows without end."""
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Probe:
    """What the search wants to know.

    Attributes
    ----------
    rate : float
        Requests per second, > 0.
    num_requests : int
        Requests to simulate, >= 1.
    """

    rate: float
    num_requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What a probe showed.

    Attributes
    ----------
    probe : Probe
        Where.
    margins : mapping of str to float
        Of each limited metric: how far on the right side, in standard errors.
    ratios : mapping of str to float
        Of each limited metric: value / limit, above 1 = missed; of a share, what is beyond /
        what may be.
    values : mapping of str to float or None
        Of each limited metric: the figure itself.
    is_saturated : bool
        Whether the queue grew without end.
    """

    probe: Probe
    margins: Mapping[str, float] = field(default_factory=dict)
    ratios: Mapping[str, float] = field(default_factory=dict)
    values: Mapping[str, float | None] = field(default_factory=dict)
    is_saturated: bool = False

    @property
    def verdict(self) -> Verdict:
        """What it means."""
        if self.is_saturated or any(margin <= -SURE for margin in self.margins.values()):
            return Verdict.MISSED
        if all(margin >= SURE for margin in self.margins.values()):
            return Verdict.KEPT
        return Verdict.UNCLEAR

    @property
    def worst(self) -> str:
        """The limit with the least margin; empty without limits."""
        return min(self.margins, key=lambda name: self.margins[name], default="")

    @property
    def ratio(self) -> float:
        """The largest value / limit, 0 without limits."""
        return max(self.ratios.values(), default=0.0)

    @property
    def margin(self) -> float:
        """The least margin, within what says something about the distance."""
        least = min(self.margins.values(), default=_MOST_MARGIN)
        least = -_MOST_MARGIN if self.is_saturated else least
        return min(max(least, -_MOST_MARGIN), _MOST_MARGIN)

    def clipped(self, metric: str) -> float:
        """Return a metric's margin within what says something about the distance."""
        return min(max(self.margins[metric], -_MOST_MARGIN), _MOST_MARGIN)

    @property
    def seems_kept(self) -> bool:
        """Whether the figures themselves keep the limits, sure or not."""
        return not self.is_saturated and all(margin >= 0 for margin in self.margins.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRate:
    """The end of a search.

    Attributes
    ----------
    rate : float
        Highest rate at which the limits are surely kept, requests/s; 0 = not even the lowest.
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

    An idle probe comes first. Then short probes, taken at face value, bracket the answer
    coarsely; long ones narrow it. A long probe that cannot tell is asked again with four times
    the requests. What remains unclear with the most requests lies within the noise: the search
    then looks for the nearest sure rates on both sides of it. In the end a probe of full length
    must confirm the rate.

    Parameters
    ----------
    lowest : float
        Rate of the first probe, at which the engine is nearly idle: where that misses a limit,
        no rate keeps it.
    guess : float or None
        Where the answer may be; it may be set after the first probe.
    tolerance : float
        Relative width of the bracket at which the search ends, > 0.
    max_simulations : int
        Probes at most, >= 4.
    least_requests, most_requests : int
        Requests of a short probe and of the longest one (a confirmation may be twice as long).
    available : int
        Requests that the load has.

    Attributes
    ----------
    least_duration_s : float
        A probe simulates at least so long, as far as ``most_requests`` allow; it may be set
        after the first probe.
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
        self.least_requests = least_requests
        self.most_requests = most_requests
        self.available = available
        self.least_duration_s = 0.0
        self.measurements: list[Measurement] = []
        self._short: list[Measurement] = []
        self._long: list[Measurement] = []
        self._unclear: list[Measurement] = []
        """Long probes that could not tell even with the most requests."""

    # -- what is asked --------------------------------------------------------

    def ask(self) -> Probe | None:
        """Return the next probe, None when the search is over."""
        num_made = len(self.measurements)
        if num_made >= self.max_simulations:
            return None
        if not self.measurements:
            return Probe(self.lowest, max(self.least_requests // 3, 100))
        if not self.measurements[0].seems_kept:
            first = self.measurements[0]
            if num_made == 1 and first.verdict is Verdict.UNCLEAR:
                return Probe(self.lowest, self.least_requests)
            if not self.measurements[-1].seems_kept and num_made <= 2:
                return None
        last = self.measurements[-1]
        if last in self._long and self._may_ask_again(last):
            return Probe(last.probe.rate, min(_MORE * last.probe.num_requests, self.most_requests))
        rate = self._next_short()
        if rate is not None:
            return Probe(rate, self._num_requests(rate, self.least_requests))
        rate = self._next_long()
        if rate is None:
            return self._confirmation()
        is_hard = any(m.verdict is Verdict.UNCLEAR for m in self._long)
        least = self.most_requests if is_hard else _LONG * self.least_requests
        return Probe(rate, self._num_requests(rate, least))

    def tell(self, measurement: Measurement) -> None:
        """Take note of what the probe asked for last showed."""
        is_long = self._next_short() is None and len(self.measurements) > 0
        self.measurements.append(measurement)
        if measurement.probe.rate == self.lowest and len(self.measurements) <= 2:
            return
        (self._long if is_long else self._short).append(measurement)
        is_unclear = is_long and measurement.verdict is Verdict.UNCLEAR
        if is_unclear and not self._may_ask_again(measurement):
            self._unclear.append(measurement)

    def _num_requests(self, rate: float, least: int) -> int:
        return min(max(least, math.ceil(rate * self.least_duration_s)), self.most_requests)

    def _may_ask_again(self, last: Measurement) -> bool:
        is_unclear = last.verdict is Verdict.UNCLEAR
        return is_unclear and last.probe.num_requests < self.most_requests

    def _next_short(self) -> float | None:
        """Return the next rate of the coarse search, None when the bracket is narrow enough."""
        kept = max((m for m in self._short if m.seems_kept), key=_at, default=None)
        missed = min((m for m in self._short if not m.seems_kept), key=_at, default=None)
        if len(self._short) >= _MOST_SHORT and (kept or missed):
            return None
        if missed is None:
            guess = self.guess if self.guess is not None else self.lowest * 20
            return guess if kept is None else kept.probe.rate * _STEP_UP
        high = missed.probe.rate
        if kept is None:
            return max(high * _STEP_DOWN, math.sqrt(high * self.lowest))
        low = kept.probe.rate
        return None if low >= high or high / low <= _COARSE else _between(kept, missed)

    def _next_long(self) -> float | None:
        """Return the next rate of the fine search, None when it is over.

        First one surely kept and one surely missed are looked for, then both are brought nearer
        to each other, as far as margins between them can tell.
        """
        kept, missed = self._ends()
        if not self._long:
            rate = self._first_long()
            if rate is not None:
                return rate
        if kept is None:
            lower = self._towards(SURE, missed)
            return lower if lower > self.lowest else None
        if missed is None:
            near = kept.probe.rate * (1 + self.tolerance)
            is_enough = any(kept.probe.rate < m.probe.rate <= near for m in self._unclear)
            return None if is_enough else self._towards(-SURE, kept)
        low, high = kept.probe.rate, missed.probe.rate
        if high / low <= 1 + self.tolerance:
            return None
        inside = sorted((m for m in self._unclear if low < m.probe.rate < high), key=_at)
        if not inside:
            return _between(kept, missed)
        if inside[0].probe.rate <= low * (1 + self.tolerance):
            return None
        least = 1 + self.tolerance / 4
        higher = _crossing(kept, inside[0], SURE + _SAFE)
        if higher > low * least and inside[0].probe.rate > higher * least:
            return higher
        lower = _crossing(inside[-1], missed, -SURE - _SAFE)
        return lower if lower < high / least and lower > inside[-1].probe.rate * least else None

    def _confirmation(self) -> Probe | None:
        """Return a probe of full length at the rate found, None when there was one.

        Near saturation an engine takes long to show what it will come to: there it is twice
        as long.
        """
        kept, missed = self._ends()
        if kept is None:
            return None
        is_near = (
            missed is not None
            and missed.is_saturated
            and missed.probe.rate < kept.probe.rate * _STEP_UP
        )
        wanted = self.most_requests * (_MORE_NEAR if is_near else 1)
        is_short = kept.probe.num_requests < min(wanted, self.available)
        return Probe(kept.probe.rate, min(wanted, self.available)) if is_short else None

    def _first_long(self) -> float | None:
        """Return where the short probes see the limit."""
        kept = max((m for m in self._short if m.seems_kept), key=_at, default=None)
        missed = min((m for m in self._short if not m.seems_kept), key=_at, default=None)
        if kept is None or missed is None or kept.probe.rate >= missed.probe.rate:
            return None
        return _between(kept, missed)

    def _towards(self, margin: float, end: Measurement | None) -> float:
        """Return a rate outside all long probes where the margin may be reached."""
        is_up = margin < 0
        long = sorted(self._long, key=_at, reverse=is_up)
        if not long:
            known = [m.probe.rate for m in self._short if m.seems_kept == is_up]
            known += [] if end is None else [end.probe.rate]
            outermost = (max if is_up else min)(known, default=self.lowest)
            return outermost * _STEP_SIDE if is_up else outermost / _STEP_SIDE
        edge, slope = long[0], _USUAL_SLOPE
        if len(long) > 1:
            run = abs(math.log(long[1].probe.rate / edge.probe.rate))
            rise = abs(long[1].margin - edge.margin)
            slope = max(rise / run, _USUAL_SLOPE / 4) if run > 0 and rise < _MOST_MARGIN else slope
        step = (abs(edge.margin - margin) + _SAFE) / slope
        step = min(max(step, self.tolerance / 3), math.log(_STEP_UP))
        return edge.probe.rate * math.exp(step if is_up else -step)

    # -- what was found -------------------------------------------------------

    def _ends(self) -> tuple[Measurement | None, Measurement | None]:
        """Return the highest rate surely kept and the lowest surely missed.

        Of two that contradict each other the one with more requests counts.
        """
        # A short probe cannot know well how sure it is: it counts where it is very sure.
        short = (m for m in self._short if _is_very_sure(m))
        # Of several probes at one rate the longest, made last, counts.
        known = {m.probe.rate: m for m in (*short, *self._long)}
        sure = sorted(
            (m for m in known.values() if m.verdict is not Verdict.UNCLEAR),
            key=_size,
            reverse=True,
        )
        kept: Measurement | None = None
        missed: Measurement | None = None
        for m in sure:
            rate = m.probe.rate
            if m.verdict is Verdict.KEPT and (missed is None or rate < missed.probe.rate):
                kept = m if kept is None or rate > kept.probe.rate else kept
            elif m.verdict is Verdict.MISSED and (kept is None or rate > kept.probe.rate):
                missed = m if missed is None or rate < missed.probe.rate else missed
        return kept, missed

    def result(self) -> FoundRate:
        """Return what was found so far.

        The idle probe counts as kept where it seems so: its few requests can tell no more.
        """
        idle = [m for m in self.measurements[:2] if m not in self._short]
        kept, missed = self._ends()
        if kept is None and idle and idle[-1].seems_kept:
            kept = idle[-1]
        elif missed is None and idle and not idle[-1].seems_kept:
            missed = idle[-1]
        return FoundRate(
            rate=0.0 if kept is None else kept.probe.rate,
            upper=math.inf if missed is None else missed.probe.rate,
            at_rate=kept,
            at_upper=missed,
            measurements=tuple(self.measurements),
        )


def _size(measurement: Measurement) -> int:
    return measurement.probe.num_requests


def _at(measurement: Measurement) -> float:
    return measurement.probe.rate


def _is_very_sure(measurement: Measurement) -> bool:
    """Return whether even a short probe counts: its limits alone say so, not a growing queue."""
    least = min(measurement.margins.values(), default=0.0)
    return least <= -2 * SURE or (least >= 2 * SURE and not measurement.is_saturated)


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
