"""Going through the tables: what is there is kept, what does not fit is left out."""

from __future__ import annotations

import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from blis_sim.catalog.gpus import GpuSpec
from blis_sim.errors import SimulationError

from .grids import TablePlan
from .memory import Memory
from .points import Point
from .store import TableStore
from .timing import Backend, Effort, measure

CHECKPOINT_S = 30.0
_REPORT_S = 10.0
# So many failures one after the other, and a table is given up; so many tables, and all is.
_MAX_FAILURES, _MAX_TABLES_FAILED = 50, 5


@dataclass(slots=True)
class TableResult:
    """What became of one table in this session; ``fastest`` counts points by their kernel."""

    plan: TablePlan
    num_kept: int = 0
    num_measured: int = 0
    num_left: int = 0
    too_large: list[Point] = field(default_factory=list)
    failed: list[tuple[Point, str]] = field(default_factory=list)
    spreads: list[float] = field(default_factory=list)
    num_captured: int = 0
    fastest: Counter[str] = field(default_factory=Counter)
    num_failed_in_row: int = 0

    @property
    def is_hopeless(self) -> bool:
        """Whether so many points failed one after the other that the rest is given up."""
        return self.num_failed_in_row >= _MAX_FAILURES

    @property
    def median_spread(self) -> float | None:
        return statistics.median(self.spreads) if self.spreads else None


class Clock:
    """Seconds since the start, and whether ``max_minutes`` have passed."""

    def __init__(
        self, max_minutes: float | None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._now, self._start, self._max_minutes = now, now(), max_minutes

    @property
    def elapsed_s(self) -> float:
        return self._now() - self._start

    @property
    def is_over(self) -> bool:
        return self._max_minutes is not None and self.elapsed_s >= 60 * self._max_minutes


@dataclass(slots=True)
class Session:
    """Measures tables one after the other.

    ``after_table`` is called when a table is done. ``writes`` is False in all processes but the
    first where several measure together.
    """

    folder: Path
    gpu: GpuSpec
    memory: Memory
    effort: Effort
    clock: Clock
    resume: bool = False
    writes: bool = True
    after_table: Callable[[], None] = lambda: None
    results: list[TableResult] = field(default_factory=list)
    _reported_s: float = 0.0

    def run(self, backend: Backend, plans: Sequence[TablePlan]) -> None:
        """Measure what is missing; an interrupt or an error leaves what is finished on disk."""
        for plan in plans:
            result = TableResult(plan)
            self.results.append(result)
            store = TableStore(self.folder, plan.table, self.gpu, resume=self.resume)
            try:
                self._table(backend, result, store)
            finally:
                if self.writes:
                    store.save()
            self._check_hope()
            self.after_table()

    def largest_needs(self) -> dict[str, int]:
        """Return the most bytes a point left out needs, by kind of table."""
        needs: dict[str, int] = {}
        for result in self.results:
            for point in result.too_large:
                needed = self.memory.needed_bytes(point)
                needs[point.table.kind] = max(needs.get(point.table.kind, 0), needed)
        return needs

    def _check_hope(self) -> None:
        last = self.results[-_MAX_TABLES_FAILED:]
        if len(last) == _MAX_TABLES_FAILED and all(result.is_hopeless for result in last):
            failure = last[-1].failed[-1][1]
            raise SimulationError(
                f"{last[-1].plan.table.path} must be measurable; got only failures in it and the "
                f"{_MAX_TABLES_FAILED - 1} tables before, the last: {failure}; if other "
                "operations work leave this one out with --ops, else restart and use --resume"
            )

    def _table(self, backend: Backend, result: TableResult, store: TableStore) -> None:
        missing = [point for point in result.plan.points if point.key not in store]
        result.num_kept = len(result.plan.points) - len(missing)
        result.too_large = [point for point in missing if not self.memory.fits(point)]
        todo = [point for point in missing if self.memory.fits(point)]
        result.num_left = len(todo)
        saved_s = self.clock.elapsed_s
        for point in todo:
            if backend.agree(float(self.clock.is_over)) or result.is_hopeless:
                break
            self._point(backend, result, store, point)
            result.num_left -= 1
            elapsed_s = self.clock.elapsed_s
            if self.writes and elapsed_s - saved_s > CHECKPOINT_S:
                store.save()
                saved_s = elapsed_s
            if self.writes and elapsed_s - self._reported_s > _REPORT_S:
                _report(result, elapsed_s)
                self._reported_s = elapsed_s

    def _point(
        self, backend: Backend, result: TableResult, store: TableStore, point: Point
    ) -> None:
        try:
            measured = measure(backend, point, self.memory.l2_bytes, self.effort)
        except RuntimeError as error:
            # PyTorch's form of: out of memory, and no kernel for this shape or type.
            text = str(error).strip() or type(error).__name__
            result.failed.append((point, text.splitlines()[0][:200]))
            result.num_failed_in_row += 1
            return
        result.num_failed_in_row = 0
        store.add(point, measured.latency_us)
        result.num_measured += 1
        result.num_captured += measured.schedule.captured
        result.fastest[measured.kernel] += 1
        result.spreads.append(measured.spread)


def _report(result: TableResult, elapsed_s: float) -> None:
    print(
        f"{elapsed_s / 60:6.1f} min  {result.plan.table.path}: {result.num_left} points left",
        file=sys.stderr,
        flush=True,
    )
