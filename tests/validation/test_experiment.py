"""What is simulated for a measured run: the deployment and the load of each column."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blis_sim.api import resolve, run
from blis_sim.catalog.model_spec import ModelSpec
from blis_sim.config.scenario import Scenario
from blis_sim.engine.resolved import Resolved
from blis_sim.metrics.records import RequestColumns
from blis_sim.validation.compare import stage_counts
from blis_sim.validation.experiment import SPREAD_TOKENS, Case, case_of, engine_version
from blis_sim.validation.read_runs import read_runs
from blis_sim.validation.validate import Task, scenario_of
from tests.validation.tables import FAST, cases, row, served, write_requests

SHARED = Path(__file__).resolve().parents[3] / "shared/data/measured/serving_runs.csv"
US = 1_000_000


def scenario(folder: Path, *overrides: str, **cells: object) -> Scenario:
    """Return the scenario of a table with one row."""
    (case,) = cases(folder, row(**cells))
    assert case.problem == ""
    return scenario_of(Task(case, overrides=overrides))


def resolved(folder: Path, *overrides: str, **cells: object) -> Resolved:
    return resolve(scenario(folder, *overrides, **cells))


def simulated(folder: Path, **cells: object) -> RequestColumns:
    """Return the requests of the simulation of a table with one row."""
    return run(resolved(folder, *FAST, **cells)).run.requests


def model(folder: Path, **cells: object) -> ModelSpec:
    return resolved(folder, **cells).spec


# -- deployments ----------------------------------------------------------


def test_engine_settings_are_those_of_the_row(tmp_path: Path) -> None:
    """Model, GPU, TP, limits and KV blocks."""
    made = resolved(
        tmp_path,
        tp=2,
        max_model_len=4096,
        max_num_seqs=128,
        max_num_batched_tokens=2048,
        prefix_caching=0,
    )
    assert (made.spec.name, made.gpu.name) == ("Qwen/Qwen3-14B", "H100")
    assert made.deployed.settings.tensor_parallel_size == 2
    limits = made.engine.scheduler
    assert (limits.max_model_len, limits.max_num_seqs) == (4096, 128)
    assert limits.max_num_batched_tokens == 2048
    assert made.engine.num_kv_blocks == 5000
    assert not made.engine.enable_prefix_caching


def test_kv_blocks_follow_from_the_memory_where_none_are_given(tmp_path: Path) -> None:
    """And then the share of the memory counts; with blocks given it does not."""
    counts = [
        resolved(tmp_path, num_kv_blocks="", gpu_memory_utilization=share).engine.num_kv_blocks
        for share in (0.8, 0.9)
    ]
    assert counts[0] < counts[1]
    made = resolved(tmp_path, num_kv_blocks="7000", gpu_memory_utilization=0.9)
    assert made.engine.num_kv_blocks == 7000


@pytest.mark.parametrize(
    ("engine", "version"),
    [
        ("vLLM v0.15.1", "0.15.1"),
        ("vLLM (inference-sim fork, v0.15.1)", "0.15.1"),
        ("vLLM 0.23.0 +residency patch (python)", "0.23.0"),
        ("vllm/vllm-openai:v0.8.4", "0.8.4"),
    ],
)
def test_the_version_of_the_engine(engine: str, version: str) -> None:
    """It is found among other words."""
    assert engine_version(engine) == version


def test_the_version_decides_how_batches_are_formed(tmp_path: Path) -> None:
    """From 0.14 on the next one is fixed while a step runs."""
    v2 = "latency.model=roofline-v2"
    assert resolved(tmp_path, v2, engine="vLLM 0.15.1").engine.async_scheduling
    assert not resolved(tmp_path, v2, engine="vLLM v0.11.0").engine.async_scheduling


def test_other_engines_are_not_simulated(tmp_path: Path) -> None:
    """That is no bad cell: the row has a reason."""
    (case,) = cases(tmp_path, row(engine="SGLang 0.4.6"))
    assert case.problem == "engine must be vLLM and its version; got 'SGLang 0.4.6'"


def test_ranks_have_a_cache_and_a_queue_each(tmp_path: Path) -> None:
    """dp is vLLM's data parallel size."""
    assert resolved(tmp_path, dp=2).num_instances == 2
    assert resolved(tmp_path, dp=1).num_instances == 1


def test_sixteen_bits_are_sixteen_bits(tmp_path: Path) -> None:
    """FP16 and BF16 serve each other: the model is as it was published."""
    published = model(tmp_path)
    assert published.dtype == "bfloat16"
    assert model(tmp_path, precision="FP16") == model(tmp_path, precision="BF16") == published


@pytest.mark.parametrize(
    ("precision", "bits"), [("FP32", 32), ("FP8", 8), ("W8A8", 8), ("INT4", 4), ("AWQ", 4)]
)
def test_other_precisions_change_the_weights(tmp_path: Path, precision: str, bits: int) -> None:
    """Unless the checkpoint comes in them."""
    assert model(tmp_path, precision=precision, num_kv_blocks=500).weight_bits == bits


def test_a_checkpoint_in_a_precision_stays_as_it_is(tmp_path: Path) -> None:
    """Nothing is quantised twice, and nobody makes MXFP4 of another checkpoint."""
    name = "RedHatAI/Qwen2.5-7B-Instruct-FP8-dynamic"
    assert model(tmp_path, model=name, precision="FP8") == model(tmp_path, model=name)
    (case,) = cases(tmp_path, row(precision="MXFP4"))
    assert "precision must not be MXFP4 where the checkpoint is in bfloat16" in case.problem


def test_offload_is_said_not_to_be_simulated(tmp_path: Path) -> None:
    """Nothing of the server is passed over in silence."""
    (with_it, without) = cases(tmp_path, row(kv_offload=1023), row(exp_id="b", kv_offload=0))
    assert "KV offload" in with_it.notices[0]
    assert without.notices == ()


# -- loads ----------------------------------------------------------------


def test_stages_have_exactly_rate_times_time_requests(tmp_path: Path) -> None:
    """The last one of a stage is at its very end, and gaps are exponential in between."""
    columns = simulated(tmp_path, stage_rates="50|20", stage_durations_s="20|10", output_tokens=2)
    assert len(columns.arrival_us) == 1200
    assert columns.arrival_us[999] == 20 * US
    assert columns.arrival_us[-1] == 30 * US
    gaps = np.diff(columns.arrival_us[:1000])
    assert 0.9 < gaps.std() / gaps.mean() < 1.1


def test_a_stage_begins_after_the_one_before_has_drained(tmp_path: Path) -> None:
    """So many seconds after its last answer; without a gap, at its time."""
    cells: dict[str, Any] = {"stage_rates": "5|5", "stage_durations_s": "4|4"}
    with_gap = simulated(tmp_path, **cells, stage_gap_s="3")
    drained_us = with_gap.last_token_us[:20].max()
    assert drained_us + 3 * US < with_gap.arrival_us[20]
    assert with_gap.arrival_us[-1] == drained_us + 7 * US
    assert simulated(tmp_path, **cells).arrival_us[-1] == 8 * US


def test_a_pool_of_prompts_is_sent_in_turn(tmp_path: Path) -> None:
    """From the second cycle on, only the last 1 to 16 tokens of a prompt are computed."""
    columns = simulated(
        tmp_path,
        prompt_pool=20,
        prefix_groups=4,
        system_prompt_tokens=40,
        prompt_tokens=200,
        prefix_caching=1,
        stage_rates=10,
        stage_durations_s=10,
        output_tokens=2,
    )
    prompts = columns.prompt_tokens
    assert (prompts[20:] == np.resize(prompts[:20], 80)).all()
    assert abs(prompts[:20].mean() - 200) <= SPREAD_TOKENS / 2
    assert (columns.cached_tokens[:4] == 0).all()
    assert (columns.cached_tokens[4:20] == 32).all()  # the whole blocks of the system prompt
    assert (columns.cached_tokens[20:] == 16 * ((prompts[20:] - 1) // 16)).all()


def test_lengths_lie_around_the_mean(tmp_path: Path) -> None:
    """Prompts within a few tokens of it, answers all alike."""
    columns = simulated(tmp_path, prompt_tokens=986.25, output_tokens=8.4, stage_rates=100)
    assert columns.prompt_tokens.min() == 986 - SPREAD_TOKENS
    assert columns.prompt_tokens.max() == 986 + SPREAD_TOKENS
    assert abs(columns.prompt_tokens.mean() - 986) < 1
    assert set(columns.output_tokens.tolist()) == {8}


def test_a_mix_of_prompts(tmp_path: Path) -> None:
    """Each length with its share."""
    columns = simulated(tmp_path, prompt_mix="64:0.75|512:0.25", prompt_tokens="", stage_rates=100)
    lengths = columns.prompt_tokens
    assert set(lengths.tolist()) == {64, 512}
    assert 0.15 < (lengths == 512).mean() < 0.35


def test_system_prompts_without_a_pool(tmp_path: Path) -> None:
    """They stand in front of prompts that are all different."""
    columns = simulated(
        tmp_path, system_prompt_tokens=64, prefix_groups=1, prefix_caching=1, stage_rates=20
    )
    assert (columns.cached_tokens[1:] == 64).all()


def test_a_cap_holds_back_what_is_due(tmp_path: Path) -> None:
    """No more than so many are open at a time."""
    columns = simulated(tmp_path, client_cap=2, stage_rates=100, output_tokens=20)
    begin, end = np.sort(columns.arrival_us), np.sort(columns.last_token_us)
    assert (begin[2:] >= end[:-2]).all()


def test_users_send_one_request_after_the_other(tmp_path: Path) -> None:
    """As many at once as there are users, from the start to the last round."""
    cells = {"concurrency": 3, "stage_rates": "", "stage_durations_s": "", "requests_per_user": 4}
    columns = simulated(tmp_path, **cells)
    assert len(columns.arrival_us) == 12
    assert (columns.arrival_us[:3] == 0).all()
    sent, done = np.sort(columns.arrival_us), np.sort(columns.last_token_us)
    assert (sent[3:] >= done[: len(sent) - 3]).all()
    (case,) = cases(tmp_path, row(**cells))
    assert case.rows[0].in_flight == 3
    (case,) = cases(tmp_path, row(**cells | {"requests_per_user": ""}))
    assert case.settings["workload"]["num_requests"] == 30


def test_lengths_up_to_a_range(tmp_path: Path) -> None:
    """Prompts and answers are drawn from a share of their length up to it."""
    columns = simulated(
        tmp_path,
        concurrency=20,
        stage_rates="",
        stage_durations_s="",
        range_ratio=0.8,
        output_tokens=50,
    )
    for tokens, longest in ((columns.prompt_tokens, 100), (columns.output_tokens, 50)):
        assert 0.8 * longest <= tokens.min() < 0.85 * longest
        assert 0.95 * longest < tokens.max() <= longest


def test_precision_of_the_cache_and_order_of_batches(tmp_path: Path) -> None:
    """The table may say what the version alone does not."""
    made = scenario(tmp_path, kv_cache_dtype="fp8", engine="vLLM 0.11.0", async_scheduling=1)
    assert made.engine.kv_cache_dtype == "fp8"
    assert resolved(tmp_path, engine="vLLM 0.11.0", async_scheduling=1).engine.async_scheduling
    assert not resolved(tmp_path, engine="vLLM 0.11.0").engine.async_scheduling


def test_requests_of_a_file(tmp_path: Path) -> None:
    """They arrive as they entered the engine, with their lengths."""
    write_requests(tmp_path / "r.jsonl", [served(n) for n in range(3)])
    (case,) = cases(
        tmp_path,
        row(requests_file="r.jsonl", stage_rates="", stage_durations_s="", client_cap=9),
    )
    assert case.requests is not None
    case.requests.write_trace(tmp_path / "trace.csv")
    made = scenario_of(Task(case, tmp_path / "trace.csv", FAST))
    columns = run(resolve(made)).run.requests
    assert columns.arrival_us.tolist() == [0, 200_000, 400_000]
    assert columns.prompt_tokens.tolist() == [100, 101, 102]
    assert columns.output_tokens.tolist() == [10, 10, 10]
    assert made.workload.max_outstanding == 9


def test_a_file_of_requests_that_is_not_there(tmp_path: Path) -> None:
    """The row has a reason; the others are simulated."""
    cells = {"requests_file": "r.jsonl", "stage_rates": "", "stage_durations_s": ""}
    (case,) = cases(tmp_path, row(**cells))
    assert "requests_file must be a file beside the table" in case.problem


def test_overrides_win_over_the_row(tmp_path: Path) -> None:
    """All of them, the seed included; seeds then follow one another."""
    made = scenario(tmp_path, "engine.max_num_seqs=7", max_num_seqs=128)
    assert made.engine.max_num_seqs == 7
    (case,) = cases(tmp_path, row())
    assert scenario_of(Task(case, overrides=("seed=5",), replication=2)).seed == 7


needs_table = pytest.mark.skipif(not SHARED.is_file(), reason=f"{SHARED} is not there")


@cache
def published() -> tuple[Case, ...]:
    """Return the published runs, built and not simulated."""
    return tuple(case_of(record) for record in read_runs(SHARED))


@needs_table
def test_all_published_runs_can_be_built() -> None:
    """None of them has a setting that does not exist here."""
    assert [case.problem for case in published() if case.problem] == []
    for case in published():
        if case.requests is None:
            assert resolve(scenario_of(Task(case))).latency.name == "roofline-v2"


@needs_table
def test_requests_are_as_many_as_were_sent() -> None:
    """Where the table says how many that were."""
    some = [case for case in published() if case.dataset == "residency_qwen3"]
    for case in some:
        (count,) = stage_counts(scenario_of(Task(case)).workload)
        per_s = case.rows[0].row.measured["request_throughput"]
        assert count == pytest.approx(per_s * 601, rel=0.003)
    assert len(some) == 7


@needs_table
def test_blocks_are_the_servers() -> None:
    """Given or worked out, within the few percent the memory model promises."""
    blocks = {
        case.model: resolve(scenario_of(Task(case))).engine.num_kv_blocks
        for case in published()
        if case.dataset == "s2r38"
    }
    assert blocks["mistralai/Mixtral-8x7B-v0.1"] == pytest.approx(27510, rel=0.05)
    assert blocks["codellama/CodeLlama-34b-Instruct-hf"] == pytest.approx(26602, rel=0.05)
