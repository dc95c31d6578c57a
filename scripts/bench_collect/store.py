"""The rows of one table: read again on resume, written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from bench_import.grid import as_text
from bench_import.write import write_csv

from blis_sim.atomic import atomic_write
from blis_sim.catalog.gpus import GpuSpec
from blis_sim.latency.kernel_tables.points import read_points
from blis_sim.latency.kernel_tables.precision import peak_flops_per_us

from .points import Point, Table

Key = tuple[int, ...]


def mfu_of(point: Point, latency_us: float, gpu: GpuSpec) -> float:
    """Return FLOPs / (latency x dense peak of the type multiplied)."""
    return point.flops / (latency_us * peak_flops_per_us(gpu, point.table.dtype))


class TableStore:
    """Measured rows of one table.

    With ``resume`` it starts with what the file holds; rows there that are not measured anew are
    kept as they are.
    """

    def __init__(self, folder: Path, table: Table, gpu: GpuSpec, *, resume: bool) -> None:
        self.path = folder / table.path
        self.table = table
        self._gpu = gpu
        self._rows: dict[Key, list[str]] = {}
        self._changed = False
        if resume and self.path.is_file():
            self._rows = _read_rows(self.path, table)

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, point: Point, latency_us: float) -> None:
        row = [*map(str, point.key), as_text(latency_us)]
        if self.table.has_mfu:
            row.append(as_text(mfu_of(point, latency_us, self._gpu), 3))
        self._rows[point.key] = row
        self._changed = True

    def save(self) -> None:
        """Replace the file in one step; nothing happens when no row is new."""
        if not self._changed:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rows = [self._rows[key] for key in sorted(self._rows, key=self.table.sort_key)]
        with atomic_write(self.path) as temporary:
            write_csv(temporary, self.table.header, rows)
        self._changed = False


def _read_rows(path: Path, table: Table) -> dict[Key, list[str]]:
    points = read_points(path, table.expected)
    keys = zip(*(points.values[name].astype(np.int64).tolist() for name in table.columns),
               strict=True)  # fmt: skip
    rows = {}
    for key, latency_us, mfu in zip(keys, points.latency_us, points.mfu, strict=True):
        if np.isfinite(latency_us):
            times = [as_text(latency_us), *([as_text(mfu, 3)] if table.has_mfu else [])]
            rows[tuple(key)] = [*map(str, key), *times]
    return rows
