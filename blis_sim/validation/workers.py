"""Calls of one function with many arguments, several at a time, each in a process."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from blis_sim.errors import SimulationError

if TYPE_CHECKING:
    from concurrent.futures import Future

_LOOK_S = 0.5
"""How often a worker looks whether its parent is still there."""

Task = TypeVar("Task")
Answer = TypeVar("Answer")


def in_parallel(
    function: Callable[[Task], Answer], tasks: Sequence[Task], num_jobs: int
) -> Iterator[tuple[int, Answer | None]]:
    """Yield the number of each task and its answer, as they come in.

    Parameters
    ----------
    function : callable
        Of a module, for workers to find it.
    tasks : sequence
        Its arguments; those that take longest first.
    num_jobs : int
        How many at a time, >= 1; one works in this process.

    Yields
    ------
    tuple of (int, answer or None)
        None = the worker died; the tasks that were left then have no answer either.
    """
    num_jobs = min(num_jobs, len(tasks))
    if num_jobs <= 1:
        yield from ((number, function(task)) for number, task in enumerate(tasks))
        return

    from concurrent.futures import FIRST_COMPLETED, wait
    from concurrent.futures.process import BrokenProcessPool

    from joblib.externals.loky import ProcessPoolExecutor

    executor = ProcessPoolExecutor(num_jobs, initializer=_begin, initargs=(os.getpid(),))
    left, is_done = list(enumerate(tasks))[::-1], False
    running: dict[Future[Answer], int] = {}
    try:
        while left or running:
            # Loky's own queue holds as many: what waits elsewhere it cannot take back.
            while left and len(running) < 2 * num_jobs:
                number, task = left.pop()
                try:
                    running[executor.submit(function, task)] = number
                except BrokenProcessPool:
                    yield number, None
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                died = isinstance(future.exception(), BrokenProcessPool)
                yield running.pop(future), None if died else future.result()
        is_done = True
    finally:
        executor.shutdown(wait=True, kill_workers=not is_done)


def _begin(parent: int) -> None:
    """Let a worker leave Ctrl-C to its parent, and end soon after it."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)


def no_worker() -> SimulationError:
    """Return the error of a task whose worker died."""
    return SimulationError(
        "the worker that simulated it, or one beside it, died (killed, or out of memory?); try "
        "again with fewer --jobs"
    )
