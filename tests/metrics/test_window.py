"""Figures of a part of a run: what arrived and what happened in it, and nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from blis_sim import api
from blis_sim.config.loading import load_scenario
from blis_sim.errors import ConfigError
from blis_sim.metrics.records import EngineCounters, Mark, RunData
from blis_sim.metrics.result import Result
from blis_sim.metrics.window import counters_between, gaps_between, window_of
from tests.metrics.builders import make_result, make_run, served

FROM_S, TO_S = 4.0, 16.0
SAMPLE_S = 0.002
SCENARIOS: dict[str, dict[str, Any]] = {
    # The short way: uniform steps, whole stretches at once.
    "blackbox": {"latency": {"model": "blackbox"}, "engine": {"async_scheduling": False}},
    # Step times that depend on context, asynchronous scheduling.
    "kernels": {},
    # Preemption, a queue that never empties.
    "overloaded": {
        "latency": {"model": "blackbox"},
        "engine": {"num_gpu_blocks_override": 70, "max_model_len": 1024},
    },
    "cluster": {
        "latency": {"model": "blackbox"},
        "cluster": {"num_instances": 3, "routing": {"policy": "least-loaded"}},
    },
    "clients": {
        "latency": {"model": "blackbox"},
        "workload": {"max_outstanding": 8},
    },
}
WORKLOAD = {
    "num_requests": 160,
    "request_rate": 8,
    "prompt": {"mean": 200, "stdev": 100},
    "output": {"mean": 120, "stdev": 60},
}


@cache
def simulated(name: str, coalesce: bool = True, marks: tuple[float, ...] = ()) -> Result:
    own = SCENARIOS[name]
    load = WORKLOAD | own.get("workload", {})
    settings = {"seed": 3, "coalesce": coalesce} | own | {"workload": load}
    resolved = api.resolve(load_scenario(settings))
    return api.run(resolved, marks_s=marks, timeseries_interval_s=SAMPLE_S)


def windowed(name: str, coalesce: bool = True) -> Result:
    return simulated(name, coalesce, (FROM_S, 10.0, TO_S))


@pytest.mark.parametrize("name", SCENARIOS)
def test_marks_leave_a_run_as_it_is(name: str) -> None:
    """With and without: the same summary, requests and time series."""
    with_marks, without = windowed(name), simulated(name)
    assert summary(with_marks) == summary(without)
    assert with_marks.requests.equals(without.requests)
    assert with_marks.timeseries is not None
    assert with_marks.timeseries.equals(without.timeseries)


def summary(result: Result) -> dict[str, Any]:
    return {key: value for key, value in result.summary.items() if key != "date"}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_window_is_that_of_the_plain_loop(name: str) -> None:
    """Every figure, whether steps were taken one by one or many at once."""
    assert (windowed(name).summary["num_preemptions"] > 0) == (name == "overloaded")
    assert summary(windowed(name).window()) == summary(windowed(name, False).window())


@pytest.mark.parametrize("name", SCENARIOS)
def test_requests_are_those_that_arrived_in_it(name: str) -> None:
    """Times, counts and throughputs, counted again from the rows of the whole run."""
    result = windowed(name)
    window = result.window()
    table = result.requests
    rows = table[(table.arrival_us >= FROM_S * 1e6) & (table.arrival_us < TO_S * 1e6)]
    assert 0 < len(rows) < len(table)
    done = rows[rows.status == "completed"]
    assert window.summary["completed"] == len(done)
    assert window.summary["total_output_tokens"] == done.output_tokens.sum()
    assert window.summary["duration"] == TO_S - FROM_S
    assert window.summary["request_throughput"] == pytest.approx(len(done) / (TO_S - FROM_S))
    ttft_ms = ((done.first_token_us - done.arrival_us) / 1e3).astype(float)
    e2e_ms = ((done.last_token_us - done.arrival_us) / 1e3).astype(float)
    tpot_ms = ((e2e_ms - ttft_ms) / (done.output_tokens - 1))[done.output_tokens > 1]
    for tag, times in (("ttft", ttft_ms), ("e2el", e2e_ms), ("tpot", tpot_ms)):
        assert window.summary[f"mean_{tag}_ms"] == pytest.approx(times.mean())
        assert window.summary[f"p99_{tag}_ms"] == pytest.approx(np.percentile(times, 99))


@pytest.mark.parametrize("name", ["blackbox", "kernels", "overloaded"])
def test_counters_are_those_of_the_samples(name: str) -> None:
    """Tokens exactly; means of queue, batch and KV use nearly, of samples of the plain loop."""
    window = windowed(name).window()
    series = simulated(name, False).timeseries
    assert series is not None
    inside = series[(series.time_s > FROM_S) & (series.time_s <= TO_S)]
    (counters,) = window.run.counters
    assert counters.num_generated_tokens == round(inside.tokens_per_s.sum() * SAMPLE_S)
    for mean, sampled in (
        ("mean_running_requests", inside.batch_size),
        ("mean_waiting_requests", inside.queue_depth),
        ("kv_usage_mean_frac", inside.kv_usage_frac),
    ):
        assert window.summary[mean] == pytest.approx(sampled.mean(), rel=0.01, abs=0.002)


@pytest.mark.parametrize("name", SCENARIOS)
def test_slices_add_up(name: str) -> None:
    """What lies between neighbouring marks, summed, is what lies between the outer ones."""
    bounds = tuple(np.linspace(0.0, 60.0, 14).round(3).tolist())
    run = simulated(name, True, bounds).run
    assert run.end_us < 60e6
    first, last = run.marks[0], run.marks[-1]
    whole = counters_between(first, last)
    slices = [counters_between(*pair) for pair in pairwise(run.marks)]
    for number, total in enumerate(whole):
        for name_, value in asdict(total).items():
            if name_ not in PEAKS:
                assert value == sum(getattr(each[number], name_) for each in slices)
                assert value == getattr(run.counters[number], name_)
    gaps: Counter[int] = Counter()
    for pair in pairwise(run.marks):
        gaps_us, counts = gaps_between(*pair)
        assert (counts > 0).all()
        gaps.update(dict(zip(gaps_us.tolist(), counts.tolist(), strict=True)))
    assert gaps == Counter(dict(zip(run.itl_us.tolist(), run.itl_count.tolist(), strict=True)))


PEAKS = {"num_kv_blocks", "peak_kv_blocks", "peak_running", "peak_waiting", "num_events"}


@pytest.mark.parametrize("name", ["blackbox", "cluster", "clients"])
def test_a_window_over_everything_is_the_run(name: str) -> None:
    """From the first arrival to the end: the same figures."""
    whole = simulated(name)
    bounds = (whole.run.start_us / 1e6, whole.run.end_us / 1e6)
    result = simulated(name, True, bounds)
    window = result.window()
    inside = result.run.requests.arrival_us < result.run.end_us
    assert inside.all()
    # Tokens are counted by whole seconds: only those that lie in a window as a whole count.
    differing = {"max_output_tokens_per_s"}
    assert {k: v for k, v in summary(window).items() if k not in differing} == {
        k: v for k, v in summary(whole).items() if k not in differing
    }


def test_whole_seconds_in_a_window() -> None:
    """The busiest second is one that lies in it from its beginning to its end."""
    result = windowed("blackbox")
    run, window = result.run, result.window().run
    counts = dict(zip(run.token_seconds.tolist(), run.token_counts.tolist(), strict=True))
    seconds = [second for second in counts if FROM_S <= second <= TO_S - 1]
    assert window.token_seconds.tolist() == seconds
    assert window.token_counts.tolist() == [counts[second] for second in seconds]
    assert result.window().summary["max_output_tokens_per_s"] == window.token_counts.max()


def mark(time_us: int, gaps: dict[int, int], **counters: int) -> Mark:
    keys = sorted(gaps)
    return Mark(
        time_us,
        [EngineCounters(num_kv_blocks=100, **counters)],
        np.array(keys, dtype=np.int64),
        np.array([gaps[key] for key in keys], dtype=np.int64),
    )


def marked_run() -> RunData:
    """Return three requests, and the books at 50 and 300 us."""
    rows = [
        served(0, ttft_us=10, gaps_us=[20, 20]),
        served(60, ttft_us=40, gaps_us=[20, 90]),
        served(300, ttft_us=10),
    ]
    marks = [
        mark(50, {20: 2}, num_steps=3, busy_us=50, peak_running=1),
        mark(300, {20: 3, 90: 1}, num_steps=6, busy_us=200, peak_running=2),
    ]
    return make_run(rows, end_us=400, marks=marks)


def test_a_window_by_hand() -> None:
    """The request at 60 arrived in it; the one at its end did not. Peaks are those so far."""
    window = window_of(marked_run())
    assert window.requests.request_id.tolist() == [1]
    assert (window.start_us, window.end_us) == (50, 300)
    gaps = dict(zip(window.itl_us.tolist(), window.itl_count.tolist(), strict=True))
    assert gaps == {20: 1, 90: 1}
    (counters,) = window.counters
    assert (counters.num_steps, counters.busy_us) == (3, 150)
    assert (counters.peak_running, counters.num_kv_blocks) == (2, 100)
    assert window.marks == []
    result = make_result(run=marked_run()).window()
    assert result.summary["mean_ttft_ms"] == 0.04
    assert result.summary["mean_itl_ms"] == 0.055


def test_an_instance_that_started_in_between_counts_from_nothing() -> None:
    """Its counters at the first mark are absent: all that it did lies in the window."""
    first, last = mark(50, {}, num_steps=3), mark(90, {}, num_steps=5)
    last.counters.append(EngineCounters(num_steps=7, busy_us=9))
    old, new = counters_between(first, last)
    assert (old.num_steps, new.num_steps, new.busy_us) == (2, 7, 9)


@pytest.mark.parametrize("marks", [[], [mark(50, {})]])
def test_a_window_needs_two_marks(marks: list[Mark]) -> None:
    """One that lies past the horizon is not there, too."""
    run = make_run([served()], marks=marks)
    with pytest.raises(ConfigError, match=rf"^a window needs marks .*; got {len(marks)} marks; g"):
        window_of(run)


def test_marks_past_a_horizon_are_not_there() -> None:
    """A window that ends past the end of the clock is an error, no shorter one."""
    settings = {"latency": {"model": "blackbox"}, "horizon_s": 5, "workload": WORKLOAD}
    resolved = api.resolve(load_scenario(settings))
    assert api.run(resolved, marks_s=(1.0, 5.0)).window().summary["duration"] == 4.0
    with pytest.raises(ConfigError, match=r"^a window needs marks .* within the horizon"):
        api.run(resolved, marks_s=(1.0, 5.1)).window()
