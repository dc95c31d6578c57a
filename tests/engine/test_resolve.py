from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from blis_sim.catalog.paths import data_root
from blis_sim.config.engine import SchedulingPolicy
from blis_sim.config.latency import LatencyModelName
from blis_sim.config.loading import load_scenario
from blis_sim.engine.resolve import resolve
from blis_sim.engine.resolved import Resolved
from blis_sim.errors import BlisError, CatalogError, ConfigError, TraceError
from blis_sim.latency.base import Batch

TRACE = "arrival_s,prompt_tokens,output_tokens\n0,10,1\n1,20,2\n"


def resolved(*settings: str, **parts: Any) -> Resolved:
    return resolve(load_scenario(parts, settings))


def test_defaults_are_all_found() -> None:
    """An empty scenario is complete: model, GPU, limits, blocks, latency model and load."""
    found = resolved()
    assert found.spec.name == "meta-llama/Llama-3.1-8B-Instruct"
    assert found.gpu.name == "H100"
    assert found.latency.name is LatencyModelName.ROOFLINE_V2
    scheduler = found.engine.scheduler
    assert (scheduler.max_num_seqs, scheduler.max_num_batched_tokens) == (1024, 8192)
    assert scheduler.max_model_len == 131072
    assert found.engine.num_kv_blocks * 16 > 131072
    assert found.kv_blocks_source.startswith("memory of H100: ")
    assert (found.workload.num_requests, found.request_rate, found.burstiness) == (100, 1.0, 1.0)
    assert found.horizon_us is None
    assert found.notices == ()


def test_engine_settings_reach_the_engine() -> None:
    """Every setting of the engine is in its configuration and in the list for reports."""
    found = resolved(
        "engine.max_num_seqs=8",
        "engine.max_num_batched_tokens=64",
        "engine.max_model_len=512",
        "engine.long_prefill_token_threshold=32",
        "engine.block_size=32",
        "engine.num_gpu_blocks_override=77",
        "engine.scheduling_policy=sjf",
        "engine.enable_prefix_caching=false",
        "engine.async_scheduling=true",
        "engine.reserve_full_sequence=true",
        "engine.version=vllm/vllm-openai:v0.8.4",
        "coalesce=false",
    )
    engine, scheduler = found.engine, found.engine.scheduler
    assert (scheduler.max_num_seqs, scheduler.max_num_batched_tokens) == (8, 64)
    assert (scheduler.max_model_len, scheduler.long_prefill_token_threshold) == (512, 32)
    assert (engine.block_size, engine.num_kv_blocks) == (32, 77)
    assert scheduler.policy is SchedulingPolicy.SJF
    assert not engine.enable_prefix_caching
    assert engine.async_scheduling
    assert scheduler.reserve_full_sequence
    assert not engine.coalesce
    assert found.kv_blocks_source == "num_gpu_blocks_override"
    listed = found.engine_settings()
    assert listed["version"] == "0.8.4"
    assert listed["num_gpu_blocks"] == 77
    assert listed["scheduling_policy"] == "sjf"
    assert listed["async_scheduling"] is True


@pytest.mark.parametrize(
    ("version", "is_async", "reserve"),
    [
        ("0.13.9", False, False),
        ("0.14.0", True, False),
        ("0.18.9", True, False),
        ("0.19.0", True, True),
    ],
)
def test_automatic_settings_follow_the_version(
    version: str, is_async: bool, reserve: bool
) -> None:
    """Scheduling is asynchronous since 0.14 with roofline-v2; 0.19 reserves whole sequences."""
    engine = resolved(f"engine.version='{version}'").engine
    assert engine.scheduler.reserve_full_sequence is reserve
    assert engine.async_scheduling is is_async
    other = resolved(f"engine.version='{version}'", "latency.model=roofline-v1").engine
    assert not other.async_scheduling
    off = resolved("engine.version='0.19.0'", "engine.reserve_full_sequence=false")
    assert not off.engine.scheduler.reserve_full_sequence


def test_a_small_pool_lowers_the_length() -> None:
    """The KV cache holds 3,000 blocks of 16: no sequence may be longer."""
    found = resolved("engine.num_gpu_blocks_override=3000")
    assert found.engine.scheduler.max_model_len == 48_000
    assert any("max_model_len is 48000 instead of 131072" in notice for notice in found.notices)


def test_shipped_files_are_found_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path of the documentation means the shipped file unless the user has one there."""
    monkeypatch.chdir(tmp_path)
    found = resolved("workload.trace=workloads/chat_small.csv")
    assert found.workload.source == data_root() / "workloads" / "chat_small.csv"
    assert any("the shipped one is used" in notice for notice in found.notices)
    (tmp_path / "workloads").mkdir()
    (tmp_path / "workloads" / "chat_small.csv").write_text(TRACE)
    found = resolved("workload.trace=workloads/chat_small.csv")
    assert found.workload.num_requests == 2
    assert found.notices == ()


def test_only_data_folders_are_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of the checkout beside the data is none of the shipped data."""
    monkeypatch.chdir(tmp_path)
    for path in ("pyproject.toml", "/workloads/chat_small.csv", "workloads/none.csv"):
        with pytest.raises(TraceError, match=r"must be a readable file; got: No such file"):
            resolved(f"workload.trace={path}")


def test_users_files_win(tmp_path: Path) -> None:
    """A hardware file and a model folder replace what is shipped."""
    hardware = tmp_path / "gpus.json"
    hardware.write_text(json.dumps({"H100": {"TFlopsPeak": 1.0, "MemoryGiB": 40}}))
    config = json.loads(
        (data_root() / "configs/models/llama-3.1-8b-instruct/config.json").read_text()
    )
    config["num_hidden_layers"] = 2
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = resolved(
        latency={"hardware_config": str(hardware), "model_config_folder": str(tmp_path)}
    )
    assert found.gpu.roofline_v1.peak_tflops == 1.0
    assert found.spec.num_layers == 2
    assert found.latency.name is LatencyModelName.ROOFLINE_V2
    assert found.engine.scheduler.max_num_seqs == 256


def test_a_trace_has_its_own_rate(tmp_path: Path) -> None:
    """Neither rate nor burstiness is reported for a trace unless the rate was asked for."""
    trace = tmp_path / "trace.csv"
    trace.write_text(TRACE)
    found = resolved(f"workload.trace={trace}")
    assert (found.request_rate, found.burstiness) == (None, None)
    assert resolved(f"workload.trace={trace}", "workload.request_rate=5").request_rate == 5


@pytest.mark.parametrize(
    ("settings", "burstiness"),
    [
        (["workload.arrivals.burstiness=0.5"], 0.5),
        (["workload.arrivals={process: gamma, cv: 2}"], 0.25),
        (["workload.arrivals={process: weibull, cv: 2}"], None),
        (["workload.stages=[{rate: 2, duration_s: 5}]"], None),
        (["workload.arrivals=constant"], None),
        (["workload.request_rate=inf"], None),
        (["workload.arrivals=poisson"], 1.0),
    ],
)
def test_burstiness_is_that_of_the_gaps(settings: list[str], burstiness: float | None) -> None:
    """vLLM's figure: 1 for Poisson, nothing where the gaps are not gamma."""
    assert resolved(*settings).burstiness == burstiness


SCENARIOS: list[dict[str, Any]] = [
    {},
    {"model": "qwen/qwen3-14b", "engine": {"defaults": "blis", "num_gpu_blocks_override": 100}},
    {"workload": {"preset": "chatbot", "request_rate": "inf", "num_requests": 3}},
    {"horizon_s": 30, "engine": {"version": "0.19.0"}, "slo": {"ttft_ms": 5}, "coalesce": False},
    {"engine": {"enable_chunked_prefill": False, "max_model_len": 9000}},
]


@pytest.mark.parametrize("source", SCENARIOS)
def test_the_resolved_scenario_resolves_to_itself(source: dict[str, Any]) -> None:
    """What is written out can be read in: the same engine, load and words."""
    first = resolve(load_scenario(source))
    again = resolve(load_scenario(first.as_written()))
    assert again.engine == first.engine
    assert list(again.workload) == list(first.workload)
    assert again.as_written() == first.as_written()
    assert again.latency.name == first.latency.name


def test_an_fp8_cache_is_read_faster_whatever_the_number_of_blocks() -> None:
    """With roofline-v2 the type of the cache decides more than the number of blocks."""
    batch = Batch(num_decodes=64, sum_decode_context=64 * 8000)
    blocks = "engine.num_gpu_blocks_override=9000"
    plain, fp8 = (
        resolved(blocks, f"engine.kv_cache_dtype={kind}").latency.model.step_time(batch)
        for kind in ("auto", "fp8")
    )
    assert fp8 < 0.9 * plain


def test_other_weights_have_no_coefficients() -> None:
    """Quantised by the user the shipped coefficients do not apply; said again they do."""
    assert "blackbox" not in resolved("engine.quantization=fp8").latency.alternatives
    assert "blackbox" in resolved("engine.dtype=bfloat16").latency.alternatives


BAD: list[tuple[list[str], type[BlisError], str]] = [
    (["engine.version=latest"], ConfigError, r"engine\.version must be a version"),
    (["model=lama-3.1-8b"], CatalogError, r"model must be a known name; .*Llama-3\.1-8B"),
    (["hardware=H1000"], CatalogError, r"hardware must be a known name; .*nearest: H100"),
    (["engine.tensor_parallel_size=3"], ConfigError, r"tensor_parallel_size must split the 32"),
    (["model=llama-3.1-70b"], ConfigError, r"must be >= 2 \(the smallest that fits\).*got 1"),
    (
        ["engine.num_gpu_blocks_override=100", "engine.max_model_len=1601"],
        ConfigError,
        r"engine\.max_model_len must be <= 1600 tokens",
    ),
    (["engine.max_model_len=131073"], ConfigError, r"must be <= 131072 tokens, the limit of"),
    (
        ["engine.num_gpu_blocks_override=9000", "engine.gpu_memory_utilization=0.5"],
        ConfigError,
        r"gpu_memory_utilization must not be set with engine\.num_gpu_blocks_override",
    ),
    (
        [
            "engine.num_gpu_blocks_override=9000",
            "engine.kv_cache_dtype=fp8",
            "latency.model=roofline-v1",
        ],
        ConfigError,
        r"kv_cache_dtype must not be set with engine\.num_gpu_blocks_override",
    ),
    (["horizon_s=1e-9"], ConfigError, r"horizon_s must be from 0\.000001"),
    (["horizon_s=1e30"], ConfigError, r"horizon_s must be from 0\.000001"),
    (["workload.prefix_tokens=5", "workload.trace=x.csv"], ConfigError, r"prefix_tokens must not"),
]


@pytest.mark.parametrize(("settings", "error", "message"), BAD)
def test_contradictions_are_errors(
    settings: list[str], error: type[BlisError], message: str
) -> None:
    """Every defect is found before anything runs."""
    with pytest.raises(error, match=message):
        resolved(*settings)
