"""``blis run``: simulate one scenario."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blis_sim.cli.common import note, out
from blis_sim.cli.flag_command import SCENARIO_FILES, own_options, read_settings
from blis_sim.cli.flag_help import flag_help
from blis_sim.cli.flags import Typed, collect, signature
from blis_sim.cli.outputs import Outputs, latency_tags, plan_outputs
from blis_sim.cli.run_flags import run_flags
from blis_sim.cli.settings import in_flags
from blis_sim.errors import BlisError, ConfigError

if TYPE_CHECKING:
    from blis_sim.config.scenario import Scenario
    from blis_sim.engine.resolved import Deployed, Resolved
    from blis_sim.metrics.result import Result

ABOUT = "Simulate a deployment under a load and print what vllm bench serve would."
_MORE = """
Without flags: 100 requests at 1 request/s to Llama-3.1-8B-Instruct on one H100. Flags have the
names of vllm serve, vllm bench serve and BLIS; underscores are read as hyphens. What a flag is
when it is not given stands in parentheses.
"""


def make_run(arguments: Sequence[str]) -> Callable[..., None]:
    """Return the command for a command line; typer reads its options off its signature.

    Parameters
    ----------
    arguments : sequence of str
        The normalised command line: it tells in which spelling a flag was given.
    """
    flags = run_flags()

    def run(**given: Any) -> None:
        if given.get("help"):
            out(flag_help("blis run [FLAGS]", f"{ABOUT}\n\n{_MORE}", flags))
            return
        typed = collect(flags, given, arguments)
        try:
            _run(typed)
        except BlisError as error:
            error.args = (in_flags(str(error), typed),)
            raise

    vars(run)["__signature__"] = signature(flags)
    return run


def _run(typed: Sequence[Typed]) -> None:
    options = own_options(typed)
    scenario, notices = _scenario(typed, options)
    tags = latency_tags(options)

    from blis_sim import api

    resolved = api.resolve(scenario)
    percentiles = options.get("--metric-percentiles", ())
    api.run_context(resolved, percentiles=percentiles)
    outputs = plan_outputs(options, resolved)
    outputs.check_inputs(_inputs(scenario, options))
    num_replications = _num_replications(options)
    if num_replications > 1:
        notices += _of_the_first(outputs, scenario.seed)
    if "--dry-run" in options:
        if num_replications > 1:
            out(f"# replications: {num_replications}, with seeds from {scenario.seed} on")
        _print_dry_run(resolved, notices)
        return
    is_quiet = "--quiet" in options
    if outputs.prints_json and not is_quiet:
        _print_notes(resolved, notices)
    result = _simulate(resolved, outputs, percentiles, notices, is_quiet=is_quiet)
    if num_replications > 1:
        _replicate(result, scenario, options, percentiles)
    outputs.write(result)
    _print_result(result, outputs, tags, is_quiet=is_quiet)


def _num_replications(options: Mapping[str, Any]) -> int:
    number: int = options.get("--replications", 1)
    if number > 1:
        from blis_sim.capacity.replicate import check_num_replications

        check_num_replications(number, "--replications")
    elif "--jobs" in options:
        raise ConfigError(
            f"--jobs must be given with --replications of 2 or more; got {number}: leave it out"
        )
    return number


def _of_the_first(outputs: Outputs, seed: int) -> list[str]:
    """Return what is to be said of files that show a single simulation."""
    flags = [output.flag for output in outputs.files if output.flag not in _WITH_REPLICATIONS]
    if outputs.detailed:
        flags.append("--save-detailed")
    if outputs.has_roofline:
        flags.append("--roofline")
    if not flags:
        return []
    verb = "shows" if len(flags) == 1 else "show"
    return [f"{', '.join(flags)} {verb} the first replication alone, seed {seed}"]


_WITH_REPLICATIONS = {"--json", "--save-result"}
"""Files that hold the figures of all replications."""


def _replicate(
    first: Result, scenario: Scenario, options: Mapping[str, Any], percentiles: Sequence[float]
) -> None:
    """Simulate with the seeds that follow, and give the figures to the result of the first."""
    from blis_sim.capacity.replicate import add_replications
    from blis_sim.cli.progress import counting_bar

    with counting_bar("replications", is_wanted="--quiet" not in options) as on_replication:
        add_replications(
            first,
            scenario,
            options["--replications"],
            percentiles=percentiles,
            num_jobs=options.get("--jobs"),
            on_replication=on_replication,
        )


def _scenario(typed: Sequence[Typed], options: Mapping[str, Any]) -> tuple[Scenario, list[str]]:
    """Return the scenario and how flags were read."""
    settings = read_settings(options)
    settings.apply(typed)
    return settings.build(), settings.notices


def _inputs(scenario: Scenario, options: Mapping[str, Any]) -> list[Path]:
    """Return the files that are read."""
    pools = scenario.cluster.pools or ()
    latencies = (scenario.latency, *(pool.latency for pool in pools))
    paths = [
        scenario.workload.trace,
        *(latency.coefficients_file for latency in latencies),
        *(latency.hardware_config for latency in latencies),
        *(Path(options[flag]) for flag in SCENARIO_FILES if flag in options),
    ]
    return [path for path in paths if path is not None]


def _simulate(
    resolved: Resolved,
    outputs: Outputs,
    percentiles: Sequence[float],
    notices: Sequence[str],
    *,
    is_quiet: bool,
) -> Result:
    from blis_sim import api
    from blis_sim.cli.progress import progress_bar

    total = resolved.workload.num_requests
    with progress_bar(total, is_wanted=not is_quiet) as progress:
        return api.run(
            resolved,
            timeseries_interval_s=outputs.timeseries_interval_s,
            percentiles=percentiles,
            progress=progress,
            notices=notices,
            record_decisions=outputs.records_decisions,
            record_timeline=outputs.timeline or False,
            roofline=outputs.has_roofline,
        )


def _print_dry_run(resolved: Resolved, notices: Sequence[str]) -> None:
    """Print the scenario with everything that was derived; it is a scenario file again."""
    import yaml

    from blis_sim.metrics.plain import to_plain

    for text in (*_by_pool(resolved, _latency_words), *_by_pool(resolved, _kv_words)):
        out(f"# {text}")
    out(f"# load: {resolved.workload.description}")
    for notice in (*notices, *resolved.notices):
        out(f"# note: {notice}")
    out(yaml.safe_dump(to_plain(resolved.as_written()), sort_keys=False).rstrip())


def _by_pool(resolved: Resolved, words: Callable[[Deployed], str]) -> Iterator[str]:
    """Yield what is to be said of the instances; what is not so in all pools names its pools."""
    names: dict[str, list[str]] = {}
    for pool in resolved.pools:
        names.setdefault(words(pool.deployed), []).append(pool.name)
    if len(names) < 2:
        yield words(resolved.deployed)
        return
    for text, pools in names.items():
        yield f"[{', '.join(pools)}] {text}"


def _latency_words(deployed: Deployed) -> str:
    latency = deployed.latency
    return f"latency model: {latency.name.value} ({latency.reason}); data: {latency.source}"


def _latency_choice(deployed: Deployed) -> str:
    also = ", ".join(deployed.latency.alternatives)
    return _latency_words(deployed) + (f"; also available: {also}" if also else "")


def _kv_words(deployed: Deployed) -> str:
    return f"KV blocks: {deployed.engine.num_kv_blocks} ({deployed.kv_blocks_source})"


def _print_notes(resolved: Resolved, notices: Sequence[str]) -> None:
    """Print on stderr what the table would say about the run."""
    for text in (*_by_pool(resolved, _latency_choice), *notices, *resolved.notices):
        note(text)


def _print_result(
    result: Result, outputs: Outputs, tags: Sequence[str] | None, *, is_quiet: bool
) -> None:
    if outputs.prints_json:
        from blis_sim.report.json_report import render_json

        out(render_json(result, detailed=outputs.detailed).rstrip())
    elif not is_quiet:
        from blis_sim.report.table import render_table

        out(render_table(result) if tags is None else render_table(result, latencies=tags))
