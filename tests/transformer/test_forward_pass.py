"""The kernels of a forward pass against hand computations, and what must always hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.catalog.model_config import model_spec_from_config
from blis_sim.catalog.model_spec import ModelSpec, valid_tensor_parallel
from blis_sim.catalog.models import load_model
from blis_sim.errors import ConfigError
from blis_sim.transformer.attention import (
    DecodeAttention,
    MlaDecodeAttention,
    MlaPrefillAttention,
    PrefillAttention,
)
from blis_sim.transformer.forward_pass import ForwardPass
from blis_sim.transformer.kernels import (
    AllGather,
    AllReduce,
    BatchedGemm,
    Elementwise,
    Gemm,
    Kernel,
    MoeExperts,
    total_bytes,
    total_flops,
)


def make_spec(**changes: Any) -> ModelSpec:
    config: dict[str, Any] = {
        "model_type": "llama",
        "hidden_size": 512,
        "intermediate_size": 1024,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "vocab_size": 1000,
        "max_position_embeddings": 2048,
    }
    return model_spec_from_config(config | changes, "a/model", "config.json")


def by_name(kernels: tuple[Kernel, ...]) -> dict[str, Kernel]:
    found = {kernel.name: kernel for kernel in kernels}
    assert len(found) == len(kernels)
    return found


def gemm_shapes(kernels: tuple[Kernel, ...]) -> dict[str, tuple[int, int, int, int]]:
    return {g.name: (g.m, g.k, g.n, g.count) for g in kernels if isinstance(g, Gemm)}


def test_prefill_of_llama_8b_by_hand() -> None:
    """2048 tokens: 2 P M of the layers, the LM head for one row, half-square attention."""
    kernels = ForwardPass(load_model("llama-3.1-8b-instruct"), 1).kernels(prefills=[(0, 2048)])
    layers = 32 * (4096 * 6144 + 4096 * 4096 + 3 * 4096 * 14336)
    assert layers == 6_979_321_856
    attention = 32 * 2 * 32 * 128 * 2048 * 2048
    assert total_flops(kernels) == 2 * layers * 2048 + 2 * 128256 * 4096 + attention


def test_shards_of_llama_70b() -> None:
    """TP 4: heads, F and V in four; QKV and gate+up in one GEMM each; d whole."""
    forward = ForwardPass(load_model("llama-3.1-70b-instruct"), 4)
    kernels = forward.kernels(prefills=[(0, 100)], num_decodes=28, sum_decode_context=2800)
    assert gemm_shapes(kernels) == {
        "qkv": (128, 8192, (64 + 16) * 128 // 4, 80),
        "o": (128, 2048, 8192, 80),
        "gate_up": (128, 8192, 2 * 7168, 80),
        "down": (128, 7168, 8192, 80),
        "lm_head": (29, 8192, 32064, 1),
    }
    found = by_name(kernels)
    assert found["prefill_attention"] == PrefillAttention(
        "prefill_attention", 16, 2, 128, 0, 100, count=80
    )
    assert found["decode_attention"] == DecodeAttention(
        "decode_attention", 16, 2, 128, 28, 2800, count=80
    )
    assert found["allreduce"] == AllReduce("allreduce", 128 * 8192 * 2, 4, 160)
    assert found["embedding_allreduce"] == AllReduce("embedding_allreduce", 128 * 8192 * 2, 4)
    assert found["logits"] == AllGather("logits", 29 * 128256 * 2, 4)


def test_one_gpu_does_not_communicate() -> None:
    """Without tensor parallelism there is nothing to reduce or gather."""
    kernels = ForwardPass(make_spec(), 1).kernels(prefills=[(0, 9)])
    assert not [k for k in kernels if isinstance(k, AllReduce | AllGather)]


def test_elementwise_traffic_by_hand() -> None:
    """d = 512, H = 8, K = 2, h = 64, F = 1024 on one GPU, 10 tokens, fp8 cache."""
    forward = ForwardPass(make_spec(), 1, kv_cache_dtype="fp8")
    moved = {
        k.name: (k.bytes, k.count) for k in forward.token_kernels(10) if isinstance(k, Elementwise)
    }
    assert moved == {
        "embedding": (10 * 2 * 512 * 2, 1),
        "norm": (10 * 4 * 512 * 2, 9),
        "rope_and_cache": (10 * ((8 + 4) * 64 * 2 + 8 * 64 * 2 + 4 * 64 * 1), 4),
        "activation": (10 * 3 * 1024 * 2, 4),
    }
    sampling = by_name(forward.sampling_kernels(3))["sampling"]
    assert sampling.bytes == 3 * 1000 * (2 + 11 * 4)


def test_widths_that_do_not_divide_are_padded() -> None:
    """F = 1021 and V = 1001 on two GPUs: the shard is the larger half."""
    forward = ForwardPass(make_spec(intermediate_size=1021, vocab_size=1001), 2)
    shapes = gemm_shapes(forward.kernels(prefills=[(0, 1)]))
    assert shapes["gate_up"] == (1, 512, 2 * 511, 4)
    assert shapes["down"] == (1, 511, 512, 4)
    assert shapes["lm_head"] == (1, 512, 501, 1)


def test_kv_heads_are_replicated() -> None:
    """Two KV heads on eight GPUs: each GPU has one of them, and one query head."""
    kernels = ForwardPass(make_spec(), 8).kernels(num_decodes=1, sum_decode_context=5)
    assert gemm_shapes(kernels)["qkv"] == (1, 512, (1 + 2) * 64, 4)
    attention = by_name(kernels)["decode_attention"]
    assert isinstance(attention, DecodeAttention)
    assert (attention.num_heads, attention.num_kv_heads) == (1, 1)


def test_tensor_parallel_that_does_not_divide() -> None:
    """Eight heads do not split in three; the message names the degrees that work."""
    with pytest.raises(ConfigError, match=r"must split the 8 attention heads.*valid: 1, 2, 4, 8"):
        ForwardPass(make_spec(), 3)


def test_mlp_without_gate() -> None:
    """Two matrices: up is F wide, and the activation reads F and writes F."""
    kernels = ForwardPass(make_spec(model_type="starcoder2"), 1).token_kernels(1)
    shapes = gemm_shapes(kernels)
    assert shapes["up"] == (1, 512, 1024, 4)
    assert "gate_up" not in shapes
    assert by_name(kernels)["activation"].bytes == 2 * 1024 * 2


def test_head_dim_is_the_configs_own() -> None:
    """Mistral-Nemo: 32 heads of 128 are 4096 wide, d is 5120."""
    shapes = gemm_shapes(ForwardPass(load_model("mistral-nemo"), 2).token_kernels(1))
    assert shapes["qkv"][1:3] == (5120, (32 + 16) * 128 // 2)
    assert shapes["o"][1:3] == (2048, 5120)


def test_tied_embeddings_cost_the_same() -> None:
    """Whether the LM head is the embedding table saves memory, not work."""
    step = {"prefills": [(0, 5)], "num_decodes": 3, "sum_decode_context": 30}
    tied, own = (
        ForwardPass(make_spec(tie_word_embeddings=tie), 2).kernels(**step) for tie in (True, False)
    )
    assert tied == own


def test_mixture_with_dense_and_shared_layers() -> None:
    """DeepSeek-V3, TP 8: 3 dense layers of 18432, 58 with router, 256 experts and one shared."""
    forward = ForwardPass(load_model("deepseek-v3"), 8)
    kernels = forward.token_kernels(64)
    shapes = gemm_shapes(kernels)
    assert shapes["gate_up"] == (64, 7168, 2 * 2304, 3)
    assert shapes["down"] == (64, 2304, 7168, 3)
    assert shapes["router"] == (64, 7168, 256, 58)
    assert shapes["shared_gate_up"] == (64, 7168, 2 * 256, 58)
    assert shapes["shared_down"] == (64, 256, 7168, 58)
    assert by_name(kernels)["shared_activation"].bytes == 64 * 3 * 256 * 2
    experts = by_name(kernels)["experts"]
    assert experts.count == 58
    assert experts.flops == 64 * 8 * 2 * 3 * 7168 * 256
    touched = 256 * (1 - (248 / 256) ** 64)
    assert experts.weight_bytes == pytest.approx(  # type: ignore[attr-defined]
        touched * 3 * 7168 * 256 * (1 + 32 / 128**2 / 8)
    )


def test_types_reach_every_kernel() -> None:
    """A 16-bit float checkpoint with an fp8 cache, on a GPU without fp8, fp8 experts."""
    spec = make_spec(torch_dtype="float16", num_local_experts=4, num_experts_per_tok=2)
    forward = ForwardPass(
        spec.with_overrides(quantization="fp8"), 2, kv_cache_dtype="fp8", has_fp8=False
    )
    kernels = forward.kernels(prefills=[(5, 9)], num_decodes=2, sum_decode_context=8)
    products = [k for k in kernels if hasattr(k, "compute_dtype")]
    assert {k.compute_dtype for k in products} == {"fp16"}
    found = by_name(kernels)
    experts = found["experts"]
    assert isinstance(experts, MoeExperts)
    assert (experts.weight_dtype, experts.activation_dtype) == ("fp8_weight_only", "fp16")
    for name in ("prefill_attention", "decode_attention"):
        attention = found[name]
        assert isinstance(attention, PrefillAttention | DecodeAttention)
        assert (attention.dtype, attention.kv_dtype) == ("fp16", "fp8")


def test_experts_without_gate() -> None:
    """A mixture in a family whose MLP has two matrices has experts of two."""
    spec = make_spec(model_type="starcoder2", num_local_experts=4, num_experts_per_tok=2)
    experts = by_name(ForwardPass(spec, 1).token_kernels(3))["experts"]
    assert experts.flops == 3 * 2 * 2 * 2 * 512 * 1024


def test_latent_attention_by_hand() -> None:
    """DeepSeek-V3, TP 8: 16 heads; down-projections whole, up-projections split."""
    forward = ForwardPass(load_model("deepseek-v3"), 8)
    shapes = gemm_shapes(forward.token_kernels(10))
    assert shapes["qkv_a"] == (10, 7168, 1536 + 512 + 64, 61)
    assert shapes["q_b"] == (10, 1536, 16 * 192, 61)
    assert shapes["o"] == (10, 16 * 128, 7168, 61)
    expand, prefill = forward.prefill_attention(300, 700)
    assert isinstance(expand, Gemm)
    assert (expand.m, expand.k, expand.n, expand.count) == (1000, 512, 16 * 256, 61)
    assert prefill == MlaPrefillAttention("prefill_attention", 16, 192, 128, 300, 700, count=61)
    absorb_q, decode, absorb_v = forward.decode_attention(4, 4000)
    assert absorb_q == BatchedGemm("absorb_q", 16, 4, 128, 512, count=61)
    assert decode == MlaDecodeAttention("decode_attention", 16, 512, 64, 4, 4000, count=61)
    assert absorb_v == BatchedGemm("absorb_v", 16, 4, 512, 128, count=61)
    moved = by_name(forward.token_kernels(10))
    assert moved["latent_norm"].bytes == 10 * 2 * (1536 + 512) * 2
    assert moved["rope_and_cache"].bytes == 10 * 2 * (2 * 16 * 64 + 2 * 576)


def test_latent_attention_without_query_compression() -> None:
    """DeepSeek-V2-Lite projects queries directly."""
    shapes = gemm_shapes(ForwardPass(load_model("deepseek-v2-lite"), 2).token_kernels(1))
    assert shapes["q"] == (1, 2048, 8 * 192, 27)
    assert shapes["kv_a"] == (1, 2048, 576, 27)
    assert not {"qkv_a", "q_b"} & set(shapes)


@pytest.mark.parametrize(
    ("name", "window", "full", "windowed"),
    [("gpt-oss-20b", 128, 12, 12), ("gemma-3-27b-it", 1024, 10, 52), ("gemma-2-9b", 4096, 21, 21)],
)
def test_sliding_window_layers(name: str, window: int, full: int, windowed: int) -> None:
    """Layers with a window stop growing with the context, the others do not."""
    forward = ForwardPass(load_model(name), 1)
    assert forward.attention_windows == ((None, full), (window, windowed))
    decode = by_name(forward.decode_attention(2, 20_000))
    everything, near = decode["decode_attention"], decode["decode_attention_window"]
    assert isinstance(everything, DecodeAttention)
    assert isinstance(near, DecodeAttention)
    assert (everything.kv_tokens, everything.count) == (20_002, full)
    assert (near.kv_tokens, near.count) == (2 * window, windowed)
    prefill = by_name(forward.prefill_attention(10_000, 100))
    per_pair = 4 * forward.spec.num_attention_heads * forward.spec.head_dim
    assert prefill["prefill_attention"].flops == per_pair * (100 * 10_000 + 5_000)
    assert prefill["prefill_attention_window"].flops == per_pair * 100 * window


def test_window_in_every_layer() -> None:
    """Mistral-7B v0.1 has no layer that attends to everything."""
    forward = ForwardPass(load_model("mistral-7b-instruct-v0.1"), 1)
    assert forward.attention_windows == ((4096, 32),)


@pytest.mark.parametrize(("kv_cache_dtype", "element_bytes"), [("auto", 2), ("fp8", 1)])
@pytest.mark.parametrize(
    ("name", "tp"),
    [("llama-3.1-70b", 1), ("qwen3-30b-a3b", 2), ("qwen3-30b-a3b", 16), ("deepseek-v3", 8)],
)
def test_decode_reads_the_cache_the_catalog_sizes(
    name: str, tp: int, kv_cache_dtype: str, element_bytes: int
) -> None:
    """One more token of context is one token of ModelSpec's KV cache more to read."""
    spec = load_model(name)
    forward = ForwardPass(spec, tp, kv_cache_dtype=kv_cache_dtype)
    more = total_bytes(forward.decode_attention(3, 1001))
    less = total_bytes(forward.decode_attention(3, 1000))
    assert more - less == spec.kv_bytes_per_token(tp, element_bytes)


def test_empty_parts_have_no_kernels() -> None:
    """No tokens, no rows, no requests: nothing runs."""
    forward = ForwardPass(make_spec(), 2)
    assert forward.kernels() == ()
    assert forward.token_kernels(0) == ()
    assert forward.sampling_kernels(0) == ()
    assert forward.prefill_attention(10, 0) == ()
    assert forward.decode_attention(0, 0) == ()
    names = by_name(forward.kernels(prefills=[(0, 7)], num_sampled=0))
    assert not {"lm_head", "logits", "sampling", "decode_attention"} & set(names)


def test_step_is_its_parts() -> None:
    """All tokens share the GEMMs; each prefill and the decode set have their attention."""
    forward = ForwardPass(load_model("deepseek-v3"), 8)
    together = forward.kernels(
        prefills=[(0, 7), (5, 9)], num_decodes=3, sum_decode_context=0, num_sampled=4
    )
    assert together == (
        *forward.token_kernels(19),
        *forward.prefill_attention(0, 7),
        *forward.prefill_attention(5, 9),
        *forward.decode_attention(3, 0),
        *forward.sampling_kernels(4),
    )


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"prefills": [(0, 0)]}, r"a prefill must have .* got context 0, new 0"),
        ({"prefills": [(-1, 5)]}, r"a prefill must have .* got context -1, new 5"),
        ({"num_decodes": -1}, r"a decode set must have .* got -1 requests, sum 0"),
        ({"sum_decode_context": 5}, r"must be 0 tokens without decodes; got 5"),
        ({"num_decodes": 2, "num_sampled": 3}, r"at most the number of requests = 2; got 3"),
    ],
)
def test_impossible_steps(step: dict[str, Any], message: str) -> None:
    """Numbers no step can have are errors."""
    with pytest.raises(ConfigError, match=message):
        ForwardPass(make_spec(), 1).kernels(**step)


NAMES = (
    "llama-3.1-8b",
    "llama-3.3-70b-instruct-fp8-dynamic",
    "gemma-3-27b-it",
    "mixtral-8x7b",
    "gpt-oss-20b",
    "deepseek-v3",
    "llama-4-scout-17b-16e-instruct",
    "qwen2.5-7b-instruct-quantized.w4a16",
)
SPECS = {name: load_model(name) for name in NAMES}

steps = st.fixed_dictionaries(
    {
        "prefills": st.lists(st.tuples(st.integers(0, 9000), st.integers(1, 9000)), max_size=3),
        "num_decodes": st.integers(1, 300),
        "sum_decode_context": st.integers(0, 2_000_000),
    }
)


def grown(step: dict[str, Any], what: str, by: int) -> dict[str, Any]:
    if what == "context":
        return step | {"sum_decode_context": step["sum_decode_context"] + by}
    if what == "batch":
        return step | {"num_decodes": step["num_decodes"] + by}
    prefills = [(s + by, n) if what == "prefix" else (s, n + by) for s, n in step["prefills"]]
    return step | {"prefills": prefills}


@given(
    name=st.sampled_from(NAMES),
    tp=st.sampled_from([1, 2, 4]),
    step=steps,
    what=st.sampled_from(["context", "batch", "prefix", "tokens"]),
    by=st.integers(1, 5000),
)
def test_more_work_never_costs_less(
    name: str, tp: int, step: dict[str, Any], what: str, by: int
) -> None:
    """FLOPs and bytes grow with tokens, batch, context and cached prefix."""
    spec = SPECS[name]
    if tp not in valid_tensor_parallel(spec):
        tp = 1
    forward = ForwardPass(spec, tp)
    less, more = forward.kernels(**step), forward.kernels(**grown(step, what, by))
    assert total_flops(more) >= total_flops(less)
    assert total_bytes(more) >= total_bytes(less)
    if what in {"batch", "context"}:
        assert total_flops(more) > total_flops(less)


@given(name=st.sampled_from(NAMES), tp=st.sampled_from([2, 4, 8, 16]), step=steps)
def test_shards_do_at_least_the_whole(name: str, tp: int, step: dict[str, Any]) -> None:
    """All GPUs together compute and move no less than one would, each of them less."""
    spec = SPECS[name]
    if tp not in valid_tensor_parallel(spec):
        return
    whole, shard = (ForwardPass(spec, t).kernels(**step) for t in (1, tp))
    assert tp * total_flops(shard) >= total_flops(whole) > total_flops(shard)
    here = [k for k in shard if not isinstance(k, AllReduce | AllGather)]
    assert tp * total_bytes(here) >= total_bytes(whole) * (1 - 1e-12)
    assert total_bytes(here) < total_bytes(whole)
