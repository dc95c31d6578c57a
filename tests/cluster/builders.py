"""Builders with keyword defaults for the tests of the cluster room.

As in the engine's tests a step lasts 10 us unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from blis_sim.cluster.config import ClusterConfig, PoolConfig
from blis_sim.cluster.simulation import ClusterSimulation
from blis_sim.config.cluster import (
    AutoscalingSettings,
    DisaggregationSettings,
    GatewaySettings,
    RoutingSettings,
)
from blis_sim.latency.base import LatencyModel
from blis_sim.metrics.conservation import check_conservation
from blis_sim.metrics.records import PoolData, RunData
from blis_sim.workload.clients import Clients
from blis_sim.workload.request import RequestSpec
from tests.engine.builders import make_blackbox, make_config, observed, samples


def make_pool(
    name: str = "pool",
    *,
    role: str = "mixed",
    num_instances: int = 1,
    latency: LatencyModel | None = None,
    autoscaling: dict[str, Any] | None = None,
    kv_bytes_per_token: int = 1,
    nic_bytes_per_us: float = float("inf"),
    num_layers: int = 4,
    **engine: Any,
) -> PoolConfig:
    return PoolConfig(
        data=PoolData(name, role, "model", "GPU", 1),
        engine=make_config(**engine),
        latency=make_blackbox() if latency is None else latency,
        num_instances=num_instances,
        autoscaling=None if autoscaling is None else AutoscalingSettings(**autoscaling),
        kv_bytes_per_token=kv_bytes_per_token,
        nic_bytes_per_us=nic_bytes_per_us,
        num_layers=num_layers,
    )


def make_cluster(
    *pools: PoolConfig,
    routing: Any = "round-robin",
    gateway: dict[str, Any] | None = None,
    disaggregation: dict[str, Any] | None = None,
    ttft_limit_ms: float | None = None,
    seed: int = 1,
) -> ClusterConfig:
    settings: dict[str, Any] = {"link_latency_us": 0} | (disaggregation or {})
    return ClusterConfig(
        pools=pools,
        routing=RoutingSettings.model_validate(routing),
        gateway=GatewaySettings.model_validate(gateway or {}),
        disaggregation=DisaggregationSettings.model_validate(settings),
        ttft_limit_ms=ttft_limit_ms,
        seed=seed,
    )


def serve_cluster(
    config: ClusterConfig, requests: Iterable[RequestSpec] | Clients, **settings: Any
) -> RunData:
    """Run a cluster and check its conservation laws."""
    run = ClusterSimulation(config, requests, **settings).run()
    check_conservation(run)
    return run


def observed_cluster(run: RunData) -> dict[str, Any]:
    """Return all that a run shows, except how much work it was to compute it."""
    return observed(run) | {
        "instances": run.instances,
        "scaling": run.scaling,
        "decisions": run.decisions,
        "samples": None if run.timeseries is None else samples(run),
    }


def with_coalescing(config: ClusterConfig, coalesce: bool) -> ClusterConfig:
    """Return the cluster with every engine coalesced, or step by step."""
    pools = tuple(
        replace(pool, engine=replace(pool.engine, coalesce=coalesce)) for pool in config.pools
    )
    return replace(config, pools=pools)


def serve_both_ways(
    config: ClusterConfig, requests: list[RequestSpec], **settings: Any
) -> RunData:
    """Run coalesced and step by step, and check that it makes no difference."""
    run = serve_cluster(with_coalescing(config, True), requests, **settings)
    plain = serve_cluster(with_coalescing(config, False), requests, **settings)
    assert observed_cluster(run) == observed_cluster(plain)
    return run
