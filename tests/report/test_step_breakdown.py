from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blis_sim.catalog.gpus import load_gpu
from blis_sim.catalog.models import load_model
from blis_sim.latency.base import Batch, PrefillChunk
from blis_sim.latency.kernel_tables.borrow import tables_for
from blis_sim.latency.roofline_v2.host import HostModel
from blis_sim.latency.roofline_v2.model import RooflineV2Model
from blis_sim.report.step_breakdown import DecodeSet, StepBreakdown, break_down
from blis_sim.transformer.forward_pass import ForwardPass
from blis_sim.transformer.kernels import total_bytes, total_flops

DEPLOYMENTS = [
    ("llama-3.1-8b", "H100", 1),
    ("llama-3.1-70b", "L40S", 4),
    ("deepseek-v3", "H200", 8),
    ("mixtral-8x7b", "A10", 2),
    ("gemma-2-9b", "A100-80", 1),
    ("gpt-oss-120b", "B200", 2),
]
HOST = HostModel(constant_us=200.0, per_request_us=5.5, per_layer_us=10.25)


@cache
def make_model(model: str = "llama-3.1-8b", gpu: str = "H100", tp: int = 1) -> RooflineV2Model:
    spec = load_gpu(gpu)
    forward = ForwardPass(load_model(model), tp, has_fp8=spec.fp8_tflops_dense is not None)
    return RooflineV2Model(forward, tables_for(spec).tables, HOST)


def chunks(*sizes: tuple[int, int]) -> list[PrefillChunk]:
    return [PrefillChunk(*size) for size in sizes]


def only(step: StepBreakdown, name: str) -> list[str]:
    """Return what bounds the lines of a name."""
    return [line.bound_by for line in step.lines if line.name == name]


BATCHES = st.tuples(
    st.lists(
        st.tuples(st.sampled_from([0, 1, 700, 9000]), st.sampled_from([1, 20, 512])), max_size=4
    ),
    st.lists(st.tuples(st.integers(1, 100), st.integers(0, 20_000)), max_size=3),
).filter(lambda batch: bool(batch[0] or batch[1]))


@settings(max_examples=60, deadline=None)
@given(deployment=st.sampled_from(DEPLOYMENTS), batch=BATCHES)
def test_lines_add_up_to_the_step(
    deployment: tuple[str, str, int],
    batch: tuple[list[tuple[int, int]], list[tuple[int, int]]],
) -> None:
    """Times are those of the model but for its rounding; work is that of the forward pass.

    No line is faster than peak and bandwidth allow.
    """
    model = make_model(*deployment)
    prefills, decodes = chunks(*batch[0]), [DecodeSet(*each) for each in batch[1]]
    count = sum(each.num_requests for each in decodes)
    context = sum(each.num_requests * each.context_tokens for each in decodes)
    step = break_down(model, prefills, decodes)
    assert step.step_time_us == model.step_time(Batch(count, context, prefills))
    # Half a microsecond, and half a nanosecond for each part the model keeps.
    assert step.total.time_us == pytest.approx(step.step_time_us, abs=0.52)
    kernels = model.forward.kernels(
        prefills=prefills, num_decodes=count, sum_decode_context=context
    )
    assert step.total.flops == pytest.approx(total_flops(kernels))
    assert sum(line.bytes for line in step.lines) == pytest.approx(total_bytes(kernels))
    for line in step.lines:
        assert max(line.compute_us, line.memory_us) <= line.time_us * (1 + 1e-9)


def test_one_kind_of_chunk_is_one_line() -> None:
    """Equal chunks of several requests run the same kernel more often."""
    step = break_down(make_model(), chunks((0, 512), (0, 512), (512, 512)), [])
    lines = [line for line in step.lines if line.name == "prefill_attention"]
    assert {(line.shape, line.count) for line in lines} == {
        ("512 new @ 0", 64),
        ("512 new @ 512", 32),
    }


def test_launching_attention_is_a_line_unless_decodes_hide_it() -> None:
    """Once per layer, with prompts only."""
    model = make_model()
    assert only(break_down(model, chunks((0, 64), (0, 64)), []), "attention launch") == ["launch"]
    both = break_down(model, chunks((0, 64)), [DecodeSet(64, 4096)])
    assert only(both, "attention launch") == []
    assert only(break_down(model, [], [DecodeSet(1, 0)]), "attention launch") == []


def test_what_bounds_a_kernel() -> None:
    """A large product by compute, decoding by memory, a small one by neither."""
    model = make_model()
    large = break_down(model, chunks((0, 4096)), [DecodeSet(64, 4096)])
    assert only(large, "gate_up") == ["compute"]
    assert only(large, "decode_attention") == ["memory"]
    assert only(large, "host") == ["host"]
    small = break_down(model, [], [DecodeSet(1, 1)])
    assert only(small, "decode_attention") == ["overhead"]
    assert only(small, "gate_up") == ["memory"]


def test_large_messages_are_bound_by_the_links_and_small_ones_are_not() -> None:
    """They have no share of the memory bandwidth."""
    model = make_model("llama-3.1-70b", "H100", 4)
    large = break_down(model, chunks((0, 8192)), [])
    assert only(large, "allreduce") == ["link"]
    small = break_down(model, [], [DecodeSet(1, 100)])
    assert only(small, "allreduce") == ["overhead"]
    messages = large.groups()["communication"]
    assert [line.name for line in messages] == ["allreduce", "embedding_allreduce", "logits"]
    assert all(line.bytes > 0 for line in messages)
    assert sum(line.memory_us for line in messages) == 0


def test_what_the_times_rest_on() -> None:
    """Measured here, another shape, another GPU, no table: each is told apart."""
    own = {
        line.name: line.evidence for line in break_down(make_model(), chunks((0, 64)), []).lines
    }
    assert own["qkv"].summary == "measured"
    assert (own["qkv"].measured_on, own["qkv"].measured_shape) == ("H100", "4096-6144")
    assert own["qkv"].file == "bench_data/h100/gemm_bench/gemm_bf16.csv"
    assert own["lm_head"].summary == "nearest shapes"
    assert own["lm_head"].measured_shape.count(", ") > 0
    assert own["norm"].summary == "assumed share of bandwidth"
    assert own["norm"].file is None
    borrowed = break_down(make_model("mixtral-8x7b", "A10", 2), chunks((0, 64)), [])
    assert {
        line.evidence.summary.partition(",")[0]
        for line in borrowed.lines
        if line.evidence.file is not None
    } == {"borrowed from L40S"}


def test_beyond_the_table_is_said() -> None:
    """A context of a million tokens was never measured."""
    step = break_down(make_model(), [], [DecodeSet(1, 1_000_000)])
    (line,) = (line for line in step.lines if line.name == "decode_attention")
    assert line.evidence.summary == "extrapolated"


def test_an_empty_step_has_no_lines() -> None:
    """The model's least time remains."""
    step = break_down(make_model(), [], [])
    assert step.lines == ()
    assert step.step_time_us == 1
