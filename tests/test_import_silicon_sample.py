"""The table of servers at fixed concurrency, from a wheel made up for the test."""

from __future__ import annotations

import csv
import io
import sys
import zipfile
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "scripts"))

import import_silicon_sample as script

from blis_sim.validation.read_runs import read_runs
from blis_sim.validation.shipped import read_left_out

ROW = {
    "id": "a",
    "silicon_data_source": "source_file=2026-03-25.csv; silicon_concurrency=16; wip=False",
    "backend": "vllm",
    "backend_version": "0.15.1",
    "model_path": "meta-llama/Llama-3.1-70B",
    "system": "h100_sxm",
    "precision": "fp8",
    "mode": "agg",
    "isl": "1024",
    "osl": "100",
    "gemm_quant_mode": "fp8",
    "moe_quant_mode": "fp8",
    "tp_size": "4.0",
    "pp_size": "1.0",
    "attention_dp_size": "1.0",
    "moe_tp_size": "4.0",
    "moe_ep_size": "1.0",
    "silicon_ttft_ms": "50",
    "silicon_tpot_ms": "10",
}


def made(folder: Path, *changes: dict[str, str]) -> Path:
    """Write a wheel with a row for each change, and return the folder of what comes of it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(ROW))
    writer.writeheader()
    writer.writerows(ROW | {"id": f"row{n}"} | change for n, change in enumerate(changes))
    wheel = folder / "w.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(script.MEMBER, text.getvalue())
    sys.argv = ["import_silicon_sample.py", "--wheel", str(wheel), "--out", str(folder / "out")]
    assert script.main() == 0
    return folder / "out"


def test_a_row_becomes_a_run(tmp_path: Path) -> None:
    """With what the published scripts say of its server; E2E is computed."""
    out = made(tmp_path, {}, {"silicon_data_source": "own.csv; silicon_concurrency=8"})
    published, own = read_runs(out / "silicon.csv")
    assert (published.gpu, published.tp, published.precision) == ("H100", 4, "FP8")
    assert (published.concurrency, published.range_ratio) == (16, 0.8)
    assert (published.kv_cache_dtype, published.async_scheduling) == ("fp8", True)
    measured = {"ttft_mean_ms": 50, "tpot_mean_ms": 10, "e2e_mean_ms": 50 + 10 * (90 - 1)}
    assert published.rows[0].measured == measured
    assert (own.concurrency, own.range_ratio, own.kv_cache_dtype) == (8, None, None)
    assert own.rows[0].measured["e2e_mean_ms"] == 50 + 10 * 99


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mode": "disagg"}, "prefill and decode on different servers"),
        ({"silicon_data_source": "x"}, "the number of concurrent requests is not stated"),
        ({"model_path": "a/b"}, "no config of the model is shipped"),
        ({"system": "gb300"}, "no kernels were measured on the GPU"),
        ({"precision": "fp4"}, "no kernels were measured in NVFP4"),
        ({"moe_ep_size": "4"}, "expert parallelism"),
        ({"attention_dp_size": "2"}, "attention and experts are spread over different GPUs"),
        ({"tp_size": "16"}, "more GPUs than all-reduce was measured on"),
        ({"silicon_ttft_ms": "0"}, "a latency is not stated"),
        ({}, "the same measurement once more"),
    ],
)
def test_what_is_left_out_is_counted(tmp_path: Path, change: dict[str, str], reason: str) -> None:
    """By engine, model, GPU and reason."""
    out = made(tmp_path, {}, change)
    assert len(read_runs(out / "silicon.csv")) == 1
    (left_out,) = read_left_out(out / "silicon_left_out.csv")
    assert (left_out.engine, left_out.reason, left_out.num_rows) == ("vLLM", reason, 1)


def test_another_wheel_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line."""
    wheel = tmp_path / "w.whl"
    wheel.write_bytes(b"")
    monkeypatch.setattr(sys, "argv", ["x", "--wheel", str(wheel)])
    assert script.main() == 2
    assert "error: --wheel must be the wheel aiconfigurator-core 0.12.0" in capsys.readouterr().err
