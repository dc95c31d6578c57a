"""Asynchronous scheduling by hand: the next batch is fixed while a step runs."""

from __future__ import annotations

import pytest

from .builders import (
    CostlyModel,
    column,
    serve,
)


def test_async_computes_two_steps_after_entry() -> None:
    """Entering at 12, during step 2 (10 to 20), it is first computed in step 4 (30 to 40).

    Step 3 was fixed at the start of step 2. A synchronous engine takes it at 20.
    """
    requests = {"output_tokens": 8}, {"arrival_us": 12, "output_tokens": 1}
    run = serve(*requests, async_scheduling=True)
    assert column(run, "first_token_us") == [10, 40]
    assert column(run, "scheduled_us") == [0, 20]
    assert column(serve(*requests), "first_token_us") == [10, 30]


def test_async_begins_at_once_when_idle() -> None:
    """Alone, a request is served as by a synchronous engine: 10, 20, 30."""
    run = serve({"output_tokens": 3}, async_scheduling=True)
    assert (column(run, "first_token_us"), column(run, "last_token_us")) == ([10], [30])
    assert run.counters[0].num_steps == 3


def test_async_fixes_the_second_step_with_the_first() -> None:
    """Entering 1 us after an idle engine started, it still waits for the third step."""
    run = serve({"output_tokens": 8}, {"arrival_us": 1, "output_tokens": 1}, async_scheduling=True)
    assert column(run, "first_token_us") == [10, 30]


def test_async_seats_serve_the_step_after_next() -> None:
    """Two seats; request 0 ends at 20, step 3 was fixed at 10: request 2 is in step 4."""
    requests = {"output_tokens": 2}, {"output_tokens": 8}, {"output_tokens": 1}
    run = serve(*requests, async_scheduling=True, max_num_seqs=2)
    assert column(run, "last_token_us") == [20, 80, 40]
    assert column(serve(*requests, max_num_seqs=2), "last_token_us") == [20, 80, 30]


def test_async_forms_an_empty_batch_at_the_end_instead() -> None:
    """One seat: at 10 step 3 would be empty, so it is formed at 20, when request 0 ends."""
    run = serve({"output_tokens": 2}, {"output_tokens": 1}, async_scheduling=True, max_num_seqs=1)
    assert column(run, "last_token_us") == [20, 30]


@pytest.mark.parametrize(("step_us", "expected_us"), [(10, 30), (2, 9)])
def test_async_hides_scheduling_behind_the_step(step_us: int, expected_us: int) -> None:
    """A step lasts max(step time, 3 us of scheduling): three steps of 10, or of 3."""
    latency = CostlyModel((0, 0, 0), (step_us, 0, 0))
    run = serve({"output_tokens": 3}, latency=latency, async_scheduling=True)
    assert column(run, "last_token_us") == [expected_us]


def test_sync_adds_scheduling_to_the_step() -> None:
    """Three steps of 10 + 3 us."""
    run = serve({"output_tokens": 3}, latency=CostlyModel((0, 0, 0), (10, 0, 0)))
    assert column(run, "last_token_us") == [39]
