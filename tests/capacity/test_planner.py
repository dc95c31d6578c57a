"""Plans on the simulator: against queueing theory, arithmetic, and what users expect."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from blis_sim import plan
from blis_sim.capacity.executor import Backend
from blis_sim.capacity.plan import Plan, Planner, PlanSettings
from blis_sim.capacity.slo import parse_slo
from blis_sim.capacity.store import ResultStore
from blis_sim.config.loading import load_scenario
from blis_sim.errors import ConfigError

SERVICE_MS = 50.0
ONE_AT_A_TIME: dict[str, Any] = {
    "model": "llama-3.1-8b",
    "hardware": "H100",
    "engine": {"max_num_seqs": 1, "enable_prefix_caching": False, "version": "0.11.0"},
    "latency": {"model": "blackbox", "alpha": [0, 0, 0], "beta": [1000 * SERVICE_MS, 0, 0]},
    "workload": {"prompt": 64, "output": 1},
}
"""A step takes 50 ms whatever is in it, and a request is one step: M/D/1."""


def planned(
    slo: str, *, grid: dict[str, list[Any]] | None = None, base: Any = None, **options: Any
) -> Plan:
    settings = PlanSettings(most_requests=options.pop("most_requests", 16_000))
    return plan(
        base or ONE_AT_A_TIME,
        grid or {"hardware": ["H100"]},
        slo=slo,
        settings=settings,
        num_jobs=1,
        **options,
    )


def test_a_limit_on_the_mean_is_found_where_pollaczek_and_khinchine_say() -> None:
    """W = rho S / (2 (1 - rho)): a mean of twice the service time is reached at rho = 2/3."""
    found = planned(f"mean_ttft_ms:{2 * SERVICE_MS}").candidates[0].found
    assert found is not None
    truth = 2 / 3 / (SERVICE_MS / 1000)
    assert found.rate <= truth <= found.upper
    assert found.rate >= 0.8 * truth
    assert len(found.measurements) <= 12


def test_a_limit_on_a_percentile_is_found_where_the_queue_has_it() -> None:
    """The p99 of the time in the system is ten services at about 15.51/s (see the search)."""
    found = planned("p99_ttft_ms:500").candidates[0].found
    assert found is not None
    assert found.rate <= 15.51 * 1.02
    assert found.upper >= 15.51 * 0.98
    assert found.rate >= 0.75 * 15.51
    assert len(found.measurements) <= 12


@pytest.fixture(scope="module")
def chat() -> Plan:
    base = {"model": "llama-3.1-8b", "workload": {"preset": "chatbot"}}
    grid = {"hardware": ["H100", "L40S", "T4"], "engine.tensor_parallel_size": [1]}
    slo = "p99_ttft_ms:500,p95_itl_ms:50"
    return planned(slo, base=base, grid=grid, target_rate=150.0, most_requests=2000)


def test_candidates_are_ranked_by_cost(chat: Plan) -> None:
    """The cheapest is first, what does not fit is last with the reason."""
    assert [each.candidate.gpu for each in chat.candidates][-1] == "T4"
    assert "must be >= 2" in chat.candidates[-1].reason
    assert chat.candidates[-1].rank is None
    costs = [each.usd_per_hour for each in chat.candidates if each.rank is not None]
    assert costs == sorted(cost for cost in costs if cost is not None)
    assert chat.num_pruned == 1


def test_replicas_carry_the_target(chat: Plan) -> None:
    """As few as the rate of one allows; headroom and cost are arithmetic."""
    for each in chat.candidates:
        if each.rank is None:
            continue
        assert each.num_replicas is not None
        planned_at_first = math.ceil(150 / each.rate)
        assert each.num_replicas in {planned_at_first, planned_at_first + 1}
        assert each.headroom_frac == pytest.approx(1 - 150 / (each.num_replicas * each.rate))
        assert each.num_gpus == each.num_replicas
        assert each.usd_per_gpu_hour is not None
        assert each.usd_per_hour == pytest.approx(each.num_gpus * each.usd_per_gpu_hour)
        per_million = each.usd_per_hour / (150 * each.output_tokens * 3600) * 1e6
        assert each.usd_per_million_output_tokens == pytest.approx(per_million)


def test_the_pareto_set_is_what_nothing_beats(chat: Plan) -> None:
    """Brute force over cost and the speed a user sees."""
    rows = [each for each in chat.candidates if each.rank is not None]
    for row in rows:
        beaten = any(
            other.usd_per_hour <= row.usd_per_hour
            and other.tokens_per_s_per_user >= row.tokens_per_s_per_user
            and (other.usd_per_hour, -other.tokens_per_s_per_user)
            != (row.usd_per_hour, -row.tokens_per_s_per_user)
            for other in rows
        )
        assert row.is_pareto is not beaten


def test_the_winner_is_simulated_as_a_whole(chat: Plan) -> None:
    """Its replicas keep the limits at the target rate."""
    (verification,) = chat.verifications
    assert verification.num_replicas == chat.winners[0].num_replicas
    assert verification.verdict.value in {"kept", "unclear"}
    assert verification.metrics["request_throughput"] == pytest.approx(150, rel=0.1)
    assert "150 requests/s" in chat.sentences()[0]


def test_the_rate_agrees_with_littles_law(chat: Plan) -> None:
    """In flight = rate x time in the system, for one H100 at its highest rate, within 10 %."""
    row = next(each for each in chat.candidates if each.candidate.gpu == "H100")
    in_flight = row.rate * row.metrics["mean_e2el_ms"] / 1000
    assert row.metrics["mean_running_requests"] == pytest.approx(in_flight, rel=0.1)


def test_the_same_plan_simulates_nothing_twice(tmp_path: Path) -> None:
    """A second time all comes from the store, and the answer is the same."""
    scenario = load_scenario(ONE_AT_A_TIME)
    answers = []
    for _ in range(2):
        simulated = 0

        def count(number: int, outcome: object, is_stored: bool) -> None:
            nonlocal simulated
            simulated += not is_stored

        with ResultStore(tmp_path / "s.db") as store:
            from blis_sim.capacity.candidate import PlanCandidate

            limits = parse_slo("mean_ttft_ms:100")
            careful = PlanSettings(most_requests=2000)
            planner = Planner(limits, store, Backend(num_jobs=1), careful, count)
            candidate = PlanCandidate(scenario, "m", "H100")
            found = planner.run([candidate], 30.0)
        answers.append((simulated, {**found.to_json_dict()}))
    assert answers[0][0] > 3
    assert answers[1][0] == 0
    assert answers[0][1] == answers[1][1]


def test_what_no_engine_keeps_is_dismissed_or_says_why() -> None:
    """A limit below one token's time needs no simulation; an idle engine's TTFT needs one."""
    base = {"model": "llama-3.1-8b", "hardware": "H100", "workload": {"preset": "chatbot"}}
    with pytest.raises(ConfigError, match=r"at least [\d.]+ ms per token; limit p95 ITL <= 1 ms"):
        planned("p95_itl_ms:1,p99_ttft_ms:1", base=base, most_requests=1000)
    late = planned("p99_ttft_ms:1", base=base, most_requests=1000).candidates[0]
    assert late.rate == 0
    assert "p99 TTFT" in late.reason


def test_a_closed_loop_has_no_rate_to_plan_for() -> None:
    """One clear line."""
    users = {"arrivals": {"process": "closed_loop", "num_users": 4}, "num_requests": 20}
    base = {"model": "llama-3.1-8b", "workload": users}
    with pytest.raises(ConfigError, match="rate"):
        planned("p99_ttft_ms:500", base=base)
