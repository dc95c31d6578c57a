"""Conversations on several instances: what a router that follows them gains, worked out by hand.

All lengths are constant. Round j of a conversation (0, 1, …) has the prompt

    system prompt, then (question, answer) of each round before, then its own question

so after round j an instance holds ``SYSTEM + (j + 1) * (QUESTION + ANSWER) - 1`` tokens of it: the
last token of an answer is never stored. Caches are large enough to keep everything.
"""

from __future__ import annotations

from functools import cache
from statistics import fmean, stdev

import pandas as pd
import pytest

from blis_sim import load_scenario, simulate

BLOCK = 16
SYSTEM, NUM_SYSTEMS = 512, 5
QUESTION, ANSWER = 200, 100
ROUNDS, SESSIONS = 6, 160
INSTANCES = 4
US_PER_TOKEN = 20


def in_blocks(tokens: int) -> int:
    """Return the tokens in full blocks."""
    return tokens // BLOCK * BLOCK


def after_round(number: int) -> int:
    """Return the tokens of a conversation that are found after a round, -1 = the first prompt."""
    if number < 0:
        return in_blocks(SYSTEM)
    return in_blocks(SYSTEM + (number + 1) * (QUESTION + ANSWER) - 1)


@cache
def served(policy: str) -> pd.DataFrame:
    """Return the requests of all conversations, with the number of each one's round."""
    scenario = load_scenario(
        {
            "engine": {"num_gpu_blocks_override": 200_000, "block_size": BLOCK},
            "latency": {"alpha": [0, 0, 0], "beta": [4000, US_PER_TOKEN, 10]},
            "cluster": {"num_instances": INSTANCES, "routing": policy},
            "workload": {
                "request_rate": 4,
                "num_requests": SESSIONS,
                "prefix_tokens": SYSTEM,
                "num_prefix_groups": NUM_SYSTEMS,
                "prompt": QUESTION,
                "output": ANSWER,
                "sessions": {"rounds": ROUNDS, "think_time_s": {"kind": "exponential", "mean": 8}},
            },
        }
    )
    rows = simulate(scenario).requests
    assert len(rows) == SESSIONS * ROUNDS
    rows["round"] = (rows["prompt_tokens"] - SYSTEM - QUESTION) // (QUESTION + ANSWER)
    return rows


def cold_tokens(num_caches: int) -> int:
    """Return the tokens lost where so many caches meet each system prompt for the first time."""
    return num_caches * NUM_SYSTEMS * in_blocks(SYSTEM)


def test_affinity_finds_every_history() -> None:
    """Each round finds all that its predecessor left; the first finds the system prompt.

    But once: prefix-affinity computes a system prompt on one instance, session-affinity may
    compute it on each.
    """
    rows = {policy: served(policy) for policy in ("prefix-affinity", "session-affinity")}
    for policy, num_caches in (("prefix-affinity", 1), ("session-affinity", INSTANCES)):
        later = rows[policy][rows[policy]["round"] > 0]
        assert (later["cached_tokens"] == later["round"].map(lambda r: after_round(r - 1))).all()
        first = rows[policy][rows[policy]["round"] == 0]
        assert set(first["cached_tokens"]) == {0, after_round(-1)}
        num_cold = (first["cached_tokens"] == 0).sum()
        assert NUM_SYSTEMS <= num_cold <= num_caches * NUM_SYSTEMS


def expected_hits(number: int) -> float:
    """Return the mean tokens that a round finds on an instance drawn at random.

    The latest round that was there is j with probability 1/N (1 - 1/N)^(number - 1 - j); if
    none was, the system prompt is found.
    """
    other = 1 - 1 / INSTANCES
    histories = sum(after_round(j) * other ** (number - 1 - j) / INSTANCES for j in range(number))
    return histories + after_round(-1) * other**number


def test_round_robin_finds_a_history_when_it_happens_to_come_back() -> None:
    """As often as a die with as many faces as instances says, within four standard errors.

    The times at which a client thinks make the turn of the rounds random. At most one system
    prompt on each instance is met for the first time.
    """
    rows = served("round-robin")
    for number in range(1, ROUNDS):
        hits = rows.loc[rows["round"] == number, "cached_tokens"].tolist()
        assert len(hits) == SESSIONS
        error = stdev(hits) / SESSIONS**0.5
        assert abs(fmean(hits) - expected_hits(number)) < 4 * error
        came_back = fmean(hit == after_round(number - 1) for hit in hits)
        chance = 1 / INSTANCES
        assert abs(came_back - chance) < 4 * (chance * (1 - chance) / SESSIONS) ** 0.5
    first = rows.loc[rows["round"] == 0, "cached_tokens"]
    lost = SESSIONS * after_round(-1) - int(first.sum())
    assert 0 < lost <= cold_tokens(INSTANCES)


def test_the_gain_is_the_prompt_tokens_saved() -> None:
    """Hit rates lie apart by what the two tests above say, and prefills shrink accordingly."""
    totals = {}
    for policy in ("round-robin", "prefix-affinity"):
        rows = served(policy)
        totals[policy] = int(rows["cached_tokens"].sum()) / int(rows["prompt_tokens"].sum())
    prompts = sum(SYSTEM + QUESTION + n * (QUESTION + ANSWER) for n in range(ROUNDS))
    best = sum(after_round(n - 1) for n in range(ROUNDS)) / prompts
    by_chance = sum(expected_hits(n) for n in range(ROUNDS)) / prompts
    cold = cold_tokens(INSTANCES) / (SESSIONS * prompts)
    assert best - cold <= totals["prefix-affinity"] <= best
    assert totals["round-robin"] == pytest.approx(by_chance, abs=0.03)
    assert totals["prefix-affinity"] - totals["round-robin"] > 0.2


def test_the_first_token_comes_earlier_by_the_tokens_saved() -> None:
    """By the time they would take, about: hardly anybody waits, but affinity loads unevenly."""
    robin, affinity = served("round-robin"), served("prefix-affinity")
    saved = affinity["cached_tokens"].mean() - robin["cached_tokens"].mean()
    gain_ms = robin["ttft_ms"].mean() - affinity["ttft_ms"].mean()
    assert gain_ms == pytest.approx(saved * US_PER_TOKEN / 1000, rel=0.1)
