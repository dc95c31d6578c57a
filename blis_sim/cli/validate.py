"""``blis validate``: measured serving runs against what is simulated for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blis_sim.cli.common import EXIT_FAILED, note, out
from blis_sim.cli.flag_command import (
    STDOUT,
    flags_of_run,
    make_command,
    own_options,
    read_settings,
    write_text,
)
from blis_sim.cli.flags import Flag, Typed
from blis_sim.cli.progress import counting_bar
from blis_sim.cli.study_flags import run_switches
from blis_sim.cli.values import at_least_one
from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    from blis_sim.validation.experiment import Case
    from blis_sim.validation.shipped import LeftOut
    from blis_sim.validation.validate import Validation

HELP = "Simulate measured serving runs and compare."
_MORE = """
Without arguments the measurements that are shipped are compared: bench_data/serving/runs.csv.
--silicon compares servers at fixed concurrency instead: AIConfigurator's sample, five rows of each
model, GPU and tensor parallel size, or as many as --sample says.

--runs takes a table with a row for each stage of a measured run, as docs/validation.md describes
it, or BLIS's combined_ground_truth.json. Each experiment is simulated with its own deployment and
load, and every row is compared; one that cannot be simulated has an error of 100 % and a reason.

--requests takes the requests of one run with the times at which each was answered, and compares
them one by one; so are those that a table names in requests_file.
"""
_PANEL = "What to compare"
_GROUND_TRUTH = ".json"


def validate_flags() -> tuple[Flag, ...]:
    """Return the flags of the command."""
    rows = (
        ("--runs", "FILE", "Measured runs: .csv, or BLIS's ground truth: .json."),
        ("--requests", "FILE", "Served requests, .jsonl, with a _meta.json beside."),
        (
            "--hardware",
            "NAME",
            "GPU where the files name none (BLIS's ground truth: H100).",
        ),
        ("--role", "LIST", "Only experiments with one of these roles: calib,dev."),
        ("--engine", "NAME", "Only runs of this engine, simulated as if it were vLLM."),
    )
    own = tuple(
        Flag(
            names=(name, "--gpu") if name == "--hardware" else (name,),
            metavar=metavar,
            panel=_PANEL,
            help=text,
        )
        for name, metavar, text in rows
    )
    numbers = (
        ("--seeds", "", "Simulations of each run, predictions are their mean (1)."),
        ("--jobs", "-j", "Simulations at a time (one per processor)."),
    )
    silicon = Flag(
        names=("--silicon",), panel=_PANEL, help="The shipped sample of servers at fixed load."
    )
    sample = Flag(
        names=("--sample",),
        metavar="N|all",
        panel=_PANEL,
        parse=_sample,
        help="Experiments of each model, GPU and TP (all; with --silicon 5).",
    )
    counted = tuple(
        Flag(
            names=tuple(filter(None, (name, short))),
            metavar="N",
            panel=_PANEL,
            parse=at_least_one,
            help=text,
        )
        for name, short, text in numbers
    )
    results = Flag(
        names=("--json",),
        metavar="FILE|-",
        panel="Results",
        help="Write every error and the summary; - prints them instead of the table.",
    )
    bands = Flag(
        names=("--bands-out",),
        metavar="FILE",
        panel="Results",
        help="Write the errors by kind of deployment: configs/error_bands.yaml of the package is "
        "what results say of their accuracy. Entries of other latency models are kept.",
    )
    of_run = flags_of_run(("--latency-model", "--set"))
    own = (*own, silicon, sample)
    return (*own, *counted, *of_run, results, bands, *run_switches())


def _sample(typed: str, flag: str) -> int | None:
    if typed == "all":
        return None
    if not typed.isdecimal() or not int(typed):
        raise ConfigError(f"{flag} must be a whole number >= 1, or all; got {typed!r}")
    return int(typed)


def make_validate(arguments: Sequence[str]) -> Callable[..., None]:
    """Return the command for a normalised command line."""
    return make_command("blis validate", f"{HELP}\n\n{_MORE}", validate_flags(), arguments, _run)


def _run(typed: Sequence[Typed]) -> None:
    import typer

    from blis_sim.capacity.executor import default_jobs
    from blis_sim.catalog.locate import shown_path
    from blis_sim.report.validate_json import validation_json
    from blis_sim.report.validate_table import render_validation
    from blis_sim.validation.validate import validate

    options, which = _with_shipped(own_options(typed))
    settings = read_settings(options)
    settings.apply(typed)
    settings.build()  # what is wrong with the flags is wrong everywhere
    overrides = _overrides(typed, options)
    _check_output(options)
    cases, left_out = list(_cases(options)), _left_out(options)
    is_quiet = "--quiet" in options
    if which and not is_quiet:
        note(which)
    num_seeds = options.get("--seeds", 1)
    with counting_bar("simulations", is_wanted=not is_quiet) as on_case:
        validation = validate(
            cases,
            overrides=overrides,
            num_seeds=num_seeds,
            num_jobs=options["--jobs"] if "--jobs" in options else default_jobs(),
            on_case=on_case,
        )
    asked = {
        "runs": shown_path(options["--runs"]) if "--runs" in options else None,
        "requests": options.get("--requests"),
        "role": options.get("--role"),
        "engine": options.get("--engine"),
        "sample": options.get("--sample"),
        "num_seeds": num_seeds,
        "overrides": list(overrides),
    }
    if "--json" in options:
        write_text(validation_json(validation, asked, left_out), options["--json"])
    if "--bands-out" in options:
        _write_bands(validation, options, overrides)
    if not is_quiet and options.get("--json") != STDOUT:
        out(render_validation(validation, left_out, has_rows="--silicon" not in options))
    is_done = any(not row.reason for row in validation.rows)
    if not is_done and not any(each.answer.times for each in validation.requests):
        if "--json" in options:
            note("nothing could be simulated; the reasons are in the JSON")
        raise typer.Exit(EXIT_FAILED)


def _with_shipped(options: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return options that name shipped runs where nothing else is named, and words about it."""
    from blis_sim.validation.selection import VLLM
    from blis_sim.validation.shipped import RUNS, SILICON, SILICON_SAMPLE, shipped

    given = next((flag for flag in ("--runs", "--requests") if flag in options), None)
    if "--silicon" in options:
        if given is not None:
            raise ConfigError(f"--silicon must not be given with {given}; got both; leave one out")
        chosen = {"--engine": VLLM, "--sample": SILICON_SAMPLE, **options}
        each = f"{chosen['--sample']} of each model, GPU and TP"
        words = f"{SILICON}: {each} are compared; --sample all compares every row"
        return (
            {**chosen, "--runs": str(shipped(SILICON))},
            words if chosen["--sample"] is not None else "",
        )
    if given is not None:
        return options, ""
    words = f"no --runs: the shipped measurements are compared, {RUNS}"
    return {**options, "--runs": str(shipped(RUNS))}, words


def _left_out(options: Mapping[str, Any]) -> tuple[LeftOut, ...]:
    """Return what the shipped sample was made without, of the engine that is compared."""
    from blis_sim.validation.selection import engine_key
    from blis_sim.validation.shipped import SILICON_LEFT_OUT, read_left_out, shipped

    if "--silicon" not in options:
        return ()
    rows = read_left_out(shipped(SILICON_LEFT_OUT))
    return tuple(row for row in rows if engine_key(row.engine) == options["--engine"].lower())


def _overrides(typed: Sequence[Typed], options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what holds for all simulations: flags of a setting win over ``--set``."""
    flags = [f"{flag.path}={value}" for flag, _, value in typed if flag.path]
    return (*options.get("--set", ()), *flags)


def _cases(options: Mapping[str, Any]) -> Iterator[Case]:
    """Yield what is simulated: all experiments of the table, and those served requests."""
    cases = _of_roles(_of_table(options), options)
    served = _located(options["--requests"]) if "--requests" in options else None
    names_them = served is not None and any(
        case.requests is not None and case.requests.path.resolve() == served.resolve()
        for case in cases
    )
    yield from cases
    if served is not None and not names_them:
        yield _served(served, options)
    elif "--hardware" in options and Path(options["--runs"]).suffix.lower() != _GROUND_TRUTH:
        raise ConfigError(
            "--hardware must not be given with a table of runs, which names it; got "
            f"{options['--hardware']}; use --set hardware={options['--hardware']} for another one"
        )


def _of_table(options: Mapping[str, Any]) -> list[Case]:
    from blis_sim.validation.ground_truth import GPU, read_ground_truth
    from blis_sim.validation.read_runs import read_runs
    from blis_sim.validation.selection import cases_of

    is_table = "--runs" in options and Path(options["--runs"]).suffix.lower() != _GROUND_TRUTH
    for flag in ("--engine", "--sample"):
        if flag in options and not is_table:
            raise ConfigError(
                f"{flag} must be given with a table of runs, --runs FILE.csv; got {options[flag]}"
            )
    if "--runs" not in options:
        return []
    path = _located(options["--runs"])
    if not is_table:
        return list(read_ground_truth(path, options.get("--hardware", GPU)))
    return cases_of(read_runs(path), options.get("--engine"), options.get("--sample"))


def _of_roles(cases: list[Case], options: Mapping[str, Any]) -> list[Case]:
    if "--role" not in options:
        return cases
    if "--runs" not in options:
        raise ConfigError(f"--role must be given with --runs; got {options['--role']} alone")
    wanted = {word.strip() for word in options["--role"].split(",")}
    known = dict.fromkeys(case.role for case in cases if case.role)
    for role in sorted(wanted - set(known)):
        raise ConfigError(
            f"--role must be of roles in the table ({', '.join(known) or 'none'}); got {role!r}"
        )
    return [case for case in cases if case.role in wanted]


def _served(path: Path, options: Mapping[str, Any]) -> Case:
    from blis_sim.validation.served_run import read_served_run

    if "--hardware" not in options:
        raise ConfigError(
            "--hardware must be given with --requests that no table of --runs names: the files "
            "say nothing of the GPU; got none"
        )
    return read_served_run(path, options["--hardware"])


def _located(path: str) -> Path:
    from blis_sim.catalog.locate import locate

    located = locate(Path(path))
    if located.notice:
        note(located.notice)
    return located.path


def _check_output(options: Mapping[str, Any]) -> None:
    """Check, before all simulations, where is written."""
    from blis_sim.atomic import check_output_path
    from blis_sim.catalog.error_bands import read_error_bands

    for output in ("--json", "--bands-out"):
        path = options.get(output)
        if path is None or (output == "--json" and path == STDOUT):
            continue
        check_output_path(path, output)
        for flag in ("--runs", "--requests", "--json"):
            is_other = flag != output and flag in options
            if is_other and Path(options[flag]).resolve() == Path(path).resolve():
                raise ConfigError(f"{output} must be another file than that of {flag}; got {path}")
    if "--bands-out" in options and Path(options["--bands-out"]).is_file():
        read_error_bands(Path(options["--bands-out"]))


def _write_bands(
    validation: Validation, options: Mapping[str, Any], overrides: Sequence[str]
) -> None:
    """Write the error bands; rows that were not simulated have none."""
    from blis_sim.validation.bands import error_bands, write_error_bands

    named = [Path(options[flag]).name for flag in ("--runs", "--requests") if flag in options]
    role = [f"role {options['--role']}"] if "--role" in options else []
    bands = error_bands(validation.rows, ", ".join([*named, *role, *overrides]))
    if not bands:
        note(f"--bands-out: {options['--bands-out']} is left as it was: no row was simulated")
        return
    write_error_bands(options["--bands-out"], bands)
