"""Fair queueing: hand-computed orders, the paper's bound, and a plain model."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.cluster.asked import Asked
from blis_sim.cluster.fair_queue import FairQueue
from blis_sim.cluster.queue import make_queue
from blis_sim.cluster.sorted_queue import by_arrival, by_priority
from blis_sim.config.cluster import GatewaySettings
from tests.cluster.fake_candidates import make_asked
from tests.engine.builders import fixed


def push(queue: FairQueue, tenants: str, *, first: int = 0, tokens: int = 10, **spec: Any) -> None:
    """Push a request of each tenant named by a letter, ``-`` for none; numbered in order."""
    for number, letter in enumerate(tenants, first):
        tenant = None if letter == "-" else letter
        queue.push(make_asked(request_id=number, prompt_tokens=tokens, tenant=tenant, **spec))


def pop(queue: FairQueue, count: int | None = None) -> str:
    """Return the tenants of the next requests."""
    popped = (queue.pop() for _ in range(len(queue) if count is None else count))
    return "".join(asked.tenant or "-" for asked in popped)


def test_equal_tenants_take_turns() -> None:
    """However many requests one of them has; no tenant is a tenant too."""
    queue = FairQueue(by_arrival, {})
    push(queue, "aaaabb--")
    assert pop(queue) == "ab-ab-aa"


def test_turns_go_by_tokens() -> None:
    """Two requests of 10 tokens for each one of 20; start tags 0 20 40 and 0 10 20 30 40.

    At equal tags the request that came first goes first.
    """
    queue = FairQueue(by_arrival, {})
    push(queue, "aaa", tokens=20)
    push(queue, "bbbbb", first=3)
    assert pop(queue) == "abbabbab"


def test_a_cost_may_be_other_than_the_prompt() -> None:
    """Start tags: a 0, 30, 60; b 0, 10, 20, 30."""
    queue = FairQueue(by_arrival, {})
    for number in range(3):
        queue.push(make_asked(request_id=number, prompt_tokens=10, tenant="a"), 30)
    push(queue, "bbbb", first=3)
    assert pop(queue) == "abbbaba"


def test_weights_are_shares() -> None:
    """Weight 2 against 1 and the 1 of a tenant that is not named."""
    queue = FairQueue(by_arrival, {"a": 2, "b": 1})
    push(queue, "aaaaaaaabbbbcccc")
    # start tags: a 0 5 10 15 ..., b and c 0 10 20 30
    assert pop(queue) == "abcaabcaabcaabca"


def test_ties_do_not_depend_on_the_rounding_of_floats() -> None:
    """At weight 0.1 a token costs 10; at 0.3 three requests cost as much as one at 0.1."""
    queue = FairQueue(by_arrival, {"a": 0.3, "b": 0.1})
    push(queue, "b")
    push(queue, "aaaaaaaaa", first=1)
    push(queue, "bbb", first=10)
    # Equal tags at 100, 200, 300: the smaller number, a's, goes first.
    assert pop(queue) == "b" + "aaa" + "ab" + "aa" + "ab" + "aa" + "b"


def test_an_idle_tenant_saves_nothing_up() -> None:
    """It takes turns from the moment it comes back, though others had everything meanwhile."""
    queue = FairQueue(by_arrival, {})
    push(queue, "a" * 20)
    assert pop(queue, 10) == "a" * 10
    push(queue, "bbbb", first=20)
    assert pop(queue, 8) == "babababa"


def test_a_tenant_that_leaves_and_returns_keeps_its_debt() -> None:
    """Splitting a load into single requests gains nothing while others wait."""
    queue = FairQueue(by_arrival, {})
    push(queue, "bbb", tokens=10)
    push(queue, "a", first=3, tokens=25)
    assert pop(queue, 2) == "ba"
    push(queue, "a", first=4, tokens=25)  # start tag 25: after b's 10 and 20
    assert pop(queue) == "bba"


def test_accounts_are_closed_when_nobody_waits() -> None:
    """A large request of the past does not count against its tenant in the next rush."""
    queue = FairQueue(by_arrival, {})
    push(queue, "a", tokens=10**6)
    assert pop(queue) == "a"
    push(queue, "aabb", first=1)
    assert pop(queue) == "abab"


def test_accounts_are_closed_when_the_last_one_is_removed() -> None:
    """A removal empties the queue as a pop does."""
    queue = FairQueue(by_arrival, {})
    push(queue, "aa", tokens=10**6)
    assert pop(queue, 1) == "a"
    queue.remove(1)
    push(queue, "aabb", first=2)
    assert pop(queue) == "abab"


def test_the_order_decides_within_a_tenant() -> None:
    """An urgent request gets ahead of its own tenant's others only."""
    queue = FairQueue(by_priority, {})
    push(queue, "aaabbb")
    push(queue, "a", first=6, priority=-5)
    assert [queue.pop().request_id for _ in range(7)] == [6, 3, 0, 4, 1, 5, 2]


def test_a_removed_request_costs_nothing() -> None:
    """The next one of its tenant takes its place at the same tag."""
    queue = FairQueue(by_arrival, {})
    push(queue, "aabbb")
    queue.remove(0)
    assert [queue.pop().request_id for _ in range(4)] == [1, 2, 3, 4]


def test_settings_make_a_fair_queue() -> None:
    """Weights, and the order within a tenant."""
    settings = GatewaySettings(
        max_outstanding_per_instance=1,
        fair_share=True,
        tenant_weights={"a": 3},
        queue_order="priority",
    )
    queue = make_queue(settings, None)
    assert isinstance(queue, FairQueue)
    push(queue, "aaabbb")
    push(queue, "b", first=6, priority=-1)
    assert [queue.pop().request_id for _ in range(7)] == [6, 0, 1, 2, 3, 4, 5]


WEIGHTS = {"a": 0.3, "b": 2.0, "c": 0.7}

REQUESTS = st.lists(
    st.tuples(st.sampled_from("abcd-"), st.integers(1, 50), st.integers(0, 2)),
    min_size=1,
    max_size=50,
)


@fixed
@given(requests=REQUESTS, pops=st.lists(st.integers(0, 3), min_size=50, max_size=50))
def test_backlogged_tenants_are_served_by_weight(
    requests: list[tuple[str, int, int]], pops: list[int]
) -> None:
    """Their services differ by at most the largest request of each, by weight, at any time.

    Theorem 1 of the paper; a and b always have requests waiting, the others come and go.
    """
    queue = FairQueue(by_priority, WEIGHTS)
    backlog = [(tenant, 1 + index * 7 % 50, 0) for index in range(150) for tenant in "ab"]
    largest, number = 50, 0
    for tenant, tokens, priority in backlog:
        push(queue, tenant, first=number, tokens=tokens, priority=priority)
        number += 1
    served: Counter[str] = Counter()
    gaps = [Fraction(0)]
    for (tenant, tokens, priority), count in zip(requests, pops, strict=False):
        push(queue, tenant, first=number, tokens=tokens, priority=priority)
        number += 1
        for _ in range(count):
            asked = queue.pop()
            served[asked.tenant or "-"] += asked.prompt_tokens
            gaps.append(served["a"] / Fraction("0.3") - served["b"] / Fraction(2))
    # any two instants: the largest less the smallest gap
    assert max(gaps) - min(gaps) <= largest / Fraction("0.3") + Fraction(largest, 2)


class PlainModel:
    """Start-time fair queueing with fractions and lists, as the paper puts it."""

    def __init__(self) -> None:
        self.waiting: list[Asked] = []
        self.virtual_time = Fraction(0)
        self.start: dict[str | None, Fraction] = {}
        self.finish: dict[str | None, Fraction] = {}

    def push(self, asked: Asked) -> None:
        if all(other.tenant != asked.tenant for other in self.waiting):
            finish = self.finish.get(asked.tenant, Fraction(0))
            self.start[asked.tenant] = max(self.virtual_time, finish)
        self.waiting.append(asked)

    def pop(self) -> Asked:
        asked = min(
            self.waiting,
            key=lambda each: (
                self.start[each.tenant],
                each.priority,
                each.arrival_us,
                each.request_id,
            ),
        )
        self.waiting.remove(asked)
        self.virtual_time = self.start[asked.tenant]
        weight = Fraction(str(WEIGHTS.get(asked.tenant or "-", 1)))
        self.finish[asked.tenant] = self.virtual_time + asked.prompt_tokens / weight
        self.start[asked.tenant] = self.finish[asked.tenant]
        self.end_busy_period()
        return asked

    def remove(self, asked: Asked) -> None:
        self.waiting.remove(asked)
        self.end_busy_period()

    def end_busy_period(self) -> None:
        if not self.waiting:
            self.virtual_time = max([self.virtual_time, *self.finish.values()])


@fixed
@given(
    requests=REQUESTS,
    operations=st.lists(
        st.tuples(st.sampled_from(["push", "push", "pop", "remove"]), st.integers(0, 49)),
        max_size=120,
    ),
)
def test_any_operations_agree_with_the_plain_model(
    requests: list[tuple[str, int, int]], operations: list[tuple[str, int]]
) -> None:
    """Pushes, removals anywhere and pops, with ties, in the same order as the paper's rule."""
    queue, model = FairQueue(by_priority, WEIGHTS), PlainModel()
    to_come = [
        make_asked(
            request_id=number,
            arrival_us=number // 2,
            prompt_tokens=tokens,
            priority=priority,
            tenant=None if letter == "-" else letter,
        )
        for number, (letter, tokens, priority) in enumerate(requests)
    ]
    for operation, index in operations:
        if operation == "push" and to_come:
            asked = to_come.pop(0)
            queue.push(asked)
            model.push(asked)
        elif operation == "remove" and model.waiting:
            asked = model.waiting[index % len(model.waiting)]
            queue.remove(asked.request_id)
            model.remove(asked)
        elif operation == "pop" and model.waiting:
            head = queue.peek()
            assert queue.pop() is head
            assert head is model.pop()
        assert len(queue) == len(model.waiting)
    while model.waiting:
        assert queue.pop() is model.pop()


@fixed
@given(requests=REQUESTS, randomness=st.randoms(use_true_random=False))
def test_the_order_of_pushes_at_one_instant_counts_for_nothing(
    requests: list[tuple[str, int, int]], randomness: Any
) -> None:
    """Two queues with the same requests empty in the same order."""
    orders = []
    numbered = list(enumerate(requests))
    for _ in range(2):
        queue = FairQueue(by_priority, WEIGHTS)
        for number, (tenant, tokens, priority) in numbered:
            push(queue, tenant, first=number, tokens=tokens, priority=priority)
        orders.append([queue.pop().request_id for _ in range(len(queue))])
        randomness.shuffle(numbered)
    assert orders[0] == orders[1]


@pytest.mark.parametrize("weight", [1e-300, 1e300, 1e-17])
def test_extreme_weights_are_exact_too(weight: float) -> None:
    """A tenant of next to no weight gets its first turn, then waits; one of huge weight never."""
    queue = FairQueue(by_arrival, {"a": weight})
    push(queue, "aaabbb")
    assert pop(queue) == ("abbbaa" if weight < 1 else "abaabb")
