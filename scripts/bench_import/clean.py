"""Make measured latencies monotone, as work that grows cannot take less time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .grid import Floats, Grid

SPIKE = 0.10
_MAX_ROUNDS = 60
_TOLERANCE = 1e-4
# Below this a difference is rounding, not a change.
_CHANGED = 1e-3


@dataclass(frozen=True, slots=True)
class CleanStats:
    """How much cleaning changed: share of points, and the relative change of those."""

    num_points: int
    num_spikes: int
    changed_frac: float
    median_change: float
    max_change: float


def isotonic(values: Floats) -> Floats:
    """Return the non-decreasing sequence nearest to ``values`` in least squares.

    Pool adjacent violators: neighbours that decrease are replaced by their mean.
    """
    if np.all(np.diff(values) >= 0):
        return values
    pools: list[tuple[float, int]] = []
    for value in values.tolist():
        total, count = value, 1
        while pools and pools[-1][0] * count >= total * pools[-1][1]:
            before = pools.pop()
            total, count = total + before[0], count + before[1]
        pools.append((total, count))
    return np.repeat([total / count for total, count in pools], [count for _, count in pools])


def _isotonic_lines(surface: Floats) -> Floats:
    fitted = surface.copy()
    for line in fitted:
        measured = ~np.isnan(line)
        line[measured] = isotonic(line[measured])
    return fitted


def monotone_surface(latency_us: Floats) -> Floats:
    """Return the surface non-decreasing along both axes nearest to ``latency_us``.

    Nearest in least squares of the logarithm, so that a change counts by its ratio: isotonic
    fits along the two axes in turn with Dykstra's corrections, then running maxima for what the
    last round leaves. NaN (not measured) stays NaN.
    """
    surface = np.log(latency_us)
    if surface.shape[0] == 1:
        return np.exp(_isotonic_lines(surface))
    of_lines, of_rows = np.zeros_like(surface), np.zeros_like(surface)
    for _ in range(_MAX_ROUNDS):
        along = _isotonic_lines(surface + of_lines)
        of_lines += surface - along
        across = _isotonic_lines((along + of_rows).T).T
        of_rows += along - across
        moved = np.nanmax(np.abs(across - surface), initial=0.0)
        surface = across
        if moved < _TOLERANCE:
            break
    top = np.fmax.accumulate(np.fmax.accumulate(surface, axis=0), axis=1)
    return np.exp(np.where(np.isnan(surface), np.nan, top))


def without_spikes(latency_us: Floats, spike: float = SPIKE) -> tuple[Floats, int]:
    """Replace single points far off both neighbours along the last axis by the median of three.

    Far off: more than ``spike`` (a share) above both or below both. Returns the number replaced.
    """
    middle = latency_us[..., 1:-1]
    neighbours = np.stack([latency_us[..., :-2], latency_us[..., 2:]])
    with np.errstate(invalid="ignore"):
        above = middle > neighbours.max(axis=0) * (1 + spike)
        below = middle < neighbours.min(axis=0) / (1 + spike)
    # A point beside a high spike is below it and, as tables rise, below the next one too.
    beside = np.zeros_like(below)
    beside[..., 1:] |= above[..., :-1]
    beside[..., :-1] |= above[..., 1:]
    below &= ~beside
    median = np.where(above, neighbours.max(axis=0), neighbours.min(axis=0))
    cleaned = latency_us.copy()
    cleaned[..., 1:-1] = np.where(above | below, median, middle)
    return cleaned, int(np.count_nonzero(above | below))


def clean_grid(grid: Grid) -> tuple[Grid, CleanStats]:
    """Take out spikes and make every shape monotone along rows and columns."""
    smooth, num_spikes = without_spikes(grid.latency_us)
    if len(grid.rows) > 2:
        across, more = without_spikes(smooth.swapaxes(1, 2))
        smooth, num_spikes = across.swapaxes(1, 2), num_spikes + more
    monotone = np.stack([monotone_surface(surface) for surface in smooth])
    measured = ~np.isnan(grid.latency_us)
    change = np.abs(monotone[measured] / grid.latency_us[measured] - 1)
    changed = change[change > _CHANGED]
    stats = CleanStats(
        num_points=len(change),
        num_spikes=num_spikes,
        changed_frac=len(changed) / max(1, len(change)),
        median_change=float(np.median(changed)) if len(changed) else 0.0,
        max_change=float(changed.max(initial=0.0)),
    )
    return grid.with_latency(monotone), stats
