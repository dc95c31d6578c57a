"""``blis tune``: which settings serve best."""

from __future__ import annotations

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
from blis_sim.cli.values import at_least_one
from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    from blis_sim.capacity.grid import Axis
    from blis_sim.capacity.slo import Limit
    from blis_sim.capacity.tune_objective import Objective
    from blis_sim.capacity.tune_space import SearchSpace
    from blis_sim.capacity.tune_trial import Tuning

HELP = "Search for the settings of the engines that serve best."
_MORE = """
--search takes settings and their values as --grid of blis sweep does, --search pd_ratio splits
the instances between prefill and decode pools. Without it the search is over max_num_seqs
32..1024, max_num_batched_tokens 1024..16384, tensor_parallel_size 1..8, and pd_ratio where there
are such pools; what a flag sets stays as it is.

The first trial is the scenario as given. All simulations are kept in a store: the same search
goes on where it was stopped, also with more --trials.
"""
_PANEL = "What to search"
_OBJECTIVE = "max-rate"
_SET_BY_SEARCH = ("workload.request_rate", "workload.num_requests", "workload.duration_s")


def tune_flags() -> tuple[Flag, ...]:
    """Return the flags of the command."""
    own = (
        Flag(
            names=("--search",),
            metavar="A.B=V1,V2",
            panel=_PANEL,
            is_repeatable=True,
            help="A setting and its values, or FROM:TO:STEP, or FROM:TO:xFACTOR; or pd_ratio; "
            "repeat it for more settings.",
        ),
        Flag(
            names=("--objective",),
            metavar="NAME",
            panel=_PANEL,
            help="max-rate: highest rate within --slo per GPU, or per USD between kinds of GPUs; "
            "at the given load, per GPU or token: cost, throughput, or goodput (max-rate).",
        ),
        Flag(
            names=("--slo",),
            metavar="LIMITS",
            panel=_PANEL,
            help="Limits to keep: p99_ttft_ms:500,p95_itl_ms:50.",
        ),
        Flag(
            names=("--trials",),
            metavar="N",
            panel=_PANEL,
            parse=at_least_one,
            help="Combinations to try at most, the scenario as given among them (40).",
        ),
    )
    results = (
        Flag(names=("--csv",), metavar="FILE|-", panel="Results", help="Write a line per trial."),
        Flag(names=("--json",), metavar="FILE|-", panel="Results", help="Write everything."),
    )
    dry = dry_run_flag("Show what is searched and stop.")
    return (*own, *study_flags(), dry, *shared_flags(), *results, *run_switches())


def make_tune(arguments: Sequence[str]) -> Callable[..., None]:
    """Return the command for a normalised command line."""
    return make_command("blis tune", f"{HELP}\n\n{_MORE}", tune_flags(), arguments, _run)


def _run(typed: Sequence[Typed]) -> None:
    import typer

    from blis_sim.capacity.tune import DEFAULT_TRIALS
    from blis_sim.capacity.tune_sampler import check_optuna
    from blis_sim.cli.study_outputs import check_outputs, prints_table
    from blis_sim.report.tune_table import render_space, render_tuning

    check_optuna()
    options = own_options(typed)
    limits = _limits(options)
    space, objective, notices = _question(typed, options, limits)
    path = store_path(options)
    check_outputs(options, path)
    num_trials = options.get("--trials", DEFAULT_TRIALS)
    for notice in () if "--quiet" in options else notices:
        note(notice)
    if "--dry-run" in options:
        out(render_space(space, objective, limits, num_trials))
        return
    tuning = _tuned(space, objective, limits, num_trials, options)
    _write(tuning, options)
    if prints_table(options):
        out(render_tuning(tuning))
    if tuning.best is None:
        raise typer.Exit(EXIT_FAILED)


def _limits(options: Mapping[str, Any]) -> tuple[Limit, ...]:
    from blis_sim.capacity.slo import parse_slo

    return parse_slo(options["--slo"]) if "--slo" in options else ()


def _question(
    typed: Sequence[Typed], options: Mapping[str, Any], limits: Sequence[Limit]
) -> tuple[SearchSpace, Objective, list[str]]:
    """Return what to search, for what, and how flags were read."""
    from blis_sim.capacity.tune_objective import make_objective, objective_named
    from blis_sim.capacity.tune_space import search_space

    name = objective_named(options.get("--objective", _OBJECTIVE), "--objective")
    axes, splits = _axes(options.get("--search", ()))
    settings = read_settings(options)
    settings.apply(typed)
    space = search_space(settings.draft, axes, splits=splits, where="--search")
    objective = make_objective(name, space, limits, "--objective")
    for path in _SET_BY_SEARCH if objective.is_rate else ():
        flag = settings.draft.overridden(path)
        if flag is not None:
            raise ConfigError(
                f"{flag[0]} must not be given with --objective {name}, which looks for the rate; "
                f"got {flag[1]}; leave it out, or choose --objective cost or throughput"
            )
    return space, objective, settings.notices


def _axes(texts: Sequence[str]) -> tuple[list[Axis], bool]:
    """Return the settings of ``--search``, and whether it names the split of instances."""
    from blis_sim.capacity.grid import parse_axis
    from blis_sim.capacity.tune_space import PD_RATIO
    from blis_sim.cli.sweep_points import setting_path

    axes, splits = [], False
    for text in texts:
        name, equals, _ = text.partition("=")
        if name.strip().replace("-", "_") != PD_RATIO:
            axes.append(parse_axis(text, "--search", setting_path))
            continue
        if equals or splits:
            raise ConfigError(
                f"--search {PD_RATIO} must be given once, without values: every split of the "
                f"instances is one; got {text!r}"
            )
        splits = True
    return axes, splits


def _tuned(
    space: SearchSpace,
    objective: Objective,
    limits: tuple[Limit, ...],
    num_trials: int,
    options: Mapping[str, Any],
) -> Tuning:
    from blis_sim.capacity.tune import Tuner
    from blis_sim.cli.study_progress import Tally, study_progress

    is_quiet, tally, path = "--quiet" in options, Tally(), store_path(options)
    backend = backend_of(options)
    total = None if objective.is_rate else min(num_trials, space.size + 1)
    with (
        opened_store(path, is_quiet=is_quiet) as store,
        study_progress(total, tally, is_wanted=not is_quiet) as on_outcome,
    ):
        tuner = Tuner(space, objective, limits, store, backend, on_outcome)
        tuning = tuner.run(num_trials)
    if not is_quiet:
        note(_done(tuning, num_trials, tally.words(), path))
    return tuning


def _done(tuning: Tuning, num_trials: int, words: str, path: Path | None) -> str:
    """Return how much was done in words."""
    number = len(tuning.trials)
    whole = ", all there are" if number < num_trials else ""
    where = "" if path is None else f"; kept in {path}: blis report {path} --out report.html"
    return f"{number} trials{whole}: {words}{where}"


def _write(tuning: Tuning, options: Mapping[str, Any]) -> None:
    from blis_sim.report.tune_files import tune_csv, tune_json

    if "--json" in options:
        write_text(tune_json(tuning), options["--json"])
    if "--csv" in options:
        write_text(tune_csv(tuning), options["--csv"])
