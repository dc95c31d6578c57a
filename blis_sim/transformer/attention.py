"""Attention kernels: prefill of one request, decode of a set; grouped-query and latent.

FLOPs count the two products per head (queries with keys, probabilities with values); the
softmax between them is left out. Keys, values, queries and results move once, as in
FlashAttention (Dao et al., arXiv:2205.14135): scores never reach memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from blis_sim.transformer.dtypes import dtype_bytes


def _twice_attended(tokens: int, window: int | None) -> int:
    """Return twice the area under ``min(position, window)`` from 0 to ``tokens``."""
    if window is None or tokens <= window:
        return tokens * tokens
    return window * (2 * tokens - window)


def twice_causal_pairs(context_tokens: int, new_tokens: int, window: int | None) -> int:
    """Return twice the (query, key) pairs of a causal prefill.

    With n new tokens on a context of s: ``n (2 s + n)``, so without context n^2 / 2 pairs:
    half the square, the convention of measured tables (the exact sum has n / 2 more). With
    a window of w a query meets at most w keys.
    """
    end = context_tokens + new_tokens
    return _twice_attended(end, window) - _twice_attended(context_tokens, window)


def _cached_tokens_read(context_tokens: int, new_tokens: int, window: int | None) -> int:
    context = context_tokens if window is None else min(context_tokens, window)
    return context + new_tokens


def _decode_tokens(batch: int, sum_context: int, window: int | None) -> int:
    """Return the cached tokens a decode set attends to; each request also to its new one.

    With a window the sum over requests is bounded by ``batch * window``: exact when all
    contexts are shorter or all are longer than the window, else an upper bound.
    """
    tokens = sum_context + batch
    return tokens if window is None else min(tokens, batch * window)


@dataclass(frozen=True, slots=True)
class PrefillAttention:
    """Causal attention of the new tokens of one request.

    Attributes
    ----------
    name, count
        As in ``kernels.Gemm``.
    num_heads, num_kv_heads, head_dim
        Heads on this GPU and their width.
    context_tokens, new_tokens
        Tokens already in the cache, >= 0, and computed now, >= 1.
    window
        Sliding window in tokens; None = everything is attended to.
    dtype, kv_dtype
        Type of queries and results, and of the cache.
    """

    name: str
    num_heads: int
    num_kv_heads: int
    head_dim: int
    context_tokens: int
    new_tokens: int
    window: int | None = None
    count: int = 1
    dtype: str = "bf16"
    kv_dtype: str = "bf16"

    @property
    def compute_dtype(self) -> str:
        """Type the products are computed in."""
        return self.dtype

    @property
    def kv_tokens(self) -> int:
        """Cached tokens that are read, the new ones included."""
        return _cached_tokens_read(self.context_tokens, self.new_tokens, self.window)

    @property
    def flops(self) -> int:
        """``4 H h`` per (query, key) pair, see ``twice_causal_pairs``."""
        pairs = twice_causal_pairs(self.context_tokens, self.new_tokens, self.window)
        return 2 * self.num_heads * self.head_dim * pairs

    @property
    def bytes_read(self) -> int:
        """Queries, and keys and values of the tokens attended to."""
        kv = 2 * self.kv_tokens * self.num_kv_heads * dtype_bytes(self.kv_dtype)
        return self.head_dim * (self.new_tokens * self.num_heads * dtype_bytes(self.dtype) + kv)

    @property
    def bytes_written(self) -> int:
        """The result."""
        return self.new_tokens * self.num_heads * self.head_dim * dtype_bytes(self.dtype)

    @property
    def bytes(self) -> int:
        """Bytes one execution moves."""
        return self.bytes_read + self.bytes_written


@dataclass(frozen=True, slots=True)
class DecodeAttention:
    """Attention of one new token of each request of a decode set.

    Attributes
    ----------
    name, count, num_heads, num_kv_heads, head_dim, window, dtype, kv_dtype
        As in ``PrefillAttention``.
    batch
        Requests, >= 1.
    sum_context
        Sum over them of the tokens in the cache before the step; each attends to its new
        token too.
    """

    name: str
    num_heads: int
    num_kv_heads: int
    head_dim: int
    batch: int
    sum_context: int
    window: int | None = None
    count: int = 1
    dtype: str = "bf16"
    kv_dtype: str = "bf16"

    @property
    def compute_dtype(self) -> str:
        """Type the products are computed in."""
        return self.dtype

    @property
    def kv_tokens(self) -> int:
        """Cached tokens attended to, over all requests, the new ones included."""
        return _decode_tokens(self.batch, self.sum_context, self.window)

    @property
    def flops_per_kv_token(self) -> int:
        """FLOPs each attended token adds: ``4 H h``."""
        return 4 * self.num_heads * self.head_dim

    @property
    def bytes_per_kv_token(self) -> int:
        """Bytes each attended token adds: its key and value, ``2 K h b``."""
        return 2 * self.num_kv_heads * self.head_dim * dtype_bytes(self.kv_dtype)

    @property
    def flops(self) -> int:
        """``4 H h`` per attended token."""
        return self.flops_per_kv_token * self.kv_tokens

    @property
    def bytes_read(self) -> int:
        """Queries, and keys and values of the tokens attended to."""
        return self.bytes_written + self.bytes_per_kv_token * self.kv_tokens

    @property
    def bytes_written(self) -> int:
        """The result: one row per request, as wide as the queries."""
        return self.batch * self.num_heads * self.head_dim * dtype_bytes(self.dtype)

    @property
    def bytes(self) -> int:
        """Bytes one execution moves."""
        return self.bytes_read + self.bytes_written


@dataclass(frozen=True, slots=True)
class MlaPrefillAttention:
    """Causal attention of one request with latent attention, its heads expanded.

    Keys and values are rebuilt from the latent vectors before (a GEMM of its own), so this
    is plain multi-head attention whose keys and values differ in width (DeepSeek-V2,
    arXiv:2405.04434, section 2.1).

    Attributes
    ----------
    name, count, num_heads, context_tokens, new_tokens, dtype
        As in ``PrefillAttention``.
    qk_head_dim, v_head_dim
        Width of a query or key (rotary part included) and of a value.
    """

    name: str
    num_heads: int
    qk_head_dim: int
    v_head_dim: int
    context_tokens: int
    new_tokens: int
    count: int = 1
    dtype: str = "bf16"

    @property
    def compute_dtype(self) -> str:
        """Type the products are computed in."""
        return self.dtype

    @property
    def kv_tokens(self) -> int:
        """Tokens attended to, the new ones included."""
        return self.context_tokens + self.new_tokens

    @property
    def flops(self) -> int:
        """``2 H (qk + v)`` per (query, key) pair, see ``twice_causal_pairs``."""
        pairs = twice_causal_pairs(self.context_tokens, self.new_tokens, None)
        return self.num_heads * (self.qk_head_dim + self.v_head_dim) * pairs

    @property
    def bytes_read(self) -> int:
        """Queries, and expanded keys and values of all tokens attended to."""
        kv = self.kv_tokens * (self.qk_head_dim + self.v_head_dim)
        queries = self.new_tokens * self.qk_head_dim
        return self.num_heads * (queries + kv) * dtype_bytes(self.dtype)

    @property
    def bytes_written(self) -> int:
        """The result."""
        return self.new_tokens * self.num_heads * self.v_head_dim * dtype_bytes(self.dtype)

    @property
    def bytes(self) -> int:
        """Bytes one execution moves."""
        return self.bytes_read + self.bytes_written


@dataclass(frozen=True, slots=True)
class MlaDecodeAttention:
    """Attention of a decode set over cached latent vectors, the expansion absorbed.

    All heads share one key of ``kv_lora_rank + rope`` elements per token, whose first
    ``kv_lora_rank`` are the value as well: multi-query attention (DeepSeek-V2,
    arXiv:2405.04434, section 2.1.2 and appendix C).

    Attributes
    ----------
    name, count, num_heads, batch, sum_context, dtype, kv_dtype
        As in ``DecodeAttention``.
    kv_lora_rank, qk_rope_head_dim
        Width of the latent vector and of the rotary key.
    """

    name: str
    num_heads: int
    kv_lora_rank: int
    qk_rope_head_dim: int
    batch: int
    sum_context: int
    count: int = 1
    dtype: str = "bf16"
    kv_dtype: str = "bf16"

    @property
    def compute_dtype(self) -> str:
        """Type the products are computed in."""
        return self.dtype

    @property
    def latent_dim(self) -> int:
        """Elements of a cached token."""
        return self.kv_lora_rank + self.qk_rope_head_dim

    @property
    def kv_tokens(self) -> int:
        """Cached tokens attended to, over all requests, the new ones included."""
        return _decode_tokens(self.batch, self.sum_context, None)

    @property
    def flops_per_kv_token(self) -> int:
        """FLOPs each attended token adds: ``2 H (latent + rope) + 2 H latent``."""
        return 2 * self.num_heads * (self.latent_dim + self.kv_lora_rank)

    @property
    def bytes_per_kv_token(self) -> int:
        """Bytes each attended token adds: its latent vector, read once for all heads."""
        return self.latent_dim * dtype_bytes(self.kv_dtype)

    @property
    def flops(self) -> int:
        """``flops_per_kv_token`` per attended token."""
        return self.flops_per_kv_token * self.kv_tokens

    @property
    def bytes_read(self) -> int:
        """Absorbed queries and the latent vectors of the tokens attended to."""
        queries = self.batch * self.num_heads * self.latent_dim * dtype_bytes(self.dtype)
        return queries + self.bytes_per_kv_token * self.kv_tokens

    @property
    def bytes_written(self) -> int:
        """The result, one latent vector per head and request."""
        return self.batch * self.num_heads * self.kv_lora_rank * dtype_bytes(self.dtype)

    @property
    def bytes(self) -> int:
        """Bytes one execution moves."""
        return self.bytes_read + self.bytes_written
