"""All flags of ``blis run``, as one table."""

from __future__ import annotations

from functools import partial

from blis_sim.cli.cluster_flags import cluster_flags
from blis_sim.cli.engine_flags import deployment_flags, engine_flags, latency_flags
from blis_sim.cli.flags import Flag, setting
from blis_sim.cli.later import later_flags
from blis_sim.cli.load_flags import load_flags
from blis_sim.cli.settings import apply_goodput, apply_horizon
from blis_sim.cli.values import at_least_one, duration_s, percentiles


def run_flags() -> tuple[Flag, ...]:
    """Return the flags in the order in which they are applied and shown."""
    return (
        *_scenario_flags(),
        *deployment_flags(),
        *load_flags(),
        *engine_flags(),
        *latency_flags(),
        *cluster_flags(),
        *_result_flags(),
        *later_flags(),
    )


def _scenario_flags() -> tuple[Flag, ...]:
    row = partial(setting, "Scenario")
    return (
        row(
            "--scenario",
            "",
            "FILE",
            "YAML file with any of the settings below; flags win over it.",
        ),
        Flag(
            names=("--set",),
            metavar="A.B=VALUE",
            panel="Scenario",
            is_repeatable=True,
            help="Set one setting by its path, e.g. engine.max_num_seqs=64; may be repeated.",
        ),
        row(
            "--prices",
            "prices",
            "FILE",
            "Prices of GPUs of your own, CSV in the layout of configs/prices.csv.",
        ),
        row("--seed", "seed", "N", "Seed of all random draws (42)."),
        Flag(
            names=("--horizon",),
            path="horizon_s",
            metavar="TIME",
            panel="Scenario",
            apply=apply_horizon,
            help="Stop the clock at 600s, 1500ms, 10m, 1h; a bare number is microseconds.",
        ),
        Flag(
            names=("--no-coalesce",),
            path="coalesce",
            value=False,
            panel="Scenario",
            help="Handle every engine step by itself: the same results, slower.",
        ),
        Flag(
            names=("--dry-run",),
            panel="Scenario",
            help="Print the resolved scenario as YAML and simulate nothing.",
        ),
    )


def _result_flags() -> tuple[Flag, ...]:
    row = partial(setting, "Results")
    switch = partial(Flag, panel="Results")
    return (
        Flag(
            names=("--goodput",),
            path="slo",
            metavar="METRIC:MS",
            panel="Results",
            apply=apply_goodput,
            is_repeatable=True,
            help="Limits a request must meet, in ms: ttft:500 tpot:50 e2el:5000.",
        ),
        row("--percentile-metrics", "", "LIST", "Latencies to show (ttft,tpot,itl,e2el)."),
        row(
            "--metric-percentiles",
            "",
            "LIST",
            "Percentiles to report besides 50, 90, 95 and 99, e.g. 25,99.9.",
            percentiles,
        ),
        Flag(
            names=("--replications",),
            metavar="N",
            panel="Results",
            parse=at_least_one,
            help="Simulate with N seeds, one after the other: means with 95 % intervals (1).",
        ),
        Flag(
            names=("--jobs", "-j"),
            metavar="N",
            panel="Results",
            parse=at_least_one,
            help="Replications at a time (one per processor).",
        ),
        row("--json", "", "FILE|-", "Write everything as JSON; - prints it instead of the table."),
        row("--requests-out", "", "FILE", "Write one row per request: .csv, .csv.gz or .parquet."),
        row(
            "--timeseries-out",
            "",
            "FILE",
            "Write queue depth, batch size, KV use and tokens/s over time, as above.",
        ),
        row(
            "--decisions-out",
            "",
            "FILE",
            "Write what the router chose for each request, and what the others scored, as above.",
        ),
        row("--timeseries-interval", "", "TIME", "How often to sample them (1s).", duration_s),
        row(
            "--timeline-out",
            "",
            "FILE",
            "Write every engine step and request for ui.perfetto.dev: .json or .json.gz.",
        ),
        row("--timeline-from", "", "TIME", "Where that begins (0s).", duration_s),
        row("--timeline-duration", "", "TIME", "How long it is (to the end).", duration_s),
        switch(
            names=("--roofline",),
            help="Report intensity, MFU, MBU and what bound the time, per phase and pool.",
        ),
        row("--results-path", "", "FILE", "Write JSON in the layout of BLIS."),
        row("--report", "", "FILE", "Write one HTML page: answer, charts, tables and sources."),
        switch(
            names=("--save-result",), help="Write JSON into a folder, as vllm bench serve does."
        ),
        switch(
            names=("--save-detailed",), help="Add arrays with one entry per request to the JSON."
        ),
        row("--result-dir", "", "FOLDER", "Where --save-result writes (the current folder)."),
        row("--result-filename", "", "NAME", "What --save-result writes (rate, model and date)."),
        switch(names=("--quiet",), help="Print neither table nor notes nor progress."),
        switch(names=("--debug",), help="Show the traceback of an error."),
        switch(names=("--help", "-h"), help="Show this and exit."),
    )
