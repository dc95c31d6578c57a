"""``blis roofline``: where prefill and decode stand against the roofs of GPUs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from blis_sim.cli import roofline_formats, roofline_measure, roofline_ncu
from blis_sim.cli.common import note
from blis_sim.cli.flag_command import (
    STDOUT,
    flags_of_run,
    make_command,
    own_options,
    write_text,
)
from blis_sim.cli.flags import Flag, Typed, signature
from blis_sim.cli.values import Parser, at_least_one, duration_s, text, token_count
from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    from blis_sim.report.roofline_steps import RooflineReport, StepRow
    from blis_sim.roofline.analyzer import RooflineAnalyzer
    from blis_sim.roofline.ceilings import Ceilings

HELP = "Show where a workload stands against the roofs of GPUs, and what would help."
_MORE = """
Prefill computes --seq-len new tokens of each request of a batch, with nothing in the KV cache;
decode one new token of each, with --seq-len tokens in it. FLOPs and bytes are those of the kernels
of blis step, times are the least there can be. Lists have commas; 128:8192:x2 stands for 128, 256,
..., 8192. --request 1024:256 analyses whole requests and says what would help. blis roofline ncu
reads what Nsight Compute measured, blis roofline measure measures a machine; docs/roofline.md has
the formulas and their limits.
"""
_OF_RUN = ("--debug", "--help")
_FILES = ("--csv", "--json", "--plot")
_MOST_ROWS = 10_000


def roofline_flags() -> tuple[Flag, ...]:
    """Return the flags of the command without a subcommand."""
    what = "Deployment"
    work, results = "Work", "Results"
    rows: tuple[tuple[str, str, str, str, Parser], ...] = (
        (what, "--model", "NAME", "Model, see 'blis models' (llama-3.1-8b).", text),
        (what, "--gpu --hardware", "LIST", "GPUs, see --gpus (H100).", text),
        (what, "--machine", "FILE", "A machine: profile of blis roofline measure.", text),
        (
            what,
            "--tensor-parallel-size --tp -tp",
            "N",
            "GPUs that share layers (1).",
            at_least_one,
        ),
        (what, "--dtype", "DTYPE", "bf16, fp16, fp32, or a method of --quantization.", text),
        (what, "--quantization -q", "METHOD", "Of the weights: fp8, int8, awq, ...", text),
        (what, "--kv-cache-dtype", "auto|fp8", "Of the KV cache (auto = the model's).", text),
        (what, "--model-config-folder", "FOLDER", "Folder with a config.json of your own.", text),
        (what, "--hardware-config", "FILE", "Hardware file of your own, JSON.", text),
        (work, "--phase", "LIST", "prefill, decode (both).", text),
        (work, "--seq-len", "LIST", "Tokens of a prompt, or in the cache (1024).", token_list),
        (work, "--batch", "LIST", "Requests at once (1).", token_list),
        (work, "--request", "PROMPT:OUTPUT", "Whole requests instead of single steps.", text),
        (work, "--measured-time", "TIME", "How long --request took: 850ms, 3.2s.", duration_s),
        (work, "--points", "FILE", "Measured points: CSV or JSON of name, oi, tflops.", text),
        (results, "--csv", "FILE|-", "Write a line per row (or kernel); - prints it.", text),
        (results, "--json", "FILE|-", "Write JSON; - prints it instead of the table.", text),
        (results, "--plot", "FILE", "Draw the roofline: .png, .svg or .html.", text),
    )
    switches = (
        ("--kernels", "Show every kernel."),
        ("--gpus", "List GPUs with their roofs and ridge points, and nothing else."),
    )
    return (
        *(
            Flag(names=tuple(names.split()), metavar=metavar, panel=panel, parse=parse, help=about)
            for panel, names, metavar, about, parse in rows
        ),
        *(Flag(names=(name,), panel=results, help=about) for name, about in switches),
        *flags_of_run(_OF_RUN),
    )


def make_roofline(arguments: Sequence[str]) -> typer.Typer:
    """Return the group for a normalised command line; without a subcommand it analyses."""
    group = typer.Typer(help=HELP, rich_markup_mode=None)
    about = f"{HELP}\n\n{_MORE}"
    analyse = make_command("blis roofline", about, roofline_flags(), arguments, _run)
    group.callback(invoke_without_command=True, add_help_option=False)(_unless_sub(analyse))
    # Subcommands are registered here, one line each:
    group.command("ncu", help=roofline_ncu.HELP)(roofline_ncu.ncu)
    group.command("formats", help=roofline_formats.HELP)(roofline_formats.formats)
    group.command("measure", help=roofline_measure.HELP)(roofline_measure.measure)
    return group


def _unless_sub(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command as the callback of a group: it does nothing before a subcommand."""

    def callback(context: typer.Context, **given: Any) -> None:
        if context.invoked_subcommand is None:
            command(**given)
        elif any(given.values()):
            name = context.invoked_subcommand
            raise ConfigError(f"flags must come after {name}; try blis roofline {name} --help")

    first = inspect.Parameter(
        "context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
    )
    options = signature(roofline_flags()).parameters.values()
    vars(callback)["__signature__"] = inspect.Signature([first, *options])
    return callback


def token_list(typed: str, flag: str) -> list[int]:
    """Return whole numbers, each once: ``1,8,64``, ``8k``, ``128:8192:x2``, ``512:2048:512``."""
    found: dict[int, None] = {}
    for part in typed.split(","):
        for value in _numbers(part.strip(), flag):
            found[value] = None
    return list(found)


def _numbers(part: str, flag: str) -> list[int]:
    if ":" not in part:
        return [token_count(part, flag)]
    from blis_sim.capacity.grid import parse_axis

    values = parse_axis(f"n={part}", flag).values
    if not all(isinstance(value, int) for value in values):
        raise ConfigError(
            f"{flag} must be whole numbers with commas between them, or FROM:TO:STEP or "
            f"FROM:TO:xFACTOR; got {part!r}"
        )
    return list(values)


def _run(typed: Sequence[Typed]) -> None:
    options = own_options(typed)
    if "--gpus" in options:
        _list_gpus(options)
        return
    _check_outputs(options)
    report = _report(options)
    if "--plot" in options:
        _draw(report, options["--plot"])

    from blis_sim.report.roofline_steps import roofline_csv, roofline_json
    from blis_sim.report.roofline_text import render_roofline

    if "--csv" in options:
        write_text(roofline_csv(report), options["--csv"])
    if "--json" in options:
        write_text(roofline_json(report), options["--json"])
    if STDOUT not in {options.get("--csv"), options.get("--json")}:
        write_text(render_roofline(report), STDOUT)
        return
    for notice in report.notices:
        note(notice)


def _list_gpus(options: Mapping[str, Any]) -> None:
    from blis_sim.catalog.gpus import list_gpus, load_gpu
    from blis_sim.report.roofline_text import render_gpus

    asked = [name.strip() for name in options.get("--gpu", "").split(",") if name.strip()]
    write_text(render_gpus([load_gpu(name) for name in asked] or list_gpus()), STDOUT)


def _check_outputs(options: Mapping[str, Any]) -> None:
    from blis_sim.atomic import check_output_path
    from blis_sim.report.roofline_plot_file import check_roofline_path

    to_stdout = [flag for flag in ("--csv", "--json") if options.get(flag) == STDOUT]
    if len(to_stdout) > 1:
        raise ConfigError("--csv must not be - together with --json -; give one of them a file")
    paths: dict[Path, str] = {}
    if "--points" in options:
        paths[Path(options["--points"]).resolve()] = "--points"
    for flag in _FILES:
        if flag not in options or flag in to_stdout:
            continue
        check = check_roofline_path if flag == "--plot" else check_output_path
        check(options[flag], flag)
        target = Path(options[flag]).resolve()
        if target in paths:
            raise ConfigError(f"{flag} must be another file than {paths[target]}; got {target}")
        paths[target] = flag


def _report(options: Mapping[str, Any]) -> RooflineReport:
    from blis_sim.catalog.locate import locate
    from blis_sim.report.roofline_steps import RooflineReport, StepRow
    from blis_sim.roofline.points_file import read_points_file

    analyzers = _analyzers(options)
    batches = options.get("--batch", [1])
    analyses = []
    if "--request" in options:
        prompt, output = _request(options)
        time_s = options.get("--measured-time")
        pairs = [
            (analyzer, analyzer.analyze(prompt, output, batch, time_s))
            for analyzer in analyzers
            for batch in batches
        ]
        analyses = [analysis for _, analysis in pairs]
        rows = [StepRow(analyzer, step) for analyzer, each in pairs for step in each.phases]
    elif "--measured-time" in options:
        raise ConfigError("--measured-time must come with --request PROMPT:OUTPUT; it is missing")
    else:
        rows = list(_rows(analyzers, options))
    machine = _machine(options)
    ceilings = [analyzer.ceilings for analyzer in analyzers]
    notices = list(_notices(rows))
    if machine is not None:
        ceilings[-1] = machine
        notices.append(
            f"{machine.machine}: 16-bit products count at its peak of {machine.peak().name}"
        )
    points = []
    if "--points" in options:
        points = read_points_file(locate(Path(options["--points"])).path)
    return RooflineReport(
        rows=tuple(rows),
        analyses=tuple(analyses),
        points=tuple(points),
        ceilings=tuple(ceilings),
        has_kernels="--kernels" in options,
        notices=tuple(notices),
    )


def _analyzers(options: Mapping[str, Any]) -> list[RooflineAnalyzer]:
    from blis_sim.catalog.gpus import load_gpu
    from blis_sim.catalog.locate import locate
    from blis_sim.catalog.models import load_model
    from blis_sim.config.scenario import DEFAULT_HARDWARE, DEFAULT_MODEL
    from blis_sim.roofline.analyzer import RooflineAnalyzer
    from blis_sim.roofline.specs import gpu_of_machine

    def path(flag: str) -> Path | None:
        return locate(Path(options[flag])).path if flag in options else None

    machine = _machine(options)
    default = DEFAULT_HARDWARE if machine is None else None
    listed = options.get("--gpu", default)
    names = [] if listed is None else [name.strip() for name in listed.split(",")]
    if not all(names):
        raise ConfigError(f"--gpu must be names with commas; got {options['--gpu']!r}")
    model = load_model(options.get("--model", DEFAULT_MODEL), path("--model-config-folder"))
    gpus = [load_gpu(name, path("--hardware-config")) for name in names]
    if machine is not None:
        gpus.append(gpu_of_machine(machine))
    return [
        RooflineAnalyzer(
            gpu,
            model,
            tp=options.get("--tensor-parallel-size", 1),
            dtype=options.get("--dtype"),
            quantization=options.get("--quantization"),
            kv_cache_dtype=options.get("--kv-cache-dtype", "auto"),
        )
        for gpu in {gpu.name: gpu for gpu in gpus}.values()
    ]


def _machine(options: Mapping[str, Any]) -> Ceilings | None:
    if "--machine" not in options:
        return None
    from blis_sim.catalog.locate import locate
    from blis_sim.roofline.machine_profile import read_profile

    return read_profile(locate(Path(options["--machine"])).path)


def _rows(analyzers: Sequence[RooflineAnalyzer], options: Mapping[str, Any]) -> Iterator[StepRow]:
    from blis_sim.report.roofline_steps import StepRow
    from blis_sim.roofline.analyzer import phase_of
    from blis_sim.roofline.totals import Phase

    listed = options.get("--phase")
    phases = list(Phase) if listed is None else [phase_of(each) for each in listed.split(",")]
    lengths, batches = options.get("--seq-len", [1024]), options.get("--batch", [1])
    num_rows = len(analyzers) * len(phases) * len(lengths) * len(batches)
    if num_rows > _MOST_ROWS:
        raise ConfigError(
            f"--phase, --seq-len and --batch must give at most {_MOST_ROWS:,} rows; got "
            f"{num_rows:,}"
        )
    for analyzer in analyzers:
        for phase in dict.fromkeys(phases):
            for length in lengths:
                for batch in batches:
                    yield StepRow(analyzer, analyzer.step(phase, length, batch))


def _request(options: Mapping[str, Any]) -> tuple[int, int]:
    for flag in ("--phase", "--seq-len"):
        if flag in options:
            raise ConfigError(f"{flag} must not come with --request, which has both phases")
    prompt, colon, output = options["--request"].partition(":")
    if not colon:
        raise ConfigError(
            "--request must be tokens of the prompt and of the answer, such as 1024:256; got "
            f"{options['--request']!r}"
        )
    return token_count(prompt, "--request"), token_count(output, "--request")


def _notices(rows: Sequence[StepRow]) -> Iterator[str]:
    too_large: dict[str, int] = {}
    for row in rows:
        if row.fits is False:
            name = row.analyzer.gpu.name
            too_large[name] = too_large.get(name, 0) + 1
    for name, count in too_large.items():
        own = sum(row.analyzer.gpu.name == name for row in rows)
        yield (
            f"weights and KV cache of {count} of {own} rows do not fit into 90 % of the memory "
            f"of {name}"
        )
    unknown = [row.analyzer.gpu.name for row in rows if row.step.link_s is None]
    for name in dict.fromkeys(unknown):
        yield f"communication is left out: {name} has no NVLink, or it is not known"
    limit = rows[0].analyzer.model.max_position_embeddings
    longest = max(row.step.seq_len for row in rows)
    if longest > limit:
        yield (f"a sequence of {longest:,} tokens is longer than the model's limit of {limit:,}")


def _draw(report: RooflineReport, path: str) -> None:
    from blis_sim.report.plots.roofline import point_marks, roofline_plot, step_marks
    from blis_sim.report.roofline_plot_file import write_plot

    names = [ceilings.machine for ceilings in report.ceilings]
    marks = []
    for row in report.rows:
        name = row.analyzer.gpu.name
        shown, place = (name, names.index(name)) if len(names) > 1 else ("", None)
        marks += step_marks(row.step, shown, place, has_kernels=report.has_kernels)
    marks += point_marks(report.points)
    title = f"{report.rows[0].analyzer.model.name} on {', '.join(names)}"
    write_plot(roofline_plot(report.ceilings, marks), title, path, "--plot")
