"""The shipped examples, small."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from blis_sim import load_scenario, simulate
from blis_sim.catalog.paths import configs_dir

ROOT = Path(__file__).resolve().parent.parent
SCENARIOS = sorted((configs_dir() / "scenarios").glob("*.yaml"))
NUM_REQUESTS = 60


def test_there_are_scenarios() -> None:
    """At least one with a trace and one with a drawn load."""
    has_trace = {load_scenario(path).workload.trace is not None for path in SCENARIOS}
    assert has_trace == {True, False}


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenarios_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From any folder, and every request is served; a conversation has several."""
    monkeypatch.chdir(tmp_path)
    result = simulate(load_scenario(path, [f"workload.num_requests={NUM_REQUESTS}"]))
    assert result.summary["completed"] >= NUM_REQUESTS
    assert result.summary["failed"] == 0
    assert result.summary["prefix_hit_rate"] > 0


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
