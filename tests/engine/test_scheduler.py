"""Batch formation, pass by pass: who gets how many tokens, and who gives way."""

from __future__ import annotations

from typing import Any

import pytest

from blis_sim.engine.batch import ScheduledBatch
from blis_sim.engine.request import State
from blis_sim.engine.scheduler import Scheduler

from .builders import enqueue, make_scheduler, run_pass


def shape(batch: ScheduledBatch | None) -> tuple[int, list[tuple[int, int]]]:
    """Return (decodes, [(context, new tokens) of each prefill])."""
    assert batch is not None
    return batch.num_decodes, [tuple(chunk) for chunk in batch.prefills]


def running(scheduler: Scheduler) -> list[int]:
    return [request.request_id for request in scheduler.running.values()]


def waiting(scheduler: Scheduler) -> list[int]:
    """Return the numbers in the queue from its head, leaving it as it is."""
    queue, requests = scheduler.waiting, []
    while queue.requests:
        requests.append(queue.head())
        queue.remove(requests[-1])
    for request in requests:
        queue.push(request)
    return [request.request_id for request in requests]


# -- budget and seats ---------------------------------------------------------


def test_simultaneous_arrivals_form_one_batch() -> None:
    """All prompts that fit are prefilled together, then decode together."""
    scheduler = make_scheduler()
    for number, prompt_tokens in enumerate((5, 7, 3)):
        enqueue(scheduler, request_id=number, prompt_tokens=prompt_tokens)
    assert shape(run_pass(scheduler)) == (0, [(0, 5), (0, 7), (0, 3)])
    assert shape(run_pass(scheduler)) == (3, [])


def test_a_prompt_is_cut_to_the_budget() -> None:
    """Budget 8 and a prompt of 20: chunks of 8, 8 and 4, then decodes."""
    scheduler = make_scheduler(max_num_batched_tokens=8)
    enqueue(scheduler, prompt_tokens=20, output_tokens=3)
    shapes = [shape(run_pass(scheduler)) for _ in range(5)]
    assert shapes == [(0, [(0, 8)]), (0, [(8, 8)]), (0, [(16, 4)]), (1, []), (1, [])]
    assert run_pass(scheduler) is None


def test_running_requests_come_before_waiting_ones() -> None:
    """Budget 10: 6 tokens of the first, 4 of the second; then 2 and 8, not the third."""
    scheduler = make_scheduler(max_num_batched_tokens=10)
    for number, prompt_tokens in enumerate((6, 6, 20)):
        enqueue(scheduler, request_id=number, prompt_tokens=prompt_tokens, output_tokens=9)
    assert shape(run_pass(scheduler)) == (0, [(0, 6), (0, 4)])
    assert shape(run_pass(scheduler)) == (1, [(4, 2), (0, 7)])
    assert shape(run_pass(scheduler)) == (2, [(7, 8)])


def test_the_threshold_caps_every_prefill() -> None:
    """With a threshold of 4 three prompts share a step that one would have filled."""
    scheduler = make_scheduler(max_num_batched_tokens=10, long_prefill_token_threshold=4)
    for number in range(3):
        enqueue(scheduler, request_id=number, prompt_tokens=9)
    assert shape(run_pass(scheduler)) == (0, [(0, 4), (0, 4), (0, 2)])
    assert shape(run_pass(scheduler)) == (0, [(4, 4), (4, 4), (2, 2)])


def test_seats_limit_the_running_list() -> None:
    """Two seats: the third waits until one of them ends, and is admitted a step later."""
    scheduler = make_scheduler(max_num_seqs=2)
    for number, output_tokens in enumerate((1, 3, 5)):
        enqueue(scheduler, request_id=number, output_tokens=output_tokens)
    run_pass(scheduler)
    assert (running(scheduler), waiting(scheduler)) == ([1], [2])
    run_pass(scheduler)
    assert running(scheduler) == [1, 2]


def test_without_chunking_a_prompt_waits_for_room() -> None:
    """Budget 20 less one decode: a prompt of 20 stops admission, also of a shorter one."""
    scheduler = make_scheduler(
        enable_chunked_prefill=False, max_num_batched_tokens=20, max_model_len=20
    )
    enqueue(scheduler, request_id=0, prompt_tokens=5, output_tokens=3)
    run_pass(scheduler)
    enqueue(scheduler, request_id=1, prompt_tokens=20)
    enqueue(scheduler, request_id=2, prompt_tokens=3)
    assert shape(run_pass(scheduler)) == (1, [])
    assert waiting(scheduler) == [1, 2]
    run_pass(scheduler)
    assert shape(run_pass(scheduler)) == (0, [(0, 20)])


def test_an_empty_scheduler_forms_nothing() -> None:
    """None, and nobody was preempted for it."""
    scheduler = make_scheduler()
    assert run_pass(scheduler) is None
    assert not scheduler.has_preempted


# -- admission for blocks -----------------------------------------------------


def test_the_head_is_not_overtaken_for_blocks() -> None:
    """5 blocks of 4, 3 of them taken: a head that needs 3 stops a follower that needs 1."""
    scheduler = make_scheduler(num_kv_blocks=5)
    enqueue(scheduler, request_id=0, prompt_tokens=9)
    run_pass(scheduler)
    enqueue(scheduler, request_id=1, prompt_tokens=12)
    enqueue(scheduler, request_id=2, prompt_tokens=2)
    assert shape(run_pass(scheduler)) == (1, [])
    assert scheduler.head_needs_blocks
    assert waiting(scheduler) == [1, 2]


@pytest.mark.parametrize(("reserve", "is_admitted"), [(False, True), (True, False)])
def test_reservation_asks_for_the_whole_sequence(reserve: bool, is_admitted: bool) -> None:
    """2 of 5 blocks are free: a chunk of 8 tokens fits, the prompt of 16 does not."""
    scheduler = make_scheduler(
        num_kv_blocks=5, long_prefill_token_threshold=8, reserve_full_sequence=reserve
    )
    enqueue(scheduler, request_id=0, prompt_tokens=10)
    run_pass(scheduler)
    run_pass(scheduler)
    enqueue(scheduler, request_id=1, prompt_tokens=16)
    run_pass(scheduler)
    assert (running(scheduler) == [0, 1]) is is_admitted


def test_reserved_blocks_are_taken_chunk_by_chunk() -> None:
    """Admission looks at the whole sequence but takes only what the chunk needs."""
    scheduler = make_scheduler(
        num_kv_blocks=5, max_num_batched_tokens=8, reserve_full_sequence=True
    )
    enqueue(scheduler, prompt_tokens=20)
    run_pass(scheduler)
    assert scheduler.kv.num_used == 2


def test_a_hit_saves_tokens_and_counts_once() -> None:
    """Admitted after a request with the same 8 tokens, only the rest is computed."""
    scheduler = make_scheduler()
    for number in range(2):
        enqueue(scheduler, request_id=number, prompt_tokens=11, prefix_group="g", prefix_tokens=8)
    assert shape(run_pass(scheduler)) == (0, [(0, 11), (8, 3)])
    assert (scheduler.prefix_queries_tokens, scheduler.prefix_hits_tokens) == (22, 8)


# -- preemption ---------------------------------------------------------------


def crowded(**settings: Any) -> Scheduler:
    """Three requests of 4, 4 and 4 tokens that fill 3 blocks of 4; each needs one more."""
    scheduler = make_scheduler(num_kv_blocks=3, **settings)
    for number in range(3):
        enqueue(
            scheduler,
            request_id=number,
            arrival_us=number,
            prompt_tokens=4,
            output_tokens=3,
            priority=(1, 2, 0)[number],
        )
    assert shape(run_pass(scheduler)) == (0, [(0, 4)] * 3)
    return scheduler


def test_the_last_of_the_running_list_gives_way() -> None:
    """One block short for request 0: 2 goes; short again for 1: 1 goes itself."""
    scheduler = crowded()
    batch = run_pass(scheduler)
    assert shape(batch) == (1, [])
    assert batch is not None
    assert batch.num_victims == 2
    assert (running(scheduler), waiting(scheduler)) == ([0], [1, 2])
    assert scheduler.num_preemptions == 2


def test_nobody_is_admitted_in_a_pass_that_preempts() -> None:
    """A chunk of the head would fit into the block that is left; it gets it a pass later."""
    scheduler = crowded(long_prefill_token_threshold=4, enable_prefix_caching=False)
    assert shape(run_pass(scheduler)) == (1, [])
    assert (waiting(scheduler), scheduler.kv.num_free) == ([1, 2], 1)
    assert shape(run_pass(scheduler)) == (1, [(0, 4)])


def test_a_victim_is_computed_anew_and_samples_nothing_twice() -> None:
    """Prompt and generated tokens are recomputed; the step yields its second token."""
    scheduler = crowded(enable_prefix_caching=False)
    victim = scheduler.running[1]
    run_pass(scheduler)
    assert (victim.num_computed_tokens, victim.num_generated) == (0, 1)
    assert victim.state is State.WAITING
    run_pass(scheduler)  # request 0 has its last token
    batch = run_pass(scheduler)
    assert shape(batch) == (0, [(0, 5)])
    assert victim.num_generated == 2


def test_priority_takes_from_the_least_urgent() -> None:
    """Of priorities 1, 2 and 0 request 1 gives way first, then request 0 itself.

    Placing 0 takes the block of 1, which is a block for 0. Placing 2 finds none: 0 gives way.
    """
    scheduler = crowded(policy="priority")
    assert shape(run_pass(scheduler)) == (1, [])
    assert (running(scheduler), waiting(scheduler)) == ([2], [0, 1])


def test_a_request_that_gives_way_itself_ends_the_pass() -> None:
    """Running 0, 1, 2: request 1 finds no block and is the least urgent, so it goes.

    2 gets nothing in this pass; it keeps its seat and blocks and decodes with 0 in the next.
    """
    scheduler = make_scheduler(num_kv_blocks=5, policy="priority")
    enqueue(scheduler, request_id=0, prompt_tokens=5, priority=0)
    enqueue(scheduler, request_id=1, prompt_tokens=3, priority=5)
    run_pass(scheduler)
    enqueue(scheduler, request_id=2, prompt_tokens=5, priority=1)
    assert shape(run_pass(scheduler)) == (2, [(0, 5)])
    assert (running(scheduler), scheduler.kv.num_free) == ([0, 1, 2], 0)
    assert shape(run_pass(scheduler)) == (1, [])
    assert running(scheduler) == [0, 2]
    assert shape(run_pass(scheduler)) == (2, [])


def test_the_budget_of_a_victim_returns() -> None:
    """A victim that had its token in this pass leaves it to those behind it.

    Budget 6, blocks of 4, a pool of 13. Request 0 computes 20 tokens in passes 1 to 4, 1 its
    4 in pass 4; then both decode and 2 takes the other 4 tokens of each pass:

    ::

        after pass     4          8
        request 0     20 (5)     24 (6)     tokens computed (blocks)
        request 1      4 (1)      8 (2)
        request 2                16 (4)     12 blocks in all

    In pass 9 request 0 takes the last block, 1 finds none, and 0, the least urgent, gives way
    again: of 6 tokens 1 goes to request 1 and 5, not 4, to request 2.
    """
    scheduler = make_scheduler(num_kv_blocks=13, max_num_batched_tokens=6, policy="priority")
    more: dict[str, Any] = {"output_tokens": 50}
    enqueue(scheduler, request_id=0, prompt_tokens=20, priority=9, **more)
    for _ in range(3):
        run_pass(scheduler)
    enqueue(scheduler, request_id=1, prompt_tokens=4, **more)
    assert shape(run_pass(scheduler)) == (0, [(18, 2), (0, 4)])
    enqueue(scheduler, request_id=2, prompt_tokens=60, **more)
    for context in (0, 4, 8, 12):
        assert shape(run_pass(scheduler)) == (2, [(context, 4)])
    assert scheduler.kv.num_free == 1
    assert shape(run_pass(scheduler)) == (1, [(16, 5)])
    assert (running(scheduler), waiting(scheduler)) == ([1, 2], [0])


def test_a_lone_request_gets_the_whole_pool() -> None:
    """12 slots, prompt 4 and 9 tokens: 12 computed tokens fit, and nobody gives way."""
    scheduler = make_scheduler(num_kv_blocks=3, max_model_len=13)
    enqueue(scheduler, prompt_tokens=4, output_tokens=9)
    for _ in range(9):
        assert run_pass(scheduler) is not None
    assert run_pass(scheduler) is None
    assert scheduler.num_preemptions == 0
    assert scheduler.kv.min_free == 0


# -- asynchronous scheduling --------------------------------------------------


def test_a_request_whose_last_token_is_in_flight_is_left_alone() -> None:
    """The pass at the start of its last step gives it nothing, and it keeps its seat."""
    scheduler = make_scheduler(max_num_seqs=1)
    enqueue(scheduler, request_id=0, output_tokens=2)
    enqueue(scheduler, request_id=1)
    first = scheduler.schedule(0, None)
    second = scheduler.schedule(0, first)
    assert shape(second) == (1, [])
    assert scheduler.schedule(10, second) is None
    assert (running(scheduler), waiting(scheduler)) == ([0], [1])
    assert second is not None
    for request in second.finishing:
        scheduler.finish(request, 20)
    assert shape(scheduler.schedule(20, None)) == (0, [(0, 10)])


def test_tokens_in_flight_count_as_computed() -> None:
    """The pass at the start of a chunk schedules the next chunk."""
    scheduler = make_scheduler(max_num_batched_tokens=8)
    enqueue(scheduler, prompt_tokens=20)
    first = scheduler.schedule(0, None)
    assert shape(first) == (0, [(0, 8)])
    assert shape(scheduler.schedule(0, first)) == (0, [(8, 8)])
