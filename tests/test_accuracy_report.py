"""The page on accuracy is what its script makes of validation output, and nothing else."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "scripts"))

import accuracy_report as script
from accuracy.condense import condensed
from accuracy.page import page

from blis_sim.validation.read_runs import read_runs
from blis_sim.validation.shipped import RUNS, shipped

DOCS = Path(__file__).resolve().parent.parent / "docs"


def row(dataset: str, exp_id: str, error: float, **cells: Any) -> dict[str, Any]:
    """Return a row of ``blis validate --json``: 200 ms measured, and 10 ms per token."""
    metrics = {
        name: {"measured": of, "predicted": of * (1 + error / 100), "error_pct": error}
        for name, of in {"ttft_mean_ms": 200.0, "tpot_mean_ms": 10.0, "e2e_mean_ms": 400.0}.items()
    }
    return {
        "dataset": dataset,
        "exp_id": exp_id,
        "stage": -1,
        "role": "dev",
        "model": "m",
        "gpu": "H100",
        "tp": 1,
        "load": "chat",
        "requests_in_flight": 20.0,
        "latency_model": "roofline-v2",
        "metrics": metrics,
        "notices": [],
    } | cells


def document(*rows: dict[str, Any], **parts: Any) -> dict[str, Any]:
    return {
        "blis_sim_version": "1.2.3",
        "asked": {"overrides": []},
        "experiments": list(rows),
        "requests": [],
        "left_out": [],
        "metric_definitions": {"tpot_mean_ms": {"unit": "ms", "formula": "f"}},
    } | parts


def made() -> dict[str, Any]:
    """Return what is condensed of shipped rows, others, and a sample of two engines."""
    mine = row("kubecon_h100", "a", -50.0)
    others = (row("s2r38", "b", 20.0), row("s2r38", "c", 3.0, role="calib"), mine)
    failed = row("silicon_sample", "f", 100.0, reason="weights do not fit")
    out = {"engine": "vLLM", "model": "x", "gpu": "y", "reason": "disaggregated", "num_rows": 7}
    sample = document(
        row("silicon_sample", "d", 100.0, requests_in_flight=4.0),
        row("silicon_sample", "e", -50.0, gpu="B200", requests_in_flight=64.0),
        failed,
        left_out=[out],
    )
    both = {"vllm": sample, "sglang": document(row("silicon_sample", "g", 1.0))}
    return condensed(document(mine), document(*others), both)


def lines_with(text: str, part: str) -> list[str]:
    return [line for line in text.splitlines() if part in line]


def test_rows_that_may_not_be_shown_have_errors_alone() -> None:
    """Nothing measured or predicted of them is kept; shipped rows are counted once."""
    found = made()
    assert [each["exp_id"] for each in found["shipped"]] == ["a"]
    assert [each["exp_id"] for each in found["others"]] == ["b", "c"]
    assert not re.search("measured|predicted", json.dumps(found["others"]))
    assert found["others"][0]["errors"]["tpot_mean_ms"] == 20
    assert found["others"][0]["in_flight"] == "16 to 32"
    assert found["shipped"][0]["measured_predicted"]["ttft_mean_ms"] == [200, 100]


def test_what_is_not_simulated_stands_apart() -> None:
    """It is counted, with its reasons, and is in no mean."""
    sample = made()["silicon"]["vllm"]
    assert (sample["num_rows"], sample["num_simulated"]) == (10, 2)
    assert sample["not_simulated"] == {"disaggregated": 7, "weights do not fit": 1}
    assert sample["all"]["tpot_mean_ms"] == {"mape": 75, "median": 75, "bias": 25, "n": 2}
    # Twice the E2E is half the throughput, half of it twice.
    assert sample["all"]["throughput"] == {"mape": 75, "median": 75, "bias": 25, "n": 2}
    assert [each["gpu"] for each in sample["by_deployment"]] == ["B200", "H100"]
    assert [each["in_flight"] for each in sample["by_in_flight"]] == ["under 8", "64 and more"]


def test_the_page_has_every_part() -> None:
    """Calibration rows are kept apart, engines too; every figure follows from the document."""
    text = page(made())
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    assert headings == [
        "Accuracy",
        "What was compared",
        "Servers under a given rate: `dev` rows",
        "Servers under a given rate: `calib` rows",
        "Every row",
        "Servers at fixed concurrency: the silicon sample",
        "vLLM",
        "SGLang",
        "Limits",
        "How to reproduce",
    ]
    dev, calib, *_ = lines_with(text, "| **all** |")
    assert dev == "| **all** | 2 | 35.0, -15.0 | 35.0, -15.0 | 35.0, -15.0 |"
    assert calib == "| **all** | 1 | 3.0, +3.0 | 3.0, +3.0 | 3.0, +3.0 |"
    assert "| kubecon_h100 a | 200 → 100 | 10 → 5 | 400 → 200 |" in text
    assert "| s2r38 b | dev | m on H100 TP1 | chat | +20.0 | +20.0 | +20.0 |" in text
    assert "2 of 10 published rows are simulated." in text
    assert "| disaggregated | 7 |" in text
    assert "What is simulated is vLLM: SGLang has other kernels" in text
    assert len(lines_with(text, "a client's TTFT")) == 2


def test_other_figures_make_another_page() -> None:
    """No result is typed into the words: without rows no decimal number is left."""
    words = page(condensed(document(), None, {}))
    assert re.findall(r"[0-9]+[.,][0-9]+", words.replace("1.2.3", "")) == []


def test_the_page_is_written_and_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the outputs of the command, and again from what was kept of them."""

    def called(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["x", "--docs", str(tmp_path), *arguments])
        return script.main()

    (tmp_path / "shipped.json").write_text("{}", encoding="utf-8")
    assert called("--from", str(tmp_path)) == 2
    assert "error: 'experiments' is missing" in capsys.readouterr().err
    assert called() == 2
    assert "accuracy.json must be a JSON file; got: " in capsys.readouterr().err
    for name in ("shipped", "silicon_vllm"):
        text = json.dumps(document(row("kubecon_h100", "a", 5.0)))
        (tmp_path / f"{name}.json").write_text(text, encoding="utf-8")
    assert called("--from", str(tmp_path)) == 0
    written = (tmp_path / "accuracy.md").read_bytes()
    assert called("--check") == 0
    (tmp_path / "accuracy.md").write_bytes(written.replace(b"5.0", b"4.0"))
    assert called("--check") == 1
    assert called() == 0
    assert (tmp_path / "accuracy.md").read_bytes() == written


def test_the_committed_page_was_generated() -> None:
    """Byte by byte from accuracy.json, which has all that is shipped and nothing it may not."""
    kept = json.loads((DOCS / script.DATA).read_text(encoding="utf-8"))
    assert (DOCS / script.PAGE).read_text(encoding="utf-8") == page(kept)
    table = {(record.dataset, record.exp_id) for record in read_runs(shipped(RUNS))}
    assert {(each["dataset"], each["exp_id"]) for each in kept["shipped"]} == table
    assert not any("measured_predicted" in each for each in kept["others"])
    assert set(kept["silicon"]) == {"vllm", "tensorrt-llm", "sglang"}
