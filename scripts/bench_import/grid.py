"""Measurements of one kind on a common grid: shapes x rows x columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Grid:
    """Latencies of several shapes on a common grid.

    ``latency_us`` has the axes shape, row (batch; a single row where there is no such axis) and
    column (tokens, context or bytes), both ascending; NaN where nothing was measured.
    """

    shapes: list[tuple[int, ...]]
    rows: Floats
    columns: Floats
    latency_us: Floats

    def with_latency(self, latency_us: Floats) -> Grid:
        return Grid(self.shapes, self.rows, self.columns, latency_us)

    def select_shapes(self, wanted: Sequence[tuple[int, ...]]) -> Grid:
        """Return the grid of the shapes in ``wanted`` that are here, in that order."""
        index = {shape: i for i, shape in enumerate(self.shapes)}
        found = [shape for shape in wanted if shape in index]
        picked = self.latency_us[[index[shape] for shape in found]]
        return Grid(found, self.rows, self.columns, picked)


def grid_from_frame(
    frame: pd.DataFrame, shape: Sequence[str], column: str, row: str | None = None
) -> Grid:
    """Put the column ``latency`` (ms) on a grid, in us; the fastest kernel of a point counts.

    Rows without a positive finite latency are left out.
    """
    sound = frame[np.isfinite(frame["latency"]) & (frame["latency"] > 0)]
    keys = [*shape, *([row] if row else []), column]
    fastest = sound.groupby(keys, as_index=False)["latency"].min()
    shapes, at_shape = np.unique(fastest[list(shape)].to_numpy(), axis=0, return_inverse=True)
    rows = np.sort(fastest[row].unique()).astype(float) if row else np.array([1.0])
    columns = np.sort(fastest[column].unique()).astype(float)
    latency_us = np.full((len(shapes), len(rows), len(columns)), np.nan)
    at_row = np.searchsorted(rows, fastest[row]) if row else np.zeros(len(fastest), int)
    at_column = np.searchsorted(columns, fastest[column])
    latency_us[at_shape.ravel(), at_row, at_column] = fastest["latency"] * 1e3
    return Grid([tuple(map(int, key)) for key in shapes.tolist()], rows, columns, latency_us)


def round_to_digits(values: Floats, digits: int = 4) -> Floats:
    """Round to ``digits`` significant digits; NaN stays NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 10.0 ** (digits - 1 - np.floor(np.log10(np.abs(values))))
    return np.where(np.isfinite(scale), np.round(values * scale) / scale, values)


def as_text(value: float, digits: int = 4) -> str:
    """Write with ``digits`` significant digits, without exponent or needless zeros."""
    text = f"{value:.{digits}g}"
    if "e" in text:
        text = np.format_float_positional(float(text), trim="-")
    return text
