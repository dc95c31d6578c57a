"""Each scorer by examples computed by hand, and their weighted sum."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import pytest

from blis_sim.cluster.routing.base import Choice
from tests.cluster.fake_candidates import FakeCandidate, make_asked, make_candidates, router_of

SHARED = {"prompt_tokens": 42, "prefix_group": "g", "prefix_tokens": 20}


def scored(scorers: str, candidates: Sequence[FakeCandidate], **spec: object) -> Choice:
    return router_of("weighted", scorers=scorers).choose(make_asked(**spec), candidates)


@pytest.mark.parametrize(
    ("scorer", "signal"),
    [
        ("queue-depth", "num_waiting"),
        ("running-requests", "num_running"),
        ("active-tokens", "active_tokens"),
    ],
)
def test_fewer_is_better_between_the_extremes(scorer: str, signal: str) -> None:
    """(max - x) / (max - min) of 8, 2, 4; all equal is 1."""
    assert scored(scorer, make_candidates(**{signal: [8, 2, 4]})) == (1, (0, 1, 4 / 6))
    assert scored(scorer, make_candidates(**{signal: [7, 7]})) == (0, (1, 1))


def test_load_balance_counts_the_gateways_own_requests() -> None:
    """1 / (1 + outstanding), whatever was reported."""
    candidates = make_candidates(num_outstanding=[3, 0, 1], num_running=[0, 9, 9])
    assert scored("load-balance", candidates) == (1, (1 / 4, 1, 1 / 2))


def test_kv_utilization_is_the_share_of_free_blocks() -> None:
    """1 - used / total, for caches of different size."""
    candidates = make_candidates(kv_used_blocks=[30, 30, 0], kv_blocks=[40, 60, 10])
    assert scored("kv-utilization", candidates) == (2, (0.25, 0.5, 1))


def test_precise_prefix_cache_compares_what_is_cached() -> None:
    """(x - min) / (max - min) of 4, 20, 8 tokens; all equal is 1, also when nothing is."""
    candidates = make_candidates(cached_prompt_tokens=[4, 20, 8])
    assert scored("precise-prefix-cache", candidates, **SHARED) == (1, (0, 1, 4 / 16))
    for cached in (0, 20):
        candidates = make_candidates(cached_prompt_tokens=[cached] * 2)
        assert scored("precise-prefix-cache", candidates, **SHARED) == (0, (1, 1))


def test_precise_prefix_cache_asks_nobody_about_a_private_prompt() -> None:
    """All score 1."""
    candidates = make_candidates(cached_prompt_tokens=[4, 20])
    assert scored("precise-prefix-cache", candidates) == (0, (1, 1))
    assert [candidate.num_cache_questions for candidate in candidates] == [0, 0]


def test_prefix_affinity_is_the_matched_share_of_the_full_blocks() -> None:
    """42 tokens are 10 full blocks, of which 5 are the prefix; nothing of it was sent to 0."""
    router = router_of("weighted", scorers="prefix-affinity")
    candidates = make_candidates(2)
    router.sent(make_asked(**SHARED), candidates[1])
    assert router.choose(make_asked(**SHARED), candidates) == (1, (0, 5 / 10))
    assert router.choose(make_asked(prompt_tokens=42), candidates) == (0, (0, 0))


def test_prefix_affinity_of_a_prompt_without_a_full_block_is_zero() -> None:
    """3 of 4 tokens."""
    router = router_of("weighted", scorers="prefix-affinity")
    candidates = make_candidates(2)
    short = make_asked(prompt_tokens=3, prompt_id="p")
    router.sent(short, candidates[1])
    assert router.choose(short, candidates) == (0, (0, 0))


def test_session_affinity_marks_where_the_session_is() -> None:
    """1 there, else 0; all 0 for other sessions, without one, and when it has stopped."""
    router = router_of("weighted", scorers="session-affinity")
    candidates = make_candidates(3)
    router.sent(make_asked(session_id="a"), candidates[2])
    assert router.choose(make_asked(session_id="a"), candidates) == (2, (0, 0, 1))
    assert router.choose(make_asked(session_id="a"), candidates[:2]) == (0, (0, 0))
    assert router.choose(make_asked(session_id="b"), candidates) == (0, (0, 0, 0))
    assert router.choose(make_asked(), candidates) == (0, (0, 0, 0))
    router.forget(2)
    assert router.choose(make_asked(session_id="a"), candidates) == (0, (0, 0, 0))


def test_weighted_is_the_weighted_mean() -> None:
    """(3 * 0 + 1 * 1/2) / 4 = 0.125 and (3 * 1 + 1 * 1/4) / 4 = 0.8125."""
    candidates = make_candidates(num_waiting=[6, 2], kv_used_blocks=[50, 75])
    choice = scored("queue-depth:3,kv-utilization:1", candidates)
    assert choice == (1, (0.125, 0.8125))


def test_weighted_by_default_is_blis_profile() -> None:
    """precise-prefix-cache:2, queue-depth:1, kv-utilization:1."""
    columns = {
        "cached_prompt_tokens": [16, 0, 4],
        "num_waiting": [5, 0, 4],
        "kv_used_blocks": [80, 20, 40],
    }
    asked = make_asked(**SHARED)
    choice = router_of("weighted").choose(asked, make_candidates(**columns))
    expected = (2 * 1 + 0 + 0.2, 2 * 0 + 1 + 0.8, 2 * 0.25 + 0.2 + 0.6)
    assert choice.position == 0
    assert choice.scores == pytest.approx([score / 4 for score in expected])


def test_only_ratios_of_weights_matter_and_not_their_order() -> None:
    """The same scores to the last bit."""
    candidates = make_candidates(
        num_waiting=[3, 0, 2], kv_used_blocks=[10, 70, 33], num_outstanding=[2, 6, 4]
    )
    parts = [("queue-depth", 3), ("kv-utilization", 1), ("load-balance", 2)]
    texts = {
        ",".join(f"{name}:{weight * factor}" for name, weight in order)
        for order in permutations(parts)
        for factor in (1, 0.25)
    }
    assert len(texts) == 12
    assert len({scored(text, candidates) for text in texts}) == 1


def test_a_weight_of_zero_leaves_a_scorer_out() -> None:
    """It is not even asked."""
    candidates = make_candidates(cached_prompt_tokens=[4, 20], num_outstanding=[0, 1])
    choice = scored("precise-prefix-cache:0,load-balance:1", candidates, **SHARED)
    assert choice == (0, (1, 0.5))
    assert [candidate.num_cache_questions for candidate in candidates] == [0, 0]


def test_reports_are_read_once_and_only_when_needed() -> None:
    """Three scorers share a report; scorers of the gateway's own books need none."""
    candidates = make_candidates(3)
    scored("queue-depth,kv-utilization,running-requests", candidates)
    assert [candidate.num_reports for candidate in candidates] == [1, 1, 1]
    candidates = make_candidates(3)
    own = "load-balance,prefix-affinity,session-affinity,precise-prefix-cache"
    scored(own, candidates, **SHARED)
    assert [candidate.num_reports for candidate in candidates] == [0, 0, 0]
