"""What the beginning of a trace file shows, so that its format can be told from its content."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from blis_sim.errors import TraceError
from blis_sim.workload.trace_file import open_data, readable, shown

_SAMPLE_BYTES = 65_536
_BINARY_BYTES = 4_096
_SHOWN_KEYS = 8
_PARQUET_MAGIC = b"PAR1"
_YAML_HEADER = re.compile(r"^trace_version[ \t]*:", re.MULTILINE)
_JSON_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|["{}\[\]:,]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class FileSample:
    """The beginning of a file.

    Attributes
    ----------
    kind : str
        ``csv``, ``json`` (one document or one object per line), ``yaml`` (the header of a
        BLIS TraceV2 pair) or ``parquet``.
    names : tuple of str
        Column names of the CSV header, or keys of the first JSON object as far as seen.
    """

    kind: Literal["csv", "json", "yaml", "parquet"]
    names: tuple[str, ...] = ()

    def has(self, *names: str) -> bool:
        """Return whether all these columns or keys are there."""
        return set(names) <= set(self.names)

    def has_any(self, *names: str) -> bool:
        """Return whether one of these columns or keys is there."""
        return not set(names).isdisjoint(self.names)

    def __str__(self) -> str:
        if self.kind == "csv":
            return f"a first line {shown(','.join(self.names))}"
        if self.kind == "json":
            keys = ", ".join(shown(name) for name in self.names[:_SHOWN_KEYS])
            more = ", ..." if len(self.names) > _SHOWN_KEYS else ""
            return f"JSON with the keys {keys}{more}" if keys else "JSON without any object"
        return f"a {self.kind} file"


def look_at(path: Path) -> FileSample:
    """Look at the beginning of a file, plain or gzip.

    Raises
    ------
    TraceError
        If it cannot be read, is empty, or is neither text nor Parquet.
    """
    with open_data(path) as data:
        start = data.read(_SAMPLE_BYTES)
    if start.startswith(_PARQUET_MAGIC):
        return FileSample("parquet")
    if b"\0" in start[:_BINARY_BYTES]:
        raise TraceError(f"{path}: trace must be a UTF-8 text file or Parquet; got binary data")
    text = start.decode("utf-8-sig", errors="replace").lstrip()
    if not text:
        raise TraceError(f"{path}: trace must have at least one request; got no text")
    if text[0] in "[{":
        return FileSample("json", _first_keys(text))
    if _YAML_HEADER.search(text):
        return FileSample("yaml")
    with readable(path, lambda: ":1"):
        header = next(csv.reader(io.StringIO(text, newline=""), strict=True))
    return FileSample("csv", tuple(cell.strip() for cell in header))


def _first_keys(text: str) -> tuple[str, ...]:
    """Return the keys of the first JSON object in a text that may be cut off anywhere."""
    keys: list[str] = []
    depth, last = 0, ""
    for match in _JSON_TOKEN.finditer(text):
        token = match.group()
        if token == '"':
            break  # the text ends within a string
        if token in "{[":
            depth += bool(depth) or token == "{"
        elif token in "}]":
            depth -= bool(depth)
            if not depth and keys:
                break
        elif token == ":" and depth == 1 and last:
            keys.append(last[1:-1])
        last = token if token[0] == '"' else ""
    return tuple(keys)
