"""Configurations of inference-perf in our words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from blis_sim.config.workload import WorkloadSettings
from blis_sim.errors import ConfigError
from blis_sim.workload.importing import Imported, read_foreign
from tests.workload.import_samples import (
    check_importable_or_refused,
    inference_perf,
    spoiled,
    write_yaml,
)

POOL = inference_perf()["data"]["shared_prefix"]
LENGTHS = {"min": 10, "max": 100, "mean": 50, "std_dev": 10, "total_count": 1000}


def imported(tmp_path: Path, values: dict[str, Any]) -> Imported:
    found = read_foreign(write_yaml(tmp_path / "load.yml", values))
    assert found is not None
    assert found.kind == "inference-perf"
    WorkloadSettings.model_validate(found.settings)
    return found


def random_data(**changes: Any) -> dict[str, Any]:
    values = inference_perf()
    lengths = {"input_distribution": dict(LENGTHS), "output_distribution": dict(LENGTHS)}
    values["data"] = {"type": "random", **lengths} | changes
    return values


def test_shared_prefix_in_the_form_of_our_pool(tmp_path: Path) -> None:
    """Rescaled gaps, the pool, and workers x requests of each as the cap."""
    load = {"num_workers": 4, "worker_max_concurrency": 64}
    assert imported(tmp_path, inference_perf(load)).settings == {
        "stages": [{"rate": 5, "duration_s": 600}, {"rate": 10, "duration_s": 600}],
        "arrivals": {"process": "poisson", "normalize_span": True},
        "stage_gap_s": 2,
        "prompts": {"kind": "shared_prefix", **POOL, "order": "round_robin"},
        "max_outstanding": 256,
    }


@pytest.mark.parametrize(("interval", "gap_s"), [(None, 2), (0, 1), (15, 16)])
def test_stages_follow_the_end_of_the_one_before(
    tmp_path: Path, interval: float | None, gap_s: float
) -> None:
    """The gap is the interval (1 s by default) and the second in which requests are queued."""
    load = {} if interval is None else {"interval": interval}
    found = imported(tmp_path, inference_perf(load))
    assert found.settings["stage_gap_s"] == gap_s
    assert any("load.interval" in notice for notice in found.notices)


def test_one_stage_has_no_gap(tmp_path: Path) -> None:
    load = {"stages": [{"rate": 1, "duration": 30}]}
    assert "stage_gap_s" not in imported(tmp_path, inference_perf(load)).settings


def test_names_of_other_versions(tmp_path: Path) -> None:
    """The pool's other names mean the same; sharedPrefix is shared_prefix."""
    pool = {"num_unique_system_prompts": 9, "num_users_per_system_prompt": 5}
    values = inference_perf(type="sharedPrefix", shared_prefix=pool)
    prompts = imported(tmp_path, values).settings["prompts"]
    assert (prompts["num_groups"], prompts["num_prompts_per_group"]) == (9, 5)
    # Its defaults where nothing is given.
    assert (prompts["system_prompt_len"], prompts["question_len"]) == (100, 50)


def test_contradicting_names_are_refused(tmp_path: Path) -> None:
    pool = {"num_groups": 9, "num_unique_system_prompts": 5}
    with pytest.raises(ConfigError, match=r"num_groups must agree with num_unique_system_prompts"):
        imported(tmp_path, inference_perf(shared_prefix=pool))


def test_poisson_stages_have_random_counts(tmp_path: Path) -> None:
    found = imported(tmp_path, inference_perf({"type": "poisson"}))
    assert found.settings["arrivals"] == {"process": "poisson"}
    assert any(notice.startswith("load.type poisson") for notice in found.notices)


def test_rounded_counts_are_named(tmp_path: Path) -> None:
    """Inference-perf cuts 0.7 x 5 = 3.5 requests to 3; we round to 4."""
    load = {"stages": [{"rate": 0.7, "duration": 5}]}
    found = imported(tmp_path, inference_perf(load))
    assert any("4 requests" in n and "cuts to 3" in n for n in found.notices)


def test_concurrent_stage_is_a_closed_loop(tmp_path: Path) -> None:
    stage = {"num_requests": 200, "concurrency_level": 32}
    load = {"type": "concurrent", "stages": [stage]}
    settings = imported(tmp_path, inference_perf(load)).settings
    assert settings["arrivals"] == {"process": "closed_loop", "num_users": 32, "think_time_s": 0}
    assert settings["num_requests"] == 200
    assert "max_outstanding" not in settings


def test_several_concurrent_stages_are_refused(tmp_path: Path) -> None:
    stage = {"num_requests": 200, "concurrency_level": 32}
    load = {"type": "concurrent", "stages": [stage, stage]}
    with pytest.raises(ConfigError, match=r"load\.stages must be exactly one stage"):
        imported(tmp_path, inference_perf(load))


def test_random_lengths(tmp_path: Path) -> None:
    settings = imported(tmp_path, random_data()).settings
    assert settings["prompt"] == {"kind": "normal", "mean": 50, "stdev": 10, "min": 10, "max": 100}
    assert "prompts" not in settings


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ({"min": 7, "max": 7, "mean": 7}, 7),
        ({"type": "fixed", "mean": 50}, 50),
        ({"type": "uniform", "min": 5, "max": 9}, {"kind": "uniform", "min": 5, "max": 9}),
        (
            {"type": "lognormal", "mean": 150, "std_dev": 60, "min": 1, "max": 4096},
            {"kind": "lognormal", "mean": 150, "stdev": 60, "min": 1, "max": 4096},
        ),
        (
            {"distribution": "poisson", "mean": 100, "min": 1, "max": 400},
            {"kind": "normal", "mean": 100, "stdev": 10, "min": 1, "max": 400},
        ),
        (
            {"mean": 50, "variance": 100, "min": 1, "max": 99},
            {"kind": "normal", "mean": 50, "stdev": 10, "min": 1, "max": 99},
        ),
    ],
)
def test_kinds_of_lengths(tmp_path: Path, lengths: dict[str, Any], expected: object) -> None:
    settings = imported(tmp_path, random_data(output_distribution=lengths)).settings
    assert settings["output"] == expected


def test_std_is_read_as_std_dev(tmp_path: Path) -> None:
    """The documentation's name is understood, and named."""
    lengths = {"mean": 50, "std": 10, "min": 10, "max": 100}
    found = imported(tmp_path, random_data(input_distribution=lengths))
    assert found.settings["prompt"]["stdev"] == 10
    assert any("read as std_dev" in notice for notice in found.notices)


def test_replay_of_an_azure_trace(tmp_path: Path) -> None:
    """Times and lengths of one trace; its path is relative to the configuration."""
    trace = {"file": "azure.csv", "format": "AzurePublicDataset"}
    load = {"type": "trace_replay", "stages": [{"rate": 2, "duration": 30}], "trace": trace}
    values = inference_perf(load)
    values["data"] = {"type": "random", "trace": dict(trace)}
    settings = imported(tmp_path, values).settings
    assert settings == {
        "trace": str(tmp_path / "azure.csv"),
        "trace_format": "azure",
        "num_requests": 60,
        "max_outstanding": 400,
    }


def test_what_is_no_load_is_named_once(tmp_path: Path) -> None:
    values = inference_perf() | {
        "api": {"type": "completion"},
        "server": {"type": "vllm", "ignore_eos": False},
        "report": None,
    }
    notices = imported(tmp_path, values).notices
    assert "left out, not part of the load: api, server" in notices
    assert any("ignore_eos" in notice for notice in notices)


def test_unknown_number_of_workers_is_no_cap(tmp_path: Path) -> None:
    found = imported(tmp_path, inference_perf({"num_workers": None}))
    assert "max_outstanding" not in found.settings
    assert any(notice.startswith("load.num_workers") for notice in found.notices)


@pytest.mark.parametrize(
    ("load", "message"),
    [
        ({"sweep": {"type": "linear"}}, r"load\.sweep must not be given: its rates depend"),
        ({"lora_traffic_split": [{"name": "x", "split": 1.0}]}, r"load\.lora_traffic_split"),
        ({"request_retries": 2}, r"load\.request_retries must not be given"),
        ({"type": "trace_session_replay"}, r"load\.type must be constant"),
        ({"type": "constnt"}, r"load\.type must be a known name.*nearest: constant"),
        ({"stages": []}, r"load\.stages must have at least one stage"),
        ({"stages": [{"rate": 0, "duration": 5}]}, r"load\.stages\[0\]\.rate must be > 0"),
        ({"worker_max_concurency": 5}, r"load\.worker_max_concurency must be a known name"),
    ],
)
def test_loads_that_cannot_be_expressed(
    tmp_path: Path, load: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        imported(tmp_path, inference_perf(load))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"type": "shareGPT"}, r"data\.type must be one of random"),
        ({"shared_prefix": POOL | {"enable_multi_turn_chat": True}}, r"enable_multi_turn_chat"),
        (
            {"shared_prefix": POOL | {"system_prompt_len": {"min": 1, "max": 90, "mean": 50}}},
            r"system_prompt_len must be one number",
        ),
        (
            {"shared_prefix": POOL | {"question_len": {"type": "skew_normal", "skew": 2}}},
            r"a skew cannot be expressed",
        ),
    ],
)
def test_data_that_cannot_be_expressed(tmp_path: Path, data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        imported(tmp_path, inference_perf(**data))


def test_an_error_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    path.write_text("load:\n  stages: [{rate: 1, duration: 5}]\n  interval: -1\ndata: {type: x}\n")
    with pytest.raises(ConfigError, match=r"x\.yml:3:3: load\.interval must be >= 0 s; got -1"):
        read_foreign(path)


def test_bad_values_are_one_clear_line(tmp_path: Path) -> None:
    """Whatever is wrong, the error is ours and names the file."""
    bad = (-1, "x", [], {}, True, float("nan"), [None], {"a": 1})
    for base in (inference_perf(), random_data()):
        for number, values in enumerate(spoiled(base, bad)):
            check_importable_or_refused(
                tmp_path / f"spoiled-{number}.yml", values, "inference-perf"
            )


def test_our_own_settings_are_not_foreign(tmp_path: Path) -> None:
    ours = {"preset": "chatbot", "clients": [{"name": "a", "rate_fraction": 1}]}
    assert read_foreign(write_yaml(tmp_path / "ours.yaml", ours)) is None
