"""One scenario, simulated with several seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blis_sim import api
from blis_sim.errors import ConfigError
from blis_sim.metrics.replications import SeedFigures, combined
from blis_sim.validation.workers import in_parallel, no_worker

if TYPE_CHECKING:
    from blis_sim.config.scenario import Scenario
    from blis_sim.metrics.result import Result

FEW_REQUESTS = 5_000
"""So many requests in all are simulated sooner than workers are started."""
MOST_REPLICATIONS = 10_000

OnReplication = Callable[[int, int], None]
"""(replications that are finished, replications in all)."""


@dataclass(frozen=True, slots=True)
class _Task:
    scenario: Scenario
    percentiles: tuple[float, ...]


def replicate(
    scenario: Scenario,
    num_replications: int,
    *,
    percentiles: Sequence[float] = (),
    num_jobs: int | None = None,
) -> Result:
    """Simulate a scenario with several seeds: the scenario's, and those that follow it.

    ``replicate(scenario, 5).replications.metrics["p99_ttft_ms"]`` has the ``mean``, half its
    95 % confidence interval ``half_width_95`` (Student's t over the replications) and the
    ``values``. Percentiles are averaged over the replications, never pooled.

    Parameters
    ----------
    scenario : Scenario
        What to simulate; see `load_scenario`.
    num_replications : int
        How many seeds, 2..10000.
    percentiles : sequence of float
        Percentiles (0..100) to report besides 50, 90, 95 and 99.
    num_jobs : int, optional
        Simulations at a time, >= 1; by default one per processor, or one where all are small.
        The results do not depend on it.

    Returns
    -------
    Result
        That of the first seed; its ``replications`` holds the figures of all of them.

    Raises
    ------
    ConfigError
        ``num_replications`` or ``num_jobs`` is out of range.
    ConfigError, CatalogError, TraceError
        The scenario cannot be simulated as it is written.
    SimulationError
        A simulation could not be carried out, or a worker died.
    InvariantError
        A conservation law was violated: a defect of the simulator.
    """
    check_num_replications(num_replications, "num_replications")
    if num_jobs is not None and num_jobs < 1:
        raise ConfigError(f"num_jobs must be at least 1; got {num_jobs}")
    first = api.simulate(scenario, percentiles=percentiles)
    add_replications(first, scenario, num_replications, percentiles=percentiles, num_jobs=num_jobs)
    return first


def check_num_replications(number: int, where: str) -> None:
    """Raise ConfigError where a number of replications gives no interval, or is a slip."""
    if not 2 <= number <= MOST_REPLICATIONS:
        raise ConfigError(
            f"{where} must be from 2 to {MOST_REPLICATIONS:,}, an interval needs two; got {number}"
        )


def seeds_of(scenario: Scenario, num_replications: int) -> range:
    """Return the seeds: that of the scenario, and those that follow it."""
    return range(scenario.seed, scenario.seed + num_replications)


def add_replications(
    first: Result,
    scenario: Scenario,
    num_replications: int,
    *,
    percentiles: Sequence[float] = (),
    num_jobs: int | None = None,
    on_replication: OnReplication | None = None,
) -> None:
    """Simulate a scenario with the seeds after its own, and give their figures to its result.

    Parameters
    ----------
    first : Result
        Of the scenario with its own seed; its ``replications`` are set.
    scenario, num_replications, percentiles, num_jobs
        As for `replicate`.
    on_replication : callable, optional
        Told how far it is.

    Raises
    ------
    BlisError
        As `replicate`.
    """
    seeds = seeds_of(scenario, num_replications)
    tasks = [_Task(_seeded(scenario, seed), tuple(percentiles)) for seed in seeds[1:]]
    found = [_figures(first)] * num_replications
    jobs = _num_jobs(num_jobs, len(first.run.requests.request_id) * len(tasks))
    for done, (number, figures) in enumerate(in_parallel(_simulated, tasks, jobs), start=2):
        if figures is None:
            raise no_worker()
        found[number + 1] = figures
        if on_replication is not None:
            on_replication(done, num_replications)
    first.replications = combined(found)


def _num_jobs(asked: int | None, num_requests: int) -> int:
    if num_requests <= FEW_REQUESTS:
        return 1
    if asked is not None:
        return asked

    from blis_sim.capacity.executor import default_jobs

    return default_jobs()


def _seeded(scenario: Scenario, seed: int) -> Scenario:
    seeded = scenario.model_copy(update={"seed": seed})
    seeded.model_fields_set.add("seed")
    return seeded


def _simulated(task: _Task) -> SeedFigures:
    return _figures(api.simulate(task.scenario, percentiles=task.percentiles))


def _figures(result: Result) -> SeedFigures:
    return SeedFigures(result.context.seed, result.summary, result.conservation)
