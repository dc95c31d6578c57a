from __future__ import annotations

from typing import Any

import pytest

from blis_sim import api
from blis_sim.capacity.compare import Candidate
from blis_sim.capacity.compare import compare as compare_candidates
from blis_sim.capacity.compared import METRICS, ComparedRun
from blis_sim.config.loading import load_scenario
from blis_sim.config.scenario import Scenario
from blis_sim.errors import CatalogError, ConfigError, InvariantError


def make_scenario(hardware: str = "H100", tp: int = 1, **more: Any) -> Scenario:
    settings = {
        "model": "llama-3.1-8b",
        "hardware": hardware,
        "engine": {"tensor_parallel_size": tp},
        "workload": {"num_requests": 20, "request_rate": 4},
        "seed": 7,
    }
    return load_scenario(settings | more)


def compare(scenarios: list[Scenario]) -> tuple[ComparedRun, ...]:
    return compare_candidates([Candidate("", scenario) for scenario in scenarios])


def test_a_row_is_what_a_run_says() -> None:
    """The same numbers as one simulation of the scenario, for every metric kept."""
    scenario = make_scenario("A100-80", 2)
    (row,) = compare([scenario])
    result = api.simulate(scenario)
    assert row.metrics == {key: result.summary[key] for key in METRICS}
    assert (row.gpu, row.tensor_parallel_size, row.request_rate) == ("A100-80", 2, 4)
    assert row.latency_model == result.manifest["latency_model"]
    assert row.num_kv_blocks == result.manifest["num_kv_blocks"]


def test_all_deployments_meet_the_same_requests() -> None:
    """Models, GPUs and TP change nothing about the load; the seed does."""
    scenarios = [
        make_scenario("H100"),
        make_scenario("L40S", 2),
        make_scenario("H200", 1, model="qwen3-14b"),
    ]
    tokens = [
        (row.metrics["total_input_tokens"], row.metrics["total_output_tokens"])
        for row in compare([*scenarios, make_scenario(seed=8)])
    ]
    assert len(set(tokens[:3])) == 1
    assert tokens[3] != tokens[0]


def test_what_cannot_run_is_a_row_with_the_reason() -> None:
    """Weights that do not fit, heads that cannot be split; the others have their numbers."""
    rows = compare([make_scenario("T4"), make_scenario("H100", 3), make_scenario("H100")])
    assert [row.is_simulated for row in rows] == [False, False, True]
    assert "each GPU lacks 3.8 GB" in rows[0].reason
    assert "must split the 32 attention heads" in rows[1].reason
    assert rows[0].metrics == {}
    assert rows[0].num_kv_blocks is None
    assert rows[1].model == rows[2].model == "meta-llama/Llama-3.1-8B"


def test_what_is_wrong_with_all_is_an_error() -> None:
    """It lies in what they share, or there is only one."""
    wrong = [
        make_scenario(name, workload={"num_requests": 5, "rate_scale": 2})
        for name in ("H100", "A100-80")
    ]
    with pytest.raises(ConfigError, match="rate_scale"):
        compare(wrong)
    with pytest.raises(ConfigError, match="each GPU lacks"):
        compare([make_scenario("T4")])


def test_different_reasons_are_rows() -> None:
    """Nothing was simulated, but each deployment has its own fault."""
    rows = compare([make_scenario("T4"), make_scenario("H100", 3)])
    assert not any(row.is_simulated for row in rows)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"model": "no such"}, "model must be"), ({"hardware": "H1000"}, "hardware must be")],
)
def test_unknown_names_are_errors(settings: dict[str, Any], message: str) -> None:
    """A slip of the keyboard is told before anything is simulated."""
    with pytest.raises(CatalogError, match=message):
        compare([make_scenario(), make_scenario(**settings)])


def test_a_defect_is_not_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A violated conservation law ends the comparison."""

    def fail(*arguments: object, **named: object) -> None:
        raise InvariantError("tokens were lost")

    monkeypatch.setattr(api, "run", fail)
    with pytest.raises(InvariantError, match="tokens were lost"):
        compare([make_scenario(), make_scenario("A100-80")])


def test_a_cluster_is_a_row_with_its_pools() -> None:
    """What was deployed, by pool, and the GPUs of all of them."""
    pools = [
        {"name": "a", "num_instances": 2},
        {"name": "b", "hardware": "a100-80", "engine": {"tensor_parallel_size": 2}},
    ]
    (row,) = compare_candidates([Candidate("two", make_scenario(cluster={"pools": pools}))])
    assert row.name == "two"
    assert [(p.gpu, p.tensor_parallel_size, p.num_instances) for p in row.pools] == [
        ("H100", 1, 2),
        ("A100-80", 2, 1),
    ]
    assert (row.num_instances, row.gpus) == (3, 4)
    assert (row.gpu, row.tensor_parallel_size) == ("H100 + A100-80", None)
    assert row.metrics["gpu_hours"] == pytest.approx(4 * row.metrics["duration"] / 3600)


def test_gpus_of_an_autoscaled_cluster_are_their_mean() -> None:
    """It grows, so that there are more than at the start and fewer than at most."""
    scaling = {"target": 1, "max_instances": 4, "interval_s": 1, "startup_delay_s": 1}
    load = {"num_requests": 40, "request_rate": 8}
    (row,) = compare([make_scenario(cluster={"autoscaling": scaling}, workload=load)])
    assert row.pools[0].scaled == (1, 4)
    assert row.num_instances == 1
    assert 1 < row.gpus < 4


def test_a_cluster_that_cannot_run_is_described_as_written() -> None:
    """Settings of a pool win over the scenario's; ranks of a server are instances."""
    pools = [
        {"name": "a", "hardware": "t4", "num_instances": 2, "engine": {"data_parallel_size": 2}},
        {"name": "b", "role": "mixed", "engine": {"tensor_parallel_size": 2}},
    ]
    failed, _ = compare([make_scenario(cluster={"pools": pools}), make_scenario()])
    assert "pool a: tensor_parallel_size must be >= 2" in failed.reason
    assert [(p.gpu, p.tensor_parallel_size, p.num_instances) for p in failed.pools] == [
        ("T4", 1, 4),
        ("H100", 2, 1),
    ]
    assert failed.gpus == 6


def test_an_unknown_gpu_of_a_pool_is_an_error() -> None:
    """As one of the scenario is."""
    wrong = make_scenario(cluster={"pools": [{"name": "a", "hardware": "H1000"}]})
    with pytest.raises(CatalogError, match="hardware must be a known name; got 'H1000'"):
        compare([make_scenario(), wrong])
