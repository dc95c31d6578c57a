from __future__ import annotations

import math
import tracemalloc
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from blis_sim.catalog.paths import workloads_dir
from blis_sim.errors import ConfigError

from .trace_builders import (
    make_requests,
    make_workload,
    replay,
    write_json,
    write_lines,
    write_trace,
)

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


def test_window_takes_rows_from_its_start_to_before_its_end(tmp_path: Path) -> None:
    """start <= t < start + duration, and the start becomes time 0."""
    assert arrivals(tmp_path, start_s=1, duration_s=4) == [0, 0, 1_000_000]
    assert arrivals(tmp_path, start_s=1.5) == [500_000, 3_500_000]
    assert arrivals(tmp_path, duration_s=2) == [1_000_000] * 2
    assert arrivals(tmp_path, start_s=0) == arrivals(tmp_path)


def test_window_then_count_then_rate(tmp_path: Path) -> None:
    """The count is of the window's rows and the rate that of the rows used."""
    found = arrivals(tmp_path, start_s=1, num_requests=3, rate_scale=2)
    assert found == [0, 0, 500_000]
    path = write_trace(tmp_path, TEXT)
    workload = make_workload(trace=path, start_s=1, duration_s=2, num_requests=2)
    assert workload.description == (
        "trace trace.csv (blis_sim CSV): 2 of 4 requests over 0.0 s (from 1 s to 3 s of it)"
    )
    with pytest.raises(
        ConfigError, match=r"at most the 3 requests of .* in the window of start_s"
    ):
        make_workload(trace=path, duration_s=3, num_requests=4)


def test_window_of_an_unsorted_trace(tmp_path: Path) -> None:
    """Rows are chosen by time; ids are places in the file among the rows used."""
    text = f"{HEAD}\n5000000,50,1\n2000000,20,1\n9000000,90,1\n1000000,10,1\n"
    found = [(r.request_id, r.prompt_tokens) for r in replay(tmp_path, text, start_s=2)]
    assert found == [(1, 20), (0, 50), (2, 90)]


@pytest.mark.parametrize("window", [{"start_s": 6}, {"start_s": 3, "duration_s": 2}])
def test_an_empty_window_names_the_span(tmp_path: Path, window: dict[str, float]) -> None:
    """The message says when the requests of the trace arrive."""
    with pytest.raises(ConfigError, match=r"at least one request of .* from 1 s to 5 s; got"):
        arrivals(tmp_path, **window)


def test_drawn_arrivals_replace_the_recorded_ones(tmp_path: Path) -> None:
    """Only where the settings say how to draw them; a rate alone stretches the gaps."""
    path = write_trace(tmp_path, TEXT)

    def drawn(count: int) -> np.ndarray:
        return np.arange(count) * 10

    workload = make_workload(drawn, trace=path, arrivals="constant", request_rate=5, start_s=2)
    assert [(r.arrival_us, r.prompt_tokens) for r in workload] == [(0, 30), (10, 40)]
    assert "arrivals drawn; the recorded ones are not used" in workload.description
    rescaled = make_requests(drawn, trace=path, request_rate=1.5)
    assert rescaled == make_requests(trace=path, request_rate=1.5)
    stages = [{"rate": 1, "duration_s": 2}]
    assert [r.arrival_us for r in make_requests(drawn, trace=path, stages=stages)] == [
        0,
        10,
        20,
        30,
    ]


def test_fewer_drawn_arrivals_than_rows_end_the_load(tmp_path: Path) -> None:
    """Stages that are over leave the rest of the rows unused."""
    path = write_trace(tmp_path, TEXT)
    workload = make_workload(lambda _: np.array([7, 8]), trace=path, arrivals="poisson")
    assert [(r.arrival_us, r.prompt_tokens) for r in workload] == [(7, 10), (8, 20)]
    assert workload.num_requests == 2
    with pytest.raises(ConfigError, match=r"arrivals must give at least one arrival .*got none"):
        make_workload(lambda _: np.array([], dtype=int), trace=path, arrivals="poisson")
    with pytest.raises(ConfigError, match=r"rate_scale must not be set when arrivals are drawn"):
        make_workload(np.arange, trace=path, arrivals="poisson", rate_scale=2)


def test_traces_without_times(tmp_path: Path) -> None:
    """They need drawn arrivals; a duration ends them, and there is no start to skip to."""
    turn = {"from": "human", "value": "word " * 9}
    path = write_json(tmp_path, [{"conversations": [turn, turn]}] * 4)

    def each_second(count: int) -> np.ndarray:
        return np.arange(1, count + 1) * 1_000_000

    found = make_requests(each_second, trace=path, request_rate=1, duration_s=3)
    assert [r.arrival_us for r in found] == [1_000_000, 2_000_000]
    with pytest.raises(ConfigError, match=r"request_rate must be given to replay .*no arrival ti"):
        make_workload(trace=path)
    with pytest.raises(ConfigError, match=r"start_s must not be set when .* no arrival times"):
        make_workload(each_second, trace=path, start_s=1)


# -- replayed more than once --------------------------------------------------


def test_replays_follow_each_other_after_a_mean_gap(tmp_path: Path) -> None:
    """Arrivals 1, 1, 2, 5 s: three gaps in 4 s, so that the second replay is 16/3 s later."""
    once = arrivals(tmp_path)
    period_us = 4_000_000 + round(4_000_000 / 3)
    assert arrivals(tmp_path, repeats=2) == [*once, *(time + period_us for time in once)]
    assert arrivals(tmp_path, repeats=1) == once


def test_the_rate_of_replays_is_that_of_one(tmp_path: Path) -> None:
    """A rate holds from the first arrival of all replays to the last."""
    times = arrivals(tmp_path, repeats=5, request_rate=2)
    assert len(times) == 20
    assert (times[-1] - times[0]) / 1e6 == pytest.approx(19 / 2)


def test_num_requests_counts_over_all_replays(tmp_path: Path) -> None:
    """Six requests of two replays of four are the first one and half of the second."""
    requests = replay(tmp_path, TEXT, repeats=2, num_requests=6)
    assert [r.prompt_tokens for r in requests] == [10, 20, 30, 40, 10, 20]
    assert [r.request_id for r in requests] == list(range(6))
    with pytest.raises(ConfigError, match=r"at most the 8 requests of .* in 2 replays; got 9"):
        replay(tmp_path, TEXT, repeats=2, num_requests=9)


def test_sessions_and_prompts_of_replays_are_new_ones(tmp_path: Path) -> None:
    """Only a named prefix is shared between replays: the cache must not know the rest."""
    text = (
        f"{HEAD},session_id,round,prefix_group,prefix_tokens\n"
        "0,100,1,a,0,system,16\n1000000,200,1,a,1,system,16\n"
    )
    requests = replay(tmp_path, text, repeats=3)
    assert [r.session_id for r in requests] == ["a", "a"] + [
        f"a (replay {n})" for n in (2, 3) for _ in range(2)
    ]
    assert [r.round for r in requests] == [0, 1] * 3
    assert {r.prefix_group for r in requests} == {"system"}


@pytest.mark.parametrize("big", [0, 2**62])
def test_block_hashes_of_replays_differ_as_they_did(tmp_path: Path, big: int) -> None:
    """Equal blocks stay equal within a replay, and none is found in another one."""
    rows = [[1 + big, 2], [1 + big, 3]]
    lines = [
        {"timestamp": 1000 * n, "input_length": 1000, "output_length": 1, "hash_ids": ids}
        for n, ids in enumerate(rows)
    ]
    path = write_lines(tmp_path, lines)
    found = [r.block_hashes for r in make_requests(trace=path, repeats=4)]
    assert found[:2] == [tuple(ids) for ids in rows]
    per_replay = [found[i : i + 2] for i in range(0, 8, 2)]
    for first, second in per_replay:
        assert first is not None
        assert second is not None
        assert first[0] == second[0]
        assert first[1] != second[1]
    assert len({h for one in per_replay for row in one for h in row or ()}) == 12


def test_too_many_replays_are_refused(tmp_path: Path) -> None:
    """The last arrival must be within the time a workload may have."""
    text = f"{HEAD}\n0,1,1\n900000000000000,1,1\n"
    with pytest.raises(ConfigError, match=r"repeats must be small enough for the last arrival"):
        replay(tmp_path, text, repeats=2)
