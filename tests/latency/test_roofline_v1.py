"""Roofline v1: the contract on real and tiny models, and the formulas by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest

from blis_sim.catalog.gpus import RooflineV1Constants, load_gpu
from blis_sim.catalog.models import load_model
from blis_sim.latency.base import Batch, LatencyModel, PrefillChunk
from blis_sim.latency.roofline_v1 import RooflineV1Model, V1Shape

from .contract import Factory, LatencyContract

SHAPE = V1Shape(
    num_layers=1,
    hidden_size=4,
    num_attention_heads=2,
    attention_weights=48,
    kv_elements_per_token=4,
    active_mlp_width=8,
    dense_mlp_width=8,
    num_experts=0,
    experts_per_token=0,
    expert_width=0,
    weight_bytes=2,
    activation_bytes=2,
)
"""L 1, d 4, H 2, K 1, h 2, F 8: d (d + 2 K h) + d^2 = 4 * 8 + 16 = 48, 2 K h = 4."""

BYTES_BOUND = RooflineV1Constants(
    peak_tflops=1.0,
    bandwidth_tb_per_s=1e-6,
    bandwidth_efficiency=0.5,
    mfu_prefill=0.5,
    mfu_decode=0.5,
    per_layer_overhead_us=20,
    fixed_overhead_us=5,
    allreduce_us=3,
)
"""1e12 FLOP/s and 1e6 * 0.5 byte/s: memory takes all the time, 2 us a byte."""

FLOPS_BOUND = replace(BYTES_BOUND, peak_tflops=1e-6, bandwidth_tb_per_s=1.0)
"""1e6 FLOP/s: 2 us per tensor FLOP (MFU 0.5), 10 us per vector FLOP; memory takes no time."""


def real(model: str, gpu: str, tp: int) -> LatencyModel:
    return RooflineV1Model(V1Shape.from_spec(load_model(model)), load_gpu(gpu).roofline_v1, tp)


class TestContract(LatencyContract):
    factories: ClassVar[dict[str, Factory]] = {
        "dense": lambda: real("meta-llama/Llama-3.1-8B-Instruct", "H100", 1),
        "dense tp 4": lambda: real("meta-llama/Llama-2-70b-hf", "A100-80GB", 4),
        "experts": lambda: real("mistralai/Mixtral-8x7B-Instruct-v0.1", "H100", 2),
        "memory bound": lambda: RooflineV1Model(SHAPE, BYTES_BOUND, 1),
        "compute bound": lambda: RooflineV1Model(
            SHAPE, replace(FLOPS_BOUND, tp_scaling_exponent=0.7), 2
        ),
    }


def step_us(batch: Batch, gpu: RooflineV1Constants, tp: int = 1) -> int:
    return RooflineV1Model(SHAPE, gpu, tp).step_time(batch)


DECODE = Batch(1, 10)
PREFILL = Batch(prefills=[PrefillChunk(4, 3)])


def test_bytes_of_a_decode() -> None:
    """Weights W = 2 (48 + 3 * 4 * 8) = 288, others Y = 4 * 2 * (10 + 1) + 4 * 2 = 96 bytes.

    (288 + 96) * 2 us + 20 + 5 = 793 us.
    """
    assert step_us(DECODE, BYTES_BOUND) == 793


def test_flops_of_a_decode() -> None:
    """G = 2 * 48 + 4 * 2 * 10 * 2 + 6 * 4 * 8 = 448, S = 5 * 2 * 10 + 2 * 4 = 108.

    448 * 2 us + 108 * 10 us + 25 = 2001 us.
    """
    assert step_us(DECODE, FLOPS_BOUND) == 2001


def test_bytes_of_a_prefill() -> None:
    """3 tokens after 4: Y = 4 * 2 * (4 + 3) + 4 * 2 * 3 = 80; (288 + 80) * 2 us + 25 = 761."""
    assert step_us(PREFILL, BYTES_BOUND) == 761


def test_flops_of_a_prefill() -> None:
    """Mean context c = 4 + (3 - 1) / 2 = 5, n = 3.

    G = 2 * 3 * 48 + 4 * 2 * 3 * 5 * 2 + 6 * 3 * 4 * 8 = 288 + 240 + 576 = 1104 and
    S = 5 * 2 * 3 * 5 + 2 * 3 * 4 = 174, so 1104 * 2 us + 174 * 10 us + 25 = 3973 us.
    """
    assert step_us(PREFILL, FLOPS_BOUND) == 3973


def test_phases_add_up_and_weights_are_read_in_each() -> None:
    """Prefill 736 us and decode 768 us follow each other: 736 + 768 + 25 = 1529 us."""
    mixed = Batch(1, 10, [PrefillChunk(4, 3)])
    assert step_us(mixed, BYTES_BOUND) == 1529


def test_one_phase_reads_the_weights_once() -> None:
    """Two decodes: 288 + 2 * 96 = 480 bytes, so 960 + 25 us."""
    assert step_us(Batch(2, 20), BYTES_BOUND) == 985


def test_tensor_parallelism_divides_work_and_adds_all_reduces() -> None:
    """TP 2: half of 768 us, plus two all-reduces of 3 us per layer: 384 + 6 + 25 = 415."""
    assert step_us(DECODE, BYTES_BOUND, tp=2) == 415


def test_scaling_exponent_is_for_compute_only() -> None:
    """TP 4 with exponent 0.5 divides compute by 2, bytes still by 4.

    1976 / 2 + 6 + 25 = 1019 us where compute bounds, 768 / 4 + 31 = 223 us where bytes do.
    """
    assert step_us(DECODE, replace(FLOPS_BOUND, tp_scaling_exponent=0.5), tp=4) == 1019
    assert step_us(DECODE, replace(BYTES_BOUND, tp_scaling_exponent=0.5), tp=4) == 223


@pytest.mark.parametrize(
    ("batch", "expected_us"), [(PREFILL, 2 * 736 + 25), (DECODE, 768 // 4 + 25)]
)
def test_bandwidth_factors_are_per_phase(batch: Batch, expected_us: int) -> None:
    """Half the bandwidth in prefill doubles 736 us; four times in decode quarters 768 us."""
    gpu = replace(BYTES_BOUND, prefill_bw_factor=0.5, decode_bw_factor=4.0)
    assert step_us(batch, gpu) == expected_us


@pytest.mark.parametrize(("fixed_us", "expected_us"), [(0.49, 788), (0.5, 789), (1.5, 790)])
def test_half_a_microsecond_rounds_up(fixed_us: float, expected_us: int) -> None:
    """768 + 20 + 0.5 = 788.5 us is 789, and 789.5 us is 790: never half to even."""
    assert step_us(DECODE, replace(BYTES_BOUND, fixed_overhead_us=fixed_us)) == expected_us


def test_experts_are_read_as_far_as_tokens_touch_them() -> None:
    """Of 4 experts, 1 per token: one token reads 1 of them, two read 4 (1 - 0.75^2) = 1.75.

    Expert width 8 and no dense part: W = 2 (48 + 12 * 8 * experts), 288 and 432 bytes.
    With contexts of 10: (288 + 96) * 2 us + 25 = 793, (432 + 192) * 2 us + 25 = 1273.
    """
    shape = replace(SHAPE, dense_mlp_width=0, num_experts=4, experts_per_token=1, expert_width=8)
    model = RooflineV1Model(shape, BYTES_BOUND, 1)
    assert shape.weights_read_bytes(1) == 288
    assert shape.weights_read_bytes(2) == 432
    assert model.step_time(DECODE) == 793
    assert model.step_time(Batch(2, 20)) == 1273
    assert model.decode_run(Batch(2, 18), 2).tolist() == [1273 - 2 * 2 * 8, 1273]


def test_a_step_has_no_uniform_time_and_no_frontend() -> None:
    """Steps grow with the context; everything outside the step is free."""
    model = RooflineV1Model(SHAPE, BYTES_BOUND, 1)
    assert model.uniform_decode_time(DECODE) is None
    assert model.output_token_time() == model.scheduling_time() == model.preemption_time() == 0


def test_head_width_is_hidden_size_over_heads() -> None:
    """v1 ignores an explicit head_dim: Mistral-Nemo's 128 is taken as 5120 / 32 = 160.

    Attention weights d (d + 2 K h) + d^2 = 5120 (5120 + 2 * 8 * 160) + 5120^2.
    """
    shape = V1Shape.from_spec(load_model("mistralai/Mistral-Nemo-Instruct-2407"))
    assert shape.attention_weights == 5120 * (5120 + 2 * 8 * 160) + 5120**2
    assert shape.kv_elements_per_token == 2 * 8 * 160
