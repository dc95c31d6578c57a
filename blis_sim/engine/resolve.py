"""From a scenario to everything a simulation needs: no default is left to find afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blis_sim.catalog.coefficients import plain_version
from blis_sim.catalog.gpus import GpuSpec, load_gpu
from blis_sim.catalog.locate import locate
from blis_sim.catalog.model_spec import ModelSpec, check_tensor_parallel
from blis_sim.catalog.models import load_model
from blis_sim.config.engine import EngineSettings
from blis_sim.config.latency import LatencyModelName
from blis_sim.config.scenario import Scenario
from blis_sim.config.tree import with_paths
from blis_sim.engine.batch import SchedulerSettings
from blis_sim.engine.kv_capacity import KvSettings, compute_num_kv_blocks
from blis_sim.engine.limits import (
    RESERVE_SINCE,
    BatchLimits,
    batch_limits,
    engine_release,
    hides_host,
    longest_sequence,
    schedules_ahead,
    sequence_in_pool,
    truncation_of,
)
from blis_sim.engine.resolved import Deployed, Resolved
from blis_sim.engine.simulation import EngineConfig
from blis_sim.errors import ConfigError
from blis_sim.latency.selection import Deployment, Selection, select_latency
from blis_sim.units import GIB, seconds_to_us
from blis_sim.workload.stream import open_workload


def resolve(scenario: Scenario) -> Resolved:
    """Resolve a scenario of one engine without a gateway; its cluster settings are not read.

    `blis_sim.cluster.resolve.resolve` takes any scenario, and says what may go wrong.
    """
    located, notices = locate_files(scenario)
    horizon = horizon_us(scenario)
    deployed = deploy(scenario, located)
    workload = open_workload(located.workload, scenario.seed, horizon)
    return Resolved(
        scenario=scenario,
        deployed=deployed,
        workload=workload,
        horizon_us=horizon,
        notices=(*notices, *deployed.notices, *workload.notices),
    )


def deploy(scenario: Scenario, located: Scenario) -> Deployed:
    """Look up everything about one engine instance: model, GPU, limits, KV blocks, latency.

    Parameters
    ----------
    scenario : Scenario
        What the user wrote.
    located : Scenario
        The same with its files found; see `locate_files`.

    Raises
    ------
    ConfigError
        Settings contradict each other or cannot be used together.
    CatalogError
        The model, the GPU or its coefficients are unknown or unusable.
    """
    release = engine_release(scenario.engine.version)
    deployment = _deployment(located)
    latency = select_latency(located.latency, deployment)
    _check_used(scenario, latency)
    engine = _engine(scenario, deployment, release, latency.name)
    return Deployed(
        settings=scenario.engine,
        spec=deployment.spec,
        gpu=deployment.gpu,
        engine=engine.config,
        latency=latency,
        kv_blocks_source=engine.kv_blocks_source,
        notices=(*latency.notices, *engine.notices),
    )


def _deployment(scenario: Scenario) -> Deployment:
    """Return model, GPU and TP from the catalogs or the user's files."""
    engine = scenario.engine
    published = load_model(scenario.model, scenario.latency.model_config_folder)
    spec = published.with_overrides(engine.dtype, engine.quantization)
    gpu = load_gpu(scenario.hardware, scenario.latency.hardware_config)
    check_tensor_parallel(spec, engine.tensor_parallel_size)
    is_version_given = "version" in engine.model_fields_set
    return Deployment(
        model_name=scenario.model,
        spec=spec,
        gpu=gpu,
        tp=engine.tensor_parallel_size,
        engine_version=plain_version(engine.version) if is_version_given else None,
        is_as_published=spec == published,
        kv_cache_dtype=engine.kv_cache_dtype,
        truncation=truncation_of(spec, engine),
        hides_host=hides_host(spec, engine),
    )


@dataclass(frozen=True, slots=True)
class _Engine:
    config: EngineConfig
    kv_blocks_source: str
    notices: tuple[str, ...]


def _engine(
    scenario: Scenario, deployment: Deployment, release: tuple[int, int], latency: LatencyModelName
) -> _Engine:
    """Return the engine with every limit derived and its KV blocks counted."""
    engine, spec, gpu = scenario.engine, deployment.spec, deployment.gpu
    longest = longest_sequence(engine, spec)
    limits = batch_limits(engine, gpu, longest)
    pool = _kv_pool(engine, spec, gpu, limits)
    max_model_len, lowered = sequence_in_pool(engine, longest, pool.num_blocks)
    is_async = engine.async_scheduling != "auto" or latency is LatencyModelName.ROOFLINE_V2
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
        async_scheduling=is_async and schedules_ahead(engine),
        coalesce=scenario.coalesce,
    )
    notices = (*limits.notices, pool.note, lowered)
    return _Engine(config, pool.source, tuple(filter(None, notices)))


def horizon_us(scenario: Scenario) -> int | None:
    """Return where the clock stops; ConfigError when it is out of range."""
    if scenario.horizon_s is None:
        return None
    stop_us = seconds_to_us(scenario.horizon_s)
    if not 1 <= stop_us < 2**62:
        raise ConfigError(
            f"horizon_s must be from 0.000001 to {2**62 // 10**6} s; got {scenario.horizon_s:g}"
        )
    return stop_us


def locate_files(scenario: Scenario) -> tuple[Scenario, list[str]]:
    """Return the scenario with its files found, and notices about shipped ones."""
    notices: list[str] = []

    def located(path: Path) -> Path:
        found = locate(path)
        if found.notice and found.notice not in notices:
            notices.append(found.notice)
        return found.path

    return with_paths(scenario, located), notices


def _check_used(scenario: Scenario, latency: Selection) -> None:
    """Raise where the user gave a setting that decides nothing."""
    engine = scenario.engine
    if engine.generation_config != "auto" and latency.name is not LatencyModelName.ROOFLINE_V2:
        raise ConfigError(
            f"engine.generation_config must not be {engine.generation_config} with "
            f"{latency.name.value}: it would decide nothing; only roofline-v2 knows what sampling "
            "costs; leave it out"
        )
    if engine.num_gpu_blocks_override is None:
        return
    only_memory = ["gpu_memory_utilization"]
    if latency.name is not LatencyModelName.ROOFLINE_V2:  # its attention reads the cache
        only_memory += ["kv_cache_dtype"]
    if latency.name is LatencyModelName.BLACKBOX:
        only_memory += ["dtype", "quantization"]
    for name in only_memory:
        value = getattr(engine, name)
        if name in engine.model_fields_set and value not in {None, "auto"}:
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
