"""Decode attention as in serving, where the KV cache of a layer does not wait in the L2 cache."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .grid import Grid
from .kernels import WorkOf

_BEYOND_CACHE = 2.0
"""Problems that move this many times the L2 cache are taken to come from memory."""
_GOOD_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class ColdStats:
    """How many points were raised, as a share of all, and by how much in the median."""

    raised_frac: float
    median_change: float


def from_memory(grid: Grid, work_of: WorkOf, l2_bytes: float) -> tuple[Grid, ColdStats]:
    """Raise the points that a benchmark serves from L2 to what reading memory costs.

    The benchmark repeats one call, so that a small KV cache stays in L2. In a model the weights
    of all layers pass in between. A point below ``2 x l2_bytes`` becomes at least the latency of
    the same batch at the shortest context (launch and query) plus its bytes at the bandwidth
    that large problems of the shape reach (the 90th percentile). ``grid`` must be monotone, and
    the result is.
    """
    rows, columns = grid.rows[:, None], grid.columns[None, :]
    raised = grid.latency_us.copy()
    for i, shape in enumerate(grid.shapes):
        latency_us = grid.latency_us[i]
        moved = work_of(shape, rows, columns)[1]
        large = (moved >= _BEYOND_CACHE * l2_bytes) & ~np.isnan(latency_us)
        if not large.any():
            continue
        bytes_per_us = np.quantile((moved / latency_us)[large], _GOOD_SHARE)
        shortest = latency_us[:, :1]
        cold = shortest + (moved - moved[:, :1]) / bytes_per_us
        cold = np.where(large, latency_us, np.fmax(latency_us, cold))
        cold = np.fmax.accumulate(np.fmax.accumulate(cold, axis=0), axis=1)
        raised[i] = np.where(np.isnan(latency_us), np.nan, cold)
    change = (raised / grid.latency_us - 1)[~np.isnan(grid.latency_us)]
    changed = change[change > 1e-3]
    stats = ColdStats(
        raised_frac=len(changed) / max(1, len(change)),
        median_change=float(np.median(changed)) if len(changed) else 0.0,
    )
    return grid.with_latency(raised), stats
