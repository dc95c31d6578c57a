"""Reading small CSV catalogs, with errors that name file, line and column."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from blis_sim.errors import CatalogError, nearest


@dataclass(frozen=True, slots=True)
class CsvRow:
    """One row of a catalog file.

    Attributes
    ----------
    path : Path
        The file.
    line : int
        Line number of the row's end, 1 = the header.
    values : dict of str to str
        Stripped text by column name.
    """

    path: Path
    line: int
    values: dict[str, str]

    def error(self, column: str, constraint: str) -> CatalogError:
        """Return the error that says what ``column`` must be."""
        got = self.values.get(column, "")
        return CatalogError(f"{self.path}:{self.line}:{column} must be {constraint}; got {got!r}")

    def text(self, column: str) -> str:
        """Return a cell that must not be empty."""
        value = self.values.get(column, "")
        if not value:
            raise self.error(column, "text that is not empty")
        return value

    def number(self, column: str, unit: str, *, positive: bool = False) -> float:
        """Return a finite number >= 0 (> 0 with ``positive``)."""
        constraint = f"a finite number {'> 0' if positive else '>= 0'} ({unit})"
        try:
            value = float(self.values.get(column, ""))
        except ValueError:
            raise self.error(column, constraint) from None
        if not math.isfinite(value) or value < 0 or (positive and value == 0):
            raise self.error(column, constraint)
        return value

    def count(self, column: str) -> int:
        """Return a whole number from 1 to 999,999,999."""
        text = self.values.get(column, "")
        if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) >= 1):
            raise self.error(column, "a whole number >= 1")
        return int(text)


def read_csv(path: Path, required: tuple[str, ...], optional: tuple[str, ...]) -> list[CsvRow]:
    """Read a CSV file whose header must hold ``required`` and may hold ``optional``.

    Parameters
    ----------
    path : Path
        UTF-8 text, comma-separated, with a header line; blank lines are skipped.
    required, optional : tuple of str
        Column names; the order in the file does not matter.

    Returns
    -------
    list of CsvRow
        At least one row, in the order of the file.

    Raises
    ------
    CatalogError
        The file is missing, unreadable, empty or malformed, or a column is missing, unknown
        or given twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            rows = list(_rows(path, handle, required, optional))
    except (OSError, UnicodeDecodeError) as cause:
        reason = cause.strerror if isinstance(cause, OSError) else "not UTF-8 text"
        raise CatalogError(f"{path} must be a readable CSV file; got: {reason}") from cause
    if not rows:
        raise CatalogError(f"{path} must hold at least one row below the header; got none")
    return rows


def _rows(
    path: Path, handle: Iterator[str], required: tuple[str, ...], optional: tuple[str, ...]
) -> Iterator[CsvRow]:
    reader = csv.reader(handle, strict=True)
    header: list[str] = []
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]  # noqa: PLW2901 - the raw cells are not needed
            if not any(cells):
                continue
            if not header:
                header = cells
                _check_header(path, reader.line_num, header, required, optional)
                continue
            if len(cells) != len(header):
                raise CatalogError(
                    f"{path}:{reader.line_num} must have {len(header)} fields as in the header; "
                    f"got {len(cells)}"
                )
            yield CsvRow(path, reader.line_num, dict(zip(header, cells, strict=True)))
    except csv.Error as cause:
        raise CatalogError(f"{path}:{reader.line_num} must be valid CSV; got: {cause}") from cause
    if not header:
        raise CatalogError(
            f"{path} must begin with a header line; got an empty file; "
            f"columns: {', '.join(required)}"
        )


def _check_header(
    path: Path,
    line: int,
    header: list[str],
    required: tuple[str, ...],
    optional: tuple[str, ...],
) -> None:
    where = f"{path}:{line}"
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise CatalogError(f"{where} must name each column once; got {twice!r} twice")
    for name in header:
        if name not in required and name not in optional:
            near = ", ".join(nearest(name, (*required, *optional)))
            raise CatalogError(f"{where} must hold known columns; got {name!r}; nearest: {near}")
    missing = [name for name in required if name not in header]
    if missing:
        raise CatalogError(
            f"{where} must hold the columns {', '.join(required)}; missing: {', '.join(missing)}"
        )
