"""Several deployments side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from blis_sim import api
from blis_sim.capacity.compared import METRICS, ComparedPool, ComparedRun
from blis_sim.capacity.names import first_given, model_and_gpu
from blis_sim.config.cluster import PoolSettings, instances_at_start, scaled_parts
from blis_sim.errors import BlisError, CatalogError, ConfigError, SimulationError

if TYPE_CHECKING:
    from blis_sim.config.scenario import Scenario
    from blis_sim.metrics.context import PoolContext, RunContext

Progress = Callable[[int | None], AbstractContextManager[Callable[[int, int], None] | None]]
"""Requests of a run, None when not known -> what shows its progress."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A scenario to compare.

    Attributes
    ----------
    name : str
        Of its row; empty = it is known by what is deployed.
    scenario : Scenario
        What to simulate.
    """

    name: str
    scenario: Scenario


def compare(
    candidates: Sequence[Candidate], progress: Progress | None = None
) -> tuple[ComparedRun, ...]:
    """Simulate scenarios and return one row for each, in their order.

    Scenarios that differ in the deployment only meet the same requests: the load is drawn
    from the seed alone.

    Parameters
    ----------
    candidates : sequence of Candidate
        What to simulate, at least one.
    progress : callable, optional
        Shows the progress of each run.

    Returns
    -------
    tuple of ComparedRun
        A deployment that cannot be simulated (weights do not fit, TP does not split the
        heads, no coefficients, ...) is a row with its reason.

    Raises
    ------
    CatalogError
        A model or GPU is unknown.
    TraceError
        A trace is not acceptable.
    ConfigError, SimulationError
        No scenario can be simulated, all for the same reason: it lies in what they share.
    """
    written = [tuple(_written_pools(candidate.scenario)) for candidate in candidates]
    rows: list[ComparedRun] = []
    errors: list[BlisError] = []
    for candidate, pools in zip(candidates, written, strict=True):
        try:
            rows.append(_simulated(candidate, progress))
        except (ConfigError, CatalogError, SimulationError) as error:
            errors.append(error)
            rows.append(_failed(candidate, pools, str(error)))
    if len(errors) == len(rows) and len({str(error) for error in errors}) == 1:
        raise errors[0]
    return tuple(rows)


def _simulated(candidate: Candidate, progress: Progress | None) -> ComparedRun:
    resolved = api.resolve(candidate.scenario)
    shown = nullcontext() if progress is None else progress(resolved.workload.num_requests)
    with shown as update:
        result = api.run(resolved, progress=update)
    context = result.context
    return ComparedRun(
        name=candidate.name,
        pools=tuple(_pools(context)),
        seed=context.seed,
        request_rate=context.request_rate,
        load=resolved.workload.description,
        metrics={key: result.summary[key] for key in METRICS},
        notices=tuple(context.notices),
    )


def _pools(context: RunContext) -> Iterator[ComparedPool]:
    """Yield the pools of a run; one engine is a pool of one."""
    if not context.pools:
        yield _pool(context)
    for pool in context.pools:
        most = pool.max_instances
        scaled = None if most is None else (pool.min_instances or 1, most)
        yield replace(_pool(pool), role=pool.role, scaled=scaled)


def _pool(context: RunContext | PoolContext) -> ComparedPool:
    return ComparedPool(
        model=context.model,
        gpu=context.gpu,
        tensor_parallel_size=context.tensor_parallel_size,
        num_instances=context.num_instances,
        latency_model=context.latency_model,
        latency_reason=context.latency_reason,
        latency_source=context.latency_source,
        num_kv_blocks=context.num_kv_blocks,
    )


def _failed(candidate: Candidate, pools: tuple[ComparedPool, ...], reason: str) -> ComparedRun:
    scenario = candidate.scenario
    return ComparedRun(
        name=candidate.name,
        pools=pools,
        seed=scenario.seed,
        request_rate=scenario.workload.request_rate,
        reason=" ".join(reason.split()),
    )


def _written_pools(scenario: Scenario) -> Iterator[ComparedPool]:
    """Yield the pools that a scenario describes, with the catalog's names.

    CatalogError when a model or GPU is unknown.
    """
    for _, part in scaled_parts(scenario.cluster):
        pool = part if isinstance(part, PoolSettings) else PoolSettings(name="default")
        engine = (pool.engine, scenario.engine)
        model, gpu = model_and_gpu(scenario, pool)
        num_ranks = first_given(engine, "data_parallel_size")
        scaling = part.autoscaling
        yield ComparedPool(
            role=pool.role,
            model=model,
            gpu=gpu,
            tensor_parallel_size=first_given(engine, "tensor_parallel_size"),
            num_instances=instances_at_start(part) * num_ranks,
            scaled=None if scaling is None else (scaling.min_instances, scaling.max_instances),
        )
