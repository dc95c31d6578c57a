"""Attention times: decode over batch and context, prefill over the area of its triangle."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from blis_sim.latency.kernel_tables.arrays import FloatArray, floats
from blis_sim.latency.kernel_tables.fit import Fit, find_match, make_fit
from blis_sim.latency.kernel_tables.precision import BYTES_PER_US, normalised_dtype
from blis_sim.latency.kernel_tables.shapes import (
    AttentionShape,
    ExpandedShape,
    Formats,
    LatentShape,
    causal_roof,
    decode_roof,
)

if TYPE_CHECKING:
    from blis_sim.catalog.gpus import GpuSpec
    from blis_sim.latency.kernel_tables.source import Source


def attention_fit(
    sources: Iterable[Source],
    gpu: GpuSpec,
    shape: AttentionShape,
    formats: Formats,
    *,
    is_decode: bool,
) -> Fit:
    """Return the times of attention over batch and work per batch entry.

    Parameters
    ----------
    sources : iterable of Source
        In order of preference.
    gpu : GpuSpec
        Where it runs.
    shape : AttentionShape
        Heads on this GPU.
    formats : Formats
        Of queries and cache.
    is_decode : bool
        True: work is the context of a request. False: the square of the prompt's length.

    Raises
    ------
    CatalogError
        No source has a table that will do.
    """
    is_latent = isinstance(shape, LatentShape | ExpandedShape)
    operation = f"{'mla_' if is_latent else ''}{'decode' if is_decode else 'prefill'}"
    make_roof = decode_roof if is_decode else causal_roof

    match = find_match(sources, operation, shape.key, _table_formats(formats))
    return make_fit(match, make_roof(gpu, shape, formats))


def _table_formats(formats: Formats) -> list[tuple[str, str]]:
    """Return the formats of tables that will do, the best first.

    16-bit formats serve each other; without a table for the cache's format the efficiency
    with a 16-bit cache is taken.
    """
    half = ("bf16", "fp16")
    dtype, kv_dtype = normalised_dtype(formats.dtype), normalised_dtype(formats.kv_dtype)
    caches = dict.fromkeys((kv_dtype, *half))
    return [(q, kv) for kv in caches for q in dict.fromkeys((dtype, *half))]


def twice_attended(tokens: FloatArray, window: int | None) -> FloatArray:
    """Return twice the (query, key) pairs of a causal prefill of ``tokens``.

    The square of the tokens; a query meets at most ``window`` keys.
    """
    if window is None:
        return floats(tokens**2)
    return np.where(tokens <= window, tokens**2, window * (2 * tokens - window))


def chunk_memory_us(
    gpu: GpuSpec,
    shape: AttentionShape,
    formats: Formats,
    context: FloatArray,
    new: FloatArray,
) -> FloatArray:
    """Return the least time of moving the bytes of one chunk of ``new`` tokens.

    ``context`` tokens are read from the cache; with a window those inside it.
    """
    cost = shape.cost(formats)
    moved = new * cost.query_bytes + (context + new) * cost.kv_bytes
    return floats(moved / (gpu.hbm_gb_per_s * BYTES_PER_US))
