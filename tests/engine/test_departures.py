"""Aborts, timeouts and horizons by hand: who leaves when, with what."""

from __future__ import annotations

import pytest

from blis_sim.metrics.records import EngineCounters, Status

from .builders import (
    column,
    make_blackbox,
    rows,
    serve,
    simulate_both_ways,
)

# -- aborts and timeouts ------------------------------------------------------


def test_an_abort_takes_effect_at_the_next_boundary() -> None:
    """Gone at 25, during the step to 30: two tokens, the third is dropped, the seat is free."""
    run = serve({"abort_us": 25, "output_tokens": 9}, {"output_tokens": 1}, max_num_seqs=1)
    gone, after = rows(run)
    assert (gone.status, gone.output_tokens) == (Status.ABORTED, 2)
    assert (gone.first_token_us, gone.last_token_us) == (10, None)
    assert after.scheduled_us == 30
    assert run.counters[0].num_generated_tokens == 2 + 1


def test_an_abort_on_a_boundary_takes_effect_there() -> None:
    """Gone at 20: the token of that instant is out before, and the next step is another's."""
    run = serve({"abort_us": 20, "output_tokens": 9}, {"output_tokens": 1}, max_num_seqs=1)
    gone, after = rows(run)
    assert (gone.status, gone.output_tokens) == (Status.ABORTED, 2)
    assert after.scheduled_us == 20


def test_async_drops_the_work_already_fixed() -> None:
    """Gone at 25: its share of the fixed step to 40 is computed, its tokens are dropped."""
    run = serve({"abort_us": 25, "output_tokens": 9}, {"output_tokens": 6}, async_scheduling=True)
    gone, stays = rows(run)
    assert (gone.status, gone.output_tokens) == (Status.ABORTED, 2)
    assert stays.last_token_us == 60
    assert run.counters[0].batch_requests == 6 + 4


def test_a_waiting_request_leaves_at_once() -> None:
    """One seat: waiting from 5 to 12 it never runs, and the one behind it moves up."""
    run = serve(
        {"output_tokens": 3},
        {"arrival_us": 5, "abort_us": 7},
        {"arrival_us": 6, "output_tokens": 1},
        max_num_seqs=1,
    )
    assert column(run, "status") == [Status.COMPLETED, Status.ABORTED, Status.COMPLETED]
    assert column(run, "scheduled_us") == [0, None, 30]
    assert run.counters[0].waiting_us == (12 - 5) + (30 - 6)


def test_who_gives_up_within_a_step_is_never_scheduled() -> None:
    """Arrivals at 5001 and 5002 in a step to 6000; the second gives up at 5005."""
    run = serve(
        {"output_tokens": 50},
        {"arrival_us": 5001, "output_tokens": 3},
        {"arrival_us": 5002, "output_tokens": 3, "timeout_us": 3},
        latency=make_blackbox(1000),
    )
    assert column(run, "status") == [Status.COMPLETED, Status.COMPLETED, Status.TIMED_OUT]
    assert column(run, "scheduled_us") == [0, 6000, None]


def test_a_client_may_leave_before_its_request_enters() -> None:
    """In the frontend from 0 to 30, gone at 20: it never enters, and nothing ever runs."""
    run = serve({"abort_us": 20}, latency=make_blackbox(alpha=(30, 0, 0)))
    (row,) = rows(run)
    assert row.status is Status.ABORTED
    assert row.enqueued_us is None
    assert run.counters[0].num_steps == run.counters[0].busy_us == 0


@pytest.mark.parametrize(
    ("timeout_us", "status"), [(64, Status.TIMED_OUT), (65, Status.COMPLETED)]
)
def test_timeouts_are_in_client_time(timeout_us: int, status: Status) -> None:
    """The 5th token leaves the engine at 50 and is seen at 50 + 5 * 3 = 65."""
    run = serve({"timeout_us": timeout_us}, latency=make_blackbox(alpha=(0, 0, 3)))
    assert column(run, "status") == [status]
    assert column(run, "last_token_us") == [65 if status is Status.COMPLETED else None]


@pytest.mark.parametrize(
    ("timeout_us", "abort_us", "status"),
    [(25, 40, Status.TIMED_OUT), (40, 25, Status.ABORTED), (25, 25, Status.TIMED_OUT)],
)
def test_the_earlier_of_timeout_and_abort_counts(
    timeout_us: int, abort_us: int, status: Status
) -> None:
    """A request ends exactly once; at the same instant the client's patience is named."""
    run = serve({"timeout_us": timeout_us, "abort_us": abort_us, "output_tokens": 9})
    assert column(run, "status") == [status]
    assert column(run, "output_tokens") == [2]


def test_an_abort_after_the_end_changes_nothing() -> None:
    """A deadline that passes later is not an event of the load: the run ends at 50."""
    run = serve({"abort_us": 5000})
    assert column(run, "status") == [Status.COMPLETED]
    assert run.end_us == 50


# -- horizon ------------------------------------------------------------------


def test_a_horizon_counts_everybody_where_he_is() -> None:
    """At 35 us: 0 has ended, 1 runs with 3 tokens, 2 waits, 3 is in the frontend, 4 unborn."""
    run = serve(
        {"output_tokens": 1},
        {"output_tokens": 9},
        {"arrival_us": 20, "output_tokens": 1, "prompt_tokens": 1},
        {"arrival_us": 21, "prompt_tokens": 500},
        {"arrival_us": 36},
        latency=make_blackbox(alpha=(0, 0.1, 0)),
        max_num_seqs=1,
        horizon_us=45,
    )
    assert column(run, "status") == [
        Status.COMPLETED,
        Status.RUNNING,
        Status.WAITING,
        Status.IN_FRONTEND,
        Status.WAITING,
    ]
    running = rows(run)[1]
    assert (running.output_tokens, running.last_token_us) == (3, None)
    assert run.end_us == 45


@pytest.mark.parametrize(("horizon_us", "tokens"), [(19, 1), (20, 2), (21, 2), (29, 2), (30, 3)])
def test_a_step_that_ends_at_the_horizon_counts(horizon_us: int, tokens: int) -> None:
    """The horizon is the last event of its instant; a step in flight counts for nothing."""
    run = serve({"output_tokens": 9}, horizon_us=horizon_us)
    assert column(run, "output_tokens") == [tokens]
    assert run.counters[0].busy_us == 10 * tokens
    assert run.counters[0].num_steps == tokens
    assert run.counters[0].running_us == horizon_us


def test_arrivals_at_the_horizon_are_injected() -> None:
    """A request at the horizon itself has arrived, one a microsecond later has not."""
    run = serve({"arrival_us": 50}, {"arrival_us": 51}, horizon_us=50)
    assert column(run, "arrival_us") == [50]
    assert column(run, "status") == [Status.RUNNING]


def test_an_empty_load_ends_at_once() -> None:
    """No request: no step, no time."""
    run = simulate_both_ways([])
    assert (run.start_us, run.end_us, run.requests.request_id.size) == (0, 0, 0)
    assert run.counters[0] == EngineCounters(num_kv_blocks=1000, num_events=1)
