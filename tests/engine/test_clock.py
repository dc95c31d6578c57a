"""The order of simultaneous events is that of what they are, never that of their making."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import simpy
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.engine.clock import Latch, Moment, Priority, call_at, order_key

from .builders import fixed

KEYS = st.tuples(st.sampled_from(Priority), st.integers(0, 2**16 - 1), st.integers(0, 2**40 - 1))


def test_priorities_are_those_of_the_semantics() -> None:
    """Step end, transfer end, arrivals, gateway, scheduling, observers; the horizon last."""
    assert [priority.name for priority in sorted(Priority)] == [
        "STEP_END",
        "TRANSFER_END",
        "ARRIVAL",
        "GATEWAY",
        "SCHEDULING",
        "OBSERVER",
        "HORIZON",
    ]


@fixed
@given(KEYS, KEYS)
def test_keys_sort_like_their_parts(
    one: tuple[Priority, int, int], other: tuple[Priority, int, int]
) -> None:
    """Priority decides, then the instance, then the request; no part spills into the next."""
    assert (order_key(*one) < order_key(*other)) == (one < other)


@fixed
@given(st.lists(st.tuples(st.integers(0, 3), KEYS), min_size=2, max_size=12, unique=True))
def test_order_of_insertion_does_not_matter(
    events: list[tuple[int, tuple[Priority, int, int]]],
) -> None:
    """Events happen by (time, key), in whatever order they were made."""
    happened: list[tuple[int, tuple[Priority, int, int]]] = []
    env = simpy.Environment()
    for event in events:
        delay_us, parts = event
        call_at(env, delay_us, order_key(*parts), lambda event=event: happened.append(event))
    env.run()
    assert happened == sorted(events)


def test_time_stays_an_integer() -> None:
    """The clock never becomes a float, even after billions of microseconds."""
    env = simpy.Environment(initial_time=0)
    seen: list[float] = []
    call_at(env, 3 * 10**15 + 1, 0, lambda: seen.append(env.now))
    env.run()
    assert seen == [3 * 10**15 + 1]
    assert type(seen[0]) is int


def test_a_latch_fires_at_its_earliest_instant() -> None:
    """Fired again for an earlier instant it counts then; the later firing does nothing."""
    env = simpy.Environment(initial_time=0)
    resumed: list[float] = []
    latch = Latch(env)

    def wait() -> Generator[simpy.Event, Any, None]:
        yield latch
        latch.callbacks = []  # what the overtaken firing finds
        resumed.append(env.now)
        yield Moment(env, 100, 0)
        resumed.append(env.now)

    env.process(wait())
    latch.fire(50, order_key(Priority.STEP_END))
    call_at(env, 10, 0, lambda: latch.fire(5, order_key(Priority.STEP_END)))
    env.run()
    assert resumed == [15, 115]
