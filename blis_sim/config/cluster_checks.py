"""What settings of a cluster must have in common; nothing that is looked up.

A setting that the user gave and that would decide nothing is an error. A policy for a single
instance is none: it decides as soon as there are several, as in a sweep over their number.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from blis_sim.config.cluster import (
    AdmissionPolicy,
    PoolSettings,
    instances_at_start,
    num_ranks,
    scaled_parts,
)
from blis_sim.config.explain import shown
from blis_sim.config.routing_checks import check_routing
from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    from blis_sim.config.cluster import (
        AutoscalingSettings,
        ClusterSettings,
        DisaggregationSettings,
        GatewaySettings,
    )
    from blis_sim.config.engine import EngineSettings
    from blis_sim.config.scenario import Scenario, SloSettings

_HANDOVER = ("link_gb_per_s", "link_latency_us", "overlap", "first_token_from")
_BY_PREFIX = "uncached-prefix"


def check_cluster(scenario: Scenario) -> None:
    """Check the ``cluster`` part of a scenario.

    Raises
    ------
    ConfigError
        Settings contradict each other, or one that was given would decide nothing.
    """
    cluster = scenario.cluster
    _check_pools(cluster)
    _check_roles(cluster)
    _check_disaggregation(cluster)
    for where, part in scaled_parts(cluster):
        if part.autoscaling is not None:
            _check_autoscaling(part, part.autoscaling, where)
            _check_no_ranks(part, scenario.engine, where)
    check_routing(scenario)
    _check_admission(cluster.gateway)
    _check_queue(cluster.gateway, scenario.slo)


# -- pools ----------------------------------------------------------------


def _check_pools(cluster: ClusterSettings) -> None:
    if cluster.pools is None:
        return
    if not cluster.pools:
        raise ConfigError("cluster.pools must have at least one pool; got none; leave it out")
    for name in ("num_instances", "autoscaling"):
        if cluster.is_given(name):
            raise ConfigError(
                f"cluster.{name} must not be set beside cluster.pools; got "
                f"{shown(_plain(getattr(cluster, name)))}; give {name} of each pool"
            )
    first: dict[str, int] = {}
    for number, pool in enumerate(cluster.pools):
        if pool.name in first:
            raise ConfigError(
                f"cluster.pools[{number}].name must be another than that of "
                f"cluster.pools[{first[pool.name]}]; got {pool.name!r} twice; rename one of them"
            )
        first[pool.name] = number


def _plain(value: object) -> object:
    """Return a setting as it is written."""
    return value.model_dump(exclude_unset=True) if hasattr(value, "model_dump") else value


def _check_roles(cluster: ClusterSettings) -> None:
    pools = cluster.pools or ()
    roles = {pool.role for pool in pools}
    for number, pool in enumerate(pools):
        if pool.role != "mixed":
            continue
        if len(roles) > 1:
            raise ConfigError(
                f"cluster.pools[{number}].role must be prefill or decode beside prefill and "
                f"decode pools; got mixed ({pool.name}); leave the pool out or give it a role"
            )
        if pool.nic_gb_per_s is not None:
            raise ConfigError(
                f"cluster.pools[{number}].nic_gb_per_s must not be set for a mixed pool, which "
                f"sends no KV cache; got {pool.nic_gb_per_s:g}; leave it out"
            )
    for role, other in (("prefill", "decode"), ("decode", "prefill")):
        if role in roles and other not in roles:
            raise ConfigError(
                f"cluster.pools must have a {other} pool beside the {role} pool; got zero "
                f"{other} instances; add a pool with role: {other}, or leave the roles out"
            )


def _check_disaggregation(cluster: ClusterSettings) -> None:
    split = cluster.disaggregation
    if split is None:
        return
    pools = cluster.pools or ()
    where = "cluster.disaggregation"
    if not any(pool.role == "prefill" for pool in pools):
        if split.decider == "never" and split.model_fields_set == {"decider"}:
            return  # asks for nothing
        raise ConfigError(
            f"{where} must not be set without prefill and decode pools; got decider "
            f"{split.decider}; give pools these roles, or leave it out"
        )
    if split.threshold_tokens is not None and split.decider != _BY_PREFIX:
        raise ConfigError(
            f"{where}.threshold_tokens must be set with decider {_BY_PREFIX}; got "
            f"{split.threshold_tokens} with {split.decider}; leave it out"
        )
    if split.decider != "never":
        _check_link(cluster, split)
        return
    for name in _HANDOVER:
        if name in split.model_fields_set:
            raise ConfigError(
                f"{where}.{name} must not be set with decider never: nothing is handed over; got "
                f"{getattr(split, name)}; leave it out"
            )
    for number, pool in enumerate(pools):
        if pool.nic_gb_per_s is not None:
            raise ConfigError(
                f"cluster.pools[{number}].nic_gb_per_s must not be set with decider never: "
                f"nothing is handed over; got {pool.nic_gb_per_s:g}; leave it out"
            )


def _check_link(cluster: ClusterSettings, split: DisaggregationSettings) -> None:
    """Raise where a common bandwidth is given and every pool has its own."""
    pools = cluster.pools or ()
    own = all(pool.nic_gb_per_s is not None for pool in pools)
    if own and split.is_given("link_gb_per_s"):
        raise ConfigError(
            "cluster.disaggregation.link_gb_per_s must not be set where every pool has its own "
            f"nic_gb_per_s; got {split.link_gb_per_s:g}; leave one of them out"
        )


def _check_autoscaling(
    part: ClusterSettings | PoolSettings, scaling: AutoscalingSettings, where: str
) -> None:
    low, high = scaling.min_instances, scaling.max_instances
    if high < low:
        raise ConfigError(
            f"{where}.autoscaling.max_instances must be >= min_instances ({low}); got {high}; "
            "raise it, or lower min_instances"
        )
    if not low <= instances_at_start(part) <= high:
        raise ConfigError(
            f"{where}.num_instances must be from min_instances to max_instances of its "
            f"autoscaling ({low} to {high}); got {part.num_instances}; leave it out to start "
            f"with {low}, or change min_instances or max_instances"
        )
    if scaling.metric == "kv-utilization" and scaling.target > 1:
        raise ConfigError(
            f"{where}.autoscaling.target must be <= 1, a share of the KV blocks, with metric "
            f"kv-utilization; got {scaling.target:g}; write 80 % as 0.8"
        )


def _check_no_ranks(
    part: ClusterSettings | PoolSettings, common: EngineSettings, where: str
) -> None:
    ranks = num_ranks(part, common)
    if ranks > 1:
        name = "engine.data_parallel_size"
        is_own = isinstance(part, PoolSettings) and part.engine.is_given("data_parallel_size")
        raise ConfigError(
            f"{where + '.' if is_own else ''}{name} must be 1 with {where}.autoscaling, which "
            f"would start and stop single ranks of a server; got {ranks}; leave it out and scale "
            "whole instances, or leave autoscaling out"
        )


# -- gateway --------------------------------------------------------------


def _check_admission(gateway: GatewaySettings) -> None:
    where = "cluster.gateway.admission"
    admission = gateway.admission
    for name, policy in (
        ("token_bucket_capacity", AdmissionPolicy.TOKEN_BUCKET),
        ("token_bucket_refill_rate", AdmissionPolicy.TOKEN_BUCKET),
        ("tier_shed_threshold", AdmissionPolicy.TIER_SHED),
        ("tier_shed_min_priority", AdmissionPolicy.TIER_SHED),
        ("slo_priorities", AdmissionPolicy.TIER_SHED),
    ):
        value = getattr(admission, name)
        if value is not None and admission.policy is not policy:
            raise ConfigError(
                f"{where}.{name} must be set with policy {policy.value}; got {_as_typed(value)} "
                f"with {admission.policy.value}; leave it out or set {where}.policy to "
                f"{policy.value}"
            )


def _check_queue(gateway: GatewaySettings, slo: SloSettings) -> None:
    """Check the queue; what is true without one (``queue_order: fcfs``) may be written out."""
    where = "cluster.gateway"
    if gateway.max_outstanding_per_instance is None:
        for name, value, without in (
            ("queue_limit", gateway.queue_limit, None),
            ("queue_order", gateway.queue_order, "fcfs"),
            ("fair_share", gateway.fair_share, False),
        ):
            if value != without:
                raise ConfigError(
                    f"{where}.{name} must be set with max_outstanding_per_instance: without it "
                    f"nothing ever waits in the gateway; got {_as_typed(value)}; set a limit of "
                    "requests per instance, or leave it out"
                )
    if gateway.tenant_weights is not None and not gateway.fair_share:
        raise ConfigError(
            f"{where}.tenant_weights must be set with fair_share; got "
            f"{shown(gateway.tenant_weights)} without; set fair_share: true, or leave it out"
        )
    is_by_deadline = gateway.queue_order == "slo-deadline"
    if gateway.ttft_limits_ms is not None and not is_by_deadline:
        raise ConfigError(
            f"{where}.ttft_limits_ms must be set with queue_order slo-deadline; got "
            f"{shown(gateway.ttft_limits_ms)} with {gateway.queue_order}; set that order, or "
            "leave it out"
        )
    has_common_limit = slo.ttft_ms is not None and isfinite(slo.ttft_ms)
    if is_by_deadline and not gateway.ttft_limits_ms and not has_common_limit:
        raise ConfigError(
            f"{where}.queue_order must be fcfs or priority where no TTFT limit is known; got "
            "slo-deadline; set slo.ttft_ms or cluster.gateway.ttft_limits_ms"
        )


def _as_typed(value: object) -> str:
    """Return a setting as a user would type it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else shown(value)
