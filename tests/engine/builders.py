"""Builders with keyword defaults for the tests of the engine room.

Unless told otherwise a step lasts 10 us, whatever is in it: boundaries fall on 10, 20, 30 ...
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import settings as hypothesis_settings

from blis_sim.catalog.gpus import RooflineV1Constants
from blis_sim.config.engine import SchedulingPolicy
from blis_sim.engine.batch import ScheduledBatch, SchedulerSettings
from blis_sim.engine.kv_cache import KVCache
from blis_sim.engine.request import Request
from blis_sim.engine.scheduler import Scheduler
from blis_sim.engine.simulation import EngineConfig, Simulation
from blis_sim.latency.base import Batch, Int64Array, LatencyModel
from blis_sim.latency.blackbox import BlackboxModel
from blis_sim.latency.roofline_v1 import RooflineV1Model, V1Shape
from blis_sim.metrics.conservation import check_conservation
from blis_sim.metrics.records import ABSENT, RunData, Status
from blis_sim.metrics.timeline import TimelineSettings
from blis_sim.workload.request import RequestSpec

fixed = hypothesis_settings(derandomize=True, deadline=None)
"""The same examples every time, and no verdict that depends on how busy the machine is."""


def make_spec(
    request_id: int = 0,
    arrival_us: int = 0,
    prompt_tokens: int = 10,
    output_tokens: int = 5,
    **more: Any,
) -> RequestSpec:
    return RequestSpec(request_id, arrival_us, prompt_tokens, output_tokens, **more)


def make_specs(*requests: dict[str, Any]) -> list[RequestSpec]:
    """Return one request per dict, numbered in order."""
    return [make_spec(number, **request) for number, request in enumerate(requests)]


def make_request(*, output_limit: int | None = None, **spec: Any) -> Request:
    made = make_spec(**spec)
    return Request(made, made.output_tokens if output_limit is None else output_limit)


def make_settings(**overrides: Any) -> SchedulerSettings:
    settings: dict[str, Any] = {
        "max_num_seqs": 8,
        "max_num_batched_tokens": 1000,
        "max_model_len": 1000,
    }
    settings |= overrides
    settings["policy"] = SchedulingPolicy(settings.get("policy", "fcfs"))
    return SchedulerSettings(**settings)


def make_config(
    *,
    num_kv_blocks: int = 1000,
    block_size: int = 4,
    enable_prefix_caching: bool = True,
    async_scheduling: bool = False,
    coalesce: bool = True,
    **settings: Any,
) -> EngineConfig:
    return EngineConfig(
        make_settings(**settings),
        num_kv_blocks=num_kv_blocks,
        block_size=block_size,
        enable_prefix_caching=enable_prefix_caching,
        async_scheduling=async_scheduling,
        coalesce=coalesce,
    )


def make_blackbox(
    base_us: float = 10,
    prefill_us: float = 0,
    decode_us: float = 0,
    *,
    alpha: tuple[float, float, float] = (0, 0, 0),
) -> BlackboxModel:
    return BlackboxModel(alpha, (base_us, prefill_us, decode_us))


def make_simulation(
    requests: Iterable[RequestSpec],
    *,
    latency: LatencyModel | None = None,
    horizon_us: int | None = None,
    sample_interval_us: int | None = None,
    timeline: TimelineSettings | None = None,
    **engine: Any,
) -> Simulation:
    return Simulation(
        make_config(**engine),
        make_blackbox() if latency is None else latency,
        requests,
        horizon_us=horizon_us,
        sample_interval_us=sample_interval_us,
        timeline=timeline,
    )


def simulate(requests: Iterable[RequestSpec], **settings: Any) -> RunData:
    """Run a simulation and check its conservation laws."""
    run = make_simulation(requests, **settings).run()
    check_conservation(run)
    return run


def simulate_both_ways(requests: list[RequestSpec], **settings: Any) -> RunData:
    """Run coalesced and step by step, and check that it makes no difference."""
    run = simulate(requests, **settings)
    assert observed(run) == observed(simulate(requests, coalesce=False, **settings))
    return run


def serve(*requests: dict[str, Any], **settings: Any) -> RunData:
    """Run requests given as dicts both ways."""
    return simulate_both_ways(make_specs(*requests), **settings)


def rows(run: RunData) -> list[SimpleNamespace]:
    """Return one namespace per request, in order of its number; None = absent."""
    columns = {name: column.tolist() for name, column in _columns(run).items()}
    columns["status"] = [Status(number) for number in columns["status"]]
    return [
        SimpleNamespace(
            **{k: None if v == ABSENT else v for k, v in zip(columns, row, strict=True)}
        )
        for row in zip(*columns.values(), strict=True)
    ]


def column(run: RunData, name: str) -> list[int | None]:
    """Return one value per request."""
    return [getattr(row, name) for row in rows(run)]


def gaps(run: RunData) -> dict[int, int]:
    """Return how often each gap between two tokens occurred."""
    return dict(zip(run.itl_us.tolist(), run.itl_count.tolist(), strict=True))


def observed(run: RunData) -> dict[str, Any]:
    """Return all that a run shows, except how much work it was to compute it."""
    seen: dict[str, Any] = {name: values.tolist() for name, values in _columns(run).items()}
    for number, counters in enumerate(run.counters):
        seen |= {f"{number}.{name}": value for name, value in asdict(counters).items()}
        del seen[f"{number}.num_events"]
    for name in ("itl_us", "itl_count", "token_seconds", "token_counts"):
        seen[name] = getattr(run, name).tolist()
    for name in ("start_us", "end_us", "output_token_us", "slo_classes", "tenants", "reasons"):
        seen[name] = getattr(run, name)
    return seen


def samples(run: RunData) -> dict[str, list[int]]:
    """Return the time series."""
    series = run.timeseries
    assert series is not None
    columns = {field.name: getattr(series, field.name) for field in fields(series)}
    return {name: values.tolist() for name, values in columns.items() if values is not None}


def _columns(run: RunData) -> dict[str, Int64Array]:
    return {f.name: getattr(run.requests, f.name) for f in fields(run.requests)}


def make_scheduler(
    *,
    num_kv_blocks: int = 1000,
    block_size: int = 4,
    enable_prefix_caching: bool = True,
    **settings: Any,
) -> Scheduler:
    kv = KVCache(num_kv_blocks, block_size, enable_prefix_caching=enable_prefix_caching)
    return Scheduler(make_settings(**settings), kv)


def enqueue(scheduler: Scheduler, **spec: Any) -> Request:
    """Put a new request into the waiting queue."""
    request = make_request(**spec)
    scheduler.kv.register(request)
    request.state = type(request.state).WAITING
    scheduler.waiting.push(request)
    return request


def run_pass(
    scheduler: Scheduler, now_us: int = 0, in_flight: ScheduledBatch | None = None
) -> ScheduledBatch | None:
    """Form a batch and, with synchronous scheduling, let go who ends with it."""
    batch = scheduler.schedule(now_us, in_flight)
    scheduler.check_integrity()
    if batch is not None and in_flight is None:
        for request in batch.finishing:
            scheduler.finish(request, now_us)
    return batch


class UnevenModel(BlackboxModel):
    """Steps that differ with the context and cost scheduling and preemption time."""

    def step_time(self, batch: Batch) -> int:
        return super().step_time(batch) + batch.sum_decode_context % 7

    def uniform_decode_time(self, batch: Batch) -> int | None:
        return None

    def decode_run(self, batch: Batch, num_steps: int) -> Int64Array:
        contexts = batch.sum_decode_context + batch.num_decodes * np.arange(num_steps)
        return np.int64(super().step_time(batch)) + contexts % 7

    def scheduling_time(self) -> int:
        return 3

    def preemption_time(self) -> int:
        return 5


def make_v1(tp: int = 1) -> RooflineV1Model:
    """A tiny transformer on a tiny GPU, whose steps last some 100 us and vary."""
    shape = V1Shape(
        num_layers=2,
        hidden_size=64,
        num_attention_heads=4,
        attention_weights=3 * 64 * 64,
        kv_elements_per_token=64,
        active_mlp_width=128,
        dense_mlp_width=128,
        num_experts=0,
        experts_per_token=0,
        expert_width=0,
        weight_bytes=2,
        activation_bytes=2,
    )
    gpu = RooflineV1Constants(
        peak_tflops=2e-2,
        bandwidth_tb_per_s=3e-3,
        per_layer_overhead_us=2,
        fixed_overhead_us=3,
        allreduce_us=1,
    )
    return RooflineV1Model(shape, gpu, tp)


class CostlyModel(BlackboxModel):
    """Scheduling takes 3 us, a preemption 5 us."""

    def scheduling_time(self) -> int:
        return 3

    def preemption_time(self) -> int:
        return 5


class UnannouncedModel(BlackboxModel):
    """Its steps are equal, but it does not say so: runs are made of their durations."""

    def uniform_decode_time(self, batch: Batch) -> int | None:
        return None

    def decode_run(self, batch: Batch, num_steps: int) -> Int64Array:
        return np.full(num_steps, self.step_time(batch), dtype=np.int64)
