from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from blis_sim.cli.main import main
from tests.latency.kernel_tables_written import write_all, write_csv, write_gemm


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Tables of an H100 for every operation."""
    root = write_all(tmp_path / "h100")
    write_csv(
        root / "moe" / "8-2-1024-512" / "moe_bf16.csv", "num_tokens,latency_us", [(1, 40), (9, 99)]
    )
    write_csv(
        root / "allreduce" / "allreduce_tp2.csv", "bytes,latency_us", [(1000, 5), (3000, 15)]
    )
    for name, header in (
        ("mla_prefill", "seq_len,batch,latency_us"),
        ("mla_decode", "batch,kv_len,latency_us"),
    ):
        path = root / name / "16-512-64" / f"{name}_bf16.csv"
        write_csv(path, header, [(1, 1, 5), (2, 2, 15)])
    return tmp_path


def explained(capsys: pytest.CaptureFixture[str], folder: Path, *flags: str) -> dict[str, Any]:
    arguments = ["bench-data", "explain", "--gpu", "H100", "--bench-data-path", str(folder)]
    assert main([*arguments, *flags, "--json"]) == 0
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    return shown


@pytest.mark.parametrize(
    ("flags", "us"),
    [
        ("--op gemm --m 1 --n 1024 --k 1024", 10),
        ("--op decode --shape 8-2-128 --batch 1 --kv-len 1500", 25),
        ("--op prefill --shape 8-2-128 --new 1000", 100),
        ("--op prefill --shape 8-2-128 --new 1000 --context 1500 --window 100000", 300),
        ("--op moe --shape 8-2-1024-512 --tokens 1", 40),
        ("--op allreduce --bytes 2000 --tp 2", 10),
        ("--op mla-decode --shape 16-512-64 --batch 1 --kv-len 1", 5),
        ("--op mla_prefill --shape 16-192-128 --new 1", 5),
    ],
)
def test_every_operation_is_explained(
    capsys: pytest.CaptureFixture[str], folder: Path, flags: str, us: float
) -> None:
    """The time is the table's; the file and the points that gave it are named."""
    shown = explained(capsys, folder, *flags.split())
    assert shown["us"] == pytest.approx(us)
    assert Path(shown["file"]).is_relative_to(folder / "h100")
    assert shown["efficiency"] == pytest.approx(shown["bound_us"] / shown["us"])
    assert shown["points"]


def test_the_text_tells_the_same(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    """A person reads time, bound, table, how, and the points."""
    arguments = ["bench-data", "explain", "--gpu", "H100", "--bench-data-path", str(folder)]
    flags = "--op decode --shape 8-4-128 --batch 2 --kv-len 1500"
    assert main([*arguments, *flags.split()]) == 0
    text = capsys.readouterr().out
    assert text.startswith("decode on H100: num_heads 8, num_kv_heads 4, head_dim 128")
    assert "mha_decode_bf16_tp1.csv (bf16, measured on H100)" in text
    assert "8-2-128, its efficiency is carried over" in text
    assert "interpolated" in text
    assert len(text.splitlines()) == 12


def test_notices_go_to_stderr(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    """JSON stays alone on stdout when MFU and latency disagree."""
    path = folder / "h100" / "gemm_bench" / "gemm_bf16.csv"
    path.write_text("m,k,n,latency_us,mfu\n1,1024,1024,10,0.5\n")
    arguments = ["bench-data", "explain", "--gpu", "H100", "--bench-data-path", str(folder)]
    flags = "--op gemm --m 1 --n 1024 --k 1024 --json"
    assert main([*arguments, *flags.split()]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["us"] == 10
    assert "mfu disagrees with latency_us by more than 2 %" in captured.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--op gem --m 1", r"--op must be a known name; got 'gem'; nearest: gemm"),
        ("--op gemm --m 1 --n 2", r"--k must be given with --op gemm; .* needs --m --n --k"),
        ("--op gemm --m 1 --n 2 --k 3 --tp 4", r"--tp must not be given with --op gemm; got 4"),
        ("--op gemm --m 0 --n 2 --k 3", r"--m must be at least 1; got 0"),
        ("--op allreduce --bytes 9 --tp 1", r"--tp must be at least 2; got 1"),
        ("--op prefill --shape 8-2 --new 3", r"--shape must be heads-KV heads-head dim,.*'8-2'"),
        ("--op moe --shape 8-2-x-4 --tokens 3", r"--shape must be experts-top k-.*'8-2-x-4'"),
        ("--op gemm --m 1 --n 2 --k 3 --dtype b16", r"dtype must be a known name; got 'b16'"),
    ],
)
def test_wrong_questions_are_answered_with_one_line(
    capsys: pytest.CaptureFixture[str], folder: Path, flags: str, message: str
) -> None:
    """Exit code 2 and what the flag must be."""
    arguments = ["bench-data", "explain", "--gpu", "H100", "--bench-data-path", str(folder)]
    assert main([*arguments, *flags.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("blis: error: ")
    assert re.search(message, line)


def test_a_sound_folder_passes_the_check(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    """Coverage as a table, exit code 0."""
    assert main(["bench-data", "check", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("h100, against the roofs of H100: 0 errors, 0 warnings")
    assert [line.split()[0] for line in lines[2:]] == [
        "allreduce",
        "decode",
        "gemm",
        "mla_decode",
        "mla_prefill",
        "moe",
        "prefill",
    ]


def test_an_error_makes_the_check_fail(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    """Exit code 1; the line is named in text and JSON; warnings alone do not fail."""
    write_gemm(folder / "h100", [(1, 1000, 1000, 0.1)], dtype="fp8")
    assert main(["bench-data", "check", str(folder), "--gpu", "H100"]) == 0
    assert "warning: " in capsys.readouterr().out
    write_gemm(folder / "h100", [(1, 1000, 1000, -1)], dtype="fp8")
    assert main(["bench-data", "check", str(folder), "--gpu", "H100"]) == 1
    assert "error: " in capsys.readouterr().out
    assert main(["bench-data", "check", str(folder), "--json"]) == 1
    (report,) = json.loads(capsys.readouterr().out)
    assert report["gpu"] == "H100"
    assert report["num_errors"] == 1
    assert "gemm_fp8.csv:2:latency_us" in report["findings"][0]["text"]


def test_a_folder_without_tables_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Exit code 2, as for every wrong path."""
    assert main(["bench-data", "check", str(tmp_path / "nowhere")]) == 2
    assert "must be a folder with kernel tables" in capsys.readouterr().err
