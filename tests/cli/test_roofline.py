"""``blis roofline``."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from blis_sim.cli.main import main
from blis_sim.roofline import RooflineAnalyzer, machine_profile
from blis_sim.roofline.ceilings import Bandwidth, Ceilings, Peak
from tests.cli.calls import refusal

SMALL = ("--seq-len", "128:512:x2", "--batch", "1,8")


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["roofline", *arguments]) == 0
    return capsys.readouterr().out


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(printed(capsys, *arguments, "--json", "-"))
    return found


def test_a_row_for_each_combination(capsys: pytest.CaptureFixture[str]) -> None:
    """GPU, phase, length and batch, with the figures of the analyzer."""
    rows = document(capsys, "--gpu", "H100,L4", "--model", "llama-3.1-8b", *SMALL)["rows"]
    assert len(rows) == 2 * 2 * 3 * 2
    for row in rows:
        step = RooflineAnalyzer(row["gpu"], "llama-3.1-8b").step(
            row["phase"], row["seq_len"], row["batch"]
        )
        for key in ("flops", "bytes", "intensity", "ridge", "attainable_tflops"):
            assert row[key] == getattr(step, key)
        assert row["bound"] == step.bottleneck
        assert row["roof_ms"] == 1e3 * step.roof_s
        assert row["link_ms"] == 0


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    """For people: one GPU of the group, and what does not fit."""
    text = printed(capsys, "--gpu", "T4", "--tp", "2", "--phase", "decode", "--batch", "512")
    assert "TP 2 (bfloat16), one GPU of the group" in text
    assert "memory-bound" in text
    assert "note: weights and KV cache of 1 of 1 rows do not fit" in text
    assert "note: communication is left out: T4" in text


def test_kernels(capsys: pytest.CaptureFixture[str]) -> None:
    """Each kernel of each row, adding up to it."""
    (row,) = document(capsys, "--phase", "prefill", "--seq-len", "64", "--kernels")["rows"]
    assert sum(kernel["flops"] for kernel in row["kernels"]) == row["flops"]
    assert sum(kernel["bytes"] for kernel in row["kernels"]) == pytest.approx(row["bytes"])
    text = printed(capsys, "--phase", "prefill", "--seq-len", "64", "--kernels")
    assert "gate_up" in text
    assert "one after the other" in text
    lines = printed(capsys, "--phase", "prefill", "--kernels", "--csv", "-").splitlines()
    assert len(lines) == 1 + len(row["kernels"])


def test_csv(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A line per row, the same in a file."""
    text = printed(capsys, *SMALL, "--csv", "-")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 12
    assert {row["bound"] for row in rows} == {"memory-bound", "compute-bound"}
    printed(capsys, *SMALL, "--csv", str(tmp_path / "rows.csv"))
    assert (tmp_path / "rows.csv").read_text("utf-8") == text


def test_requests_and_what_would_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Both phases of a request, the distance to the roof, and changes by their gain."""
    arguments = ("--request", "256:64", "--measured-time", "850ms")
    found = document(capsys, *arguments)
    (request,) = found["requests"]
    assert request["distance_to_roof"] == pytest.approx(850 / request["roof_ms"])
    gains = [each["gain"] for each in request["suggestions"]]
    assert gains == sorted(gains, reverse=True)
    assert [row["num_steps"] for row in found["rows"]] == [1, 63]
    text = printed(capsys, *arguments)
    assert "what would help" in text
    assert "measured 850 ms" in text


def test_measured_points(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Compared with the roof of each GPU, as far as their level is known there."""
    points = tmp_path / "points.csv"
    points.write_text("name,oi,tflops,level\na gemm,1000,494.75,\nin L2,2,1,L2\n", "utf-8")
    arguments = ("--gpu", "H100,L4", "--points", str(points), "--phase", "decode")
    gemm, cached = document(capsys, *arguments)["points"]
    assert gemm["roofs"] == {"H100": 989.5, "L4": 121.0}
    assert cached["roofs"] == {"H100": pytest.approx(19.4), "L4": None}
    (line,) = [row for row in printed(capsys, *arguments).splitlines() if "a gemm" in row]
    assert line.split()[-2:] == ["50", "409"]
    path = tmp_path / "plot.svg"
    printed(capsys, *arguments, "--kernels", "--plot", str(path))
    assert "a gemm" in path.read_text("utf-8")


def test_gpus_with_their_ridge_points(capsys: pytest.CaptureFixture[str]) -> None:
    """Peak of each format over the bandwidth of the memory."""
    lines = printed(capsys, "--gpus").splitlines()
    ridges = {line.split()[0]: line.split()[-4] for line in lines[2:] if line}
    expected = {"T4": "203", "V100-SXM2-32": "139", "A100-40": "201", "A100-80": "153"}
    expected |= {"H100": "295", "L4": "403"}
    assert {name: ridges[name] for name in expected} == expected
    assert len(printed(capsys, "--gpus", "--gpu", "T4,H100").splitlines()) == 2 + 2 + 3


def test_formats_and_lists(capsys: pytest.CaptureFixture[str]) -> None:
    """Repeated values count once; a quantised model reads fewer bytes."""
    rows = document(capsys, "--seq-len", "1k,1000,500:1000:500", "--phase", "decode")["rows"]
    assert [row["seq_len"] for row in rows] == [1000, 500]
    (int4,) = document(capsys, "--quantization", "awq", "--phase", "decode")["rows"]
    (as_dtype,) = document(capsys, "--dtype", "awq", "--phase", "decode")["rows"]
    assert int4 == as_dtype
    assert 3 < rows[0]["bytes"] / int4["bytes"] < 4


def test_a_model_and_a_gpu_of_ones_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """As for the other commands."""
    hardware = tmp_path / "hardware.json"
    hardware.write_text('{"Mine": {"TFlopsPeak": 100, "BwPeakTBs": 1}}', "utf-8")
    text = printed(capsys, "--gpu", "Mine", "--hardware-config", str(hardware))
    assert " 100  " in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--gpu H100,", "--gpu must be names with commas"),
        ("--phase pre", "nearest: prefill"),
        ("--seq-len 1.5k:2k", "--seq-len must be whole numbers"),
        ("--seq-len 1:20000", "at most 10,000 rows"),
        ("--plot plot.gif", "--plot must be a file ending in .png, .svg or .html"),
        ("--points none.csv", "none.csv must be a readable"),
        ("--measured-time 3s", "must come with --request"),
        ("--request 5", "such as 1024:256"),
        ("--request 4:4 --phase decode", "must not come with --request"),
        ("--csv - --json -", "must not be - together"),
        ("--csv a.csv --json a.csv", "must be another file than --csv"),
        ("--quantization fp9", "nearest: fp8"),
        ("--gpu", "--gpu must have a value"),
        ("--sequence 3", "--sequence must be a known flag; nearest: --seq-len"),
        ("--gpu H100 ncu", "flags must come after ncu"),
        ("nuc", "No such command 'nuc'"),
    ],
)
def test_wrong_input(
    arguments: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One clear line."""
    monkeypatch.chdir(tmp_path)
    assert message in refusal(capsys, "roofline", *arguments.split())


def test_a_measured_machine(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own peak and bandwidth are the roofs; beside a GPU it is one row more."""
    monkeypatch.chdir(tmp_path)
    ceilings = Ceilings("a desk", (Peak("fp32", 0.5),), (Bandwidth("DRAM", 50.0),))
    monkeypatch.setattr(machine_profile, "read_profile", lambda path: ceilings)
    (tmp_path / "desk.yaml").write_text("", encoding="utf-8")
    text = printed(capsys, *["--machine", "desk.yaml", "--seq-len", "512", "--csv", "-"])
    rows = list(csv.DictReader(text.splitlines()))
    assert {row["gpu"] for row in rows} == {"a desk"}
    decode = next(row for row in rows if row["phase"] == "decode")
    assert float(decode["ridge"]) == pytest.approx(10.0)
    assert float(decode["roof_ms"]) == pytest.approx(float(decode["bytes"]) / 50e9 * 1e3)
    both = printed(
        capsys, *["--machine", "desk.yaml", "--gpu", "H100", "--seq-len", "512", "--csv", "-"]
    )
    assert {row["gpu"] for row in csv.DictReader(both.splitlines())} == {"H100", "a desk"}


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """All flags."""
    text = printed(capsys, "--help")
    for flag in ("--seq-len", "--request", "--points", "--gpus"):
        assert flag in text
