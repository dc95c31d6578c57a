"""Write grids as the CSV files of ``bench_data``."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from .grid import Floats, Grid, as_text


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def measured_points(
    grid: Grid, index: int, mfu: Floats | None, *, columns_first: bool = False
) -> Iterator[list[str]]:
    """Yield [row, column, latency, MFU] of one shape as text, in ascending order.

    ``columns_first`` gives [column, row, ...], sorted by column. Without MFU it is left out.
    """
    latency_us = grid.latency_us[index]
    measured = np.argwhere(~np.isnan(latency_us))
    if columns_first:
        measured = measured[np.lexsort((measured[:, 0], measured[:, 1]))]
    for i, j in measured:
        axes = [str(int(grid.rows[i])), str(int(grid.columns[j]))]
        line = [*(axes[::-1] if columns_first else axes), as_text(latency_us[i, j])]
        yield line if mfu is None else [*line, as_text(mfu[index, i, j], 3)]
