from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.errors import ConfigError
from blis_sim.metrics.measured import Measured
from blis_sim.metrics.records import ABSENT, Status
from tests.metrics.builders import Row, dropped, make_run, served

STAYS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12), st.booleans()), max_size=25)


@given(STAYS)
def test_peak_concurrency_against_a_walk_through_time(stays: list[tuple[int, int, bool]]) -> None:
    """The peak is the largest number present at any instant; who leaves, leaves first."""
    rows = [
        served(arrival, ttft_us=stay)
        if done
        else Row(arrival_us=arrival, instance=None, status=Status.WAITING)
        for arrival, stay, done in stays
    ]
    end = 50
    present = [
        sum(
            arrival <= instant and (not done or instant < arrival + stay)
            for arrival, stay, done in stays
        )
        for instant in range(end + 1)
    ]
    measured = Measured(make_run(rows, end_us=end))
    assert measured.peak_concurrent_requests() == (max(present) if stays else None)


def test_departure_comes_before_arrival_at_one_instant() -> None:
    """A request that arrives when another leaves does not overlap with it."""
    rows = [served(0, ttft_us=10), served(10, ttft_us=10)]
    assert Measured(make_run(rows)).peak_concurrent_requests() == 1


def test_request_that_gave_up_counts_to_its_last_record() -> None:
    """A timed-out request counts to its last token, a dropped one not at all."""
    gave_up = served(0, ttft_us=5, status=Status.TIMED_OUT)
    rows = [gave_up, dropped(3), served(4, ttft_us=3), served(6, ttft_us=3)]
    assert Measured(make_run(rows)).peak_concurrent_requests() == 2
    run = make_run([gave_up, dropped(3), served(4, ttft_us=3)])
    run.requests.last_token_us[0] = ABSENT
    assert Measured(run).peak_concurrent_requests() == 2
    run = make_run([gave_up, dropped(3), served(6, ttft_us=3)])
    assert Measured(run).peak_concurrent_requests() == 1


def test_goodput_limits_are_inclusive_and_joined() -> None:
    """A request is good when it meets all limits; at the limit is met."""
    rows = [
        served(0, ttft_us=2_000, gaps_us=[1_000, 1_000]),  # exactly at both limits
        served(0, ttft_us=2_001, gaps_us=[1_000]),  # TTFT too long
        served(0, ttft_us=2_000, gaps_us=[1_000, 1_001]),  # TPOT too long
        served(0, ttft_us=100, gaps_us=[10], status=Status.ABORTED),  # not completed
    ]
    run = make_run(rows)
    assert Measured(run, slo={"ttft_ms": 2, "tpot_ms": 1}).num_good == 1
    assert Measured(run, slo={"ttft_ms": 2, "tpot_ms": None}).num_good == 2
    assert Measured(run, slo={"e2el_ms": 3.001}).num_good == 1


def test_request_without_tpot_meets_any_tpot_limit() -> None:
    """One token or none has no TPOT, so no TPOT limit can be missed."""
    rows = [served(0), served(0, output_tokens=0)]
    assert Measured(make_run(rows), slo={"tpot_ms": 0.001}).num_good == 2


def test_no_limit_is_no_goodput() -> None:
    """Without limits goodput is absent, not equal to throughput."""
    assert Measured(make_run([served()]), slo={"ttft_ms": None}).num_good is None


def test_unknown_limit_is_an_error() -> None:
    """A misspelled limit names the nearest one."""
    with pytest.raises(ConfigError, match="got 'ttft'; nearest: ttft_ms"):
        Measured(make_run([served()]), slo={"ttft": 5})


def test_gaps_are_not_told_for_a_part() -> None:
    """The pooled gaps belong to all requests; for some of them there is no distribution."""
    run = make_run([served(gaps_us=[5]), served(gaps_us=[7])])
    assert Measured(run).gaps() is not None
    assert Measured(run, chosen=np.array([True, False])).gaps() is None


def test_times_without_a_scheduling_are_left_out() -> None:
    """Queue times come only from requests that have both instants."""
    rows = [served(0, scheduled_us=40, enqueued_us=10), dropped(0)]
    run = make_run(rows)
    columns = run.requests
    waits = Measured(run).since(columns.scheduled_us, columns.enqueued_us)
    assert waits.tolist() == [30]
