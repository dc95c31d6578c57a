"""The waiting queues against plain sorted lists."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.config.engine import SchedulingPolicy
from blis_sim.engine.request import Request
from blis_sim.engine.waiting import WaitingQueue, make_waiting_queue

from .builders import fixed, make_request


def drain(queue: WaitingQueue) -> list[int]:
    """Empty a queue from its head."""
    order: list[int] = []
    while queue.requests:
        head = queue.head()
        queue.remove(head)
        order.append(head.request_id)
    return order


def test_fcfs_keeps_the_order_of_entry() -> None:
    """Who entered first is first, whatever its arrival, number or priority."""
    queue = make_waiting_queue(SchedulingPolicy.FCFS)
    for number, priority in ((4, 2), (1, 0), (3, 1)):
        queue.push(make_request(request_id=number, priority=priority))
    assert queue.is_fcfs
    assert drain(queue) == [4, 1, 3]


def test_fcfs_victims_return_to_the_front_in_running_order() -> None:
    """Victims are taken from the back of the running list, so the last one stands first."""
    queue = make_waiting_queue(SchedulingPolicy.FCFS)
    queue.push(make_request(request_id=9))
    running = [make_request(request_id=number) for number in (5, 6, 7)]
    for victim in reversed(running):
        queue.push_preempted(victim)
    assert drain(queue) == [5, 6, 7, 9]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        # by priority, then arrival, then number
        (SchedulingPolicy.PRIORITY, [3, 1, 2, 0]),
        # by prompt length, then arrival, then number
        (SchedulingPolicy.SJF, [2, 0, 3, 1]),
    ],
)
def test_sorted_policies_order_by_rank_arrival_number(
    policy: SchedulingPolicy, expected: list[int]
) -> None:
    """The rank decides, ties go to the earlier arrival, then to the smaller number."""
    queue = make_waiting_queue(policy)
    requests = [
        make_request(request_id=0, arrival_us=50, prompt_tokens=7, priority=1),
        make_request(request_id=1, arrival_us=20, prompt_tokens=9, priority=1),
        make_request(request_id=2, arrival_us=20, prompt_tokens=7, priority=1),
        make_request(request_id=3, arrival_us=90, prompt_tokens=8, priority=0),
    ]
    for request in reversed(requests):
        queue.push(request)
    assert not queue.is_fcfs
    assert drain(queue) == expected


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["push", "preempted", "remove", "head"]), st.integers(0, 19)),
    max_size=60,
)


@pytest.mark.parametrize("policy", list(SchedulingPolicy))
@fixed
@given(operations=OPERATIONS)
def test_any_operations_leave_a_sorted_list(
    policy: SchedulingPolicy, operations: list[tuple[str, int]]
) -> None:
    """Pushes, returns, removals anywhere and looks at the head agree with a plain list."""
    pool = [
        make_request(
            request_id=number,
            arrival_us=number % 3,
            prompt_tokens=1 + number % 5,
            priority=number % 4,
        )
        for number in range(20)
    ]
    queue = make_waiting_queue(policy)
    model: list[Request] = []
    for operation, number in operations:
        request = pool[number]
        if operation == "head":
            if model:
                assert queue.head() is model[0]
        elif request in model:
            if operation == "remove":
                queue.remove(request)
                model.remove(request)
        elif operation == "push":
            queue.push(request)
            model.append(request)
        elif operation == "preempted":
            queue.push_preempted(request)
            model.insert(0, request)
        if policy != SchedulingPolicy.FCFS:
            model.sort(key=lambda r: rank(policy, r))
        assert set(queue.requests) == {request.request_id for request in model}
    assert drain(queue) == [request.request_id for request in model]


def rank(policy: SchedulingPolicy, request: Request) -> tuple[int, int, int]:
    spec = request.spec
    first = spec.priority if policy == SchedulingPolicy.PRIORITY else spec.prompt_tokens
    return first, spec.arrival_us, spec.request_id
