from __future__ import annotations

import io
from contextlib import redirect_stderr

import pytest

from blis_sim.cli import progress
from blis_sim.cli.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_there_is_no_bar_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A log file gets no control characters."""
    with progress_bar(10) as update:
        assert update is None
    assert capsys.readouterr().err == ""


def test_there_is_no_bar_when_none_is_wanted() -> None:
    """``--quiet`` means it."""
    with redirect_stderr(Terminal()) as terminal, progress_bar(10, is_wanted=False) as update:
        assert update is None
    assert terminal.getvalue() == ""


def test_a_short_run_shows_nothing() -> None:
    """The bar waits for two seconds."""
    with redirect_stderr(Terminal()) as terminal, progress_bar(10) as update:
        assert update is not None
        update(5, 10)
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("total", [2000, None])
def test_a_long_run_shows_how_far_it_is(
    total: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests ended and simulated seconds."""
    monkeypatch.setattr(progress, "_PATIENCE_S", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    with redirect_stderr(Terminal()) as terminal, progress_bar(total) as update:
        assert update is not None
        update(1000, 90_000_000)
    assert "1,000 requests, 90 s simulated" in terminal.getvalue()
