"""What stands between clients and instances, as reports say it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from blis_sim.config.cluster import DEFAULT_SCORERS, AdmissionPolicy, RoutingPolicy
from blis_sim.config.routing_checks import report_interval_s
from blis_sim.metrics.context import GatewayContext

if TYPE_CHECKING:
    from blis_sim.cluster.config import ClusterConfig
    from blis_sim.config.cluster import DisaggregationSettings, GatewaySettings, RoutingSettings


def gateway_context(config: ClusterConfig) -> GatewayContext:
    """Return how the requests of a cluster get to its instances, in words."""
    routing = _routing(config.routing)
    split = config.disaggregation
    if config.is_disaggregated and split.decode_routing is not None:
        routing += f"; decode instances: {_routing(split.decode_routing)}"
    return GatewayContext(
        routing=routing,
        queue=", ".join(_queue(config.gateway)),
        disaggregation=", ".join(_disaggregation(split)) if config.is_disaggregated else "",
        max_outstanding_per_instance=config.gateway.max_outstanding_per_instance,
    )


def _routing(routing: RoutingSettings) -> str:
    text = routing.policy.value
    if routing.policy is RoutingPolicy.WEIGHTED:
        weights = routing.scorers or DEFAULT_SCORERS
        scorers = (f"{scorer.value} {weight:g}" for scorer, weight in weights.items() if weight)
        text += f" ({', '.join(scorers)})"
    for what, seconds in (
        ("reports", report_interval_s(routing)),
        ("caches seen", routing.cache_signal_delay_s),
    ):
        if seconds:
            text += f"; {what} every {_time(seconds)}"
    return text


def _queue(gateway: GatewaySettings) -> Iterator[str]:
    """Yield who is turned away and who waits; nothing where nobody does."""
    if gateway.admission.policy is not AdmissionPolicy.ALWAYS_ADMIT:
        yield gateway.admission.policy.value
    if gateway.max_outstanding_per_instance is None:
        return
    yield f"at most {gateway.max_outstanding_per_instance} requests per instance"
    yield f"queue {gateway.queue_order}"
    if gateway.queue_limit is not None:
        yield f"at most {gateway.queue_limit} waiting"
    if gateway.fair_share:
        yield "fair shares of tenants"


def _disaggregation(split: DisaggregationSettings) -> Iterator[str]:
    by_prefix = split.threshold_tokens
    yield split.decider if by_prefix is None else f"{split.decider} of {by_prefix} tokens"
    if split.decider == "never":
        return
    yield f"first token from {split.first_token_from}"
    if split.overlap != "none":
        yield f"{split.overlap} overlap"


def _time(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 1 else f"{1000 * seconds:g} ms"
