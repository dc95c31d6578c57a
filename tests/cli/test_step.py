"""``blis step`` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from blis_sim.cli.main import main
from tests.cli.calls import refusal


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def step_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["step", *arguments, "--json", "-"]) == 0
    step: dict[str, Any] = json.loads(capsys.readouterr().out)
    return step


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    """The command of the documentation."""
    arguments = ["--model", "llama-3.1-8b", "--gpu", "H100", "--prefill", "2048"]
    assert main(["step", *arguments, "--decode", "64x1024"]) == 0
    captured = capsys.readouterr()
    assert "One step of meta-llama/Llama-3.1-8B on H100, TP 1" in captured.out
    assert "2112 x 4096 x 28672" in captured.out
    assert captured.err == ""


def test_short_and_long_spellings_mean_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """GPU and hardware, tp in three forms, k in numbers of tokens, one flag or several."""
    one = step_of(
        capsys,
        *["--gpu", "a100-80", "--tp", "2", "--prefill", "1k@2kx2", "--decode", "3x8k"],
        *["--kv_cache_dtype", "fp8_e4m3"],
    )
    other = step_of(
        capsys,
        *["--hardware", "A100-80", "--tensor-parallel-size", "2", "--prefill", "1000@2000"],
        *["--prefill", "1000@2000", "--decode", "1x8000", "--decode", "2x8000"],
        *["--kv-cache-dtype", "fp8"],
    )
    assert one["kv_cache_dtype"] == "fp8"
    for document in (one, other):
        del document["decodes"]
    assert one == other


def test_json_goes_to_a_file_beside_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Both are written."""
    assert main(["step", "--prefill", "64", "--json", "step.json"]) == 0
    assert "step time" in capsys.readouterr().out
    assert json.loads(Path("step.json").read_text())["num_tokens"] == 64


def test_a_model_need_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    """One step can be looked at without room for any KV cache; borrowed kernels are said."""
    step = step_of(capsys, "--model", "llama-3.1-70b", "--gpu", "T4", "--decode", "1x300000")
    notices = " ".join(step["notices"])
    assert "longer than the model's limit of 131,072" in notices
    assert "borrowed from A100-80" in notices


def test_settings_come_from_a_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    """Flags win over the file."""
    Path("s.yaml").write_text("model: qwen3-14b\nhardware: L40S\n")
    step = step_of(capsys, "--scenario", "s.yaml", "--gpu", "H200", "--decode", "1x10")
    assert (step["model"], step["gpu"]) == ("Qwen/Qwen3-14B", "H200")


def test_quantised_weights_are_faster_to_read(capsys: pytest.CaptureFixture[str]) -> None:
    """A decode of one request takes less with weights of 8 bits than of 16."""
    plain = step_of(capsys, "--decode", "1x100")
    fp8 = step_of(capsys, "--decode", "1x100", "--quantization", "fp8")
    assert fp8["groups"]["GEMM"]["bytes"] < 0.6 * plain["groups"]["GEMM"]["bytes"]
    assert fp8["step_time_us"] < plain["step_time_us"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--prefill or --decode must be given; got neither; try --prefill 2048"),
        (["--prefill", "0"], "--prefill must be from 1 to 1,048,576 tokens; got 0"),
        (["--prefill", "x"], "--prefill must be new tokens, with their context"),
        (["--prefill", "2048@"], "--prefill must be new tokens, with their context"),
        (["--prefill", "5x0"], "--prefill must be new tokens, with their context"),
        (["--prefill", "2.0001k"], "--prefill must be a whole number of tokens"),
        (["--prefill", "900k", "--decode", "200000x1"], "--prefill and --decode must be at most"),
        (["--decode", "64"], "--decode must be how many requests and their context"),
        (["--decode", "1x99999999"], "--decode must be from 0 to 16,777,216 tokens"),
        (["--decode", "--json"], "--decode must have a value; got none before --json"),
        (["--decode", "1x1", "--gpu", "H1000"], "--gpu must be a known name; got 'H1000'"),
        (["--decode", "1x1", "--tp", "3"], "--tp must split the 32 attention heads"),
        (
            ["--decode", "1x1", "--latency-model", "blackbox"],
            "--latency-model must be roofline-v2; got blackbox, which does not know kernels",
        ),
        (["--decode", "1x1", "--json", "no/such"], "--json must be a file in an existing folder"),
        (["--decode", "1x1", "--bench-data-path", "x"], "--bench-data-path must be a folder"),
        (["--decode", "1x1", "--bench-data"], "--bench-data must be a known flag; nearest: --ben"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, nothing on stdout, the flag by the name that was typed."""
    assert refusal(capsys, "step", *arguments).startswith(message)


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """It shows the flags with all their names."""
    assert main(["step", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--prefill N[@CONTEXT][xCOUNT]" in out
    assert "--hardware, --gpu NAME" in out
