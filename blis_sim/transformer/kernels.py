"""The kernels a forward pass is made of, each with its FLOPs and bytes.

A kernel is described by its shape on **one GPU** (after tensor-parallel sharding) and by how
often it runs in a step (``count``, usually the number of layers). ``flops`` and ``bytes`` are
those of one execution. Bytes are the least that must cross the memory bus when every operand
is read once and every result written once; caches do not lower them, re-reading raises them
in reality. That makes ``max(flops / peak, bytes / bandwidth)`` the roofline bound (Williams et
al., CACM 52(4), 2009).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from blis_sim.transformer.attention import (
    DecodeAttention,
    MlaDecodeAttention,
    MlaPrefillAttention,
    PrefillAttention,
)
from blis_sim.transformer.dtypes import compute_dtype, dtype_bits, dtype_bytes

__all__ = [
    "AllGather",
    "AllReduce",
    "BatchedGemm",
    "DecodeAttention",
    "Elementwise",
    "Gemm",
    "Kernel",
    "MlaDecodeAttention",
    "MlaPrefillAttention",
    "MoeExperts",
    "PrefillAttention",
    "Truncation",
    "TruncationMethod",
    "arithmetic_intensity",
    "expected_experts",
    "total_bytes",
    "total_flops",
]


class Kernel(Protocol):
    """What every kernel tells about itself."""

    @property
    def name(self) -> str:
        """What it computes in the model (``qkv``, ``down``, ...)."""

    @property
    def count(self) -> int:
        """Executions in one step, >= 1."""

    @property
    def flops(self) -> int:
        """Floating-point (or integer) operations of one execution; a multiply-add is two."""

    @property
    def bytes(self) -> float:
        """Bytes one execution moves."""


def total_flops(kernels: Iterable[Kernel]) -> int:
    """Return the FLOPs of all executions of all kernels."""
    return sum(kernel.count * kernel.flops for kernel in kernels)


def total_bytes(kernels: Iterable[Kernel]) -> float:
    """Return the bytes of all executions of all kernels."""
    return sum(kernel.count * kernel.bytes for kernel in kernels)


def arithmetic_intensity(kernel: Kernel) -> float | None:
    """Return FLOPs per byte; None for a kernel that moves nothing."""
    return kernel.flops / kernel.bytes if kernel.bytes else None


def expected_experts(num_experts: int, top_k: int, num_tokens: int) -> float:
    """Return how many distinct experts ``num_tokens`` tokens touch, on average.

    ``E (1 - (1 - k/E)^M)``: a token leaves a given expert out with probability ``1 - k/E``,
    tokens choose independently and uniformly. Routing in real models is skewed, so they touch
    somewhat fewer.
    """
    return num_experts * (1.0 - (1.0 - top_k / num_experts) ** num_tokens)


@dataclass(frozen=True, slots=True)
class Gemm:
    """A dense layer: activations (m x k) times weights (k x n).

    Attributes
    ----------
    name
        What it computes in the model.
    m
        Rows: the tokens.
    k, n
        Input and output width on this GPU.
    weight_dtype
        Type the weights are stored in, see ``dtypes.dtype_bits``.
    count
        Executions in one step.
    activation_dtype
        Type of the result, and of the input unless the product is computed in 8 bits.
    scale_bits
        Bits per weight that quantisation scales add.
    """

    name: str
    m: int
    k: int
    n: int
    weight_dtype: str = "bf16"
    count: int = 1
    activation_dtype: str = "bf16"
    scale_bits: float = 0.0

    @property
    def compute_dtype(self) -> str:
        """Type the product is computed in."""
        return compute_dtype(self.weight_dtype, self.activation_dtype)

    @property
    def num_weights(self) -> int:
        """Weights of one execution."""
        return self.k * self.n

    @property
    def weight_bytes(self) -> float:
        """Bytes of the weights with their scales."""
        return self.num_weights * (dtype_bits(self.weight_dtype) + self.scale_bits) / 8

    @property
    def flops(self) -> int:
        """``2 m n k``."""
        return 2 * self.m * self.n * self.k

    @property
    def bytes_read(self) -> float:
        """The weights, and the input in the type it is multiplied in."""
        return self.weight_bytes + self.m * self.k * dtype_bytes(self.compute_dtype)

    @property
    def bytes_written(self) -> float:
        """The result."""
        return self.m * self.n * dtype_bytes(self.activation_dtype)

    @property
    def bytes(self) -> float:
        """Bytes one execution moves."""
        return self.bytes_read + self.bytes_written


@dataclass(frozen=True, slots=True)
class BatchedGemm:
    """Independent products of equal shape, one per head: batch x (m x k times k x n).

    Attributes
    ----------
    name, count
        As in ``Gemm``.
    batch
        Products: the heads on this GPU.
    m, k, n
        Shape of each.
    dtype
        Type of both operands and of the result.
    """

    name: str
    batch: int
    m: int
    k: int
    n: int
    dtype: str = "bf16"
    count: int = 1

    @property
    def num_weights(self) -> int:
        """Weights of one execution."""
        return self.batch * self.k * self.n

    @property
    def compute_dtype(self) -> str:
        """Type the product is computed in."""
        return self.dtype

    @property
    def flops(self) -> int:
        """``2 batch m n k``."""
        return 2 * self.batch * self.m * self.n * self.k

    @property
    def bytes_read(self) -> float:
        """Both operands."""
        return self.batch * self.k * (self.m + self.n) * dtype_bytes(self.dtype)

    @property
    def bytes_written(self) -> float:
        """The result."""
        return self.batch * self.m * self.n * dtype_bytes(self.dtype)

    @property
    def bytes(self) -> float:
        """Bytes one execution moves."""
        return self.bytes_read + self.bytes_written


@dataclass(frozen=True, slots=True)
class MoeExperts:
    """The routed experts of one layer: both grouped GEMMs, the activation and the sum.

    Attributes
    ----------
    name, weight_dtype, count, activation_dtype, scale_bits
        As in ``Gemm``.
    num_tokens
        Tokens, each sent to ``top_k`` experts.
    hidden, width
        d, and the width of an expert on this GPU.
    num_experts, top_k
        Routed experts (all of them are on every GPU, each with its share of the width) and
        how many a token uses.
    num_matrices
        3 with a gate, else 2.
    """

    name: str
    num_tokens: int
    hidden: int
    width: int
    num_experts: int
    top_k: int
    weight_dtype: str = "bf16"
    count: int = 1
    num_matrices: int = 3
    activation_dtype: str = "bf16"
    scale_bits: float = 0.0

    @property
    def compute_dtype(self) -> str:
        """Type the products are computed in."""
        return compute_dtype(self.weight_dtype, self.activation_dtype)

    @property
    def weights_per_expert(self) -> int:
        """Weights of one expert on this GPU."""
        return self.num_matrices * self.hidden * self.width

    @property
    def experts_touched(self) -> float:
        """Distinct experts in use, on average."""
        return expected_experts(self.num_experts, self.top_k, self.num_tokens)

    @property
    def weight_bytes(self) -> float:
        """Bytes of the weights of the experts in use, with their scales."""
        bits = dtype_bits(self.weight_dtype) + self.scale_bits
        return self.experts_touched * self.weights_per_expert * bits / 8

    @property
    def flops(self) -> int:
        """``2 * weights of an expert`` for each token and each of its experts."""
        return 2 * self.weights_per_expert * self.num_tokens * self.top_k

    @property
    def bytes_read(self) -> float:
        """The weights of the experts in use and the activations.

        For each of ``tokens * k`` rows: the gathered input (d), the result of the first
        product (g F, with g = 2 when gated), the activated row (F), and the output (d) when
        the rows of a token are summed.
        """
        row = 2 * self.hidden + self.num_matrices * self.width
        rows = self.num_tokens * self.top_k
        return self.weight_bytes + rows * row * dtype_bytes(self.activation_dtype)

    @property
    def bytes_written(self) -> float:
        """The rows of ``bytes_read`` that are intermediate, and the sum (d per token)."""
        row = self.hidden + self.num_matrices * self.width
        elements = self.num_tokens * (self.top_k * row + self.hidden)
        return elements * dtype_bytes(self.activation_dtype)

    @property
    def bytes(self) -> float:
        """Bytes one execution moves."""
        return self.bytes_read + self.bytes_written


@dataclass(frozen=True, slots=True)
class Elementwise:
    """A kernel that only moves data: norms, rotary embedding, activation, lookup.

    Attributes
    ----------
    name, count
        As in ``Gemm``.
    bytes
        Bytes read and written by one execution.
    """

    name: str
    bytes: int
    count: int = 1

    @property
    def flops(self) -> int:
        """0: a few operations per element, far below any roof."""
        return 0


@dataclass(frozen=True, slots=True)
class AllReduce:
    """A sum over the GPUs of the tensor-parallel group, the result on each of them.

    Attributes
    ----------
    name, count
        As in ``Gemm``.
    bytes
        Size of the message: the buffer that is summed, whole on every GPU.
    tp
        GPUs that take part, >= 2.
    """

    name: str
    bytes: int
    tp: int
    count: int = 1

    @property
    def flops(self) -> int:
        """0: additions on the way are not counted."""
        return 0


@dataclass(frozen=True, slots=True)
class AllGather:
    """Shares of a buffer collected on every GPU of the tensor-parallel group.

    Attributes
    ----------
    name, count
        As in ``Gemm``.
    bytes
        Size of the whole buffer after gathering; each GPU contributes ``bytes / tp``.
    tp
        GPUs that take part, >= 2.
    """

    name: str
    bytes: int
    tp: int
    count: int = 1

    @property
    def flops(self) -> int:
        """0: nothing is computed."""
        return 0


class TruncationMethod(StrEnum):
    """How a sampler finds the tokens that top-k and top-p keep."""

    NONE = "none"
    """Not at all, or inside the kernel that draws the token."""
    SORT = "sort"
    """It sorts whole rows of logits."""
    SEARCH = "search"
    """It searches the least logit that is kept, one row on one SM."""


@dataclass(frozen=True, slots=True)
class Truncation:
    """The logits that top-k and top-p do not keep are masked.

    Attributes
    ----------
    name, count
        As in ``Gemm``.
    rows
        Requests, >= 1.
    vocab
        Logits of a row.
    method
        Not ``NONE``.
    has_top_k
        Whether a top-k narrows the search for top-p.
    """

    name: str
    rows: int
    vocab: int
    method: TruncationMethod
    has_top_k: bool
    count: int = 1

    @property
    def flops(self) -> int:
        """0: comparisons are not counted."""
        return 0

    @property
    def bytes(self) -> int:
        """Each logit, of 4 bytes, read and written once."""
        return self.rows * self.vocab * 2 * 4
