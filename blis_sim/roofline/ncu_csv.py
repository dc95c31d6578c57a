"""CSV exports of NVIDIA Nsight Compute: the metrics of each kernel launch in base units.

Two layouts are read. *Long* (``ncu --csv``): a row per launch and metric with the columns
``Metric Name``, ``Metric Unit`` and ``Metric Value``. *Wide* (``ncu --csv --page raw``): a row
per launch and a column per metric, with the units in the row below the header. Lines before the
header and lines such as ``==PROF== ...`` are what the tool or the program printed; they are
skipped.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from blis_sim.errors import ConfigError
from blis_sim.roofline.locale_numbers import decimal_mark, parse_number

_KERNEL, _ID = "Kernel Name", "ID"
_NAME, _UNIT, _VALUE = "Metric Name", "Metric Unit", "Metric Value"
_PREFIXES = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "K": 1e3}
_PREFIXES |= {"M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_BASE_UNITS = r"(?:byte|bytes|B|second|sec|s|inst|%|)"
_UNIT_PATTERN = re.compile(rf"(?P<prefix>[num]|[kKMGT]i?|)(?P<base>{_BASE_UNITS})")
_DELIMITERS = ",;\t"
_ABSENT = {"", "n/a", "nan", "no data", "-"}


@dataclass(slots=True)
class Launch:
    """One launch of a kernel.

    Attributes
    ----------
    kernel : str
        Name of the kernel as in the file.
    launch_id : str
        Number of the launch in the file.
    values : dict of str to float
        Metrics in bytes, seconds and counts; only those that have a value.
    """

    kernel: str
    launch_id: str
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Cell:
    """A metric of a launch as it is written."""

    line: int
    metric: str
    unit: str
    text: str


@dataclass(frozen=True, slots=True)
class _Table:
    """The rows below a header with the numbers of their lines."""

    path: Path
    header: list[str]
    rows: list[tuple[int, list[str]]]


def unit_factor(unit: str) -> float | None:
    """Return what one of a unit is in bytes, seconds or counts; None for another unit.

    Prefixes are powers of 1000 (``Kbyte`` = 1000 bytes, as the tool means it), ``Ki`` and so
    on powers of 1024. A prefix may stand alone: ``M`` = 1e6. ``n``, ``u`` and ``m`` go with
    seconds.
    """
    match = _UNIT_PATTERN.fullmatch(unit.strip())
    if match is None:
        return None
    is_small = match["prefix"] in {"n", "u", "m"}
    if is_small and match["base"] not in {"second", "sec", "s"}:
        return None
    return _PREFIXES[match["prefix"]]


def read_launches(
    path: Path, metrics: Collection[str], aliases: Mapping[str, str] | None = None
) -> list[Launch]:
    """Return the launches of an export, in its order, with those metrics that are asked for.

    Parameters
    ----------
    path : Path
        The file, UTF-8 (or UTF-16 with its mark).
    metrics : collection of str
        Names of metrics; others are passed over.
    aliases : mapping, optional
        Other names of metrics, such as the labels of the details page.

    Raises
    ------
    ConfigError
        The file cannot be read, is no such export, has a damaged row, a number that is none
        or a unit that does not fit; the message has line and metric.
    """
    names = {name: name for name in metrics} | dict(aliases or {})
    table = _read_table(path)
    is_long = _NAME in table.header
    cells = list(_long_cells(table) if is_long else _wide_cells(table))
    kept = [(launch, cell) for launch, cell in cells if cell.metric in names]
    try:
        mark = decimal_mark(cell.text for _, cell in kept)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    launches = {key: Launch(key[0], key[1]) for key, _ in cells}
    # A label of the details page is rounded: it counts only where the metric itself is absent.
    for key, cell in sorted(kept, key=lambda pair: pair[1].metric not in metrics):
        value = _value(path, cell, mark)
        if value is None:
            continue
        known = launches[key].values.setdefault(names[cell.metric], value)
        if known != value and cell.metric in metrics:
            raise ConfigError(
                f"{path}:{cell.line}: {cell.metric} must be there once for each launch; got "
                f"{known:g} and {value:g} for launch {key[1] or '?'} of {key[0]}"
            )
    return list(launches.values())


def _read_table(path: Path) -> _Table:
    lines = _text(path).splitlines()
    start = next((number for number, line in enumerate(lines) if _is_header(line)), None)
    if start is None:
        raise ConfigError(
            f"{path} must be a CSV export of Nsight Compute with a header that has {_KERNEL!r}; "
            "got none; make one with: ncu --csv --page raw"
        )
    delimiter = max(_DELIMITERS, key=lines[start].count)
    numbered = [
        (start + number, line)
        for number, line in enumerate(lines[start:], 1)
        if line.strip() and not line.startswith("==")
    ]
    reader = csv.reader((line for _, line in numbered), delimiter=delimiter, strict=True)
    table: list[tuple[int, list[str]]] = []
    try:
        # A text in quotes may go over several lines: the number is that of its last one.
        for row in reader:
            table.append(  # noqa: PERF401 (the reader's place is needed beside its row)
                (numbered[reader.line_num - 1][0], [cell.strip() for cell in row])
            )
    except csv.Error as error:
        number = numbered[reader.line_num - 1][0]
        raise ConfigError(f"{path}:{number} must be valid CSV; got: {error}") from None
    header = table[0][1]
    for number, row in table[1:]:
        if len(row) != len(header):
            raise ConfigError(
                f"{path}:{number} must have {len(header)} fields as in the header; got {len(row)}"
            )
    if _NAME in header and not {_UNIT, _VALUE} <= set(header):
        raise ConfigError(f"{path}:{start + 1} must have {_UNIT!r} and {_VALUE!r} in its header")
    # A file put together from several exports repeats the header.
    return _Table(path, header, [row for row in table[1:] if row[1] != header])


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
        is_utf16 = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
        return raw.decode("utf-16" if is_utf16 else "utf-8-sig")
    except OSError as error:
        raise ConfigError(
            f"export of Nsight Compute must be a readable file; got {path}: {error.strerror}"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} must be UTF-8 text; got other bytes") from None


def _is_header(line: str) -> bool:
    return any(f'"{_KERNEL}"' in line or _KERNEL in line.split(mark) for mark in _DELIMITERS)


def _kernel(table: _Table, row: list[str]) -> str:
    return row[table.header.index(_KERNEL)]


def _key(table: _Table, row: list[str], otherwise: str = "") -> tuple[str, ...]:
    """Return what is one launch: kernel, ID (or ``otherwise``), process."""
    cells = dict(zip(table.header, row, strict=True))
    return (cells[_KERNEL], cells.get(_ID, otherwise), cells.get("Process ID", ""))


def _long_cells(table: _Table) -> Iterator[tuple[tuple[str, ...], _Cell]]:
    name, unit, value = (table.header.index(column) for column in (_NAME, _UNIT, _VALUE))
    for number, row in table.rows:
        if _kernel(table, row):
            yield _key(table, row), _Cell(number, row[name], row[unit], row[value])


def _wide_cells(table: _Table) -> Iterator[tuple[tuple[str, ...], _Cell]]:
    units: list[str] = [""] * len(table.header)
    for number, row in table.rows:
        if not _kernel(table, row):
            units = row
            continue
        key = _key(table, row, otherwise=str(number))
        for metric, unit, text in zip(table.header, units, row, strict=True):
            yield key, _Cell(number, metric, unit, text)


def _value(path: Path, cell: _Cell, mark: str) -> float | None:
    if cell.text.casefold() in _ABSENT:
        return None
    where = f"{path}:{cell.line}: {cell.metric}"
    number, factor = parse_number(cell.text, mark), unit_factor(cell.unit)
    if number is None or number < 0:
        raise ConfigError(f"{where} must be a number >= 0; got {cell.text!r}")
    if factor is None:
        raise ConfigError(
            f"{where} must be in bytes, seconds or instructions (with a prefix n, u, m, K, M, G "
            f"or T); got the unit {cell.unit!r}"
        )
    return number * factor
