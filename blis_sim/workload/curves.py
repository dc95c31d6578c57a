"""Factors that change a rate over time: days, spikes, and windows with and without load.

Times are seconds from the begin of the load. A curve knows the times at which its factor
jumps, or (a day) a grid on which the factor is almost a straight line; between two of these
times, a *cell*, nothing sudden happens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from blis_sim.config.workload import RateCurveSettings
from blis_sim.errors import ConfigError
from blis_sim.workload.gaps import FloatArray

_DAY_S = 86_400.0
_SHORTEST_S = 0.001
_CELLS = 4096
_FIELDS = {
    "diurnal": ("amplitude", "period_s", "peak_at_s"),
    "spike": ("start_s", "duration_s", "factor"),
    "on_off": ("on_s", "off_s", "off_factor"),
}
_NEEDED = {
    "diurnal": (),
    "spike": ("start_s", "duration_s", "factor"),
    "on_off": ("on_s", "off_s"),
}


class Curve(Protocol):
    """A factor over time, >= 0."""

    @property
    def stretch_s(self) -> float:
        """A length of time with at most a few thousand breaks, seconds; may be ``inf``."""
        ...

    @property
    def last_break_s(self) -> float:
        """The factor is constant from here on; ``inf`` if it never is."""
        ...

    @property
    def is_smooth(self) -> bool:
        """Whether the factor changes within a cell."""
        ...

    def breaks(self, begin_s: float, end_s: float) -> FloatArray:
        """Return the breaks strictly between two times, seconds."""
        ...

    def factor(self, time_s: FloatArray) -> FloatArray:
        """Return the factor at these times, none of which is a jump."""
        ...


@dataclass(frozen=True, slots=True)
class Diurnal:
    """The factor 1 + amplitude * cos(2 pi (t - peak_at_s) / period_s)."""

    amplitude: float = 0.5
    period_s: float = _DAY_S
    peak_at_s: float = 50_400.0

    @property
    def cells_per_period(self) -> int:
        """Cells of 21 s in a day; fewer in shorter periods, which are allowed the same error.

        A cell of width h is wrong by about h^3 / period^2 seconds at most.
        """
        cells = _CELLS * math.cbrt(self.period_s / _DAY_S)
        return math.ceil(min(max(cells, 64), 32_768))

    @property
    def stretch_s(self) -> float:
        """As many periods as have a few thousand cells, at least one."""
        return self.period_s * math.ceil(_CELLS / self.cells_per_period)

    @property
    def last_break_s(self) -> float:
        """Days never end."""
        return math.inf

    @property
    def is_smooth(self) -> bool:
        """Whether the factor changes within a cell."""
        return True

    def breaks(self, begin_s: float, end_s: float) -> FloatArray:
        """Return the grid."""
        cells = self.cells_per_period
        first = math.floor(begin_s / self.period_s * cells)
        last = math.ceil(end_s / self.period_s * cells)
        numbers = np.arange(first, last + 1, dtype=np.float64)
        return _inside(numbers * (self.period_s / cells), begin_s, end_s)

    def factor(self, time_s: FloatArray) -> FloatArray:
        """Return the factor."""
        angle = (time_s - self.peak_at_s) * (2 * math.pi / self.period_s)
        # An amplitude of 1 must not become a rate below 0 by rounding.
        return np.maximum(1 + self.amplitude * np.cos(angle), 0)

    def __str__(self) -> str:
        return f"diurnal (amplitude {self.amplitude:g}, period {self.period_s:,g} s)"


@dataclass(frozen=True, slots=True)
class Spike:
    """A factor for some time, 1 before and after."""

    start_s: float
    duration_s: float
    height: float

    @property
    def stretch_s(self) -> float:
        """A spike has two breaks in any length of time."""
        return math.inf

    @property
    def last_break_s(self) -> float:
        """Its end."""
        return self.start_s + self.duration_s

    @property
    def is_smooth(self) -> bool:
        """Whether the factor changes within a cell."""
        return False

    def breaks(self, begin_s: float, end_s: float) -> FloatArray:
        """Return its begin and its end."""
        return _inside(np.array([self.start_s, self.last_break_s]), begin_s, end_s)

    def factor(self, time_s: FloatArray) -> FloatArray:
        """Return the factor."""
        is_high = (self.start_s < time_s) & (time_s < self.last_break_s)
        return np.where(is_high, self.height, 1.0)

    def __str__(self) -> str:
        return f"spike (x{self.height:g}, {self.duration_s:,g} s from {self.start_s:,g} s)"


@dataclass(frozen=True, slots=True)
class OnOff:
    """Windows with the factor 1 and with another, in turn; the first begins at time 0."""

    on_s: float
    off_s: float
    off_factor: float = 0.0

    @property
    def cycle_s(self) -> float:
        """A window of each kind."""
        return self.on_s + self.off_s

    @property
    def stretch_s(self) -> float:
        """As many cycles as have a few thousand cells."""
        return _CELLS / 2 * self.cycle_s

    @property
    def last_break_s(self) -> float:
        """Windows never end."""
        return math.inf

    @property
    def is_smooth(self) -> bool:
        """Whether the factor changes within a cell."""
        return False

    def breaks(self, begin_s: float, end_s: float) -> FloatArray:
        """Return the begins of all windows."""
        first, last = math.floor(begin_s / self.cycle_s), math.ceil(end_s / self.cycle_s)
        begins = np.arange(first, last + 1) * self.cycle_s
        return _inside(np.concatenate([begins, begins + self.on_s]), begin_s, end_s)

    def factor(self, time_s: FloatArray) -> FloatArray:
        """Return the factor."""
        is_on = time_s - np.floor(time_s / self.cycle_s) * self.cycle_s < self.on_s
        return np.where(is_on, 1.0, self.off_factor)

    def __str__(self) -> str:
        off = f" x{self.off_factor:g}" * (self.off_factor > 0)
        return f"on_off ({self.on_s:,g} s on, {self.off_s:,g} s off{off})"


def _inside(times_s: FloatArray, begin_s: float, end_s: float) -> FloatArray:
    return times_s[(begin_s < times_s) & (times_s < end_s)]


def rate_curve(where: str, settings: RateCurveSettings) -> Curve:
    """Return the curve that the settings describe.

    Parameters
    ----------
    where : str
        Name of the settings in messages, e.g. ``workload.rate_curve[0]``.
    settings : RateCurveSettings
        What the user wrote.

    Raises
    ------
    ConfigError
        If a field is missing, unused by the kind, or out of range.
    """
    kind = settings.kind
    given = {
        name: float(getattr(settings, name))
        for name in RateCurveSettings.model_fields
        if name != "kind" and getattr(settings, name) is not None
    }
    for name, value in given.items():
        if name not in _FIELDS[kind]:
            raise ConfigError(
                f"{where}.{name} must not be set with kind {kind}; got {value:g}; leave it out"
            )
    for name in _NEEDED[kind]:
        if name not in given:
            raise ConfigError(f"{where}.{name} must be given with kind {kind}; got nothing")
    for name in ("period_s", "on_s", "off_s"):
        if given.get(name, math.inf) < _SHORTEST_S:
            raise ConfigError(f"{where}.{name} must be >= {_SHORTEST_S} s; got {given[name]:g} s")
    if kind == "diurnal":
        return Diurnal(**given)
    if kind == "on_off":
        return OnOff(**given)
    return Spike(given["start_s"], given["duration_s"], height=given["factor"])
