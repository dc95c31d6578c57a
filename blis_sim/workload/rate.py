"""A rate over time, and the time at which so many arrivals are due.

The number of arrivals due by time t is Lambda(t), the integral of the rate. A process whose
gaps have mean 1 becomes one with that rate when the sums of its gaps are mapped through the
inverse of Lambda; for exponential gaps this is the non-homogeneous Poisson process (Cinlar,
Introduction to Stochastic Processes, 1975, section 4.7).

Time is cut into cells at every begin of a stage, jump of a curve and point of a day's grid.
In a cell the rate is taken as a straight line with the exact integral, so that

- constant rates, ramps, pauses, spikes and on-off windows are exact up to rounding;
- with a diurnal curve, Lambda is exact at both ends of a cell, and a time in between is wrong
  by less than 1 us / (1 - amplitude), for periods up to a month. Only where the rate touches 0,
  at the foot of a ramp or with an amplitude of 1, the error may reach the length of that cell
  (21 s of a day).

Cells are made as they are needed: a rate without end takes no memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from blis_sim.errors import ConfigError
from blis_sim.units import US_PER_S
from blis_sim.workload.base import MAX_TIME_US
from blis_sim.workload.curves import Curve
from blis_sim.workload.gaps import FloatArray

FAR_S = 2.0**62 / US_PER_S
"""Nothing arrives later, seconds."""

SNAP = 1e-12
"""Sums this close to a boundary (relatively) are on it: 0.1 + 0.2 arrivals are 0.3."""

_GAUSS_NODES = (0.3399810435848563, 0.8611363115940526)
_GAUSS_WEIGHTS = (0.6521451548625461, 0.3478548451374538)
_MAX_TIME_S = MAX_TIME_US / US_PER_S
_MOST_EMPTY_CELLS = 10_000_000
_MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class RateStage:
    """A stretch of time in which the rate, without curves, is a straight line.

    Attributes
    ----------
    begin_s, end_s : float
        From when to when, seconds from the begin of the load; the end may be ``inf``.
    begin_rate, end_rate : float
        Arrivals per second, >= 0.
    """

    begin_s: float
    end_s: float
    begin_rate: float
    end_rate: float

    def rate(self, time_s: FloatArray) -> FloatArray:
        """Return the rate at these times, arrivals per second."""
        if self.begin_rate == self.end_rate:
            return np.full_like(time_s, self.begin_rate)
        share = (time_s - self.begin_s) / (self.end_s - self.begin_s)
        return self.begin_rate * (1 - share) + self.end_rate * share


@dataclass(frozen=True, slots=True)
class Cells:
    """Stretches of time one after another, each with a rate that is a straight line.

    Attributes
    ----------
    edges_s : array of float, one more than cells
        Where they begin and end, seconds.
    begin_rate, end_rate : arrays of float
        Arrivals per second.
    due : array of float, one more than cells
        Arrivals due by each edge: Lambda.
    """

    edges_s: FloatArray
    begin_rate: FloatArray
    end_rate: FloatArray
    due: FloatArray

    def times_s(self, due: FloatArray) -> FloatArray:
        """Return when so many arrivals are due, the earliest such time, seconds.

        Parameters
        ----------
        due : array of float
            Each above the first of ``self.due`` and at most the last (within ``SNAP``).
        """
        cell = np.searchsorted(self.due[1:] * (1 + SNAP), due, side="left")
        before, after = self.due[cell], self.due[cell + 1]
        begin_s, end_s = self.edges_s[cell], self.edges_s[cell + 1]
        r0, r1 = self.begin_rate[cell], self.end_rate[cell]
        done = np.clip(due, before, after) - before
        left = np.maximum(after - due, 0)
        # Arrivals of the straight line for each that is due: 1 but for a day's rounding.
        line = (r0 + r1) / 2 * (end_s - begin_s)
        share = _divided(line, after - before)
        slope = np.abs(r1 - r0) / (end_s - begin_s)
        # From the end with the lower rate, where the roots do not cancel.
        is_rising = r1 >= r0
        area = np.where(is_rising, done, left) * share
        low = np.minimum(r0, r1)
        width = _divided(2 * area, low + np.sqrt(low * low + 2 * slope * area))
        return np.clip(np.where(is_rising, begin_s + width, end_s - width), begin_s, end_s)


def _divided(top: FloatArray, bottom: FloatArray) -> FloatArray:
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)


@dataclass(frozen=True, slots=True)
class Rate:
    """Arrivals per second over time: stages one after another, times curves.

    Attributes
    ----------
    stages : tuple of RateStage
        The first begins at 0, each where the one before ends; only the last may be endless.
    curves : tuple of Curve
        Factors; all multiply.
    """

    stages: tuple[RateStage, ...]
    curves: tuple[Curve, ...] = ()

    @classmethod
    def constant(cls, per_s: float, curves: Iterable[Curve] = ()) -> Rate:
        """Return a rate without end, > 0 arrivals per second."""
        return cls((RateStage(0.0, math.inf, per_s, per_s),), tuple(curves))

    @classmethod
    def in_stages(
        cls, stages: Iterable[tuple[float, float, float]], curves: Iterable[Curve] = ()
    ) -> Rate:
        """Return a rate from (rate at the begin, rate at the end, seconds) of each stage."""
        built, begin_s = [], 0.0
        for begin_rate, end_rate, duration_s in stages:
            built.append(RateStage(begin_s, begin_s + duration_s, begin_rate, end_rate))
            begin_s = built[-1].end_s
        return cls(tuple(built), tuple(curves))

    @property
    def end_s(self) -> float:
        """Where the last stage ends, seconds; ``inf`` if it does not."""
        return self.stages[-1].end_s

    @property
    def constant_per_s(self) -> float | None:
        """The rate where it never changes and never ends, arrivals per second; else None."""
        if self.curves or math.isfinite(self.end_s) or len(self.stages) > 1:
            return None
        return self.stages[0].begin_rate

    def scaled(self, factor: float) -> Rate:
        """Return this rate times a factor > 0, e.g. the share of a client."""
        stages = (
            replace(s, begin_rate=s.begin_rate * factor, end_rate=s.end_rate * factor)
            for s in self.stages
        )
        return replace(self, stages=tuple(stages))

    def until(self, end_s: float) -> Rate:
        """Return this rate up to a time > 0, where it ends."""
        kept = [stage for stage in self.stages if stage.begin_s < end_s]
        if kept[-1].end_s > end_s:
            end_rate = kept[-1].rate(np.array([end_s])).item()
            kept[-1] = replace(kept[-1], end_s=end_s, end_rate=end_rate)
        return replace(self, stages=tuple(kept))

    def cells(self, stage: RateStage, before: float = 0.0) -> Iterator[Cells]:
        """Yield the cells of a stage, a few thousand at a time.

        Parameters
        ----------
        stage : RateStage
            One of the stages.
        before : float
            Arrivals due by its begin.
        """
        has_smooth = any(curve.is_smooth for curve in self.curves)
        for edges_s in self._edges(stage):
            begin_s, end_s = edges_s[:-1], edges_s[1:]
            width_s, middle_s = end_s - begin_s, (begin_s + end_s) / 2
            begin_rate = stage.rate(begin_s) * self._factor(begin_s, middle_s)
            end_rate = stage.rate(end_s) * self._factor(end_s, middle_s)
            mean_rate = (begin_rate + end_rate) / 2
            if has_smooth:
                mean_rate = self._mean_rate(stage, middle_s, width_s)
            due = np.concatenate([[before], mean_rate * width_s])
            np.cumsum(due, out=due)
            before = float(due[-1])
            yield Cells(edges_s, begin_rate, end_rate, due)

    def _edges(self, stage: RateStage) -> Iterator[FloatArray]:
        begin_s, last_s = stage.begin_s, min(stage.end_s, FAR_S)
        is_pause = stage.begin_rate == stage.end_rate == 0
        while begin_s < last_s:
            curves = [curve for curve in self.curves if curve.last_break_s > begin_s]
            if is_pause:
                curves = []
            end_s = min(begin_s + min((c.stretch_s for c in curves), default=last_s), last_s)
            if begin_s < _MAX_TIME_S < end_s and math.isinf(self.last_break_s):
                end_s = _MAX_TIME_S
            breaks = [curve.breaks(begin_s, end_s) for curve in curves]
            yield np.unique(np.concatenate([[begin_s, end_s], *breaks]))
            begin_s = end_s

    @property
    def last_break_s(self) -> float:
        """No curve changes the rate from here on, seconds; ``inf`` if one always does."""
        return max((curve.last_break_s for curve in self.curves), default=0.0)

    def _factor(self, time_s: FloatArray, middle_s: FloatArray) -> FloatArray:
        """Return the factor at one end of each cell, seen from inside the cell."""
        factor = np.ones_like(time_s)
        for curve in self.curves:
            factor *= curve.factor(time_s if curve.is_smooth else middle_s)
        return factor

    def _mean_rate(
        self, stage: RateStage, middle_s: FloatArray, width_s: FloatArray
    ) -> FloatArray:
        """Return the mean rate of each cell, by Gauss and Legendre's rule with four points.

        Exact for polynomials of degree 7: a cosine's error over 1/64 of its period is below
        1e-15.
        """
        mean = np.zeros_like(middle_s)
        for node, weight in zip(_GAUSS_NODES, _GAUSS_WEIGHTS, strict=True):
            for sign in (-1, 1):
                time_s = middle_s + sign * node / 2 * width_s
                mean += weight / 2 * stage.rate(time_s) * self._factor(time_s, middle_s)
        return mean

    def walk(self, stages: Iterable[RateStage], before: float = 0.0) -> Iterator[Cells]:
        """Yield the cells of stages one after another, counting on from ``before``."""
        for stage in stages:
            for cells in self.cells(stage, before):
                yield cells
                before = float(cells.due[-1])

    def due(self, stages: Iterable[RateStage]) -> float:
        """Return the arrivals due in stages one after another; the last one must end."""
        due = 0.0
        for cells in self.walk(stages):
            due = float(cells.due[-1])
        return due

    @property
    def is_zero(self) -> bool:
        """Whether nothing arrives, ever."""
        busy = [stage for stage in self.stages if stage.begin_rate or stage.end_rate]
        return not any(cells.due[-1] > 0 for stage in busy for cells in self.cells(stage))

    def __str__(self) -> str:
        names = [_stage_name(stage) for stage in self.stages]
        if len(names) > _MOST_NAMED:
            names[_MOST_NAMED - 1 : -1] = ["..."]
        return f"{', '.join(names)} requests/s"


def _stage_name(stage: RateStage) -> str:
    if stage.begin_rate == stage.end_rate:
        return f"{stage.begin_rate:g}"
    return f"{stage.begin_rate:g} to {stage.end_rate:g}"


class Clock:
    """The times at which growing numbers of arrivals are due, along a rate.

    Parameters
    ----------
    cells : iterator of Cells
        One after another.
    """

    def __init__(self, cells: Iterator[Cells]) -> None:
        self._stretches = cells
        self._cells = next(cells, None)
        self._num_empty = 0

    def times_s(self, due: FloatArray) -> FloatArray:
        """Return when these arrivals are due, seconds; fewer where the rate ends before.

        Parameters
        ----------
        due : array of float
            In ascending order, and not below those of earlier calls.

        Raises
        ------
        ConfigError
            If the rate changes so often, for the few arrivals, that the next is out of reach,
            or with curves if it is later than ``MAX_TIME_US``.
        """
        times: list[FloatArray] = []
        while len(due) and self._cells is not None:
            last_due = self._cells.due[-1] * (1 + SNAP)
            covered = int(np.searchsorted(due, last_due, side="right"))
            if covered:
                times.append(self._cells.times_s(due[:covered]))
                due = due[covered:]
                self._num_empty = 0
            if len(due):
                self._next()
        return np.concatenate(times) if times else np.empty(0)

    def _next(self) -> None:
        assert self._cells is not None
        self._num_empty += len(self._cells.begin_rate)
        if self._num_empty > _MOST_EMPTY_CELLS:
            raise ConfigError(
                "the rate curve must leave an arrival now and then; got none in "
                f"{_MOST_EMPTY_CELLS:,} steps of the curve up to "
                f"{self._cells.edges_s[-1]:,.0f} s; raise the rate or lengthen the periods"
            )
        self._cells = next(self._stretches, None)
        if self._cells is not None and self._cells.edges_s[0] >= _MAX_TIME_S:
            raise ConfigError(
                f"all arrivals must be within {_MAX_TIME_S:,.0f} s; "
                "got a rate curve that leaves some later; raise the rate or the factors"
            )
