"""GEMM and expert times: from a shape to the measured shapes that answer for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from blis_sim.latency.kernel_tables.fit import (
    Fit,
    blended_fit,
    find_match,
    make_fit,
    shares_around,
)
from blis_sim.latency.kernel_tables.precision import table_dtypes
from blis_sim.latency.kernel_tables.shapes import (
    ExpertsShape,
    WeightFormat,
    experts_roof,
    gemm_roof,
)

if TYPE_CHECKING:
    from blis_sim.catalog.gpus import GpuSpec
    from blis_sim.latency.kernel_tables.source import Source


def gemm_fit(
    sources: Iterable[Source],
    gpu: GpuSpec,
    shape: tuple[int, int],
    weights: WeightFormat,
    num_products: int = 1,
) -> Fit:
    """Return the times of a GEMM over its rows m.

    Parameters
    ----------
    sources : iterable of Source
        In order of preference.
    gpu : GpuSpec
        Where it runs.
    shape : (k, n)
        Input and output width on this GPU.
    weights : WeightFormat
        Format of the weights.
    num_products : int
        Independent products in one kernel: as efficient as one with all their columns.

    Raises
    ------
    CatalogError
        No source has a table that will do.
    """
    k, n = shape
    wanted = (k, n * num_products)
    formats = [(name, name) for name in table_dtypes(weights.dtype, gpu)]
    match = find_match(sources, "gemm", wanted, formats)
    shares = shares_around(wanted, match.source.series(match.file))
    return blended_fit(match, shares, gemm_roof(gpu, k, n, weights, num_products))


def moe_fit(
    sources: Iterable[Source],
    gpu: GpuSpec,
    shape: ExpertsShape,
    weights: WeightFormat,
    num_matrices: int,
) -> Fit:
    """Return the times of a layer's routed experts over the tokens.

    Parameters
    ----------
    sources, gpu, weights
        As in ``gemm_fit``.
    shape : ExpertsShape
        Experts, and their width on this GPU.
    num_matrices : int
        3 with a gate, which measured experts have, else 2.

    Raises
    ------
    CatalogError
        No source has a table that will do.
    """
    formats = [(name, name) for name in table_dtypes(weights.dtype, gpu)]
    match = find_match(sources, "moe", shape.key, formats)
    return make_fit(match, experts_roof(gpu, shape, weights, num_matrices))
