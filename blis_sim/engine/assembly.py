"""How the parts of an instance are put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blis_sim.engine.instance import Instance
from blis_sim.engine.kv_cache import KVCache
from blis_sim.engine.scheduler import Scheduler

if TYPE_CHECKING:
    import simpy

    from blis_sim.engine.frontend import Frontend
    from blis_sim.engine.simulation import EngineConfig
    from blis_sim.latency.base import LatencyModel
    from blis_sim.metrics.recorder import Recorder


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
    kv = KVCache(
        config.num_kv_blocks,
        config.block_size,
        enable_prefix_caching=config.enable_prefix_caching,
    )
    instance = Instance
    scheduler = Scheduler(config.scheduler, kv)
    return Instance(
        env,
        index,
        Scheduler(config.scheduler, kv),
        latency,
        recorder,
        frontend,
        async_scheduling=config.async_scheduling,
        coalesce=config.coalesce,
    )
