"""Commands as a user calls them, and what they must print."""

from __future__ import annotations

import json
from typing import Any

import pytest

from blis_sim.cli.main import main


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line with which a command ends that is not carried out.

    Exit 2 and nothing on stdout; ``blis: error: `` before the line is left out.
    """
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("blis: error: ")
    (line,) = captured.err.splitlines()
    return line.removeprefix("blis: error: ")


def compared(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    """Return the rows of ``blis compare``."""
    assert main(["compare", *arguments, "--json", "-"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["rows"]
    return rows
