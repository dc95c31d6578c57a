"""Loads computed in several ways, in other processes, and drawn at random: always the same."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from blis_sim.api import load_scenario, simulate
from blis_sim.errors import ConfigError
from blis_sim.metrics.records import Status
from blis_sim.workload.stream import open_workload

if TYPE_CHECKING:
    from blis_sim.metrics.result import Result

USERS = {"process": "closed_loop", "num_users": 8}


BLACKBOX = {"latency": {"model": "blackbox"}}


def run(workload: dict[str, Any], **parts: Any) -> Result:
    return simulate(load_scenario({**BLACKBOX, **parts, "workload": workload}))


SPECS: dict[str, dict[str, Any]] = {
    "users": {"preset": "chatbot", "arrivals": {**USERS, "num_users": 40}, "num_requests": 300},
    "users who give up": {
        "preset": "chatbot",
        "arrivals": {**USERS, "num_users": 60, "think_time_s": 0.2},
        "timeout_s": 3.0,
        "num_requests": 300,
    },
    "sessions": {
        "prompt": {"mean": 200, "stdev": 50},
        "output": {"mean": 80, "stdev": 30},
        "request_rate": 5.0,
        "num_requests": 60,
        "sessions": {"rounds": 4, "think_time_s": {"kind": "exponential", "mean": 1.0}},
        "timeout_s": 1.2,
    },
    "capped": {"preset": "chatbot", "request_rate": 40.0, "num_requests": 300,
               "max_outstanding": 11},
    "stages with gaps": {
        "preset": "chatbot",
        "stages": [{"rate": 30, "duration_s": 4}, {"rate": 0, "duration_s": 1},
                   {"rate": 2, "end_rate": 30, "duration_s": 6}],
        "stage_gap_s": 2.0,
        "max_outstanding": 30,
    },
    "pool": {
        "prompts": {"kind": "shared_prefix", "num_groups": 3, "num_prompts_per_group": 2,
                    "system_prompt_len": 50, "question_len": {"mean": 90, "stdev": 30},
                    "output_len": {"mean": 60, "stdev": 30}, "order": "random"},
        "arrivals": {"process": "weibull", "cv": 2.0},
        "request_rate": 30.0,
        "num_requests": 300,
        "max_outstanding": 40,
    },
    "mixture of clients": {
        "num_requests": 400,
        "request_rate": 20.0,
        "max_outstanding": 50,
        "clients": [
            {"name": "chat", "rate_fraction": 0.7, "preset": "chatbot", "slo_class": "gold",
             "tenant": "a", "sessions": {"rounds": 3, "think_time_s": 0.5}},
            {"name": "docs", "rate_fraction": 0.3, "prompt": "256:0.5|4096:0.5", "output": 20,
             "prefix_tokens": 80, "num_prefix_groups": 2, "tenant": "b", "timeout_s": 2.0},
            {"name": "users", "arrivals": {**USERS, "think_time_s": 0.1}, "preset": "chatbot",
             "priority": 3, "max_outstanding": 5},
        ],
    },
}  # fmt: skip


@pytest.mark.parametrize("pressure", [False, True], ids=["roomy", "tight"])
@pytest.mark.parametrize("spec", SPECS)
def test_coalescing_changes_no_request(spec: str, pressure: bool) -> None:
    """In exact batches of steps or step by step: the same requests, whatever clients wait for."""
    engine = {"num_gpu_blocks_override": 320, "max_num_seqs": 24} if pressure else {}
    fast, slow = (run(SPECS[spec], engine=engine, coalesce=coalesce) for coalesce in (True, False))
    assert len(fast.requests) > 100
    assert fast.requests.equals(slow.requests)
    assert fast.context.notices == slow.context.notices
    assert fast.conservation == slow.conservation


def test_a_horizon_cuts_a_load_with_feedback() -> None:
    """Up to the horizon the run is the same; then nothing more is sent."""
    load = {key: value for key, value in SPECS["users"].items() if key != "num_requests"}
    longer, shorter = (run(load, horizon_s=horizon_s).requests for horizon_s in (30.0, 15.0))
    assert 8 < len(shorter) < len(longer)
    before = longer[longer["arrival_us"] <= 15_000_000]
    assert before["arrival_us"].tolist() == shorter["arrival_us"].tolist()


DIGEST = """
import hashlib, json, sys
from blis_sim.api import load_scenario, simulate
for spec in json.loads(sys.stdin.read()):
    result = simulate(load_scenario({"latency": {"model": "blackbox"}, "workload": spec}))
    text = result.requests.to_csv() + json.dumps(list(result.context.notices))
    print(hashlib.sha256(text.encode()).hexdigest())
"""


def test_a_spec_gives_the_same_bytes_in_another_process() -> None:
    """Whatever PYTHONHASHSEED is, a spec gives the same requests and notices."""
    specs = list(SPECS.values())
    expected = []
    for spec in specs:
        result = run(spec)
        text = result.requests.to_csv() + json.dumps(list(result.context.notices))
        expected.append(hashlib.sha256(text.encode()).hexdigest())
    output = subprocess.run(
        [sys.executable, "-c", DIGEST],
        input=json.dumps(specs),
        env={**os.environ, "PYTHONHASHSEED": "4242"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[1],
    ).stdout
    assert output.split() == expected
    assert len(set(expected)) == len(specs)


# -- whatever people may write -----------------------------------------------------------


def maybe(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of the fields, each half of the time."""
    return st.fixed_dictionaries({}, optional=fields)


LENGTHS = st.integers(1, 60) | st.sampled_from(
    [
        "8:0.5|40:0.5",
        {"mean": 30, "stdev": 10},
        {"kind": "uniform", "min": 2, "max": 50},
        {"kind": "lognormal", "mean": 20, "stdev": 15, "max": 80},
        {"kind": "empirical", "values": [3, 17, 64]},
        {"kind": "exponential", "mean": 12},
    ]
)
SECONDS = st.sampled_from(
    [0, 0.5, {"kind": "exponential", "mean": 0.3}, {"kind": "normal", "mean": 1, "stdev": 0.5}]
)
ARRIVALS = st.sampled_from(
    [
        "poisson",
        "constant",
        "all_at_once",
        {"burstiness": 0.5},
        {"process": "weibull", "cv": 2.0},
        {"process": "gamma", "cv": 0.5, "normalize_span": True},
        {"normalize_span": True},
    ]
)
LOOPS = st.builds(
    lambda users, think: {"process": "closed_loop", "num_users": users, "think_time_s": think},
    st.integers(1, 5),
    SECONDS,
)
STAGES = st.lists(
    st.builds(
        lambda rate, seconds, end: {"rate": rate, "duration_s": seconds} | end,
        st.integers(0, 9),
        st.sampled_from([0.5, 1, 2]),
        maybe(end_rate=st.integers(0, 9)),
    ),
    min_size=1,
    max_size=3,
)
CURVES = st.lists(
    st.sampled_from(
        [
            {"kind": "on_off", "on_s": 0.5, "off_s": 0.5},
            {"kind": "spike", "start_s": 1, "duration_s": 1, "factor": 5},
            {"kind": "diurnal", "period_s": 4},
            {"kind": "spike"},
        ]
    ),
    max_size=2,
)
POOLS = st.builds(
    lambda groups, prompts, system, question, output, order: {
        "kind": "shared_prefix",
        "num_groups": groups,
        "num_prompts_per_group": prompts,
        "system_prompt_len": system,
        "question_len": question,
        "output_len": output,
        "order": order,
    },
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 40),
    LENGTHS,
    LENGTHS,
    st.sampled_from(["round_robin", "random"]),
)
TALKS = st.builds(
    lambda rounds, more: {"rounds": rounds} | more,
    st.integers(1, 4) | st.just({"kind": "uniform", "min": 1, "max": 3}),
    maybe(
        think_time_s=SECONDS,
        history=st.sampled_from(["accumulate", "none"]),
        max_context_tokens=st.integers(1, 200),
    ),
)
# Contradictions are welcome, but seldom enough that most loads are sent.
LOAD: dict[str, st.SearchStrategy[Any]] = {
    "prompt": LENGTHS,
    "output": LENGTHS,
    "start_s": st.sampled_from([0, 1.5]),
    "max_outstanding": st.integers(1, 4),
    "max_output_tokens": st.integers(0, 30),
    "timeout_s": st.sampled_from([0.05, 0.3, 5]),
    "priority": st.integers(-1, 1),
    "tenant": st.sampled_from(["a", "b"]),
}
RATES = st.one_of(
    st.builds(lambda rate: {"request_rate": rate}, st.sampled_from([0.5, 3, 50, float("inf")])),
    st.builds(lambda stages: {"stages": stages}, STAGES),
    st.builds(lambda curves: {"rate_curve": curves}, CURVES),
    st.just({}),
)
CONTENTS = st.one_of(
    st.builds(lambda pool: {"prompts": pool, "prompt": None, "output": None}, POOLS),
    st.builds(lambda talks: {"sessions": talks}, TALKS),
    maybe(prefix_tokens=st.integers(0, 40), num_prefix_groups=st.integers(1, 3)),
    st.just({}),
)
BOUNDS = st.one_of(
    st.builds(lambda count: {"num_requests": count}, st.integers(1, 12)),
    st.builds(lambda seconds: {"duration_s": seconds, "num_requests": 20}, st.integers(1, 3)),
)


def merge(*parts: dict[str, Any]) -> dict[str, Any]:
    return {key: value for part in parts for key, value in part.items()}


TIMES = st.one_of(
    st.builds(merge, RATES, maybe(arrivals=ARRIVALS)),
    st.builds(lambda loop: {"arrivals": loop}, LOOPS),
)
ONE = st.builds(merge, maybe(**LOAD), TIMES, CONTENTS, BOUNDS)
SHARER = st.builds(merge, maybe(**LOAD), maybe(arrivals=ARRIVALS), CONTENTS, BOUNDS)


def named(clients: list[dict[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    return [client | {"name": name} for client, name in zip(clients, names, strict=False)]


def several(one: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Return a few clients, with names or without; seldom two of one name."""
    clients = st.lists(one, min_size=1, max_size=3)
    names = st.permutations(["x", "y", "z"]) | st.permutations(["x", "y", "y"])
    return clients | st.builds(named, clients, names)


def sharing(clients: list[dict[str, Any]], rates: dict[str, Any]) -> dict[str, Any]:
    """Return clients who have equal shares of a rate, instead of rates of their own."""
    own = {"rate_fraction": 1 / len(clients)}
    return rates | {"clients": [client | own for client in clients]}


MANY = st.builds(
    merge,
    maybe(max_outstanding=st.integers(1, 4)),
    st.sampled_from([{}, {}, {}, {}, {}, {"slo_class": "common"}, {"timeout_s": 0.2}]),
    st.just({}) | BOUNDS,
    st.builds(lambda clients: {"clients": clients}, several(ONE))
    | st.builds(sharing, several(SHARER), RATES.filter(lambda r: "rate_curve" not in r and r)),
)
GAPS = st.sampled_from([{}, {}, {}, {"stage_gap_s": 0}, {"stage_gap_s": 0.7}])
REACH: Counter[str] = Counter()


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.builds(merge, ONE | MANY, GAPS), st.sampled_from([None, 0.5, 5.0]))
def test_every_load_is_refused_in_one_line_or_is_sent_and_counted(
    load: dict[str, Any], horizon_s: float | None
) -> None:
    """A load is a ConfigError of one line, or a sorted stream whose simulation loses nothing."""
    refusal = ""
    try:
        scenario = load_scenario({**BLACKBOX, "workload": load, "horizon_s": horizon_s})
        horizon_us = None if horizon_s is None else int(horizon_s * 1e6)
        workload = open_workload(scenario.workload, scenario.seed, horizon_us)
        listed = list(islice(workload, 200))
    except ConfigError as error:
        refusal = str(error)
    if refusal:
        assert refusal.count("\n") == 0
        REACH["refused"] += 1
        return
    assert [request.request_id for request in listed] == list(range(len(listed)))
    assert [r.arrival_us for r in listed] == sorted(r.arrival_us for r in listed)
    for request in listed:
        assert request.prompt_tokens >= 1
        assert 0 <= request.prefix_tokens <= request.prompt_tokens
        assert request.output_tokens >= 0
    if workload.num_requests is not None and horizon_s is None and workload.is_open:
        assert len(listed) == workload.num_requests
    result = simulate(scenario)
    counts = dict(result.conservation)
    where = [counts[status.name.lower()] for status in Status]
    assert counts["injected"] == sum(where) == len(result.requests)
    if workload.is_open and horizon_s is None:
        assert result.requests["arrival_us"].tolist() == [r.arrival_us for r in listed]
    slow = simulate(scenario.model_copy(update={"coalesce": False}))
    assert slow.requests.equals(result.requests)
    REACH["open" if workload.is_open else "with feedback"] += bool(listed)


def test_loads_of_all_kinds_were_tried() -> None:
    """The loads drawn above are refused, open and with feedback now and then."""
    if not REACH:
        pytest.skip("the property did not run")
    assert min(REACH[kind] for kind in ("refused", "open", "with feedback")) >= 3, REACH
