"""From a Hugging Face ``config.json`` to a ModelSpec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from blis_sim.catalog.config_reader import ConfigReader
from blis_sim.catalog.model_spec import MlaSpec, ModelSpec, MoeSpec, dtype_sizes
from blis_sim.catalog.names import short_name
from blis_sim.catalog.quantization import (
    LINEAR_PARTS,
    Quantization,
    quantization_from_config,
    quantization_from_name,
)
from blis_sim.errors import CatalogError, unknown_name


def model_spec_from_config(config: Mapping[str, Any], name: str, source: str) -> ModelSpec:
    """Return the model a Hugging Face config describes.

    Parameters
    ----------
    config
        The parsed ``config.json``; the text part of a multimodal one is found by itself.
    name
        Name of the model; when the config has no ``quantization_config``, words like
        ``FP8`` or ``AWQ`` in it tell the weight bits.
    source
        The file, for messages.

    Raises
    ------
    CatalogError
        When a key is missing, not of its type, out of range or contradicts another, or the
        model has layers that are not attention.
    """
    reader = ConfigReader.of_text_model(config, source)
    num_layers = reader.positive("num_hidden_layers")
    moe = _moe(reader, num_layers)
    mla = _mla(reader)
    heads = reader.positive("num_attention_heads")
    kv_heads = reader.positive("num_key_value_heads", default=heads)
    if heads % kv_heads:
        raise reader.error(
            "num_key_value_heads", f"a divisor of num_attention_heads = {heads}", kv_heads
        )
    max_positions = _max_positions(reader)
    window, num_full = _attention_windows(reader, num_layers, max_positions)
    dtype = _dtype(reader)
    quantization = _quantization(reader, name, num_layers)
    return ModelSpec(
        name=name,
        num_layers=num_layers,
        hidden_size=reader.positive("hidden_size"),
        num_attention_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=_head_dim(reader, heads, mla),
        # Llama 4 calls the width of its dense layers intermediate_size_mlp.
        intermediate_size=reader.positive("intermediate_size_mlp", "intermediate_size"),
        vocab_size=reader.positive("vocab_size"),
        max_position_embeddings=max_positions,
        dtype=dtype,
        weight_bits=quantization.weight_bits if quantization else 8 * dtype_sizes()[dtype],
        quantization=quantization.method if quantization else None,
        scale_bits=quantization.scale_bits if quantization else 0.0,
        quantized_parts=quantization.parts if quantization else LINEAR_PARTS,
        tie_word_embeddings=reader.flag(
            "tie_word_embeddings", default=reader.model_type.startswith("gemma")
        ),
        gated_mlp=not _has_plain_mlp(reader.model_type),
        qkv_bias=_has_qkv_bias(reader),
        sliding_window=window,
        num_full_attention_layers=num_full,
        moe=moe,
        mla=mla,
        num_vision_parameters=_num_vision_parameters(config.get("vision_config")),
    )


def with_sampling(spec: ModelSpec, config: Mapping[str, Any], source: str) -> ModelSpec:
    """Return the model with what a ``generation_config.json`` says of sampling.

    Parameters
    ----------
    spec
        The model.
    config
        The parsed file; ``top_k``, ``top_p`` and ``repetition_penalty`` are read. A top-k of 0
        or -1 keeps all tokens.
    source
        The file, for messages.

    Raises
    ------
    CatalogError
        A value is not of its type, or out of range.
    """
    top_k, top_p = config.get("top_k"), config.get("top_p")
    top_k, top_p = 0 if top_k is None else top_k, 1.0 if top_p is None else top_p
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < -1:
        raise CatalogError(f"{source}: top_k must be an integer >= -1; got {top_k!r}")
    if isinstance(top_p, bool) or not isinstance(top_p, int | float) or not 0 < top_p <= 1:
        raise CatalogError(f"{source}: top_p must be a number above 0, at most 1; got {top_p!r}")
    penalty = config.get("repetition_penalty")
    penalty = 1.0 if penalty is None else penalty
    if isinstance(penalty, bool) or not isinstance(penalty, int | float) or not 0 < penalty < 100:
        raise CatalogError(
            f"{source}: repetition_penalty must be a number above 0, below 100; got {penalty!r}"
        )
    return replace(
        spec,
        default_top_k=max(top_k, 0),
        default_top_p=float(top_p),
        default_repetition_penalty=float(penalty),
    )


def _head_dim(reader: ConfigReader, heads: int, mla: MlaSpec | None) -> int:
    if mla is not None:
        # Configs written by newer libraries put the rotary width alone under head_dim.
        return mla.qk_nope_head_dim + mla.qk_rope_head_dim
    if reader.has("head_dim"):
        return reader.positive("head_dim")
    hidden = reader.positive("hidden_size")
    if hidden % heads:
        raise reader.error(
            "hidden_size", f"a multiple of num_attention_heads = {heads} (no head_dim)", hidden
        )
    return hidden // heads


def _has_plain_mlp(model_type: str) -> bool:
    """Return whether the family's MLP has no gate (two matrices)."""
    plain = {"gpt_neox", "gptj", "phi", "starcoder2", "nemotron", "falcon", "bloom", "mpt"}
    return model_type in plain


def _has_qkv_bias(reader: ConfigReader) -> bool:
    # Qwen 1.5 to 2.5 have it without saying so.
    default = reader.model_type.startswith("qwen2")
    return reader.flag("attention_bias", default=default)


def _dtype(reader: ConfigReader) -> str:
    value = reader.text("torch_dtype", "dtype", default="bfloat16").removeprefix("torch.")
    if value == "float32":
        return "float16"  # engines serve float32 checkpoints in 16 bits (vLLM's dtype "auto")
    if value not in dtype_sizes():
        where = f"{reader.where}torch_dtype"
        raise CatalogError(unknown_name(where, value, dtype_sizes()))
    return value


def _max_positions(reader: ConfigReader) -> int:
    """Return the longest sequence in tokens.

    As vLLM derives it: llama3 and longrope scaling are already in
    max_position_embeddings; yarn, linear and dynamic multiply the original length.
    """
    positions = reader.positive(
        "max_position_embeddings", "n_positions", "max_seq_len", "seq_length"
    )
    scaling = reader.mapping("rope_scaling", "rope_parameters")
    if isinstance(scaling.get("full_attention"), Mapping):
        scaling = scaling["full_attention"]
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in {"yarn", "linear", "dynamic"} or "factor" not in scaling:
        return positions
    factor = scaling["factor"]
    if isinstance(factor, bool) or not isinstance(factor, int | float) or factor <= 0:
        raise reader.error("rope_scaling.factor", "a number > 0", factor)
    original = scaling.get("original_max_position_embeddings")
    if original is None:
        # Gemma 3 states the scaled length and no original one.
        return positions if reader.model_type.startswith("gemma3") else round(factor * positions)
    if isinstance(original, bool) or not isinstance(original, int) or original <= 0:
        raise reader.error(
            "rope_scaling.original_max_position_embeddings", "a positive integer", original
        )
    return round(factor * original)


def _attention_windows(
    reader: ConfigReader, num_layers: int, max_positions: int
) -> tuple[int | None, int]:
    """Return (window in tokens or None, number of layers that attend to everything)."""
    window_key = "attention_chunk_size" if reader.has("attention_chunk_size") else "sliding_window"
    num_full = _num_full_layers(reader, num_layers)
    uses_window = reader.has(window_key) and reader.flag("use_sliding_window", default=True)
    if not uses_window or num_full == num_layers:
        return None, num_layers
    window = reader.positive(window_key)
    return (None, num_layers) if window >= max_positions else (window, num_full)


def _num_full_layers(reader: ConfigReader, num_layers: int) -> int:
    """Return how many layers would attend to everything if the window is in use."""
    kinds = reader.strings("layer_types")
    if kinds is not None:
        if len(kinds) != num_layers:
            raise reader.error(
                "layer_types", f"a list of num_hidden_layers = {num_layers} entries", len(kinds)
            )
        known = {"full_attention", "sliding_attention", "chunked_attention"}
        other = next((kind for kind in kinds if kind not in known), None)
        if other is not None:
            raise reader.error("layer_types", f"made of {', '.join(sorted(known))}", other)
        return kinds.count("full_attention")
    if reader.model_type == "qwen2" and reader.has("max_window_layers"):
        return min(num_layers, reader.non_negative("max_window_layers"))
    interval = _full_layer_interval(reader)
    return num_layers // interval if interval else 0


def _full_layer_interval(reader: ConfigReader) -> int:
    """Return n when every n-th layer attends to everything; 0 = none does."""
    if reader.model_type == "gemma2":
        return 2
    if reader.model_type.startswith("gemma3"):
        return reader.positive("sliding_window_pattern", "_sliding_window_pattern", default=6)
    if reader.model_type.startswith("llama4"):
        return reader.positive("no_rope_layer_interval", default=4)
    return 0


def _moe(reader: ConfigReader, num_layers: int) -> MoeSpec | None:
    """Return the experts, under any of the names models give them."""
    num_experts = reader.non_negative(
        "num_local_experts", "num_experts", "n_routed_experts", default=0
    )
    num_moe_layers = len(_moe_layers(reader, num_layers)) if num_experts > 1 else 0
    if not num_moe_layers:
        return None
    per_token = reader.positive("num_experts_per_tok", "experts_per_token")
    if per_token > num_experts:
        raise reader.error(
            "num_experts_per_tok", f"at most the number of experts = {num_experts}", per_token
        )
    width = reader.positive("moe_intermediate_size", "intermediate_size")
    return MoeSpec(
        num_experts=num_experts,
        experts_per_token=per_token,
        moe_intermediate_size=width,
        shared_intermediate_size=_shared_width(reader, width),
        num_moe_layers=num_moe_layers,
        num_dense_layers=num_layers - num_moe_layers,
    )


def _shared_width(reader: ConfigReader, expert_width: int) -> int:
    if reader.model_type.startswith("llama4"):
        return expert_width  # one shared expert in every MoE layer, not in the config
    if reader.has("n_shared_experts") or reader.has("num_shared_experts"):
        return expert_width * reader.non_negative("n_shared_experts", "num_shared_experts")
    return reader.non_negative(
        "shared_expert_intermediate_size", "shared_intermediate_size", default=0
    )


def _moe_layers(reader: ConfigReader, num_layers: int) -> list[int]:
    """Return the indices of the layers with experts.

    DeepSeek: from first_k_dense_replace on, every moe_layer_freq-th. Qwen and Llama 4:
    every step-th, the last of each group; Qwen's mlp_only_layers have none.
    """
    first = reader.non_negative("first_k_dense_replace", default=0)
    if reader.is_list("moe_layer_freq"):  # some list 0 or 1 per layer instead
        return [i for i, experts in enumerate(reader.integers("moe_layer_freq")) if experts]
    frequency = reader.positive("moe_layer_freq", default=1)
    step = reader.non_negative("interleave_moe_layer_step", "decoder_sparse_step", default=1)
    plain = set(reader.integers("mlp_only_layers"))
    return [
        i
        for i in range(first, num_layers)
        if step and (i + 1) % step == 0 and i % frequency == 0 and i not in plain
    ]


def _mla(reader: ConfigReader) -> MlaSpec | None:
    if not reader.has("kv_lora_rank"):
        return None
    return MlaSpec(
        kv_lora_rank=reader.positive("kv_lora_rank"),
        qk_rope_head_dim=reader.positive("qk_rope_head_dim"),
        qk_nope_head_dim=reader.positive("qk_nope_head_dim"),
        v_head_dim=reader.positive("v_head_dim"),
        q_lora_rank=reader.positive("q_lora_rank") if reader.has("q_lora_rank") else None,
    )


def _quantization(reader: ConfigReader, name: str, num_layers: int) -> Quantization | None:
    described = reader.mapping("quantization_config", "compression_config")
    if not described:
        return quantization_from_name(short_name(name))
    return quantization_from_config(
        described, num_layers=num_layers, source=f"{reader.where}quantization_config"
    )


def _num_vision_parameters(vision: object) -> int:
    """Return the parameters of a vision transformer: patches, attention and MLP.

    A config that describes its tower in other words counts 0.
    """
    if not isinstance(vision, Mapping):
        return 0
    keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "patch_size")
    sizes = [vision.get(key) for key in keys]
    d, width, layers, patch = (s if isinstance(s, int) else 0 for s in sizes)
    matrices = 3 if vision.get("model_type") == "pixtral" else 2
    return layers * (4 * d * d + matrices * d * width) + 3 * patch * patch * d
