"""``blis convert``: a trace in another format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blis_sim.cli.common import EXIT_FAILED, error_line, note, out
from blis_sim.cli.values import duration_s
from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    from blis_sim.config.scenario import Scenario
    from blis_sim.workload.base import Workload

HELP = (
    "Write a trace in another format; notes say what that format cannot hold. Formats to read: "
    "azure, mooncake, burstgpt, sharegpt, vllm, guidellm, aiperf, blis, tracev2, csv, parquet; "
    "to write: csv, parquet, azure, burstgpt, mooncake, blis, tracev2."
)


def convert(  # noqa: PLR0913 (one parameter per flag)
    *,
    source: Annotated[Path, typer.Argument(metavar="IN", help="Trace to read.")],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="File to write; .csv, .csv.gz, .parquet, .jsonl (mooncake) or .yaml (tracev2) "
            "names the format.",
        ),
    ],
    to_format: Annotated[
        str, typer.Option("--to", metavar="FORMAT", help="Format to write (by the ending of OUT).")
    ] = "",
    from_format: Annotated[
        str, typer.Option("--from", metavar="FORMAT", help="Format to read (recognised).")
    ] = "",
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave malformed rows out and count them.")
    ] = False,
    start: Annotated[
        str,
        typer.Option("--start", metavar="TIME", help="Begin here; it becomes time 0: 10m, 90s."),
    ] = "",
    duration: Annotated[
        str, typer.Option("--duration", metavar="TIME", help="Take so much: 1h, 30m.")
    ] = "",
    num_requests: Annotated[
        int | None,
        typer.Option("--num-requests", "--num-prompts", metavar="N", help="Take the first N."),
    ] = None,
    request_rate: Annotated[
        float | None,
        typer.Option(
            "--request-rate",
            "--rate",
            metavar="RATE",
            help="Stretch the gaps to this mean rate, requests per second; inf = all at once.",
        ),
    ] = None,
    rate_scale: Annotated[
        float | None,
        typer.Option("--rate-scale", metavar="FACTOR", help="Multiply the rate."),
    ] = None,
    tokens_per_word: Annotated[
        float | None,
        typer.Option(
            "--tokens-per-word", metavar="RATIO", help="For texts: tokens per word (1.3)."
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="If anything is lost, write nothing and exit with 1.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Replace an existing file.")
    ] = False,
) -> None:
    """Read, say what is lost, write, and print one line."""
    _check_is_trace(source)
    scenario = _settings(
        {
            "--from": ("trace_format", from_format or None),
            "--skip-bad-rows": ("skip_bad_rows", skip_bad_rows or None),
            "--start": ("start_s", duration_s(start, "--start") if start else None),
            "--duration": ("duration_s", duration_s(duration, "--duration") if duration else None),
            "--num-requests": ("num_requests", num_requests),
            "--request-rate": ("request_rate", request_rate),
            "--rate-scale": ("rate_scale", rate_scale),
            "--tokens-per-word": ("tokens_per_word", tokens_per_word),
        },
        source,
    )
    from blis_sim.workload.stream import open_workload
    from blis_sim.workload.writing.plan import choose_writer, plan_trace

    # The files are checked first: reading a large trace takes a while.
    writer = choose_writer(target, to_format or None)
    _check_files(source, writer.files(target), force=force)
    workload = open_workload(scenario.workload, scenario.seed)
    plan = plan_trace(workload, target, writer.name)
    losses = [*plan.losses, *_measurements(workload, writer.name)]
    for text in (*workload.notices, *losses, *plan.remarks):
        note(text)
    if strict and losses:
        error_line(
            f"--strict: OUT must hold all of IN; got {writer.title}, which cannot, as the notes "
            f"say; {target} is not written; choose another format"
        )
        raise typer.Exit(EXIT_FAILED)
    plan.write()
    written = f"{workload.description}; written to {' and '.join(map(str, plan.files))}"
    # Nothing but the trace goes to a pipe it is written to.
    report = note if target.exists() and not target.is_file() else out
    report(f"{written} ({writer.title})")


def _settings(flags: dict[str, tuple[str, Any]], source: Path) -> Scenario:
    """Return the scenario that replays the trace as the flags say."""
    from blis_sim.config.draft import ScenarioDraft

    draft = ScenarioDraft()
    draft.set("workload.trace", str(source), "IN")
    for flag, (name, value) in flags.items():
        if value is not None:
            draft.set(f"workload.{name}", value, flag)
    return draft.build()


def _measurements(workload: Workload, name: str) -> list[str]:
    """Return the sentence about measured latencies, if the trace has some."""
    from blis_sim.workload.cells import ABSENT
    from blis_sim.workload.replay import TraceWorkload
    from blis_sim.workload.writing.survey import count_of

    if not isinstance(workload, TraceWorkload):
        return []
    columns = (workload.columns.measured_ttft_us, workload.columns.measured_e2e_us)
    number = max(
        (int((column != ABSENT).sum()) for column in columns if column is not None), default=0
    )
    if not number:
        return []
    return [f"{name}: measured latencies of {count_of(number)} are not kept"]


def _check_is_trace(source: Path) -> None:
    """Raise when the file is a workload spec, not a trace."""
    from blis_sim.workload.trace_sample import look_at

    if source.suffix.lower() in {".yaml", ".yml"} and look_at(source).kind != "yaml":
        raise ConfigError(
            f"IN must be a trace; got {source}, a YAML file without trace_version; a workload "
            "spec becomes a trace with 'blis workload generate'"
        )


def _check_files(source: Path, targets: Sequence[Path], *, force: bool) -> None:
    """Raise when a file to be written is one that is read, exists, or cannot be written."""
    from blis_sim.atomic import check_output_path

    # A BLIS TraceV2 is read from two files.
    pair = {source.with_suffix(ending) for ending in (".csv", ".csv.gz", ".yaml")}
    read = {source, *(pair if source.suffix.lower() in {".yaml", ".yml"} else ())}
    resolved = {path.resolve() for path in read}
    for target in targets:
        check_output_path(target, "OUT")
        if target.resolve() in resolved:
            raise ConfigError(
                f"OUT must be another file than the input {target}; it would be overwritten"
            )
        if target.is_file() and not force:
            raise ConfigError(
                f"OUT must be a new file; got {target}, which exists; --force replaces it"
            )
