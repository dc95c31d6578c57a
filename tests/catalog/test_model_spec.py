"""ModelSpec: what a config means, and what it costs in bytes on one GPU."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.catalog.model_config import model_spec_from_config, with_sampling
from blis_sim.catalog.model_spec import ModelSpec, check_tensor_parallel, valid_tensor_parallel
from blis_sim.catalog.models import load_model
from blis_sim.errors import CatalogError, ConfigError


def make_config(**changes: Any) -> dict[str, Any]:
    """Return a small dense config with some keys changed; ``...`` removes a key."""
    config: dict[str, Any] = {
        "model_type": "llama",
        "hidden_size": 512,
        "intermediate_size": 1024,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "vocab_size": 1000,
        "max_position_embeddings": 2048,
        "torch_dtype": "bfloat16",
    }
    config.update(changes)
    return {key: value for key, value in config.items() if value is not ...}


def make_spec(name: str = "a/model", **changes: Any) -> ModelSpec:
    return model_spec_from_config(make_config(**changes), name, "config.json")


def test_dense_parameters_add_up() -> None:
    """A dense model is QKV, O, three MLP matrices, two norms a layer, a norm, two tables."""
    d, f, layers, vocab, kv = 512, 1024, 4, 1000, 2 * 2 * 64
    attention = d * (d + kv) + d * d
    expected = layers * (attention + 3 * d * f + 2 * d) + d + 2 * vocab * d
    spec = make_spec()
    assert spec.num_parameters == expected
    assert spec.num_active_parameters == expected
    assert spec.weight_bytes() == 2 * expected
    assert make_spec(tie_word_embeddings=True).num_parameters == expected - vocab * d
    two_matrices = make_spec(model_type="starcoder2")
    assert two_matrices.num_parameters == expected - layers * d * f
    with_bias = make_spec(model_type="qwen2")
    assert with_bias.num_parameters == expected + layers * (d + kv)


def test_head_dim_is_the_configs_own() -> None:
    """An explicit head_dim counts even where it differs from d / H; else it is d / H."""
    assert make_spec().head_dim == 64
    assert make_spec(head_dim=128).head_dim == 128
    assert make_spec(head_dim=None).head_dim == 64
    assert load_model("mistral-nemo").head_dim == 128  # d / H would be 160


def test_kv_heads_default_to_attention_heads() -> None:
    """Without num_key_value_heads every query head has its own."""
    assert make_spec(num_key_value_heads=...).num_kv_heads == 8


@pytest.mark.parametrize(
    ("name", "tp", "tokens_bytes"),
    [
        ("llama-2-7b-hf", 1, 32 * 2 * 32 * 128 * 2),
        ("llama-3.1-70b-instruct", 4, 80 * 2 * 2 * 128 * 2),
        ("llama-3.1-70b-instruct", 16, 80 * 2 * 1 * 128 * 2),
        ("qwen2.5-7b-instruct", 2, 28 * 2 * 2 * 128 * 2),
        ("deepseek-v3", 1, 61 * (512 + 64) * 2),
        ("deepseek-v3", 8, 61 * (512 + 64) * 2),
    ],
)
def test_kv_bytes_per_token(name: str, tp: int, tokens_bytes: int) -> None:
    """KV heads are split, replicated when there are fewer than GPUs; MLA is not split."""
    spec = load_model(name)
    assert spec.kv_bytes_per_token(tp) == tokens_bytes
    assert spec.kv_bytes_per_token(tp, kv_dtype_bytes=1) * 2 == tokens_bytes


def test_replicated_kv_heads_cost_weights_too() -> None:
    """With more GPUs than KV heads each GPU keeps one KV head's projections."""
    spec = make_spec(num_key_value_heads=2, vocab_size=1024)
    groups = {tp: sum(g.num_parameters for g in spec.weight_groups(tp)) for tp in (2, 4)}
    d, f, layers = 512, 1024, 4
    for tp, kv_heads in ((2, 1), (4, 1)):
        split = (layers * (2 * d * d + 3 * d * f) + 2 * 1024 * d) // tp
        assert groups[tp] == split + layers * d * 2 * kv_heads * 64 + (2 * layers + 1) * d


@given(
    name=st.sampled_from(
        ["llama-3.1-8b", "qwen3-30b-a3b", "deepseek-v3", "gpt-oss-20b", "gemma-3-4b", "phi-4"]
    ),
    power=st.integers(0, 6),
)
def test_sharding_never_loses_or_gains_much(name: str, power: int) -> None:
    """All GPUs together hold every weight, one GPU never more than with half the GPUs."""
    spec = load_model(name)
    tp = 2**power
    assert spec.weight_bytes(tp) * tp >= spec.weight_bytes(1)
    assert spec.weight_bytes(2 * tp) < spec.weight_bytes(tp)
    assert spec.kv_bytes_per_token(2 * tp) <= spec.kv_bytes_per_token(tp)


@pytest.mark.parametrize(
    ("scaling", "tokens"),
    [
        (None, 2048),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 256}, 2048),
        ({"type": "longrope", "factor": 4.0}, 2048),
        ({"rope_type": "default"}, 2048),
        ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}, 8192),
        ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}, 2048),
        ({"type": "linear", "factor": 2.0}, 4096),
        ({"rope_type": "dynamic", "factor": 2}, 4096),
        ({"full_attention": {"rope_type": "linear", "factor": 4.0}}, 8192),
    ],
)
def test_rope_scaling(scaling: object, tokens: int) -> None:
    """yarn, linear and dynamic stretch the original length; llama3 is already applied."""
    assert make_spec(rope_scaling=scaling).max_position_embeddings == tokens


def test_gemma3_length_is_already_scaled() -> None:
    """Gemma 3 publishes linear scaling beside the scaled length: it counts once."""
    scaling = {"rope_type": "linear", "factor": 8.0}
    assert (
        make_spec(model_type="gemma3_text", rope_scaling=scaling).max_position_embeddings == 2048
    )


@pytest.mark.parametrize(
    ("keys", "moe_layers", "width", "shared"),
    [
        ({"num_local_experts": 8}, 4, 1024, 0),
        ({"num_experts": 8, "moe_intermediate_size": 96}, 4, 96, 0),
        ({"num_experts": 8, "decoder_sparse_step": 2, "moe_intermediate_size": 96}, 2, 96, 0),
        (
            {"num_experts": 8, "mlp_only_layers": [0], "shared_expert_intermediate_size": 7},
            3,
            1024,
            7,
        ),
        (
            {
                "n_routed_experts": 8,
                "n_shared_experts": 2,
                "moe_intermediate_size": 96,
                "first_k_dense_replace": 1,
                "moe_layer_freq": 1,
            },
            3,
            96,
            192,
        ),
        (
            {"n_routed_experts": 8, "moe_layer_freq": [0, 1, 1, 0], "n_shared_experts": None},
            2,
            1024,
            0,
        ),
        (
            {
                "model_type": "llama4_text",
                "num_local_experts": 8,
                "interleave_moe_layer_step": 2,
                "intermediate_size_mlp": 2048,
            },
            2,
            1024,
            1024,
        ),
    ],
)
def test_experts_under_every_name(
    keys: dict[str, Any], moe_layers: int, width: int, shared: int
) -> None:
    """Each family's keys give the same facts: experts, widths, which layers have them."""
    spec = make_spec(num_experts_per_tok=2, **keys)
    assert spec.moe is not None
    assert (spec.moe.num_experts, spec.moe.experts_per_token) == (8, 2)
    assert (spec.moe.num_moe_layers, spec.moe.num_dense_layers) == (moe_layers, 4 - moe_layers)
    assert spec.moe.moe_intermediate_size == width
    assert spec.moe.shared_intermediate_size == shared
    idle = moe_layers * (8 - 2) * 3 * 512 * width
    assert spec.num_parameters - spec.num_active_parameters == idle


def test_dense_models_of_moe_families_have_no_experts() -> None:
    """No experts, one expert or no layer with experts is a dense model."""
    for keys in ({"num_experts": 0}, {"num_experts": None}, {"num_local_experts": 1}):
        assert make_spec(**keys).moe is None
    assert make_spec(n_routed_experts=8, first_k_dense_replace=4).moe is None


def test_text_model_inside_a_multimodal_config() -> None:
    """The text part is read; dtype and quantisation of the whole config apply to it."""
    text = make_config(torch_dtype=..., model_type="llama4_text", num_local_experts=4,
                       num_experts_per_tok=1, attention_chunk_size=128)  # fmt: skip
    vision = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "patch_size": 14,
    }
    whole = {
        "model_type": "llama4",
        "torch_dtype": "float16",
        "text_config": text,
        "vision_config": vision,
        "quantization_config": {"quant_method": "fp8"},
    }
    spec = model_spec_from_config(whole, "a/model", "config.json")
    assert (spec.hidden_size, spec.dtype, spec.weight_bits) == (512, "float16", 8)
    assert (spec.sliding_window, spec.num_full_attention_layers) == (128, 1)
    assert spec.num_vision_parameters == 2 * (4 * 64 * 64 + 2 * 64 * 128) + 3 * 14 * 14 * 64


def test_gemma3_as_published_relies_on_class_defaults() -> None:
    """The published gemma-3-4b config leaves heads, vocabulary and length to its class."""
    published = {
        "model_type": "gemma3",
        "torch_dtype": "bfloat16",
        "text_config": {
            "hidden_size": 2560,
            "intermediate_size": 10240,
            "model_type": "gemma3_text",
            "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": 1024,
        },
        "vision_config": {
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 27,
            "patch_size": 14,
        },
    }
    shipped = load_model("gemma-3-4b-it")
    plain = model_spec_from_config(published, shipped.name, "config.json")
    assert with_sampling(plain, {"top_k": 64, "top_p": 0.95}, "generation_config.json") == shipped


@pytest.mark.parametrize(
    ("keys", "window", "full"),
    [
        ({}, None, 4),
        ({"sliding_window": 512}, 512, 0),
        ({"sliding_window": 4096}, None, 4),
        ({"sliding_window": 512, "use_sliding_window": False}, None, 4),
        ({"model_type": "qwen2", "sliding_window": 512, "max_window_layers": 3}, 512, 3),
        ({"model_type": "gemma2", "sliding_window": 512}, 512, 2),
        (
            {"model_type": "gemma3_text", "sliding_window": 512, "sliding_window_pattern": 4},
            512,
            1,
        ),
        (
            {"sliding_window": 512, "layer_types": ["sliding_attention"] + ["full_attention"] * 3},
            512,
            3,
        ),
    ],
)
def test_sliding_windows(keys: dict[str, Any], window: int | None, full: int) -> None:
    """The window, and how many layers attend to everything, in every family's words."""
    spec = make_spec(**keys)
    assert (spec.sliding_window, spec.num_full_attention_layers) == (window, full)


INT4 = {"num_bits": 4, "type": "int", "symmetric": True, "group_size": 128, "strategy": "group"}
FP8 = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "channel"}
NVFP4 = {"num_bits": 4, "type": "float", "symmetric": True, "group_size": 16}


def grouped(weights: object, **keys: object) -> dict[str, object]:
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    return {"quant_method": "compressed-tensors", "config_groups": groups, **keys}


@pytest.mark.parametrize(
    ("config", "bits", "scale_bits"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 8, 32 / 128**2),
        ({"quant_method": "fbgemm_fp8"}, 8, 0),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, 4, 20 / 128),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, 8, 0),
        ({"quant_method": "mxfp4"}, 4, 0.25),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4, 0.5),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, 4, 0.5),
        (grouped(INT4), 4, 16 / 128),
        (grouped(FP8), 8, 0),
        (grouped(NVFP4), 4, 8 / 16),
    ],
)
def test_quantization_configs(config: dict[str, Any], bits: int, scale_bits: float) -> None:
    """Bits and the share of the scales, from each format of quantization_config."""
    spec = make_spec(quantization_config=config)
    assert (spec.weight_bits, spec.scale_bits) == (bits, pytest.approx(scale_bits))
    layers, d = 4, 512
    linear = layers * (2 * d * d + d * 2 * 2 * 64 + 3 * d * 1024)
    other = spec.num_parameters - linear
    expected = linear * (bits + scale_bits) / 8 + 2 * other
    assert spec.weight_bytes() == pytest.approx(expected, abs=1)


def test_activation_only_quantization_keeps_the_weights() -> None:
    """A config that quantises no weights leaves them in the model's dtype."""
    spec = make_spec(quantization_config=grouped(None))
    assert (spec.quantization, spec.weight_bits) == (None, 16)


@pytest.mark.parametrize(
    ("exempted", "parts"),
    [
        (["lm_head"], {"attention", "mlp", "experts", "shared_experts"}),
        (["re:.*self_attn.*", "re:vision_tower.*"], {"mlp", "experts", "shared_experts"}),
        (["model.layers.*.self_attn", "re:.*router"], {"mlp", "experts", "shared_experts"}),
        (["gate", "re:.*mlp\\.gate$"], {"attention", "mlp", "experts", "shared_experts"}),
        ([f"model.layers.{i}.mlp.shared_expert.up_proj" for i in (1, 3)],
         {"attention", "mlp", "experts"}),
        (["model.layers.0.mlp.up_proj"], {"attention", "mlp", "experts", "shared_experts"}),
        (["model.layers.0.self_attn", "model.layers.0.mlp.gate_proj", "model.layers.1.mlp"],
         {"attention", "experts", "shared_experts"}),
    ],
)  # fmt: skip
def test_exempted_modules_stay_unquantized(exempted: list[str], parts: set[str]) -> None:
    """A part named by a pattern, or in at least half of the layers, keeps the dtype."""
    config = {"quant_method": "fp8", "modules_to_not_convert": exempted}
    assert set(make_spec(quantization_config=config).quantized_parts) == parts


@pytest.mark.parametrize(
    ("name", "method", "bits"),
    [
        ("org/Model-7B", None, 16),
        ("org/Model-7B-FP8", "fp8", 8),
        ("org/Model-7B-AWQ", "awq", 4),
        ("org/Model-7B-GPTQ-Int8", "gptq", 8),
        ("org/Model-7B-GPTQ-Int4", "gptq", 4),
        ("org/Model-quantized.w8a8", "w8a8", 8),
        ("fp8-org/Model-7B", None, 16),
    ],
)
def test_bits_from_the_name(name: str, method: str | None, bits: int) -> None:
    """Without quantization_config the model's own name tells, not its organisation."""
    spec = make_spec(name)
    assert (spec.quantization, spec.weight_bits) == (method, bits)


def test_mla_geometry() -> None:
    """MLA shapes give DeepSeek-V2-Lite's projections; down-projections are not split."""
    spec = load_model("deepseek-v2-lite")
    assert spec.mla is not None
    assert (spec.mla.q_lora_rank, spec.head_dim) == (None, 192)
    attention = {tp: spec.weight_groups(tp)[0].num_parameters for tp in (1, 2)}
    down, split = 2048 * 576, 2048 * 16 * 192 + 512 * 16 * 256 + 16 * 128 * 2048
    assert attention == {1: 27 * (down + split), 2: 27 * (down + split // 2)}


def test_overrides() -> None:
    """--dtype and --quantization change the bytes and leave the parameters alone."""
    spec = make_spec()
    assert spec.with_overrides() == spec
    assert spec.with_overrides(dtype="auto") == spec
    wide = spec.with_overrides(dtype="float32")
    assert (wide.weight_bits, wide.dtype_bytes) == (32, 4)
    assert wide.weight_bytes() == 2 * spec.weight_bytes()
    assert wide.kv_bytes_per_token(1) == 2 * spec.kv_bytes_per_token(1)
    small = spec.with_overrides(quantization="int4")
    assert (small.weight_bits, small.quantization) == (4, "int4")
    assert small.num_parameters == spec.num_parameters
    fp8 = spec.with_overrides(quantization="fp8")
    assert fp8.with_overrides(quantization="fp8", dtype="float16").weight_bits == 8
    with pytest.raises(ConfigError, match=r"quantization must be 'fp8', as the checkpoint"):
        fp8.with_overrides(quantization="awq")
    with pytest.raises(ConfigError, match=r"quantization must be a known name; got 'fp9'"):
        spec.with_overrides(quantization="fp9")
    with pytest.raises(ConfigError, match=r"dtype must be a known name; got 'int3'"):
        spec.with_overrides(dtype="int3")


@pytest.mark.parametrize("written", ["float32", "torch.float16"])
def test_float32_checkpoints_are_served_in_16_bits(written: str) -> None:
    """dtype auto serves float32 checkpoints in 16 bits, as vLLM does."""
    assert make_spec(torch_dtype=..., dtype=written).dtype == "float16"
    assert make_spec(torch_dtype=...).dtype == "bfloat16"


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("llama-3.1-8b", [1, 2, 4, 8, 16, 32]),
        ("qwen2.5-7b-instruct", [1, 2, 4, 28]),
        ("phi-4", [1, 2, 5, 10, 20, 40]),
        ("deepseek-v2-lite", [1, 2, 4, 8, 16]),
    ],
)
def test_tensor_parallel_degrees(name: str, valid: list[int]) -> None:
    """Attention heads divide by tp; KV heads divide by tp or tp by them."""
    spec = load_model(name)
    assert valid_tensor_parallel(spec) == valid
    for tp in valid:
        check_tensor_parallel(spec, tp)
    with pytest.raises(ConfigError, match=rf"evenly; got 3; valid: {', '.join(map(str, valid))}"):
        check_tensor_parallel(spec, 3)
    with pytest.raises(ConfigError, match="got 0"):
        check_tensor_parallel(spec, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"hidden_size": ...},
            r"config.json: hidden_size must be a positive integer; it is missing",
        ),
        ({"vocab_size": "1000"}, r"vocab_size must be a positive integer; got '1000'"),
        ({"num_hidden_layers": 0}, r"num_hidden_layers must be a positive integer; got 0"),
        ({"num_hidden_layers": True}, r"num_hidden_layers must be a positive integer; got True"),
        ({"intermediate_size": 10.5}, r"intermediate_size must be a positive integer; got 10.5"),
        ({"intermediate_size": -1}, r"intermediate_size must be a positive integer; got -1"),
        ({"max_position_embeddings": ...}, r"must be a positive integer; it is missing"),
        ({"num_key_value_heads": 3}, r"must be a divisor of num_attention_heads = 8; got 3"),
        ({"hidden_size": 500}, r"must be a multiple of num_attention_heads = 8 .*; got 500"),
        ({"torch_dtype": "int7"}, r"torch_dtype must be a known name; got 'int7'"),
        ({"torch_dtype": 16}, r"torch_dtype must be text; got 16"),
        ({"tie_word_embeddings": "yes"}, r"tie_word_embeddings must be true or false; got 'yes'"),
        ({"rope_scaling": "yarn"}, r"rope_scaling must be an object; got 'yarn'"),
        ({"rope_scaling": {"type": "yarn", "factor": 0}}, r"rope_scaling.factor must be a number"),
        (
            {
                "rope_scaling": {
                    "type": "yarn",
                    "factor": 2,
                    "original_max_position_embeddings": "x",
                }
            },
            r"original_max_position_embeddings must be a positive integer; got 'x'",
        ),
        (
            {"layer_types": ["full_attention"]},
            r"layer_types must be a list of .* = 4 entries; got 1",
        ),
        ({"layer_types": "full"}, r"layer_types must be a list of text"),
        ({"layer_types": ["linear_attention"] * 4}, r"layer_types must be made of .*got 'linear_"),
        (
            {"full_attention_interval": 4},
            r"full_attention_interval must be absent; .*not supported",
        ),
        ({"num_local_experts": 8}, r"experts_per_token must be a positive integer; it is missing"),
        (
            {"num_local_experts": 8, "num_experts_per_tok": 9},
            r"num_experts_per_tok must be at most the number of experts = 8; got 9",
        ),
        (
            {"num_experts": 8, "num_experts_per_tok": 2, "mlp_only_layers": 3},
            r"a list of integers",
        ),
        ({"kv_lora_rank": 512}, r"qk_rope_head_dim must be a positive integer; it is missing"),
        (
            {"quantization_config": {"bits": 4}},
            r"quantization_config.quant_method must be the name",
        ),
        (
            {"quantization_config": {"quant_method": "fp9"}},
            r"quant_method must be a known method or come with 'bits'; got 'fp9'; nearest: fp8",
        ),
        (
            {"quantization_config": {"quant_method": "awq", "bits": "four"}},
            r"quantization_config.bits must be a whole number of bits, 2 to 16; got 'four'",
        ),
        (
            {"quantization_config": grouped({"num_bits": None})},
            r"weights.num_bits must be a whole",
        ),
        ({"quantization_config": grouped(3)}, r"weights must be an object; got 3"),
        (
            {"quantization_config": {"quant_method": "x", "config_groups": []}},
            r"config_groups must be an object",
        ),
    ],
)
def test_bad_configs_name_file_and_key(changes: dict[str, Any], message: str) -> None:
    """A wrong, missing or contradictory key is an error that names it and its value."""
    with pytest.raises(CatalogError, match=message) as caught:
        make_spec(**changes)
    assert str(caught.value).startswith("config.json: ")


def test_errors_in_a_text_part_say_so() -> None:
    """The key of a nested config is named with its part."""
    whole = {"text_config": make_config(hidden_size="big")}
    with pytest.raises(CatalogError, match=r"f.json: text_config.hidden_size must be a positive"):
        model_spec_from_config(whole, "a/model", "f.json")
