"""Files of measured points: CSV with a header, or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from blis_sim.catalog.csv_table import CsvRow, read_csv
from blis_sim.errors import ConfigError
from blis_sim.roofline.ceilings import DRAM
from blis_sim.roofline.points import MeasuredPoint, read_points

_REQUIRED = ("name", "oi", "tflops")
_OPTIONAL = ("level", "duration_us")


def read_points_file(path: Path) -> list[MeasuredPoint]:
    """Return the points of a file, in its order, at least one.

    Parameters
    ----------
    path : Path
        ``*.json``: an array of objects, or an object with such an array as ``points``. Any
        other name: CSV with a header. Keys and columns are ``name``, ``oi`` (FLOP/byte, > 0),
        ``tflops`` (> 0) and, where known, ``level`` and ``duration_us``.

    Raises
    ------
    ConfigError, CatalogError
        The file cannot be read, or a point is wrong; the message says where.
    """
    is_json = path.suffix.lower() == ".json"
    points = _json_points(path) if is_json else list(map(_csv_point, _csv_rows(path)))
    if not points:
        raise ConfigError(f"{path} must hold at least one point; got none")
    return points


def _csv_rows(path: Path) -> list[CsvRow]:
    return read_csv(path, _REQUIRED, _OPTIONAL)


def _csv_point(row: CsvRow) -> MeasuredPoint:
    has_duration = bool(row.values.get("duration_us"))
    return MeasuredPoint(
        row.text("name"),
        row.number("oi", "FLOP/byte", positive=True),
        row.number("tflops", "TFLOP/s", positive=True),
        row.values.get("level") or DRAM,
        row.number("duration_us", "us", positive=True) if has_duration else None,
    )


def _json_points(path: Path) -> list[MeasuredPoint]:
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path} must be a readable file; got: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} must be valid JSON; got: {error}") from None
    entries = document.get("points") if isinstance(document, dict) else document
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(
            f"{path} must be an array of objects with {', '.join(_REQUIRED)}, or an object with "
            f"such an array as 'points'; got {type(document).__name__}"
        )
    try:
        return read_points(entries)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def points_csv(points: Iterable[MeasuredPoint]) -> str:
    """Return points as the CSV that ``read_points_file`` reads."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*_REQUIRED, *_OPTIONAL))
    for point in points:
        duration = "" if point.duration_us is None else f"{point.duration_us:.6g}"
        writer.writerow(
            (point.name, f"{point.oi:.6g}", f"{point.tflops:.6g}", point.level, duration)
        )
    return text.getvalue()


def points_json(points: Iterable[MeasuredPoint]) -> str:
    """Return points as the JSON that ``read_points_file`` reads."""
    return json.dumps({"points": [asdict(point) for point in points]}, indent=2)
