"""Where ``blis run`` writes: checked before the run, written after it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blis_sim.cli.timeline_output import timeline_path, timeline_settings
from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    from blis_sim.engine.resolved import Resolved
    from blis_sim.metrics.result import Result
    from blis_sim.metrics.timeline import TimelineSettings
    from blis_sim.report.columns_file import RunTable

STDOUT = "-"
_DEFAULT_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class Output:
    """One file to write."""

    flag: str
    path: Path
    write: Callable[[Result, Path], None]


@dataclass(frozen=True, slots=True)
class Outputs:
    """Everything a run writes.

    Attributes
    ----------
    files : list of Output
        In the order of writing.
    prints_json : bool
        Whether stdout holds JSON alone.
    detailed : bool
        Whether the JSON has arrays with one entry per request.
    timeseries_interval_s : float or None
        How often to sample; None = not at all.
    records_decisions : bool
        Whether every decision of the gateway is kept.
    timeline : TimelineSettings or None
        Which part of the run is logged for a timeline; None = nothing is.
    has_roofline : bool
        Whether the work of all steps is counted.
    """

    files: list[Output] = field(default_factory=list)
    prints_json: bool = False
    detailed: bool = False
    timeseries_interval_s: float | None = None
    records_decisions: bool = False
    timeline: TimelineSettings | None = None
    has_roofline: bool = False

    def check_inputs(self, inputs: Iterable[Path]) -> None:
        """Raise ConfigError where a file to write is one that is read."""
        read = {path.resolve() for path in inputs}
        for output in self.files:
            if output.path.resolve() in read:
                raise ConfigError(
                    f"{output.flag} must be another file than the input {output.path}; it would "
                    "be overwritten"
                )

    def write(self, result: Result) -> None:
        """Write all files, each whole or not at all."""
        for output in self.files:
            output.write(result, output.path)


def plan_outputs(options: Mapping[str, Any], resolved: Resolved) -> Outputs:
    """Check every output path before the run and return what to write.

    Parameters
    ----------
    options : mapping
        Flags of the command by their names, parsed; absent ones are missing.
    resolved : Resolved
        What will be simulated: it names the file of ``--save-result``.

    Raises
    ------
    ConfigError
        A path cannot be written, two outputs are one file, or a flag lacks the one it
        belongs to.
    MissingExtraError
        A format needs an extra that is not installed.
    """
    _check_companions(options)
    if "--decisions-out" in options and not resolved.pools:
        raise ConfigError(
            "--decisions-out must be given for a cluster; got one instance and no gateway, where "
            "nothing is decided; leave it out or add --num-instances"
        )
    detailed = "--save-detailed" in options
    files = [*_json_files(options, resolved, detailed), *_table_files(options)]
    files += _report_files(options, resolved)
    files += (Output("--timeline-out", p, _write_timeline) for p in timeline_path(options))
    _check_distinct(files)
    return Outputs(
        files,
        prints_json=options.get("--json") == STDOUT,
        detailed=detailed,
        timeseries_interval_s=_interval_s(options, resolved),
        records_decisions="--decisions-out" in options,
        timeline=timeline_settings(options, resolved),
        has_roofline="--roofline" in options,
    )


def _check_companions(options: Mapping[str, Any]) -> None:
    for flag, companions in (
        ("--timeseries-interval", ("--timeseries-out", "--report")),
        ("--result-dir", ("--save-result",)),
        ("--result-filename", ("--save-result",)),
        ("--save-detailed", ("--save-result", "--json")),
        ("--timeline-from", ("--timeline-out",)),
        ("--timeline-duration", ("--timeline-out",)),
        ("--jobs", ("--replications",)),
    ):
        if flag in options and not any(other in options for other in companions):
            raise ConfigError(f"{flag} must be given with {' or '.join(companions)}; got it alone")


def _json_files(
    options: Mapping[str, Any], resolved: Resolved, detailed: bool
) -> Iterable[Output]:
    from blis_sim.atomic import check_output_path
    from blis_sim.report.blis_json import check_blis_path, write_blis_json
    from blis_sim.report.json_report import write_json

    def write(result: Result, path: Path) -> None:
        write_json(result, path, detailed=detailed)

    if options.get("--json", STDOUT) != STDOUT:
        check_output_path(options["--json"], "--json")
        yield Output("--json", Path(options["--json"]), write)
    if "--save-result" in options:
        path = Path(options.get("--result-dir", "."), _result_name(options, resolved))
        check_output_path(path, "--save-result")
        yield Output("--save-result", path, write)
    if "--results-path" in options:
        check_blis_path(options["--results-path"])
        yield Output("--results-path", Path(options["--results-path"]), write_blis_json)


def _table_files(options: Mapping[str, Any]) -> Iterable[Output]:
    from blis_sim.report.decisions_file import DECISIONS
    from blis_sim.report.requests_file import REQUESTS
    from blis_sim.report.timeseries_file import TIMESERIES

    for table in (REQUESTS, TIMESERIES, DECISIONS):
        if table.flag in options:
            path = Path(options[table.flag])
            table.check(path)
            yield Output(table.flag, path, partial(_write_table, table))


def _report_files(options: Mapping[str, Any], resolved: Resolved) -> Iterable[Output]:
    if "--report" not in options:
        return
    from blis_sim.report.html.render import check_report_path

    check_report_path(options["--report"], "--report")
    load = resolved.workload.description
    yield Output("--report", Path(options["--report"]), partial(_write_report, load))


def _write_report(load: str, result: Result, path: Path) -> None:
    from blis_sim.report.html.render import write_page
    from blis_sim.report.html.run_document import document_of
    from blis_sim.report.html.run_page import run_page

    write_page(run_page(document_of(result, "blis run", load)), path)


def _interval_s(options: Mapping[str, Any], resolved: Resolved) -> float | None:
    """Return how often to sample; None where nothing shows samples."""
    if "--timeseries-interval" in options:
        return float(options["--timeseries-interval"])
    if "--timeseries-out" in options:
        return _DEFAULT_INTERVAL_S
    if "--report" not in options:
        return None
    from blis_sim.report.html.sampling import sample_interval_s

    return sample_interval_s(resolved)


def _write_timeline(result: Result, path: Path) -> None:
    from blis_sim.report.timeline_file import write_timeline

    write_timeline(result, path)


def _write_table(table: RunTable, result: Result, path: Path) -> None:
    table.write(result.run, path)


def _result_name(options: Mapping[str, Any], resolved: Resolved) -> str:
    """Return the file name of ``--save-result``, in the form of ``vllm bench serve``."""
    if "--result-filename" in options:
        return str(options["--result-filename"])
    rate = resolved.request_rate
    shown = "trace" if rate is None else f"{rate:g}qps"
    model = resolved.spec.name.rpartition("/")[2]
    # Local time, as vLLM names its files.
    return f"blis_sim-{shown}-{model}-{datetime.now().astimezone():%Y%m%d-%H%M%S}.json"


def _check_distinct(files: Iterable[Output]) -> None:
    seen: dict[Path, str] = {}
    for output in files:
        path = output.path.resolve()
        if path in seen and (path.is_file() or not path.exists()):
            raise ConfigError(
                f"{output.flag} must be another file than that of {seen[path]}; got {output.path} "
                "for both"
            )
        seen[path] = output.flag


def latency_tags(options: Mapping[str, Any]) -> list[str] | None:
    """Return the latencies of ``--percentile-metrics``; ConfigError when one is unknown."""
    from blis_sim.errors import unknown_name
    from blis_sim.metrics.definitions import LATENCIES

    flag = "--percentile-metrics"
    if flag not in options:
        return None
    tags = [tag.strip().lower() for tag in str(options[flag]).split(",")]
    known = [latency.tag for latency in LATENCIES]
    for tag in tags:
        if tag not in known:
            raise ConfigError(unknown_name(flag, tag, known))
    return list(dict.fromkeys(tags))
