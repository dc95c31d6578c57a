"""Conversations as they are drawn: rounds, lengths, thinking, and what moves what."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from blis_sim.errors import ConfigError
from blis_sim.workload.request import RequestSpec

from .builders import make_workload
from .served import Served, serve

BASE: dict[str, Any] = {
    "request_rate": 5.0,
    "num_requests": 200,
    "prompt": {"mean": 300, "stdev": 60},
    "output": {"mean": 100, "stdev": 30},
    "sessions": {"rounds": {"kind": "uniform", "min": 1, "max": 5}, "think_time_s": 2.0},
}


def served_by_session(
    change: dict[str, Any] | None = None, **sessions: Any
) -> dict[str, list[Served]]:
    """Return the rounds of each conversation, in order."""
    settings = {**BASE, **(change or {}), "sessions": {**BASE["sessions"], **sessions}}
    found: dict[str, list[Served]] = {}
    for one in serve(make_workload(**settings).clients()):
        found.setdefault(str(one.spec.session_id), []).append(one)
    return found


def new_tokens(rounds: list[Served]) -> list[int]:
    """Return what each round adds to the history before it."""
    specs = [one.spec for one in rounds]
    before = [0] + [s.prompt_tokens + s.output_tokens for s in specs[:-1]]
    return [s.prompt_tokens - history for s, history in zip(specs, before, strict=True)]


def test_every_arrival_begins_a_conversation_of_its_own() -> None:
    """num_requests counts conversations; each has a name, and rounds counted from 0."""
    sessions = served_by_session()
    assert sorted(sessions) == sorted(f"session-{number}" for number in range(200))
    for rounds in sessions.values():
        assert [one.spec.round for one in rounds] == list(range(len(rounds)))


def test_rounds_follow_after_the_think_time() -> None:
    """A round arrives when the answer before it has been seen, plus thinking."""
    for rounds in served_by_session().values():
        for before, after in pairwise(rounds):
            assert after.spec.arrival_us == before.end_us + 2_000_000


def test_what_is_new_in_a_round_is_drawn_like_the_first() -> None:
    """New tokens and answers of later rounds have the mean of the settings."""
    sessions = served_by_session().values()
    later = np.array([n for rounds in sessions for n in new_tokens(rounds)[1:]])
    assert later.min() >= 1
    assert later.mean() == pytest.approx(300, abs=4.5 * 60 / math.sqrt(len(later)))
    answers = np.array([s.spec.output_tokens for rounds in sessions for s in rounds[1:]])
    assert answers.mean() == pytest.approx(100, abs=4.5 * 30 / math.sqrt(len(answers)))


def test_numbers_of_rounds_are_drawn_from_their_distribution() -> None:
    """1 to 5 rounds, each a fifth of the time, within 4.5 standard errors."""
    counts = [len(rounds) for rounds in served_by_session().values()]
    assert set(counts) == {1, 2, 3, 4, 5}
    assert np.mean(counts) == pytest.approx(3, abs=4.5 * math.sqrt(2 / 200))


def contents(sessions: dict[str, list[Served]]) -> dict[str, list[tuple[int, int]]]:
    return {
        name: [(n, s.spec.output_tokens) for n, s in zip(new_tokens(rounds), rounds, strict=True)]
        for name, rounds in sessions.items()
    }


@pytest.mark.parametrize(
    "change",
    [
        {"request_rate": 50.0},
        {"arrivals": "constant"},
        {"max_outstanding": 2},
        {"timeout_s": 1e4},
        {"sessions": {"think_time_s": {"kind": "exponential", "mean": 9.0}}},
    ],
    ids=str,
)
def test_what_is_said_does_not_depend_on_when(change: dict[str, Any]) -> None:
    """Another rate, cap or think time moves the rounds and leaves what they say alone."""
    change = dict(change)
    after = served_by_session(change, **change.pop("sessions", {}))
    assert contents(after) == contents(served_by_session())


def test_other_answers_leave_the_questions_alone() -> None:
    """Questions and numbers of rounds have random streams of their own."""
    before = contents(served_by_session())
    after = contents(served_by_session({"output": 7}))
    assert {name: [n for n, _ in rounds] for name, rounds in after.items()} == {
        name: [n for n, _ in rounds] for name, rounds in before.items()
    }


def test_a_shared_prefix_is_in_front_of_the_history_once() -> None:
    """The first round brings the prefix; later rounds have it within their history."""
    plain = served_by_session()
    for name, rounds in served_by_session({"prefix_tokens": 64}).items():
        assert new_tokens(rounds) == [
            n + 64 * (number == 0) for number, n in enumerate(new_tokens(plain[name]))
        ]
        assert {s.spec.prefix_tokens for s in rounds} == {64}


def test_rounds_without_history_are_requests_of_their_own() -> None:
    """Nothing is shared: no session, no round, only the new tokens."""
    settings = {**BASE, "sessions": {"rounds": 3, "history": "none"}}
    served = serve(make_workload(**settings).clients())
    assert len(served) == 600
    assert {(s.spec.session_id, s.spec.round) for s in served} == {(None, 0)}
    mean = np.mean([s.spec.prompt_tokens for s in served])
    assert mean == pytest.approx(300, abs=4.5 * 60 / math.sqrt(600))


def test_no_later_round_exceeds_the_largest_context() -> None:
    """The conversation ends in front of the round that would be too long; a notice says so."""
    settings = {**BASE, "sessions": {"rounds": 5, "max_context_tokens": 1200}}
    clients = make_workload(**settings).clients()
    served = serve(clients)
    assert max(s.spec.prompt_tokens + s.spec.output_tokens for s in served) <= 1200
    left_out = 1000 - len(served)
    assert left_out > 0
    assert clients.notices() == [
        f"{left_out:,} further rounds of conversations were not sent: they would have exceeded "
        "max_context_tokens (1,200)"
    ]


def test_a_timeout_ends_a_conversation() -> None:
    """A client that gave up sends no more; the notice counts the rounds."""
    settings = {**BASE, "sessions": {"rounds": 3}, "num_requests": 10}
    clients = make_workload(**settings).clients()

    def is_answered(spec: RequestSpec) -> bool:
        return spec.session_id != "session-4"

    assert len(serve(clients, is_answered=is_answered)) == 28
    assert clients.notices()[0].startswith("2 further rounds")


def test_the_description_tells_the_rounds() -> None:
    """Sessions, their rounds and their thinking are named; a rate is one of conversations."""
    text = make_workload(**BASE).description
    assert text.startswith("200 sessions, poisson arrivals at ")
    assert " conversations/s; prompt " in text
    assert "requests/s" not in text
    assert "conversations of uniform 1..5 rounds, thinking 2 s" in text


@pytest.mark.parametrize(
    ("sessions", "match"),
    [
        ({"rounds": 0}, r"workload\.sessions\.rounds\.mean must be between .* \(1 and .*; got 0"),
        (
            {"rounds": {"mean": 3, "stdev": 1, "min": 0}},
            r"workload\.sessions\.rounds must be >= 1; got 0",
        ),
        ({"rounds": {"mean": 3, "mu": 1.0}}, r"workload\.sessions\.rounds\.mu must not be set"),
        (
            {"rounds": 2, "think_time_s": {"kind": "lognormal", "mean": 1.0}},
            r"workload\.sessions\.think_time_s\.stdev .*must be set with kind lognormal",
        ),
    ],
)
def test_bad_sessions_are_refused(sessions: dict[str, Any], match: str) -> None:
    """One line that names the setting, the constraint and the value."""
    with pytest.raises(ConfigError, match=match):
        make_workload(sessions=sessions)
