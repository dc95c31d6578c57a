"""From a scenario to everything a simulation needs, of one engine or of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from blis_sim.cluster.config import ClusterConfig, PoolConfig
from blis_sim.config.cluster import (
    AdmissionPolicy,
    ClusterSettings,
    DisaggregationSettings,
    PoolSettings,
    instances_at_start,
)
from blis_sim.config.cluster_checks import check_cluster
from blis_sim.config.engine import EngineSettings
from blis_sim.config.latency import LatencySettings
from blis_sim.config.routing_checks import report_interval_s, routing_policy
from blis_sim.config.scenario import Scenario
from blis_sim.config.section import Section
from blis_sim.engine import resolve as engine_resolve
from blis_sim.engine.resolved import Deployed, Pool, Resolved
from blis_sim.errors import ConfigError
from blis_sim.metrics.records import PoolData
from blis_sim.workload.stream import open_workload

if TYPE_CHECKING:
    from blis_sim.config.cluster import RoutingPolicy, RoutingSettings

S = TypeVar("S", bound=Section)

_BYTES_PER_US = 1000.0
"""1e9 bytes per second in bytes per microsecond."""
ONLY_POOL = "default"
"""Name of the pool of a cluster without ``pools``."""


def resolve(scenario: Scenario) -> Resolved:
    """Look up everything a scenario names and fix every setting it leaves open.

    A trace is read and checked here; nothing is simulated.

    Parameters
    ----------
    scenario : Scenario
        What the user wrote. Relative paths are relative to the current folder; shipped files
        are found from everywhere.

    Raises
    ------
    ConfigError
        Settings contradict each other or cannot be used together.
    CatalogError
        A model, a GPU or its coefficients are unknown or unusable.
    TraceError
        The trace is not acceptable.
    """
    if not isinstance(scenario, Scenario):
        raise ConfigError(
            "scenario must be what load_scenario returns; got "
            f"{type(scenario).__name__}; load_scenario takes settings and files"
        )
    check_cluster(scenario)
    if not is_cluster(scenario):
        return engine_resolve.resolve(scenario)
    located, notices = engine_resolve.locate_files(scenario)
    settings = scenario.cluster.pools or (_only_pool(scenario.cluster),)
    _check_coefficients(scenario, settings)
    pools = tuple(_pool(scenario, located, one) for one in settings)
    _check_alike(pools)
    horizon_us = engine_resolve.horizon_us(scenario)
    workload = open_workload(located.workload, scenario.seed, horizon_us)
    for pool in pools:
        several = len(pools) > 1
        prefix = f"pool {pool.name}: " if several else ""
        notices += [f"{prefix}{notice}" for notice in pool.deployed.notices]
    return Resolved(
        scenario=scenario,
        deployed=pools[0].deployed,
        pools=pools,
        workload=workload,
        horizon_us=horizon_us,
        notices=(*notices, *workload.notices),
    )


def is_cluster(scenario: Scenario) -> bool:
    """Return whether there is more than one engine without a gateway."""
    cluster = scenario.cluster
    return (
        cluster.pools is not None
        or cluster.num_instances > 1
        or cluster.autoscaling is not None
        or scenario.engine.data_parallel_size > 1
        or cluster.gateway.max_outstanding_per_instance is not None
        or cluster.gateway.admission.policy is not AdmissionPolicy.ALWAYS_ADMIT
    )


def cluster_config(resolved: Resolved) -> ClusterConfig:
    """Return what the simulation of a cluster needs."""
    scenario = resolved.scenario
    cluster = scenario.cluster
    disaggregation = cluster.disaggregation or DisaggregationSettings()
    routing = _in_force(cluster.routing, routing_policy(scenario))
    if disaggregation.decode_routing is not None:
        own = disaggregation.decode_routing
        own = _in_force(own, own.policy)
        disaggregation = disaggregation.model_copy(update={"decode_routing": own})
    return ClusterConfig(
        pools=tuple(_pool_config(pool, disaggregation) for pool in resolved.pools),
        routing=routing,
        gateway=cluster.gateway,
        disaggregation=disaggregation,
        ttft_limit_ms=scenario.slo.ttft_ms,
        seed=scenario.seed,
    )


def _in_force(routing: RoutingSettings, policy: RoutingPolicy) -> RoutingSettings:
    """Return the settings of routing with what follows from the policy."""
    chosen = routing.model_copy(update={"policy": policy})
    return chosen.model_copy(update={"snapshot_interval_s": report_interval_s(chosen)})


def _only_pool(cluster: ClusterSettings) -> PoolSettings:
    return PoolSettings(
        name=ONLY_POOL,
        num_instances=instances_at_start(cluster),
        autoscaling=cluster.autoscaling,
    )


def _pool(scenario: Scenario, located: Scenario, pool: PoolSettings) -> Pool:
    """Resolve one pool: the scenario with what the pool says instead."""
    try:
        written, found = _merged(scenario, pool), _merged(located, pool)
        deployed = engine_resolve.deploy(written, found)
    except ConfigError as error:
        if scenario.cluster.pools is None:
            raise
        raise ConfigError(f"pool {pool.name}: {error}") from None
    return Pool(
        name=pool.name,
        role=pool.role,
        num_instances=instances_at_start(pool) * written.engine.data_parallel_size,
        deployed=deployed,
        autoscaling=pool.autoscaling,
        nic_gb_per_s=pool.nic_gb_per_s,
    )


def _merged(scenario: Scenario, pool: PoolSettings) -> Scenario:
    update: dict[str, Any] = {
        "engine": _over(scenario.engine, pool.engine, EngineSettings),
        "latency": _over(scenario.latency, pool.latency, LatencySettings),
    }
    if pool.model is not None:
        update["model"] = pool.model
    if pool.hardware is not None:
        update["hardware"] = pool.hardware
    return scenario.model_copy(update=update)


def _over(common: S, own: S, section: type[S]) -> S:
    """Return common settings with a pool's own instead where they are given."""
    given = common.model_dump(exclude_unset=True) | own.model_dump(exclude_unset=True)
    return section.model_validate(given)


def _check_coefficients(scenario: Scenario, pools: tuple[PoolSettings, ...]) -> None:
    """Raise where one set of coefficients would speak for different deployments."""
    latency = scenario.latency
    if latency.alpha is None and latency.beta is None:
        return
    kinds = {
        (
            pool.model or scenario.model,
            pool.hardware or scenario.hardware,
            _over(scenario.engine, pool.engine, EngineSettings).tensor_parallel_size,
        )
        for pool in pools
        if pool.latency.alpha is None and pool.latency.beta is None
    }
    if len(kinds) > 1:
        raise ConfigError(
            "latency.alpha and latency.beta must be given by pool where models, GPUs or TP "
            f"differ; got one set for {len(kinds)} kinds of instances; write them in "
            "cluster.pools[].latency"
        )


def _check_alike(pools: tuple[Pool, ...]) -> None:
    """Raise where a KV cache cannot be handed from one pool to another."""
    prefill = [pool for pool in pools if pool.role == "prefill"]
    decode = [pool for pool in pools if pool.role == "decode"]
    for one in prefill:
        for other in decode:
            for what, values in _cache_format(one.deployed, other.deployed).items():
                if values[0] != values[1]:
                    raise ConfigError(
                        f"{what} of pools {one.name} and {other.name} must be the same to hand "
                        f"KV caches over; got {values[0]} and {values[1]}"
                    )


def _cache_format(one: Deployed, other: Deployed) -> dict[str, tuple[Any, Any]]:
    """Return, by name, what two instances must have in common."""
    return {
        "model": (one.spec.name, other.spec.name),
        "engine.block_size": (one.engine.block_size, other.engine.block_size),
        "bytes of a token's KV cache": (_kv_bytes_per_token(one), _kv_bytes_per_token(other)),
    }


def _kv_bytes_per_token(deployed: Deployed) -> int:
    """Return the KV cache of a token, each head counted once."""
    dtype_bytes = 1 if deployed.settings.kv_cache_dtype == "fp8" else None
    return deployed.spec.kv_bytes_per_token(1, dtype_bytes)


def _pool_config(pool: Pool, disaggregation: DisaggregationSettings) -> PoolConfig:
    deployed = pool.deployed
    gb_per_s = disaggregation.link_gb_per_s if pool.nic_gb_per_s is None else pool.nic_gb_per_s
    return PoolConfig(
        data=PoolData(
            name=pool.name,
            role=pool.role,
            model=deployed.spec.name,
            gpu=deployed.gpu.name,
            gpus_per_instance=deployed.settings.tensor_parallel_size,
        ),
        engine=deployed.engine,
        latency=deployed.latency.model,
        num_instances=pool.num_instances,
        autoscaling=pool.autoscaling,
        kv_bytes_per_token=_kv_bytes_per_token(deployed),
        nic_bytes_per_us=gb_per_s * _BYTES_PER_US,
        num_layers=deployed.spec.num_layers,
    )
