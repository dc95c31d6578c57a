"""How fast the simulator itself is, as a ratio that survives slow and noisy machines.

The unit is the cost of one bare SimPy timeout measured in the same process: a process that
does nothing but wait, the least any event can cost.
"""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import simpy

from blis_sim.api import resolve, run
from blis_sim.errors import SimulationError
from blis_sim.report.table import render_table

if TYPE_CHECKING:
    from collections.abc import Generator

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
