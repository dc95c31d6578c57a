"""``blis run --timeline-out``: what is asked for is written, and changes nothing else."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from blis_sim.cli.main import main

from .calls import refusal

LOAD = [
    *("--num-requests", "20", "--rate", "40", "--total-kv-blocks", "400"),
    *("--alpha-coeffs", "1000,2,10", "--beta-coeffs", "6000,20,40"),
]
APART = ["--prefill-instances", "1", "--decode-instances", "2"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def traced(*arguments: str) -> dict[str, Any]:
    """Return the timeline of a small run."""
    command = ["run", *LOAD, *arguments, "--timeline-out", "t.json.gz", "--quiet"]
    assert main(command) == 0
    loaded: dict[str, Any] = json.loads(gzip.decompress(Path("t.json.gz").read_bytes()))
    return loaded


@pytest.mark.parametrize("more", [[], APART], ids=["one", "apart"])
def test_requests_are_those_of_the_table(more: list[str]) -> None:
    """Each request has a slice with its cells, as long as it lasted; the table is the same."""
    timeline = traced(*more, "--requests-out", "with.csv", "--json", "with.json")
    command = ["run", *LOAD, *more, "--requests-out", "r.csv", "--json", "r.json", "--quiet"]
    assert main(command) == 0
    assert Path("with.csv").read_bytes() == Path("r.csv").read_bytes()
    with_one, without = (json.loads(Path(name).read_text()) for name in ("with.json", "r.json"))
    for report in (with_one, without):
        del report["run_info"], report["date"]
    assert with_one == without
    rows = list(csv.DictReader(Path("r.csv").read_text().splitlines()))
    slices = [e for e in timeline["traceEvents"] if e["name"].startswith("request ")]
    assert [e["ts"] for e in slices] == [int(row["arrival_us"]) for row in rows]
    for event, row in zip(slices, rows, strict=True):
        args = event["args"]
        assert event["dur"] == int(row["last_token_us"]) - int(row["arrival_us"])
        for name in ("prompt_tokens", "output_tokens", "cached_tokens", "instance", "status"):
            assert str(args[name]) == row[name]
        assert args["ttft_ms"] == float(row["ttft_ms"])
        assert args["e2e_ms"] == float(row["e2e_ms"])
    assert timeline["otherData"]["seed"] == 42
    assert timeline["otherData"]["scenario_sha256"] == without["manifest"]["scenario_sha256"]


def test_a_part_of_the_run() -> None:
    """Two flags say where it begins and how long it is."""
    events = traced("--timeline-from", "200ms", "--timeline-duration", "50ms")["traceEvents"]
    steps = [e for e in events if e.get("cat") == "step"]
    assert steps
    assert all(e["ts"] < 250_000 and e["ts"] + e["dur"] > 200_000 for e in steps)
    assert all(200_000 <= e["ts"] < 250_000 for e in events if e["ph"] == "C")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--timeline-out t.txt", "--timeline-out must be a file ending in .json, .json.gz; got t"),
        ("--timeline-out no/t.json", "--timeline-out must be a file in an existing folder; got"),
        ("--timeline-from 3s", "--timeline-from must be given with --timeline-out; got it alone"),
        ("--timeline-duration 3s", "--timeline-duration must be given with --timeline-out; got"),
        (
            "--timeline-out t.json --timeline-duration 0s",
            "--timeline-duration must be from 0.000001 to 1e9 s; got 0 s",
        ),
        (
            "--timeline-out t.json --timeline-from 9 ",
            "--timeline-from must be a time with its unit",
        ),
        (
            "--timeline-out t.json --timeline-from 5s --horizon 4s",
            "--timeline-from must be before the end of the run; got 5 s, and the horizon is 4 s",
        ),
        (
            "--timeline-out t.json --json t.json",
            "--timeline-out must be another file than that of --json; got t.json for both",
        ),
        (
            "--timeline-out t.json --timeline-from 500s --quiet",
            "--timeline-from must be before the end of the run; got 500 s, and the run was over",
        ),
    ],
)
def test_bad_input(
    arguments: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, exit 2, and no file."""
    assert refusal(capsys, "run", *LOAD, *arguments.split()).startswith(told)
    assert not list(tmp_path.iterdir())
