"""One instance on the clock, with every time computed by hand.

A step lasts 10 us whatever is in it, unless a test says otherwise. Each case is run coalesced
and step by step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from blis_sim.latency.base import Batch, Int64Array
from blis_sim.latency.blackbox import BlackboxModel
from blis_sim.metrics.records import EngineCounters, RunData, Status

from .builders import (
    column,
    gaps,
    make_blackbox,
    make_simulation,
    make_spec,
    make_specs,
    rows,
    simulate_both_ways,
)


class CostlyModel(BlackboxModel):
    """Scheduling takes 3 us, a preemption 5 us."""

    def scheduling_time(self) -> int:
        return 3

    def preemption_time(self) -> int:
        return 5


class UnannouncedModel(BlackboxModel):
    """Its steps are equal, but it does not say so: runs are made of their durations."""

    def uniform_decode_time(self, batch: Batch) -> int | None:
        return None

    def decode_run(self, batch: Batch, num_steps: int) -> Int64Array:
        return np.full(num_steps, self.step_time(batch), dtype=np.int64)


def simulate(*requests: dict[str, Any], **settings: Any) -> RunData:
    return simulate_both_ways(make_specs(*requests), **settings)


# -- steps --------------------------------------------------------------------


def test_the_first_token_is_the_end_of_the_prefill() -> None:
    """Arrival 7: first token at 17, two more steps to the third: 27, 37."""
    run = simulate({"arrival_us": 7, "output_tokens": 3})
    (row,) = rows(run)
    assert (row.enqueued_us, row.scheduled_us) == (7, 7)
    assert (row.first_token_us, row.last_token_us) == (17, 37)
    assert gaps(run) == {10: 2}
    assert (run.start_us, run.end_us) == (7, 37)


def test_steps_cost_what_is_in_them() -> None:
    """100 + 2 per prefill token + 5 per decode: 100 + 2 * 10 = 120, then 105 and 105."""
    run = simulate({"output_tokens": 3}, latency=make_blackbox(100, 2, 5))
    assert (column(run, "first_token_us"), column(run, "last_token_us")) == ([120], [330])
    assert run.counters[0].busy_us == 330


def test_a_chunked_prompt_yields_with_its_last_chunk() -> None:
    """Budget 8, prompt 20: 100 + 16, 100 + 16, 100 + 8 end at 116, 232 and 340 us."""
    run = simulate(
        {"prompt_tokens": 20, "output_tokens": 1},
        latency=make_blackbox(100, 2, 5),
        max_num_batched_tokens=8,
    )
    assert column(run, "first_token_us") == [340]
    assert run.counters[0].num_steps == 3


def test_decodes_ride_along_with_chunks() -> None:
    """Budget 8: the second prompt's 20 tokens go 4, 7, 7, 2 beside the first request.

    Steps: 4 + 4 tokens 116; 7 + decode 119; 7 + decode 119; 2 + decode 109; 2 decodes 110.
    They end at 116, 235, 354, 463 and 573.
    """
    run = simulate(
        {"prompt_tokens": 4, "output_tokens": 5},
        {"prompt_tokens": 20, "output_tokens": 2},
        latency=make_blackbox(100, 2, 5),
        max_num_batched_tokens=8,
    )
    assert column(run, "first_token_us") == [116, 463]
    assert column(run, "last_token_us") == [573, 573]
    assert gaps(run) == {109: 1, 110: 2, 119: 2}


def test_simultaneous_arrivals_form_one_batch() -> None:
    """5 and 7 tokens at one microsecond are one step of 100 + 2 * 12 = 124."""
    run = simulate(
        {"prompt_tokens": 5, "output_tokens": 1},
        {"prompt_tokens": 7, "output_tokens": 1},
        latency=make_blackbox(100, 2, 5),
    )
    assert column(run, "last_token_us") == [124, 124]
    assert run.counters[0].num_steps == 1


@pytest.mark.parametrize(
    ("arrival_us", "scheduled_us"), [(0, 0), (1, 10), (9, 10), (10, 10), (11, 20)]
)
def test_an_arrival_is_seen_at_the_next_boundary(arrival_us: int, scheduled_us: int) -> None:
    """At the very microsecond a step ends it is seen by the next one."""
    run = simulate({"output_tokens": 6}, {"arrival_us": arrival_us, "output_tokens": 2})
    assert column(run, "scheduled_us") == [0, scheduled_us]
    assert column(run, "last_token_us") == [60, scheduled_us + 20]


def test_an_idle_engine_starts_at_once() -> None:
    """Idle from 20 to 1003: the next request does not wait for any grid of steps."""
    run = simulate({"output_tokens": 2}, {"arrival_us": 1003, "output_tokens": 2})
    assert column(run, "scheduled_us") == [0, 1003]
    assert column(run, "last_token_us") == [20, 1023]
    assert run.counters[0].busy_us == 40
    assert run.counters[0].running_us == 40


@pytest.mark.parametrize("model", [BlackboxModel, UnannouncedModel])
def test_tokens_are_counted_by_the_second_they_come_in(model: type[BlackboxModel]) -> None:
    """Steps of 400,000 us: tokens at 0.4, 0.8 | 1.2, 1.6 | 2.0, 2.4 s."""
    latency = model((0, 0, 0), (400_000, 0, 0))
    run = simulate({"output_tokens": 6}, latency=latency)
    assert run.token_seconds.tolist() == [0, 1, 2]
    assert run.token_counts.tolist() == [2, 2, 2]


@pytest.mark.parametrize("model", [BlackboxModel, UnannouncedModel])
@pytest.mark.parametrize(
    ("arrival_us", "counts"), [(999_968, [3, 4]), (999_969, [3, 4]), (999_970, [2, 5])]
)
def test_a_second_ends_before_the_next_begins(
    model: type[BlackboxModel], arrival_us: int, counts: list[int]
) -> None:
    """Tokens 10, 20, 30 us after arrival: the third at 999,999 is in the first second, at
    1,000,000 in the second one."""
    latency = model((0, 0, 0), (10, 0, 0))
    run = simulate({"arrival_us": arrival_us, "output_tokens": 7}, latency=latency)
    assert run.token_seconds.tolist() == [0, 1]
    assert run.token_counts.tolist() == counts


@pytest.mark.parametrize("model", [BlackboxModel, UnannouncedModel])
def test_steps_longer_than_a_second_leave_seconds_without_tokens(
    model: type[BlackboxModel],
) -> None:
    """Steps of 2.5 s: tokens at 2.5, 5.0 and 7.5 s."""
    run = simulate({"output_tokens": 3}, latency=model((0, 0, 0), (2_500_000, 0, 0)))
    assert run.token_seconds.tolist() == [2, 5, 7]


# -- ends ---------------------------------------------------------------------


def test_no_output_ends_with_the_prefill() -> None:
    """N = 0: first = last = end of the prefill, no token and no gap; N = 1: one token."""
    run = simulate(
        {"output_tokens": 0}, {"output_tokens": 1}, latency=make_blackbox(alpha=(0, 0, 4))
    )
    nothing, one = rows(run)
    assert (nothing.first_token_us, nothing.last_token_us, nothing.output_tokens) == (10, 10, 0)
    assert (one.first_token_us, one.last_token_us, one.output_tokens) == (14, 14, 1)
    assert gaps(run) == {}
    assert column(run, "length_capped") == [0, 0]


@pytest.mark.parametrize(
    ("more", "tokens", "is_capped"),
    [
        ({"max_output_tokens": 3}, 3, 1),
        ({"max_output_tokens": 0}, 0, 1),
        ({"max_output_tokens": 5}, 5, 0),
        ({"max_output_tokens": 6}, 5, 0),
        # 17 of at most 20 tokens are prompt
        ({"prompt_tokens": 17}, 3, 1),
        ({"prompt_tokens": 15}, 5, 0),
        ({"prompt_tokens": 19}, 1, 1),
    ],
)
def test_an_answer_is_cut_to_its_limits(more: dict[str, Any], tokens: int, is_capped: int) -> None:
    """5 tokens, at most max_output_tokens, at most what max_model_len 20 leaves."""
    run = simulate(more, max_model_len=20)
    (row,) = rows(run)
    assert row.status is Status.COMPLETED
    assert (row.output_tokens, row.length_capped) == (tokens, is_capped)
    assert row.last_token_us == 10 * max(tokens, 1)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"prompt_tokens": 20}, "prompt_tokens >= max_model_len (20 tokens)"),
        (
            {"prompt_tokens": 10, "max_output_tokens": 11},
            "prompt_tokens + max_output_tokens > max_model_len (20 tokens)",
        ),
    ],
)
def test_what_can_never_be_served_is_dropped_with_a_reason(
    more: dict[str, Any], reason: str
) -> None:
    """Dropped at arrival, and nobody else notices."""
    run = simulate(more, {"output_tokens": 1}, max_model_len=20)
    dropped, served = rows(run)
    assert (dropped.status, served.status) == (Status.DROPPED, Status.COMPLETED)
    assert run.reasons[dropped.reason] == reason
    assert dropped.scheduled_us is dropped.first_token_us is None
    assert served.last_token_us == 10


# -- frontend and client time -------------------------------------------------


def test_the_frontend_delays_the_request_not_the_engine() -> None:
    """int(5 + 1.5 * 10) = 20 us: it enters at 23 and starts at once on the idle engine."""
    run = simulate({"arrival_us": 3}, latency=make_blackbox(alpha=(5, 1.5, 0)))
    (row,) = rows(run)
    assert (row.arrival_us, row.enqueued_us, row.scheduled_us) == (3, 23, 23)
    assert row.first_token_us == 33


def test_a_short_prompt_overtakes_in_the_frontend() -> None:
    """Prompts of 100 and 10 tokens at 0 and 30 us enter at 100 and 40."""
    run = simulate(
        {"prompt_tokens": 100, "output_tokens": 1},
        {"prompt_tokens": 10, "output_tokens": 1, "arrival_us": 30},
        latency=make_blackbox(alpha=(0, 1, 0)),
    )
    assert column(run, "scheduled_us") == [100, 40]


def test_output_processing_is_client_time() -> None:
    """The k-th token, out of the engine at 10 k, is seen at 10 k + 3 k: gaps of 13 us.

    The engine is done at 50 and idle from then on.
    """
    run = simulate({"output_tokens": 5}, latency=make_blackbox(alpha=(0, 0, 3)))
    (row,) = rows(run)
    assert (row.first_token_us, row.last_token_us) == (13, 65)
    assert gaps(run) == {13: 4}
    assert run.counters[0].busy_us == 50
    assert run.end_us == 65


# -- asynchronous scheduling --------------------------------------------------


def test_async_computes_two_steps_after_entry() -> None:
    """Entering at 12, during step 2 (10 to 20), it is first computed in step 4 (30 to 40).

    Step 3 was fixed at the start of step 2. A synchronous engine takes it at 20.
    """
    requests = {"output_tokens": 8}, {"arrival_us": 12, "output_tokens": 1}
    run = simulate(*requests, async_scheduling=True)
    assert column(run, "first_token_us") == [10, 40]
    assert column(run, "scheduled_us") == [0, 20]
    assert column(simulate(*requests), "first_token_us") == [10, 30]


def test_async_begins_at_once_when_idle() -> None:
    """Alone, a request is served as by a synchronous engine: 10, 20, 30."""
    run = simulate({"output_tokens": 3}, async_scheduling=True)
    assert (column(run, "first_token_us"), column(run, "last_token_us")) == ([10], [30])
    assert run.counters[0].num_steps == 3


def test_async_fixes_the_second_step_with_the_first() -> None:
    """Entering 1 us after an idle engine started, it still waits for the third step."""
    run = simulate(
        {"output_tokens": 8}, {"arrival_us": 1, "output_tokens": 1}, async_scheduling=True
    )
    assert column(run, "first_token_us") == [10, 30]


def test_async_seats_serve_the_step_after_next() -> None:
    """Two seats; request 0 ends at 20, step 3 was fixed at 10: request 2 is in step 4."""
    requests = {"output_tokens": 2}, {"output_tokens": 8}, {"output_tokens": 1}
    run = simulate(*requests, async_scheduling=True, max_num_seqs=2)
    assert column(run, "last_token_us") == [20, 80, 40]
    assert column(simulate(*requests, max_num_seqs=2), "last_token_us") == [20, 80, 30]


def test_async_forms_an_empty_batch_at_the_end_instead() -> None:
    """One seat: at 10 step 3 would be empty, so it is formed at 20, when request 0 ends."""
    run = simulate(
        {"output_tokens": 2}, {"output_tokens": 1}, async_scheduling=True, max_num_seqs=1
    )
    assert column(run, "last_token_us") == [20, 30]


@pytest.mark.parametrize(("step_us", "expected_us"), [(10, 30), (2, 9)])
def test_async_hides_scheduling_behind_the_step(step_us: int, expected_us: int) -> None:
    """A step lasts max(step time, 3 us of scheduling): three steps of 10, or of 3."""
    latency = CostlyModel((0, 0, 0), (step_us, 0, 0))
    run = simulate({"output_tokens": 3}, latency=latency, async_scheduling=True)
    assert column(run, "last_token_us") == [expected_us]


def test_sync_adds_scheduling_to_the_step() -> None:
    """Three steps of 10 + 3 us."""
    run = simulate({"output_tokens": 3}, latency=CostlyModel((0, 0, 0), (10, 0, 0)))
    assert column(run, "last_token_us") == [39]


# -- preemption ---------------------------------------------------------------

PAIR = {"prompt_tokens": 4, "output_tokens": 6}, {"prompt_tokens": 4, "output_tokens": 6}
"""In a pool of 4 blocks of 4 they fill 2 each; the 6th token takes a third."""


@pytest.mark.parametrize(("caching", "recached", "last_us"), [(True, 4, 83), (False, 0, 87)])
def test_a_victim_returns_and_hits_its_own_blocks(
    caching: bool, recached: int, last_us: int
) -> None:
    """Steps of 10 us + 1 per prefill token.

    ::

        0 - 18   both prompts, 8 tokens
        18 - 58  4 decode steps; both have 5 tokens and 8 computed: the pool is full
        58 - 68  request 1 is preempted, 0 takes one of its blocks and ends
        68 -     request 1 computes 9 tokens less what it finds of its own

    Of its two full blocks the second, first on the free list, went to request 0. It hits 4
    tokens and computes 5: 68 + 10 + 5 = 83; without caching 68 + 10 + 9 = 87.
    """
    run = simulate(
        *PAIR,
        latency=make_blackbox(10, 1),
        num_kv_blocks=4,
        max_model_len=16,
        enable_prefix_caching=caching,
    )
    assert column(run, "last_token_us") == [68, last_us]
    assert column(run, "num_preemptions") == [0, 1]
    assert column(run, "recached_tokens") == [0, recached]
    assert gaps(run) == {10: 9, last_us - 58: 1}
    assert run.counters[0].num_preemptions == 1
    assert run.counters[0].peak_kv_blocks == 4


def test_a_preemption_costs_its_time() -> None:
    """Steps of 10 + 3 us; the sixth, with one victim, 5 us more: 65 + 18 = 83, then 96."""
    run = simulate(
        *PAIR, latency=CostlyModel((0, 0, 0), (10, 0, 0)), num_kv_blocks=4, max_model_len=16
    )
    assert column(run, "last_token_us") == [83, 96]


def test_a_preemption_is_paid_when_the_rest_decodes_on() -> None:
    """The least urgent finds no block, stands first and goes; the pass ends with nothing.

    Priority, pool 4: request 0 (urgency 5) and 1 (urgency 0) prefill 0 - 13 and decode to 65
    with 8 computed tokens each. Request 0 preempts itself; the next pass of that instant is
    1 alone, decoding, for 10 + 3 + 5 us to 83; then 0 alone for 13 us to 96.
    """
    first, second = (
        {**request, "priority": urgency} for request, urgency in zip(PAIR, (5, 0), strict=True)
    )
    run = simulate(
        {**first, "arrival_us": 0},
        {**second, "output_tokens": 8},
        latency=CostlyModel((0, 0, 0), (10, 0, 0)),
        num_kv_blocks=4,
        max_model_len=16,
        policy="priority",
    )
    assert column(run, "num_preemptions") == [1, 0]
    assert column(run, "first_token_us") == [13, 13]
    assert 18 in gaps(run)


# -- policies -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("fcfs", [20, 30, 40, 50]), ("priority", [20, 50, 30, 40]), ("sjf", [20, 40, 50, 30])],
)
def test_policies_order_the_queue(policy: str, expected: list[int]) -> None:
    """One seat, three waiting from 1, 2, 3 us with urgencies 2, 0, 1 and prompts 20, 30, 10."""
    run = simulate(
        {"output_tokens": 2},
        {"arrival_us": 1, "prompt_tokens": 20, "priority": 2, "output_tokens": 1},
        {"arrival_us": 2, "prompt_tokens": 30, "priority": 0, "output_tokens": 1},
        {"arrival_us": 3, "prompt_tokens": 10, "priority": 1, "output_tokens": 1},
        policy=policy,
        max_num_seqs=1,
    )
    assert column(run, "last_token_us") == expected


# -- aborts and timeouts ------------------------------------------------------


def test_an_abort_takes_effect_at_the_next_boundary() -> None:
    """Gone at 25, during the step to 30: two tokens, the third is dropped, the seat is free."""
    run = simulate({"abort_us": 25, "output_tokens": 9}, {"output_tokens": 1}, max_num_seqs=1)
    gone, after = rows(run)
    assert (gone.status, gone.output_tokens) == (Status.ABORTED, 2)
    assert (gone.first_token_us, gone.last_token_us) == (10, None)
    assert after.scheduled_us == 30
    assert run.counters[0].num_generated_tokens == 2 + 1


def test_an_abort_on_a_boundary_takes_effect_there() -> None:
    """Gone at 20: the token of that instant is out before, and the next step is another's."""
    run = simulate({"abort_us": 20, "output_tokens": 9}, {"output_tokens": 1}, max_num_seqs=1)
    gone, after = rows(run)
    assert (gone.status, gone.output_tokens) == (Status.ABORTED, 2)
    assert after.scheduled_us == 20


def test_async_drops_the_work_already_fixed() -> None:
    """Gone at 25: its share of the fixed step to 40 is computed, its tokens are dropped."""
    run = simulate(
        {"abort_us": 25, "output_tokens": 9}, {"output_tokens": 6}, async_scheduling=True
    )
    gone, stays = rows(run)
    assert (gone.status, gone.output_tokens) == (Status.ABORTED, 2)
    assert stays.last_token_us == 60
    assert run.counters[0].batch_requests == 6 + 4


def test_a_waiting_request_leaves_at_once() -> None:
    """One seat: waiting from 5 to 12 it never runs, and the one behind it moves up."""
    run = simulate(
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
    run = simulate(
        {"output_tokens": 50},
        {"arrival_us": 5001, "output_tokens": 3},
        {"arrival_us": 5002, "output_tokens": 3, "timeout_us": 3},
        latency=make_blackbox(1000),
    )
    assert column(run, "status") == [Status.COMPLETED, Status.COMPLETED, Status.TIMED_OUT]
    assert column(run, "scheduled_us") == [0, 6000, None]


def test_a_client_may_leave_before_its_request_enters() -> None:
    """In the frontend from 0 to 30, gone at 20: it never enters, and nothing ever runs."""
    run = simulate({"abort_us": 20}, latency=make_blackbox(alpha=(30, 0, 0)))
    (row,) = rows(run)
    assert row.status is Status.ABORTED
    assert row.enqueued_us is None
    assert run.counters[0].num_steps == run.counters[0].busy_us == 0


@pytest.mark.parametrize(
    ("timeout_us", "status"), [(64, Status.TIMED_OUT), (65, Status.COMPLETED)]
)
def test_timeouts_are_in_client_time(timeout_us: int, status: Status) -> None:
    """The 5th token leaves the engine at 50 and is seen at 50 + 5 * 3 = 65."""
    run = simulate({"timeout_us": timeout_us}, latency=make_blackbox(alpha=(0, 0, 3)))
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
    run = simulate({"timeout_us": timeout_us, "abort_us": abort_us, "output_tokens": 9})
    assert column(run, "status") == [status]
    assert column(run, "output_tokens") == [2]


def test_an_abort_after_the_end_changes_nothing() -> None:
    """A deadline that passes later is not an event of the load: the run ends at 50."""
    run = simulate({"abort_us": 5000})
    assert column(run, "status") == [Status.COMPLETED]
    assert run.end_us == 50


# -- shared prefixes ----------------------------------------------------------


def test_a_cached_prefix_shortens_the_prefill() -> None:
    """12 shared of 16 tokens, 1 us a token: 10 + 16 us for the first, 10 + 4 for the next."""
    shared: dict[str, Any] = {
        "prompt_tokens": 16,
        "output_tokens": 1,
        "prefix_group": "g",
        "prefix_tokens": 12,
    }
    run = simulate(shared, {**shared, "arrival_us": 100}, latency=make_blackbox(10, 1))
    assert column(run, "last_token_us") == [26, 114]
    assert column(run, "cached_tokens") == [0, 12]


def test_a_follow_up_finds_prompt_and_answer() -> None:
    """Round 0: 6 + 7 tokens, 12 computed, 3 blocks; round 1 hits 12 of its 20."""
    run = simulate(
        {"prompt_tokens": 6, "output_tokens": 7, "session_id": "s"},
        {"prompt_tokens": 20, "arrival_us": 500, "session_id": "s", "round": 1},
    )
    assert column(run, "cached_tokens") == [0, 12]


# -- horizon ------------------------------------------------------------------


def test_a_horizon_counts_everybody_where_he_is() -> None:
    """At 35 us: 0 has ended, 1 runs with 3 tokens, 2 waits, 3 is in the frontend, 4 unborn."""
    run = simulate(
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
    run = simulate({"output_tokens": 9}, horizon_us=horizon_us)
    assert column(run, "output_tokens") == [tokens]
    assert run.counters[0].busy_us == 10 * tokens
    assert run.counters[0].num_steps == tokens
    assert run.counters[0].running_us == horizon_us


def test_arrivals_at_the_horizon_are_injected() -> None:
    """A request at the horizon itself has arrived, one a microsecond later has not."""
    run = simulate({"arrival_us": 50}, {"arrival_us": 51}, horizon_us=50)
    assert column(run, "arrival_us") == [50]
    assert column(run, "status") == [Status.RUNNING]


def test_an_empty_load_ends_at_once() -> None:
    """No request: no step, no time."""
    run = simulate_both_ways([])
    assert (run.start_us, run.end_us, run.requests.request_id.size) == (0, 0, 0)
    assert run.counters[0] == EngineCounters(num_kv_blocks=1000, num_events=1)


# -- order and work -----------------------------------------------------------


def test_numbers_need_not_follow_arrivals() -> None:
    """An unsorted trace keeps its numbers: the result is in their order, served by arrival."""
    specs = [make_spec(2, 0, output_tokens=1), make_spec(0, 5), make_spec(1, 50)]
    run = simulate_both_ways(specs)
    assert column(run, "request_id") == [0, 1, 2]
    assert column(run, "arrival_us") == [5, 50, 0]
    assert column(run, "scheduled_us") == [10, 50, 0]


@pytest.mark.parametrize("async_scheduling", [False, True])
@pytest.mark.parametrize("model", [BlackboxModel, UnannouncedModel])
def test_work_follows_changes_not_tokens(
    model: type[BlackboxModel], async_scheduling: bool
) -> None:
    """Ten times the tokens are not more events, in runs of equal and of unequal steps."""
    latency = model((0, 0, 0), (10, 0, 0))
    events = {}
    for output_tokens in (100, 1000):
        specs = [make_spec(n, 7 * n, output_tokens=output_tokens + n) for n in range(6)]
        simulation = make_simulation(
            specs,
            latency=latency,
            max_model_len=5000,
            num_kv_blocks=9000,
            async_scheduling=async_scheduling,
        )
        events[output_tokens] = simulation.run().counters[0].num_events
    assert events[1000] == events[100] < 50
