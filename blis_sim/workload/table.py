"""Reading a CSV file strictly: every defect is an error that names path, line and column."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from blis_sim.errors import TraceError
from blis_sim.workload.base import Int64Array
from blis_sim.workload.cells import BadCellError, CellParser
from blis_sim.workload.trace_file import BadRows, open_data, readable, shown

_CHUNK_ROWS = 16_384
_UNFINISHED_QUOTE = "unexpected end of data"

RowCheck = Callable[[Mapping[str, Int64Array]], None]
"""Looks at parsed columns and raises BadCellError where those of a row contradict."""


@dataclass(slots=True)
class Chunk:
    """Some rows, and the line each begins on."""

    rows: Sequence[Sequence[str]]
    lines: Sequence[int]

    def part(self, start: int, stop: int) -> Chunk:
        """Return some of the rows."""
        return Chunk(self.rows[start:stop], self.lines[start:stop])


@dataclass(slots=True)
class TraceTable:
    """An open CSV file whose header has been read.

    Attributes
    ----------
    path : pathlib.Path
        The file, for messages.
    header : tuple of str
        Column names in file order, stripped of surrounding blanks.
    header_line : int
        Line of the header, from 1; 0 in a file without lines.
    bad_rows : BadRows
        What to do about malformed rows, and how many there were.
    chunks : iterator of Chunk
        The rows, a part at a time; walked once.
    """

    path: Path
    header: tuple[str, ...]
    header_line: int
    bad_rows: BadRows
    chunks: Iterator[Chunk]

    def error(self, line: int, text: str) -> TraceError:
        """Return the error for something wrong in a line."""
        place = f":{line}" if line else ""
        return TraceError(f"{self.path}{place}: {text}")

    def columns(
        self,
        parsers: Mapping[str, CellParser],
        check: RowCheck | None = None,
        max_cell_chars: int | None = None,
    ) -> dict[str, Int64Array]:
        """Read all rows.

        Parameters
        ----------
        parsers : mapping
            Column name to parser; every name must be in the header. Other columns are not
            looked at.
        check : callable, optional
            Looks at some rows of parsed columns at a time and raises BadCellError, with a
            column, where they contradict each other.
        max_cell_chars : int, optional
            Longest cell; the csv module's limit (131,072) by default.

        Returns
        -------
        dict
            Column name to an integer array with one entry per row; at least one row.

        Raises
        ------
        TraceError
            At the first row that is not acceptable, unless ``bad_rows`` skips those, or when
            no row is left.
        """
        positions = {name: self.header.index(name) for name in parsers}
        parts: list[dict[str, Int64Array]] = []
        with _longest_cell(max_cell_chars):
            for chunk in self.chunks:
                parts += self._parsed(chunk, parsers, positions, check)
        self.bad_rows.require_rows(len(parts), "a header and no rows")
        return {name: np.concatenate([part[name] for part in parts]) for name in parsers}

    def _parsed(
        self,
        chunk: Chunk,
        parsers: Mapping[str, CellParser],
        positions: Mapping[str, int],
        check: RowCheck | None,
    ) -> list[dict[str, Int64Array]]:
        """Return the parsed columns of a chunk, in as many parts as its bad rows make."""
        width = len(self.header)
        if set(map(len, chunk.rows)) != {width}:
            bad = next(i for i, row in enumerate(chunk.rows) if len(row) != width)
            line, got = chunk.lines[bad], len(chunk.rows[bad])
            text = f"row must have {width} cells, one per column of the header; got {got}"
        else:
            cells = list(zip(*chunk.rows, strict=True))
            parsed: dict[str, Int64Array] = {}
            try:
                for column, parser in parsers.items():
                    parsed[column] = _parse(column, parser, cells[positions[column]])
                if check is not None:
                    check(parsed)
            except BadCellError as error:
                column = error.column or ""
                cell = cells[positions[column]][error.index]
                line = chunk.lines[error.index]
                text = f"column {column} must be {error.requirement}; got {shown(cell)}"
            else:
                return [parsed]
        if len(chunk.rows) == 1 or not self.bad_rows.skip:
            self.bad_rows.add(text, line)
            return []
        # Halving finds the bad rows in few passes and leaves the good ones in large parts.
        half = len(chunk.rows) // 2
        return [
            *self._parsed(chunk.part(0, half), parsers, positions, check),
            *self._parsed(chunk.part(half, len(chunk.rows)), parsers, positions, check),
        ]


def _chunks(reader: Any, bad_rows: BadRows) -> Iterator[Chunk]:
    """Yield the rows of a csv.reader (it has no public type); blank lines are passed over."""
    rows: list[list[str]] = []
    lines: list[int] = []
    line = reader.line_num + 1
    with readable(bad_rows.path, lambda: f":{line}"):
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:
                # After an unfinished quote there is nothing left to go on with.
                if not bad_rows.skip or _UNFINISHED_QUOTE in str(error):
                    raise
                if rows:  # the bad ones among them come first
                    yield Chunk(rows, lines)
                    rows, lines = [], []
                bad_rows.add(f"row must be well-formed CSV; got: {error}", line)
                row = []
            if row is None:
                break
            if row:
                rows.append(row)
                lines.append(line)
                if len(rows) == _CHUNK_ROWS:
                    yield Chunk(rows, lines)
                    rows, lines = [], []
            line = reader.line_num + 1
    if rows:
        yield Chunk(rows, lines)


def _parse(column: str, parser: CellParser, cells: Sequence[str]) -> Int64Array:
    try:
        return parser.parse(cells)
    except BadCellError as error:
        error.column = column
        raise


@contextmanager
def open_table(path: Path, skip_bad_rows: bool = False) -> Iterator[TraceTable]:
    """Open a CSV file, plain or gzip, UTF-8 with or without a byte order mark.

    Raises
    ------
    TraceError
        If it cannot be read, is not text, or is empty.
    """
    with open_data(path) as data:
        if b"\0" in data.peek(1):
            raise TraceError(f"{path}: trace must be a UTF-8 text file; got binary data")
        # Undecodable bytes survive as lone surrogates: the cell that has them is refused
        # with its own line and column.
        text = io.TextIOWrapper(data, "utf-8-sig", errors="surrogateescape", newline="")
        reader = csv.reader(text, strict=True)
        header, line = _read_header(path, reader)
        bad_rows = BadRows(path, skip_bad_rows)
        yield TraceTable(path, header, line, bad_rows, _chunks(reader, bad_rows))


def _read_header(path: Path, reader: Any) -> tuple[tuple[str, ...], int]:
    with readable(path, lambda: ":1"):
        for row in reader:
            if row:
                return tuple(cell.strip() for cell in row), reader.line_num
    raise TraceError(f"{path}: trace must have a header and at least one request; got no text")


@contextmanager
def _longest_cell(chars: int | None) -> Iterator[None]:
    """Lift the csv module's limit, which exists for the whole process, for a while."""
    if chars is None:
        yield
        return
    before = csv.field_size_limit(chars)
    try:
        yield
    finally:
        csv.field_size_limit(before)
