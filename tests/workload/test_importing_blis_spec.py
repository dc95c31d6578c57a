"""Workload specs of BLIS in our words."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from blis_sim.config.workload import WorkloadSettings
from blis_sim.errors import ConfigError
from blis_sim.workload.importing import Imported, read_foreign
from blis_sim.workload.importing.blis_lengths import weibull_cv
from tests.workload.import_samples import (
    CONSTANT,
    blis_client,
    blis_spec,
    check_importable_or_refused,
    spoiled,
    write_chunk,
    write_yaml,
)


def imported(tmp_path: Path, values: dict[str, Any]) -> Imported:
    found = read_foreign(write_yaml(tmp_path / "spec.yaml", values))
    assert found is not None
    assert found.kind == "blis"
    WorkloadSettings.model_validate(found.settings)
    return found


def one_client(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    settings = imported(tmp_path, blis_spec(blis_client(**changes))).settings
    client: dict[str, Any] = settings["clients"][0]
    return client


def cohort(**changes: Any) -> dict[str, Any]:
    return blis_client(id="crowd", population=20) | changes


def test_clients_share_the_rate(tmp_path: Path) -> None:
    """Fractions are normalised to their sum, as BLIS does."""
    spec = blis_spec(
        blis_client(id="a", rate_fraction=3, slo_class="batch", tenant_id="t"),
        blis_client(id="b", rate_fraction=1),
    )
    found = imported(tmp_path, spec)
    assert found.settings["request_rate"] == 10
    first, second = found.settings["clients"]
    assert (first["rate_fraction"], second["rate_fraction"]) == (0.75, 0.25)
    assert (first["name"], first["slo_class"], first["tenant"]) == ("a", "batch", "t")
    assert first["prompt"] == {"kind": "normal", "mean": 400, "stdev": 120, "min": 100, "max": 800}
    assert found.notices == ()


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        (CONSTANT, {"kind": "constant", "mean": 64}),
        ({"type": "constant", "params": {"value": 0}}, {"kind": "constant", "mean": 1}),
        ({"type": "exponential", "params": {"mean": 30}}, {"kind": "exponential", "mean": 30}),
        (
            {"type": "lognormal", "params": {"mu": 5.5, "sigma": 1.2}},
            {"kind": "lognormal", "mu": 5.5, "sigma": 1.2},
        ),
        (
            {
                "type": "pareto_lognormal",
                "params": {"alpha": 1.5, "xm": 50, "mu": 5.5, "sigma": 1.2, "mix_weight": 0.3},
            },
            {
                "kind": "pareto_lognormal",
                "mu": 5.5,
                "sigma": 1.2,
                "pareto_alpha": 1.5,
                "pareto_min": 50,
                "pareto_share": 0.3,
            },
        ),
        (
            {"type": "empirical", "params": {"200": 0.25, 100: 0.75}},
            {"kind": "empirical", "values": [100, 200], "weights": [0.75, 0.25]},
        ),
        (
            {"type": "gaussian", "params": {"mean": 9, "std_dev": 5, "min": 8, "max": 8}},
            {"kind": "constant", "mean": 8},
        ),
    ],
)
def test_length_distributions(tmp_path: Path, distribution: object, expected: object) -> None:
    assert one_client(tmp_path, output_distribution=distribution)["output"] == expected


@pytest.mark.parametrize(
    ("arrival", "expected"),
    [
        ({"process": "gamma", "cv": 3.0}, {"process": "gamma", "cv": 3}),
        ({"process": "weibull"}, {"process": "weibull", "cv": 1}),
        ({"process": "constant"}, {"process": "constant"}),
        ({"process": "gamma", "shape": 0.25}, {"process": "gamma", "cv": 2}),
        ({"process": "weibull", "shape": 1.0, "scale": 9}, {"process": "weibull", "cv": 1}),
    ],
)
def test_arrival_processes(tmp_path: Path, arrival: object, expected: object) -> None:
    assert one_client(tmp_path, arrival=arrival)["arrivals"] == expected


@pytest.mark.parametrize(("shape", "cv"), [(1.0, 1.0), (2.0, 0.5227), (0.5, math.sqrt(5))])
def test_weibull_cv(shape: float, cv: float) -> None:
    """Known values: exponential, Rayleigh (sqrt(4/pi - 1)), and Gamma(5)/Gamma(3)^2 - 1 = 5."""
    assert weibull_cv(shape) == pytest.approx(cv, rel=1e-4)


def test_concurrency_is_a_closed_loop(tmp_path: Path) -> None:
    client = blis_client(rate_fraction=None, arrival=None, concurrency=8, think_time_us=500_000)
    settings = imported(tmp_path, blis_spec(client, aggregate_rate=None, num_requests=50)).settings
    arrivals = {"process": "closed_loop", "num_users": 8, "think_time_s": 0.5}
    assert settings["clients"][0]["arrivals"] == arrivals
    assert "request_rate" not in settings["clients"][0]
    assert settings["num_requests"] == 50


def test_conversations(tmp_path: Path) -> None:
    """Of several clients' load num_requests counts every round, as in BLIS."""
    turns = {"max_rounds": 5, "think_time_us": 30_000, "context_growth": "accumulate"}
    client = blis_client(reasoning={"multi_turn": turns})
    found = imported(tmp_path, blis_spec(client, num_requests=1500))
    sessions = {"rounds": 5, "think_time_s": 0.03, "history": "accumulate"}
    assert found.settings["clients"][0]["sessions"] == sessions
    assert found.settings["num_requests"] == 1500


def test_prefix_groups_have_the_length_of_their_first_client(tmp_path: Path) -> None:
    spec = blis_spec(
        blis_client(id="a", prefix_group="system"),
        blis_client(id="b", prefix_group="system", prefix_length=512),
        blis_client(id="c", prefix_length=99),
    )
    found = imported(tmp_path, spec)
    first, second, third = found.settings["clients"]
    assert first["prefix_tokens"] == second["prefix_tokens"] == 50
    assert "prefix_tokens" not in third
    assert any("50 tokens" in notice for notice in found.notices)
    assert any("clients[2].prefix_length" in notice for notice in found.notices)


def test_windows_have_the_rate_of_those_who_send_then(tmp_path: Path) -> None:
    """Of two clients that never send together each has the whole rate in its window."""
    windows = [
        {"windows": [{"start_us": 0, "end_us": 10_000_000}]},
        {"windows": [{"start_us": 10_000_000, "end_us": 30_000_000}]},
    ]
    first, second = imported(
        tmp_path,
        blis_spec(
            blis_client(id="a", rate_fraction=0.5, lifecycle=windows[0]),
            blis_client(id="b", rate_fraction=0.5, lifecycle=windows[1]),
        ),
    ).settings["clients"]
    assert (first["request_rate"], first["start_s"], first["duration_s"]) == (10, 0, 10)
    assert (second["request_rate"], second["start_s"], second["duration_s"]) == (10, 10, 20)


def test_several_windows_are_stages(tmp_path: Path) -> None:
    windows = [{"start_us": 5_000_000, "end_us": 6_000_000}, {"start_us": 8e6, "end_us": 9e6}]
    client = one_client(tmp_path, lifecycle={"windows": windows})
    assert [(stage["rate"], stage["duration_s"]) for stage in client["stages"]] == [
        (0, 5),
        (10, 1),
        (0, 2),
        (10, 1),
    ]


def test_windows_with_their_own_settings_are_clients(tmp_path: Path) -> None:
    """Aggregate rate 0: the windows have their rates, and here their own lengths."""
    windows = [
        {"start_us": 0, "end_us": 60_000_000, "trace_rate": 2.5},
        {
            "start_us": 60_000_000,
            "end_us": 90_000_000,
            "trace_rate": 4,
            "arrival": {"process": "gamma", "cv": 2},
        },
    ]
    spec = blis_spec(blis_client(lifecycle={"windows": windows}), aggregate_rate=0)
    first, second = imported(tmp_path, spec).settings["clients"]
    assert (first["name"], first["request_rate"]) == ("a/window-1", 2.5)
    assert second["arrivals"] == {"process": "gamma", "cv": 2}
    assert (second["start_s"], second["duration_s"]) == (60, 30)


def test_poisson_cohort_is_one_client(tmp_path: Path) -> None:
    """Many independent Poisson streams are one with their rate together."""
    found = imported(tmp_path, blis_spec(cohorts=[cohort()]))
    assert [client["name"] for client in found.settings["clients"]] == ["crowd"]
    assert found.settings["clients"][0]["rate_fraction"] == 1
    assert any("20 clients" in notice for notice in found.notices)


def test_bursty_cohort_is_many_clients(tmp_path: Path) -> None:
    """Their sum is not gamma: each member is a client with its part of the rate."""
    crowd = cohort(
        population=4,
        arrival={"process": "gamma", "cv": 2},
        prefix_group="p",
        prefix_sharing="per_member",
    )
    clients = imported(tmp_path, blis_spec(cohorts=[crowd])).settings["clients"]
    assert [client["rate_fraction"] for client in clients] == [0.25] * 4
    assert [client["prefix_group"] for client in clients] == ["p-0", "p-1", "p-2", "p-3"]


def test_daily_cohort(tmp_path: Path) -> None:
    """The rate is 10 at the peak and 10 / 4 twelve hours later."""
    day = {"peak_hour": 14, "peak_to_trough_ratio": 4}
    settings = imported(tmp_path, blis_spec(cohorts=[cohort(diurnal=day)])).settings
    (client,) = settings["clients"]
    (curve,) = client["rate_curve"]
    assert (curve["period_s"], curve["peak_at_s"]) == (86400, 50400)
    assert client["request_rate"] * (1 + curve["amplitude"]) == pytest.approx(10)
    assert client["request_rate"] * (1 - curve["amplitude"]) == pytest.approx(2.5)


def test_draining_cohort(tmp_path: Path) -> None:
    drain = {"start_time_us": 60_000_000, "ramp_duration_us": 30_000_000}
    settings = imported(tmp_path, blis_spec(cohorts=[cohort(drain=drain)])).settings
    assert settings["clients"][0]["stages"] == [
        {"rate": 10, "duration_s": 60},
        {"rate": 10, "duration_s": 30, "end_rate": 0},
    ]


def test_spike_is_a_window(tmp_path: Path) -> None:
    spike = {"start_time_us": 5_000_000, "duration_us": 2_000_000, "trace_rate": 30}
    spec = blis_spec(cohorts=[cohort(spike=spike)], aggregate_rate=0)
    (client,) = imported(tmp_path, spec).settings["clients"]
    assert (client["request_rate"], client["start_s"], client["duration_s"]) == (30, 5, 2)


def test_inference_perf_section(tmp_path: Path) -> None:
    pool = {
        "num_unique_system_prompts": 9,
        "num_users_per_system_prompt": 5,
        "system_prompt_len": 100,
        "question_len": 447,
        "output_len": 248,
        "enable_multi_turn_chat": False,
    }
    section = {"stages": [{"rate": 8.0, "duration": 600}], "shared_prefix": pool}
    found = imported(tmp_path, {"version": "1", "seed": 42, "inference_perf": section})
    assert found.settings["stages"] == [{"rate": 8, "duration_s": 600}]
    assert found.settings["arrivals"] == {"process": "poisson", "normalize_span": True}
    assert found.settings["prompts"]["num_prompts_per_group"] == 5
    assert any(notice.startswith("seed 42") for notice in found.notices)


def test_servegen_section(tmp_path: Path) -> None:
    """The folder is relative to the spec; all rates are scaled to the aggregate rate."""
    lengths = {"0": {"input_tokens": "{100: 1.0}", "output_tokens": "{50: 1.0}"}}
    write_chunk(tmp_path / "data", 0, "0,1,1,,0,0\n", lengths)
    write_chunk(tmp_path / "data", 1, "0,3,1,,0,0\n", lengths)
    settings = imported(tmp_path, blis_spec(servegen_data={"path": "data"})).settings
    assert [client["stages"][0]["rate"] for client in settings["clients"]] == [2.5, 7.5]


def test_version_1_names_of_classes(tmp_path: Path) -> None:
    client = blis_client(slo_class="realtime")
    found = imported(tmp_path, blis_spec(client, version="1"))
    assert found.settings["clients"][0]["slo_class"] == "critical"
    with pytest.raises(ConfigError, match=r"clients\[0\]\.slo_class must be a known name"):
        imported(tmp_path, blis_spec(client))


def test_changes_of_meaning_are_named(tmp_path: Path) -> None:
    network = {"rtt_ms": 50.0, "bandwidth_mbps": 100}
    client = blis_client(model="m", streaming=False, network=network, timeout=None)
    found = imported(tmp_path, blis_spec(client, seed=1, horizon=60_000_000))
    text = "\n".join(found.notices)
    for part in ("seed 1", "model m", "streaming false", "50 ms more", "timeout", "horizon"):
        assert part in text
    assert found.settings["duration_s"] == 60


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"multimodal": {"text_distribution": CONSTANT}}, r"multimodal must not be given: only"),
        ({"adapter": "lora"}, r"clients\[0\]\.adapter must not be given"),
        (
            {"closed_loop": False, "reasoning": {"multi_turn": {"max_rounds": 2}}},
            r"closed_loop must be true with multi_turn",
        ),
        ({"rate_fraction": 0}, r"clients\[0\]\.rate_fraction must be > 0; got 0"),
        ({"rate_fraction": None}, r"clients\[0\]\.rate_fraction must be given"),
        ({"arrival": {"process": "bursts"}}, r"clients\[0\]\.arrival\.process must be a known"),
        ({"input_distribution": {"type": "gaussian"}}, r"params\.mean must be given"),
        (
            {
                "input_distribution": {
                    "type": "gaussian",
                    "params": {"mean": 5, "stddev": 1, "std_dev": 1, "min": 1, "max": 9},
                }
            },
            r"params\.stddev must be a known name; got 'stddev'; nearest: std_dev",
        ),
        ({"input_distribution": {"type": "empirical"}}, r"params must have at least one length"),
        ({"lifecyle": {}}, r"clients\[0\]\.lifecyle must be a known name.*nearest: lifecycle"),
    ],
)
def test_clients_that_cannot_be_expressed(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        one_client(tmp_path, **changes)


def test_rates_of_windows_beside_an_aggregate_rate(tmp_path: Path) -> None:
    windows = [{"start_us": 0, "end_us": 1_000_000, "trace_rate": 2}]
    with pytest.raises(ConfigError, match="trace_rate must be used with aggregate_rate 0"):
        one_client(tmp_path, lifecycle={"windows": windows})


def test_an_error_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("version: '2'\naggregate_rate: x\nclients: []\n")
    with pytest.raises(ConfigError, match=r"spec\.yaml:2:1: aggregate_rate must be a number"):
        read_foreign(path)


def test_bad_values_are_one_clear_line(tmp_path: Path) -> None:
    """Whatever is wrong, the error is ours and names the file."""
    turns = {"max_rounds": 5, "think_time_us": 30_000, "context_growth": "accumulate"}
    windows = [{"start_us": 0, "end_us": 9_000_000}]
    everything = {
        "reasoning": {"multi_turn": turns},
        "lifecycle": {"windows": windows},
        "prefix_group": "p",
        "prefix_length": 9,
    }
    base = blis_spec(
        blis_client(**everything),
        cohorts=[cohort(diurnal={"peak_hour": 3, "peak_to_trough_ratio": 2})],
        num_requests=100,
    )
    bad = (-1, "x", [], {"a": True})
    for number, values in enumerate(spoiled(base, bad)):
        check_importable_or_refused(tmp_path / f"spoiled-{number}.yaml", values, "blis")
