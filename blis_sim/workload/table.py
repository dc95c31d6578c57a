"""Reading a CSV file strictly: every defect is an error that names path, line and column."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from blis_sim.errors import TraceError
from blis_sim.workload.base import Int64Array
from blis_sim.workload.cells import BadCellError, CellParser

_CHUNK_ROWS = 16_384
_SHOWN_CHARS = 60
_GZIP_MAGIC = b"\x1f\x8b"


def shown(text: str) -> str:
    """Return a value quoted for an error message, on one line and of bounded length."""
    quoted = repr(text[: _SHOWN_CHARS + 1])
    return quoted if len(text) <= _SHOWN_CHARS else f"{quoted[:_SHOWN_CHARS]}...'"


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
        Line of the header, from 1.
    """

    path: Path
    header: tuple[str, ...]
    header_line: int
    _reader: Any  # csv.reader has no public type

    def error(self, line: int, text: str) -> TraceError:
        """Return the error for something wrong in a line."""
        return TraceError(f"{self.path}:{line}: {text}")

    def columns(
        self,
        parsers: Mapping[str, CellParser],
        check: Callable[[Mapping[str, Int64Array]], None] | None = None,
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
            At the first row that is not acceptable, or when there is none.
        """
        positions = {name: self.header.index(name) for name in parsers}
        parts: dict[str, list[Int64Array]] = {name: [] for name in parsers}
        with _longest_cell(max_cell_chars):
            for rows, lines in self._chunks():
                self._check_widths(rows, lines)
                cells = list(zip(*rows, strict=True))
                parsed: dict[str, Int64Array] = {}
                try:
                    for column, parser in parsers.items():
                        parsed[column] = _parse(column, parser, cells[positions[column]])
                    if check is not None:
                        check(parsed)
                except BadCellError as error:
                    name = error.column or ""
                    got = cells[positions[name]][error.index]
                    raise self.error(
                        lines[error.index],
                        f"column {name} must be {error.requirement}; got {shown(got)}",
                    ) from None
                for column, values in parsed.items():
                    parts[column].append(values)
        if not all(parts.values()):
            raise TraceError(
                f"{self.path}: trace must have at least one request; got a header and no rows"
            )
        return {column: np.concatenate(arrays) for column, arrays in parts.items()}

    def _chunks(self) -> Iterator[tuple[list[list[str]], list[int]]]:
        """Yield rows with the line each begins on; blank lines are passed over."""
        rows: list[list[str]] = []
        lines: list[int] = []
        reader = self._reader
        line = reader.line_num + 1
        with _readable(self.path, lambda: f":{line}"):
            for row in reader:
                if row:
                    rows.append(row)
                    lines.append(line)
                    if len(rows) == _CHUNK_ROWS:
                        yield rows, lines
                        rows, lines = [], []
                line = reader.line_num + 1
        if rows:
            yield rows, lines

    def _check_widths(self, rows: list[list[str]], lines: list[int]) -> None:
        width = len(self.header)
        if set(map(len, rows)) != {width}:
            bad = next(i for i, row in enumerate(rows) if len(row) != width)
            raise self.error(
                lines[bad],
                f"row must have {width} cells, one per column of the header; got {len(rows[bad])}",
            )


def _parse(column: str, parser: CellParser, cells: Sequence[str]) -> Int64Array:
    try:
        return parser.parse(cells)
    except BadCellError as error:
        error.column = column
        raise


@contextmanager
def open_table(path: Path) -> Iterator[TraceTable]:
    """Open a CSV file, plain or gzip, UTF-8 with or without a byte order mark.

    Raises
    ------
    TraceError
        If it cannot be read, is not text, or is empty.
    """
    with _readable(path), path.open("rb") as raw, _decompressed(raw) as data:
        if b"\0" in data.peek(1):
            raise TraceError(f"{path}: trace must be a UTF-8 text file; got binary data")
        # Undecodable bytes survive as lone surrogates: the cell that has them is refused
        # with its own line and column.
        text = io.TextIOWrapper(data, "utf-8-sig", errors="surrogateescape", newline="")
        reader = csv.reader(text, strict=True)
        header, line = _read_header(path, reader)
        yield TraceTable(path, header, line, reader)


@contextmanager
def _decompressed(raw: io.BufferedReader) -> Iterator[io.BufferedReader | gzip.GzipFile]:
    if raw.peek(2)[:2] == _GZIP_MAGIC:
        with gzip.GzipFile(fileobj=raw) as unpacked:
            yield unpacked
    else:
        yield raw


@contextmanager
def _readable(path: Path, where: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Turn what reading can raise into a TraceError."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TraceError(f"{path}: trace must be an intact gzip file; got: {error}") from error
    except OSError as error:
        raise TraceError(
            f"{path}: trace must be a readable file; got: {error.strerror or error}"
        ) from error
    except csv.Error as error:
        raise TraceError(f"{path}{where()}: row must be well-formed CSV; got: {error}") from error


def _read_header(path: Path, reader: Any) -> tuple[tuple[str, ...], int]:
    with _readable(path, lambda: ":1"):
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
