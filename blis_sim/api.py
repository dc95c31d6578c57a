"""The public functions: from a scenario to a result."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from blis_sim.catalog.locate import locate
from blis_sim.catalog.prices import gpu_price, load_prices
from blis_sim.cluster.resolve import cluster_config, resolve
from blis_sim.cluster.simulation import ClusterSimulation
from blis_sim.cluster.words import gateway_context
from blis_sim.config.loading import load_scenario
from blis_sim.config.scenario import Scenario
from blis_sim.engine.resolved import Deployed, Pool, Resolved
from blis_sim.engine.simulation import Simulation
from blis_sim.errors import ConfigError
from blis_sim.metrics.context import DeployedKind, PoolContext, PriceContext, RunContext
from blis_sim.metrics.result import Result, RunInfo, check_conservation
from blis_sim.metrics.timeline import TimelineSettings
from blis_sim.units import seconds_to_us, us_to_seconds
from blis_sim.version import package_version

if TYPE_CHECKING:
    from blis_sim.config.latency import LatencySettings
    from blis_sim.metrics.records import RunData
    from blis_sim.workload.clients import Clients

__all__ = ["Resolved", "Result", "Scenario", "load_scenario", "resolve", "run", "simulate"]

# The engine makes few cycles: looking for them as often as by default costs a tenth of a run.
_GC_THRESHOLDS = (100_000, 50, 50)
_OF_NO_ERROR = {"model", "model_config_folder"}
"""Settings of the latency that change no figure of it: its name, and the model's shapes."""


def simulate(
    scenario: Scenario,
    *,
    timeseries_interval_s: float | None = None,
    percentiles: Sequence[float] = (),
    progress: Callable[[int, int], None] | None = None,
    record_timeline: bool | TimelineSettings = False,
    roofline: bool = False,
) -> Result:
    """Simulate a scenario.

    The same scenario, package and numpy version give the same result, except for its
    ``run_info`` and ``date``.

    Parameters
    ----------
    scenario : Scenario
        What to simulate; see `load_scenario`.
    timeseries_interval_s : float, optional
        Sample queue depth, batch size and KV use this often (simulated seconds, > 0).
    percentiles : sequence of float
        Percentiles (0..100) to report besides 50, 90, 95 and 99.
    progress : callable, optional
        Called now and then with (requests ended, simulated microseconds).
    record_timeline : bool or TimelineSettings
        Log what a timeline is drawn from, or that of a part of the run.
    roofline : bool
        Count the work of all steps: `Result.roofline` then has intensity, MFU, MBU and what
        bound the time.

    Raises
    ------
    ConfigError, CatalogError, TraceError
        The scenario cannot be simulated as it is written.
    SimulationError
        The simulation could not be carried out.
    InvariantError
        A conservation law was violated: a defect of the simulator.
    """
    return run(
        resolve(scenario),
        timeseries_interval_s=timeseries_interval_s,
        percentiles=percentiles,
        progress=progress,
        record_timeline=record_timeline,
        roofline=roofline,
    )


def run(  # noqa: PLR0913 (one parameter per thing that may be asked for)
    resolved: Resolved,
    *,
    timeseries_interval_s: float | None = None,
    percentiles: Sequence[float] = (),
    progress: Callable[[int, int], None] | None = None,
    notices: Sequence[str] = (),
    record_decisions: bool = False,
    marks_s: Sequence[float] = (),
    record_timeline: bool | TimelineSettings = False,
    roofline: bool = False,
) -> Result:
    """Simulate a resolved scenario; the parameters are those of `simulate`.

    Parameters
    ----------
    resolved : Resolved
        From `resolve`.
    timeseries_interval_s, percentiles, progress, record_timeline, roofline
        As for `simulate`.
    notices : sequence of str
        More notices for the result, before those of ``resolved``.
    record_decisions : bool
        Keep every choice of a cluster's router, with what the others scored.
    marks_s : sequence of float
        Instants, simulated seconds ascending, at which to keep the books: `window` of the
        result then gives the figures between the first and the last of them.
    """
    started, begin_s = datetime.now(UTC), time.perf_counter()
    context = run_context(resolved, percentiles=percentiles, notices=notices)
    workload = resolved.workload
    clients = None if workload.is_open else workload.clients()
    load = workload if clients is None else clients
    marks_us = [seconds_to_us(mark_s) for mark_s in marks_s]
    timeline = TimelineSettings() if record_timeline is True else record_timeline or None
    simulation: Simulation | ClusterSimulation
    if resolved.pools:
        simulation = ClusterSimulation(
            cluster_config(resolved),
            load,
            horizon_us=resolved.horizon_us,
            sample_interval_us=_interval_us(timeseries_interval_s),
            on_progress=progress,
            record_decisions=record_decisions,
            marks_us=marks_us,
            timeline=timeline,
            count_work=roofline,
        )
    else:
        simulation = Simulation(
            resolved.engine,
            resolved.latency.model,
            load,
            horizon_us=resolved.horizon_us,
            sample_interval_us=_interval_us(timeseries_interval_s),
            on_progress=progress,
            marks_us=marks_us,
            timeline=timeline,
            count_work=roofline,
        )
    with _rare_garbage_collection():
        data = simulation.run()
    _check(data, resolved, clients)
    after = [*_undecided(data, resolved.pools), *_cut_short(data, resolved)]
    if clients is not None:
        after += clients.notices()
    context = replace(context, notices=(*context.notices, *after))
    wall_s = time.perf_counter() - begin_s
    result = Result(data, context, RunInfo.collect(started=started, wall_s=wall_s))
    if roofline:
        from blis_sim.engine.run_roofline import run_roofline

        result.roofline = run_roofline(result, resolved)
    return result


def _undecided(data: RunData, pools: Sequence[Pool]) -> Iterator[str]:
    """Yield that the run was over before an autoscaler decided for the first time."""
    for pool in pools:
        if pool.autoscaling is None:
            continue
        interval_s = pool.autoscaling.interval_s
        if data.end_us <= seconds_to_us(interval_s):
            yield (
                f"pool {pool.name} was not scaled: its autoscaler decides every {interval_s:g} s, "
                f"and the run was over after {us_to_seconds(data.end_us):.3g} s; simulate more, "
                "or lower autoscaling.interval_s"
            )


def _cut_short(data: RunData, resolved: Resolved) -> Iterator[str]:
    """Yield how many answers the engine's length limit ended: they count as completed.

    Those that end at the client's own limit are what the client asked for.
    """
    deployed = [pool.deployed for pool in resolved.pools] or [resolved.deployed]
    limits = sorted({each.engine.scheduler.max_model_len for each in deployed})
    columns = data.requests
    whole = columns.prompt_tokens + columns.output_tokens
    number = int(np.count_nonzero((columns.length_capped > 0) & np.isin(whole, limits)))
    if number:
        yield (
            f"{number:,} answer{'s' if number > 1 else ''} cut short at max_model_len "
            f"({' or '.join(map(str, limits))} tokens with the prompt); raise it, or ask for "
            "shorter answers"
        )


def run_context(
    resolved: Resolved, *, percentiles: Sequence[float] = (), notices: Sequence[str] = ()
) -> RunContext:
    """Return what the reports say about a run that it did not measure.

    Raises
    ------
    ConfigError
        A percentile lies outside 0..100.
    """
    scenario, latency = resolved.scenario, resolved.latency
    written = resolved.as_written()
    # How the work was done is no part of what was simulated: the results are the same bytes.
    written.pop("coalesce", None)
    return RunContext(
        scenario=written,
        model=resolved.spec.name,
        gpu=resolved.gpu.name,
        tensor_parallel_size=resolved.deployed.settings.tensor_parallel_size,
        num_instances=resolved.num_instances,
        request_rate=resolved.request_rate,
        burstiness=resolved.burstiness,
        max_concurrency=resolved.max_concurrency,
        latency_model=latency.name.value,
        latency_reason=latency.reason,
        latency_alternatives=latency.alternatives,
        latency_source=latency.source,
        num_kv_blocks=resolved.engine.num_kv_blocks,
        kv_blocks_source=resolved.kv_blocks_source,
        engine_settings=resolved.engine_settings(),
        notices=(*notices, *resolved.notices),
        seed=scenario.seed,
        package_version=package_version(),
        numpy_version=np.__version__,
        slo=scenario.slo.model_dump(),
        percentiles=percentiles,
        pools=tuple(_pool_context(pool) for pool in resolved.pools),
        gateway=gateway_context(cluster_config(resolved)) if resolved.pools else None,
        prices=_prices(resolved),
        kinds=_kinds(resolved),
    )


def _kinds(resolved: Resolved) -> tuple[DeployedKind, ...]:
    """Return the distinct kinds of instances, in the order of their pools."""
    scenario = resolved.scenario
    shared = _own_settings(scenario.latency)
    deployed = [pool.deployed for pool in resolved.pools] or [resolved.deployed]
    own = [_own_settings(pool.latency) for pool in scenario.cluster.pools or ()]
    own = own or [set()] * len(deployed)
    pairs = zip(deployed, own, strict=True)
    return tuple(dict.fromkeys(_kind(each, shared | more) for each, more in pairs))


def _own_settings(latency: LatencySettings) -> set[str]:
    return latency.model_dump(exclude_defaults=True).keys() - _OF_NO_ERROR


def _kind(deployed: Deployed, own_settings: set[str]) -> DeployedKind:
    return DeployedKind(
        latency_model=deployed.latency.name.value,
        gpu=deployed.gpu.name,
        architecture="dense" if deployed.spec.moe is None else "moe",
        tensor_parallel_size=deployed.settings.tensor_parallel_size,
        num_parameters=deployed.spec.num_parameters,
        quantization=deployed.spec.quantization or "none",
        kv_cache_dtype=deployed.settings.kv_cache_dtype,
        own_settings=tuple(sorted(own_settings)),
    )


def _prices(resolved: Resolved) -> dict[str, PriceContext]:
    """Return what the GPUs of a scenario cost; those without a known price are absent."""
    file = resolved.scenario.prices
    prices = load_prices(None if file is None else locate(file).path)
    found: dict[str, PriceContext] = {}
    for gpu in sorted({resolved.gpu.name, *(pool.deployed.gpu.name for pool in resolved.pools)}):
        price = gpu_price(gpu, prices)
        if price is not None:
            found[gpu] = PriceContext(
                usd_per_gpu_hour=price.median_usd_per_gpu_hour,
                num_offers=len(price.offers),
                sources=tuple(f"{o.source}, {o.as_of}".lstrip(", ") for o in price.offers),
            )
    return found


def _pool_context(pool: Pool) -> PoolContext:
    deployed, scaling = pool.deployed, pool.autoscaling
    latency = deployed.latency
    return PoolContext(
        name=pool.name,
        role=pool.role,
        model=deployed.spec.name,
        gpu=deployed.gpu.name,
        tensor_parallel_size=deployed.settings.tensor_parallel_size,
        num_instances=pool.num_instances,
        num_kv_blocks=deployed.engine.num_kv_blocks,
        kv_blocks_source=deployed.kv_blocks_source,
        latency_model=latency.name.value,
        latency_reason=latency.reason,
        latency_source=latency.source,
        latency_alternatives=latency.alternatives,
        engine_settings=deployed.engine_settings(),
        min_instances=None if scaling is None else scaling.min_instances,
        max_instances=None if scaling is None else scaling.max_instances,
        data_parallel_size=deployed.settings.data_parallel_size,
    )


def _interval_us(interval_s: float | None) -> int | None:
    if interval_s is None:
        return None
    if not 1e-6 <= interval_s <= 1e9:
        raise ConfigError(
            f"timeseries_interval_s must be from 0.000001 to 1e9 s; got {interval_s}"
        )
    return seconds_to_us(interval_s)


def _check(data: RunData, resolved: Resolved, clients: Clients | None) -> None:
    """Check the conservation laws; at a horizon the number of arrivals is not known before."""
    num_injected = resolved.workload.num_requests if resolved.horizon_us is None else None
    if clients is not None:
        num_injected = clients.num_sent
    check_conservation(data, num_injected=num_injected)


@contextmanager
def _rare_garbage_collection() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(*_GC_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
