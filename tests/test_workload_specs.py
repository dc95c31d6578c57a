"""Loads from their YAML to the figures of a run: sharing, feedback and stages."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

from blis_sim.api import load_scenario, simulate
from blis_sim.workload.stream import open_workload

if TYPE_CHECKING:
    import pandas as pd

    from blis_sim.metrics.result import Result

SHARED_PREFIX = """
workload:
  stages: [{rate: 5, duration_s: 600}, {rate: 10, duration_s: 600}]
  arrivals: {process: poisson, normalize_span: true}
  prompts: {kind: shared_prefix, num_groups: 10, num_prompts_per_group: 10,
            system_prompt_len: 100, question_len: 491, output_len: 247, order: round_robin}
  max_outstanding: 256
"""
DEPLOYMENT = {
    "model": "llama-3.1-8b",
    "hardware": "H100",
    "latency": {"model": "blackbox"},
}
BLOCK = 16
USERS = {"process": "closed_loop", "num_users": 8}


def run(workload: dict[str, Any], **parts: Any) -> Result:
    return simulate(load_scenario({**DEPLOYMENT, **parts, "workload": workload}))


def frame(workload: dict[str, Any], **parts: Any) -> pd.DataFrame:
    """Return the requests of a run in which all were answered."""
    requests = run(workload, **parts).requests
    assert set(requests["status"]) == {"completed"}
    return requests


def in_flight(requests: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the instants of arrivals and ends, and how many requests are open from each on."""
    times = np.concatenate([requests["arrival_us"], requests["last_token_us"]])
    steps = np.repeat([1, -1], len(requests))
    instants, where = np.unique(times, return_inverse=True)
    return instants, np.cumsum(np.bincount(where, weights=steps)).astype(int)


# -- the pool of prompts ------------------------------------------------------


@pytest.fixture(scope="module")
def pool() -> Result:
    """A run of the pool as it is written above."""
    return run(yaml.safe_load(SHARED_PREFIX)["workload"])


def test_a_warm_pool_computes_what_the_blocks_leave_over(pool: Result) -> None:
    """Of 591 tokens 576 = 16 * 36 are cached, so 15 are computed; the first cycle warms up.

    A group's first prompt hits nothing, its others the 96 = 16 * 6 tokens of full blocks of
    the 100-token system prompt.
    """
    requests = pool.requests
    assert requests["prompt_tokens"].unique().tolist() == [591]
    assert requests["output_tokens"].unique().tolist() == [247]
    cached = requests["cached_tokens"].to_numpy()
    assert cached[:10].tolist() == [0] * 10
    assert cached[10:100].tolist() == [96] * 90
    assert set(591 - cached[100:]) == {15}
    computed = pool.run.counters[0].num_prefill_tokens
    assert computed == 10 * 591 + 90 * (591 - 96) + 8900 * 15


def test_the_stages_of_a_normalized_load_end_on_time(pool: Result) -> None:
    """3,000 arrivals by exactly 600 s and 6,000 more by exactly 1,200 s."""
    arrivals = pool.requests["arrival_us"]
    assert len(arrivals) == 3000 + 6000
    assert (arrivals[2999], arrivals[8999]) == (600_000_000, 1_200_000_000)
    assert arrivals[3000] > 600_000_000


def test_prompts_at_random_hit_what_was_sent_before() -> None:
    """576 tokens if the prompt came before, 96 if one of its group did, else none."""
    settings = yaml.safe_load(SHARED_PREFIX)["workload"]
    settings["prompts"]["order"] = "random"
    settings["stages"] = [{"rate": 5, "duration_s": 200}]
    scenario = load_scenario({**DEPLOYMENT, "workload": settings})
    specs = list(open_workload(scenario.workload, scenario.seed))
    cached = simulate(scenario).requests["cached_tokens"].tolist()
    seen: set[str | None] = set()
    for spec, hit in zip(specs, cached, strict=True):
        expected = 576 if spec.prompt_id in seen else 96 if spec.prefix_group in seen else 0
        assert hit == expected
        seen |= {spec.prompt_id, spec.prefix_group}
    assert len(seen) == 100 + 10


def test_a_prefix_is_hit_with_its_full_blocks() -> None:
    """Clients that name one prefix share its full blocks; clients of their own do not."""
    client = {"prompt": 50, "output": 5, "num_requests": 20, "prefix_tokens": 100}
    named = [{**client, "tenant": name, "prefix_group": "rules"} for name in "ab"]
    own = [{**client, "tenant": name} for name in "ab"]
    for clients, misses in [(named, 1), (own, 2)]:
        requests = frame({"clients": clients})
        assert requests["cached_tokens"].tolist().count(0) == misses
        assert set(requests["cached_tokens"]) == {0, 96}


# -- conversations ----------------------------------------------------------------

TALKS: dict[str, Any] = {
    "prompt": {"mean": 300, "stdev": 80},
    "output": {"mean": 60, "stdev": 20},
    "request_rate": 2.0,
    "num_requests": 1,
    "sessions": {
        "rounds": {"kind": "uniform", "min": 2, "max": 7},
        "think_time_s": {"kind": "exponential", "mean": 1.5},
    },
}
"""Each client has one conversation, so that its tenant tells the rounds apart."""


@pytest.mark.parametrize("cap", [None, 2])
def test_a_round_hits_the_prompt_and_answer_before_it(cap: int | None) -> None:
    """The hit is the full blocks of prompt + answer less the answer's last token.

    prompt(r) = prompt(r-1) + answer(r-1) + new tokens; it comes after the answer was seen,
    also where the client may only have so many open.
    """
    clients = [{**TALKS, "tenant": f"t{number}"} for number in range(12)]
    requests = frame({"clients": clients, "max_outstanding": cap})
    num_rounds = 0
    for _, rounds in requests.groupby("tenant"):
        rows = rounds.sort_values("arrival_us").to_dict("records")
        assert 2 <= len(rows) <= 7
        assert rows[0]["cached_tokens"] == 0
        for before, after in pairwise(rows):
            known = before["prompt_tokens"] + before["output_tokens"]
            assert after["prompt_tokens"] > known
            assert after["cached_tokens"] == (known - 1) // BLOCK * BLOCK
            assert after["arrival_us"] >= before["last_token_us"]
            num_rounds += 1
    assert num_rounds > 20
    if cap is not None:
        assert in_flight(requests)[1].max() == cap


def test_a_round_comes_when_its_answer_was_seen_and_thought_about() -> None:
    """Its arrival is the last token at the client, output processing included, plus thinking."""
    requests = frame(
        {
            "prompt": 100,
            "output": 40,
            "request_rate": 1.0,
            "num_requests": 30,
            "sessions": {"rounds": 4, "think_time_s": 2.5},
        }
    )
    assert len(requests) == 120
    for number in range(1, 4):
        before = requests[requests["prompt_tokens"] == 100 + (number - 1) * 140]
        after = requests[requests["prompt_tokens"] == 100 + number * 140]
        due = np.sort(before["last_token_us"]) + 2_500_000
        assert np.sort(after["arrival_us"]).tolist() == due.tolist()
        assert set(after["cached_tokens"]) == {(number * 140 - 1) // BLOCK * BLOCK}


def test_rounds_without_history_share_only_the_prefix() -> None:
    """Nothing of an earlier round is hit but the blocks of the common prefix."""
    requests = frame(
        {
            "prompt": 100,
            "output": 40,
            "prefix_tokens": 64,
            "num_requests": 5,
            "sessions": {"rounds": 4, "history": "none"},
        }
    )
    assert requests["prompt_tokens"].unique().tolist() == [164]
    assert requests["cached_tokens"].tolist() == [0] + [64] * 19


# -- users and caps ---------------------------------------------------------------


def test_users_who_do_not_think_are_always_in_flight() -> None:
    """N users, no think time: N requests open from the first instant to the last arrival."""
    requests = frame({"preset": "chatbot", "arrivals": USERS, "num_requests": 300})
    instants, num_open = in_flight(requests)
    last_us = requests["arrival_us"].max()
    assert set(num_open[instants <= last_us]) == {8}
    assert num_open[-1] == 0


def test_users_obey_littles_law() -> None:
    """Users = rate * (time in the system + think time), within 4.5 standard errors."""
    think = {"kind": "exponential", "mean": 3.0}
    requests = frame(
        {
            "preset": "chatbot",
            "arrivals": {**USERS, "num_users": 20, "think_time_s": think},
            "num_requests": 3000,
        }
    )
    count, end_us = len(requests), requests["arrival_us"].max()
    e2e_s = requests["e2e_ms"].mean() / 1000
    cycle_s, rate = e2e_s + 3.0, count / (end_us / 1e6)
    # Think times are exponential: their mean is off by a standard error of mean / sqrt(count),
    # that of the time in the system is measured. Each user's last cycle is cut off.
    error = 4.5 * 20 * (3.0 / cycle_s) / math.sqrt(count) + 20 * 20 / count
    assert rate * cycle_s == pytest.approx(20, abs=error)
    assert error < 1.5


@pytest.mark.parametrize("cap", [1, 7, 64])
def test_a_cap_is_never_exceeded(cap: int) -> None:
    """At most so many are open at any instant; what is due waits, and is late for it."""
    load = {"preset": "chatbot", "request_rate": 40.0, "num_requests": 400}
    due = run(load).requests["arrival_us"]
    result = run({**load, "max_outstanding": cap})
    requests = result.requests
    assert in_flight(requests)[1].max() == cap
    assert (requests["arrival_us"] >= due).all()
    late_s = (requests["arrival_us"] - due).max() / 1e6
    note = next(n for n in result.context.notices if "were due while" in n)
    assert f"up to {late_s:,.3f} s late" in note
    # Times count from when a request is sent, not from when it was due.
    ttft_ms = (requests["first_token_us"] - requests["arrival_us"]) / 1000
    e2e_ms = (requests["last_token_us"] - requests["arrival_us"]) / 1000
    assert np.allclose(requests["ttft_ms"], ttft_ms)
    assert np.allclose(requests["e2e_ms"], e2e_ms)
    assert result.context.max_concurrency == cap


def test_a_cap_that_never_bites_changes_nothing() -> None:
    """With room for all the load is the same, and nothing is said."""
    load = {"preset": "chatbot", "request_rate": 5.0, "num_requests": 200}
    capped = run({**load, "max_outstanding": 200})
    assert capped.requests.equals(run(load).requests)
    assert not any("were due while" in note for note in capped.context.notices)


# -- stages with a gap --------------------------------------------------------------


@pytest.mark.parametrize("cap", [None, 20])
def test_a_stage_begins_when_the_one_before_has_drained(cap: int | None) -> None:
    """Its arrivals are counted from the last answer, or the stage's end, plus the gap."""
    load = {
        "preset": "chatbot",
        "stages": [{"rate": 60, "duration_s": 5}, {"rate": 1, "duration_s": 30}] * 2,
        "arrivals": {"normalize_span": True},
        "stage_gap_s": 4.0,
        "max_outstanding": cap,
    }
    requests = frame(load)
    bounds = np.cumsum([0, 300, 30, 300, 30])
    assert len(requests) == bounds[-1]
    plain = run({**load, "stage_gap_s": None, "max_outstanding": None}).requests["arrival_us"]
    begin_us, nominal_us = 0, 0
    for number, length_s in enumerate([5, 30, 5, 30]):
        part = slice(bounds[number], bounds[number + 1])
        sent = requests["arrival_us"][part]
        due = plain[part] - nominal_us + begin_us
        assert (sent >= due).all()
        if cap is None:
            assert sent.tolist() == due.tolist()
        end_us = max(begin_us + length_s * 1_000_000, requests["last_token_us"][part].max())
        begin_us, nominal_us = end_us + 4_000_000, nominal_us + length_s * 1_000_000
        if number < 3:
            assert requests["arrival_us"][bounds[number + 1]] > begin_us


def test_gamma_and_ramp_stages_arrive_as_often_as_due() -> None:
    """Counts of each stage are the rate's integral within 4.5 standard errors."""
    load = {
        "prompt": 20,
        "output": 5,
        "stages": [
            {"rate": 20, "duration_s": 50},
            {"rate": 5, "end_rate": 35, "duration_s": 50},
        ],
        "arrivals": {"process": "gamma", "cv": 1.5},
    }
    arrivals_s = frame(load)["arrival_us"] / 1e6
    for begin_s in (0, 50):
        count = ((arrivals_s > begin_s) & (arrivals_s <= begin_s + 50)).sum()
        assert count == pytest.approx(1000, abs=4.5 * 1.5 * math.sqrt(1000))
