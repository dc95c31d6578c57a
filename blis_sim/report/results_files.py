"""``blis results``: what a store holds, as JSON, CSV and Parquet."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blis_sim.atomic import atomic_write, open_text
from blis_sim.errors import MissingExtraError
from blis_sim.metrics.definitions import metric_definitions
from blis_sim.metrics.plain import to_plain
from blis_sim.report.columns_file import SUFFIXES, check_table_path
from blis_sim.report.results_table import UNFINISHED
from blis_sim.report.sweep_files import outcome_record, records_csv
from blis_sim.version import package_version

if TYPE_CHECKING:
    from blis_sim.capacity.study import StoredPoint, Study


def studies_json(
    studies: Sequence[Study], tallies: Mapping[int, Mapping[str, int]], version: str
) -> str:
    """Return all studies without their points as strict JSON text."""
    return _json(
        {
            "code_version": version,
            "studies": [
                {
                    **_study(study),
                    "is_current": study.code_version == version,
                    "points": tallies.get(study.number, {}),
                }
                for study in studies
            ],
        }
    )


def study_json(study: Study) -> str:
    """Return a study with its points as strict JSON text."""
    points = [point_dict(point) for point in study.points]
    return _json({**_study(study), "points": points, "metric_definitions": metric_definitions()})


def point_json(point: StoredPoint) -> str:
    """Return a point as strict JSON text."""
    return _json({**point_dict(point), "metric_definitions": metric_definitions()})


def _study(study: Study) -> dict[str, Any]:
    return {
        "number": study.number,
        "kind": study.kind,
        "question": study.name,
        "asked": study.asked,
        "answer": study.answer,
        "created_at": study.created_at,
        "updated_at": study.updated_at,
        "code_version": study.code_version,
    }


def point_dict(point: StoredPoint) -> dict[str, Any]:
    """Return everything about a point as plain values."""
    outcome = {"status": UNFINISHED} if point.outcome is None else point.outcome.to_json_dict()
    return {
        "key": point.key,
        "labels": point.labels,
        **outcome,
        "code_version": point.code_version or None,
        "finished_at": point.finished_at or None,
        "scenario": point.scenario,
    }


def _json(document: Mapping[str, Any]) -> str:
    whole = {"blis_sim_version": package_version(), **document}
    return json.dumps(to_plain(whole), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def study_records(study: Study) -> list[dict[str, Any]]:
    """Return a line per point: labels, status, deployment, all metrics, and its key."""
    return [
        outcome_record(point.labels, point.outcome)
        | {
            "key": point.key,
            "code_version": point.code_version or None,
            "finished_at": point.finished_at or None,
        }
        for point in study.points
    ]


def write_records(records: Sequence[Mapping[str, Any]], path: Path, flag: str) -> None:
    """Write a line per record, whole or not at all; the suffix of the path says the format.

    Raises
    ------
    ConfigError
        The suffix is unknown or the file cannot be written.
    MissingExtraError
        Parquet was asked for and pyarrow is not installed.
    """
    check_table_path(path, flag)
    name = path.name.lower()
    suffix = next(each for each in SUFFIXES if name.endswith(each))
    with atomic_write(path) as temporary:
        if suffix == ".parquet":
            _write_parquet(records, temporary)
            return
        with open_text(temporary, compressed=suffix == ".csv.gz") as stream:
            stream.write(records_csv(records))


def _write_parquet(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet", "writing Parquet") from error
    names = dict.fromkeys(name for record in records for name in record)
    columns = {name: _column([record.get(name) for record in records]) for name in names}
    pq.write_table(pa.table(columns), path)


def _column(values: list[Any]) -> list[Any]:
    """Return values of one type: those of a column with several become text."""
    values = [_INFINITE.get(value, value) if isinstance(value, str) else value for value in values]
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) <= 1:
        return values
    one: type = float if kinds == {int, float} else str
    return [None if value is None else one(value) for value in values]


_INFINITE = {"inf": math.inf, "-inf": -math.inf}
"""How JSON, and so a store, writes them."""
