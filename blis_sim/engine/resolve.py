"""From a scenario to everything a simulation needs: no default is left to find afterwards."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blis_sim.catalog.coefficients import plain_version
from blis_sim.catalog.gpus import GpuSpec, load_gpu
from blis_sim.catalog.locate import locate
from blis_sim.catalog.model_spec import ModelSpec, check_tensor_parallel
from blis_sim.catalog.models import load_model
from blis_sim.config.draft import PATH_SETTINGS
from blis_sim.config.scenario import (
    ArrivalProcess,
    EngineSettings,
    LatencyModelName,
    Scenario,
    WorkloadSettings,
)
from blis_sim.engine.kv_capacity import KvSettings, compute_num_kv_blocks
from blis_sim.engine.limits import (
    ASYNC_SINCE,
    RESERVE_SINCE,
    BatchLimits,
    batch_limits,
    engine_release,
    longest_sequence,
    sequence_in_pool,
)
from blis_sim.engine.scheduler import SchedulerSettings
from blis_sim.engine.simulation import EngineConfig
from blis_sim.errors import ConfigError
from blis_sim.latency.selection import Deployment, Selection, select_latency
from blis_sim.units import GIB, seconds_to_us
from blis_sim.workload.base import Workload
from blis_sim.workload.stream import DEFAULT_REQUEST_RATE, open_workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A scenario with everything looked up.

    Attributes
    ----------
    scenario : Scenario
        What the user wrote.
    spec : ModelSpec
        The model.
    gpu : GpuSpec
        The GPU.
    engine : EngineConfig
        Every engine setting in force.
    latency : Selection
        The latency model, and why it was chosen.
    workload : Workload
        The requests.
    kv_blocks_source : str
        Where the number of KV blocks comes from.
    horizon_us : int or None
        Where the clock stops.
    notices : tuple of str
        What the user should know, one sentence each.
    """

    scenario: Scenario
    spec: ModelSpec
    gpu: GpuSpec
    engine: EngineConfig
    latency: Selection
    workload: Workload
    kv_blocks_source: str
    horizon_us: int | None = None
    notices: tuple[str, ...] = ()

    @property
    def request_rate(self) -> float | None:
        """Configured requests per second; None = a trace's own."""
        settings = self.scenario.workload
        if settings.request_rate is not None or settings.trace is not None:
            return settings.request_rate
        return DEFAULT_REQUEST_RATE

    @property
    def burstiness(self) -> float | None:
        """Gamma shape of the gaps (1 = Poisson); None where the gaps are not drawn so."""
        settings, rate = self.scenario.workload, self.request_rate
        if settings.trace is not None or rate is None or math.isinf(rate):
            return None
        if settings.burstiness is not None:
            return settings.burstiness
        return None if settings.arrivals is ArrivalProcess.CONSTANT else 1.0

    def engine_settings(self) -> dict[str, Any]:
        """Return every engine setting in force, by vLLM's name."""
        settings, scheduler = self.scenario.engine, self.engine.scheduler
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
        """Return the scenario as the user could have written it, with what was derived.

        Settings left at their defaults are absent unless a result depends on how they were
        derived. Loading it again gives the same result.
        """
        written = self.scenario.model_dump(exclude_unset=True)
        scheduler = self.engine.scheduler
        written |= {"model": self.scenario.model, "hardware": self.gpu.name}
        engine = written.get("engine", {}) | {
            "version": self.scenario.engine.version,
            "tensor_parallel_size": self.scenario.engine.tensor_parallel_size,
            "max_model_len": scheduler.max_model_len,
            "max_num_seqs": scheduler.max_num_seqs,
            "max_num_batched_tokens": scheduler.max_num_batched_tokens,
            "async_scheduling": self.engine.async_scheduling,
            "reserve_full_sequence": scheduler.reserve_full_sequence,
        }
        latency = written.get("latency", {}) | {"model": self.latency.name}
        workload = _workload_as_written(self.scenario.workload, self.workload)
        rest = {"seed": self.scenario.seed}
        return written | {"engine": engine, "latency": latency, "workload": workload} | rest


def _workload_as_written(settings: WorkloadSettings, workload: Workload) -> dict[str, Any]:
    written = settings.model_dump(exclude_unset=True)
    if settings.trace is not None:
        return written
    defaults: dict[str, Any] = {"preset": settings.preset, "request_rate": DEFAULT_REQUEST_RATE}
    if workload.num_requests is not None:
        defaults["num_requests"] = workload.num_requests
    return defaults | {key: value for key, value in written.items() if value is not None}


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
        The model, the GPU or its coefficients are unknown or unusable.
    TraceError
        The trace is not acceptable.
    """
    _check_cluster(scenario)
    release = engine_release(scenario.engine.version)
    horizon_us = _horizon_us(scenario)
    located, notices = _locate_files(scenario)
    engine = scenario.engine
    spec = load_model(scenario.model, located.latency.model_config_folder)
    spec = spec.with_overrides(engine.dtype, engine.quantization)
    gpu = load_gpu(scenario.hardware, located.latency.hardware_config)
    check_tensor_parallel(spec, engine.tensor_parallel_size)
    latency = select_latency(located.latency, _deployment(scenario, spec, gpu))
    _check_used(scenario, latency)
    longest = longest_sequence(engine, spec)
    limits = batch_limits(engine, gpu, longest)
    pool = _kv_pool(engine, spec, gpu, limits)
    max_model_len, lowered = sequence_in_pool(engine, longest, pool.num_blocks)
    workload = open_workload(located.workload, scenario.seed, horizon_us)
    config = EngineConfig(
        scheduler=SchedulerSettings(
            max_num_seqs=limits.max_num_seqs,
            max_num_batched_tokens=limits.max_num_batched_tokens,
            max_model_len=max_model_len,
            long_prefill_token_threshold=engine.long_prefill_token_threshold,
            policy=engine.scheduling_policy,
            enable_chunked_prefill=engine.enable_chunked_prefill,
            reserve_full_sequence=_switch(engine.reserve_full_sequence, release >= RESERVE_SINCE),
        ),
        num_kv_blocks=pool.num_blocks,
        block_size=engine.block_size,
        enable_prefix_caching=engine.enable_prefix_caching,
        async_scheduling=_switch(
            engine.async_scheduling,
            release >= ASYNC_SINCE and latency.name is LatencyModelName.ROOFLINE_V2,
        ),
        coalesce=scenario.coalesce,
    )
    return Resolved(
        scenario=scenario,
        spec=spec,
        gpu=gpu,
        engine=config,
        latency=latency,
        workload=workload,
        kv_blocks_source=pool.source,
        horizon_us=horizon_us,
        notices=tuple(
            notice
            for notice in (
                *notices,
                *latency.notices,
                *limits.notices,
                pool.note,
                lowered,
                *workload.notices,
            )
            if notice
        ),
    )


def _check_cluster(scenario: Scenario) -> None:
    count = scenario.cluster.num_instances
    if count != 1:
        raise ConfigError(
            f"cluster.num_instances must be 1 in this version; got {count}; simulate one "
            "instance with its share of the load"
        )


def _horizon_us(scenario: Scenario) -> int | None:
    if scenario.horizon_s is None:
        return None
    horizon_us = seconds_to_us(scenario.horizon_s)
    if not 1 <= horizon_us < 2**62:
        raise ConfigError(
            f"horizon_s must be from 0.000001 to {2**62 // 10**6} s; got {scenario.horizon_s:g}"
        )
    return horizon_us


def _locate_files(scenario: Scenario) -> tuple[Scenario, list[str]]:
    """Return the scenario with its files found, and notices about shipped ones."""
    notices: list[str] = []
    sections: dict[str, dict[str, Path]] = {"latency": {}, "workload": {}}
    for section, name in PATH_SETTINGS:
        path = getattr(getattr(scenario, section), name)
        if path is not None:
            located = locate(path)
            sections[section][name] = located.path
            notices += filter(None, [located.notice])
    update = {
        section: getattr(scenario, section).model_copy(update=paths)
        for section, paths in sections.items()
        if paths
    }
    return scenario.model_copy(update=update), notices


def _deployment(scenario: Scenario, spec: ModelSpec, gpu: GpuSpec) -> Deployment:
    engine = scenario.engine
    is_given = "version" in engine.model_fields_set
    return Deployment(
        model_name=scenario.model,
        spec=spec,
        gpu=gpu,
        tp=engine.tensor_parallel_size,
        engine_version=plain_version(engine.version) if is_given else None,
        is_as_published=engine.dtype == "auto" and engine.quantization is None,
    )


def _check_used(scenario: Scenario, latency: Selection) -> None:
    """Raise where the user gave a setting that decides nothing."""
    engine = scenario.engine
    if engine.num_gpu_blocks_override is None:
        return
    only_memory = ["gpu_memory_utilization", "kv_cache_dtype"]
    if latency.name is LatencyModelName.BLACKBOX:
        only_memory += ["dtype", "quantization"]
    defaults = EngineSettings()
    for name in only_memory:
        value = getattr(engine, name)
        if name in engine.model_fields_set and value != getattr(defaults, name):
            raise ConfigError(
                f"engine.{name} must not be set with engine.num_gpu_blocks_override and "
                f"{latency.name.value}; got {value}: it would decide nothing; leave one of them "
                "out"
            )


@dataclass(frozen=True, slots=True)
class _Pool:
    num_blocks: int
    source: str
    note: str = ""


def _kv_pool(engine: EngineSettings, spec: ModelSpec, gpu: GpuSpec, limits: BatchLimits) -> _Pool:
    if engine.num_gpu_blocks_override is not None:
        return _Pool(engine.num_gpu_blocks_override, "num_gpu_blocks_override")
    capacity = compute_num_kv_blocks(
        spec,
        gpu,
        KvSettings(
            tp=engine.tensor_parallel_size,
            max_num_batched_tokens=limits.max_num_batched_tokens,
            max_num_seqs=limits.max_num_seqs,
            engine_version=engine.version,
            gpu_memory_utilization=engine.gpu_memory_utilization,
            block_size=engine.block_size,
            kv_cache_dtype=engine.kv_cache_dtype,
        ),
    )
    source = (
        f"memory of {gpu.name}: {capacity.usable_bytes / GIB:.2f} GiB usable - "
        f"{capacity.weight_bytes / GIB:.2f} weights - {capacity.reserve_bytes / GIB:.2f} reserve, "
        f"{capacity.block_bytes} bytes a block"
    )
    return _Pool(capacity.num_blocks, source, capacity.note)


def _switch(setting: object, automatic: bool) -> bool:
    return automatic if setting == "auto" else bool(setting)
