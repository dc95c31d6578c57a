"""How the parts of an instance are put together."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from blis_sim.engine.instance import Instance
from blis_sim.engine.kv_cache import KVCache
from blis_sim.engine.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Callable

    import simpy

    from blis_sim.engine.frontend import Frontend
    from blis_sim.engine.simulation import EngineConfig
    from blis_sim.latency.base import LatencyModel
    from blis_sim.metrics.recorder import Recorder
    from blis_sim.metrics.timeline import InstanceLog
    from blis_sim.metrics.work import WorkLog


def make_instance(
    env: simpy.Environment,
    index: int,
    config: EngineConfig,
    latency: LatencyModel,
    recorder: Recorder,
    frontend: Frontend,
) -> Instance:
    """Return an instance with an empty KV cache; an observed one where more is wanted of it.

    Parameters
    ----------
    env, index, latency, recorder, frontend
        As for `Instance`.
    config : EngineConfig
        Its settings.
    """
    kind: Callable[..., Instance]
    if recorder.work is not None:
        kind = _counted(config, latency, recorder, recorder.work)
    elif recorder.timeline is None:
        kind = partial(Instance, scheduler=_scheduler(config))
    else:
        kind = _observed(config, recorder.timeline.add_instance())
    return kind(
        env=env,
        index=index,
        latency=latency,
        recorder=recorder,
        frontend=frontend,
        async_scheduling=config.async_scheduling,
        coalesce=config.coalesce,
    )


def _scheduler(config: EngineConfig) -> Scheduler:
    kv = KVCache(
        config.num_kv_blocks,
        config.block_size,
        enable_prefix_caching=config.enable_prefix_caching,
    )
    return Scheduler(config.scheduler, kv)


def _observed(config: EngineConfig, log: InstanceLog) -> Callable[..., Instance]:
    from blis_sim.engine.observed import ObservedInstance

    return partial(ObservedInstance, **_observed_parts(config, log))


def _counted(
    config: EngineConfig, latency: LatencyModel, recorder: Recorder, logs: list[WorkLog]
) -> Callable[..., Instance]:
    from blis_sim.engine.counted import CountedInstance, CountedObservedInstance, work_log

    work = work_log(latency)
    logs.append(work)
    if recorder.timeline is None:
        return partial(CountedInstance, work=work, scheduler=_scheduler(config))
    parts = _observed_parts(config, recorder.timeline.add_instance())
    return partial(CountedObservedInstance, work=work, **parts)


def _observed_parts(config: EngineConfig, log: InstanceLog) -> dict[str, Any]:
    from blis_sim.engine.observed import ObservedKVCache, ObservedScheduler

    kv = ObservedKVCache(
        log,
        config.num_kv_blocks,
        config.block_size,
        enable_prefix_caching=config.enable_prefix_caching,
    )
    return {"log": log, "kv": kv, "scheduler": ObservedScheduler(log, config.scheduler, kv)}
