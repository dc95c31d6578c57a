"""How long a kernel takes: from the arithmetic of the model to measured tables."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from blis_sim.errors import InvariantError
from blis_sim.latency.kernel_tables.precision import BYTES_PER_US, peak_flops_per_us
from blis_sim.latency.kernel_tables.shapes import (
    ExpandedShape,
    ExpertsShape,
    Formats,
    HeadShape,
    LatentShape,
    WeightFormat,
)
from blis_sim.latency.kernel_tables.truncation_time import truncation_us
from blis_sim.transformer.attention import (
    DecodeAttention,
    MlaDecodeAttention,
    MlaPrefillAttention,
    PrefillAttention,
    twice_causal_pairs,
)
from blis_sim.transformer.kernels import (
    AllGather,
    AllReduce,
    BatchedGemm,
    Elementwise,
    Gemm,
    Kernel,
    MoeExperts,
    Truncation,
)

if TYPE_CHECKING:
    from blis_sim.catalog.gpus import GpuSpec
    from blis_sim.latency.kernel_tables.arrays import FloatArray
    from blis_sim.latency.kernel_tables.lines import Line
    from blis_sim.latency.kernel_tables.tables import KernelTables
    from blis_sim.latency.kernel_tables.tiles import Tiles


class QuickLine:
    """A piecewise linear function for one number at a time, without arrays.

    Parameters
    ----------
    line : Line
        The function.
    """

    __slots__ = ("_slopes", "_us", "_x")

    def __init__(self, line: Line) -> None:
        self._x: list[float] = line.x.tolist()
        self._us: list[float] = line.us.tolist()
        slopes = np.diff(line.us) / np.diff(line.x)
        self._slopes: list[float] = [*slopes.tolist(), line.slope_us]

    def at(self, x: float) -> float:
        """Return the time in us at ``x``; before the first knot that of the first."""
        i = bisect_right(self._x, x) - 1
        return self._us[i] + self._slopes[i] * (x - self._x[i]) if i >= 0 else self._us[0]

    @property
    def least_us(self) -> float:
        """The time at the first knot."""
        return self._us[0]


class ChunkTimes(NamedTuple):
    """Attention of prompt chunks: what each takes beyond launching the kernel.

    The bound is that of ``kernel.flops`` and ``kernel.bytes``, without making a kernel.
    """

    line: QuickLine
    """Duration by twice the (query, key) pairs."""
    window: int | None
    us_per_pair: float
    """Least time of the products of half a pair."""
    us_per_query: float
    us_per_kv: float
    tiles: Tiles | None = None
    """How attention fills the GPU, where it is divided into tiles."""
    padded_key_us: float = 0.0
    """Time of a decode's cached token beside a prompt longer than a tile; 0 = as without."""

    def beyond_floor_us(
        self, context_tokens: int, new_tokens: int, *, is_alone: bool = False
    ) -> float:
        """Return what a chunk takes beyond the launch, at least what the GPU's roofs demand.

        ``is_alone``: with the SMs that its tiles leave idle and nothing else fills; its
        traffic, too, then overlaps the launch.
        """
        window = self.window
        pairs = twice_causal_pairs(context_tokens, new_tokens, window)
        kept = context_tokens if window is None else min(context_tokens, window)
        memory_us = new_tokens * self.us_per_query + (kept + new_tokens) * self.us_per_kv
        line, tiles = self.line, self.tiles
        if tiles is None:
            us = line.at(pairs)
        else:
            us = line.at(twice_causal_pairs(0, new_tokens, window))
            us += tiles.context_us(context_tokens, new_tokens, window, is_alone=is_alone)
        bound_us = max(pairs * self.us_per_pair, memory_us)
        return max(us, bound_us) - line.least_us if is_alone else max(us - line.least_us, bound_us)


class KernelTimer:
    """Times of kernels on one GPU.

    Parameters
    ----------
    tables : KernelTables
        The measurements.
    """

    def __init__(self, tables: KernelTables) -> None:
        self.tables = tables
        self.gpu: GpuSpec = tables.gpu
        self._prefill_lines: dict[tuple[object, Formats], QuickLine] = {}

    def time_us(self, kernel: Kernel) -> float:
        """Return the duration of one execution, microseconds."""
        if isinstance(kernel, DecodeAttention | MlaDecodeAttention):
            shape, formats = decode_shape(kernel)
            line = self.tables.decode_attention_line(shape, kernel.batch, formats)
            return float(line.at(np.array([kernel.kv_tokens / kernel.batch]))[0])
        if isinstance(kernel, PrefillAttention | MlaPrefillAttention):
            return self._prefill_us(kernel)
        return float(self.scaled_us(kernel, np.ones(1))[0])

    def scaled_us(self, kernel: Kernel, factor: FloatArray) -> FloatArray:
        """Return the durations of kernels like this one with that many times the tokens.

        Parameters
        ----------
        kernel : Kernel
            No attention; of GEMMs the rows, of the others the tokens or bytes are scaled.
        factor : float array
            Multiples of its tokens, > 0.
        """
        tables = self.tables
        if isinstance(kernel, Gemm):
            weights = WeightFormat(kernel.weight_dtype, kernel.scale_bits, kernel.activation_dtype)
            return tables.gemm_us(kernel.m * factor, kernel.k, kernel.n, weights)
        if isinstance(kernel, BatchedGemm):
            return tables.batched_gemm_us(
                kernel.m * factor, kernel.k, kernel.n, kernel.batch, kernel.dtype
            )
        if isinstance(kernel, MoeExperts):
            shape = ExpertsShape(kernel.num_experts, kernel.top_k, kernel.hidden, kernel.width)
            weights = WeightFormat(kernel.weight_dtype, kernel.scale_bits, kernel.activation_dtype)
            return tables.moe_us(
                kernel.num_tokens * factor, shape, weights, num_matrices=kernel.num_matrices
            )
        if isinstance(kernel, AllReduce):
            return tables.allreduce_us(kernel.bytes * factor, kernel.tp)
        if isinstance(kernel, AllGather):
            return tables.allgather_us(kernel.bytes * factor, kernel.tp)
        if isinstance(kernel, Elementwise):
            return tables.elementwise_us(kernel.bytes * factor)
        if isinstance(kernel, Truncation):
            return truncation_us(kernel, factor, self.gpu.num_sms)
        raise InvariantError(f"no measurements are known for the kernel {kernel}")

    def bound_us(self, kernel: Kernel) -> float:
        """Return the least duration the GPU's peak and bandwidth allow, microseconds."""
        memory_us = kernel.bytes / (self.gpu.hbm_gb_per_s * BYTES_PER_US)
        dtype = getattr(kernel, "compute_dtype", None)
        if dtype is None:
            return memory_us
        return max(memory_us, kernel.flops / peak_flops_per_us(self.gpu, dtype))

    def _prefill_us(self, kernel: PrefillAttention | MlaPrefillAttention) -> float:
        shape, formats = prefill_shape(kernel)
        times_us = self.tables.prefill_attention_us(
            shape,
            np.array([float(kernel.context_tokens)]),
            np.array([float(kernel.new_tokens)]),
            window=kernel.window if isinstance(kernel, PrefillAttention) else None,
            formats=formats,
        )
        return float(times_us[0])

    def prefill_floor_us(self, kernel: PrefillAttention | MlaPrefillAttention) -> float:
        """Return the least measured duration of such a kernel: what launching it costs."""
        return self._prefill_line(kernel).least_us

    def beyond_floor_us(self, kernel: PrefillAttention | MlaPrefillAttention) -> float:
        """Return what a chunk takes beyond the launch, at least what the GPU's roofs demand."""
        return self.chunk_times(kernel).beyond_floor_us(kernel.context_tokens, kernel.new_tokens)

    def chunk_times(self, kernel: PrefillAttention | MlaPrefillAttention) -> ChunkTimes:
        """Return the durations of such a kernel by context and new tokens."""
        shape, formats = prefill_shape(kernel)
        window = kernel.window if isinstance(kernel, PrefillAttention) else None
        cost = shape.cost(formats)
        bytes_per_us = self.gpu.hbm_gb_per_s * BYTES_PER_US
        return ChunkTimes(
            self._prefill_line(kernel),
            window,
            cost.flops_per_pair / 2 / peak_flops_per_us(self.gpu, kernel.compute_dtype),
            cost.query_bytes / bytes_per_us,
            cost.kv_bytes / bytes_per_us,
            self.tables.tiles(shape, formats),
            self.tables.padded_key_us(shape, formats),
        )

    def _prefill_line(self, kernel: PrefillAttention | MlaPrefillAttention) -> QuickLine:
        shape, formats = prefill_shape(kernel)
        key = (shape, formats)
        if key not in self._prefill_lines:
            line = self.tables.prefill_fit(shape, formats).surface.line(1)
            self._prefill_lines[key] = QuickLine(line)
        return self._prefill_lines[key]

    def decode_line(self, kernel: DecodeAttention | MlaDecodeAttention) -> Line:
        """Return the durations of such a kernel by the mean length of what it attends to."""
        shape, formats = decode_shape(kernel)
        return self.tables.decode_attention_line(shape, kernel.batch, formats)


def decode_shape(
    kernel: DecodeAttention | MlaDecodeAttention,
) -> tuple[HeadShape | LatentShape, Formats]:
    """Return the heads of a kernel and its formats, in the words of the tables."""
    formats = Formats(kernel.dtype, kernel.kv_dtype)
    if isinstance(kernel, MlaDecodeAttention):
        shape = LatentShape(kernel.num_heads, kernel.kv_lora_rank, kernel.qk_rope_head_dim)
        return shape, formats
    return HeadShape(kernel.num_heads, kernel.num_kv_heads, kernel.head_dim), formats


def prefill_shape(
    kernel: PrefillAttention | MlaPrefillAttention,
) -> tuple[HeadShape | ExpandedShape, Formats]:
    """Return the heads of a kernel and its formats, in the words of the tables."""
    if isinstance(kernel, MlaPrefillAttention):
        expanded = ExpandedShape(kernel.num_heads, kernel.qk_head_dim, kernel.v_head_dim)
        return expanded, Formats(kernel.dtype, kernel.dtype)
    shape = HeadShape(kernel.num_heads, kernel.num_kv_heads, kernel.head_dim)
    return shape, Formats(kernel.dtype, kernel.kv_dtype)
