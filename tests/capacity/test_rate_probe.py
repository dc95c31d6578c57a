"""The search of one candidate on the simulator: queues of theory, loads of every kind."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from blis_sim.capacity.candidate import CandidatePlan, PlanCandidate
from blis_sim.capacity.plan import PlanSettings
from blis_sim.capacity.plan_load import at_rate, check_scenario, look_at
from blis_sim.capacity.rate_probe import CandidateSearch, measurement_of, probe_point, requests_of
from blis_sim.capacity.search import Probe, Verdict
from blis_sim.capacity.slo import parse_slo
from blis_sim.capacity.study import Outcome, OutcomeStatus, Window
from blis_sim.capacity.worker import simulate_point
from blis_sim.config.loading import load_scenario
from blis_sim.config.scenario import Scenario
from blis_sim.errors import ConfigError

from .queues import SERVICE_S, md1_rate_of_mean, md1_rate_of_share

ONE_AT_A_TIME: dict[str, Any] = {
    "engine": {"max_num_seqs": 1, "enable_prefix_caching": False},
    "latency": {"model": "blackbox", "alpha": [0, 0, 0], "beta": [1e6 * SERVICE_S, 0, 0]},
    "workload": {"prompt": 64, "output": 1},
}
"""A step lasts 50 ms whatever is in it, and a request is one step: M/D/1."""


def make_scenario(**changes: Any) -> Scenario:
    return load_scenario(ONE_AT_A_TIME | changes)


def make_search(
    slo: str, scenario: Scenario | None = None, *, most: int | None = 4000, **settings: Any
) -> CandidateSearch:
    candidate = PlanCandidate(scenario or make_scenario(), "a model", "H100")
    return CandidateSearch(candidate, parse_slo(slo), PlanSettings(most_requests=most, **settings))


def searched(search: CandidateSearch) -> CandidatePlan:
    """Let it simulate until it knows, in no more than 12 simulations."""
    number = 0
    while (point := search.ask()) is not None:
        number += 1
        search.tell(simulate_point(point))
    assert number == len(search.found.measurements) <= 12
    return search.plan("")


# -- queueing theory --------------------------------------------------------------


@pytest.mark.parametrize(
    ("slo", "truth"),
    [
        ("mean_ttft_ms:100", md1_rate_of_mean(0.1)),
        ("p99_ttft_ms:500", md1_rate_of_share(0.5, 0.99)),
        ("p95_e2el_ms:150,mean_ttft_ms:300", md1_rate_of_share(0.15, 0.95)),
    ],
)
def test_the_range_holds_what_theory_says(slo: str, truth: float) -> None:
    """One seat and constant work is M/D/1: Pollaczek and Khinchine's mean, Erlang's tail."""
    plan = searched(make_search(slo, most=12_000))
    assert plan.found is not None
    assert plan.found.rate <= truth <= plan.found.upper
    assert plan.found.rate >= 0.75 * truth
    assert plan.found.upper <= 1.35 * truth
    assert plan.rate == plan.found.rate
    assert not plan.reason


def test_what_no_queue_limits_is_found_at_its_capacity() -> None:
    """A limit on E2E that nobody comes near: 20 requests/s of 50 ms each.

    4,000 Poisson arrivals come up to 4 % faster or slower than they should.
    """
    found = searched(make_search("p50_e2el_ms:100000")).found
    assert found is not None
    assert 0.95 / SERVICE_S <= found.rate <= 1.06 / SERVICE_S
    assert found.upper <= 1.1 / SERVICE_S
    assert found.at_upper is not None
    assert found.at_upper.is_saturated


# -- what a probe is --------------------------------------------------------------


def test_the_window_of_a_probe() -> None:
    """From a quarter of the arrivals' time to 97 % of it, in twenty slices."""
    limits = parse_slo("p99_ttft_ms:500")
    point = probe_point(make_scenario(), 8.0, 4000, limits, labels={"a": 1}, begin_s=30.0)
    assert point.window == Window(30 + 125, 30 + 485, 20)
    assert point.labels == {"a": 1, "workload.request_rate": 8.0}
    assert point.limits == limits
    load = point.scenario.workload
    assert (load.request_rate, load.num_requests) == (8.0, 4000)
    assert point.scenario.cluster.num_instances == 1


def test_a_cluster_of_replicas_and_settings_that_stay() -> None:
    """All that the user wrote stays, but for what the search decides and the prices."""
    scenario = make_scenario(
        seed=7,
        prices="prices.csv",
        cluster={"routing": "least-loaded"},
        workload={"preset": "chatbot", "duration_s": 9, "num_requests": 7, "request_rate": 3},
    )
    probed = at_rate(scenario, 5.0, 100, num_replicas=3)
    assert probed.workload.duration_s is None
    assert probed.workload.preset == "chatbot"
    assert probed.prices is None
    assert probed.seed == 7
    assert probed.cluster.num_instances == 3
    assert probed.cluster.routing == scenario.cluster.routing


def test_a_measurement_is_what_the_checks_say() -> None:
    """Ratios are value over limit; of a goodput what is bad over what may be."""
    checks: list[Mapping[str, Any]] = [
        {"metric": "p99_ttft_ms", "limit": 500, "value": 400, "margin": 3.5},
        {"metric": "goodput_frac", "limit": 0.99, "value": 0.98, "margin": "-inf"},
        {"metric": "p95_itl_ms", "limit": 50, "value": None, "margin": 0.0},
    ]
    outcome = Outcome(status=OutcomeStatus.DONE, checks=checks, is_saturated=False)
    found = measurement_of(Probe(2.0, 10), outcome)
    assert found.ratios == {"p99_ttft_ms": 0.8, "goodput_frac": pytest.approx(2.0)}
    assert found.margins["goodput_frac"] == -math.inf
    assert found.values["p95_itl_ms"] is None
    assert found.verdict is Verdict.MISSED


@pytest.mark.parametrize(
    ("slo", "given", "number"),
    [
        ("p99_ttft_ms:1", None, 16_000),
        ("mean_ttft_ms:1", None, 16_000),
        ("p95_itl_ms:1,p99.9_ttft_ms:1", None, 64_000),
        ("goodput:99.9%", None, 64_000),
        ("p99.999_ttft_ms:1", None, 256_000),
        ("p99.9_ttft_ms:1", 2000, 2000),
    ],
)
def test_limits_on_few_requests_need_many(slo: str, given: int | None, number: int) -> None:
    """64 may be beyond the limit, at least, unless the user says otherwise."""
    found = requests_of(PlanSettings(most_requests=given), parse_slo(slo))
    assert found == pytest.approx(number, abs=1)


# -- loads ------------------------------------------------------------------------


def answers(scenario: Scenario, slo: str = "mean_ttft_ms:100") -> tuple[float, float]:
    found = searched(make_search(slo, scenario)).found
    assert found is not None
    return found.rate, found.upper


def test_when_a_load_begins_and_how_long_it_is_change_nothing() -> None:
    """Half an hour of silence is no part of the window, and the search says how long runs last."""
    load = {"prompt": 64, "output": 1, "start_s": 1800, "num_requests": 3, "duration_s": 1}
    later = make_scenario(workload=load)
    assert look_at(later)[1].begin_s == 1800
    assert answers(later) == answers(make_scenario())


def write_trace(path: Path, num: int, *, first_s: float = 0.0) -> Path:
    """Write a trace of requests that come every 0.1 s, and gaps of 0.3 s every tenth."""
    rows, at_s = ["arrival_s,prompt_tokens,output_tokens"], first_s
    for number in range(num):
        rows.append(f"{at_s:.3f},64,1")
        at_s += 0.3 if number % 10 == 9 else 0.1
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_a_trace_is_stretched_and_replayed(tmp_path: Path) -> None:
    """150 rows that begin at noon: replayed as often as a probe asks for, from noon on."""
    path = write_trace(tmp_path / "trace.csv", 150, first_s=43_200)
    scenario = make_scenario(workload={"trace": str(path)})
    _, load = look_at(scenario)
    assert (load.num_rows, load.begin_s, load.unit) == (150, 43_200, "requests")
    search = make_search("mean_ttft_ms:60", scenario)
    plan = searched(search)
    numbers = {probe.num_requests: each.num_requests for probe, each in search.outcomes.items()}
    assert set(numbers) == {333, 1000, 4000}
    assert all(wanted == simulated for wanted, simulated in numbers.items())
    # Ten in a second of twelve tenths: at 20/s x 10/12 they come as fast as they are served.
    assert plan.found is not None
    assert 12 < plan.found.rate < plan.found.upper < 20


def test_a_trace_of_which_a_part_is_asked_for(tmp_path: Path) -> None:
    """num_requests bounds what is simulated; a window of time is replayed as it is."""
    path = write_trace(tmp_path / "trace.csv", 900, first_s=5)
    few = make_scenario(workload={"trace": str(path), "num_requests": 600})
    search = make_search("mean_ttft_ms:60", few)
    searched(search)
    assert max(probe.num_requests for probe in search.outcomes) == 600
    part = make_scenario(workload={"trace": str(path), "start_s": 17, "duration_s": 24})
    _, load = look_at(part)
    assert load.num_rows == 200
    probed = at_rate(part, 5.0, 1000, num_rows=load.num_rows).workload
    assert (probed.start_s, probed.duration_s, probed.repeats) == (17, 24, 5)
    twice = make_scenario(workload={"trace": str(path), "repeats": 2})
    _, load = look_at(twice)
    assert load.num_rows == 1800
    assert at_rate(twice, 5.0, 5000, num_rows=1800).workload.repeats == 6


def test_a_trace_without_times_needs_no_rate(tmp_path: Path) -> None:
    """The search says how fast it comes."""
    path = tmp_path / "sharegpt.json"
    said = [{"from": "human", "value": "a " * 64}, {"from": "gpt", "value": "a " * 4}]
    path.write_text(json.dumps([{"id": str(n), "conversations": said} for n in range(50)]))
    load = {"trace": str(path), "tokens_per_word": 1}
    # Four tokens are four steps of 50 ms: M/D/1 of 200 ms, its first token after 50 ms.
    rate, upper = answers(make_scenario(workload=load), "mean_ttft_ms:250")
    truth = md1_rate_of_mean(0.1) / 4
    assert 0.7 * truth < rate <= truth <= upper


def test_clients_share_the_rate() -> None:
    """Two streams of one rate are one: Poisson and Poisson is Poisson."""
    clients = [{"name": "a", "rate_fraction": 0.25}, {"name": "b", "rate_fraction": 0.75}]
    load = {"request_rate": 3, "prompt": 64, "output": 1, "clients": clients}
    search = make_search("mean_ttft_ms:100", make_scenario(workload=load))
    found = searched(search).found
    assert found is not None
    assert found.rate <= md1_rate_of_mean(0.1) <= found.upper
    assert all(probe.num_requests == each.num_requests for probe, each in search.outcomes.items())


def test_conversations_count_as_wholes() -> None:
    """Three rounds each: a third of the conversations that there would be single requests.

    334 conversations come up to an eighth faster or slower than they should.
    """
    load = {"prompt": 64, "output": 1, "sessions": {"rounds": 3, "history": "none"}}
    search = make_search("p50_e2el_ms:9000", make_scenario(workload=load), most=1000)
    assert (search.load.rounds, search.load.unit) == (3, "conversations")
    plan = searched(search)
    capacity = 1 / SERVICE_S / 3
    assert plan.found is not None
    assert 7 / 8 * capacity <= plan.found.rate <= 9 / 8 * capacity
    assert plan.output_tokens == pytest.approx(3)
    for probe, outcome in search.outcomes.items():
        assert outcome.num_requests == 3 * probe.num_requests


def test_thinking_is_part_of_a_conversation() -> None:
    """A probe lasts sixteen conversations, or says what it would take."""
    sessions = {"rounds": 2, "history": "none", "think_time_s": 10}
    load = {"prompt": 64, "output": 1, "sessions": sessions}
    search = make_search("mean_ttft_ms:100", make_scenario(workload=load), most=1000)
    assert search.load.thinking_s == pytest.approx(10)
    for _ in range(3):
        point = search.ask()
        assert point is not None
        search.tell(simulate_point(point))
    assert search.least_duration_s >= 16 * 10
    for probe, outcome in list(search.outcomes.items())[1:]:
        assert probe.num_requests / probe.rate >= 16 * 10
        assert outcome.num_requests == 2 * probe.num_requests
    sessions["think_time_s"] = 3600
    slow = make_search("mean_ttft_ms:100", make_scenario(workload=load))
    plan = searched(slow)
    assert plan.rate == 0
    assert "conversations last 36" in plan.reason
    assert "give --max-requests" in plan.reason


@pytest.mark.parametrize(
    ("load", "match"),
    [
        ({"arrivals": {"process": "closed_loop", "num_users": 2}}, "closed_loop, where answers"),
        ({"arrivals": "all_at_once"}, "all_at_once; give open arrivals"),
        ({"stages": [{"rate": 1, "duration_s": 5}]}, "workload.stages; leave them out"),
        ({"rate_curve": [{"kind": "diurnal"}]}, "workload.rate_curve; .*rate at its peak"),
        ({"max_outstanding": 4}, "workload.max_outstanding; .*any rate would do"),
        ({"trace": "t.csv", "rate_scale": 2}, "workload.rate_scale; .*--rate is the rate"),
        ({"clients": [{"request_rate": 3}]}, r"clients\[0\] with a rate of its own"),
        (
            {"clients": [{"rate_fraction": 1, "num_requests": 9}]},
            r"clients\[0\].num_requests: the others would be alone",
        ),
        (
            {"clients": [{"rate_fraction": 1, "sessions": {"rounds": 2}}]},
            r"conversations of workload.clients\[0\] beside other clients",
        ),
        (
            {"clients": [{"rate_fraction": 1, "max_outstanding": 2}]},
            r"clients\[0\].max_outstanding",
        ),
    ],
)
def test_a_load_without_one_rate_is_an_error(load: dict[str, Any], match: str) -> None:
    """Each says what is in the way and what to do."""
    with pytest.raises(ConfigError, match=f"the load must have one rate .*{match}"):
        check_scenario(make_scenario(workload=load))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"horizon_s": 10}, "horizon_s must not be set for a plan"),
        ({"cluster": {"num_instances": 2}}, "cluster.num_instances must not be set for a plan"),
        ({"cluster": {"pools": [{"name": "a"}]}}, "cluster.pools must not be set for a plan"),
        (
            {"cluster": {"autoscaling": {"target": 3, "max_instances": 4}}},
            "cluster.autoscaling must not be set for a plan",
        ),
    ],
)
def test_a_scenario_that_is_no_replica_is_an_error(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        check_scenario(make_scenario(**changes))


@pytest.mark.parametrize(
    ("load", "words"),
    [
        ({"preset": "chatbot"}, "chatbot: poisson arrivals; prompt normal 256/100"),
        ({"prompt": 64, "output": 1, "sessions": {"rounds": 2}}, "sessions, poisson arrivals;"),
        ({"arrivals": {"cv": 2, "process": "gamma"}}, "distribution: gamma (cv 2) arrivals;"),
    ],
)
def test_a_load_in_words_has_no_rate_and_no_number(load: dict[str, Any], words: str) -> None:
    """They are the search's."""
    found = look_at(make_scenario(workload=load | {"request_rate": 77, "num_requests": 991}))[1]
    assert found.words.startswith(words)
    assert not any(text in found.words for text in ("77", "991", "1e+06", "400"))


# -- what cannot be ---------------------------------------------------------------


def test_one_that_is_too_slow_alone_needs_no_simulation() -> None:
    """The shortest step there is takes 50 ms."""
    load = {"prompt": 64, "output": 9}
    search = make_search("p95_itl_ms:49.9", make_scenario(workload=load))
    assert search.ask() is None
    assert search.is_pruned
    assert search.reason == (
        "one request alone takes at least 50 ms per token; limit p95 ITL <= 49.9 ms"
    )
    assert searched(search).found == search.found


def test_weights_that_do_not_fit_need_no_simulation() -> None:
    scenario = load_scenario({"model": "meta-llama/Llama-3.3-70B-Instruct", "hardware": "L4"})
    search = make_search("p99_ttft_ms:500", scenario)
    assert search.ask() is None
    assert search.is_pruned
    assert "each GPU lacks" in search.reason


def test_one_that_misses_when_idle_says_what() -> None:
    """A single request is one step of 50 ms."""
    plan = searched(make_search("p99_ttft_ms:49"))
    assert plan.rate == 0
    assert plan.num_simulations == 1
    assert "requests/s p99 TTFT 50" in plan.reason
    assert plan.reason.endswith("of 49 ms")


def test_one_whose_requests_are_dropped_says_so() -> None:
    """Prompts that are longer than the model allows get no answer."""
    load = {"prompt": 900, "output": 1}
    engine = ONE_AT_A_TIME["engine"] | {"max_model_len": 512}
    for slo in ("p99_ttft_ms:500", "mean_ttft_ms:500", "p99_itl_ms:500"):
        plan = searched(make_search(slo, make_scenario(engine=engine, workload=load)))
        assert plan.rate == 0
        assert "100% of the requests get no answer" in plan.reason


def test_a_limit_without_data_is_an_error() -> None:
    """Answers of one token have no gaps."""
    search = make_search("p99_ttft_ms:500,p95_itl_ms:60")
    point = search.ask()
    assert point is not None
    with pytest.raises(ConfigError, match="p95 ITL <= 60 ms, and no request has one"):
        search.tell(simulate_point(point))


def test_a_simulation_that_fails_leaves_no_rate() -> None:
    """Whatever was found before, the candidate carries nothing, and says why."""
    search = make_search("mean_ttft_ms:100")
    while len(search.found.measurements) < 5:
        point = search.ask()
        assert point is not None
        search.tell(simulate_point(point))
    assert search.ask() is not None
    search.tell(Outcome(status=OutcomeStatus.FAILED, reason="the worker died"))
    assert search.ask() is None
    plan = search.plan("")
    assert (plan.rate, plan.reason) == (0, "the worker died")


def test_too_few_requests_are_no_rate() -> None:
    """Bursts of ten of which nobody can tell with a thousand requests: no rate, and a remedy."""
    bursts = {"process": "gamma", "cv": 30.0}
    load = {"prompt": 64, "output": 1, "arrivals": bursts}
    slo = "p99_ttft_ms:1500"
    plan = searched(make_search(slo, make_scenario(workload=load), most=1000, max_simulations=6))
    assert plan.rate == 0
    assert "simulations of 1,000 requests are too few to be sure" in plan.reason
    assert plan.reason.endswith("give --max-requests 4000")


def test_ranks_of_one_server_are_one_replica() -> None:
    """Two data-parallel ranks serve twice as much, on two GPUs."""
    engine = ONE_AT_A_TIME["engine"] | {"data_parallel_size": 2}
    search = make_search("p50_e2el_ms:100000", make_scenario(engine=engine))
    plan = searched(search)
    assert plan.gpus_per_replica == 2
    assert 0.93 * 2 / SERVICE_S <= plan.rate <= 1.06 * 2 / SERVICE_S
    assert plan.tokens_per_s_per_gpu == pytest.approx(plan.rate / 2)
