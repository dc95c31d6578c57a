"""Kernels: FLOPs and bytes of one execution, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.errors import ConfigError
from blis_sim.transformer.kernels import (
    AllGather,
    AllReduce,
    BatchedGemm,
    Elementwise,
    Gemm,
    MoeExperts,
    arithmetic_intensity,
    expected_experts,
    total_bytes,
    total_flops,
)


def make_experts(num_tokens: int = 4, **changes: object) -> MoeExperts:
    shape = {"hidden": 16, "width": 8, "num_experts": 32, "top_k": 2} | changes
    return MoeExperts("experts", num_tokens, **shape)  # type: ignore[arg-type]


def test_gemm_by_hand() -> None:
    """2 m n k FLOPs; weights, input and result move once, two bytes an element in bf16."""
    gemm = Gemm("qkv", 3, 5, 7, count=4)
    assert gemm.flops == 2 * 3 * 5 * 7
    assert gemm.num_weights == 35
    assert gemm.bytes_read == 2 * (5 * 7 + 3 * 5)
    assert gemm.bytes_written == 2 * 3 * 7
    assert gemm.bytes == gemm.bytes_read + gemm.bytes_written
    assert total_flops([gemm, gemm]) == 8 * gemm.flops
    assert total_bytes([gemm]) == 4 * gemm.bytes
    assert arithmetic_intensity(gemm) == gemm.flops / gemm.bytes


@pytest.mark.parametrize(
    ("weight_dtype", "scale_bits", "computes_in", "weight_bytes", "input_bytes"),
    [
        ("bf16", 0.0, "bf16", 16 * 32 * 2, 2),
        ("fp8", 0.0, "fp8", 16 * 32, 1),
        ("fp8_block", 0.25, "fp8", 16 * 32 * 8.25 / 8, 1),
        ("fp8_weight_only", 0.0, "bf16", 16 * 32, 2),
        ("int8", 0.0, "int8", 16 * 32, 1),
        ("int8_weight_only", 0.0, "bf16", 16 * 32, 2),
        ("int4", 0.125, "bf16", 16 * 32 * 4.125 / 8, 2),
        ("int3", 0.0, "bf16", 16 * 32 * 3 / 8, 2),
        ("mxfp4", 0.25, "bf16", 16 * 32 * 4.25 / 8, 2),
        ("nvfp4", 0.5, "bf16", 16 * 32 * 4.5 / 8, 2),
    ],
)
def test_quantised_gemm(
    weight_dtype: str, scale_bits: float, computes_in: str, weight_bytes: float, input_bytes: int
) -> None:
    """fp8 and int8 compute in 8 bits on 8-bit inputs; narrower weights are only read so."""
    gemm = Gemm("up", 4, 16, 32, weight_dtype, scale_bits=scale_bits)
    assert gemm.compute_dtype == computes_in
    assert gemm.weight_bytes == weight_bytes
    assert gemm.bytes_read == weight_bytes + 4 * 16 * input_bytes
    assert gemm.bytes_written == 4 * 32 * 2
    assert gemm.flops == Gemm("up", 4, 16, 32).flops


def test_unknown_dtype_names_the_nearest() -> None:
    """A misspelt type is an error, not 0 bytes."""
    with pytest.raises(ConfigError, match=r"dtype must be a known name; got 'fp6'; nearest: fp"):
        _ = Gemm("up", 1, 1, 1, "fp6").bytes
    with pytest.raises(ConfigError, match=r"must have whole bytes; got 'mxfp4'"):
        _ = Gemm("up", 1, 1, 1, activation_dtype="mxfp4").bytes


def test_batched_gemm_by_hand() -> None:
    """One product per head: each has its own weights, rows and result."""
    gemm = BatchedGemm("absorb_q", 16, 3, 5, 7)
    assert gemm.compute_dtype == "bf16"
    assert gemm.num_weights == 16 * 35
    assert gemm.flops == 16 * 2 * 3 * 5 * 7
    assert gemm.bytes == 16 * 2 * (3 * 5 + 5 * 7 + 3 * 7)


def test_experts_by_hand() -> None:
    """Two tokens of one expert each: three matrices, and each intermediate there and back."""
    d, f, rows = 16, 8, 2
    experts = make_experts(num_tokens=2, num_experts=2, top_k=1)
    assert experts.experts_touched == 1.5  # the second token hits the first one's expert or not
    assert experts.weights_per_expert == 3 * d * f
    assert experts.flops == rows * 2 * 3 * d * f
    assert experts.weight_bytes == 1.5 * 3 * d * f * 2
    # in d -> 2 F -> read, F out -> read, d out -> read, and the sum.
    moved = rows * (d + 2 * f + 2 * f + f + f + d + d + d)
    assert experts.bytes == experts.weight_bytes + 2 * moved


def test_experts_without_gate() -> None:
    """Two matrices: two thirds of the weights and FLOPs, and the activation reads F."""
    d, f = 16, 8
    plain, gated = make_experts(num_matrices=2), make_experts()
    assert 3 * plain.flops == 2 * gated.flops
    assert 3 * plain.weight_bytes == pytest.approx(2 * gated.weight_bytes)
    rows = plain.num_tokens * plain.top_k
    moved = rows * (d + f + f + f + f + d + d) + plain.num_tokens * d
    assert plain.bytes == pytest.approx(plain.weight_bytes + 2 * moved)


def test_quantised_experts() -> None:
    """The weights of the experts in use count at their bits with scales."""
    bf16, mxfp4 = make_experts(), make_experts(weight_dtype="mxfp4", scale_bits=0.25)
    assert mxfp4.weight_bytes == pytest.approx(bf16.weight_bytes * 4.25 / 16)
    assert mxfp4.bytes - mxfp4.weight_bytes == pytest.approx(bf16.bytes - bf16.weight_bytes)
    assert mxfp4.compute_dtype == "bf16"
    assert make_experts(weight_dtype="fp8_block").compute_dtype == "fp8"


@pytest.mark.parametrize(
    ("num_experts", "top_k", "num_tokens"),
    [(8, 2, 1), (8, 2, 4), (128, 8, 16), (256, 8, 40), (16, 1, 7)],
)
def test_expected_experts_against_drawing_them(
    num_experts: int, top_k: int, num_tokens: int
) -> None:
    """Drawing k distinct experts per token gives the formula's mean, within 4 errors."""
    rng = np.random.default_rng(4)
    draws = 2000
    scores = rng.random((draws, num_tokens, num_experts))
    chosen = np.argpartition(scores, top_k - 1, axis=2)[:, :, :top_k]
    touched = [np.unique(one).size for one in chosen]
    error = float(np.std(touched)) / draws**0.5
    mean = float(np.mean(touched))
    assert mean == pytest.approx(expected_experts(num_experts, top_k, num_tokens), abs=4 * error)


@given(experts=st.integers(2, 512), top_k=st.integers(1, 8), num_tokens=st.integers(1, 100_000))
def test_expected_experts_stay_in_bounds(experts: int, top_k: int, num_tokens: int) -> None:
    """A token touches k; more tokens never fewer; never more than there are or were chosen."""
    top_k = min(top_k, experts)
    assert expected_experts(experts, top_k, 0) == 0
    assert expected_experts(experts, top_k, 1) == pytest.approx(top_k)
    touched = expected_experts(experts, top_k, num_tokens)
    assert touched <= min(experts, top_k * num_tokens) * (1 + 1e-12)
    assert touched <= expected_experts(experts, top_k, num_tokens + 1)


def test_kernels_that_compute_nothing() -> None:
    """Data movement has bytes, no FLOPs, and thereby intensity 0."""
    for kernel in (
        Elementwise("norm", 64, 3),
        AllReduce("allreduce", 64, 2, 3),
        AllGather("logits", 64, 2, 3),
    ):
        assert (kernel.flops, kernel.bytes, kernel.count) == (0, 64, 3)
        assert arithmetic_intensity(kernel) == 0
    assert arithmetic_intensity(Elementwise("norm", 0)) is None
