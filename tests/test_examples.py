"""The shipped examples, small."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from blis_sim import load_scenario, simulate
from blis_sim.catalog.paths import configs_dir
from blis_sim.cluster.resolve import is_cluster
from blis_sim.metrics.result import Result

ROOT = Path(__file__).resolve().parent.parent
SCENARIOS = sorted((configs_dir() / "scenarios").glob("*.yaml"))
NUM_REQUESTS = 60


def test_there_are_scenarios() -> None:
    """At least one with a trace and one with a drawn load, with and without a cluster."""
    scenarios = [load_scenario(path) for path in SCENARIOS]
    assert {scenario.workload.trace is not None for scenario in scenarios} == {True, False}
    assert {is_cluster(scenario) for scenario in scenarios} == {True, False}


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenarios_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From any folder, and every request is served; a conversation has several."""
    monkeypatch.chdir(tmp_path)
    result = simulate(load_scenario(path, [f"workload.num_requests={NUM_REQUESTS}"]))
    assert result.summary["completed"] >= NUM_REQUESTS
    assert result.summary["failed"] == 0
    assert result.summary["prefix_hit_rate"] > 0


def small(name: str, *changes: str) -> Result:
    """Simulate the begin of a shipped scenario."""
    path = configs_dir() / "scenarios" / f"{name}.yaml"
    return simulate(load_scenario(path, [f"workload.num_requests={NUM_REQUESTS}", *changes]))


def test_routers_differ_where_they_are_compared() -> None:
    """Conversations lose what other instances have cached when they go round."""
    weighted = small("router_comparison").summary
    robin = small("router_comparison", "cluster.routing=round-robin").summary
    assert weighted["prefix_hit_rate"] > robin["prefix_hit_rate"] + 0.2
    assert weighted["mean_ttft_ms"] < robin["mean_ttft_ms"]


def test_fast_gpus_do_most_where_gpus_are_mixed() -> None:
    """And a slow GPU helps when the fast ones are busy; round robin knows no difference."""
    pools = small("mixed_gpus").per_pool
    assert pools["h100"]["num_prompts"] > pools["l40s"]["num_prompts"] > 0
    robin = small("mixed_gpus", "cluster.routing=round-robin")
    assert robin.per_pool["l40s"]["num_prompts"] == NUM_REQUESTS * 4 // 6
    assert robin.summary["p99_ttft_ms"] > small("mixed_gpus").summary["p99_ttft_ms"]


def test_every_prompt_is_handed_over_where_a_ratio_is_sought() -> None:
    """Prompts are computed in the one pool, answers in the other, whatever the ratio."""
    pools = "[{name: p, role: prefill, num_instances: 3}, {name: d, role: decode}]"
    for result in (small("pd_ratio"), small("pd_ratio", f"cluster.pools={pools}")):
        prefill, decode = result.per_pool.values()
        assert result.summary["num_transfers"] == NUM_REQUESTS
        assert prefill["num_generated_tokens"] == 0
        assert decode["num_prefill_tokens"] == 0
        assert result.summary["mean_gpus"] == 16
    together = small("pd_ratio", "cluster.pools=[{name: all, num_instances: 4}]")
    assert together.summary["num_transfers"] == 0
    assert together.summary["mean_gpus"] == 16


def test_instances_follow_the_load_of_a_day() -> None:
    """A day in an hour: more at noon than at night, and never fewer or more than allowed."""
    day = "workload.rate_curve=[{kind: diurnal, amplitude: 0.9, period_s: 3600, peak_at_s: 1800}]"
    times = ["workload.duration_s=3600", "workload.num_requests=null"]
    result = simulate(
        load_scenario(configs_dir() / "scenarios" / "autoscaled_day.yaml", [day, *times]),
        timeseries_interval_s=60,
    )
    counts = result.timeseries.groupby("time_s")["num_instances"].first()
    night, noon = counts[counts.index <= 600], counts[abs(counts.index - 2100) <= 600]
    assert night.mean() < noon.mean()
    assert (result.summary["min_instances"], counts.min()) == (1, 1)
    assert 1 < counts.max() <= 8
    assert result.summary["num_scaling_events"] >= 2
    busy_s = result.summary["duration"]
    assert busy_s < result.summary["gpu_hours"] * 3600 < 8 * busy_s


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the names of examples/highest_rate.py."""
    monkeypatch.chdir(ROOT)
    return runpy.run_path(str(ROOT / "examples" / "highest_rate.py"))


def test_highest_rate_lies_between_good_and_bad(example: dict[str, Any]) -> None:
    """The limits are met at the rate found and missed a little above it."""
    precision = 0.1
    rate_per_s = example["highest_rate"]("A100-80", num_requests=NUM_REQUESTS, precision=precision)
    assert rate_per_s > 1
    assert example["meets_limits"]("A100-80", rate_per_s, NUM_REQUESTS)
    assert not example["meets_limits"]("A100-80", rate_per_s * (1 + precision), NUM_REQUESTS)


def test_highest_rate_ends_where_it_was_told_to(example: dict[str, Any]) -> None:
    """A load that is too short to be slow has no highest rate."""
    assert example["highest_rate"]("H100", num_requests=2, max_per_s=8.0) == 8.0
