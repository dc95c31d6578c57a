"""Simulations on machines of a cluster: how it is reached, and what its workers must have."""

from __future__ import annotations

import importlib
import logging
import platform
import socket
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from blis_sim.capacity.code_version import code_version
from blis_sim.capacity.point_key import PointKeys
from blis_sim.capacity.study import Outcome, Point, worker_died
from blis_sim.errors import ConfigError, MissingExtraError

CONNECT_S = 10
"""How long the scheduler of a cluster may take to answer."""
_MOST_DEATHS = 3
"""Workers a point may kill on Ray before it is given up."""
_PER_CPU = 2
"""Tasks a processor of Ray is given at a time: it does not wait for the next one."""


def import_extra(package: str, extra: str) -> Any:
    """Return the package of a cluster; MissingExtraError where it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise MissingExtraError(package, extra, f"--backend {extra}://") from None


def answer_there(version: str, key: str, point: Point) -> tuple[str, Outcome]:
    """Answer on a machine that may have other code and other files than the one that asked.

    Raises
    ------
    ConfigError
        It has: its answer would be another one than the key says.
    """
    from blis_sim.capacity.worker import simulate_point

    place = f"a worker on {platform.node()}"
    _check_version(code_version(), version, place)
    if PointKeys().key(point) != key:
        raise ConfigError(
            "--backend must have workers that find the files a scenario names, the same as here; "
            f"got others by {place} in {Path.cwd()}; name them by a path that holds everywhere"
        )
    return key, simulate_point(point)


def _check_version(there: str, here: str, place: str) -> None:
    if there != here:
        raise ConfigError(
            "--backend must have the same blis-sim, data and numpy as this machine; got "
            f"{there} on {place}, here {here}; install the same, and start the cluster again"
        )


def dask_answers(
    address: str, tasks: Sequence[tuple[str, Point]]
) -> Iterator[tuple[str, Outcome]]:
    """Yield the answers of a Dask cluster as they come in.

    joblib's backend for Dask works in this process where the cluster has one processor, and
    waits for ever where the scheduler cannot read a point, so it is not used.

    Raises
    ------
    ConfigError
        No cluster answers there, or it has other code, or no workers.
    """
    distributed = import_extra("distributed", "dask")
    try:
        client = distributed.Client(address or None, timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise ConfigError(_unreachable("dask", address, error)) from None
    with _silent("distributed", "distributed.client"), client:
        _check_dask(client, address)
        left, running = iter(tasks), dict[Any, tuple[str, Point]]()
        done = distributed.as_completed()

        def fill_up() -> None:
            room = max(_PER_CPU * sum(client.ncores().values()), 1) - len(running)
            for key, point in islice(left, max(room, 0)):
                future = client.submit(answer_there, code_version(), key, point, pure=False)
                running[future] = (key, point)
                done.add(future)

        fill_up()
        for future in done:
            key, point = running.pop(future)
            try:
                answer = future.result()
            except distributed.KilledWorker:  # Dask has tried it on several
                answer = key, worker_died(point)
            fill_up()
            yield answer


def _check_dask(client: Any, address: str) -> None:
    """Check that there are workers, and that all of the cluster has the code of this process."""
    try:
        client.wait_for_workers(1, timeout=CONNECT_S)
    except TimeoutError:
        raise ConfigError(
            f"--backend must be a cluster with workers; got dask://{address} with none; start them"
        ) from None
    here = code_version()
    _check_version(client.run_on_scheduler(code_version), here, "the scheduler")
    for worker, there in client.run(code_version).items():
        _check_version(there, here, f"worker {worker}")


def ray_answers(address: str, tasks: Sequence[tuple[str, Point]]) -> Iterator[tuple[str, Outcome]]:
    """Yield the answers of a Ray cluster as they come in.

    Ray's backend for joblib gives all of them at the end, so it is not used.

    Raises
    ------
    ConfigError
        No cluster answers there.
    """
    ray = _ray_client(address)
    died = (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError)
    answer = ray.remote(max_retries=0)(answer_there)
    version, left, deaths = code_version(), iter(tasks), dict.fromkeys(dict(tasks), 0)
    running: dict[Any, tuple[str, Point]] = {}
    try:
        while True:
            room = max(_PER_CPU * int(ray.cluster_resources().get("CPU", 1)), 1) - len(running)
            for task in islice(left, max(room, 0)):
                running[answer.remote(version, *task)] = task
            if not running:
                return
            (ready,), _ = ray.wait(list(running))
            key, point = running.pop(ready)
            try:
                yield ray.get(ready)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except died:
                deaths[key] += 1
                if deaths[key] < _MOST_DEATHS:
                    running[answer.remote(version, key, point)] = (key, point)
                else:
                    yield key, worker_died(point)
    finally:
        for reference in running:
            ray.cancel(reference)


def _ray_client(address: str) -> Any:
    """Return Ray, connected once for as long as this process lives: it takes seconds."""
    ray = import_extra("ray", "ray")
    if ray.is_initialized():
        return ray
    options: dict[str, Any] = {"logging_level": logging.CRITICAL, "log_to_driver": False}
    try:
        if address:
            _check_answers(address)
            with warnings.catch_warnings(action="ignore"):
                ray.init(address=f"ray://{address}", **options)
        else:
            ray.init(address="local", include_dashboard=False, **options)
    except (OSError, ValueError) as error:
        raise ConfigError(_unreachable("ray", address, error)) from None
    return ray


def _check_answers(address: str) -> None:
    """Check that something listens: Ray's client would wait half a minute for it."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S):
        pass


@contextmanager
def _silent(*names: str) -> Iterator[None]:
    """Keep a package from logging what is raised as an error, too."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _unreachable(kind: str, address: str, error: Exception) -> str:
    reason = " ".join(str(error).split()).rstrip(".")
    if "ray client connection timeout" in reason:
        reason += "; a cluster with tokens needs RAY_AUTH_MODE=token and RAY_AUTH_TOKEN here, too"
    return (
        f"--backend must be a scheduler that answers; got {kind}://{address}: {reason}; start "
        "it, or leave --backend out"
    )
