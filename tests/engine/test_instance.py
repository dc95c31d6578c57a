"""One instance on the clock, with every time computed by hand.

A step lasts 10 us whatever is in it, unless a test says otherwise. Each case is run coalesced
and step by step.
"""

from __future__ import annotations

from typing import Any

import pytest

from blis_sim.latency.blackbox import BlackboxModel
from blis_sim.metrics.records import Status

from .builders import (
    UnannouncedModel,
    column,
    gaps,
    make_blackbox,
    make_simulation,
    make_spec,
    rows,
    serve,
    simulate_both_ways,
)

# -- steps --------------------------------------------------------------------


def test_the_first_token_is_the_end_of_the_prefill() -> None:
    """Arrival 7: first token at 17, two more steps to the third: 27, 37."""
    run = serve({"arrival_us": 7, "output_tokens": 3})
    (row,) = rows(run)
    assert (row.enqueued_us, row.scheduled_us) == (7, 7)
    assert (row.first_token_us, row.last_token_us) == (17, 37)
    assert gaps(run) == {10: 2}
    assert (run.start_us, run.end_us) == (7, 37)


def test_steps_cost_what_is_in_them() -> None:
    """100 + 2 per prefill token + 5 per decode: 100 + 2 * 10 = 120, then 105 and 105."""
    run = serve({"output_tokens": 3}, latency=make_blackbox(100, 2, 5))
    assert (column(run, "first_token_us"), column(run, "last_token_us")) == ([120], [330])
    assert run.counters[0].busy_us == 330


def test_a_chunked_prompt_yields_with_its_last_chunk() -> None:
    """Budget 8, prompt 20: 100 + 16, 100 + 16, 100 + 8 end at 116, 232 and 340 us."""
    run = serve(
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
    run = serve(
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
    run = serve(
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
    run = serve({"output_tokens": 6}, {"arrival_us": arrival_us, "output_tokens": 2})
    assert column(run, "scheduled_us") == [0, scheduled_us]
    assert column(run, "last_token_us") == [60, scheduled_us + 20]


def test_an_idle_engine_starts_at_once() -> None:
    """Idle from 20 to 1003: the next request does not wait for any grid of steps."""
    run = serve({"output_tokens": 2}, {"arrival_us": 1003, "output_tokens": 2})
    assert column(run, "scheduled_us") == [0, 1003]
    assert column(run, "last_token_us") == [20, 1023]
    assert run.counters[0].busy_us == 40
    assert run.counters[0].running_us == 40


@pytest.mark.parametrize("model", [BlackboxModel, UnannouncedModel])
def test_tokens_are_counted_by_the_second_they_come_in(model: type[BlackboxModel]) -> None:
    """Steps of 400,000 us: tokens at 0.4, 0.8 | 1.2, 1.6 | 2.0, 2.4 s."""
    latency = model((0, 0, 0), (400_000, 0, 0))
    run = serve({"output_tokens": 6}, latency=latency)
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
    run = serve({"arrival_us": arrival_us, "output_tokens": 7}, latency=latency)
    assert run.token_seconds.tolist() == [0, 1]
    assert run.token_counts.tolist() == counts


@pytest.mark.parametrize("model", [BlackboxModel, UnannouncedModel])
def test_steps_longer_than_a_second_leave_seconds_without_tokens(
    model: type[BlackboxModel],
) -> None:
    """Steps of 2.5 s: tokens at 2.5, 5.0 and 7.5 s."""
    run = serve({"output_tokens": 3}, latency=model((0, 0, 0), (2_500_000, 0, 0)))
    assert run.token_seconds.tolist() == [2, 5, 7]


# -- ends ---------------------------------------------------------------------


def test_no_output_ends_with_the_prefill() -> None:
    """N = 0: first = last = end of the prefill, no token and no gap; N = 1: one token."""
    run = serve({"output_tokens": 0}, {"output_tokens": 1}, latency=make_blackbox(alpha=(0, 0, 4)))
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
    run = serve(more, max_model_len=20)
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
    run = serve(more, {"output_tokens": 1}, max_model_len=20)
    dropped, served = rows(run)
    assert (dropped.status, served.status) == (Status.DROPPED, Status.COMPLETED)
    assert run.reasons[dropped.reason] == reason
    assert dropped.scheduled_us is dropped.first_token_us is None
    assert served.last_token_us == 10


# -- frontend and client time -------------------------------------------------


def test_the_frontend_delays_the_request_not_the_engine() -> None:
    """int(5 + 1.5 * 10) = 20 us: it enters at 23 and starts at once on the idle engine."""
    run = serve({"arrival_us": 3}, latency=make_blackbox(alpha=(5, 1.5, 0)))
    (row,) = rows(run)
    assert (row.arrival_us, row.enqueued_us, row.scheduled_us) == (3, 23, 23)
    assert row.first_token_us == 33


def test_a_short_prompt_overtakes_in_the_frontend() -> None:
    """Prompts of 100 and 10 tokens at 0 and 30 us enter at 100 and 40."""
    run = serve(
        {"prompt_tokens": 100, "output_tokens": 1},
        {"prompt_tokens": 10, "output_tokens": 1, "arrival_us": 30},
        latency=make_blackbox(alpha=(0, 1, 0)),
    )
    assert column(run, "scheduled_us") == [100, 40]


def test_output_processing_is_client_time() -> None:
    """The k-th token, out of the engine at 10 k, is seen at 10 k + 3 k: gaps of 13 us.

    The engine is done at 50 and idle from then on.
    """
    run = serve({"output_tokens": 5}, latency=make_blackbox(alpha=(0, 0, 3)))
    (row,) = rows(run)
    assert (row.first_token_us, row.last_token_us) == (13, 65)
    assert gaps(run) == {13: 4}
    assert run.counters[0].busy_us == 50
    assert run.end_us == 65


# -- shared prefixes ----------------------------------------------------------


def test_a_cached_prefix_shortens_the_prefill() -> None:
    """12 shared of 16 tokens, 1 us a token: 10 + 16 us for the first, 10 + 4 for the next."""
    shared: dict[str, Any] = {
        "prompt_tokens": 16,
        "output_tokens": 1,
        "prefix_group": "g",
        "prefix_tokens": 12,
    }
    run = serve(shared, {**shared, "arrival_us": 100}, latency=make_blackbox(10, 1))
    assert column(run, "last_token_us") == [26, 114]
    assert column(run, "cached_tokens") == [0, 12]


def test_a_follow_up_finds_prompt_and_answer() -> None:
    """Round 0: 6 + 7 tokens, 12 computed, 3 blocks; round 1 hits 12 of its 20."""
    run = serve(
        {"prompt_tokens": 6, "output_tokens": 7, "session_id": "s"},
        {"prompt_tokens": 20, "arrival_us": 500, "session_id": "s", "round": 1},
    )
    assert column(run, "cached_tokens") == [0, 12]


# -- policies -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("fcfs", [20, 30, 40, 50]), ("priority", [20, 50, 30, 40]), ("sjf", [20, 40, 50, 30])],
)
def test_policies_order_the_queue(policy: str, expected: list[int]) -> None:
    """One seat, three waiting from 1, 2, 3 us with urgencies 2, 0, 1 and prompts 20, 30, 10."""
    run = serve(
        {"output_tokens": 2},
        {"arrival_us": 1, "prompt_tokens": 20, "priority": 2, "output_tokens": 1},
        {"arrival_us": 2, "prompt_tokens": 30, "priority": 0, "output_tokens": 1},
        {"arrival_us": 3, "prompt_tokens": 10, "priority": 1, "output_tokens": 1},
        policy=policy,
        max_num_seqs=1,
    )
    assert column(run, "last_token_us") == expected


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
