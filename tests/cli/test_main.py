from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from blis_sim.__main__ import main as entry
from blis_sim.cli import common
from blis_sim.cli.main import main
from blis_sim.engine.simulation import Simulation
from blis_sim.errors import InvariantError, SimulationError
from blis_sim.version import package_version
from tests.cli.calls import refusal

BLIS = [sys.executable, "-m", "blis_sim"]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The version of the package, and nothing else."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"blis {package_version()}\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_the_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The bare command shows what there is."""
    assert main(arguments) == 0
    out = capsys.readouterr().out
    for command in ("run", "models", "gpus"):
        assert f"  {command} " in out


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_of_run_has_groups(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Flags stand under headings, with all their names."""
    assert main(["run", flag]) == 0
    out = capsys.readouterr().out
    assert "Engine, in the names of vllm serve:" in out
    assert "--max-num-seqs, --max-num-running-reqs N" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["foo"], "No such command 'foo'; see blis --help"),
        (["--rate", "5"], "--rate must come after the command; try blis run --rate"),
        (["models", "--rate"], "--rate must be a known flag; nearest: --help"),
        (
            ["models", "no such model"],
            "FILTER must be part of a model's name; got 'no such model'",
        ),
        (["gpus", "no such gpu"], "FILTER must be part of a GPU's name; got 'no such gpu'"),
    ],
)
def test_wrong_commands_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2 and what to do."""
    assert refusal(capsys, *arguments).startswith(message)


@pytest.mark.parametrize("error", [SimulationError, InvariantError, ZeroDivisionError])
def test_a_run_that_fails_exits_with_1(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line on stderr; a defect asks to be reported."""

    def fail(self: Simulation) -> None:
        raise error("it broke\nin two lines")

    monkeypatch.setattr(Simulation, "run", fail)
    assert main(["run"]) == 1
    err = capsys.readouterr().err
    assert "it broke in two lines" in err
    assert len(err.splitlines()) == 1
    assert ("please report it" in err) == (error is ZeroDivisionError)


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """The line comes after it, and the exit code stays."""
    assert main(["run", "--debug", "--seed", "-1"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.splitlines()[-1] == "blis: error: --seed must be >= 0; got '-1'"


def test_an_interrupt_is_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Exit 130, nothing said, nothing written."""

    def interrupt(self: Simulation) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Simulation, "run", interrupt)
    assert main(["run", "--json", str(tmp_path / "x.json")]) == 130
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as on POSIX")
def test_a_signal_interrupts_a_real_run() -> None:
    """The process ends with 130 soon after SIGINT, without a word."""
    command = [*BLIS, "run", "--num-requests", "10000000", "--rate", "50", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        time.sleep(2.0)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_a_reader_that_goes_away_is_no_error() -> None:
    """Output into a closed pipe ends the command quietly."""
    command = [*BLIS, "run", "--json", "-", "--quiet", "--save-detailed"]
    command += ["--num-requests", "5000", "--rate", "inf"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"{"
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
        code = process.wait(timeout=30)
    assert (code, err) == (common.EXIT_BROKEN_PIPE, b"")


def test_tables_have_columns() -> None:
    """The first column is flush left, the others flush right."""
    assert common.text_table(("a", "number"), [("long name", "1"), ("b", "22")]) == (
        "a          number\nlong name       1\nb              22"
    )


def test_a_signal_while_the_command_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules of a command take a moment: no traceback then either."""

    class Interrupted(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "blis_sim.cli.main", Interrupted("blis_sim.cli.main"))
    assert entry() == 130
