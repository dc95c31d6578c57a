"""``blis compare``: deployments side by side under one load."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blis_sim.cli.common import EXIT_FAILED, note
from blis_sim.cli.flag_command import (
    STDOUT,
    make_command,
    own_options,
    read_settings,
    write_text,
)
from blis_sim.cli.flags import Flag, Typed
from blis_sim.cli.run_flags import run_flags
from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    from blis_sim.capacity.compare import ComparedRun
    from blis_sim.cli.settings import Settings
    from blis_sim.config.scenario import Scenario

HELP = "Simulate several deployments under the same load and put them side by side."
_MORE = """
Every combination of --models, --gpus, --tp and --rate is simulated, with the same requests at
each rate. Lists have commas between their values, or the flag is repeated. One that cannot run,
because its weights do not fit or its heads cannot be split, is a row with the reason. All other
flags are those of blis run and hold for all.
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
_NOT_OF_RUN = ("--dry-run",)
_MOST_RUNS = 10_000


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
    return (*lists, *_shared_flags(), *files, *_switches())


def _chosen_apart(settings: Settings, value: str, name: str) -> None:
    """Set nothing: every combination takes one value of each list."""


def _shared_flags() -> Iterator[Flag]:
    """Yield the flags of ``blis run`` that hold for all deployments."""
    paths = [path for path, _ in _LISTS.values()]
    for flag in run_flags():
        is_of_result = flag.panel == "Results" and flag.names[0] != "--goodput"
        if not is_of_result and flag.path not in paths and flag.names[0] not in _NOT_OF_RUN:
            yield flag


def _switches() -> Iterator[Flag]:
    yield from (flag for flag in run_flags() if flag.names[0] in {"--quiet", "--debug", "--help"})


def make_compare(arguments: Sequence[str]) -> Callable[..., None]:
    """Return the command for a normalised command line."""
    return make_command("blis compare", f"{HELP}\n\n{_MORE}", compare_flags(), arguments, _run)


def _run(typed: Sequence[Typed]) -> None:
    import typer

    from blis_sim.capacity.compare import compare
    from blis_sim.cli.progress import progress_bar

    options = own_options(typed)
    scenarios, notices = _scenarios(typed, options)
    _check_outputs(options, scenarios[0])
    is_quiet = "--quiet" in options
    rows = compare(scenarios, lambda total: progress_bar(total, is_wanted=not is_quiet))
    _write(rows, options, scenarios[0].seed)
    if not is_quiet:
        for notice in notices:
            note(notice)
    _print(rows, options, scenarios[0].seed, is_quiet=is_quiet)
    if not any(row.is_simulated for row in rows):
        raise typer.Exit(EXIT_FAILED)


def _scenarios(
    typed: Sequence[Typed], options: dict[str, Any]
) -> tuple[list[Scenario], list[str]]:
    """Return every combination, the rates outermost, and how flags were read."""
    choices = [_list_of(typed, name) for name in ("--models", "--rate", "--gpus", "--tp")]
    num_runs = 1
    for choice in choices:
        num_runs *= len(choice)
    if num_runs > _MOST_RUNS:
        raise ConfigError(
            f"--models, --gpus, --tp and --rate must be at most {_MOST_RUNS:,} combinations; got "
            f"{num_runs:,}"
        )
    scenarios: list[Scenario] = []
    notices: dict[str, None] = {}
    for combination in product(*choices):
        settings = read_settings(options)
        settings.apply(typed)
        for chosen in combination:
            if chosen is not None:
                settings.draft.set(chosen.flag.path, chosen.value, chosen.name)
        scenarios.append(settings.build())
        notices |= dict.fromkeys(settings.notices)
    return scenarios, list(notices)


def _list_of(typed: Sequence[Typed], name: str) -> Sequence[Typed | None]:
    """Return the values of a list, each once; None alone when it was not given."""
    found: dict[str, Typed] = {}
    for flag, spelling, value in typed:
        if flag.names[0] != name:
            continue
        parts = [part.strip() for part in value.split(",")]
        if not all(parts):
            raise ConfigError(f"{spelling} must be values with commas between them; got {value!r}")
        for part in parts:
            found.setdefault(part.casefold(), Typed(flag, spelling, part))
    return list(found.values()) or [None]


def _check_outputs(options: Mapping[str, Any], scenario: Scenario) -> None:
    """Check, before the first run, that everything can be written."""
    from blis_sim.atomic import check_output_path
    from blis_sim.report.workload_plot import check_plot_path

    inputs = (scenario.workload.trace, options.get("--scenario"))
    taken = {Path(path).resolve(): "an input" for path in inputs if path is not None}
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


def _write(rows: Sequence[ComparedRun], options: Mapping[str, Any], seed: int) -> None:
    from blis_sim.report.compare_table import comparison_csv, comparison_json

    if options.get("--json", STDOUT) != STDOUT:
        write_text(comparison_json(rows, seed), options["--json"])
    if options.get("--csv", STDOUT) != STDOUT:
        write_text(comparison_csv(rows), options["--csv"])
    if "--plot" in options:
        from blis_sim.report.compare_plot import compare_plot, draw_comparison

        draw_comparison(compare_plot(rows), options["--plot"])


def _print(
    rows: Sequence[ComparedRun], options: Mapping[str, Any], seed: int, *, is_quiet: bool
) -> None:
    from blis_sim.report.compare_table import (
        comparison_csv,
        comparison_json,
        notes_of,
        render_comparison,
    )

    document = ""
    if options.get("--json") == STDOUT:
        document = comparison_json(rows, seed)
    elif options.get("--csv") == STDOUT:
        document = comparison_csv(rows)
    if document:
        for text in () if is_quiet else notes_of(rows):
            note(text)
        write_text(document, STDOUT)
    elif not is_quiet:
        write_text(render_comparison(rows, seed), STDOUT)
