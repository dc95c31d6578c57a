"""What the settings of routing must have in common, and which policy is in force."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blis_sim.config.cluster import (
    DEFAULT_SCORERS,
    RoutingPolicy,
    Scorer,
    num_ranks,
    scaled_parts,
)
from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    from blis_sim.config.cluster import RoutingSettings
    from blis_sim.config.scenario import Scenario

_VLLM_DP_INTERVAL_S = 0.1
"""vLLM's coordinator of data-parallel engines publishes their counts so often."""
_READ_REPORTS = {
    RoutingPolicy.LEAST_LOADED,
    RoutingPolicy.POWER_OF_TWO,
    RoutingPolicy.SESSION_AFFINITY,
    RoutingPolicy.VLLM_DP,
}
_SCORE_REPORTS = {
    Scorer.QUEUE_DEPTH,
    Scorer.KV_UTILIZATION,
    Scorer.RUNNING_REQUESTS,
    Scorer.ACTIVE_TOKENS,
}


def routing_policy(scenario: Scenario) -> RoutingPolicy:
    """Return the policy in force.

    The ranks of one server (``engine.data_parallel_size``) are balanced by the server itself
    (``vllm-dp``) unless a policy is given: it stands for a balancer outside.
    """
    cluster = scenario.cluster
    if cluster.routing.is_given("policy"):
        return cluster.routing.policy
    parts = [part for _, part in scaled_parts(cluster)]
    is_one_server = len(parts) == 1 and parts[0].num_instances == 1
    if is_one_server and num_ranks(parts[0], scenario.engine) > 1:
        return RoutingPolicy.VLLM_DP
    return cluster.routing.policy


def report_interval_s(routing: RoutingSettings) -> float:
    """Return how often instances report their load; 0 = the gateway always knows."""
    if routing.snapshot_interval_s is not None:
        return routing.snapshot_interval_s
    return _VLLM_DP_INTERVAL_S if routing.policy is RoutingPolicy.VLLM_DP else 0.0


def check_routing(scenario: Scenario) -> None:
    """Check how instances are chosen.

    Raises
    ------
    ConfigError
        A setting was given that the policy does not read.
    """
    cluster = scenario.cluster
    split = cluster.disaggregation
    own = None if split is None else split.decode_routing
    # This decider asks what the decode instance has cached.
    asks = split is not None and split.decider == "uncached-prefix"
    policy = routing_policy(scenario)
    _check_routing(cluster.routing, policy, "cluster.routing", reads_caches=asks and own is None)
    if own is not None:
        where = "cluster.disaggregation.decode_routing"
        _check_routing(own, own.policy, where, reads_caches=asks)


def _check_routing(
    routing: RoutingSettings, policy: RoutingPolicy, where: str, *, reads_caches: bool
) -> None:
    alone = f"leave it out, or set the policy alone as in {where}={policy.value}"
    if routing.scorers is not None and policy is not RoutingPolicy.WEIGHTED:
        given = ",".join(f"{scorer}:{weight:g}" for scorer, weight in routing.scorers.items())
        raise ConfigError(
            f"{where}.scorers must be set with policy weighted; got {given} with {policy.value}; "
            f"{alone}"
        )
    scorers: set[Scorer] = set()
    if policy is RoutingPolicy.WEIGHTED:
        weights = routing.scorers or DEFAULT_SCORERS
        scorers = {scorer for scorer, weight in weights.items() if weight}
    name = policy.value + (f" ({', '.join(sorted(scorers))})" if scorers else "")
    reads_reports = policy in _READ_REPORTS or scorers & _SCORE_REPORTS
    if routing.snapshot_interval_s and not reads_reports:
        raise ConfigError(
            f"{where}.snapshot_interval_s must be set with a policy that reads what instances "
            f"report; got {routing.snapshot_interval_s:g} with {name}; {alone}"
        )
    reads_caches |= Scorer.PRECISE_PREFIX_CACHE in scorers
    reads_caches |= policy is RoutingPolicy.SHORTEST_EXPECTED_TTFT
    if routing.cache_signal_delay_s and not reads_caches:
        raise ConfigError(
            f"{where}.cache_signal_delay_s must be set with a policy that reads the KV caches, "
            f"such as weighted with precise-prefix-cache; got {routing.cache_signal_delay_s:g} "
            f"with {name}; {alone}"
        )
    has_index = policy is RoutingPolicy.PREFIX_AFFINITY or Scorer.PREFIX_AFFINITY in scorers
    if routing.is_given("prefix_index_blocks") and not has_index:
        raise ConfigError(
            f"{where}.prefix_index_blocks must be set with prefix-affinity, as policy or scorer; "
            f"got {routing.prefix_index_blocks} with {name}; {alone}"
        )
