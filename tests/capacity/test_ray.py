"""A sweep on a real Ray cluster of this machine, by its address; a minute at most."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from blis_sim.capacity.executor import Backend, Executor
from blis_sim.capacity.grid import axis, grid_points
from blis_sim.capacity.store import ResultStore
from blis_sim.config.draft import ScenarioDraft

from .studies import figures

ROOT = Path(__file__).resolve().parents[2]
START_S, SWEEP_S = 25, 35
NUM_REQUESTS = 1000
has_ray = importlib.util.find_spec("ray") and importlib.util.find_spec("grpc")
pytestmark = [
    pytest.mark.skipif(not has_ray, reason="ray[client] is not installed"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="workers are found in /proc"),
]


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture
def cluster() -> Iterator[tuple[str, int]]:
    """Give the address of a cluster with two processors, and the process it belongs to."""
    port, client_port = free_ports(2)
    folder = tempfile.mkdtemp(prefix="ray")  # names of sockets in it must be short
    options = f"--port={port} --ray-client-server-port={client_port} --temp-dir={folder}"
    more = "--num-cpus=2 --object-store-memory=80000000 --include-dashboard=false --block"
    head = subprocess.Popen(
        [
            str(Path(sys.executable).parent / "ray"),
            "start",
            "--head",
            *f"{options} {more}".split(),
        ],
        env=os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        until_s = time.monotonic() + START_S
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", client_port), 1):
                break
            if head.poll() is not None or time.monotonic() > until_s:
                pytest.skip("ray start --head does not answer here")
            time.sleep(0.1)
        yield f"ray://127.0.0.1:{client_port}", head.pid
    finally:
        head.terminate()
        with suppress(subprocess.TimeoutExpired):
            head.wait(timeout=10)
        with suppress(ProcessLookupError):
            os.killpg(head.pid, signal.SIGKILL)
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)


def workers(head: int) -> Iterator[int]:
    """Yield the processes of a cluster that simulate."""
    parents: dict[int, int] = {}
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[int(folder.name)] = int(stat[1])
            if (folder / "cmdline").read_bytes().startswith(b"ray::answer_there"):
                found.append(int(folder.name))
    for worker in found:
        above = worker
        while above in parents and above != head:
            above = parents[above]
        if above == head:
            yield worker


def test_the_same_bytes_though_a_worker_dies(cluster: tuple[str, int], tmp_path: Path) -> None:
    """What is infeasible is a row, and what a killed worker had in hand is done by another."""
    address, head = cluster
    command = (
        f"sweep --grid hardware=H100,T4 --grid rate=2:8:2 --num-requests {NUM_REQUESTS} "
        f"--backend {address} --store a.db --quiet"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "blis_sim", *command.split()],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"},
        stderr=subprocess.PIPE,
    )
    killed: list[int] = []
    until_s = time.monotonic() + SWEEP_S
    while process.poll() is None:
        if time.monotonic() > until_s:
            process.kill()
        if not killed:
            killed = list(workers(head))[:1]
            for worker in killed:
                os.kill(worker, signal.SIGKILL)
        time.sleep(0.02 if killed else 0.3)  # to look costs time
    assert process.stderr is not None
    with process.stderr:
        assert (process.returncode, process.stderr.read()) == (0, b"")
    assert killed
    with ResultStore(tmp_path / "a.db", is_read_only=True) as store:
        stored = [point.outcome for point in store.study().points]
    points = grid_points(
        ScenarioDraft({"workload": {"num_requests": NUM_REQUESTS}}),
        [axis("hardware", ["H100", "T4"]), axis("workload.request_rate", [2, 4, 6, 8])],
    )
    with ResultStore(None) as store:
        expected = Executor(store, Backend()).run(points)
    assert [outcome.status.value for outcome in expected] == [*["done"] * 4, *["infeasible"] * 4]
    assert [figures(each) for each in stored if each is not None] == [*map(figures, expected)]
