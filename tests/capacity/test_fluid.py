"""Arithmetic of steady states: monotone, and near what the simulator serves."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from blis_sim import api
from blis_sim.capacity.fluid import (
    Flow,
    fluid_points,
    highest_fluid_rate,
    least_step_ms,
    lone_request_s,
)
from blis_sim.config.loading import load_scenario
from blis_sim.engine.resolved import Deployed
from blis_sim.latency.base import Batch
from blis_sim.workload.presets import preset

DEPLOYMENTS: dict[str, dict[str, Any]] = {
    "H100": {"hardware": "H100"},
    "L40S": {"hardware": "L40S"},
    "H100 TP 4": {"hardware": "H100", "engine": {"tensor_parallel_size": 4}},
    "A100 TP 2": {"hardware": "A100-80", "engine": {"tensor_parallel_size": 2}},
    "64 seats": {"hardware": "H100", "engine": {"max_num_seqs": 64}},
}


def deployed(**changes: Any) -> Deployed:
    return api.resolve(load_scenario(changes)).deployed


def flow_of(name: str) -> Flow:
    prompt, output = preset(name)
    assert prompt.mean is not None
    assert output.mean is not None
    return Flow(prompt.mean, prompt.mean, output.mean)


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_steady_states_are_monotone(name: str) -> None:
    """A larger batch takes no shorter steps; it serves more, until prompts fill the budget."""
    engine = deployed(**DEPLOYMENTS[name])
    points = list(fluid_points(engine, flow_of("chatbot")))
    assert points[0].num_running == 1
    for one, other in pairwise(points):
        assert one.num_running < other.num_running
        assert one.step_ms <= other.step_ms
        assert other.rate >= 0.97 * one.rate
    seats = engine.engine.scheduler.max_num_seqs
    assert seats / 1.2 <= points[-1].num_running <= seats


def test_a_point_is_a_step_of_the_latency_model() -> None:
    """A step of one request with a two hundred and fifty-sixth of its prompt."""
    engine = deployed(
        latency={"model": "blackbox", "alpha": [0, 0, 0], "beta": [9_000, 100, 1_000]}
    )
    flow = Flow(1024, 512, 256)
    first = next(iter(fluid_points(engine, flow)))
    # 9 ms, two prompt tokens at 0.1 ms, one decode at 1 ms.
    assert first.step_ms == pytest.approx(10.2)
    assert first.rate == pytest.approx(1 / 256 / 0.0102)
    assert least_step_ms(engine) == pytest.approx(10)
    assert lone_request_s(engine, flow) == pytest.approx(0.009 + 512 * 1e-4 + 256 * 0.010)


def test_blocks_bound_the_batch() -> None:
    """With 100 blocks of 16 tokens, five requests of some 300 tokens fit."""
    engine = deployed(engine={"num_gpu_blocks_override": 100, "max_model_len": 1000})
    assert max(each.num_running for each in fluid_points(engine, Flow(256, 256, 64))) == 5


def test_a_limit_on_gaps_bounds_the_rate() -> None:
    """The lower the limit the lower the rate, and 0 where no step is short enough."""
    engine, flow = deployed(), flow_of("chatbot")
    limits = [math.inf, 50, 30, 20, 12, 8]
    rates = [highest_fluid_rate(engine, flow, limit) for limit in limits]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0
    assert highest_fluid_rate(engine, flow, 0.99 * least_step_ms(engine)) == 0


def test_no_step_is_shorter_than_the_least() -> None:
    """What dismisses a candidate is below every decode."""
    engine = deployed(hardware="L40S")
    times = [
        engine.latency.model.step_time(Batch(number, number * context)) / 1000
        for number in (1, 2, 7, 100)
        for context in (1, 16, 300, 4000)
    ]
    assert min(times) >= least_step_ms(engine)


@pytest.mark.parametrize(
    ("name", "load"),
    [*((name, "chatbot") for name in DEPLOYMENTS), ("H100", "summarization")],
)
def test_the_highest_rate_is_near_what_is_served(name: str, load: str) -> None:
    """Under three times that load an engine finishes as much, within 20 %.

    Counted in the middle of the run, when it is full.
    """
    changes = DEPLOYMENTS[name]
    rate = highest_fluid_rate(deployed(**changes), flow_of(load), math.inf)
    workload = {"preset": load, "request_rate": 3 * rate, "num_requests": 2000}
    run = api.run(api.resolve(load_scenario(changes | {"workload": workload}))).run
    ended_s = np.sort(run.requests.last_token_us) / 1e6
    begin_s, end_s = 0.3 * ended_s[-1], 0.8 * ended_s[-1]
    served = np.searchsorted(ended_s, [begin_s, end_s])
    assert (served[1] - served[0]) / (end_s - begin_s) == pytest.approx(rate, rel=0.2)
