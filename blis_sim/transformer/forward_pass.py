"""One forward pass on one GPU of a tensor-parallel group, as a list of kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from blis_sim.catalog.model_spec import check_tensor_parallel
from blis_sim.errors import ConfigError
from blis_sim.transformer.dtypes import activation_dtype, cache_dtype, dtype_bytes
from blis_sim.transformer.kernels import (
    AllGather,
    AllReduce,
    BatchedGemm,
    DecodeAttention,
    Elementwise,
    Gemm,
    Kernel,
    MlaDecodeAttention,
    MlaPrefillAttention,
    MoeExperts,
    PrefillAttention,
    Truncation,
    TruncationMethod,
)
from blis_sim.transformer.layers import linear_layers, moved_data, share, weight_format

if TYPE_CHECKING:
    from blis_sim.catalog.model_spec import MlaSpec, ModelSpec

_LOGITS_BYTES = 4
_LOGITS_PASSES = 11
"""How often the sampler reads or writes a logit of 32 bits: it widens (1), divides by the
temperature (2), takes the softmax (3), draws noise (1), divides by it (3), takes the best (1)."""


class ForwardPass:
    """The kernels of a model's forward pass, with the shapes one GPU sees.

    One pass computes the prefill and decode tokens of a step together. Its kernels fall into
    parts that depend on different things, so that each can be cached by itself:
    ``token_kernels`` on the number of tokens, ``sampling_kernels`` on the rows that sample,
    ``prefill_attention`` on one chunk, ``decode_attention`` on the decode set. ``kernels``
    puts them together.

    Parameters
    ----------
    spec
        The model.
    tp
        Tensor-parallel degree, >= 1.
    kv_cache_dtype
        ``auto`` (the model's type) or ``fp8``.
    has_fp8
        Whether the GPU multiplies in fp8; without it fp8 weights are widened first.
    truncation
        How the sampler applies the top-k and top-p the model is sampled with by default.

    Attributes
    ----------
    spec, tp, has_fp8, truncation
        As given.
    dtype, kv_dtype
        Types of activations and KV cache.
    attention_windows : tuple of (int or None, int)
        Window in tokens (None = the whole context) and number of layers with it. Layers with
        chunked attention count as sliding: an upper bound, reached at the end of a chunk.

    Raises
    ------
    ConfigError
        When ``tp`` does not split the heads, or ``kv_cache_dtype`` is unknown.

    Notes
    -----
    Widths that ``tp`` does not divide (F, V) are rounded up. Not counted, all below 1 % of a
    step: norms of single heads, biases, softmax and top-k of the router, a shared expert's
    gate, vision towers.
    """

    def __init__(
        self,
        spec: ModelSpec,
        tp: int,
        *,
        kv_cache_dtype: str = "auto",
        has_fp8: bool = True,
        truncation: TruncationMethod = TruncationMethod.NONE,
    ) -> None:
        check_tensor_parallel(spec, tp)
        self.spec = spec
        self.tp = tp
        self.has_fp8 = has_fp8
        self.truncation = truncation
        self.dtype = activation_dtype(spec)
        self.kv_dtype = cache_dtype(spec, kv_cache_dtype)
        self.attention_windows = _attention_windows(spec)
        self._dtype_bytes = dtype_bytes(self.dtype)
        self._num_heads = spec.num_attention_heads // tp
        self._num_kv_heads = spec.kv_heads_on_gpu(tp)
        self._linear = tuple(
            (layer, weight_format(spec, layer.part, has_fp8=has_fp8))
            for layer in linear_layers(spec, tp)
        )
        self._expert_format = weight_format(spec, "experts", has_fp8=has_fp8)
        self._attention_format = weight_format(spec, "attention", has_fp8=has_fp8)
        self._moved = tuple(moved_data(spec, tp, self.kv_dtype))

    def kernels(
        self,
        *,
        prefills: Sequence[tuple[int, int]] = (),
        num_decodes: int = 0,
        sum_decode_context: int = 0,
        num_sampled: int | None = None,
    ) -> tuple[Kernel, ...]:
        """Return all kernels of one step; none for an empty one.

        Parameters
        ----------
        prefills
            (context tokens >= 0, new tokens >= 1) per request.
        num_decodes, sum_decode_context
            Requests that compute one token each, and the sum of their contexts.
        num_sampled
            Rows that go through the LM head; None = one per request, which is what vLLM's
            V1 engine does: the row of an unfinished prompt is computed and thrown away.

        Raises
        ------
        ConfigError
            When a number is out of range.
        """
        _check_step(prefills, num_decodes, sum_decode_context)
        num_requests = num_decodes + len(prefills)
        rows = num_requests if num_sampled is None else num_sampled
        if not 0 <= rows <= num_requests:
            raise ConfigError(
                f"num_sampled must be at most the number of requests = {num_requests}; got {rows}"
            )
        num_tokens = num_decodes + sum(new for _, new in prefills)
        attention: list[Kernel] = []
        for context, new in prefills:
            attention += self.prefill_attention(context, new)
        attention += self.decode_attention(num_decodes, sum_decode_context)
        return (*self.token_kernels(num_tokens), *attention, *self.sampling_kernels(rows))

    def token_kernels(self, num_tokens: int) -> tuple[Kernel, ...]:
        """Return the kernels that depend on the tokens of the step alone.

        GEMMs of attention and MLP, routed experts, elementwise kernels, and with tp > 1 an
        all-reduce of the activations behind attention and MLP of each layer and behind the
        split embedding table. Empty for no tokens.
        """
        if not num_tokens:
            return ()
        kernels: list[Kernel] = [
            Gemm(
                layer.name,
                num_tokens,
                layer.k,
                layer.n,
                weight_dtype=weights.dtype,
                count=layer.num_layers,
                activation_dtype=self.dtype,
                scale_bits=weights.scale_bits,
            )
            for layer, weights in self._linear
        ]
        if self.spec.moe is not None:
            kernels.append(self._experts(num_tokens))
        kernels += (
            Elementwise(moved.name, num_tokens * moved.bytes_per_token, moved.executions)
            for moved in self._moved
        )
        if self.tp > 1:
            message = num_tokens * self.spec.hidden_size * self._dtype_bytes
            kernels.append(AllReduce("allreduce", message, self.tp, 2 * self.spec.num_layers))
            kernels.append(AllReduce("embedding_allreduce", message, self.tp))
        return tuple(kernels)

    def _experts(self, num_tokens: int) -> MoeExperts:
        moe = self.spec.moe
        assert moe is not None
        return MoeExperts(
            "experts",
            num_tokens,
            self.spec.hidden_size,
            share(moe.moe_intermediate_size, self.tp),
            moe.num_experts,
            moe.experts_per_token,
            weight_dtype=self._expert_format.dtype,
            count=moe.num_moe_layers,
            num_matrices=3 if self.spec.gated_mlp else 2,
            activation_dtype=self.dtype,
            scale_bits=self._expert_format.scale_bits,
        )

    def sampling_kernels(self, num_rows: int) -> tuple[Kernel, ...]:
        """Return the LM head and what follows it for the rows that sample; empty for none.

        With tp > 1 the logits are gathered. ``sampling`` draws from the softmax of the logits
        in 32 bits; ``truncation`` masks what top-k and top-p do not keep.
        """
        if not num_rows:
            return ()
        vocab = share(self.spec.vocab_size, self.tp)
        logits = num_rows * vocab * self.tp
        head = Gemm(
            "lm_head",
            num_rows,
            self.spec.hidden_size,
            vocab,
            weight_dtype=self.dtype,
            activation_dtype=self.dtype,
        )
        kernels: list[Kernel] = [head]
        if self.tp > 1:
            kernels.append(AllGather("logits", logits * self._dtype_bytes, self.tp))
        passes_bytes = _LOGITS_PASSES * _LOGITS_BYTES
        kernels.append(Elementwise("sampling", logits * (self._dtype_bytes + passes_bytes)))
        if self.truncation is not TruncationMethod.NONE:
            has_top_k = self.spec.default_top_k > 0
            vocab = self.spec.vocab_size
            kernels.append(Truncation("truncation", num_rows, vocab, self.truncation, has_top_k))
        return tuple(kernels)

    def prefill_attention(self, context_tokens: int, new_tokens: int) -> tuple[Kernel, ...]:
        """Return the attention of one chunk: a kernel per kind of layer.

        With latent attention also the GEMM that expands the keys and values of context and
        new tokens.

        Parameters
        ----------
        context_tokens
            Tokens already computed, >= 0.
        new_tokens
            Tokens computed in the step; 0 gives no kernels.
        """
        if not new_tokens:
            return ()
        if self.spec.mla is not None:
            return self._mla_prefill(self.spec.mla, context_tokens, new_tokens)
        return tuple(
            PrefillAttention(
                "prefill_attention" if window is None else "prefill_attention_window",
                self._num_heads,
                self._num_kv_heads,
                self.spec.head_dim,
                context_tokens,
                new_tokens,
                window=window,
                count=count,
                dtype=self.dtype,
                kv_dtype=self.kv_dtype,
            )
            for window, count in self.attention_windows
        )

    def decode_attention(self, num_decodes: int, sum_context: int) -> tuple[Kernel, ...]:
        """Return the attention of the decode set: a kernel per kind of layer.

        With latent attention also the products that take the queries into the latent space
        and the result out of it.

        Parameters
        ----------
        num_decodes
            Requests; 0 gives no kernels.
        sum_context
            Sum over them of the tokens computed before the step, >= 0.
        """
        if not num_decodes:
            return ()
        if self.spec.mla is not None:
            return self._mla_decode(self.spec.mla, num_decodes, sum_context)
        return tuple(
            DecodeAttention(
                "decode_attention" if window is None else "decode_attention_window",
                self._num_heads,
                self._num_kv_heads,
                self.spec.head_dim,
                num_decodes,
                sum_context,
                window=window,
                count=count,
                dtype=self.dtype,
                kv_dtype=self.kv_dtype,
            )
            for window, count in self.attention_windows
        )

    def _mla_prefill(
        self, mla: MlaSpec, context_tokens: int, new_tokens: int
    ) -> tuple[Kernel, ...]:
        weights, layers, heads = self._attention_format, self.spec.num_layers, self._num_heads
        expand = Gemm(
            "kv_b",
            context_tokens + new_tokens,
            mla.kv_lora_rank,
            heads * (mla.qk_nope_head_dim + mla.v_head_dim),
            weight_dtype=weights.dtype,
            count=layers,
            activation_dtype=self.dtype,
            scale_bits=weights.scale_bits,
        )
        attention = MlaPrefillAttention(
            "prefill_attention",
            heads,
            mla.qk_nope_head_dim + mla.qk_rope_head_dim,
            mla.v_head_dim,
            context_tokens,
            new_tokens,
            count=layers,
            dtype=self.dtype,
        )
        return (expand, attention)

    def _mla_decode(self, mla: MlaSpec, num_decodes: int, sum_context: int) -> tuple[Kernel, ...]:
        # The absorbed matrices are the two halves of kv_b, kept in the model's type.
        layers, heads, rank = self.spec.num_layers, self._num_heads, mla.kv_lora_rank
        absorb_q = BatchedGemm(
            "absorb_q", heads, num_decodes, mla.qk_nope_head_dim, rank, self.dtype, layers
        )
        attention = MlaDecodeAttention(
            "decode_attention",
            heads,
            rank,
            mla.qk_rope_head_dim,
            num_decodes,
            sum_context,
            count=layers,
            dtype=self.dtype,
            kv_dtype=self.kv_dtype,
        )
        absorb_v = BatchedGemm(
            "absorb_v", heads, num_decodes, rank, mla.v_head_dim, self.dtype, layers
        )
        return (absorb_q, attention, absorb_v)


def _attention_windows(spec: ModelSpec) -> tuple[tuple[int | None, int], ...]:
    """Return (window, number of layers with it) for each kind of layer the model has."""
    if spec.sliding_window is None:
        return ((None, spec.num_layers),)
    full = spec.num_full_attention_layers
    kinds = ((None, full), (spec.sliding_window, spec.num_layers - full))
    return tuple((window, count) for window, count in kinds if count)


def _check_step(
    prefills: Sequence[tuple[int, int]], num_decodes: int, sum_decode_context: int
) -> None:
    for context, new in prefills:
        if context < 0 or new < 1:
            raise ConfigError(
                "a prefill must have a context of >= 0 tokens and >= 1 new token; got "
                f"context {context}, new {new}"
            )
    if num_decodes < 0 or sum_decode_context < 0:
        raise ConfigError(
            "a decode set must have >= 0 requests and a sum of contexts of >= 0 tokens; got "
            f"{num_decodes} requests, sum {sum_decode_context}"
        )
    if sum_decode_context and not num_decodes:
        raise ConfigError(
            "the sum of decode contexts must be 0 tokens without decodes; got "
            f"{sum_decode_context}"
        )
