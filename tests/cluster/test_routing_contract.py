"""What holds for every policy, whatever the candidates look like."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blis_sim.cluster.asked import Asked
from blis_sim.cluster.routing.base import Choice
from blis_sim.cluster.routing.described import POLICIES, SCORERS
from blis_sim.config.cluster import RoutingPolicy, Scorer
from tests.cluster.fake_candidates import FakeCandidate, make_asked, router_of

ALL_SCORERS = ",".join(Scorer)
# Every test runs for each policy or scorer: half of Hypothesis' usual number of examples.
fixed = settings(derandomize=True, deadline=None, max_examples=50)
policies = pytest.mark.parametrize("policy", list(RoutingPolicy))

signals = st.fixed_dictionaries(
    {
        "num_sent": st.integers(100, 200),
        "num_outstanding": st.integers(0, 100),
        "cached_prompt_tokens": st.integers(0, 40),
        "expected_ttft_us": st.integers(0, 10**7),
        "num_waiting": st.integers(0, 50),
        "num_running": st.integers(0, 50),
        "kv_used_blocks": st.integers(0, 100),
        "active_tokens": st.integers(0, 10**6),
        "reported_sent": st.integers(0, 100),
    }
)
fleets = st.lists(signals, min_size=1, max_size=8)
requests = st.fixed_dictionaries(
    {
        "prompt_tokens": st.integers(20, 40),
        "prefix_group": st.sampled_from([None, "g", "h"]),
        "prefix_tokens": st.just(12),
        "session_id": st.sampled_from([None, "s", "t"]),
    }
)


def settings_of(policy: str) -> dict[str, Any]:
    return {"scorers": ALL_SCORERS} if policy == "weighted" else {}


def make_fleet(numbers: list[dict[str, int]]) -> list[FakeCandidate]:
    return [FakeCandidate(index, **each) for index, each in enumerate(numbers)]


def choices(
    policy: str, fleet: list[dict[str, int]], asked: list[Asked], seed: int = 0
) -> list[Choice]:
    router = router_of(policy, seed=seed, **settings_of(policy))
    candidates = make_fleet(fleet)
    made = []
    for each in asked:
        choice = router.choose(each, candidates)
        router.sent(each, candidates[choice.position])
        made.append(choice)
    return made


@policies
@fixed
@given(fleet=fleets, asked=st.lists(requests, min_size=1, max_size=6))
def test_a_choice_is_a_candidate_with_the_highest_score(
    policy: str, fleet: list[dict[str, int]], asked: list[dict[str, Any]]
) -> None:
    """Among those with that score it was sent the fewest, and is the first of these."""
    for choice in choices(policy, fleet, [make_asked(**each) for each in asked]):
        assert 0 <= choice.position < len(fleet)
        if choice.scores is None:
            continue
        assert len(choice.scores) == len(fleet)
        best = max(
            range(len(fleet)),
            key=lambda at: (choice.scores[at], -fleet[at]["num_sent"], -at),
        )
        assert choice.position == best


@policies
@fixed
@given(fleet=fleets, asked=requests, output_tokens=st.integers(0, 10**6))
def test_the_length_of_the_answer_decides_nothing(
    policy: str, fleet: list[dict[str, int]], asked: dict[str, Any], output_tokens: int
) -> None:
    """Two requests that differ in it alone are routed alike."""
    one = [make_asked(**asked, output_tokens=5)] * 3
    two = [make_asked(**asked, output_tokens=output_tokens)] * 3
    assert choices(policy, fleet, one) == choices(policy, fleet, two)


@policies
@fixed
@given(fleet=fleets, asked=st.lists(requests, max_size=6), seed=st.integers(0, 9))
def test_the_same_seed_gives_the_same_choices(
    policy: str, fleet: list[dict[str, int]], asked: list[dict[str, Any]], seed: int
) -> None:
    """Choices and scores."""
    sent = [make_asked(**each) for each in asked]
    assert choices(policy, fleet, sent, seed) == choices(policy, fleet, sent, seed)


@pytest.mark.parametrize("policy", ["random", "power-of-two"])
def test_another_seed_gives_other_choices(policy: str) -> None:
    """Policies that draw do draw from the stream they were given."""
    fleet = [dict.fromkeys(["num_running"], load) for load in range(8)]
    asked = [make_asked()] * 20
    assert choices(policy, fleet, asked, 1) != choices(policy, fleet, asked, 2)


@policies
@fixed
@given(fleet=fleets, asked=requests)
def test_candidates_are_asked_no_more_than_necessary(
    policy: str, fleet: list[dict[str, int]], asked: dict[str, Any]
) -> None:
    """One report per decision; nothing about the cache of a prompt nobody shares."""
    router = router_of(policy, **settings_of(policy))
    candidates = make_fleet(fleet)
    request = make_asked(**asked)
    router.choose(request, candidates)
    for candidate in candidates:
        assert candidate.num_reports <= 1
        assert candidate.num_cache_questions <= int(request.is_shareable)
        assert candidate.num_ttft_questions <= 1


COMPARING = [
    "least-loaded",
    "shortest-expected-ttft",
    "session-affinity",
    "prefix-affinity",
    "weighted",
    "vllm-dp",
]


@pytest.mark.parametrize("policy", COMPARING)
@fixed
@given(data=st.data(), asked=requests)
def test_who_is_chosen_does_not_depend_on_its_number(
    policy: str, data: st.DataObject, asked: dict[str, Any]
) -> None:
    """Candidates that change places change their scores along (num_sent makes them unlike)."""
    sent = data.draw(st.lists(st.integers(100, 200), min_size=1, max_size=6, unique=True))
    fleet = [data.draw(signals) | {"num_sent": number} for number in sent]
    order = data.draw(st.permutations(range(len(fleet))))
    request = make_asked(**asked)
    (one,) = choices(policy, fleet, [request])
    (two,) = choices(policy, [fleet[at] for at in order], [request])
    assert order[two.position] == one.position
    assert two.scores == tuple(one.scores[at] for at in order)  # type: ignore[index]


@pytest.mark.parametrize("scorer", list(Scorer))
@fixed
@given(fleet=fleets, asked=st.lists(requests, min_size=1, max_size=6))
def test_scores_lie_in_the_stated_range(
    scorer: str, fleet: list[dict[str, int]], asked: list[dict[str, Any]]
) -> None:
    """Alone in the weighted policy a scorer is its score."""
    stated = {facts.name: facts.range for facts in SCORERS}[scorer]
    router = router_of("weighted", scorers=scorer)
    candidates = make_fleet(fleet)
    for each in asked:
        request = make_asked(**each)
        choice = router.choose(request, candidates)
        router.sent(request, candidates[choice.position])
        for score in choice.scores or ():
            assert 0 <= score <= 1
            assert stated != "> 0, <= 1" or score > 0
            assert stated != "0 or 1" or score in {0, 1}


@policies
def test_forgetting_an_instance_nobody_knew_is_harmless(policy: str) -> None:
    """A gateway says so of every instance that stops."""
    router = router_of(policy, **settings_of(policy))
    router.forget(3)
    assert router.choose(make_asked(session_id="s"), [FakeCandidate(4)]).position == 0


def test_every_policy_and_scorer_is_described() -> None:
    """In the order of the enumerations."""
    assert [facts.name for facts in POLICIES] == list(RoutingPolicy)
    assert [facts.name for facts in SCORERS] == list(Scorer)
