from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from blis_sim.errors import InvariantError
from blis_sim.metrics.conservation import check_conservation, conservation
from blis_sim.metrics.records import ABSENT, RunData, Status
from tests.metrics.builders import Row, dropped, make_run, served

STATES = [status.name.lower() for status in Status]


def make_sound_run() -> RunData:
    """A run with a request in most of the states; breaks no law."""
    return make_run(
        [
            served(100, gaps_us=[10, 20, 10], num_preemptions=2, cached_tokens=3),
            served(200, gaps_us=[30], length_capped=1, prompt_tokens=20),
            served(200, output_tokens=0),
            dropped(300),
            served(400, ttft_us=7, gaps_us=[10], status=Status.ABORTED),
            Row(arrival_us=500, enqueued_us=510, status=Status.TIMED_OUT),
            Row(arrival_us=600, enqueued_us=610, status=Status.WAITING),
            served(600, gaps_us=[40], status=Status.WAITING, num_preemptions=1),
            Row(arrival_us=650, enqueued_us=660, scheduled_us=670, status=Status.RUNNING),
            Row(arrival_us=700, status=Status.IN_FRONTEND),
        ],
        end_us=2_000,
    )


def test_sound_run_passes() -> None:
    """A run that breaks no law is accepted; so is one without requests."""
    check_conservation(make_sound_run(), num_injected=10)
    check_conservation(make_run([]))


def test_counts_by_state() -> None:
    """Each state is counted, also at 0, and together they are what was injected."""
    counts = conservation(make_sound_run())
    assert counts == {
        "injected": 10,
        "completed": 3,
        "aborted": 1,
        "timed_out": 1,
        "rejected": 0,
        "dropped": 1,
        "in_frontend": 1,
        "in_gateway": 0,
        "waiting": 2,
        "running": 1,
        "in_transfer": 0,
        "waiting_preempted": 1,
        "completed_length_capped": 1,
    }
    assert sum(counts[state] for state in STATES) == counts["injected"]


def set_value(column: str, row: int, value: int) -> Callable[[RunData], None]:
    def change(run: RunData) -> None:
        getattr(run.requests, column)[row] = value

    return change


def set_counter(name: str, value: int) -> Callable[[RunData], None]:
    return lambda run: setattr(run.counters[0], name, value)


def cut_column(run: RunData) -> None:
    run.requests.tenant = run.requests.tenant[:-1]


def lose_a_gap(run: RunData) -> None:
    run.itl_count[0] -= 1


def stretch_a_gap(run: RunData) -> None:
    run.itl_us[-1] += 1


def unsort_gaps(run: RunData) -> None:
    run.itl_us, run.itl_count = run.itl_us[::-1], run.itl_count[::-1]


def cut_gap_counts(run: RunData) -> None:
    run.itl_count = run.itl_count[:-1]


def lose_a_second(run: RunData) -> None:
    run.token_counts[0] -= 1


def lose_generated_tokens(run: RunData) -> None:
    run.counters[0].num_generated_tokens -= 1
    run.token_counts[0] -= 1


def start_late(run: RunData) -> None:
    run.start_us += 1


def end_early(run: RunData) -> None:
    run.end_us = 650


@pytest.mark.parametrize(
    ("change", "law"),
    [
        (set_value("status", 0, 10), "request 0: status must be one of the ten"),
        (set_value("request_id", 3, 2), "request 2: request_id must ascend"),
        (set_value("instance", 1, 1), "request 1: instance must be < 1"),
        (set_value("output_tokens", 3, -1), "request 3: output_tokens must be >= 0"),
        (set_value("enqueued_us", 5, 499), "request 5: enqueued_us must be >= arrival_us"),
        (set_value("scheduled_us", 0, 99), "request 0: scheduled_us must be >= enqueued_us"),
        (set_value("first_token_us", 1, 199), "request 1: first_token_us must be >= scheduled"),
        (set_value("last_token_us", 1, 299), "request 1: last_token_us must be >= first_token"),
        (set_value("first_token_us", 5, 509), "request 5: first_token_us must be >= scheduled"),
        (set_value("enqueued_us", 0, ABSENT), "a completed request must have enqueued_us"),
        (set_value("last_token_us", 1, ABSENT), "a completed request must have last_token_us"),
        (set_value("first_token_us", 4, ABSENT), "with tokens must have first_token_us"),
        (set_value("first_token_us", 8, 700), "without tokens must not have first_token_us"),
        (set_value("last_token_us", 2, 301), "one token must be the first and the last"),
        (set_value("scheduled_us", 3, 300), "dropped request must not have been scheduled"),
        (set_value("output_tokens", 0, 3), "sum of N - 1 over requests"),
        (set_value("num_preemptions", 0, 1), "num_preemptions must be the sum over requests"),
        (set_value("cached_tokens", 0, 4), "prefix_hits_tokens must be the sum over requests"),
        (set_value("recached_tokens", 0, 4), "recached_tokens must be the sum over requests"),
        (set_counter("peak_kv_blocks", 101), "peak_kv_blocks must be <= num_kv_blocks"),
        (set_counter("prefix_queries_tokens", 2), "must be <= prefix_queries_tokens"),
        (cut_column, "column tenant must have 10 entries; got 9"),
        (lose_a_gap, "ITL gaps must be the sum of N - 1"),
        (stretch_a_gap, "ITL gaps must add up to last - first token"),
        (unsort_gaps, "ITL histogram must ascend"),
        (cut_gap_counts, "itl_us and itl_count must have one length"),
        (lose_a_second, "tokens by second must add up"),
        (lose_generated_tokens, "tokens generated must be >= tokens received"),
        (start_late, "start_us must be the first arrival"),
        (end_early, "tokens must leave the engine by the end"),
    ],
)
def test_each_law_is_enforced(change: Callable[[RunData], None], law: str) -> None:
    """Breaking one law of a sound run is an InvariantError that names the law."""
    run = make_sound_run()
    change(run)
    with pytest.raises(InvariantError, match=law):
        check_conservation(run)


def test_lost_request() -> None:
    """A request that was injected and never recorded is noticed."""
    with pytest.raises(InvariantError, match=r"must be those injected \(11\); got 10"):
        check_conservation(make_sound_run(), num_injected=11)


def test_token_in_flight_to_the_client_may_arrive_after_the_horizon() -> None:
    """Output processing delays what the client sees, not what the engine did."""
    run = make_run([served(0, ttft_us=100, gaps_us=[10])], end_us=95)
    run.output_token_us = 8
    check_conservation(run)
    run.output_token_us = 7
    with pytest.raises(InvariantError, match="by the end"):
        check_conservation(run)


def test_gap_sum_needs_the_last_tokens() -> None:
    """Where an unfinished request has no last token, only the number of gaps is checked."""
    run = make_sound_run()
    run.requests.last_token_us[4] = ABSENT
    run.itl_us[-1] += 1
    check_conservation(run)
    assert np.count_nonzero(run.requests.status == Status.ABORTED) == 1
