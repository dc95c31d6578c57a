"""What GEMMs take once a GPU has been busy for a while."""

from __future__ import annotations

import numpy as np

from .grid import Grid

GPUS = ("H100", "H200")
"""Those with the chip and the power limit of the one that was measured."""
_ROWS = (512, 1024, 2048, 8192)
_SLOWER = (1.0, 1.055, 1.05, 1.01)
_LEAST_WEIGHTS = 8_000_000


def sustained(grid: Grid) -> Grid:
    """Return a bf16 GEMM grid (shapes (n, k), columns m) with the clocks that a busy GPU keeps.

    A benchmark of short calls finds a cool GPU at its highest clocks. ``collect_bench.py`` on an
    H100 at its 700 W (79 shapes of at least 16 MB of weights, 1,450 points in all) took 5.8, 5.1
    and 1.7 % longer than these tables with 1024, 2048 and 8192 rows, median over the shapes, and
    as long with up to 64; on a vLLM server steps with a prompt of 986 tokens took 3 to 6 %
    longer. Smaller weights, and fewer rows, were not slower.
    """
    slower = np.interp(np.log2(np.maximum(grid.columns, 1)), np.log2(_ROWS), _SLOWER)
    is_large = np.array([n * k >= _LEAST_WEIGHTS for n, k in grid.shapes])
    factor = np.where(is_large[:, None, None], slower[None, None, :], 1.0)
    return grid.with_latency(grid.latency_us * factor)
