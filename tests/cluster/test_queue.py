"""The gateway's queue without tenants."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.cluster.asked import Asked
from blis_sim.cluster.queue import GatewayQueue, make_queue
from blis_sim.cluster.sorted_queue import SortedQueue, by_priority
from blis_sim.config.cluster import GatewaySettings
from tests.cluster.fake_candidates import make_asked
from tests.engine.builders import fixed


def queue_of(order: str = "fcfs", ttft_limit_ms: float | None = None, **more: Any) -> GatewayQueue:
    settings = GatewaySettings.model_validate(
        {"max_outstanding_per_instance": 1, "queue_order": order} | more
    )
    return make_queue(settings, ttft_limit_ms)


def drain(queue: GatewayQueue) -> list[int]:
    """Empty a queue from its head, and check what it says of itself meanwhile."""
    order: list[int] = []
    for left in range(len(queue), 0, -1):
        assert len(queue) == left
        head = queue.peek()
        assert queue.pop() is head
        order.append(head.request_id)
    assert len(queue) == 0
    return order


def test_fcfs_goes_by_arrival_then_number() -> None:
    """Neither the order of pushes nor priorities count."""
    queue = queue_of()
    for number, arrival_us, priority in ((3, 10, 0), (2, 10, 5), (1, 30, 0), (0, 20, 0)):
        queue.push(make_asked(request_id=number, arrival_us=arrival_us, priority=priority))
    assert drain(queue) == [2, 3, 0, 1]


def test_priority_goes_by_urgency_then_arrival_then_number() -> None:
    """The lower number is more urgent."""
    queue = queue_of("priority")
    for number, arrival_us, priority in ((5, 9, 1), (4, 9, 1), (3, 8, 1), (2, 9, -1), (1, 0, 2)):
        queue.push(make_asked(request_id=number, arrival_us=arrival_us, priority=priority))
    assert drain(queue) == [2, 3, 4, 5, 1]


def test_slo_deadline_goes_by_arrival_plus_the_limit_of_the_class() -> None:
    """Deadlines: 0 at 300 ms, 1 at 150, 2 at 50, 3 at 120 by the common limit, 4 too."""
    queue = queue_of("slo-deadline", 100, ttft_limits_ms={"slow": 300, "fast": 30})
    for number, (arrival_ms, slo_class) in enumerate(
        [(0, "slow"), (120, "fast"), (20, "fast"), (20, "other"), (20, None)]
    ):
        queue.push(
            make_asked(request_id=number, arrival_us=1000 * arrival_ms, slo_class=slo_class)
        )
    assert drain(queue) == [2, 3, 4, 1, 0]


@pytest.mark.parametrize("common_ms", [None, float("inf")])
def test_classes_without_a_limit_come_last(common_ms: float | None) -> None:
    """Among themselves by arrival and number."""
    queue = queue_of("slo-deadline", common_ms, ttft_limits_ms={"fast": 1e6})
    for number, (arrival_us, slo_class) in enumerate(
        [(5, None), (4, "other"), (4, None), (10**9, "fast")]
    ):
        queue.push(make_asked(request_id=number, arrival_us=arrival_us, slo_class=slo_class))
    assert drain(queue) == [3, 1, 2, 0]


def test_slo_ttft_alone_is_limit_enough() -> None:
    """One limit for all is first come, first served."""
    queue = queue_of("slo-deadline", 0.0015)  # 1.5 us
    for number, arrival_us in enumerate([7, 5, 6]):
        queue.push(make_asked(request_id=number, arrival_us=arrival_us))
    assert drain(queue) == [1, 2, 0]


RANKS = {
    "fcfs": lambda asked: 0,
    "priority": lambda asked: asked.priority,
    "slo-deadline": lambda asked: (
        asked.arrival_us + 3000 if asked.slo_class == "fast" else float("inf")
    ),
}


@pytest.mark.parametrize("order", list(RANKS))
@fixed
@given(
    operations=st.lists(
        st.tuples(st.sampled_from(["push", "push", "remove", "pop"]), st.integers(0, 19)),
        max_size=80,
    )
)
def test_any_operations_leave_a_sorted_list(order: str, operations: list[tuple[str, int]]) -> None:
    """Pushes, removals anywhere and pops agree with a plain sorted list."""
    pool = [
        make_asked(
            request_id=number,
            arrival_us=1000 * (number % 7),
            priority=number % 4,
            slo_class="fast" if number % 3 else None,
        )
        for number in range(20)
    ]
    limits = {"ttft_limits_ms": {"fast": 3}} if order == "slo-deadline" else {}
    queue = queue_of(order, **limits)
    model: list[Asked] = []
    for operation, number in operations:
        asked = pool[number]
        if operation == "pop":
            if model:
                assert queue.peek() is model[0]
                assert queue.pop() is model.pop(0)
        elif asked in model:
            if operation == "remove":
                queue.remove(number)
                model.remove(asked)
        elif operation == "push":
            queue.push(asked)
            model.append(asked)
        model.sort(key=lambda each: (RANKS[order](each), each.arrival_us, each.request_id))
        assert len(queue) == len(model)
    assert drain(queue) == [asked.request_id for asked in model]


def test_removed_requests_do_not_pile_up() -> None:
    """Clients that time out behind an urgent request leave nothing behind for ever."""
    queue = SortedQueue(by_priority)
    queue.push(make_asked(request_id=0, priority=-1))
    for number in range(1, 1000):
        queue.push(make_asked(request_id=number))
        queue.remove(number)
    assert len(queue._heap) < 50
    assert drain(queue) == [0]


def test_the_order_outlives_many_removals() -> None:
    """Pushed from the last to the first, two of three leave."""
    queue = SortedQueue(by_priority)
    for number in reversed(range(300)):
        queue.push(make_asked(request_id=number, priority=number % 7))
    for number in range(300):
        if number % 3:
            queue.remove(number)
    assert drain(queue) == sorted(range(0, 300, 3), key=lambda number: (number % 7, number))


@pytest.mark.parametrize("fair_share", [False, True])
def test_only_who_waits_can_be_removed(fair_share: bool) -> None:
    """Another number is a defect of the caller."""
    queue = queue_of(fair_share=fair_share)
    queue.push(make_asked(request_id=1))
    with pytest.raises(KeyError, match="2"):
        queue.remove(2)
    assert drain(queue) == [1]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"queue_order": "fcfs", "fair_share": False, "queue_limit": None},
        {"max_outstanding_per_instance": 1, "queue_limit": 0},
        {
            "max_outstanding_per_instance": 8,
            "queue_limit": 100,
            "fair_share": True,
            "tenant_weights": {"a": 0.5},
            "queue_order": "slo-deadline",
            "ttft_limits_ms": {"a": 100},
        },
    ],
)
def test_a_new_queue_is_empty(settings: dict[str, Any]) -> None:
    """Whatever its order, and where nothing will ever wait in it."""
    assert len(make_queue(GatewaySettings.model_validate(settings), None)) == 0
