"""``blis results``: look at what studies have left in a store, and take it elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blis_sim.cli.common import out
from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from blis_sim.capacity.slo import Limit
    from blis_sim.capacity.store import ResultStore
    from blis_sim.capacity.study import Study

HELP = "List, show and export the results of studies."
LIST_HELP = "Print a line for each study in a store."
SHOW_HELP = "Print a study, or everything about one of its points."
EXPORT_HELP = "Write a line per point of a study as CSV or Parquet."

_Store = Annotated[
    str, typer.Option("--store", metavar="FILE", help="Where results are kept (blis_study.db).")
]
_Study = Annotated[
    str, typer.Option("--study", metavar="N", help="Number of the study (the one run last).")
]
_Json = Annotated[
    str, typer.Option("--json", metavar="FILE|-", help="Write all of it as JSON; - = stdout.")
]


def list_studies(*, store: _Store = "", json: _Json = "") -> None:
    """Print a table, or JSON alone with ``--json -``."""
    from blis_sim.capacity.code_version import code_version
    from blis_sim.report.results_files import studies_json
    from blis_sim.report.results_table import render_studies

    _check_output(json, "--json", store)
    with _opened(store) as opened:
        studies, tallies = opened.studies(), opened.tallies()
    version = code_version()
    _print(
        lambda: studies_json(studies, tallies, version),
        lambda: render_studies(studies, tallies, version),
        json,
    )


def show(
    *,
    store: _Store = "",
    study: _Study = "",
    point: Annotated[
        str,
        typer.Option(
            "--point",
            metavar="KEY|LABELS",
            help="Show this point and its scenario: hardware=H100,request_rate=8, or the "
            "beginning of its key.",
        ),
    ] = "",
    metrics: Annotated[
        str,
        typer.Option(
            "--metrics",
            metavar="LIST",
            help="Columns of the table, by the names of docs/metrics.md.",
        ),
    ] = "",
    json: _Json = "",
) -> None:
    """Print a table, or YAML that ``blis run --scenario`` reads, or JSON with ``--json -``."""
    from blis_sim.report.results_files import point_json, study_json
    from blis_sim.report.results_table import render_point, render_study
    from blis_sim.report.sweep_table import check_metrics

    if metrics and (point or json == "-"):
        other = "--point" if point else "--json -"
        raise ConfigError(f"--metrics must not be given with {other}; leave it out")
    columns = check_metrics(metrics) if metrics else None
    _check_output(json, "--json", store)
    found = _study_of(store, study)
    if point:
        from blis_sim.capacity.lookup import find_point

        one = find_point(found, point)
        _print(lambda: point_json(one), lambda: render_point(found, one), json)
        return
    _print(lambda: study_json(found), lambda: render_study(found, _limits(found), columns), json)


def export(
    *,
    out_file: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help=".csv, .csv.gz or .parquet.")
    ],
    store: _Store = "",
    study: _Study = "",
) -> None:
    """Write the file, whole or not at all, and print a line."""
    from blis_sim.report.columns_file import check_table_path
    from blis_sim.report.results_files import study_records, write_records

    check_table_path(out_file, "--out")
    _check_output(str(out_file), "--out", store)
    found = _study_of(store, study)
    write_records(study_records(found), out_file, "--out")
    out(f"{out_file}: {len(found.points)} points of study {found.number} ({found.name})")


def _path(store: str) -> Path:
    from blis_sim.capacity.store import DEFAULT_PATH

    return Path(store) if store else DEFAULT_PATH


def _opened(store: str) -> ResultStore:
    from blis_sim.capacity.store import ResultStore

    return ResultStore(_path(store), is_read_only=True)


def _study_of(store: str, number: str) -> Study:
    from blis_sim.cli.values import count

    wanted = count(number, "--study") if number else None
    with _opened(store) as opened:
        return opened.study(wanted)


def _limits(study: Study) -> tuple[Limit, ...]:
    from blis_sim.capacity.slo import Limit

    asked: Any = study.asked.get("limits") or ()
    return tuple(Limit(each["metric"], each["value"]) for each in asked)


def _check_output(file: str, flag: str, store: str) -> None:
    from blis_sim.atomic import check_output_path

    if file in {"", "-"}:
        return
    check_output_path(file, flag)
    if Path(file).resolve() == _path(store).resolve():
        raise ConfigError(f"{flag} must be another file than the store; got {file}")


def _print(document: Callable[[], str], table: Callable[[], str], json: str) -> None:
    """Print a table, or JSON in its place; a file of JSON is written beside the table."""
    from blis_sim.cli.flag_command import STDOUT, write_text

    if json:
        write_text(document(), json)
    if json != STDOUT:
        out(table())
