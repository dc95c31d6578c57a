"""A run against the roofs: exact work, time by what bounds it, and a run that is not disturbed."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blis_sim import api
from blis_sim.catalog.gpus import load_gpu
from blis_sim.catalog.models import load_model
from blis_sim.config.loading import load_scenario
from blis_sim.engine.simulation import Simulation
from blis_sim.latency.base import Batch, Int64Array
from blis_sim.latency.kernel_tables.borrow import tables_for
from blis_sim.latency.roofline_v2.host import HostModel
from blis_sim.latency.roofline_v2.model import RooflineV2Model
from blis_sim.metrics.result import Result
from blis_sim.metrics.roofline import RunRoofline, spent_of
from blis_sim.metrics.timeline import step_columns
from blis_sim.metrics.work import StepBook, WorkLog, bucket_of
from blis_sim.report.step_breakdown import DecodeSet, StepLine, break_down
from blis_sim.roofline.step_costs import Bound, StepCosts
from blis_sim.transformer.forward_pass import ForwardPass
from blis_sim.transformer.kernels import AllGather, AllReduce, total_bytes, total_flops
from tests.engine.builders import fixed, make_config, make_specs, observed

HOST = HostModel(constant_us=150.0, per_request_us=4.5, rank_wait_us=3.0)
DEPLOYMENTS = [
    ("llama-3.1-8b", "H100", 1),
    ("llama-3.1-70b", "L40S", 4),
    ("deepseek-v3", "H200", 8),
    ("mixtral-8x7b", "A10", 2),
    ("gemma-2-9b", "A100-80", 1),
]
REQUESTS = make_specs(
    {"prompt_tokens": 700, "output_tokens": 40},
    {"prompt_tokens": 30, "output_tokens": 60},
    {"arrival_us": 9_000, "prompt_tokens": 1300, "output_tokens": 8},
    {"arrival_us": 200_000, "prompt_tokens": 128, "output_tokens": 1},
    {"arrival_us": 3_000_000, "prompt_tokens": 5, "output_tokens": 25},
)
ENGINE: dict[str, Any] = {
    "num_kv_blocks": 200,
    "block_size": 16,
    "max_num_batched_tokens": 512,
    "max_model_len": 2048,
}


class Noting(RooflineV2Model):
    """Takes note of every batch it is asked for."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.batches: list[Batch] = []

    def step_time(self, batch: Batch) -> int:
        """Return the duration of a step."""
        noted = Batch(batch.num_decodes, batch.sum_decode_context, tuple(batch.prefills))
        self.batches.append(noted)
        return super().step_time(batch)


@cache
def forward_of(model: str, gpu: str, tp: int) -> ForwardPass:
    """Return the arithmetic of a model on one GPU."""
    return ForwardPass(load_model(model), tp, has_fp8=load_gpu(gpu).fp8_tflops_dense is not None)


def make_model(deployment: tuple[str, str, int]) -> Noting:
    """Return a latency model that takes notes."""
    tables = tables_for(load_gpu(deployment[1])).tables
    return Noting(forward_of(*deployment), tables, HOST)


def work_of(model: RooflineV2Model, **engine: Any) -> WorkLog:
    """Return what an instance counts in a small run."""
    config = make_config(**{**ENGINE, **engine})
    run = Simulation(config, model, REQUESTS, count_work=True).run()
    assert run.work is not None
    (log,) = run.work
    return log


def class_of(line: StepLine) -> Bound:
    """Return what a line of `blis step` counts as."""
    if line.group == "communication":
        return Bound.COMMUNICATION
    words = {"memory": "bandwidth", "launch": "overhead"}
    return Bound(words.get(line.bound_by, line.bound_by))


@pytest.mark.parametrize(
    ("deployment", "engine"),
    [
        *((deployment, {}) for deployment in DEPLOYMENTS),
        (DEPLOYMENTS[0], {"async_scheduling": True}),
        (DEPLOYMENTS[-1], {"async_scheduling": True, "num_kv_blocks": 96}),
        (DEPLOYMENTS[1], {"num_kv_blocks": 96}),
    ],
)
def test_work_and_time_are_those_of_every_step(
    deployment: tuple[str, str, int], engine: dict[str, Any]
) -> None:
    """FLOPs to the last; bytes; and time by what bounds it, as `blis step` classes kernels.

    The steps are those that an engine without shortcuts asks the latency model for.
    """
    tp, plain = deployment[2], make_model(deployment)
    work_of(plain, coalesce=False, **engine)
    batches = tuple(plain.batches)
    flops, num_bytes, times = 0, 0.0, defaultdict[Bound, float](float)
    for batch in batches:
        kernels = plain.forward.kernels(
            prefills=batch.prefills,
            num_decodes=batch.num_decodes,
            sum_decode_context=batch.sum_decode_context,
        )
        flops += tp * total_flops(kernels)
        local = [k for k in kernels if not isinstance(k, AllReduce | AllGather)]
        num_bytes += tp * total_bytes(local)
    for batch in batches:
        for line in lines_of(plain, batch):
            times[class_of(line)] += tp * line.time_us
    model = make_model(deployment)
    log = work_of(model, **engine)
    spent = spent_of(log, StepCosts(model.forward, model.timer.gpu, model), tp)
    assert spent.num_steps == len(batches)
    assert spent.prefill.flops + spent.decode.flops == flops
    assert spent.prefill.bytes + spent.decode.bytes == pytest.approx(num_bytes, rel=1e-9)
    ours = {bound: spent.prefill.times_us[bound] + spent.decode.times_us[bound] for bound in Bound}
    total_us = sum(ours.values())
    assert total_us == pytest.approx(tp * (log.decoding.time_us + log.prompting.time_us))
    for bound in Bound:
        # Rounding of steps is the host's; a class may change within a bucket of contexts.
        assert ours[bound] == pytest.approx(times[bound], abs=2e-3 * total_us)


@cache
def _lines(
    model: RooflineV2Model, decodes: int, context: int, prefills: tuple[Any, ...]
) -> tuple[StepLine, ...]:
    sets = [DecodeSet(1, context - (decodes - 1) * (context // decodes))] if decodes else []
    sets += [DecodeSet(decodes - 1, context // decodes)] if decodes > 1 else []
    return break_down(model, prefills, sets).lines


def lines_of(model: RooflineV2Model, batch: Batch) -> tuple[StepLine, ...]:
    """Return what `blis step` shows of a batch."""
    prefills = tuple(batch.prefills)
    return _lines(model, batch.num_decodes, batch.sum_decode_context, prefills)


@fixed
@given(st.integers(0, 1 << 20))
def test_buckets_are_narrow(mean: int) -> None:
    """A mean context lies in its bucket, which is at most a 32nd of it wide, or 1."""
    first, width = bucket_of(mean)
    assert first <= mean < first + width
    assert width == 1 or 32 * width <= first
    assert bucket_of(first) == bucket_of(first + width - 1) == (first, width)


@fixed
@given(st.integers(1, 50), st.integers(0, 100_000), st.integers(1, 500))
def test_runs_are_counted_as_their_steps(decodes: int, context: int, num_steps: int) -> None:
    """Steps in a row fall into the buckets that each of them falls into alone."""
    at_once, each = StepBook(), StepBook()
    at_once.add_decodes(decodes, context, num_steps)
    for step in range(num_steps):
        each.add_decodes(decodes, context + step * decodes, 1)
    assert at_once.decodes == each.decodes


SMALL = {"workload": {"num_requests": 16, "request_rate": 10}}
SCENARIOS: dict[str, dict[str, Any]] = {
    "kernels": {},
    "sharded": {"model": "llama-3.1-70b", "engine": {"tensor_parallel_size": 4}},
    "short way": {"latency": {"model": "blackbox"}, "engine": {"async_scheduling": False}},
    "step by step": {"latency": {"model": "roofline-v1"}, "coalesce": False},
    "preempting": {"engine": {"num_gpu_blocks_override": 70, "max_model_len": 1024}},
    "stopped": {"horizon_s": 1.2},
    "clients": {"workload": {"max_outstanding": 4, "num_requests": 12}},
    "apart": {
        "cluster": {
            "pools": [
                {"name": "p", "role": "prefill", "num_instances": 1},
                {"name": "d", "role": "decode", "num_instances": 2, "hardware": "A100-80"},
            ]
        }
    },
}


@cache
def result_of(name: str, *, roofline: bool = True, timeline: bool = False) -> Result:
    """Return the result of a scenario."""
    base = {**SMALL, **SCENARIOS[name]}
    return api.simulate(load_scenario(base), roofline=roofline, record_timeline=timeline)


def roofline_of(result: Result) -> RunRoofline:
    """Return a roofline that must be there."""
    assert result.roofline is not None
    return result.roofline


def steps_of(result: Result) -> dict[str, Int64Array]:
    """Return the steps of a timeline, column by column."""
    columns = step_columns(result.run)
    assert columns is not None
    return {column.name: column.data for column in columns if column.name != "kind"}


@pytest.mark.parametrize("name", SCENARIOS)
def test_counting_changes_nothing(name: str) -> None:
    """All other results are the same with and without it, and beside a timeline."""
    without = result_of(name, roofline=False)
    assert without.roofline is None
    assert "roofline" not in without.to_json_dict()
    plain = _comparable(without)
    timed = result_of(name, timeline=True)
    for result in (result_of(name), timed):
        assert observed(result.run) == observed(without.run)
        assert _comparable(result) == plain
    assert len(steps_of(timed)["start_us"]) == roofline_of(timed).num_steps
    assert roofline_of(timed) == roofline_of(result_of(name))


def _comparable(result: Result) -> dict[str, Any]:
    values = result.to_json_dict(detailed=True)
    for key in ("run_info", "date", "roofline"):
        values.pop(key, None)
    return values


@pytest.mark.parametrize("name", SCENARIOS)
def test_figures_agree_with_the_books(name: str) -> None:
    """Steps and their time are the engine's, shares add up to 1, nothing is above its roof."""
    result = result_of(name)
    roofline, run = roofline_of(result), result.run
    gpus = [run.pools[each.pool].gpus_per_instance for each in run.instances]
    gpus = gpus or [result.context.tensor_parallel_size]
    busy_s = sum(c.busy_us * n for c, n in zip(run.counters, gpus, strict=True)) / 1e6
    assert roofline.num_steps == result.summary["num_steps"]
    assert roofline.whole.gpu_s == pytest.approx(busy_s)
    assert roofline.idle_frac == pytest.approx(1 - result.summary["gpu_busy_frac"])
    assert roofline.prefill.flops + roofline.decode.flops == roofline.whole.flops
    for each in (roofline, *roofline.per_pool.values()):
        for phase in (each.whole, each.prefill, each.decode):
            if not phase.gpu_s:
                assert phase.mfu is None
                continue
            assert phase.mfu is not None
            assert phase.mbu is not None
            assert 0 < phase.mfu <= 1
            assert 0 < phase.mbu <= 1
            shares = [share for share in phase.bound_frac.values() if share is not None]
            assert min(shares) >= 0
            assert sum(shares) == pytest.approx(1)
            assert phase.intensity == pytest.approx(phase.flops / phase.bytes)
    pools = list(roofline.per_pool.values())
    if pools:
        assert sum(pool.whole.flops for pool in pools) == roofline.whole.flops
        assert sum(pool.whole.gpu_s for pool in pools) == pytest.approx(busy_s)
        assert sum(pool.num_steps for pool in pools) == roofline.num_steps


def test_pools_of_one_phase() -> None:
    """Where prompts are computed apart, each pool has one phase; peaks are those of its GPU."""
    pools = roofline_of(result_of("apart")).per_pool
    assert pools["p"].decode.flops == 0
    assert pools["p"].decode.mfu is None
    assert pools["d"].prefill.flops == 0
    assert pools["p"].whole.ridge == pytest.approx(989.5e12 / 3.35e12, rel=0.01)
    assert pools["d"].whole.ridge == pytest.approx(312e12 / 2.039e12, rel=0.01)


EMBEDDED = 128_256 * 4096
LAYERS, HEADS_WIDTH, KV_WIDTH = 32, 4096, 1024


def even(prompt: int, output: int) -> Result:
    """Return a run of four equal requests of llama-3.1-8b on one H100."""
    workload = {
        "arrivals": {"process": "all_at_once"},
        "num_requests": 4,
        "prompt": prompt,
        "output": output,
    }
    base = {"model": "llama-3.1-8b", "hardware": "H100", "workload": workload}
    return api.simulate(load_scenario(base), roofline=True, record_timeline=True)


def test_bandwidth_of_decodes_by_hand() -> None:
    """Weights and KV cache of each step over its time and the bandwidth: MBU within 1 %."""
    result = even(1500, 300)
    every = steps_of(result)
    is_decode = every["prefill_tokens"] == 0
    steps = {name: values[is_decode] for name, values in every.items()}
    spec, gpu = load_model("llama-3.1-8b"), load_gpu("H100")
    weights = 2 * (spec.num_parameters - EMBEDDED)
    kv_tokens = steps["context_tokens"] + steps["decode_tokens"]
    read = weights + kv_tokens * 2 * LAYERS * KV_WIDTH * 2
    by_hand = read.sum() / (steps["duration_us"].sum() * 1e-6 * gpu.hbm_gb_per_s * 1e9)
    decode = roofline_of(result).decode
    assert decode.mbu == pytest.approx(by_hand, rel=0.01)
    assert 0.5 < by_hand < 1
    assert max(decode.bound_frac, key=lambda key: decode.bound_frac[key] or 0) == "bandwidth"
    assert decode.intensity == pytest.approx(4, rel=0.2)


def test_arithmetic_of_prompts_by_hand() -> None:
    """Two operations per weight and token, and attention, over time and peak: MFU within 2 %."""
    prompt = 2000
    result = even(prompt, 1)
    steps = steps_of(result)
    assert set(steps["decode_tokens"]) == {0}
    spec, gpu = load_model("llama-3.1-8b"), load_gpu("H100")
    products = 2 * (spec.num_parameters - 2 * EMBEDDED) * 4 * prompt
    attention = 4 * LAYERS * 2 * HEADS_WIDTH * prompt**2
    assert attention < 0.05 * products
    peak = steps["duration_us"].sum() * 1e-6 * gpu.bf16_tflops_dense * 1e12
    prefill = roofline_of(result).prefill
    assert prefill.mfu == pytest.approx((products + attention) / peak, rel=0.02)
    assert prefill.mfu == pytest.approx(products / peak, rel=0.06)
    assert max(prefill.bound_frac, key=lambda key: prefill.bound_frac[key] or 0) == "compute"


def test_bounds_alone_without_kernels() -> None:
    """What a model without kernels takes beyond the bounds is overhead, and a note says so."""
    roofline = roofline_of(result_of("short way"))
    assert roofline.whole.bound_frac["host"] is None
    assert "blackbox knows no kernels" in roofline.notes[0]
    assert len(roofline.notes) == 1
    work = roofline_of(result_of("kernels"))
    assert roofline.prefill.flops == pytest.approx(work.prefill.flops, rel=0.05)
    assert work.notes == ()


def test_steps_that_no_gpu_could_do() -> None:
    """Coefficients below the roofs: MFU and MBU stay at most 1, and a note names the cause."""
    base = {**SMALL, "latency": {"alpha": [0, 0, 0], "beta": [10, 0.1, 0.1]}}
    roofline = roofline_of(api.simulate(load_scenario(base), roofline=True))
    assert roofline.whole.mbu == 1
    assert roofline.whole.mfu is not None
    assert roofline.whole.mfu <= 1
    assert roofline.whole.bound_frac["overhead"] == pytest.approx(0)
    assert "shorter than the GPU's peak and bandwidth allow" in roofline.notes[1]


def test_no_steps() -> None:
    """A run that is over before its first step has no shares, and no error."""
    roofline = roofline_of(
        api.simulate(load_scenario({**SMALL, "horizon_s": 0.001}), roofline=True)
    )
    assert roofline.num_steps == 0
    assert roofline.whole.mfu is None
    assert roofline.whole.bound_frac["compute"] is None


def test_marks_of_a_window_have_none() -> None:
    """A part of a run has no roofline of its own: steps are counted for the whole."""
    resolved = api.resolve(load_scenario(SMALL))
    result = api.run(resolved, roofline=True, marks_s=[0.5, 1.5])
    assert result.window().roofline is None
    assert np.isfinite(roofline_of(result).whole.gpu_s)
