"""``blis compare``: deployments side by side under one load."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blis_sim.cli.common import EXIT_FAILED, note
from blis_sim.cli.flag_command import (
    STDOUT,
    make_command,
    own_options,
    write_text,
)
from blis_sim.cli.flags import Flag, Typed
from blis_sim.cli.run_flags import run_flags
from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    from blis_sim.capacity.compared import ComparedRun
    from blis_sim.cli.settings import Settings
    from blis_sim.config.scenario import Scenario

HELP = "Simulate several deployments under the same load and put them side by side."
_MORE = """
Every combination of --models, --gpus, --tp and --rate is simulated, with the same requests at
each rate. Lists have commas between their values, or the flag is repeated.

Or whole scenarios: several --scenario, each with every value of --vary, and with --colocated
those with prefill and decode pools beside the same GPUs without these roles.

One that cannot run, because its weights do not fit or its heads cannot be split, is a row with
the reason. All other flags are those of blis run and hold for all.
"""
_PANEL = "What to compare"
_LISTS = {
    "--models": ("model", "--model"),
    "--gpus": ("hardware", "--gpu --hardware"),
    "--tp": ("engine.tensor_parallel_size", "--tensor-parallel-size -tp"),
    "--rate": ("workload.request_rate", "--request-rate"),
}
_HELP_OF = {
    "--models": "Models, long or short names (Llama-3.1-8B-Instruct).",
    "--gpus": "GPUs (H100).",
    "--tp": "GPUs that share every layer (1).",
    "--rate": "Requests per second (1; of a trace its own).",
}
_SEVERAL = "Several are compared, each named by its file."
_NOT_OF_RUN = ("--dry-run",)


def compare_flags() -> tuple[Flag, ...]:
    """Return the flags of the command."""
    lists = tuple(
        Flag(
            names=(name, *others.split()),
            path=path,
            metavar="LIST",
            panel=_PANEL,
            is_repeatable=True,
            help=_HELP_OF[name],
            apply=_chosen_apart,
        )
        for name, (path, others) in _LISTS.items()
    )
    results = (
        ("--json", "FILE|-", "Write JSON; - prints it instead of the table."),
        ("--csv", "FILE|-", "Write one line per deployment; - prints it instead of the table."),
        ("--plot", "FILE", "Draw a figure: .png or .svg."),
    )
    files = tuple(
        Flag(names=(name,), metavar=metavar, panel="Results", help=text)
        for name, metavar, text in results
    )
    return (*lists, *_whole_scenarios(), *_shared_flags(), *files, *_switches())


def _whole_scenarios() -> tuple[Flag, ...]:
    return (
        Flag(
            names=("--vary",),
            metavar="A.B=V1,V2",
            panel=_PANEL,
            help="One setting by its path and its values: a row for each, e.g. "
            "cluster.routing=round-robin,least-loaded.",
        ),
        Flag(
            names=("--colocated",),
            panel=_PANEL,
            help="Add the same GPUs without prefill and decode pools.",
        ),
    )


def _chosen_apart(settings: Settings, value: str, name: str) -> None:
    """Set nothing: every combination takes one value of each list."""


def _shared_flags() -> Iterator[Flag]:
    """Yield the flags of ``blis run`` that hold for all deployments."""
    paths = [path for path, _ in _LISTS.values()]
    for flag in run_flags():
        is_of_result = flag.panel == "Results" and flag.names[0] != "--goodput"
        if flag.names[0] == "--scenario":
            yield replace(flag, is_repeatable=True, help=f"{flag.help} {_SEVERAL}")
        elif not is_of_result and flag.path not in paths and flag.names[0] not in _NOT_OF_RUN:
            yield flag


def _switches() -> Iterator[Flag]:
    yield from (flag for flag in run_flags() if flag.names[0] in {"--quiet", "--debug", "--help"})


def make_compare(arguments: Sequence[str]) -> Callable[..., None]:
    """Return the command for a normalised command line."""
    return make_command("blis compare", f"{HELP}\n\n{_MORE}", compare_flags(), arguments, _run)


def _run(typed: Sequence[Typed]) -> None:
    import typer

    from blis_sim.capacity.compare import compare
    from blis_sim.cli.compare_candidates import read_candidates
    from blis_sim.cli.progress import progress_bar

    options = own_options(typed)
    asked = read_candidates(typed, options)
    _check_outputs(options, [candidate.scenario for candidate in asked.candidates])
    is_quiet = "--quiet" in options
    rows = compare(asked.candidates, lambda total: progress_bar(total, is_wanted=not is_quiet))
    _write(rows, options)
    if not is_quiet:
        for notice in asked.notices:
            note(notice)
    _print(rows, options, is_quiet=is_quiet)
    if not any(row.is_simulated for row in rows):
        raise typer.Exit(EXIT_FAILED)


def _inputs(options: Mapping[str, Any], scenarios: Sequence[Scenario]) -> Iterator[Path]:
    """Yield the files that are read."""
    yield from (Path(file) for file in options.get("--scenario", ()))
    if "--policy-config" in options:
        yield Path(options["--policy-config"])
    for scenario in scenarios:
        if scenario.workload.trace is not None:
            yield scenario.workload.trace
        pools = scenario.cluster.pools or ()
        for latency in (scenario.latency, *(pool.latency for pool in pools)):
            files = (latency.coefficients_file, latency.hardware_config)
            yield from (file for file in files if file is not None)


def _check_outputs(options: Mapping[str, Any], scenarios: Sequence[Scenario]) -> None:
    """Check, before the first run, that everything can be written."""
    from blis_sim.atomic import check_output_path
    from blis_sim.report.workload_plot import check_plot_path

    taken = {path.resolve(): "an input" for path in _inputs(options, scenarios)}
    to_stdout = [flag for flag in ("--json", "--csv") if options.get(flag) == STDOUT]
    if len(to_stdout) > 1:
        raise ConfigError("--csv must not be - together with --json -; give one of them a file")
    for flag, check in (
        ("--json", check_output_path),
        ("--csv", check_output_path),
        ("--plot", check_plot_path),
    ):
        if flag not in options or flag in to_stdout:
            continue
        check(options[flag], flag)
        path = Path(options[flag]).resolve()
        if path in taken:
            raise ConfigError(
                f"{flag} must be another file than {taken[path]}; got {options[flag]}"
            )
        taken[path] = f"that of {flag}"


def _write(rows: Sequence[ComparedRun], options: Mapping[str, Any]) -> None:
    from blis_sim.report.compare_files import comparison_csv, comparison_json

    if options.get("--json", STDOUT) != STDOUT:
        write_text(comparison_json(rows), options["--json"])
    if options.get("--csv", STDOUT) != STDOUT:
        write_text(comparison_csv(rows), options["--csv"])
    if "--plot" in options:
        from blis_sim.report.compare_plot import compare_plot, draw_comparison

        draw_comparison(compare_plot(rows), options["--plot"])


def _print(rows: Sequence[ComparedRun], options: Mapping[str, Any], *, is_quiet: bool) -> None:
    from blis_sim.report.compare_files import comparison_csv, comparison_json
    from blis_sim.report.compare_names import notes_of
    from blis_sim.report.compare_table import render_comparison

    document = ""
    if options.get("--json") == STDOUT:
        document = comparison_json(rows)
    elif options.get("--csv") == STDOUT:
        document = comparison_csv(rows)
    if document:
        for text in () if is_quiet else notes_of(rows):
            note(text)
        write_text(document, STDOUT)
    elif not is_quiet:
        write_text(render_comparison(rows), STDOUT)
