"""A scenario with everything looked up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from blis_sim.catalog.coefficients import plain_version
from blis_sim.catalog.gpus import GpuSpec
from blis_sim.catalog.model_spec import ModelSpec
from blis_sim.config.cluster import AutoscalingSettings
from blis_sim.config.engine import EngineSettings
from blis_sim.config.scenario import Scenario
from blis_sim.config.workload import ArrivalProcess, WorkloadSettings
from blis_sim.engine.simulation import EngineConfig
from blis_sim.latency.selection import Selection
from blis_sim.workload.arrival_settings import DEFAULT_REQUEST_RATE
from blis_sim.workload.base import Workload
from blis_sim.workload.load import DEFAULT_PRESET


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """One engine instance with everything looked up.

    Attributes
    ----------
    settings : EngineSettings
        What the user wrote of the engine.
    spec : ModelSpec
        The model.
    gpu : GpuSpec
        The GPU.
    engine : EngineConfig
        Every engine setting in force.
    latency : Selection
        The latency model, and why it was chosen.
    kv_blocks_source : str
        Where the number of KV blocks comes from.
    notices : tuple of str
        What the user should know, one sentence each.
    """

    settings: EngineSettings
    spec: ModelSpec
    gpu: GpuSpec
    engine: EngineConfig
    latency: Selection
    kv_blocks_source: str
    notices: tuple[str, ...] = ()

    def engine_settings(self) -> dict[str, Any]:
        """Return every engine setting in force, by vLLM's name."""
        settings, scheduler = self.settings, self.engine.scheduler
        return {
            "version": plain_version(settings.version),
            "defaults": settings.defaults,
            "tensor_parallel_size": settings.tensor_parallel_size,
            "dtype": self.spec.dtype,
            "quantization": self.spec.quantization,
            "kv_cache_dtype": settings.kv_cache_dtype,
            "gpu_memory_utilization": settings.gpu_memory_utilization,
            "max_num_seqs": scheduler.max_num_seqs,
            "max_num_batched_tokens": scheduler.max_num_batched_tokens,
            "max_model_len": scheduler.max_model_len,
            "block_size": self.engine.block_size,
            "num_gpu_blocks": self.engine.num_kv_blocks,
            "enable_prefix_caching": self.engine.enable_prefix_caching,
            "enable_chunked_prefill": scheduler.enable_chunked_prefill,
            "long_prefill_token_threshold": scheduler.long_prefill_token_threshold,
            "scheduling_policy": scheduler.policy.value,
            "async_scheduling": self.engine.async_scheduling,
            "reserve_full_sequence": scheduler.reserve_full_sequence,
        }

    def as_written(self) -> dict[str, Any]:
        """Return the engine settings as the user could have written them, with what follows.

        Settings left at their defaults are absent unless a result depends on how they were
        derived.
        """
        scheduler = self.engine.scheduler
        return self.settings.model_dump(exclude_unset=True) | {
            "tensor_parallel_size": self.settings.tensor_parallel_size,
            "max_model_len": scheduler.max_model_len,
            "max_num_seqs": scheduler.max_num_seqs,
            "max_num_batched_tokens": scheduler.max_num_batched_tokens,
            "async_scheduling": self.engine.async_scheduling,
            "reserve_full_sequence": scheduler.reserve_full_sequence,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Instances of one kind.

    Attributes
    ----------
    name, role : str
        As in `PoolSettings`.
    num_instances : int
        Engines at the start: each rank of a data-parallel server is one.
    deployed : Deployed
        Each of them.
    autoscaling : AutoscalingSettings or None
        How their number follows the load.
    nic_gb_per_s : float or None
        Bandwidth of an instance's network card; None = as the cluster says.
    """

    name: str
    role: str
    num_instances: int
    deployed: Deployed
    autoscaling: AutoscalingSettings | None = None
    nic_gb_per_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A scenario with everything looked up.

    Attributes
    ----------
    scenario : Scenario
        What the user wrote.
    deployed : Deployed
        The engine; of a cluster, that of the first pool.
    pools : tuple of Pool
        The pools of a cluster; empty = one engine without a gateway.
    workload : Workload
        The requests.
    horizon_us : int or None
        Where the clock stops.
    notices : tuple of str
        What the user should know, one sentence each.
    """

    scenario: Scenario
    deployed: Deployed
    workload: Workload
    pools: tuple[Pool, ...] = ()
    horizon_us: int | None = None
    notices: tuple[str, ...] = ()

    @property
    def spec(self) -> ModelSpec:
        """The model."""
        return self.deployed.spec

    @property
    def gpu(self) -> GpuSpec:
        """The GPU."""
        return self.deployed.gpu

    @property
    def engine(self) -> EngineConfig:
        """Every engine setting in force."""
        return self.deployed.engine

    @property
    def latency(self) -> Selection:
        """The latency model, and why it was chosen."""
        return self.deployed.latency

    @property
    def kv_blocks_source(self) -> str:
        """Where the number of KV blocks comes from."""
        return self.deployed.kv_blocks_source

    @property
    def num_instances(self) -> int:
        """Engines at the start."""
        return sum(pool.num_instances for pool in self.pools) or 1

    @property
    def request_rate(self) -> float | None:
        """Configured requests per second; None where no one rate says it."""
        settings = self.scenario.workload
        if settings.arrivals.process is ArrivalProcess.ALL_AT_ONCE:
            return math.inf
        if settings.request_rate is not None or not _is_drawn_at_a_rate(settings):
            return settings.request_rate
        return DEFAULT_REQUEST_RATE

    @property
    def max_concurrency(self) -> int | None:
        """Most requests that the clients have open at a time; None = no limit."""
        settings = self.scenario.workload
        limits = (settings.max_outstanding, settings.arrivals.num_users)
        return min((limit for limit in limits if limit is not None), default=None)

    @property
    def burstiness(self) -> float | None:
        """Gamma shape of the gaps (1 = Poisson); None where the gaps are not drawn so."""
        settings, rate = self.scenario.workload, self.request_rate
        if not _is_drawn_at_a_rate(settings) or rate is None or math.isinf(rate):
            return None
        arrivals = settings.arrivals
        if arrivals.burstiness is not None:
            return arrivals.burstiness
        if arrivals.cv is not None:
            return None if arrivals.process is ArrivalProcess.WEIBULL else arrivals.cv**-2
        return 1.0 if arrivals.process in {ArrivalProcess.POISSON, ArrivalProcess.GAMMA} else None

    def engine_settings(self) -> dict[str, Any]:
        """Return every engine setting in force, by vLLM's name."""
        return self.deployed.engine_settings()

    def as_written(self) -> dict[str, Any]:
        """Return the scenario as the user could have written it, with what was derived.

        Settings left at their defaults are absent unless a result depends on how they were
        derived. Loading it again gives the same result.
        """
        scenario = self.scenario
        written = scenario.model_dump(exclude_unset=True)
        written |= {
            "model": scenario.model,
            "hardware": scenario.hardware,
            "workload": _workload_as_written(scenario.workload, self.workload),
            "seed": scenario.seed,
        }
        if scenario.cluster.pools:
            pools = written["cluster"]["pools"]
            written["cluster"]["pools"] = [
                _pool_as_written(mapping, pool)
                for mapping, pool in zip(pools, self.pools, strict=True)
            ]
        else:
            written["engine"] = self.deployed.as_written()
            written["latency"] = written.get("latency", {}) | {"model": self.latency.name}
        return {name: written[name] for name in Scenario.model_fields if name in written}


def _pool_as_written(written: dict[str, Any], pool: Pool) -> dict[str, Any]:
    latency = written.get("latency", {}) | {"model": pool.deployed.latency.name}
    return written | {"engine": pool.deployed.as_written(), "latency": latency}


def _is_drawn_at_a_rate(settings: WorkloadSettings) -> bool:
    """Return whether one rate decides when requests arrive."""
    return (
        settings.trace is None
        and settings.clients is None
        and settings.stages is None
        and settings.arrivals.process is not ArrivalProcess.CLOSED_LOOP
    )


def _workload_as_written(settings: WorkloadSettings, workload: Workload) -> dict[str, Any]:
    written = settings.model_dump(exclude_unset=True)
    if not _is_drawn_at_a_rate(settings):
        return written
    defaults: dict[str, Any] = {}
    if settings.prompts is None and (settings.prompt is None or settings.output is None):
        defaults["preset"] = settings.preset or DEFAULT_PRESET
    if settings.arrivals.process is not ArrivalProcess.ALL_AT_ONCE:
        defaults["request_rate"] = DEFAULT_REQUEST_RATE
    if workload.num_requests is not None and settings.duration_s is None:
        defaults["num_requests"] = workload.num_requests
    return defaults | {key: value for key, value in written.items() if value is not None}
