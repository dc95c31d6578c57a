"""``blis sweep``: every combination of some settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blis_sim.cli.common import EXIT_FAILED, note, out
from blis_sim.cli.flag_command import make_command, own_options, read_settings, write_text
from blis_sim.cli.flags import Flag, Typed
from blis_sim.cli.study_flags import (
    backend_of,
    dry_run_flag,
    opened_store,
    run_switches,
    shared_flags,
    store_path,
    study_flags,
)
from blis_sim.cli.study_outputs import check_outputs, prints_table
from blis_sim.cli.values import at_least_one
from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    from blis_sim.capacity.slo import Limit
    from blis_sim.capacity.study import Point
    from blis_sim.capacity.sweep import SweepRow

HELP = "Simulate every combination of some settings, and keep the results."
_MORE = """
--grid takes any setting of a scenario by its path, or as its flag is called:
--grid hardware=H100,L40S --grid engine.max_num_seqs=64:512:x2 --grid rate=2:40:2. Files of
records as for vllm bench sweep go to --serve-params and --bench-params.

Results are kept in a store as they come in. Stop it whenever you like, even with kill -9: the
same command goes on with what is left. Points that cannot run are results with a reason.
"""
_PANEL = "What to sweep"


def sweep_flags() -> tuple[Flag, ...]:
    """Return the flags of the command."""
    own = (
        Flag(
            names=("--grid",),
            metavar="A.B=V1,V2",
            panel=_PANEL,
            is_repeatable=True,
            help="A setting and its values, or FROM:TO:STEP, or FROM:TO:xFACTOR; repeat it for "
            "more settings.",
        ),
        Flag(
            names=("--serve-params",),
            metavar="FILE",
            panel=_PANEL,
            help="Records of flags of the server, YAML or JSON, as for vllm bench sweep.",
        ),
        Flag(
            names=("--bench-params",),
            metavar="FILE",
            panel=_PANEL,
            help="Records of flags of the load; every pair of both files is simulated.",
        ),
        Flag(
            names=("--replications", "--num-runs"),
            metavar="N",
            panel=_PANEL,
            parse=at_least_one,
            help="Runs of each combination, with seeds one after the other (1).",
        ),
        Flag(
            names=("--slo",),
            metavar="LIMITS",
            panel=_PANEL,
            help="Mark what keeps these limits: p99_ttft_ms:500,p95_itl_ms:50.",
        ),
    )
    results = (
        Flag(
            names=("--metrics",),
            metavar="LIST",
            panel="Results",
            help="Columns of the table, by the names of docs/metrics.md.",
        ),
        Flag(names=("--csv",), metavar="FILE|-", panel="Results", help="Write a line per point."),
        Flag(names=("--json",), metavar="FILE|-", panel="Results", help="Write all results."),
    )
    dry = dry_run_flag("Show the points and stop.")
    return (*own, *study_flags(), dry, *shared_flags(), *results, *run_switches())


def make_sweep(arguments: Sequence[str]) -> Callable[..., None]:
    """Return the command for a normalised command line."""
    return make_command("blis sweep", f"{HELP}\n\n{_MORE}", sweep_flags(), arguments, _run)


def _run(typed: Sequence[Typed]) -> None:
    import typer

    from blis_sim.capacity.names import check_names
    from blis_sim.capacity.study import OutcomeStatus
    from blis_sim.cli.sweep_points import read_axes, read_records, sweep_points
    from blis_sim.report.sweep_table import check_metrics, render_sweep

    options = own_options(typed)
    is_quiet = "--quiet" in options
    limits = _limits(options)
    metrics = check_metrics(options.get("--metrics", ""))
    files = [(f"--{kind}-params", options.get(f"--{kind}-params")) for kind in ("serve", "bench")]
    records = [read_records(path, flag) for flag, path in files]
    axes = read_axes(options.get("--grid", ()))
    if not axes and not any(path for _, path in files) and "--replications" not in options:
        raise ConfigError(
            "blis sweep must have something to vary; got nothing; give --grid, such as "
            "--grid rate=2:40:2, --serve-params or --replications"
        )
    num_runs = options.get("--replications", 1)
    pair = (records[0], records[1])
    points, notices = sweep_points(read_settings(options), typed, axes, pair, num_runs)
    check_names(point.scenario for point in points)
    path = store_path(options)
    check_outputs(options, path)
    for notice in () if is_quiet else notices:
        note(notice)
    if "--dry-run" in options:
        _print_plan(points, path)
        return
    rows = _simulated(points, options, limits, path)
    _write(rows, options)
    if prints_table(options):
        out(render_sweep(rows, limits, metrics))
    outcomes = [outcome for row in rows for outcome in row.outcomes]
    num_failed = sum(outcome.status is OutcomeStatus.FAILED for outcome in outcomes)
    if num_failed:
        note(f"{num_failed} of {len(outcomes)} points failed: the same command tries them again")
    if num_failed or not any(row.is_done for row in rows):
        raise typer.Exit(EXIT_FAILED)


def _limits(options: Mapping[str, Any]) -> tuple[Limit, ...]:
    from blis_sim.capacity.slo import parse_slo

    return parse_slo(options["--slo"]) if "--slo" in options else ()


def _simulated(
    points: Sequence[Point],
    options: Mapping[str, Any],
    limits: Sequence[Limit],
    path: Path | None,
) -> list[SweepRow]:
    from blis_sim.capacity.sweep import run_sweep
    from blis_sim.cli.study_progress import Tally, study_progress

    is_quiet, tally = "--quiet" in options, Tally()
    backend = backend_of(options)
    words = " x ".join(dict.fromkeys(label for point in points for label in point.labels))
    with (
        opened_store(path, is_quiet=is_quiet) as store,
        study_progress(len(points), tally, is_wanted=not is_quiet) as on_outcome,
    ):
        rows = run_sweep(
            points,
            store=store,
            backend=backend,
            name=f"sweep over {words}",
            asked=_asked(points, limits),
            limits=limits,
            on_outcome=on_outcome,
        )
    if not is_quiet:
        where = "" if path is None else f"; kept in {path}: blis report {path} --out report.html"
        note(f"{len(points)} points: {tally.words()}{where}")
    return rows


def _asked(points: Sequence[Point], limits: Sequence[Limit]) -> dict[str, Any]:
    """Return the question: the points and what they have in common."""
    from dataclasses import asdict

    from blis_sim.capacity.point_key import given_settings

    values: dict[str, dict[str, None]] = {}
    for point in points:
        for path, value in point.labels.items():
            values.setdefault(path, {})[json.dumps(value)] = None
    return {
        "first": given_settings(points[0].scenario),
        "grid": {path: [json.loads(text) for text in each] for path, each in values.items()},
        "num_points": len(points),
        "limits": [asdict(limit) for limit in limits],
    }


def _print_plan(points: Sequence[Point], path: Path | None) -> None:
    """Print what would be simulated."""
    from blis_sim.capacity.executor import Backend, Executor
    from blis_sim.capacity.store import ResultStore
    from blis_sim.capacity.sweep import words_of

    num_there = 0
    if path is not None and path.is_file():
        with ResultStore(path, is_read_only=True) as store:
            keys = Executor(store, Backend()).keys(points)
            num_there = len(store.finished(list(dict.fromkeys(keys))))
    out(
        f"{len(points)} points, {num_there} of them in {path}" if path else f"{len(points)} points"
    )
    shown = points if len(points) <= 12 else [*points[:8], *points[-3:]]
    for number, point in enumerate(shown):
        if number == 8 and len(points) > 12:
            out(f"  ... {len(points) - 11} more ...")
        out(f"  {words_of(point.labels)}")


def _write(rows: Sequence[SweepRow], options: Mapping[str, Any]) -> None:
    from blis_sim.report.sweep_files import sweep_csv, sweep_json

    if "--json" in options:
        write_text(sweep_json(rows), options["--json"])
    if "--csv" in options:
        write_text(sweep_csv(rows), options["--csv"])
