"""Leave out grid lines that linear interpolation gives back closely enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .grid import Floats, Grid

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Limits:
    """What thinning may cost, as shares of the latency.

    ``median`` and ``p95`` are of all points left out, ``line_p95`` of those of one line.
    """

    median: float = 0.02
    p95: float = 0.07
    line_p95: float = 0.12


@dataclass(frozen=True, slots=True)
class ThinStats:
    """Error of the points left out, predicted from those kept."""

    num_points: int
    num_kept: int
    median: float
    p95: float
    max: float


def _along_last(values: Floats, axis: Floats, keep: Mask) -> Floats:
    """Interpolate the lines left out of the last axis; NaN where a neighbour is missing."""
    kept = np.flatnonzero(keep)
    right = np.clip(np.searchsorted(kept, np.arange(len(axis))), 1, len(kept) - 1)
    low, high = kept[right - 1], kept[right]
    weight = (axis - axis[low]) / (axis[high] - axis[low])
    between = values[..., low] * (1 - weight) + values[..., high] * weight
    return np.where(keep, values, between)


def interpolated(grid: Grid, keep_rows: Mask, keep_columns: Mask) -> Floats:
    """Return all latencies as linear interpolation in the thinned grid gives them."""
    values = grid.latency_us
    if not keep_columns.all():
        values = _along_last(values, grid.columns, keep_columns)
    if not keep_rows.all():
        across = _along_last(values.swapaxes(1, 2), grid.rows, keep_rows)
        values = across.swapaxes(1, 2)
    return values


def _errors(grid: Grid, keep_rows: Mask, keep_columns: Mask) -> Floats:
    """Return the relative error of every point; infinite where the thinned grid has a hole."""
    predicted = interpolated(grid, keep_rows, keep_columns)
    error = np.abs(predicted / grid.latency_us - 1)
    hole = np.isnan(predicted) & ~np.isnan(grid.latency_us)
    return np.where(hole, np.inf, error)


def _line_cost(grid: Grid, keep: list[Mask], axis: int, line: int) -> float:
    """Return the worst p95 of the lines left out between the kept neighbours of ``line``.

    Infinite where a point would lie in a hole of the thinned grid.
    """
    kept = np.flatnonzero(keep[axis])
    at = int(np.searchsorted(kept, line))
    part = slice(kept[at - 1], kept[at + 1] + 1)
    masks = [keep[0], keep[1]]
    masks[axis] = keep[axis][part].copy()
    masks[axis][line - part.start] = False
    lines = (grid.rows, grid.columns)[axis][part]
    if axis == 0:
        errors = _errors(Grid(grid.shapes, lines, grid.columns, grid.latency_us[:, part]), *masks)
    else:
        errors = _errors(Grid(grid.shapes, grid.rows, lines, grid.latency_us[:, :, part]), *masks)
    worst = 0.0
    for each in np.moveaxis(errors, axis + 1, 0)[~masks[axis]]:
        measured = each[~np.isnan(each)]
        if len(measured):
            if not np.isfinite(measured).all():
                return np.inf
            worst = max(worst, float(np.quantile(measured, 0.95)))
    return worst


def thin_grid(
    grid: Grid, limits: Limits, always_columns: tuple[int, ...] = ()
) -> tuple[Mask, Mask, ThinStats]:
    """Choose the rows and columns to keep; the ends and ``always_columns`` stay.

    Greedy: the line whose loss costs least goes first, until none may go within the limits.
    """
    keep = [np.ones(len(grid.rows), bool), np.ones(len(grid.columns), bool)]
    candidates = {(0, i) for i in range(1, len(grid.rows) - 1)}
    inner = range(1, len(grid.columns) - 1)
    candidates |= {(1, i) for i in inner if grid.columns[i] not in always_columns}
    while candidates:
        costs = {line: _line_cost(grid, keep, *line) for line in sorted(candidates)}
        axis, i = min(costs, key=lambda line: (costs[line], line))
        # A line that costs too much now will not cost less with fewer neighbours.
        candidates = {line for line in candidates if costs[line] <= limits.line_p95} - {(axis, i)}
        if costs[axis, i] > limits.line_p95:
            break
        keep[axis][i] = False
        stats = thin_stats(grid, keep[0], keep[1])
        if stats.median > limits.median or stats.p95 > limits.p95:
            keep[axis][i] = True
    return keep[0], keep[1], thin_stats(grid, keep[0], keep[1])


def thin_stats(grid: Grid, keep_rows: Mask, keep_columns: Mask) -> ThinStats:
    """Measure the error of the points that are left out."""
    errors = _errors(grid, keep_rows, keep_columns)
    kept = keep_rows[:, None] & keep_columns[None, :]
    left_out = errors[:, ~kept]
    left_out = left_out[~np.isnan(left_out)]
    measured = ~np.isnan(grid.latency_us)
    return ThinStats(
        num_points=int(measured.sum()),
        num_kept=int((measured & kept).sum()),
        median=float(np.median(left_out)) if len(left_out) else 0.0,
        p95=float(np.quantile(left_out, 0.95)) if len(left_out) else 0.0,
        max=float(left_out.max(initial=0.0)),
    )


def apply_thinning(grid: Grid, keep_rows: Mask, keep_columns: Mask) -> Grid:
    """Return the grid without the lines left out."""
    kept = grid.latency_us[:, keep_rows][:, :, keep_columns]
    return Grid(grid.shapes, grid.rows[keep_rows], grid.columns[keep_columns], kept)
