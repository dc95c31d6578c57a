"""Everything a cluster simulation needs to know, resolved: no defaults left to find."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from blis_sim.config.cluster import DisaggregationSettings, GatewaySettings, RoutingSettings

if TYPE_CHECKING:
    from blis_sim.config.cluster import AutoscalingSettings
    from blis_sim.engine.simulation import EngineConfig
    from blis_sim.latency.base import LatencyModel
    from blis_sim.metrics.records import PoolData


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """Instances of one kind.

    Attributes
    ----------
    data : PoolData
        Name, role, model, GPU and GPUs per instance, for the reports.
    engine : EngineConfig
        Each instance.
    latency : LatencyModel
        How long its steps take.
    num_instances : int
        Instances at the start, >= 1.
    autoscaling : AutoscalingSettings or None
        How their number follows the load; None = it does not.
    kv_bytes_per_token : int
        KV cache of one token, all GPUs of an instance together.
    nic_bytes_per_us : float
        Bandwidth of an instance's network card, each way; ``inf`` = no limit.
    num_layers : int
        Layers of the model.
    """

    data: PoolData
    engine: EngineConfig
    latency: LatencyModel
    num_instances: int = 1
    autoscaling: AutoscalingSettings | None = None
    kv_bytes_per_token: int = 0
    nic_bytes_per_us: float = float("inf")
    num_layers: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """Pools behind a gateway.

    Attributes
    ----------
    pools : tuple of PoolConfig
        All ``mixed``, or some ``prefill`` and some ``decode``.
    routing : RoutingSettings
        How an instance is chosen.
    gateway : GatewaySettings
        Admission and queue.
    disaggregation : DisaggregationSettings
        How prompts are handed over; with prefill and decode pools.
    ttft_limit_ms : float or None
        ``slo.ttft_ms``, for queues ordered by deadline.
    seed : int
        Of the router's random draws.
    """

    pools: tuple[PoolConfig, ...]
    routing: RoutingSettings = field(default_factory=RoutingSettings)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    disaggregation: DisaggregationSettings = field(default_factory=DisaggregationSettings)
    ttft_limit_ms: float | None = None
    seed: int = 42

    @property
    def is_disaggregated(self) -> bool:
        """Whether there are prefill and decode pools."""
        return any(pool.data.role == "prefill" for pool in self.pools)
