"""Opening a trace file, plain or gzip, and counting the rows of it that cannot be used."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blis_sim.errors import TraceError

_SHOWN_CHARS = 60
_GZIP_MAGIC = b"\x1f\x8b"


def shown(text: str) -> str:
    """Return a value quoted for an error message, on one line and of bounded length."""
    quoted = repr(text[: _SHOWN_CHARS + 1])
    return quoted if len(text) <= _SHOWN_CHARS else f"{quoted[:_SHOWN_CHARS]}...'"


@contextmanager
def open_data(path: Path) -> Iterator[io.BufferedReader | gzip.GzipFile]:
    """Open a file, plain or gzip, for reading bytes.

    Raises
    ------
    TraceError
        If it cannot be opened, or, while the caller reads, turns out to be damaged.
    """
    with readable(path), path.open("rb") as raw:
        if raw.peek(2)[:2] == _GZIP_MAGIC:
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield unpacked
        else:
            yield raw


def json_objects(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the JSON objects of a file, one per line, with their lines; blank lines are none.

    Raises
    ------
    TraceError
        The file cannot be read, or a line is something else; names the line.
    """
    with open_data(path) as data:
        for number, line in enumerate(data, start=1):
            if not line.strip():
                continue
            try:
                item = json.loads(line)
            except (ValueError, RecursionError):
                item = None
            if not isinstance(item, dict):
                raise TraceError(
                    f"{path}:{number}: row must be a JSON object on one line; got "
                    f"{shown(line.decode(errors='replace').strip())}"
                )
            yield number, item


@contextmanager
def readable(path: Path, where: Callable[[], str] = lambda: "") -> Iterator[None]:
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


@dataclass(slots=True)
class BadRows:
    """What happens to malformed rows: the first is an error, or all are counted.

    Attributes
    ----------
    path : pathlib.Path
        The file, for messages.
    skip : bool
        Count them instead of raising at the first.
    unit : str
        What the position of a row counts: ``line`` or ``row``, from 1.
    count : int
        How many there were.
    """

    path: Path
    skip: bool = False
    unit: str = "line"
    count: int = 0
    _first: str = ""

    def add(self, text: str, position: int | None = None) -> None:
        """Count a malformed row.

        Parameters
        ----------
        text : str
            What is wrong with it, naming the column or the JSON path.
        position : int, optional
            Where it is in the file, in ``unit``.

        Raises
        ------
        TraceError
            If malformed rows are not to be skipped.
        """
        if not self.skip:
            place = "" if position is None else f":{position}"
            if place and self.unit != "line":
                place = f": {self.unit} {position}"
            raise TraceError(f"{self.path}{place}: {text} (--skip-bad-rows leaves such rows out)")
        if not self.count:
            self._first = text if position is None else f"at {self.unit} {position}: {text}"
        self.count += 1

    def notices(self) -> list[str]:
        """Return the notice about rows left out, if there were any."""
        if not self.count:
            return []
        rows = "1 malformed row" if self.count == 1 else f"{self.count:,} malformed rows"
        return [f"{self.path}: {rows} left out, the first {self._first}"]

    def require_rows(self, num_rows: int, otherwise: str) -> None:
        """Raise if no row is left.

        Parameters
        ----------
        num_rows : int
            Rows that can be used.
        otherwise : str
            What the file has instead, where no row of it is malformed.
        """
        if num_rows:
            return
        got = f"{self.count:,} malformed, the first {self._first}" if self.count else otherwise
        raise TraceError(f"{self.path}: trace must have at least one request; got {got}")
