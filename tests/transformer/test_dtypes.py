"""Which type weights are stored and multiplied in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from blis_sim.catalog.models import load_model
from blis_sim.errors import ConfigError
from blis_sim.transformer.dtypes import cache_dtype, dtype_bits, dtype_bytes, weight_dtype
from blis_sim.transformer.forward_pass import ForwardPass
from blis_sim.transformer.kernels import Gemm, MoeExperts


def test_bits() -> None:
    """Names say the bits; unknown ones are errors."""
    assert [dtype_bits(d) for d in ("fp32", "bf16", "fp16", "fp8", "int8", "int4")] == [
        32,
        16,
        16,
        8,
        8,
        4,
    ]
    assert dtype_bytes("fp32") == 4
    with pytest.raises(ConfigError, match=r"dtype must be a known name; got 'int9'"):
        dtype_bits("int9")


@pytest.mark.parametrize(
    ("name", "part", "expected"),
    [
        ("llama-3.1-8b-instruct", "mlp", "bf16"),
        ("llama-3.3-70b-instruct-fp8-dynamic", "mlp", "fp8"),
        ("llama-3.3-70b-instruct-fp8-dynamic", "lm_head", "bf16"),
        ("llama-3.3-70b-instruct-quantized.w8a8", "attention", "int8"),
        ("llama-3.3-70b-instruct-quantized.w4a16", "attention", "int4"),
        ("qwen3-32b-fp8", "mlp", "fp8_block"),
        ("deepseek-v3", "experts", "fp8_block"),
        ("deepseek-v3", "router", "bf16"),
        ("gpt-oss-20b", "experts", "mxfp4"),
        ("gpt-oss-20b", "attention", "bf16"),
        ("llama-4-maverick-17b-128e-instruct-fp8", "experts", "fp8"),
        ("llama-4-maverick-17b-128e-instruct-fp8", "shared_experts", "bf16"),
        ("llama-2-7b-hf", "mlp", "fp16"),
    ],
)
def test_weights_of_shipped_checkpoints(name: str, part: str, expected: str) -> None:
    """Only the parts a checkpoint quantises are narrow, in the form it uses."""
    assert weight_dtype(load_model(name), part) == expected


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("fp8", "fp8"),
        ("fbgemm-fp8", "fp8"),
        ("int8", "int8"),
        ("w8a8", "int8"),
        ("w4a16", "int4"),
        ("awq", "int4"),
        ("gptq", "int4"),
        ("bitsandbytes", "int4"),
        ("mxfp4", "mxfp4"),
        ("nvfp4", "nvfp4"),
    ],
)
def test_weights_quantised_on_request(method: str, expected: str) -> None:
    """Every method the catalog knows has a type of weights."""
    spec = load_model("llama-3.1-8b-instruct").with_overrides(quantization=method)
    assert weight_dtype(spec, "mlp") == expected


@pytest.mark.parametrize(
    ("name", "method", "bits", "expected"),
    [
        ("a/model-GPTQ-Int8", "gptq", 8, "int8_weight_only"),
        ("a/model-quantized.w8a16", "compressed-tensors", 8, "int8_weight_only"),
        ("a/model-W8A8-FP8", "compressed-tensors", 8, "fp8"),
        ("a/model", "compressed-tensors", 8, "fp8"),
        ("a/model", "modelopt", 8, "fp8"),
        ("a/model", "modelopt", 4, "nvfp4"),
        ("a/model", "gptq", 3, "int3"),
        ("a/model", "compressed-tensors", 16, "bf16"),
    ],
)
def test_what_bits_leave_open(name: str, method: str, bits: int, expected: str) -> None:
    """Eight bits are integers or weight-only when method or name say so, else fp8."""
    spec = replace(
        load_model("llama-3.1-8b-instruct"), name=name, quantization=method, weight_bits=bits
    )
    assert weight_dtype(spec, "mlp") == expected


def test_without_fp8_units_weights_are_widened() -> None:
    """fp8 weights on a GPU without fp8: half the bytes are read, 16 bits are multiplied."""
    spec = load_model("llama-3.3-70b-instruct-fp8-dynamic")
    gemms = {}
    for has_fp8 in (True, False):
        kernels = ForwardPass(spec, 4, has_fp8=has_fp8).token_kernels(16)
        gemms[has_fp8] = next(k for k in kernels if isinstance(k, Gemm) and k.name == "down")
    assert gemms[True].compute_dtype == "fp8"
    assert gemms[False].compute_dtype == "bf16"
    assert gemms[True].weight_bytes == gemms[False].weight_bytes == 28672 // 4 * 8192
    int8 = load_model("llama-3.3-70b-instruct-quantized.w8a8")
    assert weight_dtype(int8, "mlp", has_fp8=False) == "int8"


@pytest.mark.parametrize(
    ("method", "bits"), [("w4a16", 4 + 16 / 128), ("awq", 4 + 20 / 128), ("fp8", 8), ("int8", 8)]
)
def test_bytes_of_quantised_weights(method: str, bits: float) -> None:
    """The linear layers shrink with their scales; LM head and activations do not."""
    plain = load_model("llama-3.1-8b-instruct")
    spec = plain.with_overrides(quantization=method)
    for wide, narrow in zip(
        ForwardPass(plain, 1).kernels(num_decodes=4, sum_decode_context=400),
        ForwardPass(spec, 1).kernels(num_decodes=4, sum_decode_context=400),
        strict=True,
    ):
        if isinstance(narrow, Gemm) and narrow.name != "lm_head":
            assert narrow.weight_bytes == narrow.k * narrow.n * bits / 8
            assert narrow.flops == wide.flops
        else:
            assert narrow == wide


def test_experts_in_their_own_format() -> None:
    """gpt-oss: 4-bit experts with an 8-bit scale per 32 weights, a 16-bit router."""
    kernels = ForwardPass(load_model("gpt-oss-20b"), 2).token_kernels(1)
    experts = next(k for k in kernels if isinstance(k, MoeExperts))
    assert experts.weight_bytes == pytest.approx(4 * 3 * 2880 * 1440 * 4.25 / 8)
    router = next(k for k in kernels if k.name == "router")
    assert isinstance(router, Gemm)
    assert (router.k, router.n, router.weight_bytes) == (2880, 32, 2 * 2880 * 32)


def test_cache_dtype() -> None:
    """auto follows the model; fp8 is the other choice; anything else is an error."""
    spec = load_model("llama-2-7b-hf")
    assert cache_dtype(spec, "auto") == "fp16"
    assert cache_dtype(spec, "fp8") == "fp8"
    with pytest.raises(ConfigError, match=r"kv_cache_dtype must be a known name; got 'int8'"):
        ForwardPass(spec, 1, kv_cache_dtype="int8")
