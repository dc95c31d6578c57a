"""Measurements as a table of numbers: CSV with a header, or one JSON object per line."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from blis_sim.errors import TraceError
from blis_sim.workload.json_file import shown_json
from blis_sim.workload.trace_file import json_objects, open_data, readable, shown
from blis_sim.workload.trace_sample import look_at

FloatArray = npt.NDArray[np.float64]

_MOST = 1e18
"""Largest number that is read, in any unit."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """Something that is measured, under the names a column of it may have.

    Attributes
    ----------
    what : str
        In words, for messages.
    names : mapping of str to float
        Name of a column, which says the unit -> what a number in it is multiplied with. The
        first that is there counts.
    is_positive : bool
        Whether it must be > 0; otherwise >= 0.
    is_whole : bool
        Whether only whole numbers are right.
    """

    what: str
    names: Mapping[str, float]
    is_positive: bool = False
    is_whole: bool = False

    @property
    def requirement(self) -> str:
        """What a cell must hold, in words."""
        kind = "a whole number" if self.is_whole else "a number"
        return f"{kind} {'> 0' if self.is_positive else '>= 0'} ({self.what})"

    def column_in(self, names: Sequence[str]) -> str | None:
        """Return the column that holds it, None when there is none."""
        return next((name for name in self.names if name in names), None)


@dataclass(frozen=True, slots=True)
class DataTable:
    """The rows of a file.

    Attributes
    ----------
    path : Path
        The file.
    names : tuple of str
        Columns of the header, or keys of the first object.
    lines : tuple of int
        Where each row stands.
    rows : tuple of mapping
        Text (CSV) or JSON values by column.
    """

    path: Path
    names: tuple[str, ...]
    lines: tuple[int, ...]
    rows: tuple[Mapping[str, object], ...]

    def require(self, quantity: Quantity) -> FloatArray:
        """Return a column that must be there, in the unit of its quantity.

        Raises
        ------
        TraceError
            There is no such column, or a cell holds something else; names line and column.
        """
        found = self.find(quantity)
        if found is None:
            raise TraceError(
                f"{self.path}: {quantity.what} must be in a column "
                f"{' or '.join(quantity.names)}; got {shown(', '.join(self.names))}"
            )
        return found

    def find(self, quantity: Quantity) -> FloatArray | None:
        """Return a column that may be there, in the unit of its quantity; None without it.

        Raises
        ------
        TraceError
            A cell holds something else; names line and column.
        """
        name = quantity.column_in(self.names)
        if name is None:
            return None
        factor = quantity.names[name]
        numbers = [factor * self._number(place, name, quantity) for place in range(len(self.rows))]
        return np.array(numbers, dtype=np.float64)

    def texts(self, name: str) -> list[str]:
        """Return a column as texts; empty where a row has none."""
        return [str(row.get(name, "")).strip() for row in self.rows]

    def take(self, keep: Sequence[int]) -> DataTable:
        """Return some rows."""
        return DataTable(
            self.path,
            self.names,
            tuple(self.lines[place] for place in keep),
            tuple(self.rows[place] for place in keep),
        )

    def _number(self, place: int, name: str, quantity: Quantity) -> float:
        cell = self.rows[place].get(name)
        number = math.nan
        if isinstance(cell, str):
            try:
                number = float(cell)
            except ValueError:
                number = math.nan
        elif type(cell) in {int, float}:
            number = float(cell)  # type: ignore[arg-type]
        is_right = 0 <= number < _MOST and not (quantity.is_positive and number == 0)
        if not is_right or (quantity.is_whole and number != int(number)):
            got = shown(cell) if isinstance(cell, str) else shown_json(cell)
            raise TraceError(
                f"{self.path}:{self.lines[place]}: {name} must be {quantity.requirement}; "
                f"got {got}"
            )
        return number


def read_table(path: Path) -> DataTable:
    """Read a file of measurements, plain or gzip.

    Parameters
    ----------
    path : Path
        CSV with a header, or JSONL.

    Raises
    ------
    TraceError
        It cannot be read, or is neither; names the line.
    """
    read = json_objects if look_at(path).kind == "json" else _csv_rows
    found = list(read(path))
    if not found:
        raise TraceError(f"{path}: file must have at least one row; got none")
    lines, rows = zip(*found, strict=True)
    return DataTable(path, tuple(rows[0]), lines, rows)


def _csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    with open_data(path) as data, readable(path):
        text = io.TextIOWrapper(data, "utf-8-sig", errors="surrogateescape", newline="")
        reader = csv.reader(text, strict=True)
        header: list[str] = []
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [cell.strip() for cell in cells]
                twice = next((name for name in header if header.count(name) > 1), None)
                if twice is not None:
                    raise TraceError(
                        f"{path}:1: column {shown(twice)} must be there once; got it twice"
                    )
                continue
            if len(cells) != len(header):
                raise TraceError(
                    f"{path}:{reader.line_num}: row must have {len(header)} cells, one per "
                    f"column of the header; got {len(cells)}"
                )
            yield reader.line_num, dict(zip(header, (c.strip() for c in cells), strict=True))
