"""``blis compare`` as a user calls it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from blis_sim.cli.main import main
from tests.cli.calls import compared, refusal

SHORT = ["--num-requests", "10"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_combination_is_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    """Models outermost, then rates, GPUs and TP; lists with commas or repeated flags."""
    rows = compared(
        capsys,
        *SHORT,
        *["--models", "llama-3.1-8b,qwen3-14b", "--gpus", "H200", "--gpu", "H100, h200"],
        *["--tp", "1,2", "--rate", "2,8"],
    )
    places = [
        (row["model"], row["request_rate"], row["gpu"], row["tensor_parallel_size"])
        for row in rows
    ]
    assert places == [
        (model, rate, gpu, tp)
        for model in ("meta-llama/Llama-3.1-8B", "Qwen/Qwen3-14B")
        for rate in (2, 8)
        for gpu in ("H200", "H100")
        for tp in (1, 2)
    ]
    assert all(row["completed"] == 10 for row in rows)


def test_faster_hardware_is_faster(capsys: pytest.CaptureFixture[str]) -> None:
    """On one load, with kernels measured on each GPU."""
    rows = compared(capsys, *SHORT, "--gpus", "H200,H100,A100-80,L40S", "--rate", "4")
    assert {row["latency_model"] for row in rows} == {"roofline-v2"}
    for key in ("mean_ttft_ms", "mean_tpot_ms", "mean_e2el_ms"):
        times = [row[key] for row in rows]
        assert times == sorted(times)


def test_a_row_is_what_blis_run_says(capsys: pytest.CaptureFixture[str]) -> None:
    """The flags of a run mean the same here."""
    flags = [
        *["-tp", "2", "--rate", "3", "--workload", "chatbot", "--seed", "5", *SHORT],
        *["--prompt-tokens", "99", "--latency-model", "roofline-v1"],
        *["--set", "engine.max_num_seqs=4", "--goodput", "ttft:20"],
    ]
    (row,) = compared(capsys, *flags)
    assert main(["run", *flags, "--json", "-"]) == 0
    run = json.loads(capsys.readouterr().out)
    shared = set(row) & set(run)
    assert {"mean_ttft_ms", "p99_itl_ms", "request_goodput", "duration"} <= shared
    assert {key: row[key] for key in shared} == {key: run[key] for key in shared}


def test_a_load_from_a_scenario_a_spec_or_a_trace(capsys: pytest.CaptureFixture[str]) -> None:
    """The lists are set over them; a trace keeps its own rate."""
    Path("load.yaml").write_text("preset: chatbot\nrequest_rate: 9\n")
    Path("s.yaml").write_text("model: qwen3-14b\nhardware: H200\nworkload: {preset: chatbot}\n")
    requests = "".join(f"{arrival},50,5\n" for arrival in range(10))
    Path("t.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{requests}")
    (row,) = compared(capsys, *SHORT, "--workload-spec", "load.yaml", "--rate", "3")
    assert row["request_rate"] == 3
    rows = compared(capsys, *SHORT, "--scenario", "s.yaml", "--tp", "1,2")
    assert {(row["model"], row["gpu"]) for row in rows} == {("Qwen/Qwen3-14B", "H200")}
    (row,) = compared(capsys, *SHORT, "--trace", "t.csv")
    assert (row["request_rate"], row["total_input_tokens"]) == (None, 500)


def test_the_table_has_reasons_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    """One that does not fit is no error beside one that does."""
    assert main(["compare", "--gpus", "H100,T4", *SHORT]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    assert any(line.startswith("T4") and line.endswith("not simulated") for line in lines)
    assert "note: T4 TP 1: not simulated: tensor_parallel_size must be >= 2" in captured.out


def test_the_cells_of_a_cluster_count_its_instances(capsys: pytest.CaptureFixture[str]) -> None:
    """Flags of a cluster hold for every deployment of the grid."""
    split = ["--prefill-instances", "1", "--decode-instances", "2"]
    assert main(["compare", "--gpus", "H100,L40S", *SHORT, "--num-instances", "3"]) == 0
    assert "\n3 x H100   1     3 " in capsys.readouterr().out
    rows = compared(capsys, *SHORT, "--gpus", "H100,L40S", *split)
    assert [(row["deployment"], row["mean_gpus"], row["name"]) for row in rows] == [
        ("1 x H100 (prefill) + 2 x H100 (decode)", 3, None),
        ("1 x L40S (prefill) + 2 x L40S (decode)", 3, None),
    ]


def test_nothing_simulated_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """The table still tells why for each."""
    assert main(["compare", "--gpus", "T4", "--models", "llama-3.1-8b,llama-3.1-70b"]) == 1
    assert capsys.readouterr().out.count("each GPU lacks") == 2


def test_different_latency_models_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    """With a folder of the user, measured kernels answer where the GPU has them."""
    arguments = ["--gpus", "H100,A10", "--models", "llama-3.1-8b-instruct", *SHORT]
    folder = ["--model-config-folder", "configs/models/llama-3.1-8b-instruct"]
    assert main(["compare", *arguments, *folder]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "different latency models answered (roofline-v2: H100 TP 1; roofline-v1: A10 TP 1)" in (
        out
    )


def test_all_files_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    """Beside the table, or without it."""
    pytest.importorskip("matplotlib", reason="plots need the plots extra")
    files = ["--json", "c.json", "--csv", "c.csv", "--plot", "c.png"]
    assert main(["compare", *SHORT, *files, "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    (row,) = json.loads(Path("c.json").read_text())["rows"]
    with Path("c.csv").open(newline="") as stream:
        (line,) = csv.DictReader(stream)
    assert float(line["mean_ttft_ms"]) == row["mean_ttft_ms"]
    assert Path("c.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpus", "H100,H1000"], "--gpus must be a known name; got 'H1000'; nearest: H100"),
        (["--models", "no such"], "--models must be a known name; got 'no such'"),
        (["--gpu", "H100,"], "--gpu must be values with commas between them; got 'H100,'"),
        (["--gpus"], "--gpus must have a value; got none"),
        (["--tp", "x"], "--tp must be a whole number; got 'x'"),
        (["--tp", "3"], "--tp must split the 32 attention heads"),
        (["--rate", "2,-1"], "--rate must be > 0; got '-1'"),
        (["--request-rate", "0"], "--request-rate must be > 0; got '0'"),
        (["--gpus", "H100", "--set", "hardware=L40S"], "--gpus must agree with --set hardware"),
        (["--trace", "none.csv"], "none.csv: trace must be a readable file"),
        (["--plot", "c.gif"], "--plot must be a file ending in .png or .svg"),
        (["--csv", "no/c.csv"], "--csv must be a file in an existing folder"),
        (["--json", "-", "--csv", "-"], "--csv must not be - together with --json -"),
        (["--json", "c", "--csv", "c"], "--csv must be another file than that of --json"),
        (["--gpuz", "H100"], "--gpuz must be a known flag; nearest: --gpu, --gpus"),
        (["--dry-run"], "--dry-run must be a known flag"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, nothing on stdout, the flag by the name that was typed."""
    assert refusal(capsys, "compare", *arguments).startswith(message)


def test_too_many_combinations(capsys: pytest.CaptureFixture[str]) -> None:
    """A slip in a list must not start a run of days."""
    many = ",".join(map(str, range(1, 102)))
    assert main(["compare", "--tp", many, "--rate", many]) == 2
    assert "must be at most 10,000 combinations; got 10,201" in capsys.readouterr().err


def test_an_output_must_not_be_the_load(capsys: pytest.CaptureFixture[str]) -> None:
    """The trace would be overwritten."""
    trace = Path("t.csv")
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,50,5\n")
    assert main(["compare", "--trace", "t.csv", "--csv", "t.csv"]) == 2
    assert "--csv must be another file than an input; got t.csv" in capsys.readouterr().err
    assert trace.read_text().endswith("0,50,5\n")
