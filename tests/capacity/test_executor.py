"""The same results wherever they are simulated, whatever becomes of the workers."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from blis_sim.capacity import clusters
from blis_sim.capacity import executor as executor_module
from blis_sim.capacity.clusters import answer_there
from blis_sim.capacity.code_version import code_version
from blis_sim.capacity.executor import Backend, Executor, parse_backend
from blis_sim.capacity.store import ResultStore
from blis_sim.capacity.study import Outcome, OutcomeStatus, Point
from blis_sim.catalog.paths import configs_dir
from blis_sim.config.loading import load_scenario
from blis_sim.errors import ConfigError, MissingExtraError, SimulationError, TraceError

from .studies import figures, make_point, make_points, write_trace

SERIAL, LOKY = Backend(), Backend(num_jobs=2)
needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="distributed is not installed"
)
needs_proc = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="workers are found in /proc"
)


def mixed_points() -> list[Point]:
    """Return points of several kinds; the last cannot be simulated."""
    return [
        *make_points(6),
        make_point(1, workload={"num_requests": 60}, engine={"max_num_seqs": 4}),
        make_point(1, cluster={"num_instances": 2}),
        Point(
            load_scenario({"latency": {"model": "roofline-v2"}, "workload": {"num_requests": 3}})
        ),
        Point(load_scenario({"hardware": "T4", "workload": {"num_requests": 3}})),
    ]


def simulated(points: list[Point], backend: Backend) -> tuple[list[Outcome], Executor]:
    with ResultStore(None) as store:
        executor = Executor(store, backend)
        return executor.run(points), executor


@pytest.fixture(scope="module")
def expected() -> list[str]:
    """Return what this process makes of the points."""
    outcomes, _ = simulated(mixed_points(), SERIAL)
    assert [outcome.status.value for outcome in outcomes] == [*["done"] * 9, "infeasible"]
    return [*map(figures, outcomes)]


# -- where ----------------------------------------------------------------------


def test_workers_give_the_same_bytes(expected: list[str]) -> None:
    """Metrics, quantiles, notices: all but the time it took."""
    outcomes, executor = simulated(mixed_points(), LOKY)
    assert [*map(figures, outcomes)] == expected
    assert (executor.num_simulated, executor.num_deaths) == (10, 0)


def test_what_is_stored_or_the_same_is_not_simulated_again() -> None:
    """Points that occur twice are simulated once, and told of twice."""
    points = make_points(3)
    told: list[tuple[int, bool]] = []
    with ResultStore(None) as store:
        Executor(store, SERIAL).run(points[:1])
        executor = Executor(
            store, SERIAL, lambda number, _, is_stored: told.append((number, is_stored))
        )
        outcomes = executor.run([points[1], points[0], points[1], points[2]])
    assert executor.num_simulated == 2
    assert executor.num_requests == 10
    assert sorted(told) == [(0, False), (1, True), (2, False), (3, False)]
    assert figures(outcomes[0]) == figures(outcomes[2]) != figures(outcomes[1])


def test_results_are_stored_as_they_come() -> None:
    """When one is told of it is in the store."""
    points = make_points(4)
    with ResultStore(None) as store:
        executor = Executor(store, SERIAL)
        keys = executor.keys(points)
        seen: list[int] = []
        executor.on_outcome = lambda *_: seen.append(len(store.finished(keys)))
        executor.run(points)
    assert seen == [1, 2, 3, 4]


@pytest.mark.parametrize("backend", [SERIAL, LOKY])
def test_a_wrong_trace_stops_all(backend: Backend, tmp_path: Path) -> None:
    """The error names file and line, also out of a worker; what was stored is kept."""
    trace = write_trace(tmp_path / "bad.csv", "0,33,5", "1,x,5")
    bad = [Point(load_scenario({"workload": {"trace": str(trace)}, "seed": n})) for n in (1, 2)]
    with ResultStore(None) as store:
        executor = Executor(store, backend)
        executor.run(make_points(1))
        with pytest.raises(TraceError, match=r"bad\.csv:3.*prompt_tokens"):
            executor.run([*make_points(1), *bad])
        assert len(store.finished(executor.keys(make_points(1)))) == 1


# -- workers that die -----------------------------------------------------------


def workers() -> Iterator[int]:
    """Yield the numbers of the processes that simulate for this one."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue  # it is gone
        if parent == os.getpid() and b"LokyProcess" in command:
            yield int(folder.name)


@needs_proc
def test_a_worker_that_dies_costs_nothing() -> None:
    """What it had in hand is simulated again, by others."""
    points = make_points(8, workload={"num_requests": 100})
    killed: list[int] = []

    def kill_one(number: int, outcome: Outcome, is_stored: bool) -> None:
        if not killed:
            killed.append(next(workers()))
            os.kill(killed[0], signal.SIGKILL)

    with ResultStore(None) as store:
        executor = Executor(store, LOKY, kill_one)
        outcomes = executor.run(points)
    assert {outcome.status for outcome in outcomes} == {OutcomeStatus.DONE}
    assert executor.num_deaths == 1
    assert [*map(figures, outcomes)] == [*map(figures, simulated(points, SERIAL)[0])]


@contextmanager
def killing(begin: threading.Event) -> Iterator[None]:
    """Kill every worker there is, once ``begin`` is set."""
    end = threading.Event()

    def kill() -> None:
        begin.wait()
        while not end.wait(0.05):
            for number in workers():
                os.kill(number, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        end.set()
        begin.set()
        thread.join()


@needs_proc
def test_a_point_that_kills_its_workers_fails_alone() -> None:
    """The others are done; it is a row with a reason, and is tried again the next time."""
    quick, deadly = make_points(5), make_point(9, workload={"num_requests": 40_000})
    begin, points = threading.Event(), [deadly, *quick]

    def count(number: int, outcome: Outcome, is_stored: bool) -> None:
        if len(store.finished(executor.keys(quick))) == len(quick):
            begin.set()  # only the deadly one is left

    with ResultStore(None) as store:
        executor = Executor(store, LOKY, count)
        with killing(begin):
            outcomes = executor.run(points)
        assert [outcome.status.value for outcome in outcomes] == ["failed", *["done"] * 5]
        assert outcomes[0].reason.startswith("the worker that simulated it died (killed, or out")
        assert outcomes[0].seed == 9
        assert executor.num_deaths > 2
        again = Executor(store, LOKY)
        outcomes = again.run(points)
        assert (again.num_simulated, again.num_deaths) == (1, 0)
        assert outcomes[0].metrics["completed"] == 40_000


# -- clusters -------------------------------------------------------------------


@needs_dask
def test_dask_gives_the_same_bytes(expected: list[str]) -> None:
    """A scheduler with two workers on this machine, by its address."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, processes=True, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address.replace("tcp://", "dask://")
        outcomes, executor = simulated(mixed_points(), parse_backend(address, 1))
    assert [*map(figures, outcomes)] == expected
    assert executor.num_simulated == 10


@needs_dask
def test_a_dask_scheduler_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, and no long wait."""
    monkeypatch.setattr(clusters, "CONNECT_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    message = (
        rf"^--backend must be a scheduler that answers; got dask://127\.0\.0\.1:{port}: Timed out "
        r"trying to connect .*; start it, or leave --backend out$"
    )
    with pytest.raises(ConfigError, match=message):
        simulated(make_points(2), Backend("dask", f"127.0.0.1:{port}"))


def test_a_cluster_that_is_lost() -> None:
    """Whatever its package raises is one line; an error of ours stays what it is."""
    message = r"^the dask cluster must stay up, .*; got RuntimeError: gone; what is stored is kept"
    with (
        pytest.raises(SimulationError, match=message),
        executor_module._explained(Backend("dask")),
    ):
        raise RuntimeError("gone")
    with pytest.raises(TraceError, match="x"), executor_module._explained(Backend("dask")):
        raise TraceError("x")


def test_an_answer_of_other_code_is_none() -> None:
    """It would be stored as one of this code."""
    (point,) = make_points(1)
    key = executor_module.PointKeys().key(point)
    assert answer_there(code_version(), key, point)[1].status is OutcomeStatus.DONE
    message = r"^--backend must have the same blis-sim, .*; got .* on a worker on .*, here 0\.0\+1"
    with pytest.raises(ConfigError, match=message):
        answer_there("0.0+1", key, point)


@needs_dask
def test_files_that_a_worker_does_not_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said, and not stored as if the point could not be simulated."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, processes=True, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        monkeypatch.chdir(tmp_path)  # the worker stays where it was
        write_trace(Path("a.csv"))
        shutil.copytree(configs_dir() / "models" / "llama-3.1-8b-instruct", "mine")
        address = cluster.scheduler_address.replace("tcp://", "dask://")
        message = r"^--backend must have workers that find the files .*; got others by a worker on"
        for settings in ({"model": "./mine"}, {"workload": {"trace": "a.csv"}}):
            with pytest.raises(ConfigError, match=message):
                simulated([Point(load_scenario(settings))], parse_backend(address, 1))


@needs_dask
def test_a_point_that_kills_dask_workers_fails_alone() -> None:
    """It is a row with a reason, also where the cluster has a single processor."""
    import dask
    from distributed import LocalCluster

    quick, deadly = make_points(3), make_point(9, workload={"num_requests": 40_000})
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        ResultStore(None) as store,
    ):
        (worker,) = cluster.workers.values()

        def kill(number: int, outcome: Outcome, is_stored: bool) -> None:
            if outcome.is_done and len(store.finished(executor.keys(quick))) == len(quick):
                os.kill(worker.pid, signal.SIGKILL)

        address = cluster.scheduler_address.replace("tcp://", "dask://")
        executor = Executor(store, parse_backend(address, 1), kill)
        outcomes = executor.run([*quick, deadly])
    assert [outcome.status.value for outcome in outcomes] == [*["done"] * 3, "failed"]
    assert outcomes[-1].reason.startswith("the worker that simulated it died (killed, or out")


@pytest.mark.parametrize("package", ["distributed", "ray"])
def test_a_package_that_is_absent(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before anything is simulated, with what to install."""
    monkeypatch.setitem(sys.modules, package, None)
    kind = {"distributed": "dask"}.get(package, package)
    message = rf"^--backend {kind}:// needs the package '{package}'; .* 'blis-sim\[{kind}\]'$"
    with pytest.raises(MissingExtraError, match=message):
        parse_backend(f"{kind}://10.0.0.1:80", 1)


@pytest.mark.parametrize("text", ["spark://h:1", "", "loky://h:1", "10.0.0.1:80"])
def test_a_backend_that_is_none(text: str) -> None:
    message = "^--backend must be loky .*, dask://HOST:PORT or ray://HOST:PORT; got '"
    with pytest.raises(ConfigError, match=message):
        parse_backend(text, 1)


def test_backends_that_are() -> None:
    assert parse_backend("loky", 3) == parse_backend(" Loky ", 3) == Backend("loky", "", 3)
