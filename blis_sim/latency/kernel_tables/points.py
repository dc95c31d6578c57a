"""Reading one CSV file of measured points, strictly."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from blis_sim.catalog.csv_table import CsvRow, read_csv
from blis_sim.errors import CatalogError
from blis_sim.latency.kernel_tables.arrays import FloatArray, floats

if TYPE_CHECKING:
    from blis_sim.latency.kernel_tables.arrays import BoolArray

_LATENCY, _MFU = "latency_us", "mfu"
_LARGEST_WHOLE = 1e15


@dataclass(frozen=True, slots=True)
class Columns:
    """What a kind of file holds.

    Attributes
    ----------
    keys : tuple of str
        Columns that identify a point; whole numbers >= 1.
    optional : mapping of str to int
        Further such columns that may be absent, and the value they have then. Where that is
        0, 0 is allowed.
    aliases : mapping of str to str
        Other names of columns.
    formats : tuple of str
        Text columns that name number formats.
    has_mfu : bool
        Whether the time may be given as ``mfu``.
    """

    keys: tuple[str, ...]
    optional: Mapping[str, int] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    formats: tuple[str, ...] = ()
    has_mfu: bool = True

    @property
    def all_keys(self) -> tuple[str, ...]:
        """Columns that identify a point, the optional ones last."""
        return (*self.keys, *self.optional)

    def least(self, key: str) -> int:
        """Return the smallest value a column may have."""
        return 0 if self.optional.get(key) == 0 else 1


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """The points of one file.

    Attributes
    ----------
    path : Path
        The file.
    values : dict of str to float array, shape (points,)
        The identifying columns.
    latency_us, mfu : float array, shape (points,)
        NaN where not given; where both are, the cell is missing.
    text : dict of str to list of str
        Text columns.
    """

    path: Path
    values: dict[str, FloatArray]
    latency_us: FloatArray
    mfu: FloatArray
    text: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.latency_us)

    def where(self, mask: BoolArray) -> Points:
        """Return the points a mask selects."""
        return Points(
            self.path,
            {name: column[mask] for name, column in self.values.items()},
            self.latency_us[mask],
            self.mfu[mask],
            {
                name: [column[i] for i in np.flatnonzero(mask)]
                for name, column in self.text.items()
            },
        )


def read_points(path: Path, columns: Columns) -> Points:
    """Return the points of a file.

    Parameters
    ----------
    path : Path
        CSV with a header. Columns may stand in any order, rows too. An empty cell of
        ``latency_us`` or ``mfu`` means not given, and so does an ``mfu`` of 0 without a
        latency: the time of a kernel is never infinite. A row given twice with the same values
        counts once.
    columns : Columns
        What the file must hold.

    Raises
    ------
    CatalogError
        The file is unreadable, a column is missing, unknown or given twice, a number is bad
        (path, line and column are named), a point stands twice with different times, or no
        point has a time.
    """
    points = _read_fast(path, columns)
    if points is None or _duplicates(points).size:
        points = _read_carefully(path, columns)
    if not np.any(np.isfinite(points.latency_us) | np.isfinite(points.mfu)):
        raise CatalogError(f"{path} must give latency_us or mfu of at least one point; got none")
    return points


def _read_fast(path: Path, columns: Columns) -> Points | None:
    """Return the points of a file of plain numbers without a fault, else None."""
    try:
        with path.open(encoding="utf-8") as handle:
            header = [name.strip() for name in handle.readline().split(",")]
            names = [columns.aliases.get(name, name) for name in header]
            if not _is_plain(names, columns):
                return None
            body = handle.read()
        if not body.strip():
            return None
        table = np.loadtxt(io.StringIO(body), delimiter=",", ndmin=2, comments=None)
    except (OSError, UnicodeDecodeError, ValueError):
        return None
    if table.size == 0 or table.shape[1] != len(names):
        return None
    found = {name: table[:, i] for i, name in enumerate(names)}
    nothing = np.full(len(table), np.nan)
    latency, mfu = found.pop(_LATENCY, nothing), found.pop(_MFU, nothing)
    is_sound = all(
        np.all((column == np.floor(column)) & (column >= least) & (column <= _LARGEST_WHOLE))
        for column, least in ((found[name], columns.least(name)) for name in found)
    )
    if latency is not nothing:
        is_sound = is_sound and bool(np.all((latency > 0) & np.isfinite(latency)))
    if mfu is not nothing:
        is_sound = is_sound and bool(np.all((mfu >= 0) & np.isfinite(mfu)))
        if latency is nothing:
            is_sound = is_sound and bool(np.all(mfu <= 1))
            mfu = np.where(mfu > 0, mfu, np.nan)
    return _with_defaults(path, columns, found, latency, mfu) if is_sound else None


def _is_plain(names: list[str], columns: Columns) -> bool:
    allowed = {*columns.all_keys, _LATENCY, *([_MFU] if columns.has_mfu else [])}
    has_time = _LATENCY in names or (columns.has_mfu and _MFU in names)
    is_unique = len(set(names)) == len(names)
    return has_time and is_unique and set(columns.keys) <= set(names) <= allowed


def _with_defaults(
    path: Path,
    columns: Columns,
    found: dict[str, FloatArray],
    latency_us: FloatArray,
    mfu: FloatArray,
) -> Points:
    values = {
        name: found[name] if name in found else np.full(len(mfu), float(default))
        for name, default in (*((key, 1) for key in columns.keys), *columns.optional.items())
    }
    return Points(path, values, latency_us, mfu)


def _duplicates(points: Points) -> BoolArray:
    """Return which points follow, in sorted order, one with the same key; empty for none."""
    keys = list(points.values.values())
    order = np.lexsort(keys)
    same = np.ones(max(0, len(points) - 1), dtype=bool)
    for key in keys:
        ordered = key[order]
        same &= ordered[1:] == ordered[:-1]
    return same[same]


def _read_carefully(path: Path, columns: Columns) -> Points:
    """Return the points of a file row by row: it may have text and empty cells, and faults."""
    name_in_file = _names_in_file(path, columns)
    times = [_LATENCY, *([_MFU] if columns.has_mfu else [])]
    required = tuple(name_in_file[name] for name in (*columns.keys, *columns.formats))
    optional = tuple(name_in_file[name] for name in (*columns.optional, *times))
    rows = read_csv(path, required, optional)
    if not any(name in rows[0].values for name in times):
        raise CatalogError(f"{path}:1 must hold the column {' or '.join(times)}; got neither")
    seen: dict[tuple[object, ...], tuple[int, tuple[float, float]]] = {}
    for row in rows:
        key = (
            *(_whole(row, name_in_file[name], columns.least(name)) for name in columns.keys),
            *(
                _whole(row, name_in_file[name], columns.least(name), default)
                for name, default in columns.optional.items()
            ),
            *(row.text(name) for name in columns.formats),
        )
        time = _time(row, has_mfu=columns.has_mfu)
        line, before = seen.setdefault(key, (row.line, time))
        if not np.array_equal(before, time, equal_nan=True):
            point = ", ".join(map(str, key))
            raise CatalogError(
                f"{path}:{row.line}:{required[0]} must begin a point given once; got ({point}) "
                f"again, with another time than on line {line}"
            )
    keys = list(seen)
    names = columns.all_keys
    return Points(
        path,
        {name: floats([key[i] for key in keys]) for i, name in enumerate(names)},
        floats([latency for _, (latency, _) in seen.values()]),
        floats([mfu for _, (_, mfu) in seen.values()]),
        {
            name: [str(key[i]) for key in keys]
            for i, name in enumerate(columns.formats, len(names))
        },
    )


def _names_in_file(path: Path, columns: Columns) -> dict[str, str]:
    """Return what each column is called in this file."""
    try:
        with path.open(encoding="utf-8-sig") as handle:
            header = {name.strip() for name in handle.readline().split(",")}
    except (OSError, UnicodeDecodeError):
        header = set()
    names = {name: name for name in (*columns.all_keys, *columns.formats, _LATENCY, _MFU)}
    return names | {name: alias for alias, name in columns.aliases.items() if alias in header}


def _whole(row: CsvRow, column: str, least: int, default: int | None = None) -> int:
    if default is not None and column not in row.values:
        return default
    constraint = f"a whole number >= {least}"
    try:
        value = float(row.values.get(column, ""))
    except ValueError:
        raise row.error(column, constraint) from None
    if not (least <= value <= _LARGEST_WHOLE) or value != int(value):
        raise row.error(column, constraint)
    return int(value)


def _time(row: CsvRow, *, has_mfu: bool) -> tuple[float, float]:
    """Return (latency, MFU) of a row, NaN where not given."""
    latency = mfu = np.nan
    if row.values.get(_LATENCY):
        latency = row.number(_LATENCY, "us", positive=True)
    if has_mfu and row.values.get(_MFU):
        mfu = row.number(_MFU, "a share of the peak")
        if np.isnan(latency) and mfu > 1:
            raise row.error(_MFU, "a share of the peak from 0 to 1, as no latency_us is given")
        if np.isnan(latency) and mfu == 0:
            mfu = np.nan
    return latency, mfu
