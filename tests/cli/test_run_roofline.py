"""``blis run --roofline``: a block of the table, an object of the JSON, a part of the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from blis_sim.cli.main import main

from .calls import refusal

LOAD = ["--num-requests", "6", "--rate", "20"]
BLACKBOX = ["--alpha-coeffs", "1000,2,10", "--beta-coeffs", "6000,20,40"]
APART = ["--prefill-instances", "1", "--decode-instances", "2"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def ran(*arguments: str) -> dict[str, Any]:
    """Return the JSON of a small run."""
    assert main(["run", *LOAD, *arguments, "--json", "r.json", "--quiet"]) == 0
    values: dict[str, Any] = json.loads(Path("r.json").read_text())
    return values


def block(text: str, title: str) -> dict[str, list[str]]:
    """Return the rows of a block of the table: label, and numbers of whole, prefill, decode."""
    lines = text.splitlines()
    begin = next(n for n, line in enumerate(lines) if line.strip("-") == title)
    rows = {}
    for line in lines[begin + 2 :]:
        if line.startswith(("-", "=")):
            break
        label, _, numbers = line.partition(":")
        rows[label] = numbers.split()
    assert lines[begin + 1].split() == ["whole", "prefill", "decode"]
    return rows


@pytest.mark.parametrize("more", [[], BLACKBOX, APART], ids=["kernels", "blackbox", "apart"])
def test_all_else_is_the_same(more: list[str]) -> None:
    """The JSON has one key more; every other one is as without the flag."""
    without, with_it = ran(*more), ran(*more, "--roofline")
    roofline = with_it.pop("roofline")
    for report in (without, with_it):
        del report["run_info"], report["date"]
    assert with_it == without
    assert list(with_it) == list(without)
    assert set(roofline["per_pool"]) == ({"prefill", "decode"} if more is APART else set())
    assert set(roofline["definitions"]) >= {"flops", "bytes", "mfu", "mbu", "bound_frac"}
    assert bool(roofline["notes"]) == (more is BLACKBOX)


def test_table_shows_what_the_json_has(capsys: pytest.CaptureFixture[str]) -> None:
    """Per phase: work, intensity, MFU, MBU and shares in percent; then what was idle."""
    roofline = ran("--roofline")["roofline"]
    capsys.readouterr()
    assert main(["run", *LOAD, "--roofline"]) == 0
    rows = block(capsys.readouterr().out, "Roofline")
    phases = [roofline[name] for name in ("whole", "prefill", "decode")]
    for label, key in (("MFU (%)", "mfu"), ("MBU (%)", "mbu")):
        assert rows[label] == [f"{100 * phase[key]:.2f}" for phase in phases]
    shares = [phase["bound_frac"]["bandwidth"] for phase in phases]
    assert rows["Bound by bandwidth (%)"] == [f"{100 * share:.2f}" for share in shares]
    assert rows["FLOP/byte"] == [f"{phase['intensity']:.2f}" for phase in phases]
    assert rows["Idle (%)"] == [f"{100 * roofline['idle_frac']:.2f}"]
    assert all(len(line) <= 80 for line in rows)


def test_pools_have_blocks_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    """A phase that a pool never does is n/a, not 0; a note says what figures rest on."""
    assert main(["run", *LOAD, *APART, *BLACKBOX, "--roofline"]) == 0
    text = capsys.readouterr().out
    assert block(text, "Roofline")["Host (%)"] == ["n/a", "n/a", "n/a"]
    assert block(text, "Roofline, pool prefill")["MFU (%)"][2] == "n/a"
    assert block(text, "Roofline, pool decode")["MFU (%)"][1] == "n/a"
    assert text.count("note: blackbox knows no kernels") == 1


def test_without_the_flag_there_is_no_block(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody who did not ask is told."""
    assert main(["run", *LOAD]) == 0
    assert "Roofline" not in capsys.readouterr().out


def test_page_shows_it() -> None:
    """A chart and a table on the page of a run, also of one read from its JSON."""
    pytest.importorskip("jinja2")
    pytest.importorskip("plotly")
    ran(*APART, "--roofline", "--report", "run.html")
    assert main(["report", "r.json", "--out", "read.html"]) == 0
    for name in ("run.html", "read.html"):
        page = Path(name).read_text()
        assert "What bounds the time" in page
        assert "prefill, pool prefill" in page
        assert "memory bandwidth" in page
        assert "% was idle" in page
    ran("--report", "plain.html")
    assert "What bounds the time" not in Path("plain.html").read_text()


def test_page_as_a_picture() -> None:
    """The chart is drawn with the others."""
    pytest.importorskip("matplotlib")
    ran("--roofline")
    assert main(["report", "r.json", "--out", "r.html", "--plots", "pictures"]) == 0
    assert Path("pictures", "bounds.png").stat().st_size > 1000


def test_replications_show_that_of_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    """A note says so."""
    command = ["run", *LOAD, "--roofline", "--replications", "2", "--jobs", "1"]
    assert main(command) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--roofline shows the first replication alone, seed 42" in text


def test_it_takes_no_value(capsys: pytest.CaptureFixture[str]) -> None:
    """It is a switch."""
    assert "--roofline" in refusal(capsys, "run", *LOAD, "--roofline=yes")
