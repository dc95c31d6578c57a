"""docs/sweeps.md: its commands work, one after the other, and print what it shows."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from pathlib import Path

import pytest

from blis_sim.cli.main import main
from blis_sim.cli.sweep_points import read_axes

PAGE = Path(__file__).resolve().parent.parent / "docs" / "sweeps.md"


def blocks() -> list[tuple[str, str]]:
    """Return language and text of each fenced block, in order."""
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def same_days(text: str) -> str:
    """Return a text without what differs from one day to another."""
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "2025-01-01 00:00", text)


def test_the_page_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files are written, commands typed, the script run; shown output is what they print."""
    monkeypatch.chdir(tmp_path)
    num_shown, output = 0, ""
    for language, text in blocks():
        if language == "yaml":
            Path(text.partition("\n")[0].removeprefix("# ")).write_text(text, encoding="utf-8")
        elif language == "python":
            Path("example.py").write_text(text, encoding="utf-8")
            runpy.run_path("example.py")
            output = capsys.readouterr().out
        elif text.startswith("$ "):
            for part in text.split("$ blis ")[1:]:
                command, _, shown = part.partition("\n")
                assert main(shlex.split(command)) == 0, command
                printed = capsys.readouterr().out
                if shown:
                    assert same_days(printed) == same_days(shown)
                    num_shown += 1
        else:
            assert output == text
            num_shown += 1
    assert num_shown == 5
    assert json.loads(Path("point.json").read_text())["status"] == "done"


def test_the_table_of_grids_is_right() -> None:
    """Each grid of the table can be written, and has the values that the page lists."""
    grids = re.findall(r"^\| `([^|`]+=[^`]+)` \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    assert len(grids) == 6
    for grid, listed in grids:
        (axis,) = read_axes([grid])
        assert len(axis.values) > 1
        values = re.match(r"[\d, ]+(?=:)", listed)
        if values:
            assert [str(value) for value in axis.values] == values[0].split(", ")
