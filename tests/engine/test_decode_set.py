"""The decode set, kept as sums, against a list of members."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.engine.decode_set import FAR, DecodeSet
from blis_sim.engine.kv_cache import content_of
from blis_sim.engine.request import Request, State

from .builders import fixed, make_request


def decoding(
    decodes: DecodeSet, *, computed: int = 10, owes: int = 5, seat: int = 0, **spec: Any
) -> Request:
    """Join a request with ``computed`` tokens that still owes ``owes`` tokens."""
    request = make_request(prompt_tokens=computed, output_limit=owes + 1, request_id=seat, **spec)
    request.content = content_of(request.spec, decodes.block_size)
    request.hashable_blocks = request.content[-1].end if request.content else 0
    request.num_computed_tokens = computed
    request.num_generated = 1
    request.seat = seat
    decodes.join(request)
    return request


def advance(decodes: DecodeSet, num_steps: int = 1) -> None:
    decodes.counter += num_steps


def test_context_grows_with_the_counter() -> None:
    """Nothing is stored per step: a member's context is its offset plus the counter."""
    decodes = DecodeSet(4)
    advance(decodes, 3)
    request = decoding(decodes, computed=10)
    assert (decodes.context(request), decodes.sum_context) == (10, 10)
    advance(decodes, 4)
    decoding(decodes, computed=7, seat=1)
    assert (decodes.context(request), decodes.sum_context) == (14, 21)


def test_a_member_finishes_when_it_owes_nothing() -> None:
    """Who still owes r tokens has its last one scheduled r steps on."""
    decodes = DecodeSet(4)
    late = decoding(decodes, owes=5, seat=0)
    early = decoding(decodes, owes=2, seat=1)
    assert decodes.finish_at == 2
    advance(decodes, 2)
    assert decodes.pop_finished(step=1) == [early]
    assert (early.state, early.last_step) == (State.LAST_TOKEN, 1)
    assert (early.num_generated, early.num_computed_tokens) == (3, 12)
    assert decodes.finish_at == 5
    assert decodes.pop_finished(step=1) == []
    advance(decodes, 3)
    assert decodes.pop_finished(step=4) == [late]
    assert decodes.finish_at == FAR


def test_simultaneous_finishes_come_in_running_order() -> None:
    """By seat, not by the order in which they joined."""
    decodes = DecodeSet(4)
    for seat in (2, 0, 1):
        decoding(decodes, owes=3, seat=seat)
    advance(decodes, 3)
    assert [request.seat for request in decodes.pop_finished(step=2)] == [0, 1, 2]


def test_who_has_left_does_not_finish() -> None:
    """A member that leaves takes its finish along; its own counts are current."""
    decodes = DecodeSet(4)
    leaver = decoding(decodes, computed=10, owes=2, seat=0)
    decoding(decodes, owes=6, seat=1)
    advance(decodes)
    decodes.leave(leaver)
    assert (leaver.num_computed_tokens, leaver.num_generated) == (11, 2)
    assert (decodes.count, decodes.finish_at) == (1, 6)


def test_a_postponed_member_is_a_token_behind() -> None:
    """Left out of a step it needs its blocks, and finishes, one step later."""
    decodes = DecodeSet(4)
    request = decoding(decodes, computed=10, owes=3)
    advance(decodes)
    decodes.postpone(request)
    assert (decodes.context(request), decodes.finish_at) == (10, 4)
    advance(decodes, 3)
    assert decodes.pop_finished(step=3) == [request]
    assert (request.num_computed_tokens, request.num_generated) == (13, 4)


@pytest.mark.parametrize(
    ("num_free", "expected"),
    # Contexts 8 and 11 in blocks of 4: blocks are needed in steps 1 (8), 2 (12), 5, 6, 9, 10.
    [(0, 0), (1, 1), (2, 4), (3, 5), (4, 8), (5, 9), (6, 12), (100, 12)],
)
def test_steps_within_ends_where_the_pool_runs_dry(num_free: int, expected: int) -> None:
    """The step that would run dry is left out; more than the limit is never returned."""
    decodes = DecodeSet(4)
    decoding(decodes, computed=8, owes=50, seat=0)
    decoding(decodes, computed=11, owes=50, seat=1)
    assert decodes.needs(12) == [1, 1, 0, 0] * 3
    assert decodes.steps_within(num_free, 12) == expected


def test_members_with_shareable_answers_are_known_by_what_they_fill() -> None:
    """Of a session, steps that complete a block are reported, the longest context first."""
    decodes = DecodeSet(4)
    decoding(decodes, computed=9, seat=0)
    behind = decoding(decodes, computed=5, seat=1, session_id="s")
    ahead = decoding(decodes, computed=9, seat=2, session_id="s")
    other = decoding(decodes, computed=10, seat=3, session_id="t")
    advance(decodes, 2)  # contexts 7, 11 and 12
    assert decodes.filled_by_last(1) == [other]
    advance(decodes)
    assert decodes.filled_by_last(1) == [ahead, behind]
    assert decodes.filled_by_last(3) == [other, ahead, behind]
    assert decodes.is_filling(content_of(ahead.spec, 4)[-1].key)
    decodes.leave(ahead)
    decodes.leave(behind)
    assert not decodes.is_filling(content_of(ahead.spec, 4)[-1].key)


def test_contents_that_nobody_fills_are_forgotten() -> None:
    """A million sessions, one after the other, leave no trace."""
    decodes = DecodeSet(4)
    for number in range(20):
        request = decoding(decodes, owes=2, seat=number, session_id=str(number))
        advance(decodes, 2)
        assert decodes.pop_finished(decodes.counter) == [request]
    assert not decodes._filling_keys
    assert decodes._finish_heap == []


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["join", "join", "step", "step", "leave", "postpone"]),
        st.integers(1, 30),
        st.integers(1, 9),
    ),
    max_size=50,
)


@fixed
@given(OPERATIONS, st.sampled_from([1, 2, 4, 16]))
def test_sums_agree_with_a_list_of_members(
    operations: list[tuple[str, int, int]], block_size: int
) -> None:
    """Counts, sums, block needs and finishes are those of the members one by one."""
    decodes = DecodeSet(block_size)
    members: dict[int, tuple[Request, list[int]]] = {}  # seat -> request, [computed, owes]
    for seat, (operation, number, owes) in enumerate(operations):
        if operation == "join":
            request = decoding(decodes, computed=number, owes=owes, seat=seat)
            members[seat] = request, [number, owes]
        elif operation == "step":
            advance(decodes)
            for _, state in members.values():
                state[0] += 1
                state[1] -= 1
            finished = [seat for seat, (_, (_, left)) in sorted(members.items()) if not left]
            assert [r.seat for r in decodes.pop_finished(decodes.counter - 1)] == finished
            for gone in finished:
                del members[gone]
        elif members:
            chosen = list(members)[number % len(members)]
            request, state = members[chosen]
            if operation == "leave":
                decodes.leave(request)
                del members[chosen]
                assert request.num_computed_tokens == state[0]
            elif request.num_computed_tokens < state[0]:
                decodes.postpone(request)
                members[chosen] = request, [state[0] - 1, state[1] + 1]
        check_sums(decodes, [state for _, state in members.values()])


def check_sums(decodes: DecodeSet, members: list[list[int]]) -> None:
    size = decodes.block_size
    assert decodes.count == len(members)
    assert decodes.sum_context == sum(computed for computed, _ in members)
    left = min((owes for _, owes in members), default=None)
    assert decodes.finish_at == (FAR if left is None else decodes.counter + left)
    needs = [
        sum((computed + step) % size == 0 for computed, _ in members)
        for step in range(2 * size + 3)
    ]
    assert decodes.needs(len(needs)) == needs
    for num_free in (0, 1, 3, 7, 20):
        steps = 0
        while steps < len(needs) and sum(needs[: steps + 1]) <= num_free:
            steps += 1
        assert decodes.steps_within(num_free, len(needs)) == steps
