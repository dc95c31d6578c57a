"""The plan as text: what would be measured, how much memory and time it needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from blis_sim.catalog.gpus import GpuSpec

from .estimate import total_minutes
from .grids import TablePlan
from .memory import Memory
from .points import Point
from .store import TableStore
from .timing import Effort


def plan_lines(
    plans: Sequence[TablePlan],
    gpu: GpuSpec,
    memory: Memory,
    effort: Effort,
    existing: Path | None = None,
) -> Iterator[str]:
    """Yield a line per kind of table and a total.

    With ``existing``, the folder of a run that is resumed, rows there count as done.
    """
    kinds: dict[str, list[TablePlan]] = {}
    for plan in plans:
        kinds.setdefault(plan.table.kind, []).append(plan)
    yield (
        f"{'table':42s} {'files':>5s} {'points':>7s} {'done':>6s} {'too large':>9s} "
        f"{'largest':>9s} {'minutes':>8s}"
    )
    num_points, minutes = 0, 0.0
    for kind, same in kinds.items():
        points = [point for plan in same for point in plan.points]
        todo = points if existing is None else _missing(same, gpu, existing)
        fitting = [point for point in todo if memory.fits(point)]
        largest = max((memory.needed_bytes(point) for point in fitting), default=0)
        kind_minutes = total_minutes(fitting, gpu, memory.l2_bytes, effort)
        num_points, minutes = num_points + len(fitting), minutes + kind_minutes
        yield (
            f"{kind:42s} {len(same):5d} {len(points):7d} {len(points) - len(todo):6d} "
            f"{len(todo) - len(fitting):9d} {largest / 1e9:6.1f} GB {kind_minutes:8.1f}"
        )
    yield (
        f"{num_points} points to measure in about {minutes:.0f} minutes (a guess); memory in use "
        f"at most {memory.usable_bytes / 1e9:.0f} GB"
    )


def _missing(plans: Sequence[TablePlan], gpu: GpuSpec, folder: Path) -> list[Point]:
    missing: list[Point] = []
    for plan in plans:
        store = TableStore(folder, plan.table, gpu, resume=True)
        missing += [point for point in plan.points if point.key not in store]
    return missing
