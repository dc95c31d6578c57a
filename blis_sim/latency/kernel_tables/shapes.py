"""Shapes of the kernels on one GPU, and the bounds that follow from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from blis_sim.latency.kernel_tables.precision import (
    BYTES_PER_US,
    normalised_dtype,
    peak_flops_per_us,
)
from blis_sim.latency.kernel_tables.roofs import CausalRoof, ExpertsRoof, LinearRoof
from blis_sim.transformer.dtypes import compute_dtype, dtype_bits, dtype_bytes

if TYPE_CHECKING:
    from blis_sim.catalog.gpus import GpuSpec


class Formats(NamedTuple):
    """Number formats of an attention kernel."""

    dtype: str = "bf16"
    """Of queries, results and products."""
    kv_dtype: str = "bf16"
    """Of the cached keys and values."""


class AttentionCost(NamedTuple):
    """What attention costs per (query, key) pair and per token."""

    flops_per_pair: int
    kv_bytes: int
    """Of one key-value token."""
    query_bytes: int
    """Of one query token with its result."""


class AttentionShape(Protocol):
    """Heads of an attention kernel on one GPU."""

    @property
    def key(self) -> tuple[int, ...]:
        """The numbers in the name of its folder."""

    def cost(self, formats: Formats) -> AttentionCost:
        """Return what a pair and a token cost."""


class HeadShape(NamedTuple):
    """Grouped-query attention.

    Attributes
    ----------
    num_heads, num_kv_heads, head_dim : int
        On one GPU, >= 1.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int

    @property
    def key(self) -> tuple[int, ...]:
        """``<H>-<K>-<h>``."""
        return tuple(self)

    def cost(self, formats: Formats) -> AttentionCost:
        """Return ``4 H h`` FLOPs; ``2 K h`` keys and values; ``2 H h`` queries and results."""
        width = self.num_heads * self.head_dim
        return AttentionCost(
            4 * width,
            2 * self.num_kv_heads * self.head_dim * dtype_bytes(formats.kv_dtype),
            2 * width * dtype_bytes(formats.dtype),
        )


class LatentShape(NamedTuple):
    """Decode over cached latent vectors (DeepSeek-V2, arXiv:2405.04434, section 2.1.2).

    Attributes
    ----------
    num_heads, kv_lora_rank, qk_rope_head_dim : int
        Heads on one GPU, width of the latent vector and of the rotary key.
    """

    num_heads: int
    kv_lora_rank: int
    qk_rope_head_dim: int

    @property
    def key(self) -> tuple[int, ...]:
        """``<H>-<kv_lora_rank>-<rope>``."""
        return tuple(self)

    def cost(self, formats: Formats) -> AttentionCost:
        """Return the costs with the expansion absorbed: one key for all heads."""
        latent = self.kv_lora_rank + self.qk_rope_head_dim
        width = latent + self.kv_lora_rank
        return AttentionCost(
            2 * self.num_heads * width,
            latent * dtype_bytes(formats.kv_dtype),
            self.num_heads * width * dtype_bytes(formats.dtype),
        )


class ExpandedShape(NamedTuple):
    """Prefill of latent attention, keys and values expanded per head.

    Attributes
    ----------
    num_heads, qk_head_dim, v_head_dim : int
        Heads on one GPU, width of a query or key (rotary part included) and of a value.
    """

    num_heads: int
    qk_head_dim: int
    v_head_dim: int

    @property
    def key(self) -> tuple[int, ...]:
        """``<H>-<qk>-<v>``."""
        return tuple(self)

    def cost(self, formats: Formats) -> AttentionCost:
        """Return the costs; expanded keys and values have the type of the queries."""
        width = self.num_heads * (self.qk_head_dim + self.v_head_dim)
        moved = width * dtype_bytes(formats.dtype)
        return AttentionCost(2 * width, moved, moved)


class ExpertsShape(NamedTuple):
    """Routed experts of a layer.

    Attributes
    ----------
    num_experts, top_k, hidden, width : int
        Experts in all, experts of a token, d, and the width of an expert on this GPU.
    expert_parallel : int
        GPUs the experts are divided among, each with ``num_experts / expert_parallel``.
    """

    num_experts: int
    top_k: int
    hidden: int
    width: int
    expert_parallel: int = 1

    @property
    def key(self) -> tuple[int, ...]:
        """The numbers in the name of its folder."""
        return tuple(self)


class WeightFormat(NamedTuple):
    """How the weights of a layer are stored, and what they meet."""

    dtype: str = "bf16"
    scale_bits: float = 0.0
    """Bits per weight that scales add."""
    activation_dtype: str = "bf16"


def decode_roof(gpu: GpuSpec, shape: AttentionShape, formats: Formats) -> LinearRoof:
    """Return the bound of decode attention of one request as a function of its context."""
    cost = shape.cost(formats)
    bytes_per_us = gpu.hbm_gb_per_s * BYTES_PER_US
    return LinearRoof(
        cost.flops_per_pair / peak_flops_per_us(gpu, formats.dtype),
        cost.query_bytes / bytes_per_us,
        cost.kv_bytes / bytes_per_us,
    )


def causal_roof(gpu: GpuSpec, shape: AttentionShape, formats: Formats) -> CausalRoof:
    """Return the bound of full causal attention as a function of its area ``s**2``."""
    cost = shape.cost(formats)
    return CausalRoof(
        cost.flops_per_pair / 2 / peak_flops_per_us(gpu, formats.dtype),
        (cost.query_bytes + cost.kv_bytes) / (gpu.hbm_gb_per_s * BYTES_PER_US),
    )


def experts_roof(
    gpu: GpuSpec, shape: ExpertsShape, weights: WeightFormat, num_matrices: int
) -> ExpertsRoof:
    """Return the bound of the routed experts of a layer as a function of the tokens.

    ``num_matrices`` is 3 with a gate, else 2. Bytes as in
    ``blis_sim.transformer.kernels.MoeExperts``; with expert parallelism every GPU has its
    share of the experts and, routing being even, of the rows.
    """
    dtype = normalised_dtype(weights.dtype)
    computed_in = compute_dtype(dtype, weights.activation_dtype)
    per_expert = num_matrices * shape.hidden * shape.width
    rows = shape.top_k / shape.expert_parallel
    element = dtype_bytes(weights.activation_dtype)
    token_bytes = (
        rows * (3 * shape.hidden + 2 * num_matrices * shape.width) + shape.hidden
    ) * element
    bytes_per_us = gpu.hbm_gb_per_s * BYTES_PER_US
    return ExpertsRoof(
        2 * per_expert * rows / peak_flops_per_us(gpu, computed_in),
        token_bytes / bytes_per_us,
        per_expert * (dtype_bits(dtype) + weights.scale_bits) / 8 / bytes_per_us,
        shape.num_experts,
        shape.top_k,
        shape.num_experts / shape.expert_parallel,
    )


def gemm_roof(
    gpu: GpuSpec, k: int, n: int, weights: WeightFormat, num_products: int = 1
) -> LinearRoof:
    """Return the bound of a (m x k) times (k x n) product as a function of m.

    ``num_products`` > 1: that many independent products in one kernel.
    """
    dtype = normalised_dtype(weights.dtype)
    computed_in = compute_dtype(dtype, weights.activation_dtype)
    bytes_per_us = gpu.hbm_gb_per_s * BYTES_PER_US / num_products
    row_bytes = k * dtype_bytes(computed_in) + n * dtype_bytes(weights.activation_dtype)
    return LinearRoof(
        num_products * 2 * k * n / peak_flops_per_us(gpu, computed_in),
        k * n * (dtype_bits(dtype) + weights.scale_bits) / 8 / bytes_per_us,
        row_bytes / bytes_per_us,
    )
