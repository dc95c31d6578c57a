"""What a model is made of: shapes, parameters, weight and KV cache bytes on one GPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from blis_sim.catalog.quantization import LINEAR_PARTS, known_methods
from blis_sim.errors import ConfigError, unknown_name


def dtype_sizes() -> dict[str, int]:
    """Return the bytes of one element of each dtype a model can run in."""
    return {"bfloat16": 2, "float16": 2, "float32": 4}


@dataclass(frozen=True, slots=True)
class MoeSpec:
    """A mixture of experts.

    Attributes
    ----------
    num_experts
        Routed experts per MoE layer.
    experts_per_token
        Routed experts one token passes through.
    moe_intermediate_size
        Width of one routed expert.
    shared_intermediate_size
        Total width of the shared experts; 0 = none.
    num_moe_layers, num_dense_layers
        Layers with experts and with a plain MLP; together all layers.
    """

    num_experts: int
    experts_per_token: int
    moe_intermediate_size: int
    shared_intermediate_size: int
    num_moe_layers: int
    num_dense_layers: int


@dataclass(frozen=True, slots=True)
class MlaSpec:
    """Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1).

    Attributes
    ----------
    kv_lora_rank
        Width of the compressed key-value vector.
    qk_rope_head_dim
        Width of the rotary key all heads share.
    qk_nope_head_dim, v_head_dim
        Widths of a head's key without rotation and of its value.
    q_lora_rank
        Width of the compressed query; None = queries are not compressed.
    """

    kv_lora_rank: int
    qk_rope_head_dim: int
    qk_nope_head_dim: int
    v_head_dim: int
    q_lora_rank: int | None = None


class WeightGroup(NamedTuple):
    """Parameters of one kind on one GPU, over all layers."""

    part: str
    """One of ``LINEAR_PARTS``, or router, embedding, norm or vision."""
    num_parameters: int


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model as the simulator sees it.

    Attributes
    ----------
    name
        Canonical name.
    num_layers, hidden_size, num_attention_heads, num_kv_heads, vocab_size
        L, d, H, K and V.
    head_dim
        h: the config's own value, else d / H; with MLA the width of a query head.
    intermediate_size
        F: width of a plain MLP layer (of an expert where the config has no other).
    max_position_embeddings
        Longest sequence in tokens, rope scaling applied.
    dtype
        Type of activations, KV cache and unquantised weights.
    weight_bits, quantization, scale_bits, quantized_parts
        Bits of a weight of the quantised linear layers; the method or None; bits per weight
        added by scales; which of ``LINEAR_PARTS`` are quantised.
    tie_word_embeddings
        Whether the LM head is the embedding table.
    gated_mlp
        Whether the MLP has three matrices (gate, up, down) or two.
    qkv_bias
        Whether the QKV projection has a bias.
    sliding_window
        Window (or chunk) in tokens of the layers that do not attend to everything; None =
        all layers do.
    num_full_attention_layers
        Layers that attend to the whole context.
    moe, mla
        Mixture of experts and latent attention; None = absent.
    num_vision_parameters
        Parameters of the vision tower as far as the config describes it (projectors, about
        0.1 % of the model, are left out); 0 = text only.
    default_top_k, default_top_p, default_repetition_penalty
        How the checkpoint's ``generation_config.json`` wants it sampled; 0, 1 and 1 = from all
        tokens, as they are.
    """

    name: str
    num_layers: int
    hidden_size: int
    num_attention_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    dtype: str = "bfloat16"
    weight_bits: int = 16
    quantization: str | None = None
    scale_bits: float = 0.0
    quantized_parts: tuple[str, ...] = LINEAR_PARTS
    tie_word_embeddings: bool = False
    gated_mlp: bool = True
    qkv_bias: bool = False
    sliding_window: int | None = None
    num_full_attention_layers: int = 0
    moe: MoeSpec | None = None
    mla: MlaSpec | None = None
    num_vision_parameters: int = 0
    default_top_k: int = 0
    default_top_p: float = 1.0
    default_repetition_penalty: float = 1.0

    @property
    def dtype_bytes(self) -> int:
        """Bytes of one element of ``dtype``."""
        return dtype_sizes()[self.dtype]

    @property
    def bytes_per_weight(self) -> float:
        """Bytes of one weight of the (quantised) linear layers, scales not counted."""
        return self.weight_bits / 8

    @property
    def num_parameters(self) -> int:
        """All parameters: embeddings included, multi-token-prediction layers not.

        Norms count two per layer and one at the end; biases other than those of QKV and the
        norms of single heads (below 0.1 %) are left out.
        """
        return sum(group.num_parameters for group in self.weight_groups())

    @property
    def num_active_parameters(self) -> int:
        """Parameters one token passes through: all but the experts not chosen."""
        if self.moe is None:
            return self.num_parameters
        idle = self.moe.num_experts - self.moe.experts_per_token
        expert = self._mlp(self.moe.moe_intermediate_size)
        return self.num_parameters - self.moe.num_moe_layers * idle * expert

    def _mlp(self, width: int) -> int:
        return (3 if self.gated_mlp else 2) * self.hidden_size * width

    def kv_heads_on_gpu(self, tp: int) -> int:
        """Return the KV heads one GPU of ``tp`` stores: its share, at least one (replicated)."""
        return _share(self.num_kv_heads, tp)

    def kv_bytes_per_token(self, tp: int, kv_dtype_bytes: int | None = None) -> int:
        """Return the KV cache bytes of one token on one GPU, over all layers.

        Parameters
        ----------
        tp
            Tensor-parallel degree, >= 1.
        kv_dtype_bytes
            Bytes of a cached element; None = the model's dtype.

        Notes
        -----
        Layers with a sliding window are counted as full. With MLA a token is one latent
        vector with its rotary key, on every GPU.
        """
        element = self.dtype_bytes if kv_dtype_bytes is None else kv_dtype_bytes
        if self.mla is not None:
            return self.num_layers * (self.mla.kv_lora_rank + self.mla.qk_rope_head_dim) * element
        return self.num_layers * 2 * self.kv_heads_on_gpu(tp) * self.head_dim * element

    def weight_groups(self, tp: int = 1) -> list[WeightGroup]:
        """Return the parameters on one GPU of a group of ``tp``, by kind.

        Linear layers and the vocabulary are split; norms, routers and MLA's
        down-projections are on every GPU, as in vLLM, and so are KV heads when there are
        fewer than GPUs.
        """
        d, layers = self.hidden_size, self.num_layers
        tables = 1 if self.tie_word_embeddings else 2
        return [
            *self._attention_groups(tp),
            *self._mlp_groups(tp),
            WeightGroup("embedding", tables * _share(self.vocab_size * d, tp)),
            WeightGroup("norm", (2 * layers + 1) * d),
            WeightGroup("vision", _share(self.num_vision_parameters, tp)),
        ]

    def _attention_groups(self, tp: int) -> Iterator[WeightGroup]:
        d, heads, layers, mla = (
            self.hidden_size,
            self.num_attention_heads,
            self.num_layers,
            self.mla,
        )
        if mla is not None:
            qk = mla.qk_nope_head_dim + mla.qk_rope_head_dim
            down = d * (mla.kv_lora_rank + mla.qk_rope_head_dim + (mla.q_lora_rank or 0))
            query = (mla.q_lora_rank or d) * heads * qk
            expand = mla.kv_lora_rank * heads * (mla.qk_nope_head_dim + mla.v_head_dim)
            out = heads * mla.v_head_dim * d
            yield WeightGroup("attention", layers * (down + _share(query + expand + out, tp)))
            return
        width = _share(heads * self.head_dim, tp)
        kv_width = 2 * self.kv_heads_on_gpu(tp) * self.head_dim
        yield WeightGroup("attention", layers * d * (2 * width + kv_width))
        if self.qkv_bias:
            yield WeightGroup("norm", layers * (width + kv_width))

    def _mlp_groups(self, tp: int) -> Iterator[WeightGroup]:
        moe = self.moe
        dense_layers = self.num_layers if moe is None else moe.num_dense_layers
        yield WeightGroup("mlp", dense_layers * _share(self._mlp(self.intermediate_size), tp))
        if moe is None:
            return
        layers = moe.num_moe_layers
        experts = moe.num_experts * self._mlp(moe.moe_intermediate_size)
        shared = self._mlp(moe.shared_intermediate_size)
        yield WeightGroup("experts", layers * _share(experts, tp))
        yield WeightGroup("shared_experts", layers * _share(shared, tp))
        yield WeightGroup("router", layers * moe.num_experts * self.hidden_size)

    def weight_bytes(self, tp: int = 1) -> int:
        """Return the bytes of the weights on one GPU of a group of ``tp``.

        Quantised linear layers count at their bits with their scales, everything else at
        ``dtype``.
        """
        bits = 0.0
        for group in self.weight_groups(tp):
            is_quantized = self.quantization is not None and group.part in self.quantized_parts
            per_weight = (
                self.weight_bits + self.scale_bits if is_quantized else 8 * self.dtype_bytes
            )
            bits += group.num_parameters * per_weight
        return round(bits / 8)

    def with_overrides(
        self, dtype: str | None = None, quantization: str | None = None
    ) -> ModelSpec:
        """Return the model in another dtype or quantised.

        Parameters
        ----------
        dtype
            ``bfloat16``, ``float16`` or ``float32``; None or ``auto`` = as it is.
        quantization
            Method for all linear layers (``fp8``, ``int8``, ``awq``, ...); None = as it is.

        Raises
        ------
        ConfigError
            When a name is unknown, or the checkpoint is already quantised in another way.
        """
        spec = self
        if dtype not in {None, "auto"}:
            if dtype not in dtype_sizes():
                raise ConfigError(unknown_name("dtype", str(dtype), [*dtype_sizes(), "auto"]))
            bits = spec.weight_bits if spec.quantization else 8 * dtype_sizes()[dtype]
            spec = replace(spec, dtype=dtype, weight_bits=bits)
        if quantization is None or quantization == spec.quantization:
            return spec
        methods = known_methods()
        if quantization not in methods:
            raise ConfigError(unknown_name("quantization", quantization, methods))
        if spec.quantization is not None:
            raise ConfigError(
                f"quantization must be {spec.quantization!r}, as the checkpoint of {self.name} "
                f"is; got {quantization!r}; leave it out"
            )
        method = methods[quantization]
        return replace(
            spec,
            quantization=method.method,
            weight_bits=method.weight_bits,
            scale_bits=method.scale_bits,
            quantized_parts=method.parts,
        )


def _share(count: int, tp: int) -> int:
    """Return one GPU's share of ``count`` parameters, rounded up."""
    return -(-count // tp)


def valid_tensor_parallel(spec: ModelSpec, at_most: int = 64) -> list[int]:
    """Return the tensor-parallel degrees ``spec`` can run at, ascending."""
    return [tp for tp in range(1, at_most + 1) if _splits(spec, tp)]


def _splits(spec: ModelSpec, tp: int) -> bool:
    if spec.num_attention_heads % tp:
        return False
    # MLA's latent vector is on every GPU: only the query heads are split.
    kv = spec.num_kv_heads
    return spec.mla is not None or kv % tp == 0 or tp % kv == 0


def check_tensor_parallel(spec: ModelSpec, tp: int) -> None:
    """Check that ``tp`` GPUs can share the heads of ``spec``.

    As in vLLM: the attention heads divide by ``tp``, and the KV heads divide by ``tp`` or
    ``tp`` by them.

    Raises
    ------
    ConfigError
        When they cannot; the message names the degrees that work.
    """
    if tp >= 1 and _splits(spec, tp):
        return
    valid = ", ".join(map(str, valid_tensor_parallel(spec)))
    raise ConfigError(
        f"tensor_parallel_size must split the {spec.num_attention_heads} attention heads and "
        f"{spec.num_kv_heads} KV heads of {spec.name} evenly; got {tp}; valid: {valid}"
    )
