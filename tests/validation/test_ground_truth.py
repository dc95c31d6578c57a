"""BLIS's own files of measured runs."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from blis_sim.api import resolve
from blis_sim.errors import CatalogError
from blis_sim.validation.ground_truth import read_ground_truth
from blis_sim.validation.validate import Task, scenario_of, validate
from tests.validation.tables import FAST

LENGTHS = {"prompt_tokens": 70, "prompt_tokens_stdev": 10, "prompt_tokens_min": 2}
DOCUMENT: dict[str, Any] = {
    "experiments": [
        {
            "experiment_name": "made-up-1",
            "model": "meta-llama/Llama-2-7b-hf",
            "vllm_config": {
                "tensor_parallelism": 1,
                "max_model_len": 2048,
                "max_num_batched_tokens": 1024,
                "max_num_seqs": 64,
                "app": "train",
            },
            "workload_config": {
                "rate_type": "sweep",
                "max_requests": 20,
                "rate": 5,
                "data": LENGTHS | {"prefix_tokens": 16, "output_tokens": 8},
            },
            "total_kv_blocks": 7000,
            "qps_sweeps": [
                {"qps": 2.0, "ttft_mean_ms": 10.0, "ttft_p90_ms": 12.0, "itl_mean_ms": 5.0},
                {"qps": 4.0, "e2e_mean_ms": 50.0, "e2e_p90_ms": 55.0},
            ],
        }
    ]
}


def written(folder: Path, change: str = "", value: object = None) -> Path:
    """Write the document, one value of it replaced: ``qps_sweeps.0.qps``."""
    document = copy.deepcopy(DOCUMENT)
    place: Any = document["experiments"][0]
    keys = [int(key) if key.isdigit() else key for key in change.split(".") if key]
    for key in keys[:-1]:
        place = place[key]
    if keys:
        place[keys[-1]] = value
    path = folder / "combined_ground_truth.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_each_rate_is_a_run_of_its_own(tmp_path: Path) -> None:
    """With arrivals at even gaps, on an H100 with vLLM 0.8.4 as BLIS's own evaluation."""
    first, second = read_ground_truth(written(tmp_path))
    assert (first.exp_id, first.load, first.tp) == ("made-up-1", "train", 1)
    assert [case.rows[0].row.stage for case in (first, second)] == [0, 1]
    made = resolve(scenario_of(Task(second)))
    assert (made.gpu.name, made.spec.name) == ("H100", "meta-llama/Llama-2-7b-hf")
    assert made.engine.num_kv_blocks == 7000
    assert made.engine.scheduler.max_num_seqs == 64
    assert made.deployed.settings.version == "0.8.4"
    load = made.scenario.workload
    assert (load.request_rate, load.num_requests, load.prefix_tokens) == (4, 20, 16)
    assert load.arrivals.process == "constant"
    assert load.prompt is not None
    assert (load.prompt.mean, load.prompt.stdev, load.prompt.min) == (70, 10, 2)


def test_its_figures_are_compared(tmp_path: Path) -> None:
    """Those it has, under its names; without blocks in the log they are worked out."""
    cases = read_ground_truth(written(tmp_path, "total_kv_blocks", 0), gpu="L40S")
    rows = validate(cases, overrides=FAST).rows
    assert [row.reason for row in rows] == ["", ""]
    assert [list(row.metrics) for row in rows] == [
        ["ttft_mean_ms", "ttft_p90_ms", "itl_mean_ms"],
        ["e2e_mean_ms", "e2e_p90_ms"],
    ]
    # 1 ms in the frontend, then a prefill step, then 7 decode steps.
    assert rows[0].metrics["ttft_mean_ms"].predicted == pytest.approx(6.6, abs=0.3)
    assert rows[1].metrics["e2e_mean_ms"].predicted == pytest.approx(42, abs=1)
    assert rows[0].metrics["itl_mean_ms"].predicted == pytest.approx(5.1, abs=0.1)


@pytest.mark.parametrize(
    ("change", "value", "message"),
    [
        ("model", "", r"experiments\[0\]\.model must be text"),
        ("vllm_config", [], r"experiments\[0\]\.vllm_config must be an object; got a list of 0"),
        ("vllm_config.max_num_seqs", 0, r"vllm_config\.max_num_seqs must be a whole number"),
        ("vllm_config.pipeline", 2, r"vllm_config must have known keys; got 'pipeline'"),
        ("workload_config.max_requests", None, r"max_requests must be a whole number"),
        ("workload_config.data.prompt_tokens", None, r"data\.prompt_tokens must be a number"),
        ("total_kv_blocks", -1, r"total_kv_blocks must be a whole number of blocks"),
        ("qps_sweeps", {}, r"experiments\[0\]\.qps_sweeps must be a list"),
        ("qps_sweeps.1.qps", 0, r"qps_sweeps\[1\]\.qps must be a finite number > 0; got 0"),
        ("qps_sweeps.0", {}, r"qps_sweeps\[0\]\.qps must be a number > 0; got nothing"),
        ("qps_sweeps.0.e2e_mean_ms", "9", r"e2e_mean_ms must be a finite number > 0"),
    ],
)
def test_a_bad_value_is_an_error_with_its_place(
    tmp_path: Path, change: str, value: object, message: str
) -> None:
    """The path of keys to it."""
    path = written(tmp_path, change, value)
    with pytest.raises(CatalogError, match=message):
        read_ground_truth(path)


def test_what_is_no_such_file(tmp_path: Path) -> None:
    """Broken, empty or absent."""
    path = tmp_path / "g.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(CatalogError, match=r"g\.json:1:2 must be valid JSON"):
        read_ground_truth(path)
    path.write_text('{"experiments": []}', encoding="utf-8")
    with pytest.raises(CatalogError, match="must hold at least one experiment"):
        read_ground_truth(path)
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(CatalogError, match="file must be an object; got a list of 0"):
        read_ground_truth(path)
    path.unlink()
    with pytest.raises(CatalogError, match=r"g\.json must be a readable UTF-8 JSON file"):
        read_ground_truth(path)
