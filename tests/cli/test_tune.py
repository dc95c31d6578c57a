"""``blis tune`` as a user calls it."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from blis_sim.cli.main import main
from tests.cli.calls import refusal

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "tuning.md"
LOAD = ["--latency-model", "blackbox", "--rate", "500", "--num-requests", "30", "--jobs", "1"]
SEATS = ["--search", "engine.max_num_seqs=2:16:x2"]
SLO = ["--slo", "p99_ttft_ms:11000,mean_tpot_ms:9.35"]
"""Eight seats and more keep the first one, sixteen and fewer the second."""
COST = [*LOAD, *SEATS, "--objective", "cost"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def tuned(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Return what ``--json -`` prints."""
    assert main(["tune", *arguments, "--json", "-"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


# -- what it prints -----------------------------------------------------------


def test_the_table_has_the_best_first_and_the_answer_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The scenario as given is a row; notes go to stderr."""
    assert main(["tune", *COST, *SLO]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    header = "trial max_ cost p99 TTFT mean TPOT SLO p95 ITL mean E2E per GPU"
    assert " ".join(lines[1].split()) == header
    assert lines[2].split()[0] == "num_seqs"
    rows = [line.removeprefix("* ").split() for line in lines[4:9]]
    assert lines[4].startswith("* ")
    assert sorted(row[0] for row in rows) == ["1", "2", "3", "4", "given"]
    verdicts = [row[5] for row in rows]
    assert verdicts == sorted(verdicts, reverse=True)
    assert {"yes", "no"} == set(verdicts)
    costs = [float(row[2]) for row in rows if row[5] == "yes"]
    assert costs == sorted(costs)
    assert max(map(len, lines)) <= 100
    text = " ".join(lines)
    assert re.search(r"max_num_seqs \d+ gives [\d.]+ USD per million output tokens, ", text)
    assert "5 trials of 4 combinations" in text
    assert "5 trials, all there are: 5 simulated (150 requests" in captured.err
    assert "kept in blis_study.db" in captured.err


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", *COST, "--trials", "2", "--quiet", "--csv", "a.csv"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert len(Path("a.csv").read_text().splitlines()) == 3


def test_json_has_the_answer_and_all_figures(capsys: pytest.CaptureFixture[str]) -> None:
    """The same that the store keeps, and more of each trial."""
    found = tuned(capsys, *COST, *SLO)
    assert found["objective"] == "usd_per_million_output_tokens"
    assert found["best"]["settings"] == {"engine.max_num_seqs": 16}
    assert found["default"]["settings"] == {"engine.max_num_seqs": 1024}
    values = [trial["value"] for trial in found["trials"]]
    assert found["best"]["value"] == min(value for value in values if value is not None)
    for number, trial in enumerate(found["trials"]):
        is_kept = trial["settings"]["engine.max_num_seqs"] in {8, 16}
        assert trial["number"] == number
        assert trial["status"] == ("done" if is_kept else "missed")
        assert trial["figure"] == trial["metrics"]["usd_per_million_output_tokens"]
        assert trial["value"] == (trial["figure"] if is_kept else None)
        assert trial["deployment"]["gpu"] == "H100"
    assert found["search"] == {"engine.max_num_seqs": [2, 4, 8, 16]}
    assert main(["results", "show", "--json", "-"]) == 0
    stored = json.loads(capsys.readouterr().out)["answer"]
    assert stored["sentence"] == found["sentence"]
    kept = stored["trials"][0]
    assert kept == {name: found["trials"][0][name] for name in kept}


def test_csv_has_a_line_per_trial(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", *COST, "--csv", "-"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["number"] for row in rows] == list("01234")
    assert {row["engine.max_num_seqs"] for row in rows} == {"1024", "2", "4", "8", "16"}
    assert all(float(row["value"]) > 0 and row["p99_ttft_ms"] for row in rows)


def test_dry_run_shows_the_space(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is simulated or stored."""
    split = ["--prefill-instances", "1", "--decode-instances", "3"]
    slo = ["--slo", "p99_ttft_ms:500", "--max-num-seqs", "8"]
    assert main(["tune", *slo, *split, "--dry-run"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "40 trials of 60 combinations, for the highest requests/s per GPU within p99 TTFT <= 500 "
        "ms:",
        "  engine.max_num_batched_tokens: 1024, 2048, 4096, 8192, 16384",
        "  engine.tensor_parallel_size: 1, 2, 4, 8",
        "  pd_ratio: 1:3, 2:2, 3:1",
        "as given: max_num_batched_tokens 8192, TP 1, prefill:decode 1:3",
    ]
    assert captured.err == ""
    assert list(Path().iterdir()) == []


def test_without_an_answer_it_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", *COST, "--slo", "p99_ttft_ms:0.1", "--no-store"]) == 1
    assert "None of the 5 trials keeps p99 TTFT <= 0.1 ms; nearest: " in capsys.readouterr().out


def test_settings_may_be_called_as_flags_are(capsys: pytest.CaptureFixture[str]) -> None:
    found = tuned(capsys, *LOAD, "--search", "max-num-seqs=4", "--objective", "cost")
    assert list(found["search"]) == ["engine.max_num_seqs"]


# -- going on -----------------------------------------------------------------


def test_a_search_that_was_killed_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    """What was finished is not simulated again, and the answer is the same."""
    search = ["--search", "engine.max_num_seqs=2:200:2", "--objective", "throughput"]
    asked = [*LOAD[:4], "--num-requests", "80", "--jobs", "1", *search]
    command = [sys.executable, "-m", "blis_sim", "tune", *asked, "--trials", "100"]
    root = str(GUIDE.parents[1])
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": root})
    deadline_s = time.monotonic() + 60
    while len(finished()) < 3 and time.monotonic() < deadline_s:
        assert process.poll() is None, "it must not end before it is killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = finished()
    assert 3 <= len(before) < 100
    asked += ["--trials", str(len(before) + 3)]
    found = tuned(capsys, *asked)
    after = finished()
    assert len(after) == len(before) + 3
    assert {key: after[key] for key in before} == before
    whole = tuned(capsys, *asked, "--no-store")
    assert found["sentence"] == whole["sentence"]
    assert [t["settings"] for t in found["trials"]] == [t["settings"] for t in whole["trials"]]


def finished() -> dict[str, str]:
    """Return when each point in the store was finished; nothing while there is no store."""
    if not Path("blis_study.db").is_file():
        return {}
    db = sqlite3.connect("file:blis_study.db?mode=ro", uri=True)
    try:
        return dict(db.execute("SELECT key, finished_at FROM points").fetchall())
    except sqlite3.OperationalError:  # it is being laid out
        return {}
    finally:
        db.close()


def test_more_trials_are_added_to_the_same_study(capsys: pytest.CaptureFixture[str]) -> None:
    few = tuned(capsys, *COST, "--trials", "3")
    assert main(["tune", *COST, "--trials", "5"]) == 0
    assert "2 simulated (60 requests" in (err := capsys.readouterr().err)
    assert "3 were in the store" in err
    assert main(["results", "list", "--json", "-"]) == 0
    (study,) = json.loads(capsys.readouterr().out)["studies"]
    assert study["answer"]["trials"][:3] == [
        {name: trial[name] for name in study["answer"]["trials"][0]} for trial in few["trials"]
    ]


# -- what it does not take ----------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--search engine.max_num_sqs=1,2", r"--search engine\.max_num_sqs must be a known name"),
        ("--search engine.max_num_seqs", r"--search must have the form a\.b=v1,v2"),
        (
            "--search engine.max_num_seqs=1,2 --max-num-seqs 8",
            "--search must name a setting that nothing else sets; got one of --max-num-seqs",
        ),
        ("--search pd_ratio", "--search pd_ratio must come with one prefill and one decode pool"),
        ("--search pd_ratio=1:3", "--search pd_ratio must be given once, without values"),
        ("--objective good", "--objective must be one of goodput, cost, throughput, max-rate"),
        ("--objective max-rate", "--objective max-rate must come with --slo; got none"),
        ("--trials 0", "--trials must be at least 1; got 0"),
        ("--csv - --json -", "--csv must not be - together with --json -"),
        ("--csv blis_study.db", "--csv must be another file than the store"),
    ],
)
def test_bad_input(capsys: pytest.CaptureFixture[str], arguments: str, message: str) -> None:
    """One line that names the flag."""
    words = arguments.split()
    objective = [] if "--objective" in words else ["--objective", "cost"]
    assert re.search(message, refusal(capsys, "tune", *objective, *words))
    assert not Path("blis_study.db").exists()


def test_the_highest_rate_needs_no_rate(capsys: pytest.CaptureFixture[str]) -> None:
    """A flag that would be ignored is an error."""
    line = refusal(capsys, "tune", "--slo", "p99_ttft_ms:500", "--num-prompts", "8")
    assert "--num-prompts must not be given with --objective max-rate" in line


def test_without_optuna(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    line = refusal(capsys, "tune", *COST)
    assert line == (
        "blis tune needs the package 'optuna'; install it with: pip install 'blis-sim[tune]'"
    )


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "--help"]) == 0
    text = capsys.readouterr().out
    for word in ("--search", "--objective", "--trials", "pd_ratio", "--store", "--goodput"):
        assert word in text


# -- docs/tuning.md -----------------------------------------------------------


def test_commands_of_the_guide(capsys: pytest.CaptureFixture[str]) -> None:
    """Each is understood, and the one with its output prints what the page shows."""
    text = GUIDE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```text\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    shown = [part for block in blocks for part in block.split("$ ")[1:]]
    assert len(shown) >= 4
    for part in shown:
        command, _, output = part.partition("\n")
        words = shlex.split(command)[1:]
        assert main([*words, *([] if output else ["--dry-run"])]) == 0
        printed = capsys.readouterr().out
        assert steady(printed) == steady(output or printed)


def test_python_of_the_guide(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(
        r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    exec(compile(block, str(GUIDE), "exec"), {})
    assert "USD per million output tokens" in capsys.readouterr().out


def steady(text: str) -> str:
    """Return an output without the time it took, the order of suggestions, and line breaks."""
    text = re.sub(r"^(\* |  )\d+ +", r"\1N ", text, flags=re.MULTILINE)
    return re.sub(r"in \d+ s\.", "in 9 s.", " ".join(text.split()))
