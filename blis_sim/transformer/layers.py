"""The layers of a model on one GPU of a tensor-parallel group: widths, types and counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from blis_sim.transformer.dtypes import activation_dtype, dtype_bytes, weight_dtype

if TYPE_CHECKING:
    from blis_sim.catalog.model_spec import ModelSpec


class LinearLayer(NamedTuple):
    """A dense layer every token passes through."""

    name: str
    part: str
    """As in ``ModelSpec.weight_groups``; it decides about quantisation."""
    k: int
    """Input width on this GPU."""
    n: int
    """Output width on this GPU."""
    num_layers: int
    """Layers of the model that have it."""


class MovedData(NamedTuple):
    """Memory traffic of an elementwise kernel."""

    name: str
    bytes_per_token: int
    """Bytes read and written."""
    executions: int
    """How often it runs in one step."""


def share(width: int, tp: int) -> int:
    """Return one GPU's share of ``width``, rounded up as engines pad it."""
    return -(-width // tp)


def linear_layers(spec: ModelSpec, tp: int) -> Iterator[LinearLayer]:
    """Yield the dense layers that see every token of a step, in the order of execution.

    Not here: the LM head (sampled rows only), routed experts (grouped GEMMs), and latent
    attention's expansion of keys and values (its rows depend on the context).

    Notes
    -----
    As vLLM shards them (Megatron, arXiv:1909.08053): QKV and gate+up by columns, each pair
    in one GEMM, O and down by rows; KV heads are replicated when there are fewer than GPUs;
    routers and the down-projections of latent attention are on every GPU.
    """
    yield from _attention_layers(spec, tp)
    d, moe = spec.hidden_size, spec.moe
    num_dense = spec.num_layers if moe is None else moe.num_dense_layers
    if num_dense:
        yield from _mlp_layers(spec, "mlp", share(spec.intermediate_size, tp), num_dense)
    if moe is None:
        return
    yield LinearLayer("router", "router", d, moe.num_experts, moe.num_moe_layers)
    if moe.shared_intermediate_size:
        width = share(moe.shared_intermediate_size, tp)
        yield from _mlp_layers(spec, "shared_experts", width, moe.num_moe_layers)


def _mlp_layers(spec: ModelSpec, part: str, width: int, count: int) -> Iterator[LinearLayer]:
    prefix = "" if part == "mlp" else "shared_"
    name, inputs = ("gate_up", 2) if spec.gated_mlp else ("up", 1)
    d = spec.hidden_size
    yield LinearLayer(prefix + name, part, d, inputs * width, count)
    yield LinearLayer(f"{prefix}down", part, width, d, count)


def _attention_layers(spec: ModelSpec, tp: int) -> Iterator[LinearLayer]:
    d, layers, heads = spec.hidden_size, spec.num_layers, spec.num_attention_heads // tp
    mla = spec.mla
    if mla is None:
        width = heads * spec.head_dim
        kv_width = 2 * spec.kv_heads_on_gpu(tp) * spec.head_dim
        yield LinearLayer("qkv", "attention", d, width + kv_width, layers)
        yield LinearLayer("o", "attention", width, d, layers)
        return
    latent = mla.kv_lora_rank + mla.qk_rope_head_dim
    query = heads * (mla.qk_nope_head_dim + mla.qk_rope_head_dim)
    if mla.q_lora_rank is None:
        yield LinearLayer("q", "attention", d, query, layers)
        yield LinearLayer("kv_a", "attention", d, latent, layers)
    else:
        yield LinearLayer("qkv_a", "attention", d, mla.q_lora_rank + latent, layers)
        yield LinearLayer("q_b", "attention", mla.q_lora_rank, query, layers)
    yield LinearLayer("o", "attention", heads * mla.v_head_dim, d, layers)


def moved_data(spec: ModelSpec, tp: int, kv_dtype: str) -> Iterator[MovedData]:
    """Yield the elementwise kernels every token passes through.

    Notes
    -----
    With b bytes per activation, elements per token that are read + written:

    - embedding: d + d
    - norm (RMSNorm fused with the residual, two per layer and the last one): activations and
      residual, both read and written, 4 d
    - rope_and_cache: Q, K and V read; rotated Q written; K and V written to the cache in its
      own type. Latent attention: rotary parts of the queries read and written, latent vector
      with its key read and written to the cache
    - latent_norm: the compressed query and key-value vector, read and written
    - activation: gate and up (or up) read, their product written; for shared experts too.
      Routed experts count theirs in ``kernels.MoeExperts``.
    """
    b, d, layers = dtype_bytes(activation_dtype(spec)), spec.hidden_size, spec.num_layers
    yield MovedData("embedding", 2 * d * b, 1)
    yield MovedData("norm", 4 * d * b, 2 * layers + 1)
    heads, kv_bytes, mla = spec.num_attention_heads // tp, dtype_bytes(kv_dtype), spec.mla
    if mla is None:
        query, kv = heads * spec.head_dim, 2 * spec.kv_heads_on_gpu(tp) * spec.head_dim
    else:
        query, kv = heads * mla.qk_rope_head_dim, mla.kv_lora_rank + mla.qk_rope_head_dim
        compressed = mla.kv_lora_rank + (mla.q_lora_rank or 0)
        yield MovedData("latent_norm", 2 * compressed * b, layers)
    yield MovedData("rope_and_cache", (2 * query + kv) * b + kv * kv_bytes, layers)
    rows = 3 if spec.gated_mlp else 2
    moe = spec.moe
    num_dense = layers if moe is None else moe.num_dense_layers
    if num_dense:
        yield MovedData("activation", rows * share(spec.intermediate_size, tp) * b, num_dense)
    if moe is not None and moe.shared_intermediate_size:
        width = share(moe.shared_intermediate_size, tp)
        yield MovedData("shared_activation", rows * width * b, moe.num_moe_layers)


class WeightFormat(NamedTuple):
    """How the weights of one part are stored."""

    dtype: str
    scale_bits: float


def weight_format(spec: ModelSpec, part: str, *, has_fp8: bool) -> WeightFormat:
    """Return the type of a part's weights and the bits its scales add per weight."""
    dtype = weight_dtype(spec, part, has_fp8=has_fp8)
    is_plain = dtype == activation_dtype(spec)
    return WeightFormat(dtype, 0.0 if is_plain else spec.scale_bits)
