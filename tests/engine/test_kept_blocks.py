"""Blocks kept without a seat: whose are taken when nobody can go on."""

from __future__ import annotations

import pytest

from blis_sim.engine.request import Request, State
from blis_sim.engine.scheduler import Scheduler

from .builders import make_request, make_scheduler


def place(scheduler: Scheduler, number: int, priority: int, prompt_tokens: int) -> Request:
    """Put a request into the queue whose KV cache has come."""
    request = make_request(request_id=number, priority=priority, prompt_tokens=prompt_tokens)
    scheduler.kv.register(request)
    assert scheduler.kept.reserve(request, 0) is not None
    scheduler.kept.place(request)
    request.state = State.WAITING
    scheduler.waiting.push(request)
    return request


@pytest.mark.parametrize(
    ("policy", "expected"), [("fcfs", [3, 2, 1]), ("priority", [1, 3, 2]), ("sjf", [2, 1, 3])]
)
def test_the_last_in_the_queue_gives_way_first(policy: str, expected: list[int]) -> None:
    """In the order of the policy, whoever came first."""
    scheduler = make_scheduler(policy=policy)
    placed = [place(scheduler, 1, 5, 8), place(scheduler, 2, 1, 9), place(scheduler, 3, 3, 7)]
    gave_way: list[int] = []
    while scheduler.kept.take_back(0):
        gave_way += [
            r.request_id for r in placed if not r.is_placed and r.request_id not in gave_way
        ]
    assert gave_way == expected
