"""Several seeds of one scenario."""

from __future__ import annotations

import statistics

import pytest

import blis_sim
from blis_sim.errors import ConfigError
from blis_sim.metrics.replications import Replicated
from blis_sim.validation.workers import in_parallel


def scenario(**more: object) -> blis_sim.Scenario:
    """Return Poisson arrivals at a server of one request at a time, a tenth of a second each."""
    base = {
        "latency": {"alpha": [0, 0, 0], "beta": [100_000, 0, 0]},
        "engine": {"max_num_seqs": 1},
        "workload": {"num_requests": 40, "request_rate": 6.0, "prompt": 8, "output": 1},
    }
    return blis_sim.load_scenario(base | more)


def test_seeds_follow_the_scenarios_own() -> None:
    """Each replication is what a run with its seed gives; the result is that of the first."""
    result = blis_sim.replicate(scenario(seed=5), 3, percentiles=[75])
    several = result.replications
    assert several is not None
    assert several.seeds == (5, 6, 7)
    assert several.is_random
    alone = [blis_sim.simulate(scenario(seed=seed), percentiles=[75]) for seed in (5, 6, 7)]
    for name, figure in several.metrics.items():
        assert list(figure.values) == [each.summary[name] for each in alone]
    assert "p75_ttft_ms" in several.metrics
    first = alone[0].summary | {"date": result.summary["date"]}
    assert dict(result.summary) == first
    # A percentile is the mean of each replication's own.
    p99 = statistics.fmean(each.summary["p99_ttft_ms"] for each in alone)
    assert several.metrics["p99_ttft_ms"].mean == pytest.approx(p99)


def test_workers_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures do not depend on how many simulations run at a time."""
    one = blis_sim.replicate(scenario(), 3, num_jobs=1).replications
    monkeypatch.setattr("blis_sim.capacity.replicate.FEW_REQUESTS", 0)
    assert blis_sim.replicate(scenario(), 3, num_jobs=2).replications == one


def test_a_worker_that_dies_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no mean over fewer than were asked for."""

    def dying(*arguments: object) -> object:
        return ((number, None) for number, _ in in_parallel(str, ["a"], 1))

    monkeypatch.setattr("blis_sim.capacity.replicate.in_parallel", dying)
    with pytest.raises(blis_sim.SimulationError, match="died"):
        blis_sim.replicate(scenario(), 2)


def test_nothing_random() -> None:
    """Constant gaps and lengths: all seeds give the same."""
    load = {
        "num_requests": 5,
        "request_rate": 2.0,
        "prompt": 8,
        "output": 3,
        "arrivals": {"process": "constant"},
    }
    several = blis_sim.replicate(scenario(workload=load), 3).replications
    assert several is not None
    assert not several.is_random
    assert several.metrics["mean_ttft_ms"].half_width_95 == 0


@pytest.mark.parametrize(
    ("number", "jobs", "text"),
    [
        (1, None, r"num_replications must be from 2 to 10,000, an interval needs two; got 1"),
        (0, None, r"got 0"),
        (2, 0, r"num_jobs must be at least 1; got 0"),
    ],
)
def test_numbers_that_cannot_be(number: int, jobs: int | None, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        blis_sim.replicate(scenario(), number, num_jobs=jobs)


def test_intervals_cover_the_long_run_mean_as_often_as_they_say() -> None:
    """Of 60 intervals over 5 replications each, 95 % hold the mean, give or take 3 errors.

    Poisson arrivals at a server that is busy for 30 % of the time. The mean of all 300
    replications stands for the long run: its own error is an eighth of that of five.
    """
    load = {"num_requests": 200, "request_rate": 3.0, "prompt": 8, "output": 1}
    several = blis_sim.replicate(scenario(workload=load), 300, num_jobs=1).replications
    assert several is not None
    num_sets, size = 60, 5
    error = (0.95 * 0.05 / num_sets) ** 0.5
    for name in ("mean_ttft_ms", "mean_e2el_ms", "request_throughput"):
        figure, covered = several.metrics[name], 0
        assert figure.mean is not None
        for begin in range(0, num_sets * size, size):
            part = Replicated(figure.values[begin : begin + size])
            assert part.mean is not None
            assert part.half_width_95 is not None
            covered += abs(part.mean - figure.mean) <= part.half_width_95
        assert covered / num_sets == pytest.approx(0.95, abs=3 * error), name
