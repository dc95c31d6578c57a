"""Clients who wait for answers: the engine's fast ways, the plain loop and the reference agree.

What clients send depends on what the engine does; once sent, it is a load like any other. So
a run is right if (1) coalesced and plain runs are equal, (2) the reference, given the times at
which requests were sent, reproduces the run, and (3) the times follow from the answers by the
rules of the load, checked here from the finished run alone.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from blis_sim.errors import SimulationError
from blis_sim.metrics.conservation import check_conservation
from blis_sim.metrics.records import ABSENT, RunData, Status
from blis_sim.workload.clients import (
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

from . import test_equality as equality
from .builders import make_blackbox, make_simulation, make_spec

NUM_EXAMPLES = int(os.environ.get("BLIS_EQUALITY_EXAMPLES", "400"))
SETTINGS = settings(
    max_examples=NUM_EXAMPLES // 2,
    deadline=None,
    derandomize="BLIS_EQUALITY_SEED" not in os.environ,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Noted:
    """A source that keeps what it sent."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.sent: list[RequestSpec] = []

    @property
    def next_arrival_us(self) -> int:
        return self.source.next_arrival_us

    def pop(self, now_us: int) -> Any:
        sent = self.source.pop(now_us)
        self.sent.append(sent.spec._replace(request_id=len(self.sent)))
        return sent


@dataclass
class Load:
    """A kind of load, and the requests it is made of."""

    kind: str
    requests: list[RequestSpec]
    limit: int
    think_us: list[int]
    rounds: list[int] = field(default_factory=list)

    def open(self) -> Noted:
        match self.kind:
            case "users":
                source: Source = UserLoop(iter(self.requests), self.limit, cycle(self.think_us))
            case "capped":
                source = Capped(OpenSource(iter(self.requests)), self.limit)
            case "sessions":
                source = self.sessions(OpenSource(iter(self.starts())))
            case "capped sessions":
                source = Capped(self.sessions(OpenSource(iter(self.starts()))), self.limit)
            case "stages":
                source = Stages(self.stage, self.think_us[0])
            case "merged":
                half = len(self.requests) // 2
                source = Merged(
                    [
                        UserLoop(iter(self.requests[:half]), self.limit, cycle(self.think_us)),
                        OpenSource(iter(self.requests[half:])),
                    ]
                )
        return Noted(source)

    def starts(self) -> list[RequestSpec]:
        return [
            r._replace(
                session_id=f"s{number}",
                prefix_group=None,
                prefix_tokens=0,
                prompt_id=None,
                block_hashes=None,
            )
            for number, r in enumerate(self.requests)
        ]

    def sessions(self, starts: Source) -> Source:
        return Sessions(starts, self.conversation, accumulates=True, max_context_tokens=50)

    def conversation(self, spec: RequestSpec) -> Conversation:
        number = int(str(spec.session_id)[1:])
        rounds = self.rounds[number % len(self.rounds)]
        return Conversation(
            (spec.prompt_tokens, *[3] * (rounds - 1)),
            (spec.output_tokens, *[4] * (rounds - 1)),
            tuple(self.think_us[r % len(self.think_us)] for r in range(rounds - 1)),
        )

    def stage(self, number: int, begin_us: int) -> Stage | None:
        third = len(self.requests) // 3 + 1
        part = self.requests[number * third : (number + 1) * third]
        first_us = part[0].arrival_us if part else 0
        shifted = [r._replace(arrival_us=r.arrival_us - first_us + begin_us) for r in part]
        last_us = shifted[-1].arrival_us if shifted else begin_us
        return Stage(OpenSource(iter(shifted)), last_us) if number < 3 else None


KINDS = ["users", "capped", "sessions", "capped sessions", "stages", "merged"]


@st.composite
def loads(draw: st.DrawFn, kinds: list[str] = KINDS) -> tuple[Any, Load]:
    case = draw(equality.cases())
    case.engine.horizon_us = draw(st.sampled_from([None, None, None, 2000]))
    grid = 10 if case.model == "round blackbox" else 1
    think = st.sampled_from([0, 0, 10, 70]) | st.integers(0, 100).map(lambda n: n * grid)
    load = Load(
        draw(st.sampled_from(kinds)),
        case.requests,
        draw(st.integers(1, 3)),
        draw(st.lists(think, min_size=1, max_size=3)),
        draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)),
    )
    return case, load


def run_both(case: Any, load: Load) -> tuple[RunData, list[RequestSpec]]:
    """Return the run of a load, the same coalesced and step by step, and what was sent."""
    runs = []
    for coalesce in (False, True):
        noted = load.open()
        case.requests = Clients(noted)
        run, _ = equality.simulate(case, coalesce=coalesce)
        columns = run.requests
        arrivals = dict(zip(columns.request_id.tolist(), columns.arrival_us.tolist(), strict=True))
        sent = [
            spec._replace(arrival_us=arrivals[spec.request_id])
            for spec in noted.sent
            if spec.request_id in arrivals
        ]
        runs.append((equality.as_observed(run), run, sent))
    assert runs[0][0] == runs[1][0]
    assert runs[0][2] == runs[1][2]
    return runs[1][1], runs[1][2]


REACH: Counter[str] = Counter()


@SETTINGS
@given(loads())
def test_a_load_with_feedback_equals_the_reference(drawn: tuple[Any, Load]) -> None:
    """Coalesced = plain; replayed at the times it was sent, the reference gives the same."""
    case, load = drawn
    run, sent = run_both(case, load)
    case.requests = sent
    assert equality.as_observed(run) == equality.as_expected(case)[1]
    REACH[load.kind] += len(sent) > 3


def test_every_kind_of_load_was_reached() -> None:
    """Each kind came up with more than a few requests."""
    if not REACH:
        pytest.skip("the property did not run")
    assert min(REACH[kind] for kind in KINDS) >= 5, REACH


def ends_us(run: RunData, sent: list[RequestSpec]) -> dict[int, int]:
    """Return when the client of each finished request saw its answer or left."""
    columns, ends = run.requests, {}
    for row, number in enumerate(columns.request_id.tolist()):
        spec, status = sent[number], Status(int(columns.status[row]))
        delays = [d for d in (spec.timeout_us, spec.abort_us) if d is not None]
        if status is Status.COMPLETED:
            ends[number] = int(columns.last_token_us[row])
        elif status in {Status.TIMED_OUT, Status.ABORTED}:
            ends[number] = spec.arrival_us + min(delays)
        elif status is Status.DROPPED:
            ends[number] = spec.arrival_us
    return ends


@settings(SETTINGS, max_examples=NUM_EXAMPLES // 8)
@given(loads(["capped"]))
def test_a_capped_load_is_a_queue_with_so_many_servers(drawn: tuple[Any, Load]) -> None:
    """Request k is sent when it is due and one of the places is free, whichever comes later."""
    case, load = drawn
    due = [r.arrival_us for r in load.requests]
    case.engine.horizon_us = None
    run, sent = run_both(case, load)
    ends = ends_us(run, sent)
    free = [0] * load.limit
    for spec in sent:
        free.sort()
        assert spec.arrival_us == max(due[spec.request_id], free.pop(0))
        free.append(ends[spec.request_id])


@settings(SETTINGS, max_examples=NUM_EXAMPLES // 8)
@given(loads(["users"]))
def test_users_have_one_request_open_and_think_in_between(drawn: tuple[Any, Load]) -> None:
    """Arrivals are the users' ends plus thinking, in order; nobody has two requests open."""
    case, load = drawn
    case.engine.horizon_us = None
    run, sent = run_both(case, load)
    assert len(sent) == len(load.requests)
    ends = ends_us(run, sent)
    moments = sorted([(spec.arrival_us, 1) for spec in sent] + [(at, -1) for at in ends.values()])
    num_open = 0
    for _, change in moments:  # at one instant an end counts before an arrival
        num_open += change
        assert num_open <= load.limit
    if set(load.think_us) == {0}:
        begun = [0] * load.limit + sorted(ends.values())
        assert [spec.arrival_us for spec in sent] == begun[: len(sent)]


def test_rounds_follow_the_answers() -> None:
    """A round comes when the client has seen the answer, plus thinking; it holds the history."""

    def conversation(spec: RequestSpec) -> Conversation:
        return Conversation((spec.prompt_tokens, 10, 20), (7, 8, 9), (100, 5))

    start = make_spec(prompt_tokens=30, output_tokens=7, session_id="a")
    sessions = Sessions(OpenSource(iter([start])), conversation, accumulates=True)
    latency = make_blackbox(10, alpha=(3, 0, 2))
    run = make_simulation(Clients(sessions), latency=latency).run()
    columns = run.requests
    assert columns.prompt_tokens.tolist() == [30, 30 + 7 + 10, 47 + 8 + 20]
    ends = columns.last_token_us.tolist()
    assert columns.arrival_us.tolist() == [0, ends[0] + 100, ends[1] + 5]
    # Full blocks of 4 of the prompt and answer before it, less the answer's last token.
    assert columns.cached_tokens.tolist() == [0, 36 // 4 * 4, 54 // 4 * 4]
    assert sessions.num_given_up == sessions.num_too_long == 0


def test_a_conversation_ends_where_an_answer_is_missing_or_the_context_is_full() -> None:
    """Rounds that are not sent are counted, by reason."""

    def conversation(spec: RequestSpec) -> Conversation:
        return Conversation((spec.prompt_tokens, 10, 20), (5, 8, 9), (0, 0))

    starts = [
        make_spec(prompt_tokens=30, session_id="a", timeout_us=11),
        make_spec(prompt_tokens=30, session_id="b"),
    ]
    sessions = Sessions(
        OpenSource(iter(starts)), conversation, accumulates=True, max_context_tokens=60
    )
    run = make_simulation(Clients(sessions)).run()
    assert run.requests.prompt_tokens.tolist() == [30, 30, 45]
    assert (sessions.num_given_up, sessions.num_too_long) == (2, 1)


def test_a_stage_waits_until_the_one_before_has_drained() -> None:
    """Its first arrival is counted from the last answer plus the gap; empty stages pass by."""

    def stage(number: int, begin_us: int) -> Stage | None:
        if number == 3:
            return None
        arrivals = [] if number == 1 else [begin_us + 10, begin_us + 15]
        source = OpenSource(iter([make_spec(arrival_us=at) for at in arrivals]))
        return Stage(source, begin_us + 20)

    run = make_simulation(Clients(Stages(stage, 1000))).run()
    last_us = max(run.requests.last_token_us.tolist()[:2])
    assert run.requests.arrival_us.tolist() == [10, 15, last_us + 2030, last_us + 2035]


def test_time_that_stands_still_is_an_error() -> None:
    """Users whose every request is turned away at once would go on for ever."""
    requests = (make_spec(prompt_tokens=5000) for _ in iter(int, 1))
    loop = Clients(UserLoop(requests, 2, cycle([0])))
    with pytest.raises(SimulationError, match="100,000 requests in a row that were turned away"):
        make_simulation(loop).run()


def test_the_number_of_requests_is_a_limit() -> None:
    """The load ends after so many, whoever is due."""
    requests = (make_spec() for _ in iter(int, 1))
    clients = Clients(UserLoop(requests, 3, cycle([0])), num_requests=10)
    run = make_simulation(clients).run()
    check_conservation(run, num_injected=10)
    assert run.requests.last_token_us.min() != ABSENT
