"""How far a study is: a bar with the time it still needs, on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blis_sim.capacity.executor import OnOutcome
    from blis_sim.capacity.study import Outcome


class Tally:
    """Counts what comes in."""

    def __init__(self) -> None:
        self.num_stored = self.num_simulated = self.num_requests = 0
        self.wall_s = 0.0
        """Of all workers together."""

    def add(self, outcome: Outcome, *, is_stored: bool) -> None:
        """Take note of an outcome."""
        if is_stored:
            self.num_stored += 1
        else:
            self.num_simulated += 1
            self.num_requests += outcome.num_requests
            self.wall_s += outcome.wall_s

    def words(self) -> str:
        """Return the counts in words."""
        stored = f", {self.num_stored} were in the store" if self.num_stored else ""
        return (
            f"{self.num_simulated} simulated ({self.num_requests:,} requests, {self.wall_s:.1f} s "
            f"of work){stored}"
        )


@contextmanager
def study_progress(total: int | None, tally: Tally, *, is_wanted: bool) -> Iterator[OnOutcome]:
    """Give what is told of each outcome; on a terminal it moves a bar on stderr.

    Parameters
    ----------
    total : int or None
        Points in all, None when that is not known.
    tally : Tally
        Counts.
    is_wanted : bool
        False = no bar.
    """
    if not is_wanted or not sys.stderr.isatty():
        yield lambda number, outcome, is_stored: tally.add(outcome, is_stored=is_stored)
        return

    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.progress import TimeRemainingColumn as Eta

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("ETA"),
        Eta(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("points", total=total)

        def on_outcome(number: int, outcome: Outcome, is_stored: bool) -> None:
            tally.add(outcome, is_stored=is_stored)
            progress.update(task, advance=1)

        yield on_outcome
