"""The script that fits the host model: what it reads from a run, and that it finds figures."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blis_sim.latency.roofline_v2.host import HostModel

sys.path.append(str(Path(__file__).resolve().parent.parent / "scripts"))

from fit_host_model import Stage, Step, errors, fit_host, least_squares_from_0, stage_of, step_of

FIGURES = st.floats(0, 500)


def make_row(**changes: str) -> dict[str, str]:
    row = {
        "role": "calib",
        "stage": "1",
        "model": "Llama-3.1-8B-Instruct",
        "gpu": "H100",
        "tp": "1",
        "prompt_tokens": "100",
        "output_tokens": "40",
        "stage_rates": "5|10",
        "prompt_pool": "100",
        "prefix_caching": "1",
        "ttft_mean_ms": "50",
        "tpot_mean_ms": "20",
        "e2e_mean_ms": "850",
    }
    return row | changes


def make_step(batch: float, num_layers: int, kernels_us: float, host: HostModel) -> Step:
    """Return a step that takes what ``host`` says, to the digit."""
    tpot_us = kernels_us + host.constant_us + host.per_layer_us * num_layers
    tpot_us += host.per_request_us * batch
    stage = Stage("calib", "a/model", "H100", 1, 0.0, batch, 500.0, 0, 400, tpot_us)
    return Step(stage, num_layers, kernels_us)


def test_stage_of_a_row() -> None:
    """10 per s for 0.8 s are 8 requests; 0.2 prompts arrive in a step, 4 tokens not cached."""
    stage = stage_of(make_row())
    assert stage is not None
    assert stage.rate_per_s == 10.0
    assert stage.batch == pytest.approx(8.0)
    assert stage.prompts_per_step == pytest.approx(0.2)
    assert stage.requests == pytest.approx(8.2)
    assert stage.context_tokens == 120.0
    assert (stage.prompt_tokens, stage.cached_tokens) == (100, 96)


def test_a_prompt_is_computed_whole_without_a_cache() -> None:
    """Without a pool of prompts, or with prefix caching off, nothing of a prompt is cached."""
    for changes in ({"prompt_pool": ""}, {"prefix_caching": "0"}):
        stage = stage_of(make_row(**changes))
        assert stage is not None
        assert stage.cached_tokens == 0


def test_rows_without_a_stage_are_left_out() -> None:
    """A whole run, and a stage without a measured TPOT, are no stage."""
    assert stage_of(make_row(stage="-1")) is None
    assert stage_of(make_row(tpot_mean_ms="")) is None


def test_single_rate_is_that_of_every_stage() -> None:
    """Runs whose stages are rows of their own give one rate each."""
    stage = stage_of(make_row(stage_rates="31.5", stage="2"))
    assert stage is not None
    assert stage.rate_per_s == 31.5


def test_batch_between_whole_numbers_lies_between() -> None:
    """The kernels of 8.5 requests take the mean of those of 8 and 9; a longer prompt, more."""
    rows = [make_row(stage_rates="10", e2e_mean_ms=e2e) for e2e in ("850", "900", "950")]
    few, half, more = (step_of(stage) for stage in map(stage_of, rows) if stage is not None)
    assert few.kernels_us < more.kernels_us
    assert half.kernels_us == pytest.approx((few.kernels_us + more.kernels_us) / 2)
    assert few.num_layers == 32
    uncached = stage_of(make_row(stage_rates="10", prompt_pool=""))
    assert uncached is not None
    assert step_of(uncached).kernels_us > few.kernels_us


@settings(max_examples=50, deadline=None, derandomize=True)
@given(FIGURES, st.floats(0, 20), st.floats(0, 30))
def test_figures_are_found_again(constant: float, per_request: float, per_layer: float) -> None:
    """From steps that follow a host model exactly its figures come back."""
    host = HostModel(constant, per_request, per_layer)
    steps = [
        make_step(batch, layers, 3000.0 + 100 * layers + 30 * batch, host)
        for batch in (1.0, 8.5, 40.0, 90.0)
        for layers in (16, 32, 80)
    ]
    found = fit_host(steps)
    assert found.constant_us == pytest.approx(constant, abs=1e-3)
    assert found.per_request_us == pytest.approx(per_request, abs=1e-4)
    assert found.per_layer_us == pytest.approx(per_layer, abs=1e-4)
    assert np.abs(errors(steps, found)).max() < 1e-6


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(*[st.floats(-3, 3)] * 4), min_size=3, max_size=8))
def test_least_squares_from_0(rows: list[tuple[float, ...]]) -> None:
    """The optimality conditions: x >= 0, slope >= 0 where x is 0, slope 0 where it is not."""
    table = np.round(np.array(rows), 2) + 1e-3 * np.eye(len(rows), 4)
    left, right = table[:, :3], table[:, 3]
    x = least_squares_from_0(left, right)
    slope = left.T @ (left @ x - right)
    assert np.all(x >= 0)
    assert np.all(slope >= -1e-6)
    assert np.abs(slope * x).max() < 1e-6 * (1 + x.max()) ** 2


def test_what_would_be_negative_is_0() -> None:
    """Steps faster than their kernels leave nothing for the host."""
    steps = [make_step(4.0, layers, 5000.0, HostModel(-100.0)) for layers in (16, 32)]
    assert fit_host(steps) == HostModel()
