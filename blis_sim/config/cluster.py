"""The cluster, as a user writes it: pools of instances behind a gateway.

Without ``pools`` there is one pool of ``num_instances`` engines, all as the rest of the
scenario describes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field, field_validator

from blis_sim.config.engine import EngineSettings
from blis_sim.config.latency import LatencySettings
from blis_sim.config.section import Section
from blis_sim.errors import nearest

INFINITE = float("inf")


class RoutingPolicy(StrEnum):
    """How the gateway chooses an instance for a request."""

    ROUND_ROBIN = "round-robin"
    RANDOM = "random"
    LEAST_LOADED = "least-loaded"
    POWER_OF_TWO = "power-of-two"
    SHORTEST_EXPECTED_TTFT = "shortest-expected-ttft"
    SESSION_AFFINITY = "session-affinity"
    PREFIX_AFFINITY = "prefix-affinity"
    WEIGHTED = "weighted"
    VLLM_DP = "vllm-dp"


class Scorer(StrEnum):
    """What the ``weighted`` policy can score an instance by."""

    QUEUE_DEPTH = "queue-depth"
    LOAD_BALANCE = "load-balance"
    KV_UTILIZATION = "kv-utilization"
    PREFIX_AFFINITY = "prefix-affinity"
    PRECISE_PREFIX_CACHE = "precise-prefix-cache"
    RUNNING_REQUESTS = "running-requests"
    ACTIVE_TOKENS = "active-tokens"
    SESSION_AFFINITY = "session-affinity"


DEFAULT_SCORERS: Mapping[Scorer, float] = MappingProxyType(
    {Scorer.PRECISE_PREFIX_CACHE: 2.0, Scorer.QUEUE_DEPTH: 1.0, Scorer.KV_UTILIZATION: 1.0}
)
"""Weights of the ``weighted`` policy when none are given: BLIS's default."""


class RoutingSettings(Section):
    """How an instance is chosen; the name of a policy alone stands for the policy."""

    policy: RoutingPolicy = RoutingPolicy.ROUND_ROBIN
    scorers: dict[Scorer, float] | None = None
    """Weights of the ``weighted`` policy, only their ratios matter; a text such as
    ``precise-prefix-cache:2,queue-depth:1,kv-utilization:1`` (the default) works too. Given
    without a policy they select ``weighted``."""
    snapshot_interval_s: float | None = Field(default=None, ge=0, lt=INFINITE)
    """How often instances report their state to the gateway, seconds; 0 = it sees them as they
    are. Default 0, and 0.1 with ``vllm-dp`` as in vLLM."""
    cache_signal_delay_s: float = Field(default=0, ge=0, lt=INFINITE)
    """How often the gateway's picture of the KV caches (precise-prefix-cache) is renewed,
    seconds; 0 = it sees them as they are."""
    prefix_index_blocks: int = Field(default=31_250, ge=1)
    """Blocks per instance that the gateway's own index of sent prompts (prefix-affinity) holds;
    least recently used ones are forgotten."""

    @classmethod
    def from_short(cls, value: Any) -> Any:
        """Return the settings of the name of a policy; scorers alone stand for ``weighted``."""
        if isinstance(value, str):
            return {"policy": value}
        if isinstance(value, Mapping) and value.get("scorers") and "policy" not in value:
            return {**value, "policy": RoutingPolicy.WEIGHTED.value}
        return value

    @field_validator("scorers", mode="before")
    @classmethod
    def _read_pairs(cls, value: Any) -> Any:
        weights = value
        if isinstance(value, str):
            weights = {}
            for pair in value.split(","):
                name, _, weight = (part.strip() for part in pair.partition(":"))
                if name in weights:
                    raise ValueError(f"must be weights by scorer, {name} only once")
                weights[name] = weight or "1"
        if isinstance(weights, Mapping):
            for name in weights:
                if name not in list(Scorer):
                    known = ", ".join(nearest(str(name), list(Scorer)))
                    raise ValueError(f"must be weights by scorer (nearest to {name}: {known})")
        return weights

    @field_validator("scorers")
    @classmethod
    def _some_weight(cls, value: dict[Scorer, float] | None) -> dict[Scorer, float] | None:
        if value is None:
            return None
        if not value or not all(0 <= weight < INFINITE for weight in value.values()):
            raise ValueError("must be finite weights >= 0 by the names of scorers")
        if not any(value.values()):
            raise ValueError("must be weights of which one is > 0")
        return value


class AdmissionPolicy(StrEnum):
    """Which requests the gateway turns away at once."""

    ALWAYS_ADMIT = "always-admit"
    TOKEN_BUCKET = "token-bucket"
    TIER_SHED = "tier-shed"
    REJECT_ALL = "reject-all"


class AdmissionSettings(Section):
    """Who is admitted; the name of a policy alone stands for the policy."""

    policy: AdmissionPolicy = AdmissionPolicy.ALWAYS_ADMIT
    token_bucket_capacity: float | None = Field(default=None, gt=0, lt=INFINITE)
    """token-bucket: prompt tokens the bucket holds; full at the start (10000)."""
    token_bucket_refill_rate: float | None = Field(default=None, ge=0, lt=INFINITE)
    """token-bucket: prompt tokens added per second (1000)."""
    tier_shed_threshold: int | None = Field(default=None, ge=0)
    """tier-shed: classes are shed while an instance has more requests than this, waiting and
    running (0)."""
    tier_shed_min_priority: int | None = None
    """tier-shed: the lowest priority of a class that is still admitted then (3)."""
    slo_priorities: dict[str, int] | None = None
    """Priority of SLO classes, over critical 4, standard 3, batch -1, sheddable -2,
    background -3; any other class, and none, counts as standard."""

    @classmethod
    def from_short(cls, value: Any) -> Any:
        """Return the settings of the name of a policy."""
        return {"policy": value} if isinstance(value, str) else value


class GatewaySettings(Section):
    """What stands before the instances."""

    admission: AdmissionSettings = AdmissionSettings()
    max_outstanding_per_instance: int | None = Field(default=None, ge=1)
    """Most requests an instance has at a time, waiting and running; the others wait in the
    gateway. None = every request is sent on at once."""
    queue_limit: int | None = Field(default=None, ge=0)
    """Requests that find so many waiting in the gateway are rejected; None = no limit."""
    queue_order: Literal["fcfs", "priority", "slo-deadline"] = "fcfs"
    """Who leaves the gateway's queue first: the longest waiting, the most urgent (lower
    priority), or the one whose TTFT limit passes first."""
    fair_share: bool = False
    """Serve tenants in proportion to their weights (by tokens of their prompts); queue_order
    then decides within a tenant."""
    tenant_weights: dict[str, float] | None = None
    """Shares of the tenants, 1 where absent."""
    ttft_limits_ms: dict[str, float] | None = None
    """TTFT limit by SLO class for ``slo-deadline``, ms; ``slo.ttft_ms`` for the others."""

    @field_validator("tenant_weights", "ttft_limits_ms")
    @classmethod
    def _positive(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        if value is not None and not all(0 < number < INFINITE for number in value.values()):
            raise ValueError("must be numbers > 0 by name")
        return value


class AutoscalingSettings(Section):
    """How the number of instances of a pool follows the load.

    Every ``interval_s`` the wanted number is ``ceil(instances * measured / target)``, where the
    measure is a mean over the instances that are ready (Kubernetes' rule). The pool grows to it,
    and shrinks to the most that was wanted lately.
    """

    metric: Literal["queue-depth", "kv-utilization", "concurrency", "predicted-ttft"] = (
        "concurrency"
    )
    """``queue-depth``: requests waiting per instance; ``kv-utilization``: share of the KV blocks
    in use; ``concurrency``: requests waiting and running per instance; ``predicted-ttft``: TTFT
    in ms that a request of the mean prompt would have, by the latency model."""
    target: float = Field(gt=0, lt=INFINITE)
    """What the metric should be, in its unit."""
    min_instances: int = Field(default=1, ge=1)
    max_instances: int = Field(ge=1)
    interval_s: float = Field(default=15, gt=0, lt=INFINITE)
    """Time between two decisions."""
    startup_delay_s: float = Field(default=60, ge=0, lt=INFINITE)
    """From the decision until a new instance takes requests; it is paid for all the time."""
    scale_up_cooldown_s: float = Field(default=0, ge=0, lt=INFINITE)
    """After growing, time until the pool may grow again."""
    scale_down_stabilization_s: float = Field(default=300, ge=0, lt=INFINITE)
    """The pool shrinks to no fewer than the most that was wanted in this time before, as in
    Kubernetes; 0 = at once."""
    scale_down_cooldown_s: float = Field(default=0, ge=0, lt=INFINITE)
    """After any change, time until the pool may shrink."""
    tolerance: float = Field(default=0.1, ge=0, lt=1)
    """Nothing changes while measured / target is within 1 +- this."""


class PoolSettings(Section):
    """Instances of one kind. What is not given is as at the top of the scenario."""

    name: str = Field(min_length=1)
    """For reports; each pool has its own."""
    num_instances: int = Field(default=1, ge=1)
    """Instances, at the start when the pool is autoscaled (``min_instances`` unless given)."""
    role: Literal["mixed", "prefill", "decode"] = "mixed"
    """``prefill`` pools compute prompts and send the KV cache on to ``decode`` pools."""
    model: str | None = None
    hardware: str | None = None
    engine: EngineSettings = EngineSettings()
    """Settings given here win over the scenario's."""
    latency: LatencySettings = LatencySettings()
    """Settings given here win over the scenario's."""
    autoscaling: AutoscalingSettings | None = None
    nic_gb_per_s: float | None = Field(default=None, gt=0)
    """Bandwidth of an instance's network card for KV transfers, 1e9 bytes per second; ``inf`` =
    no limit. ``cluster.disaggregation.link_gb_per_s`` when absent."""


class DisaggregationSettings(Section):
    """How prompts are handed from prefill to decode pools."""

    decider: Literal["always", "never", "uncached-prefix"] = "always"
    """Which prompts go to a prefill pool: all, none, or those with at least ``threshold_tokens``
    tokens that the chosen decode instance has not cached."""
    threshold_tokens: int | None = Field(default=None, ge=1)
    """For ``uncached-prefix`` (256)."""
    first_token_from: Literal["decode", "prefill"] = "decode"
    """Whether the client sees the first token after the decode instance's first step, as with
    vLLM's and llm-d's proxies, or at the end of the prefill."""
    link_gb_per_s: float = Field(default=50, gt=0)
    """Bandwidth of each instance's network card, 1e9 bytes per second (50 = 400 Gbit/s); ``inf``
    = no limit."""
    link_latency_us: int = Field(default=50, ge=0)
    """Time added to every transfer."""
    overlap: Literal["none", "layerwise"] = "none"
    """``layerwise``: layers are sent while later ones are computed."""
    decode_routing: RoutingSettings | None = None
    """How the decode instance is chosen; as ``cluster.routing`` when absent."""


class ClusterSettings(Section):
    """Which engine instances there are, and how requests get to them."""

    num_instances: int = Field(default=1, ge=1, le=10_000)
    """Engine instances, without ``pools``; at the start when they are autoscaled
    (``min_instances`` unless given)."""
    pools: tuple[PoolSettings, ...] | None = None
    routing: RoutingSettings = RoutingSettings()
    gateway: GatewaySettings = GatewaySettings()
    autoscaling: AutoscalingSettings | None = None
    """Of the one pool, without ``pools``."""
    disaggregation: DisaggregationSettings | None = None
    """For pools with the roles ``prefill`` and ``decode``; its defaults when absent."""


def scaled_parts(
    cluster: ClusterSettings,
) -> Iterator[tuple[str, ClusterSettings | PoolSettings]]:
    """Yield what has a number of instances, each with its path: the pools, or the cluster."""
    if not cluster.pools:
        yield "cluster", cluster
        return
    for number, pool in enumerate(cluster.pools):
        yield f"cluster.pools[{number}]", pool


def num_ranks(part: ClusterSettings | PoolSettings, common: EngineSettings) -> int:
    """Return how many data-parallel ranks each server of a part has; a pool's own setting wins."""
    if isinstance(part, PoolSettings) and part.engine.is_given("data_parallel_size"):
        return part.engine.data_parallel_size
    return common.data_parallel_size


def instances_at_start(part: ClusterSettings | PoolSettings) -> int:
    """Return how many instances there are at the start; ``min_instances`` where none are given."""
    if part.autoscaling is None or part.is_given("num_instances"):
        return part.num_instances
    return part.autoscaling.min_instances
