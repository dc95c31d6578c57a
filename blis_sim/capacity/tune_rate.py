"""The highest rate that keeps some limits, quickly: to tell settings apart, not to promise a rate.

Every probe is taken at its word. All settings meet the same requests, so that chance favours none
of them; ``blis plan`` searches until a rate is sure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blis_sim.capacity.search import Probe

if TYPE_CHECKING:
    from blis_sim.capacity.search import Measurement

_MOST_PROBES = 14
_IDLE_REQUESTS = 250
_EDGE = 0.15
"""Part of a bracket next to its ends in which no probe is made."""
_DIGITS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCare:
    """How carefully to look for a rate.

    Attributes
    ----------
    least_requests, most_requests : int
        Of a probe; between the two it is as long as it should be.
    lifetimes : float
        A probe should last so many mean lifetimes of a request under its load.
    step : float
        Ratio of the first guess to the rates beside it that are tried next; steps grow.
    tolerance : float
        Width of the bracket at which the search ends, relatively.
    """

    least_requests: int
    most_requests: int
    lifetimes: float
    step: float
    tolerance: float


QUICK = RateCare(
    least_requests=3000, most_requests=20_000, lifetimes=10.0, step=1.25, tolerance=0.04
)
"""For every combination."""
CAREFUL = RateCare(
    least_requests=16_000, most_requests=64_000, lifetimes=30.0, step=1.04, tolerance=0.03
)
"""For the best ones: near saturation an engine takes long to show what it will come to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedRate:
    """The end of a search.

    Attributes
    ----------
    rate : float
        Where the limits are just kept, by interpolation between ``low`` and ``high``,
        arrivals/s; 0 = not even by an idle engine.
    low, high : Measurement or None
        The highest rate simulated that kept the limits, and the lowest one above that did not.
    num_simulations : int
        Probes in all.
    is_quick : bool
        Whether it is good enough to tell settings apart, and no more.
    """

    rate: float
    low: Measurement | None
    high: Measurement | None
    num_simulations: int
    is_quick: bool


class RateBracket:
    """Asks for probes until the rates that keep and miss the limits lie close together.

    Parameters
    ----------
    lowest : float
        Rate of the first probe, at which the engine is nearly idle, arrivals/s.
    care : RateCare
        How carefully to look.
    available : int
        Arrivals that the load has.
    rounds : float
        Requests of an arrival, >= 1.

    Attributes
    ----------
    guess : float
        Where the answer may be; to be set after the first probe.
    least_duration_s : float
        A probe simulates at least so long, as far as ``care`` allows; to be set after a probe.
    """

    def __init__(
        self,
        lowest: float,
        care: RateCare = QUICK,
        available: int = 10**9,
        rounds: float = 1.0,
    ) -> None:
        self.lowest = _rounded(lowest)
        self.care = care
        self.available = available
        self.rounds = rounds
        self.guess = 20 * self.lowest
        self.least_duration_s = 0.0
        self._low: Measurement | None = None
        self._high: Measurement | None = None
        self._num_probes = 0
        self._was_kept = True
        self._num_alike = 0
        """Probes in a row, but for the first, that moved the same end of the bracket."""

    def ask(self) -> Probe | None:
        """Return the next probe, None when the search is over."""
        low, high = self._low, self._high
        if not self._num_probes:
            return self._probe(self.lowest, _IDLE_REQUESTS / self.rounds)
        if low is None or self._num_probes >= _MOST_PROBES:
            return None
        rate = self._next(low, high)
        if rate is None:
            return None
        least = self.care.least_requests / self.rounds
        most = self.care.most_requests / self.rounds
        return self._probe(rate, min(max(least, rate * self.least_duration_s), most))

    def _probe(self, rate: float, num_arrivals: float) -> Probe:
        return Probe(_rounded(rate), min(math.ceil(num_arrivals), self.available))

    def _next(self, low: Measurement, high: Measurement | None) -> float | None:
        at, step = low.probe.rate, self.care.step**self._num_alike
        if high is None:
            return max(self.guess, 2 * at) if at == self.lowest else at * step
        above = high.probe.rate
        if above / at <= 1 + self.care.tolerance:
            return None
        if at == self.lowest:  # the guess was too high
            return max(above / step, math.sqrt(at * above))
        part = 0.5 if self._num_alike > 1 else min(max(_crossing(low, high), _EDGE), 1 - _EDGE)
        return math.exp(math.log(at) + part * math.log(above / at))

    def tell(self, measurement: Measurement) -> None:
        """Take note of what the probe asked for last showed."""
        is_kept = measurement.seems_kept and measurement.ratio <= 1
        is_same_end = is_kept == self._was_kept and self._num_probes > 1
        self._num_alike = self._num_alike + 1 if is_same_end else 1
        self._was_kept = is_kept
        self._num_probes += 1
        if is_kept:
            self._low = measurement
        else:
            self._high = measurement

    def result(self) -> TunedRate:
        """Return what was found so far."""
        low, high = self._low, self._high
        rate = 0.0 if low is None else low.probe.rate
        if low is not None and high is not None:
            rate *= math.exp(_crossing(low, high) * math.log(high.probe.rate / rate))
        return TunedRate(
            rate=rate,
            low=low,
            high=high,
            num_simulations=self._num_probes,
            is_quick=self.care is QUICK,
        )


def _crossing(low: Measurement, high: Measurement) -> float:
    """Return which part of the way from one to the other a limit is missed, in logarithms.

    The first one that is; half where the queue grows before any is: figures then say nothing.
    """
    parts = []
    for metric, below in low.ratios.items():
        above = high.ratios.get(metric, 0.0)
        if 0 < below <= 1 < above:
            parts.append(-math.log(below) / (math.log(above) - math.log(below)))
    return min(parts, default=0.5)


def _rounded(rate: float) -> float:
    """Return a rate with few digits, so that the same search asks for the same points."""
    return float(f"{rate:.{_DIGITS}g}")
