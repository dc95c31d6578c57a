"""Whether limits were kept, and how sure that is, against loads whose truth is known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from blis_sim import api
from blis_sim.capacity.checks import LimitCheck, check_limits, is_saturated
from blis_sim.capacity.slo import Limit, parse_slo
from blis_sim.capacity.study import Window
from blis_sim.config.loading import load_scenario
from blis_sim.metrics.records import EngineCounters, Mark, RunData, Status
from blis_sim.metrics.result import Result
from tests.metrics.builders import make_result, make_run, served

NUM_SLICES = 20
SLICE_US = 1_000_000


def run_of(
    arrival_us: Any,
    ttft_us: Any,
    *,
    from_us: int = 0,
    slice_us: int = SLICE_US,
    gaps: list[dict[int, int]] | None = None,
    status: Any = Status.COMPLETED,
) -> RunData:
    """Return requests of one token each, and marks around 20 slices.

    ``gaps`` are those between tokens that end in each slice, gap -> how often.
    """
    arrival_us = np.asarray(arrival_us, dtype=np.int64)
    first_us = arrival_us + np.asarray(ttft_us, dtype=np.int64)
    size = arrival_us.size
    run = make_run([served()], end_us=int(first_us.max(initial=1)))
    columns = {name: np.resize(getattr(run.requests, name), size) for name in COLUMNS}
    columns |= {
        "request_id": np.arange(size),
        "arrival_us": arrival_us,
        "first_token_us": first_us,
        "last_token_us": first_us,
        "scheduled_us": arrival_us,
        "enqueued_us": arrival_us,
        "output_tokens": np.ones(size, dtype=np.int64),
        "status": np.resize(np.asarray(status, dtype=np.int64), size),
    }
    run = replace(run, requests=type(run.requests)(**columns))
    seen: dict[int, int] = {}
    run.marks = [mark(from_us, seen, 0)]
    for number in range(NUM_SLICES):
        for gap_us, count in (gaps[number] if gaps else {}).items():
            seen[gap_us] = seen.get(gap_us, 0) + count
        run.marks.append(mark(from_us + (number + 1) * slice_us, seen, 100 * (number + 1)))
    return run


COLUMNS = [*make_run([served()]).requests.__dataclass_fields__]


def mark(time_us: int, gaps: dict[int, int], num_steps: int) -> Mark:
    keys = sorted(gaps)
    values = [gaps[key] for key in keys]
    counters = [EngineCounters(num_steps=num_steps)]
    return Mark(time_us, counters, np.array(keys, np.int64), np.array(values, np.int64))


def check(run: RunData, slo: str, /, **context: Any) -> LimitCheck:
    (found,) = check_limits(make_result(run=run, **context), parse_slo(slo))
    return found


def even(num_per_slice: int, times_ms: list[float]) -> RunData:
    """Return as many requests in each slice, with these times in turn."""
    size = num_per_slice * NUM_SLICES
    arrival_us = np.arange(size) * SLICE_US // num_per_slice
    return run_of(arrival_us, np.resize(np.array(times_ms) * 1e3, size))


# -- by hand --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_beyond", "sign"), [(0, 1), (1, 1), (9, 1), (10, 0), (11, -1), (100, -1), (1000, -1)]
)
def test_the_sign_of_a_margin(num_beyond: int, sign: int) -> None:
    """A p99 is kept while fewer than ten of a thousand requests are beyond it."""
    times = [60.0] * num_beyond + [10.0] * (1000 - num_beyond)
    found = check(even(1000, times), "p99_ttft_ms:50")
    assert np.sign(found.margin) == sign
    assert found.sample == 20_000
    assert (found.metric, found.limit) == ("p99_ttft_ms", 50)


def test_a_value_is_that_of_the_window() -> None:
    """Requests before the first mark and from the last on do not count."""
    arrival_us = [0, 500_000, 1_000_000, 20_999_999, 21_000_000]
    run = run_of(arrival_us, [9_000, 9_000, 1_000, 3_000, 9_000], from_us=1_000_000)
    found = check(run, "mean_ttft_ms:5")
    assert (found.value, found.sample) == (2.0, 2)


def test_more_requests_are_surer() -> None:
    """The margin grows with the square root of their number."""
    times = [60.0] * 5 + [10.0] * 995
    few, many = (
        check(even(1000, times), "p99_ttft_ms:50"),
        check(even(4000, times), "p99_ttft_ms:50"),
    )
    assert many.margin == pytest.approx(2 * few.margin, rel=1e-6)


def test_independent_requests_have_the_error_of_a_share() -> None:
    """sqrt(p (1 - p) / n), up to what chance does to the scatter of 20 slices."""
    rng = np.random.default_rng(1)
    times_us = rng.exponential(10_000, 20_000)
    run = run_of(np.arange(20_000) * 1000, times_us)
    limit_ms = 10 * math.log(20)  # one in twenty is beyond
    found = check(run, f"p95_ttft_ms:{limit_ms}")
    assert found.standard_error == pytest.approx(math.sqrt(0.05 * 0.95 / 20_000), rel=0.4)
    assert abs(found.margin) < 3


def test_bursts_make_it_less_sure() -> None:
    """The same share beyond the limit, in every fourth slice alone or spread evenly."""
    spread = even(1000, [60.0] * 4 + [10.0] * 996)
    size = NUM_SLICES * 1000
    number = np.arange(size)
    is_beyond = (number % 4000 < 16) & (number < size)
    burst = run_of(number * 1000, np.where(is_beyond, 60_000, 10_000))
    spread_check, burst_check = (check(run, "p99_ttft_ms:50") for run in (spread, burst))
    assert spread_check.value == burst_check.value
    assert 0 < burst_check.margin < spread_check.margin / 1.3
    assert burst_check.standard_error > 1.3 * spread_check.standard_error


def test_requests_without_an_answer_are_beyond_every_limit() -> None:
    """A deployment that drops 2 % keeps no p99."""
    status = [Status.DROPPED] * 20 + [Status.COMPLETED] * 980
    run = run_of(np.arange(20_000) * 1000, np.full(20_000, 10_000), status=status)
    assert check(run, "p99_ttft_ms:50").margin < -3
    assert check(run, "p95_ttft_ms:50").margin > 3
    assert check(run, "mean_ttft_ms:50").margin == -math.inf


def test_gaps_count_by_token() -> None:
    """p90 of 18,000 gaps of 5 ms and 2,000 of 9 ms lies between them."""
    run = run_of(
        np.arange(2000) * 10_000,
        np.full(2000, 10_000),
        gaps=[{5_000: 900, 9_000: 100}] * NUM_SLICES,
    )
    run = replace(run, itl_us=run.marks[-1].itl_us, itl_count=run.marks[-1].itl_count)
    found = check(run, "p90_itl_ms:8")
    assert (found.margin, found.sample) == (pytest.approx(0, abs=1e-5), 20_000)
    assert check(run, "p85_itl_ms:8").margin > 1
    assert check(run, "p95_itl_ms:8").margin < -1
    assert check(run, "p95_itl_ms:9").margin > 1
    mean = check(run, "mean_itl_ms:6")
    assert mean.value == pytest.approx(5.4)
    assert mean.margin == math.inf  # no slice differs from another


def test_the_error_of_a_mean_by_hand() -> None:
    """Ten slices of 1 ms and ten of 3 ms: the mean 2, its error 1 / sqrt(20), with 20 / 19.

    A mean that were as high as the limit would scatter more: margins above are smaller.
    """
    size = NUM_SLICES * 50
    ttft_us = np.where(np.arange(size) // 50 % 2, 3_000, 1_000)
    run = run_of(np.arange(size) * SLICE_US // 50, ttft_us)
    found = check(run, "mean_ttft_ms:3")
    assert found.value == pytest.approx(2)
    assert found.standard_error == pytest.approx(1 / math.sqrt(19))
    assert 1 < found.margin < math.sqrt(19) + 1e-9
    assert check(run, "mean_ttft_ms:1").margin == pytest.approx(-math.sqrt(19))


def test_goodput_is_a_share_of_requests() -> None:
    """Nine of ten within 50 ms."""
    run = even(1000, [10.0] * 9 + [60.0])
    context = {"slo": {"ttft_ms": 50.0}}
    exact = check(run, "goodput:90%", **context)
    assert exact.value == pytest.approx(0.9)
    assert exact.margin == pytest.approx(0, abs=1e-5)
    assert check(run, "goodput:89%", **context).margin > 1
    assert check(run, "goodput:91%", **context).margin < -1
    assert check(run, "goodput:100%", **context).margin < -1
    assert check(even(1000, [10.0]), "goodput:100%", **context).margin >= 0


def test_goodput_that_nobody_comes_near_to_missing() -> None:
    """Slices that differ much tell little of a share; where all are within half it is kept."""
    size = NUM_SLICES * 50
    ttft_us = np.where(np.arange(size) // 50 % 2, 3_000, 1_000)
    run = run_of(np.arange(size) * SLICE_US // 50, ttft_us)
    margins = [
        check(run, "goodput:98%", slo={"ttft_ms": most}).margin for most in (1.5, 5.9, 6.1, 60.0)
    ]
    assert margins[0] < -2 < 0 < margins[1] < 2.3
    assert margins[2:] == [6, 6]
    few = run_of(np.arange(20) * SLICE_US, [1_000] * 20)
    assert check(few, "goodput:98%", slo={"ttft_ms": 60.0}).margin < 6


def test_a_looser_limit_on_a_mean_is_kept_more_surely() -> None:
    """However far away it is; five times the mean and more is no longer a matter of chance."""
    size = NUM_SLICES * 50
    ttft_us = np.where(np.arange(size) // 50 % 2, 3_000, 1_000)
    run = run_of(np.arange(size) * SLICE_US // 50, ttft_us)
    limits = (2.5, 3, 5, 9, 10, 11, 50, 1e3, 1e6)
    margins = [check(run, f"mean_ttft_ms:{limit:.9g}").margin for limit in limits]
    assert margins == sorted(margins)
    assert margins[-1] > 1000


@pytest.mark.parametrize(
    "slo", ["p99_ttft_ms:5", "mean_ttft_ms:5", "p99_itl_ms:5", "mean_itl_ms:5"]
)
def test_an_empty_window_tells_nothing(slo: str) -> None:
    run = run_of([25_000_000], [1000])
    found = check(run, slo)
    assert (found.value, found.margin, found.sample) == (None, 0.0, 0)


# -- against a queue whose truth is known ---------------------------------------


def queue(seed: int, load: float, num: int = 4_000) -> tuple[np.ndarray, np.ndarray]:
    """Return arrivals and times of M/M/1 with a mean service of 10 ms, begun in steady state."""
    rng = np.random.default_rng(seed)
    gaps_us = rng.exponential(10_000 / load, num)
    served_us = rng.exponential(10_000, num)
    # In steady state the first finds an M/M/1 wait: 0, or an exponential time.
    waited_us = rng.exponential(10_000 / (1 - load)) if rng.random() < load else 0.0
    times_us = np.empty(num)
    for number in range(num):
        times_us[number] = waited_us + served_us[number]
        if number + 1 < num:
            waited_us = max(0.0, times_us[number] - gaps_us[number + 1])
    return np.cumsum(gaps_us), times_us


def test_intervals_cover_the_truth() -> None:
    """Of 60 windows of a queue nearly all are within two standard errors of the truth.

    The time in M/M/1 is exponential with mean 10 ms / (1 - load): W. J. Stewart, Probability,
    Markov Chains, Queues and Simulation, section 11.2.
    """
    load = 0.7
    mean_ms = 10 / (1 - load)
    limits = (
        Limit("mean_ttft_ms", mean_ms),
        Limit("p90_ttft_ms", mean_ms * math.log(10)),
        Limit("p99_ttft_ms", mean_ms * math.log(100)),
    )
    margins = []
    for seed in range(60):
        arrival_us, times_us = queue(seed, load)
        run = run_of(arrival_us, times_us, slice_us=int(arrival_us[-1] / NUM_SLICES))
        checks = check_limits(make_result(run=run), limits)
        margins.append([each.margin for each in checks])
    covered = (np.abs(margins) <= 2).mean(axis=0)
    assert (covered >= 0.83).all(), covered
    assert (np.abs(np.mean(margins, axis=0)) < 0.5).all()


# -- saturation -----------------------------------------------------------------


def simulated(rate: float, seed: int = 1, **settings: Any) -> Result:
    """Return a run of an engine that can serve about 20 requests/s, its window marked."""
    scenario = load_scenario(
        {
            "seed": seed,
            "latency": {"model": "blackbox"},
            "engine": {"max_num_seqs": 16},
            "workload": {
                "num_requests": 1500,
                "request_rate": rate,
                "prompt": {"mean": 100, "stdev": 20},
                "output": {"mean": 100, "stdev": 20},
            },
        }
        | settings
    )
    end_s = 1500 / rate
    return api.run(api.resolve(scenario), marks_s=Window(0.2 * end_s, 0.95 * end_s).marks_s())


@pytest.mark.parametrize("rate", [1, 8, 14])
def test_a_stable_engine_is_not_saturated(rate: float) -> None:
    assert not any(is_saturated(simulated(rate, seed).run) for seed in (1, 2))


@pytest.mark.parametrize("rate", [40, 100])
def test_an_overloaded_engine_is(rate: float) -> None:
    assert all(is_saturated(simulated(rate, seed).run) for seed in (1, 2))


def test_rejecting_is_not_saturation() -> None:
    """A gateway that sheds what is too much has no queue that grows; its limits tell."""
    gateway = {"admission": {"policy": "token-bucket", "token_bucket_refill_rate": 1000}}
    cluster = {"num_instances": 2, "gateway": gateway}
    result = simulated(100, cluster=cluster)
    assert result.summary["failed"] > 500
    assert not is_saturated(result.run)
    (found,) = check_limits(result, parse_slo("p99_ttft_ms:60000"))
    assert found.margin < -3
