from __future__ import annotations

import gc
import re
from typing import Any

import pytest

import blis_sim
from blis_sim import api
from blis_sim.engine.simulation import Simulation


def scenario(**parts: Any) -> blis_sim.Scenario:
    parts.setdefault("workload", {"num_requests": 50, "request_rate": 20})
    return blis_sim.load_scenario(parts)


def test_public_names_are_sorted_and_there() -> None:
    """What ``__all__`` promises can be imported; nothing else can."""
    assert sorted(blis_sim.__all__) == blis_sim.__all__
    for name in blis_sim.__all__:
        assert getattr(blis_sim, name) is not None
    assert set(blis_sim.__all__) <= set(dir(blis_sim))
    with pytest.raises(AttributeError, match=r"module 'blis_sim' has no attribute 'simulat'"):
        _ = blis_sim.simulat  # type: ignore[attr-defined]


def test_a_result_has_figures_and_their_origin() -> None:
    """Summary, requests and manifest of one run agree."""
    result = blis_sim.simulate(scenario(slo={"ttft_ms": 1000}, seed=3))
    assert result.summary["completed"] == 50
    assert result.summary["request_goodput"] == result.summary["request_throughput"]
    assert len(result.requests) == 50
    assert result.timeseries is None
    manifest = result.manifest
    assert manifest["seed"] == 3
    assert manifest["scenario"]["workload"]["num_requests"] == 50
    assert manifest["latency_model"] == "roofline-v2"
    assert manifest["blis_sim_version"] == blis_sim.__version__


def test_sampling_and_percentiles_are_asked_for() -> None:
    """They change nothing else."""
    plain = blis_sim.simulate(scenario())
    more = blis_sim.simulate(scenario(), timeseries_interval_s=0.5, percentiles=[12.5])
    assert more.timeseries is not None
    assert more.timeseries["time_s"].tolist()[:2] == [0.5, 1.0]
    assert more.summary["p12.5_ttft_ms"] <= more.summary["median_ttft_ms"]
    assert more.requests.equals(plain.requests)


def test_progress_is_called() -> None:
    """With requests ended, and the simulated time in us, both growing."""
    calls: list[tuple[int, int]] = []
    load = {"num_requests": 5000, "request_rate": 50}
    blis_sim.simulate(
        scenario(workload=load), progress=lambda ended, now_us: calls.append((ended, now_us))
    )
    assert len(calls) >= 2
    assert calls == sorted(calls)
    assert calls[-1][0] <= 5000


@pytest.mark.parametrize("interval_s", [0, -1, 1e-7, float("nan"), float("inf")])
def test_the_sampling_interval_is_positive(interval_s: float) -> None:
    """At least a microsecond."""
    with pytest.raises(
        blis_sim.ConfigError, match=r"timeseries_interval_s must be from 0\.000001"
    ):
        blis_sim.simulate(scenario(), timeseries_interval_s=interval_s)


def test_percentiles_are_checked_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits an hour for a message about a percentile."""
    monkeypatch.setattr(Simulation, "run", lambda self: pytest.fail("it ran"))
    with pytest.raises(blis_sim.ConfigError, match=r"percentile must be in 0\.\.100; got 101"):
        blis_sim.simulate(scenario(), percentiles=[101])


def test_garbage_collection_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thresholds of the process are restored, also after an error."""
    before = gc.get_threshold()
    seen: list[tuple[int, int, int]] = []

    def fail(self: Simulation) -> None:
        seen.append(gc.get_threshold())
        raise blis_sim.SimulationError("broken")

    monkeypatch.setattr(Simulation, "run", fail)
    with pytest.raises(blis_sim.SimulationError, match="broken"):
        blis_sim.simulate(scenario())
    assert seen[0][0] > before[0]
    assert gc.get_threshold() == before


def test_notices_of_the_caller_come_first() -> None:
    """``run`` adds what the command line has to say."""
    resolved = api.resolve(scenario(engine={"num_gpu_blocks_override": 3000}))
    result = api.run(resolved, notices=["read as written"])
    assert result.manifest["notices"] == ["read as written", *resolved.notices]
    assert len(result.manifest["notices"]) == 2


def test_a_horizon_leaves_requests_behind() -> None:
    """The books balance there, too."""
    result = blis_sim.simulate(
        scenario(workload={"num_requests": 50, "request_rate": "inf"}, horizon_s=1)
    )
    counts = result.conservation
    assert counts["injected"] == 50
    assert 0 < counts["running"] + counts["waiting"] == 50 - counts["completed"]


def notices_of_scaling(interval_s: float) -> list[str]:
    """Return what a short run of an autoscaled pool says of its scaling."""
    autoscaling = {"target": 4, "max_instances": 2, "interval_s": interval_s}
    load = {"num_requests": 5, "request_rate": 20}
    done = blis_sim.simulate(scenario(workload=load, cluster={"autoscaling": autoscaling}))
    return [text for text in done.context.notices if "scaled" in text]


def test_a_run_that_was_over_before_the_autoscaler_decided_says_so() -> None:
    """With the pool, its interval and the length of the run; silent where it did decide."""
    (notice,) = notices_of_scaling(15)
    assert re.match(
        r"pool default was not scaled: its autoscaler decides every 15 s, and the run was over "
        r"after \d\.?\d* s; simulate more, or lower autoscaling\.interval_s$",
        notice,
    )
    assert notices_of_scaling(0.5) == []


@pytest.mark.parametrize("scenario", [{"model": "llama-3.1-8b"}, "chat.yaml", None])
def test_what_is_no_scenario_names_the_function_that_makes_one(scenario: Any) -> None:
    """Settings and paths go through load_scenario first."""
    with pytest.raises(blis_sim.ConfigError, match="must be what load_scenario returns; got "):
        blis_sim.simulate(scenario)


@pytest.mark.parametrize(("limits", "number"), [({}, 3), ({"max_output_tokens": 300}, 0)])
def test_answers_cut_by_the_engine_are_named(limits: dict[str, int], number: int) -> None:
    """700 and 1000 tokens do not fit into 1024; a client's limit is no cut."""
    load = {"num_requests": 3, "prompt": 700, "output": 1000, **limits}
    result = blis_sim.simulate(scenario(workload=load, engine={"max_model_len": 1024}))
    said = [notice for notice in result.context.notices if "cut short at max_model_len" in notice]
    assert len(said) == (number > 0)
    assert all(notice.startswith("3 answers cut short at max_model_len (1024") for notice in said)
