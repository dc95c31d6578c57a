"""``blis run --replications`` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from blis_sim.catalog.paths import workloads_dir
from blis_sim.cli.main import main
from tests.cli.calls import refusal

SMALL = ("--num-requests", "5")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["run", *SMALL, *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_the_table_has_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    """A line says how many seeds, and what the figures are; all fits into 80 columns."""
    text = printed(capsys, "--replications", "3", "--seed", "7")
    assert "Replications: 3 (seeds 7 to 9): mean ± half its 95 % confidence interval;" in text
    for label in ("Mean TTFT (ms)", "P99 ITL (ms)", "Batch size, mean (requests)"):
        (line,) = [line for line in text.splitlines() if line.startswith(f"{label}:")]
        assert " ± " in line
    assert max(map(len, text.splitlines())) <= 80


def test_one_replication_is_a_plain_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "--replications", "1") == printed(capsys)


def test_the_json_has_every_value(capsys: pytest.CaptureFixture[str]) -> None:
    """The usual figures are those of the first seed; those of all stand beside."""
    plain = json.loads(printed(capsys, "--json", "-", "--quiet"))
    document = json.loads(printed(capsys, "--json", "-", "--quiet", "--replications", "3"))
    several = document.pop("replications")
    assert "replications" not in plain
    assert document["mean_ttft_ms"] == plain["mean_ttft_ms"]
    assert list(document) == list(plain)
    assert (several["num"], several["seeds"], several["is_random"]) == (3, [42, 43, 44], True)
    assert "never of their pooled requests" in several["note"]
    figure = several["metrics"]["mean_ttft_ms"]
    assert list(figure) == ["mean", "half_width_95", "values"]
    assert figure["values"][0] == plain["mean_ttft_ms"]
    assert figure["mean"] == pytest.approx(sum(figure["values"]) / 3)


def test_a_trace_has_nothing_random(capsys: pytest.CaptureFixture[str]) -> None:
    """That is said instead of ± 0."""
    trace = str(workloads_dir() / "chat_small.csv")
    arguments = ("--trace", trace, "--num-prompts", "20", "--replications", "2")
    assert main(["run", *arguments]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "gave the same figures: nothing in this scenario is random" in text
    assert " ± 0" not in text


def test_files_of_requests_are_those_of_the_first_seed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And a note says so."""
    printed(capsys, "--requests-out", "alone.csv")
    text = printed(
        capsys, "--requests-out", "r.csv", "--timeline-out", "t.json", "--replications", "2"
    )
    note = "note: --requests-out, --timeline-out show the first replication alone, seed 42"
    assert note in text.splitlines()
    assert Path("r.csv").read_bytes() == Path("alone.csv").read_bytes()


def test_files_of_results_have_all(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing needs to be said of --json and --save-result."""
    files = ("--json", "a.json", "--save-result", "--result-filename", "b.json")
    assert "note:" not in printed(capsys, *files, "--replications", "2")
    for name in ("a.json", "b.json"):
        assert json.loads(Path(name).read_text(encoding="utf-8"))["replications"]["num"] == 2


def test_a_dry_run_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "--dry-run", "--replications", "4")
    assert text.startswith("# replications: 4, with seeds from 42 on\n")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--replications", "0"), "--replications must be at least 1; got 0"),
        (("--replications", "1.5"), "--replications must be a whole number >= 0; got '1.5'"),
        (("--replications", "10001"), "--replications must be from 2 to 10,000"),
        (("--jobs", "2"), "--jobs must be given with --replications; got it alone"),
        (
            ("--jobs", "2", "--replications", "1"),
            "--jobs must be given with --replications of 2 or more; got 1",
        ),
    ],
)
def test_what_cannot_be(
    arguments: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert text in refusal(capsys, "run", *SMALL, *arguments)
