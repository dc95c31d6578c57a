"""A progress bar on stderr for long runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from blis_sim.units import us_to_seconds

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_PATIENCE_S = 2.0


class _Bar:
    """Appears only after a while: most runs need none."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._begin_s = time.monotonic()
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def update(self, num_ended: int, now_us: int) -> None:
        """Show that so many requests have ended at a simulated instant."""
        if self._progress is None:
            if time.monotonic() - self._begin_s < _PATIENCE_S:
                return
            self._start()
        assert self._progress is not None
        assert self._task is not None
        text = f"{num_ended:,} requests, {us_to_seconds(now_us):,.0f} s simulated"
        self._progress.update(self._task, completed=num_ended, description=text)

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("", total=self._total)
        self._progress.start()

    def stop(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()


@contextmanager
def progress_bar(
    total: int | None, *, is_wanted: bool = True
) -> Iterator[Callable[[int, int], None] | None]:
    """Give a function that shows progress, None when stderr is no terminal.

    Parameters
    ----------
    total : int or None
        Requests in all, None when that is not known.
    is_wanted : bool
        False = give None in any case.
    """
    if not is_wanted or not sys.stderr.isatty():
        yield None
        return
    bar = _Bar(total)
    try:
        yield bar.update
    finally:
        bar.stop()


@contextmanager
def counting_bar(
    what: str, *, is_wanted: bool = True
) -> Iterator[Callable[[int, int], None] | None]:
    """Give a function that is told (done, in all) of simulations, None without a terminal.

    Parameters
    ----------
    what : str
        What is counted, plural.
    is_wanted : bool
        False = give None in any case.
    """
    if not is_wanted or not sys.stderr.isatty():
        yield None
        return

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
