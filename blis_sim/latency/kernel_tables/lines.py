"""Times as piecewise linear functions of the work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from blis_sim.latency.kernel_tables.arrays import BoolArray, FloatArray, floats
from blis_sim.latency.kernel_tables.roofs import Roof


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A non-decreasing piecewise linear function.

    Attributes
    ----------
    x : float array
        Knots, increasing.
    us : float array
        Time at each knot, non-decreasing.
    slope_us : float
        Time per unit of ``x`` beyond the last knot, >= 0. Before the first knot the time is
        that of the first.
    """

    x: FloatArray
    us: FloatArray
    slope_us: float

    def at(self, x: FloatArray) -> FloatArray:
        """Return the time in us at ``x``, of any shape."""
        beyond = np.maximum(x - self.x[-1], 0.0) * self.slope_us
        return floats(np.interp(x, self.x, self.us) + beyond)


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """Times over batch and work per batch entry, non-decreasing in both.

    Attributes
    ----------
    batch : float array, shape (rows,)
        Increasing.
    x : float array, shape (columns,)
        Work of one batch entry, increasing.
    us : float array, shape (rows, columns)
        Time at each knot.
    slope_us : float array, shape (rows,)
        Time per unit of ``x`` beyond the last column.
    """

    batch: FloatArray
    x: FloatArray
    us: FloatArray
    slope_us: FloatArray

    def line(self, batch: float) -> Line:
        """Return the times of one batch size.

        Linear between rows, in proportion to the batch beyond the last.
        """
        if batch >= self.batch[-1]:
            scale = batch / self.batch[-1]
            return Line(self.x, self.us[-1] * scale, float(self.slope_us[-1] * scale))
        right = int(np.searchsorted(self.batch, batch, side="right"))
        if right == 0:
            return Line(self.x, self.us[0], float(self.slope_us[0]))
        low, high = self.batch[right - 1], self.batch[right]
        weight = (batch - low) / (high - low)
        us = self.us[right - 1] * (1 - weight) + self.us[right] * weight
        slope = self.slope_us[right - 1] * (1 - weight) + self.slope_us[right] * weight
        return Line(self.x, us, float(slope))


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Measured times, made monotone and complete.

    Attributes
    ----------
    batch : float array, shape (rows,)
        Increasing; a single 1 for kernels without such an axis.
    x : float array, shape (columns,)
        Work of one batch entry, increasing.
    us : float array, shape (rows, columns)
        Non-decreasing along both axes, never below what the kernel takes at least.
    is_measured : bool array, shape (rows, columns)
        False where the value was filled in.
    """

    batch: FloatArray
    x: FloatArray
    us: FloatArray
    is_measured: BoolArray


def make_cells(batch: FloatArray, x: FloatArray, us: FloatArray, roof: Roof) -> Cells:
    """Return points as a complete monotone grid.

    Parameters
    ----------
    batch, x, us : float array, shape (points,)
        Measured points, each (batch, x) once.
    roof : Roof
        What one batch entry takes at least on the GPU measured.

    Notes
    -----
    A kernel can do less work in the time of more work, so a point slower than one with more
    work is outlier or noise: it takes the smallest time of all points with at least its batch
    and its work. A cell that was not measured (mostly: did not fit into memory) continues its
    row, within the row linearly, beyond it at the efficiency of the row's last point, and
    keeps between the measured cells with less and with more work. Measured cells never move
    because of a cell that was filled in.
    """
    rows, row = np.unique(batch, return_inverse=True)
    columns, column = np.unique(x, return_inverse=True)
    grid = np.full((len(rows), len(columns)), np.inf)
    grid[row, column] = us
    is_measured = np.isfinite(grid)
    ceiling = _from_more_work(grid)
    measured = np.where(is_measured, ceiling, -np.inf)
    bound = roof.us(columns)
    for index in np.flatnonzero(~is_measured.all(axis=1)):
        there = is_measured[index]
        known = columns[there]
        filled = np.interp(columns, known, measured[index, there])
        last = int(np.flatnonzero(there)[-1])
        filled[last:] *= bound[last:] / bound[last]
        measured[index] = np.where(there, measured[index], np.minimum(filled, ceiling[index]))
    complete = np.maximum.accumulate(np.maximum.accumulate(measured, axis=0), axis=1)
    return Cells(rows, columns, np.maximum(complete, rows[:, None] * bound), is_measured)


def _from_more_work(grid: FloatArray) -> FloatArray:
    """Return the least of each cell and all cells with at least its batch and its work."""
    flipped = grid[::-1, ::-1]
    least = np.minimum.accumulate(np.minimum.accumulate(flipped, axis=0), axis=1)
    return floats(least[::-1, ::-1])


def carry(cells: Cells, measured_roof: Roof, roof: Roof) -> Surface:
    """Return the times of a kernel that is as efficient as a measured one.

    Efficiency is the bound over the time, each kernel with its own bound.

    Parameters
    ----------
    cells : Cells
        Times of the measured kernel.
    measured_roof : Roof
        Its bound, on the GPU it was measured on.
    roof : Roof
        Bound of the kernel asked for, on the GPU asked for. Equal to ``measured_roof`` when
        the very kernel was measured: its times stay as they are.

    Notes
    -----
    Beyond the largest work the efficiency of the last column stays, below the smallest that
    of the first, but no kernel takes less than the smallest of the table, which is launch
    cost. Both are drawn with knots, so the result is piecewise linear.
    """
    factor = roof.us(cells.x) / measured_roof.us(cells.x)
    us = np.maximum.accumulate(cells.us * factor, axis=1)
    batch, least = cells.batch, us[0, 0]
    if batch[0] > 1:
        batch = np.concatenate([[1.0], batch])
        us = np.vstack([np.maximum(least, us[0] / cells.batch[0]), us])
    first, last = cells.x[0], cells.x[-1]
    x = [cells.x]
    columns = [us]
    if first > 0:
        start = us[:, 0] * float(roof.us(floats(0.0)) / roof.us(first))
        x.insert(0, floats([0.0]))
        columns.insert(0, np.maximum(least, start)[:, None])
    tail = floats(roof.tail(float(last)))
    if tail.size:
        x.append(tail)
        columns.append(us[:, -1:] * (roof.us(tail) / roof.us(last)))
    knots, times = np.concatenate(x), np.concatenate(columns, axis=1)
    end = roof.us(floats([knots[-1], 2 * knots[-1]]))
    slope = times[:, -1] * ((end[1] - end[0]) / (end[0] * knots[-1]))
    return Surface(batch, knots, times, slope)


def blend(shares: Sequence[tuple[Surface, float]]) -> Surface:
    """Return the weighted mean of surfaces.

    Parameters
    ----------
    shares : sequence of (Surface, weight)
        One alone stays as it is; of several only batch 1 is taken.
    """
    if len(shares) == 1:
        return shares[0][0]
    lines = [(surface.line(1), weight) for surface, weight in shares]
    x = reduce(np.union1d, [line.x for line, _ in lines])
    us = sum(weight * line.at(x) for line, weight in lines)
    slope_us = sum(weight * line.slope_us for line, weight in lines)
    return Surface(floats([1.0]), x, floats(us)[None, :], floats([slope_us]))
