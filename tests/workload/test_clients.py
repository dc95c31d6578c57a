"""Clients who wait for answers, without an engine: when each kind of source sends what."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, cycle, islice
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from blis_sim.workload.clients import (
    FAR_US,
    Capped,
    Clients,
    Conversation,
    Merged,
    OpenSource,
    Sessions,
    Source,
    Stage,
    Stages,
    UserLoop,
)
from blis_sim.workload.request import RequestSpec

from .served import Served, most_open, serve

PROPERTY = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def spec(arrival_us: int = 0, **fields: Any) -> RequestSpec:
    return RequestSpec(**{
        "request_id": 77, "prompt_tokens": 10, "output_tokens": 5, **fields,
        "arrival_us": arrival_us,
    })  # fmt: skip


def arriving(*arrivals_us: int, **fields: Any) -> OpenSource:
    return OpenSource(iter([spec(at, **fields) for at in arrivals_us]))


def endless() -> Iterator[RequestSpec]:
    return (spec(prompt_tokens=number) for number in count(1))


def taking(us: int) -> dict[str, Any]:
    return {"service_us": lambda spec: us}


def sent_at(served: list[Served]) -> list[int]:
    return [one.spec.arrival_us for one in served]


# -- open arrivals and the whole load -------------------------------------


def test_open_requests_are_sent_when_they_are_due() -> None:
    """Requests that wait for nobody keep their times; they are numbered from 0."""
    served = serve(Clients(arriving(3, 3, 9)), **taking(100))
    assert [(s.spec.request_id, s.spec.arrival_us) for s in served] == [(0, 3), (1, 3), (2, 9)]


def test_nothing_is_due_after_the_last() -> None:
    """A load that is over, or that never was, says so."""
    clients = Clients(arriving(3))
    clients.pop()
    assert clients.next_arrival_us == FAR_US
    assert Clients(arriving()).next_arrival_us == FAR_US


def test_the_number_of_requests_ends_the_load() -> None:
    """After so many requests nothing more is due, whoever is free."""
    clients = Clients(UserLoop(endless(), 2, cycle([0])), num_requests=5)
    served = serve(clients, **taking(10))
    assert len(served) == clients.num_sent == 5
    assert clients.next_arrival_us == FAR_US


def test_an_end_of_a_request_nobody_waits_for_is_ignored() -> None:
    """The engine tells of every end; open requests have nobody who cares."""
    clients = Clients(arriving(0, 50))
    clients.pop()
    clients.ended(0, 10, is_answered=True)
    assert clients.next_arrival_us == 50


# -- users ----------------------------------------------------------------


def test_a_user_thinks_between_an_answer_and_the_next_request() -> None:
    """One user: each request comes a think time after the answer before."""
    served = serve(Clients(UserLoop(endless(), 1, iter([5, 7, 11, 0])), 4), **taking(100))
    assert sent_at(served) == [0, 105, 105 + 107, 212 + 111]


def test_requests_go_to_whoever_is_next() -> None:
    """Users take the requests in order; one who is answered sooner sends more."""
    loop = UserLoop(endless(), 2, cycle([0]), start_us=40)
    served = serve(Clients(loop, 5), service_us=lambda s: 10 if s.prompt_tokens > 1 else 1000)
    assert [s.spec.prompt_tokens for s in served] == [1, 2, 3, 4, 5]
    assert sent_at(served) == [40, 40, 50, 60, 70]


def test_nobody_sends_after_the_end() -> None:
    """A user who is free at the end still sends; later, nobody does."""
    served = serve(Clients(UserLoop(endless(), 1, cycle([0]), end_us=30)), **taking(15))
    assert sent_at(served) == [0, 15, 30]


def test_users_stop_when_there_is_nothing_left_to_send() -> None:
    """The load ends with its requests."""
    loop = UserLoop(iter([spec(), spec(), spec()]), 2, cycle([0]))
    assert sent_at(serve(Clients(loop), **taking(10))) == [0, 0, 10]


def test_users_without_a_wait_are_always_busy() -> None:
    """N users who do not think have N requests open until the last is sent."""
    served = serve(Clients(UserLoop(endless(), 4, cycle([0])), 50))
    assert most_open(served) == 4
    for one in served[4:]:
        at_us = one.spec.arrival_us
        assert sum(s.spec.arrival_us <= at_us < s.end_us for s in served) == 4


# -- the cap --------------------------------------------------------------


def test_a_request_waits_for_a_place() -> None:
    """At the cap the next is sent when an answer has been seen; its time counts from then."""
    capped = Capped(arriving(0, 1, 2, 500), 2)
    served = serve(Clients(capped), **taking(100))
    assert sent_at(served) == [0, 1, 100, 500]
    assert (capped.num_held_back, capped.longest_wait_us) == (1, 98)
    assert capped.notices() == [
        "1 requests were due while 2 were open and were sent when a place became free, up to "
        "0.000 s late"
    ]


def test_a_cap_that_does_not_bite_says_nothing() -> None:
    """Nothing was held back: no notice."""
    capped = Capped(arriving(0, 100), 1)
    assert sent_at(serve(Clients(capped), **taking(100))) == [0, 100]
    assert capped.notices() == []


@PROPERTY
@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=30),
    st.integers(1, 4),
    st.lists(st.integers(0, 40), min_size=1, max_size=5),
)
def test_a_cap_is_a_queue_with_so_many_servers(
    gaps: list[int], cap: int, times: list[int]
) -> None:
    """Request k goes out when it is due and a place is free; never more are open than the cap."""
    due = [sum(gaps[: k + 1]) for k in range(len(gaps))]
    service = iter(cycle(times))
    served = serve(Clients(Capped(arriving(*due), cap)), service_us=lambda s: next(service))
    free = [0] * cap
    for at_us, one in zip(due, served, strict=True):
        free.sort()
        assert one.spec.arrival_us == max(at_us, free[0])
        free[0] = one.end_us
    assert most_open(served) <= cap


# -- conversations --------------------------------------------------------


def talk(rounds: int, think_us: int = 10) -> Conversation:
    return Conversation((10, *[3] * (rounds - 1)), (5, *[4] * (rounds - 1)), (think_us,) * rounds)


def sessions(starts: Source, rounds: int = 3, **options: Any) -> Sessions:
    return Sessions(starts, lambda first: talk(rounds), **{"accumulates": True, **options})


def test_rounds_hold_all_that_was_said_before() -> None:
    """prompt(r) = prompt(r-1) + answer(r-1) + the new tokens, a think time after the answer."""
    served = serve(Clients(sessions(arriving(7, session_id="a"))), **taking(100))
    rows = [(s.spec.arrival_us, s.spec.prompt_tokens, s.spec.output_tokens) for s in served]
    assert rows == [(7, 10, 5), (117, 10 + 5 + 3, 4), (227, 18 + 4 + 3, 4)]
    assert [s.spec.round for s in served] == [0, 1, 2]
    assert {s.spec.session_id for s in served} == {"a"}


def test_rounds_without_history_stand_alone() -> None:
    """Without history a round has its new tokens behind the shared prefix, and is a round 0."""
    starts = arriving(0, prefix_group="g", prefix_tokens=6)
    served = serve(Clients(sessions(starts, accumulates=False)), **taking(1))
    assert [s.spec.prompt_tokens for s in served] == [10, 6 + 3, 6 + 3]
    assert [(s.spec.round, s.spec.prefix_tokens) for s in served] == [(0, 6)] * 3


def test_the_history_holds_what_the_client_let_the_model_say() -> None:
    """An answer is cut at max_output_tokens, and only that much is in the next prompt."""
    starts = arriving(0, session_id="a", max_output_tokens=2)
    served = serve(Clients(sessions(starts)), **taking(1))
    assert [s.spec.prompt_tokens for s in served] == [10, 10 + 2 + 3, 15 + 2 + 3]


def test_a_conversation_ends_with_a_missing_answer() -> None:
    """After a round without an answer the others are not sent, and are counted."""
    source = sessions(arriving(0, 5, session_id="a"), rounds=4)
    served = serve(
        Clients(source),
        **taking(100),
        is_answered=lambda s: s.arrival_us != 5 and s.round < 2,
    )
    assert [s.spec.round for s in served] == [0, 0, 1, 2]
    assert source.num_given_up == 3 + 1
    assert source.notices() == [
        "4 further rounds of conversations were not sent: a round before them got no answer"
    ]


def test_a_conversation_ends_at_the_largest_context() -> None:
    """A round whose prompt and answer exceed the context is not sent, nor are those after it."""
    source = sessions(arriving(0, session_id="a"), rounds=4, max_context_tokens=18 + 4)
    assert [s.spec.round for s in serve(Clients(source))] == [0, 1]
    assert source.num_too_long == 2
    assert source.notices() == [
        "2 further rounds of conversations were not sent: they would have exceeded "
        "max_context_tokens (22)"
    ]


def test_a_round_that_is_due_goes_before_a_new_conversation() -> None:
    """At one instant those who wait longest are first."""
    starts = OpenSource(iter([spec(0, session_id="a"), spec(110, session_id="b")]))
    served = serve(Clients(sessions(starts, rounds=2)), **taking(100))
    assert [(s.spec.session_id, s.spec.arrival_us) for s in served[:3]] == [
        ("a", 0), ("a", 110), ("b", 110)
    ]  # fmt: skip


def test_a_user_begins_the_next_conversation_when_one_is_over() -> None:
    """Users who hold conversations think between rounds, and in the loop's own way after."""
    loop = UserLoop((spec(session_id=f"s{n}") for n in count()), 1, cycle([1000]))
    served = serve(Clients(sessions(loop, rounds=2), 4), **taking(100))
    assert [(s.spec.session_id, s.spec.arrival_us) for s in served] == [
        ("s0", 0), ("s0", 110), ("s1", 110 + 100 + 1000), ("s1", 1320)
    ]  # fmt: skip


def test_a_cap_counts_the_rounds_of_conversations() -> None:
    """A round waits for a place like any other request; its successor follows its answer."""
    capped = Capped(sessions(arriving(0, 0, session_id="a"), rounds=2), 1)
    served = serve(Clients(capped), **taking(100))
    # Both conversations start at 0; the second is sent at 100, the first's next round
    # is due at 110 but gets the place at 200, and so on.
    assert sent_at(served) == [0, 100, 200, 300]
    assert most_open(served) == 1


# -- stages and mixtures --------------------------------------------------


def staged(*stages: list[int], length_us: int = 20, **options: Any) -> Stages:
    def open_stage(number: int, begin_us: int) -> Stage | None:
        if number >= len(stages):
            return None
        return Stage(arriving(*[begin_us + at for at in stages[number]]), begin_us + length_us)

    return Stages(open_stage, **options)


def test_a_stage_begins_after_the_last_answer_and_the_gap() -> None:
    """The next stage waits for the slowest answer, and then so long again."""
    served = serve(Clients(staged([5, 10], [0, 2], gap_us=30, start_us=100)), **taking(50))
    assert sent_at(served) == [105, 110, 110 + 50 + 30, 192]


def test_a_stage_that_is_answered_early_still_lasts_its_time() -> None:
    """The gap counts from the end of the stage when the answers came sooner."""
    served = serve(Clients(staged([5], [0], gap_us=30)), **taking(1))
    assert sent_at(served) == [5, 20 + 30]


def test_empty_stages_take_their_time() -> None:
    """A stage without arrivals passes: its length and a gap."""
    served = serve(Clients(staged([], [3], [], [4], gap_us=7)), **taking(1))
    assert sent_at(served) == [20 + 7 + 3, 27 + 20 + 7 + 20 + 7 + 4]


def test_sources_together_keep_their_own_times() -> None:
    """Of several sources the one that is due first sends; at one instant the first named."""
    loop = UserLoop((spec(tenant="user") for _ in count()), 1, cycle([0]))
    merged = Merged([arriving(0, 50, tenant="open"), loop])
    served = serve(Clients(merged, 5), **taking(50))
    assert [(s.spec.tenant, s.spec.arrival_us) for s in served] == [
        ("open", 0), ("user", 0), ("open", 50), ("user", 50), ("user", 100)
    ]  # fmt: skip


def test_notices_come_from_every_source() -> None:
    """A load made of sources passes on what each has to say, stages included."""
    capped = Capped(arriving(0, 0), 1)

    def open_stage(number: int, begin_us: int) -> Stage | None:
        return Stage(Capped(arriving(begin_us, begin_us), 1), begin_us) if number < 2 else None

    clients = Clients(Merged([capped, Stages(open_stage, 0)]))
    serve(clients, **taking(1_500_000))
    assert len(clients.notices()) == 3
    assert all(note.endswith("1.500 s late") for note in clients.notices())


def test_a_source_is_read_no_further_than_the_next_request() -> None:
    """A load of any length takes no memory: one request is read ahead."""
    taken = 0

    def counted() -> Iterator[RequestSpec]:
        nonlocal taken
        for taken in count(1):
            yield spec(taken)

    clients = Clients(Capped(OpenSource(counted()), 3))
    list(islice(iter(clients.pop, None), 3))
    assert taken == 4
