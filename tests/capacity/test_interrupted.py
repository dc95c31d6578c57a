"""Killed at any moment, a study loses nothing and does nothing twice."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blis_sim.capacity.executor import Backend, Executor
from blis_sim.capacity.grid import axis, grid_points
from blis_sim.capacity.store import ResultStore
from blis_sim.config.draft import ScenarioDraft

from .studies import figures

ROOT = Path(__file__).resolve().parents[2]
RATES = range(1, 25)
NUM_REQUESTS = 200
PATIENCE_S = 120


def start(folder: Path, jobs: int) -> subprocess.Popen[bytes]:
    """Start a sweep of 24 points in a process of its own."""
    command = (
        f"sweep --grid rate=1:24:1 --num-requests {NUM_REQUESTS} --latency-model blackbox "
        f"--store a.db --jobs {jobs} --quiet"
    )
    return subprocess.Popen(
        [sys.executable, "-m", "blis_sim", *command.split()],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def rows(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Return what is stored by now: key -> (row, when, what)."""
    path = folder / "a.db"
    if not path.exists():
        return {}
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        try:
            found = db.execute("SELECT key, rowid, finished_at, outcome FROM points").fetchall()
        except sqlite3.OperationalError:  # killed before it was laid out
            return {}
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert len({key for key, *_ in found}) == len(found)
    return {key: tuple(rest) for key, *rest in found}


def num_rows(folder: Path) -> int:
    try:
        with closing(sqlite3.connect(f"file:{folder}/a.db?mode=ro", uri=True)) as db:
            (number,) = db.execute("SELECT count(*) FROM points").fetchone()
    except sqlite3.OperationalError:  # it is not there yet
        return 0
    return int(number)


def wait_for(folder: Path, number: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until so many points are stored, or the process has ended."""
    until_s = time.monotonic() + PATIENCE_S
    while process.poll() is None and num_rows(folder) < number:
        assert time.monotonic() < until_s
        time.sleep(0.02)


def test_kill_9_at_random_moments(tmp_path: Path) -> None:
    """Each time what is stored stays as it is; in the end every point is there once."""
    rng = np.random.default_rng(4)
    kept: dict[str, tuple[Any, ...]] = {}
    for more, jobs in ((1, 2), (3, 1), (5, 1)):
        process = start(tmp_path, jobs)
        wait_for(tmp_path, len(kept) + more, process)
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode == -signal.SIGKILL
        assert_gone(process.pid)  # workers notice that nobody waits for them
        now = rows(tmp_path)
        assert kept.items() <= now.items()
        assert len(kept) + more <= len(now) < len(RATES)
        kept = now
    process = start(tmp_path, 1)
    _, error = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, error) == (0, b"")
    now = rows(tmp_path)
    assert len(now) == len(RATES)
    assert kept.items() <= now.items()
    assert_complete(tmp_path)


def assert_complete(folder: Path) -> None:
    """Check that the study has all its points, with the figures of a run without a break."""
    values = {"latency": {"model": "blackbox"}, "workload": {"num_requests": NUM_REQUESTS}}
    points = grid_points(ScenarioDraft(values), [axis("workload.request_rate", RATES)])
    with ResultStore(folder / "a.db", is_read_only=True) as store:
        study = store.study()
    assert study.answer is not None
    assert [point.labels for point in study.points] == [point.labels for point in points]
    with ResultStore(None) as store:
        some = [0, 17, 23]
        outcomes = Executor(store, Backend()).run([points[number] for number in some])
    for number, outcome in zip(some, outcomes, strict=True):
        stored = study.points[number].outcome
        assert stored is not None
        assert figures(stored) == figures(outcome)


@pytest.mark.parametrize("before", [0, 3])
def test_ctrl_c(before: int, tmp_path: Path) -> None:
    """Exit 130, one line, nobody left behind; at any moment."""
    process = start(tmp_path, 2)
    wait_for(tmp_path, before, process)
    until_s = time.monotonic() + PATIENCE_S
    while not (tmp_path / "a.db-wal").exists():  # there is something to keep
        assert time.monotonic() < until_s
        time.sleep(0.01)
    error = b""
    while process.returncode is None:  # while workers are started it is not heard
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        with suppress(subprocess.TimeoutExpired):
            _, error = process.communicate(timeout=10)
    assert process.returncode == 130
    line = "blis: note: interrupted; what is finished is kept in a.db: the same command goes on\n"
    assert error.decode() in ({line} if before else {line, ""})
    assert len(rows(tmp_path)) >= before
    assert_gone(process.pid)


def assert_gone(group: int) -> None:
    """Check that soon no process of a group is left."""
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError(f"processes of group {group} are still there")
