"""How fast the simulator itself is, as ratios that survive slow and noisy machines.

The unit of engines and clusters is the cost of one bare SimPy timeout measured in the same
process: a process that does nothing but wait, the least any event can cost.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import simpy

from blis_sim.api import resolve, run
from blis_sim.capacity.executor import Backend
from blis_sim.capacity.store import ResultStore
from blis_sim.capacity.study import Point
from blis_sim.capacity.sweep import run_sweep
from blis_sim.errors import SimulationError
from blis_sim.report.sweep_table import render_sweep
from blis_sim.report.table import render_table

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from blis_sim.config.scenario import Scenario

NUM_TIMEOUTS = 200_000
NUM_STARTUP_REQUESTS = 200


@dataclass(frozen=True, slots=True)
class EngineBenchmark:
    """What one benchmark measured; times are of the fastest repetition."""

    num_requests: int
    latency_model: str
    wall_s: float
    """One run from scenario to printed table."""
    startup_s: float
    """The same with 200 requests."""
    requests_per_s: float
    """Simulated requests per second of wall time, start-up included."""
    tokens_per_s: float
    """Simulated generated tokens per second of wall time, start-up included."""
    num_steps: int
    """Engine steps."""
    num_events: int
    """Times the engine acted: passes and stretches of steps done at once."""
    cost_per_request_us: float
    """(wall_s - startup_s) / (num_requests - 200)."""
    simpy_timeout_us: float
    """One bare SimPy timeout in the same process."""
    cost_per_request_timeouts: float
    """Cost per request in bare SimPy timeouts."""
    peak_memory_mib: float
    """Of the whole process so far."""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def measure_simpy_timeout_us(num_timeouts: int = NUM_TIMEOUTS) -> float:
    """Return the cost of one timeout of a process that does nothing else, microseconds."""

    def wait(env: simpy.Environment) -> Generator[simpy.Event, object, None]:
        for _ in range(num_timeouts):
            yield env.timeout(1)

    env = simpy.Environment()
    env.process(wait(env))
    begin_s = time.perf_counter()
    env.run()
    return (time.perf_counter() - begin_s) / num_timeouts * 1e6


def cost_per_request_us(wall_s: float, startup_s: float, num_requests: int) -> float:
    """Return what a request beyond the first 200 costs, microseconds.

    Parameters
    ----------
    wall_s, startup_s : float
        Of the run with all requests, and of the one with 200.
    num_requests : int
        All requests, > 200.

    Raises
    ------
    SimulationError
        The long run took no longer than the short one: the noise of the machine is larger than
        what is to be measured.
    """
    more_s = wall_s - startup_s
    if more_s <= 0:
        raise SimulationError(
            f"a run of {num_requests} requests must take longer than one of "
            f"{NUM_STARTUP_REQUESTS} to tell the cost of a request; got {1000 * wall_s:.1f} and "
            f"{1000 * startup_s:.1f} ms; measure more requests (--num-requests) or more often "
            "(--repeat)"
        )
    return more_s / (num_requests - NUM_STARTUP_REQUESTS) * 1e6


def bench_engine(scenario: Scenario, *, repeat: int = 3) -> EngineBenchmark:
    """Measure a scenario with generated load of more than 200 requests.

    Repetitions of the small run, the large run and the timeouts alternate, so that all of
    them see the same machine; the fastest of each counts.

    Parameters
    ----------
    scenario : Scenario
        ``workload.num_requests`` > 200.
    repeat : int
        Repetitions, >= 1.

    Raises
    ------
    SimulationError
        The difference to 200 requests is too small to be measured.
    """
    num_requests = scenario.workload.num_requests
    assert num_requests is not None
    assert num_requests > NUM_STARTUP_REQUESTS
    small = _with_requests(scenario, NUM_STARTUP_REQUESTS)
    timeout_us, startup_s, wall_s = [], [], []
    for _ in range(repeat):
        timeout_us.append(measure_simpy_timeout_us())
        startup_s.append(_timed_run(small)[0])
        elapsed_s, result = _timed_run(scenario)
        wall_s.append(elapsed_s)
    counters = result.run.counters
    cost_us = cost_per_request_us(min(wall_s), min(startup_s), num_requests)
    return EngineBenchmark(
        num_requests=num_requests,
        latency_model=result.context.latency_model,
        wall_s=min(wall_s),
        startup_s=min(startup_s),
        requests_per_s=num_requests / min(wall_s),
        tokens_per_s=sum(c.num_generated_tokens for c in counters) / min(wall_s),
        num_steps=sum(c.num_steps for c in counters),
        num_events=sum(c.num_events for c in counters),
        cost_per_request_us=cost_us,
        simpy_timeout_us=min(timeout_us),
        cost_per_request_timeouts=cost_us / min(timeout_us),
        peak_memory_mib=_peak_memory_mib(),
    )


@dataclass(frozen=True, slots=True)
class ClusterBenchmark:
    """What a cluster costs beside one instance with its share of the load."""

    num_instances: int
    num_requests: int
    routing_policy: str
    latency_model: str
    wall_s: float
    """One run of the cluster, of the fastest repetition."""
    single_cost_per_request_us: float
    """One instance: (wall - wall with 200 requests) / (requests - 200)."""
    cluster_cost_per_request_us: float
    """The same of the cluster."""
    ratio: float
    """Cluster's cost / single instance's."""
    peak_memory_mib: float
    """Of the whole process so far."""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def bench_cluster(single: Scenario, cluster: Scenario, *, repeat: int = 3) -> ClusterBenchmark:
    """Measure a cluster against one instance.

    Parameters
    ----------
    single, cluster : Scenario
        Generated load of more than 200 requests; the same rate per instance.
    repeat : int
        Repetitions, >= 1; they alternate, and the fastest of each counts.

    Raises
    ------
    SimulationError
        The difference to 200 requests is too small to be measured.
    """
    walls: list[list[float]] = [[], [], [], []]
    scenarios = []
    for scenario in (single, cluster):
        scenarios += [_with_requests(scenario, NUM_STARTUP_REQUESTS), scenario]
    result: Any = None
    for _ in range(repeat):
        for kept, scenario in zip(walls, scenarios, strict=True):
            elapsed_s, result = _timed_run(scenario)
            kept.append(elapsed_s)
    num_requests = cluster.workload.num_requests
    assert num_requests is not None
    least = [min(kept) for kept in walls]
    single_us = cost_per_request_us(least[1], least[0], num_requests)
    cluster_us = cost_per_request_us(least[3], least[2], num_requests)
    return ClusterBenchmark(
        num_instances=cluster.cluster.num_instances,
        num_requests=num_requests,
        routing_policy=cluster.cluster.routing.policy.value,
        latency_model=result.context.latency_model,
        wall_s=least[3],
        single_cost_per_request_us=single_us,
        cluster_cost_per_request_us=cluster_us,
        ratio=cluster_us / single_us,
        peak_memory_mib=_peak_memory_mib(),
    )


def _with_requests(scenario: Scenario, num_requests: int) -> Scenario:
    workload = scenario.workload.model_copy(update={"num_requests": num_requests})
    return scenario.model_copy(update={"workload": workload})


def _timed_run(scenario: Scenario) -> tuple[float, Any]:
    begin_s = time.perf_counter()
    result = run(resolve(scenario))
    render_table(result)
    return time.perf_counter() - begin_s, result


def _peak_memory_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


@dataclass(frozen=True, slots=True)
class SweepBenchmark:
    """What a sweep costs beside the simulations in it; medians of the repetitions."""

    num_points: int
    simulation_s: float
    """Seconds of simulation in the points together, one after the other."""
    overhead_1_worker_frac: float
    """1 - simulation_s / wall: looking up what is stored, storing, the table."""
    overhead_2_workers_frac: float
    """1 - simulation / (2 * wall), of simulations that share the machine with each other."""
    speedup_2_workers: float
    """Wall with one worker / wall with two."""
    worker_start_s: float
    """Until two workers have answered for the first time; no part of the walls."""
    num_resumed: int
    resume_s: float
    """A finished study of so many points once more, in a process of its own."""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def bench_sweep(
    scenario: Scenario, *, num_points: int, num_resumed: int, repeat: int = 3
) -> SweepBenchmark:
    """Measure sweeps with one worker, in this process, and with two.

    Parameters
    ----------
    scenario : Scenario
        What all points share; they differ in their seeds.
    num_points : int
        Points of the sweeps that are simulated, >= 4.
    num_resumed : int
        Points of the study that is run again, >= 1.
    repeat : int
        Repetitions, >= 1; sweeps with one worker and with two alternate.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        points = _seeded(scenario, num_points)
        start_s = _timed_sweep(_seeded(scenario, 2), folder / "start.db", num_jobs=2)[0]
        measured: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
        for number in range(repeat):
            for jobs, kept in measured.items():
                path = folder / f"{number}-{jobs}.db"
                kept.append(_timed_sweep(points, path, num_jobs=jobs))
        idle = {
            jobs: statistics.median(idle_frac(*each, jobs) for each in kept)
            for jobs, kept in measured.items()
        }
        return SweepBenchmark(
            num_points=num_points,
            simulation_s=statistics.median(work_s for _, work_s in measured[1]),
            overhead_1_worker_frac=idle[1],
            overhead_2_workers_frac=idle[2],
            speedup_2_workers=statistics.median(
                one / two for (one, _), (two, _) in zip(*measured.values(), strict=True)
            ),
            worker_start_s=start_s,
            num_resumed=num_resumed,
            resume_s=_resume_s(num_resumed, folder / "resume.db", repeat),
        )


def idle_frac(wall_s: float, work_s: float, num_workers: int) -> float:
    """Return the share of the workers' time in which they do not simulate.

    Parameters
    ----------
    wall_s : float
        Seconds of the sweep, > 0.
    work_s : float
        Seconds of simulation of all workers together.
    num_workers : int
        Workers, >= 1.
    """
    return 1 - work_s / (num_workers * wall_s)


def _seeded(scenario: Scenario, count: int) -> list[Point]:
    return [
        Point(scenario.model_copy(update={"seed": seed}), {"seed": seed})
        for seed in range(1, count + 1)
    ]


def _timed_sweep(points: Sequence[Point], path: Path, *, num_jobs: int) -> tuple[float, float]:
    """Return seconds of a sweep from its points to its table, and of the simulations in it."""
    begin_s = time.perf_counter()
    with ResultStore(path) as store:
        rows = run_sweep(points, store=store, backend=Backend(num_jobs=num_jobs))
    render_sweep(rows)
    wall_s = time.perf_counter() - begin_s
    return wall_s, sum(outcome.wall_s for row in rows for outcome in row.outcomes)


def _resume_s(num_points: int, path: Path, repeat: int) -> float:
    """Return how long a finished sweep takes once more, from the shell to the table."""
    command = [sys.executable, "-m", "blis_sim", "sweep", "--store", str(path), "--jobs", "1"]
    command += ["--num-requests", "1", "--latency-model", "blackbox", "--quiet", "--csv", "-"]
    command += ["--grid", f"seed=1:{num_points}"]
    walls_s = []
    for _ in range(repeat + 1):
        begin_s = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        walls_s.append(time.perf_counter() - begin_s)
    return statistics.median(walls_s[1:])  # the first one simulates them
