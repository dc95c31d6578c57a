"""Hand-made runs with keyword defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from datetime import UTC, datetime
from typing import Any

import numpy as np

from blis_sim.metrics.records import (
    ABSENT,
    Decision,
    EngineCounters,
    InstanceData,
    PoolData,
    RequestColumns,
    RunData,
    ScalingEvent,
    Status,
    TimeSeries,
)
from blis_sim.metrics.result import PoolContext, Result, RunContext, RunInfo


@dataclass
class Row:
    """One request; None = absent. ``gaps_us`` gives its tokens after the first one."""

    arrival_us: int = 0
    enqueued_us: int | None = None
    scheduled_us: int | None = None
    first_token_us: int | None = None
    gaps_us: Sequence[int] = ()
    prompt_tokens: int = 10
    output_tokens: int | None = None
    cached_tokens: int | None = 0
    recached_tokens: int | None = 0
    num_preemptions: int = 0
    instance: int | None = 0
    status: Status = Status.COMPLETED
    length_capped: int = 0
    priority: int = 0
    slo_class: str | None = None
    tenant: str | None = None
    reason: str | None = None
    dispatched_us: int | None = None
    prefill_instance: int | None = None
    handed_over_us: int | None = None
    transferred_us: int | None = None

    @property
    def last_token_us(self) -> int | None:
        return None if self.first_token_us is None else self.first_token_us + sum(self.gaps_us)

    @property
    def tokens(self) -> int:
        if self.output_tokens is not None:
            return self.output_tokens
        return 0 if self.first_token_us is None else 1 + len(self.gaps_us)


def served(arrival_us: int = 0, *, ttft_us: int = 100, **more: Any) -> Row:
    """Return a completed request that was scheduled the moment it arrived."""
    more.setdefault("enqueued_us", arrival_us)
    more.setdefault("scheduled_us", arrival_us)
    return Row(arrival_us=arrival_us, first_token_us=arrival_us + ttft_us, **more)


def dropped(arrival_us: int = 0, **more: Any) -> Row:
    """Return a request that was dropped on arrival."""
    more.setdefault("status", Status.DROPPED)
    more.setdefault("reason", "prompt_tokens 9000 must be < max_model_len 8192")
    return Row(arrival_us=arrival_us, instance=None, cached_tokens=None, **more)


def make_run(rows: Sequence[Row], *, end_us: int | None = None, **more: Any) -> RunData:
    """Return a consistent run of these requests on one instance of 100 blocks."""
    slo_classes = _names(row.slo_class for row in rows)
    tenants = _names(row.tenant for row in rows)
    reasons = _names(row.reason for row in rows)
    columns: dict[str, list[int]] = {field.name: [] for field in fields(RequestColumns)}
    for number, row in enumerate(rows):
        coded = {
            "request_id": number,
            "output_tokens": row.tokens,
            "slo_class": _code(slo_classes, row.slo_class),
            "tenant": _code(tenants, row.tenant),
            "reason": _code(reasons, row.reason),
        }
        for name, column in columns.items():
            value = coded[name] if name in coded else getattr(row, name)
            column.append(ABSENT if value is None else int(value))
    gaps = np.array([gap for row in rows for gap in row.gaps_us], dtype=np.int64)
    itl_us, itl_count = np.unique(gaps, return_counts=True)
    seconds = _token_seconds(rows)
    token_seconds, token_counts = np.unique(seconds, return_counts=True)
    last = [row.last_token_us for row in rows if row.last_token_us is not None]
    more.setdefault("counters", [make_counters(rows)])
    return RunData(
        requests=RequestColumns(**{n: np.array(c, dtype=np.int64) for n, c in columns.items()}),
        itl_us=itl_us,
        itl_count=itl_count.astype(np.int64),
        token_seconds=token_seconds,
        token_counts=token_counts.astype(np.int64),
        start_us=min((row.arrival_us for row in rows), default=0),
        end_us=max(last, default=0) if end_us is None else end_us,
        output_token_us=0,
        slo_classes=slo_classes,
        tenants=tenants,
        reasons=reasons,
        **more,
    )


def make_counters(rows: Sequence[Row] = (), **more: Any) -> EngineCounters:
    """Return the counters one instance must show after ``rows``."""
    counters: dict[str, Any] = {
        "num_kv_blocks": 100,
        "num_generated_tokens": sum(row.tokens for row in rows),
        "num_preemptions": sum(row.num_preemptions for row in rows),
        "prefix_hits_tokens": sum(row.cached_tokens or 0 for row in rows),
        "prefix_queries_tokens": sum(
            row.prompt_tokens for row in rows if row.scheduled_us is not None
        ),
        "recached_tokens": sum(row.recached_tokens or 0 for row in rows),
    }
    return EngineCounters(**{**counters, **more})


def cluster_rows() -> list[Row]:
    """Return two requests that are handed over, and one that instance 1 serves whole."""
    return [
        Row(
            *(0, 10_000, 20_000, 200_000),
            dispatched_us=10_000,
            gaps_us=[100_000, 100_000],
            prompt_tokens=40,
            prefill_instance=0,
            instance=1,
            handed_over_us=100_000,
            transferred_us=140_000,
            tenant="a",
        ),
        Row(
            *(500_000, 530_000, 530_000, 700_000),
            dispatched_us=530_000,
            gaps_us=[200_000],
            prompt_tokens=10,
            cached_tokens=5,
            prefill_instance=0,
            instance=2,
            handed_over_us=600_000,
            transferred_us=620_000,
            tenant="b",
        ),
        Row(
            *(500_000, 510_000, 510_000, 600_000),
            dispatched_us=510_000,
            gaps_us=[400_000],
            prompt_tokens=20,
            instance=1,
            tenant="a",
        ),
    ]


def make_cluster_run(rows: Sequence[Row] | None = None, **more: Any) -> RunData:
    """Return one second of a prefill instance and two decode instances, one there for 450 ms."""
    more.setdefault("pools", cluster_pools())
    more.setdefault("instances", cluster_instances())
    more.setdefault("counters", cluster_counters())
    if "scaling" not in more:
        more["scaling"] = [
            ScalingEvent(200_000, 1, 1, 2, 3.0),
            ScalingEvent(900_000, 1, 2, 1, 0.5),
        ]
    if "decisions" not in more:
        more["decisions"] = [
            Decision(10_000, 0, "decode", (1,), 1, None),
            Decision(510_000, 2, "decode", (1, 2), 1, (-1.5, 0.25)),
            Decision(530_000, 1, "prefill", (0,), 0, (2.0,)),
        ]
    return make_run(cluster_rows() if rows is None else rows, end_us=1_000_000, **more)


def cluster_pools() -> list[PoolData]:
    return [PoolData("p", "prefill", "m", "H100", 1), PoolData("d", "decode", "m", "A100", 2)]


def cluster_instances() -> list[InstanceData]:
    late = InstanceData(
        1, started_us=200_000, ready_us=500_000, drained_us=900_000, stopped_us=950_000
    )
    return [InstanceData(0), InstanceData(1), late]


def cluster_counters() -> list[EngineCounters]:
    return [
        make_counters(
            num_prefill_tokens=50,
            busy_us=200_000,
            kv_block_us=10_000_000,
            peak_kv_blocks=30,
            prefix_queries_tokens=50,
            prefix_hits_tokens=5,
            num_steps=2,
            batch_requests=3,
        ),
        make_counters(
            num_prefill_tokens=20,
            num_decode_tokens=4,
            num_generated_tokens=5,
            busy_us=500_000,
            num_kv_blocks=200,
            kv_block_us=40_000_000,
            peak_kv_blocks=100,
            num_transfers=1,
            transferred_blocks=3,
        ),
        make_counters(
            num_decode_tokens=2,
            num_generated_tokens=2,
            busy_us=225_000,
            num_kv_blocks=200,
            kv_block_us=27_000_000,
            peak_kv_blocks=80,
            num_transfers=1,
            transferred_blocks=1,
        ),
    ]


def make_cluster_result(run: RunData | None = None, **more: Any) -> Result:
    """Return the result of ``make_cluster_run``, its context with the two pools."""
    if "pools" not in more:
        decode = make_pool(
            "d", role="decode", gpu="A100", tensor_parallel_size=2, num_kv_blocks=200
        )
        more["pools"] = (make_pool("p", role="prefill"), decode)
    return make_result(run=make_cluster_run() if run is None else run, **more)


def make_timeseries(**columns: Sequence[int]) -> TimeSeries:
    """Return samples; columns that are not given are 0, or None where that may be."""
    zeros = [0] * len(columns["time_us"])
    given = {
        field.name: columns.get(field.name, zeros)
        for field in fields(TimeSeries)
        if field.name in columns or field.default is MISSING
    }
    return TimeSeries(**{name: np.array(column, dtype=np.int64) for name, column in given.items()})


def make_context(**more: Any) -> RunContext:
    """Return the context of a small deployment."""
    settings: dict[str, Any] = {
        "scenario": {"model": "llama-3.1-8b", "seed": 7},
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "gpu": "H100",
        "tensor_parallel_size": 1,
        "num_instances": 1,
        "request_rate": 10.0,
        "burstiness": 1.0,
        "latency_model": "blackbox",
        "latency_reason": "a coefficient row for this model, GPU and TP",
        "latency_alternatives": ("roofline-v1",),
        "latency_source": "configs/coefficients.csv",
        "num_kv_blocks": 100,
        "kv_blocks_source": "computed from the memory of the GPU",
        "engine_settings": {
            "version": "0.15.1",
            "defaults": "vllm",
            "max_num_seqs": 1024,
            "max_num_batched_tokens": 8192,
            "enable_prefix_caching": True,
        },
        "seed": 7,
        "package_version": "0.1.0",
        "numpy_version": "2.0.0",
    }
    return RunContext(**{**settings, **more})


def make_pool(name: str = "mixed", **more: Any) -> PoolContext:
    """Return the context of a pool of one instance."""
    settings: dict[str, Any] = {
        "name": name,
        "role": "mixed",
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "gpu": "H100",
        "tensor_parallel_size": 1,
        "num_instances": 1,
        "num_kv_blocks": 100,
        "kv_blocks_source": "computed from the memory of the GPU",
        "latency_model": "blackbox",
        "latency_reason": "a coefficient row for this model, GPU and TP",
        "latency_alternatives": ("roofline-v1",),
        "latency_source": "configs/coefficients.csv",
        "engine_settings": {"version": "0.15.1", "defaults": "vllm", "max_num_seqs": 1024},
    }
    return PoolContext(**{**settings, **more})


def make_result(rows: Sequence[Row] | None = None, **more: Any) -> Result:
    """Return the result of ``rows`` (or of ``run``) in ``make_context(**more)``."""
    run = more.pop("run", None)
    if run is None:
        run = make_run([served()] if rows is None else rows)
    info = RunInfo(
        date=datetime(2025, 3, 1, 12, 30, 5, tzinfo=UTC), wall_s=1.5, python_version="3.11.9"
    )
    return Result(run, make_context(**more), info)


def _names(values: Any) -> list[str]:
    return list(dict.fromkeys(value for value in values if value is not None))


def _code(names: list[str], name: str | None) -> int | None:
    return None if name is None else names.index(name)


def _token_seconds(rows: Sequence[Row]) -> list[int]:
    seconds = []
    for row in rows:
        if row.first_token_us is None or row.tokens == 0:
            continue
        time_us = row.first_token_us
        seconds.append(time_us // 1_000_000)
        for gap in row.gaps_us:
            time_us += gap
            seconds.append(time_us // 1_000_000)
    return seconds
