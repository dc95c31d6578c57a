"""How the parts of an instance are put together."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

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


def make_instance(
    env: simpy.Environment,
    index: int,
    config: EngineConfig,
    latency: LatencyModel,
    recorder: Recorder,
    frontend: Frontend,
) -> Instance:
    """Return an instance with an empty KV cache; an observed one where a timeline is wanted.

    Parameters
    ----------
    env, index, latency, recorder, frontend
        As for `Instance`.
    config : EngineConfig
        Its settings.
    """
    if recorder.timeline is None:
        kv = KVCache(
            config.num_kv_blocks,
            config.block_size,
            enable_prefix_caching=config.enable_prefix_caching,
        )
        kind: Callable[..., Instance] = partial(
            Instance, scheduler=Scheduler(config.scheduler, kv)
        )
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


def _observed(config: EngineConfig, log: InstanceLog) -> Callable[..., Instance]:
    from blis_sim.engine.observed import ObservedInstance, ObservedKVCache, ObservedScheduler

    kv = ObservedKVCache(
        log,
        config.num_kv_blocks,
        config.block_size,
        enable_prefix_caching=config.enable_prefix_caching,
    )
    scheduler = ObservedScheduler(log, config.scheduler, kv)
    return partial(ObservedInstance, log, kv, scheduler=scheduler)
