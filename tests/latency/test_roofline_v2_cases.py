"""Roofline v2: steps by hand, and deployments out of the ordinary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from blis_sim.catalog.models import load_model
from blis_sim.errors import ConfigError
from blis_sim.latency.base import Batch, PrefillChunk
from blis_sim.latency.roofline_v2.host import HostModel
from blis_sim.latency.roofline_v2.model import RooflineV2Model
from blis_sim.transformer.forward_pass import ForwardPass
from blis_sim.transformer.kernels import Gemm

from .kernel_tables_written import (
    make_gpu,
    tables_of,
    write_decode,
    write_gemm,
    write_prefill,
)
from .roofline_v2_built import SMALL_SPEC, real_model, shipped_tables, small_model, small_tables

HOST = HostModel(constant_us=10.0, per_request_us=2.0, per_layer_us=1.0)


def test_small_model_by_hand() -> None:
    """One decode at context 7: GEMMs at the least time, attention at its first measured point.

    Per layer QKV (64 x 128), O (64 x 64), gate and up (64 x 256), down (128 x 64) and once the
    LM head (64 x 100), each as efficient as 64 x 64, so longer in proportion to its bytes, but
    never shorter than the 1.1 us of the table. Elementwise kernels of so few bytes take 3 us.
    """
    model = RooflineV2Model(ForwardPass(SMALL_SPEC, 1), small_tables(), HOST)
    kernels = model.forward.kernels(num_decodes=1, sum_decode_context=7)
    square = Gemm("square", 1, 64, 64).bytes
    gemms = [kernel for kernel in kernels if isinstance(kernel, Gemm)]
    assert len(gemms) == 5
    gemm_us = sum(max(1.1, 1.1 * gemm.bytes / square) * gemm.count for gemm in gemms)
    moved_us = sum(
        3.0 * kernel.count
        for kernel in kernels
        if not isinstance(kernel, Gemm) and "attention" not in kernel.name
    )
    host_us = 10.0 + 2.0 * 1 + 1.0 * 2
    expected_us = gemm_us + moved_us + 2 * 2.3 + host_us
    assert model.step_time(Batch(1, 7)) == round(expected_us)


def test_decode_attention_between_measured_points() -> None:
    """4 decodes that grow from 10 to 20 tokens are on the line between those measured at 8, 40."""
    model = RooflineV2Model(ForwardPass(SMALL_SPEC, 1), small_tables(), HostModel())
    one_token_us = (17.9 - 4.7) / 32  # both layers: 20 is inside the window of 24
    run = model.decode_run(Batch(4, 4 * 9), 11)
    assert run[10] - run[0] == pytest.approx(10 * 2 * one_token_us, abs=1)
    beyond = model.decode_run(Batch(4, 4 * 25), 11)  # one layer: 25 is outside
    assert beyond[10] - beyond[0] == pytest.approx(10 * one_token_us, abs=1)


def test_host_is_added_to_every_step() -> None:
    """Constant, requests and layers: the same for decodes and prompts."""
    plain = real_model("Llama-3.1-8B-Instruct", "H100", has_host=False)
    host = HostModel(constant_us=100.0, per_request_us=5.0, per_layer_us=10.0)
    hosted = RooflineV2Model(plain.forward, plain.timer.tables, host)
    batches = [
        Batch(7, 7000),
        Batch(0, 0, [PrefillChunk(0, 900)]),
        Batch(2, 9, [PrefillChunk(0, 5)]),
    ]
    for batch in batches:
        requests = batch.num_decodes + len(batch.prefills)
        expected_us = 100 + 5 * requests + 10 * 32
        assert hosted.step_time(batch) - plain.step_time(batch) == expected_us


def test_empty_batch_takes_the_least_time() -> None:
    """No work, no host: the least duration there is."""
    assert small_model().step_time(Batch()) == 1
    assert real_model("Llama-3.1-8B-Instruct", "H100").step_time(Batch(0, 0, [])) == 1


def test_a_step_is_at_least_its_launches(tmp_path: Path) -> None:
    """Where all measured kernels round to 0, elementwise kernels remain: 3 us each."""
    write_gemm(tmp_path, [(1, 64, 64, 1e-4)])
    write_decode(tmp_path, [(1, 8, 1e-4)], heads="4-2-16")
    write_prefill(tmp_path, [(8, 1e-4)], heads="4-2-16")
    gpu = make_gpu(bf16_tflops_dense=1e6, hbm_gb_per_s=1e9)
    model = RooflineV2Model(ForwardPass(SMALL_SPEC, 1), tables_of(tmp_path, gpu), HostModel())
    # Embedding, sampling, the last norm, and in each of two layers four others.
    assert model.step_time(Batch(1, 5)) == 33
    assert model.step_time(Batch(1, 5, [PrefillChunk(0, 2)])) == 33
    assert model.decode_run(Batch(1, 5), 3).tolist() == [33, 33, 33]


def test_zero_context() -> None:
    """A request that decodes without context attends to its own token."""
    for model in (small_model(), real_model("Llama-3.1-8B-Instruct", "H100")):
        assert 1 <= model.step_time(Batch(4, 0)) <= model.step_time(Batch(4, 4))
        assert model.decode_run(Batch(4, 0), 3)[0] == model.step_time(Batch(4, 0))


@pytest.mark.parametrize(
    ("name", "tp"), [("Qwen2.5-7B-Instruct", 8), ("Llama-3.1-8B-Instruct", 3), ("phi-4", 4)]
)
def test_degrees_that_do_not_divide_the_heads(name: str, tp: int) -> None:
    """An error that names the degrees that work."""
    with pytest.raises(ConfigError, match=rf"must split .* heads .* got {tp}; valid: 1, 2"):
        real_model(name, "H100", tp)


@pytest.mark.parametrize("name", ["Qwen3-0.6B", "Qwen3-4B", "Mistral-Nemo-Instruct-2407"])
def test_head_dim_of_the_config_counts(name: str) -> None:
    """Where h is not d / H attention and projections have the width of the config."""
    model = real_model(name, "H100", has_host=False)
    spec = model.forward.spec
    narrow = spec.hidden_size // spec.num_attention_heads
    assert narrow != spec.head_dim
    other = RooflineV2Model(
        ForwardPass(replace(spec, head_dim=narrow), 1), shipped_tables("H100"), HostModel()
    )
    batch = Batch(64, 64 * 8000)
    ratio = model.step_time(batch) / other.step_time(batch)
    assert (ratio > 1) == (spec.head_dim > narrow)


def test_tied_embeddings_cost_the_same() -> None:
    """The LM head is a GEMM of its own whether or not it shares the embedding's memory."""
    spec = load_model("Qwen2.5-0.5B-Instruct")
    assert spec.tie_word_embeddings
    untied = ForwardPass(replace(spec, tie_word_embeddings=False), 1)
    other = RooflineV2Model(untied, shipped_tables("H100"), HostModel())
    model = real_model("Qwen2.5-0.5B-Instruct", "H100", has_host=False)
    for batch in (Batch(5, 5000), Batch(0, 0, [PrefillChunk(0, 300)])):
        assert model.step_time(batch) == other.step_time(batch)


def test_sliding_window_bounds_attention() -> None:
    """With a window in every layer context beyond it costs nothing; without one it does."""
    windowed = real_model("Mistral-7B-Instruct-v0.1", "H100", has_host=False)
    assert windowed.forward.attention_windows == ((4096, 32),)
    full = real_model("Mistral-7B-Instruct-v0.3", "H100", has_host=False)
    inside, beyond = Batch(8, 8 * 4096), Batch(8, 8 * 30_000)
    assert windowed.step_time(inside) == windowed.step_time(beyond)
    assert full.step_time(inside) * 1.5 < full.step_time(beyond)
    chunk = [PrefillChunk(8192, 512)]
    far = [PrefillChunk(30_000, 512)]
    assert windowed.step_time(Batch(0, 0, chunk)) == windowed.step_time(Batch(0, 0, far))
    assert full.step_time(Batch(0, 0, chunk)) < full.step_time(Batch(0, 0, far))


def test_mixed_windows() -> None:
    """Gemma 3: only the layers with full attention grow beyond the window."""
    model = real_model("gemma-3-1b-it", "H100", has_host=False)
    (_, full), (window, _) = model.forward.attention_windows
    assert window is not None
    layers = model.forward.spec.num_layers
    run = model.decode_run(Batch(64, 64 * (window + 10)), 8000)
    all_full = RooflineV2Model(
        ForwardPass(replace(model.forward.spec, sliding_window=None), 1),
        shipped_tables("H100"),
        HostModel(),
    ).decode_run(Batch(64, 64 * (window + 10)), 8000)
    share = (run[-1] - run[0]) / (all_full[-1] - all_full[0])
    assert share == pytest.approx(full / layers, rel=0.02)
