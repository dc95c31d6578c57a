"""``blis workload``: what a load is made of, without simulating anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blis_sim.cli.common import note, out
from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    from blis_sim.cli.load_source import OpenedLoad
    from blis_sim.workload.describe import WorkloadFigures

HELP = "Describe, generate and import loads."
DESCRIBE_HELP = "Print the figures of a trace or of a workload spec."
GENERATE_HELP = "Write the requests of a workload spec to a trace."

STDOUT = "-"
DESCRIBED_REQUESTS = 100_000
"""Of a load without an end."""

Source = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE",
        help="A trace in any format that can be replayed, a workload spec or a scenario (YAML).",
        show_default=False,
    ),
]
NumRequests = Annotated[
    str, typer.Option("--num-requests", "--num-prompts", metavar="N", help="At most so many.")
]
Start = Annotated[
    str, typer.Option("--start", metavar="TIME", help="Begin: 30s, 2m; it becomes time 0.")
]
Duration = Annotated[
    str, typer.Option("--duration", metavar="TIME", help="Only arrivals within it: 10m.")
]
RequestRate = Annotated[
    str,
    typer.Option("--request-rate", "--rate", metavar="RATE", help="Stretch to this mean rate."),
]
RateScale = Annotated[
    str, typer.Option("--rate-scale", metavar="FACTOR", help="Multiply the rate of a trace.")
]
TraceFormat = Annotated[
    str, typer.Option("--trace-format", metavar="NAME", help="Format of a trace (recognised).")
]
TokensPerWord = Annotated[
    str,
    typer.Option("--tokens-per-word", metavar="FACTOR", help="For traces that hold text."),
]
SkipBadRows = Annotated[
    bool, typer.Option("--skip-bad-rows", help="Leave out malformed rows, and count them.")
]
Seed = Annotated[str, typer.Option("--seed", metavar="N", help="Seed of the draws (42).")]


def describe(  # noqa: PLR0913 (one parameter per flag)
    *,
    source: Source,
    num_requests: NumRequests = "",
    start: Start = "",
    duration: Duration = "",
    request_rate: RequestRate = "",
    rate_scale: RateScale = "",
    trace_format: TraceFormat = "",
    tokens_per_word: TokensPerWord = "",
    skip_bad_rows: SkipBadRows = False,
    seed: Seed = "",
    json: Annotated[
        str, typer.Option("--json", metavar="FILE", help="Write all figures as JSON; - = stdout.")
    ] = "",
    plot: Annotated[
        str, typer.Option("--plot", metavar="FILE", help="Draw a figure: .png or .svg.")
    ] = "",
) -> None:
    """Print a table, or JSON alone with ``--json -``."""
    from blis_sim.cli.load_source import open_source
    from blis_sim.workload.describe import describe as figures_of
    from blis_sim.workload.observed import observe

    _check_outputs(source, json, plot)
    given: dict[str, str | bool] = {
        "--num-requests": num_requests,
        "--start": start,
        "--duration": duration,
        "--request-rate": request_rate,
        "--rate-scale": rate_scale,
        "--trace-format": trace_format,
        "--tokens-per-word": tokens_per_word,
        "--skip-bad-rows": skip_bad_rows,
        "--seed": seed,
    }
    opened = open_source(source, given, num_if_endless=DESCRIBED_REQUESTS)
    stream = observe(opened.workload)
    figures = figures_of(stream)
    if plot:
        from blis_sim.report.workload_plot import draw_workload, workload_plot

        draw_workload(workload_plot(stream), opened.workload.description, plot)
    if json:
        _write_json(figures, opened, json)
    if json == STDOUT:
        for notice in opened.notices:
            note(notice)
    else:
        from blis_sim.report.workload_table import render_workload

        out(render_workload(figures, opened.workload.description, opened.notices))


def generate(
    *,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SPEC", help="A workload spec or a scenario (YAML).", show_default=False
        ),
    ],
    out_file: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The trace.")],
    to: Annotated[
        str,
        typer.Option("--to", metavar="FORMAT", help="Its format (by the ending of FILE)."),
    ] = "",
    num_requests: NumRequests = "",
    start: Start = "",
    duration: Duration = "",
    request_rate: RequestRate = "",
    seed: Seed = "",
) -> None:
    """Write the trace; what it cannot hold goes to stderr."""
    from blis_sim.cli.import_spec import check_out
    from blis_sim.cli.load_source import open_source
    from blis_sim.workload.writing.plan import choose_writer, plan_trace

    files = choose_writer(out_file, to or None).files(out_file)
    for file in files:
        check_out(file, [source])
    given: dict[str, str | bool] = {
        "--num-requests": num_requests,
        "--start": start,
        "--duration": duration,
        "--request-rate": request_rate,
        "--seed": seed,
    }
    opened = open_source(source, given)
    plan = plan_trace(opened.workload, out_file, to or None)
    plan.write()
    for notice in (*opened.notices, *plan.losses, *plan.remarks):
        note(notice)
    names = " and ".join(str(file) for file in plan.files)
    out(f"{names}: {plan.survey.num_requests:,} requests ({plan.writer.title})")


def _check_outputs(source: Path, json: str, plot: str) -> None:
    """Check, before the load is read, that everything can be written."""
    from blis_sim.atomic import check_output_path
    from blis_sim.report.workload_plot import check_plot_path

    taken = {source.resolve(): "the load itself"}
    for flag, name, check in (
        ("--json", json, check_output_path),
        ("--plot", plot, check_plot_path),
    ):
        if not name or (flag == "--json" and name == STDOUT):
            continue
        check(name, flag)
        path = Path(name).resolve()
        if path in taken:
            raise ConfigError(f"{flag} must be another file than {taken[path]}; got {name}")
        taken[path] = f"that of {flag}"


def _write_json(figures: WorkloadFigures, opened: OpenedLoad, file: str) -> None:
    from blis_sim.atomic import atomic_write
    from blis_sim.report.workload_table import workload_json

    workload = opened.workload
    source = {
        "description": workload.description,
        "file": None if workload.source is None else str(workload.source),
        "seed": opened.seed,
        "is_open": workload.is_open,
        "notices": list(opened.notices),
    }
    document = workload_json(figures, source)
    if file == STDOUT:
        out(document)
        return
    with atomic_write(file) as temporary:
        temporary.write_text(document + "\n", encoding="utf-8")
