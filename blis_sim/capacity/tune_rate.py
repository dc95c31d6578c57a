"""The highest rate that keeps some limits, quickly: to tell settings apart, not to promise a rate.

Every probe is taken at its word. All settings meet the same requests, so that chance favours none
of them; `blis plan` searches until a rate is sure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blis_sim.capacity.search import Probe

if TYPE_CHECKING:
    from blis_sim.capacity.search import Measurement

_TOLERANCE = 0.04
_MOST_PROBES = 14
_IDLE_REQUESTS = 250
_LEAST_REQUESTS, _MOST_REQUESTS = 3000, 20_000
_STEP_UP, _STEP_DOWN = 1.25, 0.75
_EDGE = 0.15
"""Part of a bracket next to its ends in which no probe is made."""
_DIGITS = 4


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
    """

    rate: float
    low: Measurement | None
    high: Measurement | None
    num_simulations: int


class RateBracket:
    """Asks for probes until the rates that keep and miss the limits lie close together.

    Parameters
    ----------
    lowest : float
        Rate of the first probe, at which the engine is nearly idle, arrivals/s.
    available : int
        Arrivals that the load has.
    rounds : float
        Requests of an arrival, >= 1.

    Attributes
    ----------
    guess : float
        Where the answer may be; to be set after the first probe.
    least_duration_s : float
        A probe simulates at least so long, up to 20,000 requests; to be set after the first.
    """

    def __init__(self, lowest: float, available: int = 10**9, rounds: float = 1.0) -> None:
        self.lowest = _rounded(lowest)
        self.available = available
        self.rounds = rounds
        self.guess = 20 * self.lowest
        self.least_duration_s = 0.0
        self._low: Measurement | None = None
        self._high: Measurement | None = None
        self._steps = 0
        self._num_probes = 0

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
        least, most = _LEAST_REQUESTS / self.rounds, _MOST_REQUESTS / self.rounds
        return self._probe(rate, min(max(least, rate * self.least_duration_s), most))

    def _probe(self, rate: float, num_arrivals: float) -> Probe:
        return Probe(_rounded(rate), min(math.ceil(num_arrivals), self.available))

    def _next(self, low: Measurement, high: Measurement | None) -> float | None:
        at = low.probe.rate
        if high is None:
            is_first = at == self.lowest
            return max(self.guess, 2 * at) if is_first else at * _STEP_UP**self._steps
        above = high.probe.rate
        if above / at <= 1 + _TOLERANCE:
            return None
        if at == self.lowest:  # the guess was too high
            return max(above * _STEP_DOWN**self._steps, math.sqrt(at * above))
        part = min(max(_crossing(low, high), _EDGE), 1 - _EDGE)
        return math.exp(math.log(at) + part * math.log(above / at))

    def tell(self, measurement: Measurement) -> None:
        """Take note of what the probe asked for last showed."""
        self._num_probes += 1
        self._steps += 1 if self._num_probes > 1 else 0
        if measurement.seems_kept and measurement.ratio <= 1:
            self._low = measurement
        else:
            self._high = measurement

    def result(self) -> TunedRate:
        """Return what was found so far."""
        low, high = self._low, self._high
        rate = 0.0 if low is None else low.probe.rate
        if low is not None and high is not None:
            rate *= math.exp(_crossing(low, high) * math.log(high.probe.rate / rate))
        return TunedRate(rate=rate, low=low, high=high, num_simulations=self._num_probes)


def _crossing(low: Measurement, high: Measurement) -> float:
    """Return which part of the way from one to the other the limit is, 0..1, in logarithms.

    Where the queue grows before a limit is missed, figures say nothing about the way: half.
    """
    below, above = low.ratio, high.ratio
    if not 0 < below < 1 < above:
        return 0.5
    return -math.log(below) / (math.log(above) - math.log(below))


def _rounded(rate: float) -> float:
    """Return a rate with few digits, so that the same search asks for the same points."""
    return float(f"{rate:.{_DIGITS}g}")
