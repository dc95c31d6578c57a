"""What the benchmark of sweeps makes of its times; the times are no matter of tests."""

from __future__ import annotations

import json

import pytest

from blis_sim.benchmark import idle_frac
from blis_sim.cli.main import main
from tests.cli.calls import refusal


def test_overhead_is_the_time_in_which_no_worker_simulates() -> None:
    """Two workers that simulate 9 s each in 10 s."""
    assert idle_frac(wall_s=10, work_s=18, num_workers=2) == pytest.approx(0.1)


def test_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """At its smallest size."""
    flags = "--num-points 4 --num-requests 2 --num-resumed 3 --repeat 1 --latency-model blackbox"
    assert main(["bench", "sweep", *flags.split(), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert (measured["num_points"], measured["num_resumed"]) == (4, 3)
    assert measured["speedup_2_workers"] > 0
    for name in ("overhead_1_worker_frac", "overhead_2_workers_frac"):
        assert 0 < measured[name] < 1
    assert measured["resume_s"] > 0


@pytest.mark.parametrize("flag", ["--num-points", "--num-requests", "--num-resumed", "--repeat"])
def test_sizes(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, "bench", "sweep", flag, "0").startswith(f"{flag} must be at least ")
