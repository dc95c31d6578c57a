"""``blis calibrate`` as a user calls it."""

from __future__ import annotations

import csv
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from blis_sim.catalog.paths import configs_dir
from blis_sim.cli.main import main
from blis_sim.latency.roofline_v2.host import HostModel
from tests.calibration.servers import write_csv
from tests.cli.calls import refusal

EXAMPLE = configs_dir() / "validation"
STEPS, REQUESTS = str(EXAMPLE / "example_steps.csv"), str(EXAMPLE / "example_requests.jsonl")
QWEN = ("--model", "Qwen/Qwen3-14B", "--hardware", "H100")
FIGURES = [field.name for field in fields(HostModel)]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def host_file(**changes: object) -> str:
    figures = dict.fromkeys(FIGURES, 1.5) | changes
    lines = [f"{name}: {value}\n" for name, value in figures.items() if value is not None]
    Path("host.yaml").write_text("".join(lines), encoding="utf-8")
    return "host.yaml"


def summary(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["run", *QWEN, "--num-requests", "20", "--json", "-", *arguments]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_steps_become_coefficients_that_a_run_uses(capsys: pytest.CaptureFixture[str]) -> None:
    """The table names them, the file holds them under the key, the run says which it used."""
    assert main(["calibrate", "--data", STEPS, *QWEN, "--out", "own.csv"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("blackbox for Qwen/Qwen3-14B on H100, TP 1, fitted to 60 steps of ")
    assert "alpha0_us is held at 0: nothing in these data depends on it" in text
    assert "held out   step" in text
    (row,) = csv.DictReader(Path("own.csv").read_text(encoding="utf-8").splitlines())
    assert (row["model"], row["gpu"], row["tp"]) == ("Qwen/Qwen3-14B", "H100", "1")
    assert float(row["beta0_us"]) == pytest.approx(11000, rel=0.03)
    assert float(row["beta1_us_per_prefill_tok"]) == pytest.approx(30, rel=0.05)
    assert main(["run", *QWEN, "--num-requests", "5", "--coefficients", "own.csv"]) == 0
    assert "blackbox (coefficient file given); data: own.csv:2" in capsys.readouterr().out
    assert main(["run", *QWEN, "--num-requests", "5", "--coefficients-file", "own.csv"]) == 0


def test_everything_is_in_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Values, intervals, reasons, and errors in and out of the sample."""
    data = ["--steps", STEPS, "--requests", REQUESTS, *QWEN]
    assert main(["calibrate", *data, "--out", "own.csv", "--json", "-", "--quiet"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert captured.err == ""
    parameters = {each["name"]: each for each in document["parameters"]}
    beta0 = parameters["beta0_us"]
    assert beta0["low"] < beta0["value"] < beta0["high"]
    assert (beta0["held_because"], beta0["data_needed"]) == (None, None)
    held = parameters["alpha2_us_per_out_tok"]
    assert (held["low"], held["high"]) == (None, None)
    assert held["held_because"]
    assert held["data_needed"]
    steps, requests = document["errors"]
    assert [each["name"] for each in steps["fitted"]] == ["step"]
    assert [each["name"] for each in requests["held_out"]] == ["TTFT", "TPOT", "E2E"]
    assert {"mape_pct", "bias_pct"} <= set(steps["fitted"][0])
    assert document["num_simulations"] > 10


def test_requests_become_a_host_model_that_a_run_uses(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The words of the server beside the requests are used; the shipped model is compared."""
    arguments = ["--requests", REQUESTS, "--hardware", "H100", "--latency-model", "roofline-v2"]
    assert main(["calibrate", *arguments, "--out", "host.yaml"]) == 0
    captured = capsys.readouterr()
    assert "example_meta.json says model, engine.tensor_parallel_size" in captured.err
    assert "all, as shipped  TTFT" in captured.out
    text = Path("host.yaml").read_text(encoding="utf-8")
    assert text.startswith("# What a step costs beyond its kernels, for roofline-v2")
    assert [line.partition(":")[0] for line in text.splitlines() if line[0] != "#"] == FIGURES
    assert main(["run", *QWEN, "--num-requests", "5", "--coefficients", "host.yaml"]) == 0
    assert "roofline-v2 (host model given)" in capsys.readouterr().out


def test_a_run_obeys_its_host_model(capsys: pytest.CaptureFixture[str]) -> None:
    """A millisecond more per step is about one more per token: prompts stay for more steps."""
    few = summary(capsys, "--coefficients", host_file(constant_us=0))
    more = summary(capsys, "--coefficients", host_file(constant_us=1000))
    assert more["mean_tpot_ms"] - few["mean_tpot_ms"] == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({"constant_us": -1}, [], r"host.yaml:%d:1: constant_us must be a finite number >= 0"),
        ({"constant_us": ".nan"}, [], "constant_us must be a finite number >= 0 (us); got nan"),
        ({"constant_us": "yes"}, [], "constant_us must be a finite number >= 0 (us); got True"),
        ({"constant_us": None}, [], "host.yaml must have every figure of the host model ("),
        ({"constan_us": 3}, [], "figure must be a known name; got 'constan_us'; nearest: const"),
        ({}, ["--latency-model", "blackbox"], "--coefficients must not be a host model with --l"),
        (
            {},
            ["--alpha-coeffs", "1,1,1", "--beta-coeffs", "1,1,1"],
            "--coefficients must not be set together with --alpha-coeffs",
        ),
    ],
)
def test_a_wrong_host_model_is_said(
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    arguments: list[str],
    message: str,
) -> None:
    """In one line, with file and figure."""
    file = host_file(**changes)
    line = refusal(capsys, "run", "--coefficients", file, *arguments)
    place = FIGURES.index("constant_us") + 1
    assert message.replace("%d", str(place)) in line


OUT = ("--out", "own.csv")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", STEPS], "--out must name the coefficient file; got none"),
        ([*OUT], "--data must name the measurements; got none; add --data FILE"),
        (["--data", "none.csv", *OUT], "none.csv: trace must be a readable file; got: No such"),
        (["--data", STEPS, "--steps", STEPS, *OUT], "measurements must be one file of steps;"),
        (["--data", STEPS, "--out", "own.yaml"], "--out must be a .csv file for blackbox; got"),
        (["--data", STEPS, "--out", "no/own.csv"], "--out must be a file in an existing folder"),
        (["--data", STEPS, *OUT, "--json", "own.csv"], "--json must be another file than that"),
        (["--steps", "s.csv", "--out", "s.csv"], "--out must be another file than an input"),
        (["--data", STEPS, *OUT, "--hold-out", "0.9"], "--hold-out must be a share from 0 to"),
        (["--data", STEPS, *OUT, "--latency-model", "roofline-v1"], "must be blackbox or roofl"),
        (["--data", STEPS, *OUT, "--model", "gpt-9"], "must be a known name; got 'gpt-9'"),
        (["--data", STEPS, *OUT, "--set", "cluster.num_instances=2"], "cluster must not be set"),
        (["--data", REQUESTS, *OUT, "--exp-id", "a"], "--exp-id must be given with steps; got a"),
        (["--steps", "s.csv", *OUT], "at least 10 steps to fit to; got 2"),
        (
            ["--steps", "s.csv", "--out", "h.yaml", "--latency-model", "roofline-v2"],
            "steps must say the mean context of their decodes for roofline-v2",
        ),
        (["--steps", REQUESTS, *OUT], "prompt tokens of a step must be in a column prefill_tok"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """And nothing is written."""
    write_csv(Path("s.csv"), {"prefill_tokens": [0, 9], "num_decodes": [1, 2], "step_us": [8, 9]})
    before = sorted(Path.cwd().iterdir())
    given = arguments if "--model" in arguments else [*arguments, *QWEN]
    assert message in refusal(capsys, "calibrate", *given)
    assert sorted(Path.cwd().iterdir()) == before


def test_what_a_run_wrote_can_be_fitted(capsys: pytest.CaptureFixture[str]) -> None:
    """The coefficients of a simulated server come out again."""
    truth = ["--alpha-coeffs", "4000,0,0", "--beta-coeffs", "9000,30,90"]
    load = ["--workload", "chatbot", "--rate", "8", "--num-requests", "100"]
    assert main(["run", *QWEN, *truth, *load, "--requests-out", "r.csv", "--quiet"]) == 0
    assert main(["calibrate", "--data", "r.csv", *QWEN, *OUT, "--json", "-"]) == 0
    parameters = json.loads(capsys.readouterr().out)["parameters"]
    beta0 = next(each for each in parameters if each["name"] == "beta0_us")
    assert beta0["low"] <= 9000 <= beta0["high"]
    assert beta0["value"] == pytest.approx(9000, rel=0.05)
