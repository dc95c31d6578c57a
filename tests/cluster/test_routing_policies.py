"""Each policy by examples computed by hand."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.cluster.fake_candidates import (
    FakeCandidate,
    make_asked,
    make_candidates,
    router_of,
    send,
)

ASKED = make_asked()


def numbered(*indices: int) -> list[FakeCandidate]:
    return [FakeCandidate(index) for index in indices]


def test_round_robin_sends_request_i_to_i_mod_n() -> None:
    """With candidates that stay the same, whatever their numbers."""
    router = router_of("round-robin")
    candidates = numbered(2, 5, 9)
    sent = [send(router, ASKED, candidates) for _ in range(10)]
    assert sent == [2, 5, 9, 2, 5, 9, 2, 5, 9, 2]


def test_round_robin_goes_on_when_candidates_come_and_go() -> None:
    """The next number after the last one, then from the start."""
    router = router_of("round-robin")
    assert send(router, ASKED, numbered(0, 1, 2, 3)) == 0
    assert send(router, ASKED, numbered(0, 2, 3)) == 2
    assert send(router, ASKED, numbered(0, 1, 2)) == 0
    assert send(router, ASKED, numbered(0, 4)) == 4
    assert send(router, ASKED, numbered(0, 4, 5)) == 5


def test_round_robin_moves_on_only_when_a_request_is_sent() -> None:
    """A choice that comes to nothing is no turn."""
    router = router_of("round-robin")
    candidates = numbered(0, 1)
    positions = [router.choose(ASKED, candidates).position for _ in range(3)]
    assert positions == [0, 0, 0]


def test_random_is_uniform() -> None:
    """4000 draws among 4: each within 5 standard errors of 1000."""
    router = router_of("random", seed=3)
    candidates = make_candidates(4)
    counts = Counter(router.choose(ASKED, candidates).position for _ in range(4000))
    standard_error = (4000 * 0.25 * 0.75) ** 0.5
    assert sorted(counts) == [0, 1, 2, 3]
    assert max(abs(count - 1000) for count in counts.values()) < 5 * standard_error


def test_least_loaded_takes_the_fewest_waiting_and_running() -> None:
    """Loads 7, 5, 6: the second one, with the negative loads as scores."""
    candidates = make_candidates(num_waiting=[0, 4, 3], num_running=[7, 1, 3])
    choice = router_of("least-loaded").choose(ASKED, candidates)
    assert choice == (1, (-7, -5, -6))


def test_ties_go_to_the_fewest_sent_then_to_the_first() -> None:
    """Positions 1, 2 and 3 are equally loaded; 2 and 3 were sent fewer requests."""
    candidates = make_candidates(num_running=[9, 1, 1, 1], num_sent=[0, 8, 5, 5])
    assert router_of("least-loaded").choose(ASKED, candidates).position == 2


def test_power_of_two_compares_two_different_candidates() -> None:
    """With two candidates both are always drawn; with more, only two are asked."""
    two = make_candidates(num_running=[5, 4])
    router = router_of("power-of-two")
    assert [router.choose(ASKED, two).position for _ in range(20)] == [1] * 20
    many = make_candidates(num_running=range(6))
    router.choose(ASKED, many)
    assert sorted(candidate.num_reports for candidate in many) == [0, 0, 0, 0, 1, 1]


def test_power_of_two_draws_all_pairs_alike() -> None:
    """Of loads 0..3 the best is chosen in 3 of 6 pairs, the next in 2, then 1, then none."""
    router = router_of("power-of-two", seed=1)
    candidates = make_candidates(num_running=[3, 1, 0, 2])
    counts = Counter(router.choose(ASKED, candidates).position for _ in range(6000))
    for position, expected in ((2, 3000), (1, 2000), (3, 1000), (0, 0)):
        standard_error = (expected * (6000 - expected) / 6000) ** 0.5
        assert abs(counts[position] - expected) <= 5 * standard_error


def test_power_of_two_breaks_ties_as_all_do() -> None:
    """By requests sent, then by number, in whatever order the two were drawn."""
    router = router_of("power-of-two")
    for num_sent, position in (([4, 3], 1), ([3, 4], 0), ([3, 3], 0)):
        candidates = make_candidates(num_running=[2, 2], num_sent=num_sent)
        assert {router.choose(ASKED, candidates).position for _ in range(20)} == {position}


def test_a_lone_candidate_is_always_chosen() -> None:
    """Also by policies that draw."""
    assert router_of("power-of-two").choose(ASKED, [FakeCandidate(7)]).position == 0
    assert router_of("random").choose(ASKED, [FakeCandidate(7)]).position == 0


def test_shortest_expected_ttft_takes_the_soonest() -> None:
    """Its scores are negative times."""
    candidates = make_candidates(expected_ttft_us=[300, 250, 900])
    choice = router_of("shortest-expected-ttft").choose(ASKED, candidates)
    assert choice == (1, (-300, -250, -900))
    assert [candidate.num_reports for candidate in candidates] == [0, 0, 0]


def test_vllm_dp_counts_a_waiting_request_four_times() -> None:
    """Scores 4 * 2 + 0 = 8 and 4 * 1 + 5 = 9: fewer requests do not win."""
    candidates = make_candidates(num_waiting=[1, 2], num_running=[5, 0])
    assert router_of("vllm-dp").choose(ASKED, candidates) == (1, (-9, -8))


def test_vllm_dp_counts_what_was_sent_since_the_report_as_waiting() -> None:
    """3 + 4 * 0 against 1 + 4 * (10 - 9): the first one, though it reported more."""
    candidates = make_candidates(num_running=[3, 1], num_sent=[10, 10], reported_sent=[10, 9])
    assert router_of("vllm-dp").choose(ASKED, candidates) == (0, (-3, -5))


def test_vllm_dp_spreads_a_burst_between_two_reports() -> None:
    """8 requests on 4 idle instances whose reports never change: 2 each."""
    candidates = make_candidates(num_sent=[0] * 4, reported_sent=[0] * 4)
    router = router_of("vllm-dp")
    for _ in range(8):
        candidates[send(router, ASKED, candidates)].num_sent += 1
    assert [candidate.num_sent for candidate in candidates] == [2, 2, 2, 2]


def test_a_session_stays_on_its_instance() -> None:
    """However loaded it is, for as long as it is a candidate; then it moves for good."""
    router = router_of("session-affinity")
    calm = make_candidates(num_running=[1, 0, 2])
    busy = make_candidates(num_running=[1, 50, 2])
    asked = make_asked(session_id="a")
    assert send(router, asked, calm) == 1
    assert router.choose(asked, busy) == (1, None)
    assert send(router, asked, [busy[0], busy[2]]) == 0
    assert send(router, asked, busy) == 0


def test_new_sessions_and_requests_without_one_go_to_the_least_loaded() -> None:
    """With the scores of least-loaded."""
    router = router_of("session-affinity")
    candidates = make_candidates(num_running=[3, 4, 2])
    router.sent(make_asked(session_id="a"), candidates[0])
    for asked in (make_asked(), make_asked(session_id="b")):
        assert router.choose(asked, candidates) == (2, (-3, -4, -2))


def test_a_stopped_instance_loses_its_sessions_alone() -> None:
    """Even if its number is used again."""
    router = router_of("session-affinity")
    candidates = make_candidates(num_running=[3, 4, 3, 2])
    sessions = [make_asked(session_id=name) for name in "abc"]
    for asked, candidate in zip(sessions, candidates, strict=False):
        router.sent(asked, candidate)
    router.forget(1)
    assert [router.choose(asked, candidates).position for asked in sessions] == [0, 3, 2]


def group(prompt_tokens: int = 40) -> dict[str, object]:
    return {"prompt_tokens": prompt_tokens, "prefix_group": "g", "prefix_tokens": 24}


def test_prefix_affinity_follows_the_longest_match() -> None:
    """24 and 16 tokens were sent before; the fraction is 1 / (1 + outstanding)."""
    router = router_of("prefix-affinity")
    candidates = make_candidates(num_outstanding=[0, 3, 9])
    router.sent(make_asked(prompt_tokens=30, prefix_group="g", prefix_tokens=16), candidates[1])
    router.sent(make_asked(**group()), candidates[2])
    assert router.choose(make_asked(**group()), candidates) == (2, (1.0, 16.25, 24.1))


def test_prefix_affinity_without_a_match_takes_the_fewest_outstanding() -> None:
    """Private prompts too."""
    router = router_of("prefix-affinity")
    candidates = make_candidates(num_outstanding=[2, 1, 3])
    for asked in (make_asked(prompt_tokens=40), make_asked(**group())):
        assert router.choose(asked, candidates) == (1, (1 / 3, 1 / 2, 1 / 4))


def test_prefix_affinity_chooses_by_load_among_equal_matches() -> None:
    """Both were sent the prefix; the new instance was not."""
    router = router_of("prefix-affinity")
    candidates = make_candidates(num_outstanding=[4, 3, 0])
    for candidate in candidates[:2]:
        router.sent(make_asked(**group()), candidate)
    assert router.choose(make_asked(**group()), candidates).position == 1


@pytest.mark.parametrize(
    ("loads", "position"),
    [
        ([64, 0], 0),  # 64 - 0 is not more than 64
        ([65, 0], 1),
        ([195, 130], 0),  # 195 is not more than 1.5 * 130
        ([196, 130], 1),
    ],
)
def test_prefix_affinity_gives_way_when_load_is_uneven(loads: list[int], position: int) -> None:
    """Where max - min > 64 and max > 1.5 * min."""
    router = router_of("prefix-affinity")
    candidates = make_candidates(num_outstanding=loads)
    router.sent(make_asked(**group()), candidates[0])
    assert router.choose(make_asked(**group()), candidates).position == position


def test_prefix_affinity_forgets_a_stopped_instance() -> None:
    """Nothing is cached there any more."""
    router = router_of("prefix-affinity")
    candidates = make_candidates(num_outstanding=[1, 0])
    router.sent(make_asked(**group()), candidates[0])
    assert router.choose(make_asked(**group()), candidates).position == 0
    router.forget(0)
    assert router.choose(make_asked(**group()), candidates).position == 1


def test_prefix_affinity_remembers_as_much_as_is_set() -> None:
    """6 blocks of the prefix and 4 of another prompt do not fit into 8: 4 are left of it."""
    router = router_of("prefix-affinity", prefix_index_blocks=8)
    candidates = make_candidates(num_outstanding=[0])
    router.sent(make_asked(prompt_tokens=24, prefix_group="g", prefix_tokens=24), candidates[0])
    router.sent(make_asked(prompt_tokens=16), candidates[0])
    assert router.choose(make_asked(**group()), candidates).scores == (16 + 1,)
