"""Many simulations at once: on this machine, or on a cluster the user has.

joblib's loky does the work on one machine; a Dask or Ray cluster does where ``--backend`` names
its scheduler. Results are stored as they come in, by this process alone.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from blis_sim.capacity.clusters import (
    dask_answers,
    import_extra,
    ray_answers,
)
from blis_sim.capacity.point_key import PointKeys
from blis_sim.capacity.store import ResultStore
from blis_sim.capacity.study import Outcome, Point, worker_died
from blis_sim.errors import BlisError, ConfigError, SimulationError

OnOutcome = Callable[[int, Outcome, bool], None]
"""Number of the point, its outcome, whether it was in the store."""
_LOCAL = "loky"
_MOST_DEATHS = 2
"""Deaths of workers after which few points are simulated at a time: one more, and each of
these has a worker of its own."""
_LOOK_S = 0.5
"""How often a worker looks whether its parent is still there."""


@dataclass(frozen=True, slots=True)
class Backend:
    """Where simulations run.

    Attributes
    ----------
    kind : str
        ``loky`` (this machine), ``dask`` or ``ray``.
    address : str
        Of the scheduler; empty = a local one is started.
    num_jobs : int
        Simulations at a time, >= 1; with Dask and Ray the cluster decides.
    """

    kind: str = _LOCAL
    address: str = ""
    num_jobs: int = 1


def parse_backend(text: str, num_jobs: int, where: str = "--backend") -> Backend:
    """Return what ``loky``, ``dask://HOST:PORT`` or ``ray://HOST:PORT`` means.

    Raises
    ------
    ConfigError
        It is something else.
    MissingExtraError
        Its package is not installed.
    """
    kind, _, address = text.partition("://")
    kind = kind.strip().lower()
    if kind not in {_LOCAL, "dask", "ray"} or (kind == _LOCAL and address):
        raise ConfigError(
            f"{where} must be loky (this machine), dask://HOST:PORT or ray://HOST:PORT; "
            f"got {text!r}"
        )
    if kind == "dask":
        import_extra("distributed", "dask")
    elif kind == "ray":
        import_extra("ray", "ray")
    return Backend(kind, address, num_jobs)


class Executor:
    """Simulates points and keeps their outcomes.

    Parameters
    ----------
    store : ResultStore
        Where outcomes are kept and looked for.
    backend : Backend
        Where simulations run.
    on_outcome : callable, optional
        Told of each outcome as it comes in.
    """

    def __init__(
        self, store: ResultStore, backend: Backend, on_outcome: OnOutcome | None = None
    ) -> None:
        self.store = store
        self.on_outcome = on_outcome
        self.num_simulated = self.num_requests = self.num_deaths = 0
        self._backend = backend
        self._keys = PointKeys()

    def keys(self, points: Sequence[Point]) -> list[str]:
        """Return the keys of points."""
        return [self._keys.key(point) for point in points]

    def run(self, points: Sequence[Point], keys: Sequence[str] | None = None) -> list[Outcome]:
        """Return the outcomes of points, in their order; what is in the store is not redone.

        Points that are the same are simulated once. Those that take longest should come first.

        Raises
        ------
        ConfigError
            The store cannot be written any more; what was stored is kept.
        TraceError
            A trace is wrong.
        """
        keys = self.keys(points) if keys is None else keys
        outcomes = self.store.finished(list(dict.fromkeys(keys)))
        places: dict[str, list[int]] = {}
        for number, key in enumerate(keys):
            places.setdefault(key, []).append(number)
        for key in [key for key in places if key in outcomes]:
            self._tell(places[key], outcomes[key], is_stored=True)
        left = {key: points[numbers[0]] for key, numbers in places.items() if key not in outcomes}
        for key, outcome in self._simulated(left):
            self.store.put(key, left[key], outcome)
            outcomes[key] = outcome
            self.num_simulated += 1
            self.num_requests += outcome.num_requests
            self._tell(places[key], outcome, is_stored=False)
        return [outcomes[key] for key in keys]

    def _tell(self, numbers: Sequence[int], outcome: Outcome, *, is_stored: bool) -> None:
        if self.on_outcome is not None:
            for number in numbers:
                self.on_outcome(number, outcome, is_stored)

    def _simulated(self, points: dict[str, Point]) -> Iterator[tuple[str, Outcome]]:
        """Yield the key and the outcome of each point as it is finished."""
        if not points:
            return
        if self._backend.kind == _LOCAL and min(self._backend.num_jobs, len(points)) == 1:
            for key, point in points.items():
                yield _answer(key, point)
            return
        left, num_deaths, size = dict(points), 0, len(points)
        while left:
            part = dict(islice(left.items(), size))
            try:
                for key, outcome in self._in_parallel(part):
                    del left[key], part[key]
                    yield key, outcome
            except _worker_deaths():
                self.num_deaths += 1
                num_deaths += 1
                if num_deaths > _MOST_DEATHS:
                    for key in part:
                        del left[key]
                    yield from self._one_by_one(part)
                elif num_deaths == _MOST_DEATHS:
                    size = 2 * self._backend.num_jobs

    def _one_by_one(self, points: dict[str, Point]) -> Iterator[tuple[str, Outcome]]:
        """Simulate each point in a worker that nobody shares: a death is then its own."""
        for key, point in points.items():
            try:
                for _, outcome in self._in_parallel({key: point}):
                    yield key, outcome
            except _worker_deaths():
                self.num_deaths += 1
                yield key, worker_died(point)

    def _in_parallel(self, points: dict[str, Point]) -> Iterator[tuple[str, Outcome]]:
        backend, tasks = self._backend, list(points.items())
        with _explained(backend):
            if backend.kind == "ray":
                yield from ray_answers(backend.address, tasks)
            elif backend.kind == "dask":
                yield from dask_answers(backend.address, tasks)
            else:
                # At least two jobs: with one, joblib would work in this process.
                yield from _loky_answers(tasks, max(2, min(backend.num_jobs, len(points))))


def _loky_answers(
    tasks: Sequence[tuple[str, Point]], num_jobs: int
) -> Iterator[tuple[str, Outcome]]:
    import joblib

    parent = os.getpid()
    with joblib.parallel_config(_LOCAL, n_jobs=num_jobs):
        # Single points: what takes long must not wait behind others, and what is finished not
        # for others. Loky's own queue holds 2 per job: what waits elsewhere it cannot take back.
        parallel = joblib.Parallel(
            return_as="generator_unordered", batch_size=1, pre_dispatch="2*n_jobs"
        )
        with _no_interrupts():
            answers = parallel(
                joblib.delayed(_answer_here)(parent, key, point) for key, point in tasks
            )
        yield from answers


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Let workers be started that Ctrl-C does not reach: this process ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a new program inherits that
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _answer_here(parent: int, key: str, point: Point) -> tuple[str, Outcome]:
    """Answer in a worker of this machine, which does not outlive its parent."""
    _end_without(parent)
    return _answer(key, point)


@lru_cache(maxsize=1)
def _end_without(parent: int) -> None:
    """Let this process end soon after its parent: nobody would read its results any more."""
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)


def _answer(key: str, point: Point) -> tuple[str, Outcome]:
    # Where all results are in the store nothing of the engine is needed.
    from blis_sim.capacity.worker import simulate_point

    return key, simulate_point(point)


def _worker_deaths() -> tuple[type[BaseException], ...]:
    """Return the errors that mean that a worker died."""
    from concurrent.futures.process import BrokenProcessPool

    from joblib.externals.loky.process_executor import TerminatedWorkerError

    return (BrokenProcessPool, TerminatedWorkerError)


@contextmanager
def _explained(backend: Backend) -> Iterator[None]:
    """Turn what a cluster complains about into one line."""
    try:
        yield
    except BlisError:
        raise
    except Exception as error:
        if backend.kind == _LOCAL:
            raise
        raise SimulationError(
            f"the {backend.kind} cluster must stay up, with blis-sim installed on all of it; "
            f"got {type(error).__name__}: {error}; what is stored is kept: mend that and run the "
            "same command again"
        ) from error


def default_jobs() -> int:
    """Return how many simulations run at a time by default: one per processor."""
    import joblib

    return int(joblib.cpu_count())
