"""``blis calibrate``: fit the latency model to measurements of the user's own server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blis_sim.cli.common import note, out
from blis_sim.cli.engine_flags import deployment_flags, engine_flags
from blis_sim.cli.flag_command import (
    SCENARIO_FILES,
    STDOUT,
    flags_of_run,
    make_command,
    own_options,
    read_settings,
    write_text,
)
from blis_sim.cli.flags import Flag, Typed
from blis_sim.cli.study_flags import run_switches
from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    from blis_sim.calibration.served import Served
    from blis_sim.calibration.steps import StepLog
    from blis_sim.calibration.target import Target
    from blis_sim.cli.settings import Settings

HELP = "Fit the latency model to measurements of your own server."
_MORE = """
The data are engine steps, or requests with the times at which each was answered: a result of
vllm bench serve --save-result --save-detailed, a CSV or a JSONL file. docs/calibration.md says
which columns. Steps are fitted as they are, requests through the simulator; with both, requests
say what steps cannot. --latency-model is blackbox (the default) or roofline-v2, whose host model
is fitted. blis run --coefficients FILE uses what is written.
"""
_PANEL = "Measurements"
_INPUTS = ("--data", "--steps", "--requests")
_MODEL_PATHS = ("latency.alpha", "latency.beta", "latency.coefficients_file")


def calibrate_flags() -> tuple[Flag, ...]:
    """Return the flags of the command."""
    rows = (
        ("--data", "FILE", "Steps or requests, told by the columns; may be repeated."),
        ("--steps", "FILE", "Engine steps, CSV or JSONL."),
        ("--requests", "FILE", "Requests: vllm bench serve JSON, CSV or JSONL."),
        ("--exp-id", "NAME", "Only steps with this exp_id."),
    )
    own = tuple(
        Flag(
            names=(name,),
            metavar=metavar,
            panel=_PANEL,
            help=text,
            is_repeatable=name == "--data",
        )
        for name, metavar, text in rows
    )
    share = Flag(
        names=("--hold-out",),
        metavar="SHARE",
        panel=_PANEL,
        parse=_share,
        help="Share of the data that is predicted and not fitted to, 0 to 0.5 (0.2).",
    )
    results = (
        Flag(
            names=("--out",),
            metavar="FILE",
            panel="Results",
            help="Coefficients: .csv for blackbox, .yaml for roofline-v2.",
        ),
        Flag(
            names=("--json",),
            metavar="FILE|-",
            panel="Results",
            help="Write coefficients, intervals and errors; - prints them instead of the table.",
        ),
    )
    model = flags_of_run(("--latency-model", "--bench-data-path"))
    files = flags_of_run(("--scenario", "--set"))
    return (
        *own,
        share,
        *results,
        *files,
        *deployment_flags(),
        *engine_flags(),
        *model,
        *run_switches(),
    )


def make_calibrate(arguments: Sequence[str]) -> Callable[..., None]:
    """Return the command for a normalised command line."""
    flags = calibrate_flags()
    return make_command("blis calibrate", f"{HELP}\n\n{_MORE}", flags, arguments, _run)


def _share(typed: str, flag: str) -> float:
    try:
        share = float(typed)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 0.5:
        raise ConfigError(f"{flag} must be a share from 0 to 0.5; got {typed}")
    return share


def _run(typed: Sequence[Typed]) -> None:
    options = own_options(typed)
    settings = read_settings(options)
    settings.apply(typed)
    if "--out" not in options:
        raise ConfigError("--out must name the coefficient file; got none; add --out FILE")
    if not any(flag in options for flag in _INPUTS):
        raise ConfigError(
            "--data must name the measurements; got none; add --data FILE (or --steps, --requests)"
        )
    written_to = Path(options["--out"])
    steps_file, requests_file = _sorted_inputs(options)
    _take_meta(settings, requests_file)
    notices = [*settings.notices, *_passed_over(settings)]
    _check_outputs(options, written_to, filter(None, (steps_file, requests_file)))
    if "--exp-id" in options and steps_file is None:
        raise ConfigError(
            f"--exp-id must be given with steps; got {options['--exp-id']} and requests alone"
        )

    from blis_sim.calibration.calibrate import DEFAULT_HOLD_OUT, calibrate
    from blis_sim.calibration.write import check_suffix, write_coefficients
    from blis_sim.report.calibration_table import calibration_json, render_calibration

    target = _target(settings)
    check_suffix(written_to, target.latency_model)
    calibration = calibrate(
        target,
        steps=_steps(steps_file, options),
        served=_served(requests_file),
        hold_out=options.get("--hold-out", DEFAULT_HOLD_OUT),
    )
    write_coefficients(calibration, written_to)
    if "--json" in options:
        write_text(calibration_json(calibration, written_to), options["--json"])
    is_quiet = "--quiet" in options
    if not is_quiet:
        for notice in notices:
            note(notice)
        if options.get("--json") != STDOUT:
            out(render_calibration(calibration, written_to))


def _target(settings: Settings) -> Target:
    from blis_sim.calibration.target import target_of

    return target_of(settings.build())


def _steps(path: Path | None, options: Mapping[str, Any]) -> StepLog | None:
    from blis_sim.calibration.steps import read_steps

    return None if path is None else read_steps(path, options.get("--exp-id"))


def _served(path: Path | None) -> Served | None:
    from blis_sim.calibration.served import read_served

    return None if path is None else read_served(path)


def _sorted_inputs(options: Mapping[str, Any]) -> tuple[Path | None, Path | None]:
    """Return the file of steps and the file of requests."""
    from blis_sim.calibration.served import DataKind, kind_of

    found: dict[DataKind, Path] = {}

    def add(kind: DataKind, path: Path) -> None:
        if kind in found:
            raise ConfigError(
                f"measurements must be one file of {kind}; got {found[kind]} and {path}: put them "
                "into one file"
            )
        found[kind] = path

    for file in options.get("--data", ()):
        path = _located(file)
        add(kind_of(path), path)
    for flag, kind in (("--steps", DataKind.STEPS), ("--requests", DataKind.REQUESTS)):
        if flag in options:
            add(kind, _located(options[flag]))
    return found.get(DataKind.STEPS), found.get(DataKind.REQUESTS)


def _located(path: str) -> Path:
    from blis_sim.catalog.locate import locate

    located = locate(Path(path))
    if located.notice:
        note(located.notice)
    return located.path


def _take_meta(settings: Settings, requests: Path | None) -> None:
    """Take what a file beside the requests says about the server, where no flag says it."""
    from blis_sim.validation.served_run import meta_path, read_served_run

    if requests is None or requests.suffix != ".jsonl" or not meta_path(requests).is_file():
        return
    hardware = settings.draft.get("hardware")
    case = read_served_run(requests, str(hardware or "H100"))
    if case.problem:
        raise ConfigError(case.problem)
    taken = {"model": case.settings["model"]}
    taken |= {f"engine.{name}": value for name, value in case.settings["engine"].items()}
    used = [path for path in taken if settings.draft.get(path) is None]
    for path in used:
        settings.draft.default(path, taken[path])
    if used:
        settings.notices.append(f"{meta_path(requests).name} says {', '.join(used)}")


def _passed_over(settings: Settings) -> list[str]:
    """Return notices about settings of a scenario that the measurements replace."""
    paths = [path for path in ("workload", *_MODEL_PATHS) if settings.draft.get(path)]
    return [f"{path} of the scenario is not used: it is measured here" for path in paths]


def _check_outputs(options: Mapping[str, Any], written_to: Path, inputs: Iterable[Path]) -> None:
    from blis_sim.atomic import check_output_path

    outputs = {"--out": str(written_to)}
    if options.get("--json", STDOUT) != STDOUT:
        outputs["--json"] = options["--json"]
    scenario = [Path(options[flag]) for flag in SCENARIO_FILES if flag in options]
    taken = {path.resolve(): "an input" for path in (*inputs, *scenario)}
    for flag, path in outputs.items():
        check_output_path(path, flag)
        place = Path(path).resolve()
        if place in taken:
            raise ConfigError(f"{flag} must be another file than {taken[place]}; got {path}")
        taken[place] = f"that of {flag}"
