"""The GEMMs of a pass hold the model's linear parameters, at every tensor-parallel degree."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from blis_sim.catalog.model_spec import ModelSpec, valid_tensor_parallel
from blis_sim.catalog.models import list_models, load_model
from blis_sim.transformer.forward_pass import ForwardPass
from blis_sim.transformer.kernels import Gemm, Kernel, MoeExperts

MODELS = [entry.folder for entry in list_models()]
ATTENTION = {"qkv", "o", "q", "kv_a", "qkv_a", "q_b", "kv_b"}


def weights(kernels: Iterable[Kernel], *, active: bool = False) -> dict[str, int]:
    """Return the weights of each kernel over all layers; of experts all or those of a token."""
    found = {}
    for kernel in kernels:
        if isinstance(kernel, Gemm):
            found[kernel.name] = kernel.count * kernel.num_weights
        elif isinstance(kernel, MoeExperts):
            experts = kernel.top_k if active else kernel.num_experts
            found[kernel.name] = kernel.count * experts * kernel.weights_per_expert
    return found


def prefill_weights(spec: ModelSpec, tp: int = 1, *, active: bool = False) -> dict[str, int]:
    return weights(ForwardPass(spec, tp).kernels(prefills=[(0, 8)]), active=active)


@pytest.mark.parametrize(
    ("name", "published", "outside_gemms"),
    [
        # outside: the embedding table unless tied, and norms.
        ("llama-3.1-8b-instruct", 8_030_261_248, 128256 * 4096 + 65 * 4096),
        ("llama-3.1-70b-instruct", 70_553_706_496, 128256 * 8192 + 161 * 8192),
        ("llama-2-7b-hf", 6_738_415_616, 32000 * 4096 + 65 * 4096),
        ("mixtral-8x7b-instruct-v0.1", 46_702_792_704, 32000 * 4096 + 65 * 4096),
        # Four norms a layer, tied.
        ("gemma-2-9b-it", 9_241_705_984, (42 * 4 + 1) * 3584),
        # Norms of the heads; head_dim 128 is not d / H = 160 in Mistral-Nemo.
        ("qwen3-14b", 14_768_307_200, 151936 * 5120 + 81 * 5120 + 40 * 2 * 128),
        ("mistral-nemo-instruct-2407", 12_247_782_400, 131072 * 5120 + 81 * 5120),
        # Biases of QKV.
        ("qwen2.5-7b-instruct", 7_615_616_512, 152064 * 3584 + 57 * 3584 + 28 * (3584 + 1024)),
        ("qwen2.5-0.5b-instruct", 494_032_768, 49 * 896 + 24 * (896 + 256)),
    ],
)
def test_published_parameter_counts(name: str, published: int, outside_gemms: int) -> None:
    """The safetensors totals on the Hugging Face hub, less embeddings, norms and biases."""
    assert sum(prefill_weights(load_model(name)).values()) == published - outside_gemms


@pytest.mark.parametrize(
    ("name", "mlp", "attention", "unembedding", "active"),
    [
        ("gpt-oss-120b", 114.71e9, 0.96e9, 0.58e9, 5.13e9),
        ("gpt-oss-20b", 19.12e9, 0.64e9, 0.58e9, 3.61e9),
    ],
)
def test_published_parts_of_gpt_oss(
    name: str, mlp: float, attention: float, unembedding: float, active: float
) -> None:
    """Table 1 of the model card (arXiv:2508.10925): parts, and active without embedding."""
    found = prefill_weights(load_model(name))
    assert found["experts"] + found["router"] == pytest.approx(mlp, rel=1e-3)
    assert found["qkv"] + found["o"] == pytest.approx(attention, rel=6e-3)
    assert found["lm_head"] == pytest.approx(unembedding, rel=6e-3)
    one_token = prefill_weights(load_model(name), active=True)
    assert sum(one_token.values()) == pytest.approx(active, rel=2e-3)


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [
        # arXiv:2412.19437 section 4.2: 671B total, 37B active.
        ("deepseek-v3", 671e9, 37e9),
        # Model cards: 235B with 22B active, 30.5B with 3.3B active.
        ("qwen3-235b-a22b", 235e9, 22e9),
        ("qwen3-30b-a3b", 30.5e9, 3.3e9),
    ],
)
def test_published_active_parameters(name: str, total: float, active: float) -> None:
    """With the embedding table the weights are the published total; one token's the active."""
    spec = load_model(name)
    table = spec.vocab_size * spec.hidden_size
    assert sum(prefill_weights(spec).values()) + table == pytest.approx(total, rel=5e-3)
    one_token = sum(prefill_weights(spec, active=True).values())
    assert one_token + table == pytest.approx(active, rel=0.025)


def whole_model(spec: ModelSpec, tp: int) -> dict[str, int]:
    """Return what all GPUs of a group hold of each part, from the model's shape alone."""
    d, layers, mla, moe = spec.hidden_size, spec.num_layers, spec.mla, spec.moe
    heads, matrices = spec.num_attention_heads, 3 if spec.gated_mlp else 2

    def padded(width: int) -> int:
        return -(-width // tp) * tp

    if mla is None:
        kv_heads = max(spec.num_kv_heads, tp)  # at least one on each GPU
        attention = layers * d * spec.head_dim * (2 * heads + 2 * kv_heads)
    else:
        qk, rank = mla.qk_nope_head_dim + mla.qk_rope_head_dim, mla.q_lora_rank
        v = mla.v_head_dim
        down = d * (mla.kv_lora_rank + mla.qk_rope_head_dim + (rank or 0)) * tp
        up = heads * ((rank or d) * qk + mla.kv_lora_rank * (mla.qk_nope_head_dim + v))
        attention = layers * (down + up + heads * v * d)
    dense_layers = layers if moe is None else moe.num_dense_layers
    found = {
        "attention": attention,
        "mlp": dense_layers * matrices * d * padded(spec.intermediate_size),
        "lm_head": d * padded(spec.vocab_size),
    }
    if moe is not None:
        per_expert = matrices * d * padded(moe.moe_intermediate_size)
        found["experts"] = moe.num_moe_layers * moe.num_experts * per_expert
        shared = matrices * d * padded(moe.shared_intermediate_size)
        found["shared_experts"] = moe.num_moe_layers * shared
        found["router"] = moe.num_moe_layers * d * moe.num_experts * tp
    return found


def part_of(kernel: str) -> str:
    if kernel in ATTENTION:
        return "attention"
    names = {"gate_up": "mlp", "up": "mlp", "down": "mlp"}
    shared = dict.fromkeys(("shared_gate_up", "shared_up", "shared_down"), "shared_experts")
    return (names | shared).get(kernel, kernel)


@pytest.mark.parametrize("name", MODELS)
def test_shards_add_up_to_the_model(name: str) -> None:
    """TP times the shard is the model, but for replicated and padded parts."""
    spec = load_model(name)
    for tp in valid_tensor_parallel(spec, at_most=16):
        found = dict.fromkeys(whole_model(spec, tp), 0)
        for kernel, count in prefill_weights(spec, tp).items():
            found[part_of(kernel)] += tp * count
        assert found == whole_model(spec, tp)


@pytest.mark.parametrize("name", MODELS)
def test_stored_bytes_agree_with_the_catalog(name: str) -> None:
    """The weights of all kernels are the bytes ModelSpec sizes memory by, scales included."""
    spec = load_model(name)
    stored = 0.0
    for kernel in ForwardPass(spec, 1).kernels(prefills=[(0, 8)]):
        if isinstance(kernel, Gemm):
            stored += kernel.count * kernel.weight_bytes
        elif isinstance(kernel, MoeExperts):
            per_expert = kernel.weight_bytes / kernel.experts_touched
            stored += kernel.count * kernel.num_experts * per_expert
    outside = sum(
        group.num_parameters
        for group in spec.weight_groups()
        if group.part in {"embedding", "norm", "vision"}
    )
    lm_head = spec.vocab_size * spec.hidden_size
    expected = spec.weight_bytes() - spec.dtype_bytes * (outside - lm_head)
    assert stored == pytest.approx(expected, rel=1e-9)
