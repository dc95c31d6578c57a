"""Flags of ``blis run`` about the load."""

from __future__ import annotations

from functools import partial

from blis_sim.cli.flags import Flag, setting
from blis_sim.cli.settings import (
    apply_constant_length,
    apply_dataset,
    apply_length,
    apply_range_ratio,
    apply_spec,
    apply_workload,
)
from blis_sim.cli.values import duration_s

_PANEL = "Load, in the names of vllm bench serve"


def load_flags() -> tuple[Flag, ...]:
    """Return the flags in the order in which they are applied: the preset before its lengths."""
    return (*_source_flags(), *_arrival_flags(), *_length_flags(), *_client_flags())


def _source_flags() -> tuple[Flag, ...]:
    row = partial(setting, _PANEL)
    return (
        Flag(
            names=("--workload-spec",),
            metavar="FILE",
            panel=_PANEL,
            apply=apply_spec,
            help="YAML file that describes the load: of ours, of BLIS or of inference-perf.",
        ),
        Flag(
            names=("--workload",),
            path="workload.preset",
            metavar="NAME",
            panel=_PANEL,
            apply=apply_workload,
            help="Lengths: chatbot, contentgen, summarization, multidoc or distribution; or "
            "traces (distribution).",
        ),
        row(
            "--trace --workload-traces-filepath --dataset-path",
            "workload.trace",
            "FILE",
            "Replay a trace in one of the formats below.",
        ),
        row(
            "--trace-format",
            "workload.trace_format",
            "NAME",
            "auto (it is recognised), csv, parquet, azure, mooncake, burstgpt, sharegpt, vllm, "
            "guidellm, aiperf, blis or tracev2.",
        ),
        Flag(
            names=("--skip-bad-rows",),
            path="workload.skip_bad_rows",
            panel=_PANEL,
            help="Leave out malformed rows of the trace, and count them.",
        ),
        row(
            "--tokens-per-word",
            "workload.tokens_per_word",
            "FACTOR",
            "Tokens per word, for traces that hold text.",
        ),
        row(
            "--start",
            "workload.start_s",
            "TIME",
            "Begin of the load: 30s, 2m; of a trace: what is before it is left out.",
            duration_s,
        ),
        row(
            "--duration",
            "workload.duration_s",
            "TIME",
            "Arrivals later than this after the begin are left out: 10m.",
            duration_s,
        ),
        row(
            "--num-prompts --num-requests --max-prompts",
            "workload.num_requests",
            "N",
            "How many requests (100; of a trace all, with a horizon until then).",
        ),
    )


def _arrival_flags() -> tuple[Flag, ...]:
    row = partial(setting, _PANEL)
    return (
        row(
            "--request-rate --rate",
            "workload.request_rate",
            "RATE",
            "Requests per second, inf = all at once (1); stretches a trace to this mean rate.",
        ),
        row(
            "--repeats",
            "workload.repeats",
            "N",
            "Replay the trace N times in a row, each time with new prompts (1).",
        ),
        row("--rate-scale", "workload.rate_scale", "FACTOR", "Multiply the rate of a trace."),
        row(
            "--arrivals",
            "workload.arrivals.process",
            "NAME",
            "poisson, constant, gamma or weibull gaps, all_at_once or closed_loop (poisson).",
        ),
        row(
            "--burstiness",
            "workload.arrivals.burstiness",
            "SHAPE",
            "Gamma gaps: 1 = Poisson, below 1 burstier, above 1 smoother.",
        ),
        row(
            "--cv",
            "workload.arrivals.cv",
            "CV",
            "Coefficient of variation of gamma or weibull gaps.",
        ),
        row(
            "--num-users",
            "workload.arrivals.num_users",
            "N",
            "closed_loop: users with one request open each.",
        ),
        row(
            "--think-time",
            "workload.arrivals.think_time_s",
            "TIME",
            "closed_loop: from an answer to the next request (0).",
            duration_s,
        ),
        row(
            "--max-concurrency",
            "workload.max_outstanding",
            "N",
            "Most requests open at a time; times then count from the sending.",
        ),
        Flag(
            names=("--normalize-span",),
            path="workload.arrivals.normalize_span",
            panel=_PANEL,
            help="Stretch the gaps so that the last arrival is at exactly num-requests / rate.",
        ),
    )


def _length_flags() -> tuple[Flag, ...]:
    flags = []
    for part, what in (("prompt", "prompt"), ("output", "answer")):
        for suffix, figure, text in (
            ("", "mean", "Mean length"),
            ("-stdev", "stdev", "Standard deviation"),
            ("-min", "min", "Shortest"),
            ("-max", "max", "Longest"),
        ):
            path = f"workload.{part}.{figure}"
            flags.append(
                Flag(
                    names=(f"--{part}-tokens{suffix}",),
                    path=path,
                    metavar="TOKENS",
                    panel=_PANEL,
                    apply=partial(apply_length, path),
                    help=f"{text} of the {what} (the preset's).",
                )
            )
    for name, part in (("input", "prompt"), ("output", "output")):
        flags.append(
            Flag(
                names=(f"--random-{name}-len",),
                path=f"workload.{part}.mean",
                metavar="TOKENS",
                panel=_PANEL,
                apply=partial(apply_constant_length, f"workload.{part}"),
                help=f"One length for every {part}.",
            )
        )
    return (
        *flags,
        Flag(
            names=("--dataset-name",),
            metavar="NAME",
            panel=_PANEL,
            apply=apply_dataset,
            help="random: constant lengths, 1024 and 128, or as --random-input-len and "
            "-output-len say; sharegpt or burstgpt: the trace at --dataset-path.",
        ),
        Flag(
            names=("--random-range-ratio",),
            metavar="RATIO",
            panel=_PANEL,
            apply=apply_range_ratio,
            help="Lengths drawn evenly from that share below to that share above (0).",
        ),
    )


def _client_flags() -> tuple[Flag, ...]:
    row = partial(setting, _PANEL)
    return (
        row(
            "--prefix-tokens --random-prefix-len",
            "workload.prefix_tokens",
            "TOKENS",
            "Shared prefix in front of every prompt (0).",
        ),
        row(
            "--prefix-groups", "workload.num_prefix_groups", "N", "How many distinct prefixes (1)."
        ),
        row(
            "--max-output-tokens",
            "workload.max_output_tokens",
            "TOKENS",
            "The clients' limit on generated tokens.",
        ),
        row(
            "--timeout",
            "workload.timeout_s",
            "TIME",
            "Clients give up this long after arrival: 30s, 2m.",
            duration_s,
        ),
        row("--slo-class", "workload.slo_class", "NAME", "SLO class of all requests."),
        row("--tenant", "workload.tenant", "NAME", "Tenant of all requests."),
    )
