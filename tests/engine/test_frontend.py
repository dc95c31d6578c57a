"""The frontend reads as far as it must, and lets in by entry time."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from blis_sim.engine.frontend import FAR_US, StreamFrontend
from blis_sim.engine.request import Request, State
from blis_sim.workload.request import RequestSpec

from .builders import fixed, make_blackbox, make_request, make_spec


class Stream:
    """A stream that counts what has been read from it."""

    def __init__(self, specs: list[RequestSpec]) -> None:
        self.specs = specs
        self.num_read = 0

    def __iter__(self) -> Iterator[RequestSpec]:
        for spec in self.specs:
            self.num_read += 1
            yield spec


def make_frontend(
    stream: Stream, *, per_token_us: float = 0, horizon_us: int | None = None
) -> StreamFrontend:
    """Return a started frontend that takes ``per_token_us`` per prompt token."""

    def accept(spec: RequestSpec) -> Request | None:
        return make_request(**spec._asdict()) if spec.output_tokens else None

    latency = make_blackbox(alpha=(0, per_token_us, 0))
    frontend = StreamFrontend(stream, latency, accept, 0, horizon_us)
    frontend.start()
    return frontend


def entries(frontend: StreamFrontend) -> list[tuple[int, int]]:
    """Let everyone in; return (entry, number)."""
    seen = []
    while frontend.next_entry_us < FAR_US:
        entry_us = frontend.next_entry_us
        seen.append((entry_us, frontend.pop().request_id))
    return seen


def test_only_the_next_entry_is_read_ahead() -> None:
    """Without frontend time one request is read, and the arrival of the one after it."""
    stream = Stream([make_spec(number, 100 * number) for number in range(50)])
    frontend = make_frontend(stream)
    assert stream.num_read == 2
    assert (frontend.next_entry_us, frontend.next_arrival_us) == (0, 100)
    frontend.pop()
    assert stream.num_read == 3


def test_a_shorter_prompt_may_overtake() -> None:
    """Arrivals at 0 and 30 with frontends of 100 and 20 us enter at 100 and 50."""
    specs = [make_spec(0, 0, prompt_tokens=100), make_spec(1, 30, prompt_tokens=20)]
    frontend = make_frontend(Stream(specs), per_token_us=1)
    assert entries(frontend) == [(50, 1), (100, 0)]


def test_equal_entries_go_by_number() -> None:
    """Arrivals at 0 and 10 that both enter at 60: the smaller number first."""
    specs = [make_spec(1, 0, prompt_tokens=60), make_spec(0, 10, prompt_tokens=50)]
    frontend = make_frontend(Stream(specs), per_token_us=1)
    assert entries(frontend) == [(60, 0), (60, 1)]


def test_refused_requests_never_enter() -> None:
    """Who is turned away is read past at once."""
    specs = [make_spec(0, 0, output_tokens=0), make_spec(1, 40), make_spec(2, 50, output_tokens=0)]
    frontend = make_frontend(Stream(specs))
    assert entries(frontend) == [(40, 1)]
    assert frontend.next_arrival_us == FAR_US


def test_the_horizon_itself_still_arrives() -> None:
    """At the horizon a request arrives, after it none; what it would have been is not asked."""
    specs = [make_spec(number, 10 * number) for number in range(10)]
    stream = Stream(specs)
    assert entries(make_frontend(stream, horizon_us=30)) == [(0, 0), (10, 1), (20, 2), (30, 3)]
    assert stream.num_read == 5


def test_read_until_takes_in_who_has_arrived() -> None:
    """Somebody who looks at the instance sees all arrivals, also those far from entering."""
    specs = [make_spec(number, 400 * number, prompt_tokens=1000) for number in range(9)]
    frontend = make_frontend(Stream(specs), per_token_us=1)
    assert (frontend.next_entry_us, frontend.next_arrival_us) == (1000, 1200)
    frontend.read_until(1650)
    assert (frontend.next_entry_us, frontend.next_arrival_us) == (1000, 2000)
    assert [request.request_id for request in frontend.inside()] == [0, 1, 2, 3, 4]


def test_who_has_left_is_not_inside() -> None:
    """A request whose client left in the frontend is still popped, but no longer counted."""
    frontend = make_frontend(Stream([make_spec(0, 0, prompt_tokens=50)]), per_token_us=1)
    frontend.inside()[0].state = State.ENDED
    assert frontend.inside() == []
    assert entries(frontend) == [(50, 0)]


def test_an_empty_stream_has_no_entry() -> None:
    """Nobody comes, and that is known from the start."""
    frontend = make_frontend(Stream([]))
    assert frontend.next_entry_us == frontend.next_arrival_us == FAR_US


@fixed
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 100)), max_size=25),
    st.lists(st.integers(0, 400), max_size=10),
)
def test_entries_come_in_order_and_once(requests: list[tuple[int, int]], looks: list[int]) -> None:
    """Whatever was looked at in between, entries are those of the sorted list."""
    specs, arrival_us = [], 0
    for number, (gap_us, prompt_tokens) in enumerate(requests):
        arrival_us += gap_us
        specs.append(make_spec(number, arrival_us, prompt_tokens=prompt_tokens))
    frontend = make_frontend(Stream(specs), per_token_us=1)
    seen: list[tuple[int, int]] = []
    for look_us in sorted(looks):
        frontend.read_until(look_us)
        while frontend.next_entry_us <= look_us:
            entry_us = frontend.next_entry_us
            seen.append((entry_us, frontend.pop().request_id))
    seen += entries(frontend)
    assert seen == sorted((s.arrival_us + s.prompt_tokens, s.request_id) for s in specs)
