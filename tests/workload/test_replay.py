from __future__ import annotations

import math
import tracemalloc
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from blis_sim.catalog.paths import workloads_dir
from blis_sim.errors import ConfigError

from .builders import make_requests, make_workload, replay, write_trace

HEAD = "arrival_us,prompt_tokens,output_tokens"
TEXT = f"{HEAD}\n1000000,10,1\n1000000,20,2\n2000000,30,3\n5000000,40,4\n"


def arrivals(folder: Path, **settings: object) -> list[int]:
    return [r.arrival_us for r in replay(folder, TEXT, **settings)]


def test_rate_is_gaps_over_time(tmp_path: Path) -> None:
    """Three gaps in 4 s are 0.75/s; at 1.5/s every gap is halved and the first stays."""
    assert arrivals(tmp_path, request_rate=1.5) == [1_000_000, 1_000_000, 1_500_000, 3_000_000]
    assert arrivals(tmp_path, request_rate=0.75) == arrivals(tmp_path)


def test_rate_scale_multiplies_the_rate(tmp_path: Path) -> None:
    """Twice the rate halves the gaps; the first arrival stays."""
    assert arrivals(tmp_path, rate_scale=2) == [1_000_000, 1_000_000, 1_500_000, 3_000_000]
    assert arrivals(tmp_path, rate_scale=1) == arrivals(tmp_path)


def test_infinite_rate_is_the_first_arrival(tmp_path: Path) -> None:
    """All at once means at the first arrival of the trace."""
    assert arrivals(tmp_path, request_rate=math.inf) == [1_000_000] * 4


def test_rate_counts_the_rows_used(tmp_path: Path) -> None:
    """With num_requests the rate is that of the first rows, not of the whole file."""
    assert arrivals(tmp_path, num_requests=3, request_rate=1) == [1_000_000, 1_000_000, 3_000_000]


@pytest.mark.parametrize("rate", [0.003, 1.7, 1e6])
def test_rescaled_trace_has_the_rate(tmp_path: Path, rate: float) -> None:
    """The mean rate is met to the rounding of the last arrival, and the order is kept."""
    gaps = np.random.Generator(np.random.PCG64(4)).integers(0, 500_000, 5000)
    times = 77 + np.cumsum(gaps)
    text = "\n".join([HEAD, *(f"{t},1,1" for t in times)])
    found = [r.arrival_us for r in replay(tmp_path, text, request_rate=rate)]
    assert found[0] == times[0]
    assert found[-1] == times[0] + round(4999 * 1e6 / rate)
    assert found == sorted(found)
    factor = (found[-1] - found[0]) / (times[-1] - times[0])
    assert np.abs(found - (times[0] + (times - times[0]) * factor)).max() <= 1


def test_both_rates_are_refused(tmp_path: Path) -> None:
    """A rate and a factor on it contradict each other."""
    with pytest.raises(ConfigError, match=r"rate_scale must not be set together .*got 2 and 3"):
        arrivals(tmp_path, request_rate=3, rate_scale=2)


def test_no_rate_can_be_given_to_one_instant(tmp_path: Path) -> None:
    """Requests that all arrive at once have no gaps to stretch."""
    with pytest.raises(ConfigError, match=r"request_rate must not be set when all .*got 3 req"):
        arrivals(tmp_path, num_requests=2, request_rate=3)
    assert arrivals(tmp_path, num_requests=2, rate_scale=3) == [1_000_000] * 2
    assert arrivals(tmp_path, num_requests=2, request_rate=math.inf) == [1_000_000] * 2


@pytest.mark.parametrize(("name", "value"), [("request_rate", 1e-300), ("rate_scale", 1e-300)])
def test_times_beyond_all_bounds_are_refused(tmp_path: Path, name: str, value: float) -> None:
    """A rate near 0 is an error, not an overflow."""
    with pytest.raises(ConfigError, match=rf"workload\.{name} must be large enough .*got 1e-300"):
        arrivals(tmp_path, **{name: value})


def test_more_requests_than_rows_are_refused(tmp_path: Path) -> None:
    """A trace is not repeated; the message says how many rows there are."""
    with pytest.raises(ConfigError, match=r"num_requests must be at most the 4 requests .*got 5"):
        arrivals(tmp_path, num_requests=5)
    assert len(arrivals(tmp_path, num_requests=4)) == 4


def test_horizon_and_seed_do_not_change_a_trace(tmp_path: Path) -> None:
    """A trace is what it is; the consumer stops at the horizon."""
    path = write_trace(tmp_path, TEXT)
    assert make_requests(1, 2_000_000, trace=path) == make_requests(2, trace=path)


def test_walking_a_trace_takes_little_memory(tmp_path: Path) -> None:
    """Beyond its columns a trace costs one chunk of requests."""
    path = write_trace(tmp_path, f"{HEAD}\n" + "5,1,1\n" * 200_000)
    workload = make_workload(trace=path)
    tracemalloc.start()
    try:
        count = sum(1 for _ in workload)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 200_000
    assert peak < 5_000_000


def test_the_bundled_trace() -> None:
    """chat_small.csv is as its README says: chat-like, with shared system prompts."""
    workload = make_workload(trace=workloads_dir() / "chat_small.csv")
    requests = list(workload)
    assert workload.num_requests == len(requests) == 1000
    assert workload.notices == []
    assert "over 129.2 s, mean rate 7.73 requests/s" in workload.description
    prefixes = {(r.prefix_group, r.prefix_tokens) for r in requests}
    assert prefixes == {
        ("assistant", 512),
        ("support", 384),
        ("coder", 768),
        ("writer", 1024),
        (None, 0),
    }
    assert sum(r.prefix_tokens > 0 for r in requests) == pytest.approx(800, abs=57)
    assert all(r.prompt_tokens >= r.prefix_tokens + 8 for r in requests)
    assert all(1 <= r.output_tokens <= 1500 for r in requests)
    assert list(islice(workload, 5)) == requests[:5]
