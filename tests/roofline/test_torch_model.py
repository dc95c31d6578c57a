"""Timing a model's shapes with PyTorch: what is missing is said; FLOPs are those computed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from blis_sim.catalog.model_spec import ModelSpec
from blis_sim.catalog.models import load_model
from blis_sim.cli.main import main
from blis_sim.errors import ConfigError
from blis_sim.roofline.repeated_timing import QUICK, Effort, Timing
from blis_sim.roofline.torch_device import open_torch
from blis_sim.roofline.torch_model import ModelLoad, ModelTimes, time_model

SMALL = ModelSpec(
    name="small",
    num_layers=3,
    hidden_size=64,
    num_attention_heads=4,
    num_kv_heads=2,
    head_dim=16,
    intermediate_size=96,
    vocab_size=256,
    max_position_embeddings=512,
    dtype="float32",
    weight_bits=32,
    num_full_attention_layers=3,
)


def test_without_pytorch_one_line_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr, with exit code 2."""
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["roofline", "measure", "--model", "llama-3.1-8b", "--gpu", "cuda"]) == 2
    error = capsys.readouterr().err
    assert "install it with: pip install torch" in error
    assert error.count("\n") == 1


def test_devices_that_are_none() -> None:
    """A GPU of the catalog is no device of this machine."""
    with pytest.raises(ConfigError, match="device must be cuda, cuda:N or cpu; got 'H100'"):
        open_torch("H100")


def torch_or_skip() -> Any:
    """Return PyTorch; it is no dependency."""
    return pytest.importorskip("torch", minversion="2.5")


def test_without_a_gpu_the_remedy_is_named() -> None:
    """A build without CUDA and a hidden GPU are told apart."""
    torch = torch_or_skip()
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match=r"cuda must be a GPU; PyTorch .* (without|sees no)"):
        open_torch("cuda")


def timed(model: ModelSpec, load: ModelLoad, timer: Callable[..., Timing]) -> ModelTimes:
    """Time a model on the processor."""
    return time_model(model, open_torch("cpu"), load, effort=QUICK, timer=timer)


@pytest.mark.parametrize("gated", [True, False])
def test_what_is_counted_is_what_is_computed(gated: bool) -> None:
    """PyTorch's own count of the products is that of the arithmetic.

    Of attention it counts the whole square, of which a causal mask needs half: another
    2 x 2 x heads x width x tokens^2 / 2.
    """
    torch_or_skip()
    from torch.nn.attention import (  # type: ignore[import-not-found]
        SDPBackend,
        sdpa_kernel,
    )
    from torch.utils.flop_counter import FlopCounterMode  # type: ignore[import-not-found]

    model = replace(SMALL, gated_mlp=gated)
    counts: list[int] = []

    def timer(call: Callable[[], object], effort: Effort) -> Timing:
        # Attention as plain products: PyTorch does not count its fused kernel for processors.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            call()
        counts.append(counter.get_total_flops())
        return Timing(0.01, 0.0, effort.runs, 1, 0.01, 0.01)

    batch, tokens = 2, 24
    times = timed(model, ModelLoad(prompt_tokens=tokens, batch=batch), timer)
    prefill, decode = times.phases
    width = model.num_attention_heads * model.head_dim
    masked = model.num_layers * batch * 4 * width * tokens**2 // 2
    assert counts == [prefill.flops + masked, decode.flops]
    assert (prefill.tokens, decode.tokens) == (batch * tokens, batch)
    assert decode.point.tflops == pytest.approx(decode.flops / 0.01 / 1e12)


def steady(call: Callable[[], object], effort: Effort) -> Timing:
    """Make one call, which takes 10 ms."""
    call()
    return Timing(0.01, 0.0, effort.runs, 1, 0.01, 0.01)


def test_layers_that_do_not_fit_are_used_in_turn() -> None:
    """The notes say what was timed."""
    torch_or_skip()
    device = open_torch("cpu")
    layer_bytes = 4 * (64 * (64 + 64) + 64 * 64 + 3 * 64 * 96 + 2 * 2 * 9 * 16)
    head_bytes = 4 * 64 * 256
    tight = replace(device, free_bytes=2 * (2 * layer_bytes + head_bytes))
    load = ModelLoad(prompt_tokens=8)
    notes = time_model(SMALL, tight, load, timer=steady).notes
    assert notes[0].startswith("weights are random")
    assert notes[1].startswith("memory holds 2 of 3 layers")
    none = replace(device, free_bytes=2 * (layer_bytes + head_bytes) - 2)
    with pytest.raises(ConfigError, match="must fit into half of the free memory"):
        time_model(SMALL, none, load, timer=steady)


@pytest.mark.parametrize(
    ("name", "load", "match"),
    [
        ("mixtral-8x7b", ModelLoad(), "must be dense"),
        ("llama-3.1-8b", ModelLoad(batch=0), "batch must be at least 1"),
        ("mistral-7b-instruct-v0.1", ModelLoad(prompt_tokens=8192), "window of 4096 tokens"),
    ],
)
def test_models_and_loads_that_cannot_be_timed(name: str, load: ModelLoad, match: str) -> None:
    """Before anything is allocated."""
    torch_or_skip()
    with pytest.raises(ConfigError, match=match):
        timed(load_model(name), load, steady)
