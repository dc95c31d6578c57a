"""What the benchmark makes of its times; the times themselves are no matter of tests."""

from __future__ import annotations

import pytest

from blis_sim import benchmark
from blis_sim.benchmark import cost_per_request_us
from blis_sim.cli.main import main
from blis_sim.errors import SimulationError


def test_the_cost_of_a_request_is_that_of_those_beyond_200() -> None:
    """1800 more requests in 0.9 s more are 500 us each."""
    assert cost_per_request_us(1.0, 0.1, 2000) == pytest.approx(500)


@pytest.mark.parametrize("wall_s", [0.1, 0.25])
def test_a_long_run_that_took_no_longer_tells_nothing(wall_s: float) -> None:
    """There is no cost of 0 or less: more is to be measured."""
    message = (
        r"^a run of 2000 requests must take longer than one of 200 .*; got .* and 250\.0 ms; m"
    )
    with pytest.raises(SimulationError, match=message):
        cost_per_request_us(wall_s, 0.25, 2000)


@pytest.mark.parametrize("which", ["engine", "cluster"])
def test_such_a_benchmark_fails_in_one_line(
    which: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 1, and nothing that looks like a result."""
    timed_run = benchmark._timed_run
    monkeypatch.setattr(benchmark, "NUM_TIMEOUTS", 10)
    monkeypatch.setattr(benchmark, "_timed_run", lambda scenario: (0.5, timed_run(scenario)[1]))
    arguments = ["--num-requests", "201", "--repeat", "1", "--latency-model", "blackbox"]
    assert main(["bench", which, *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("blis: error: a run of 201 requests must take longer than one of 200")
