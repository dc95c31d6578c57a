"""Flags of ``blis run`` about the load."""

from __future__ import annotations

from functools import partial

from blis_sim.cli.flags import Flag, setting
from blis_sim.cli.settings import (
    apply_constant_length,
    apply_dataset,
    apply_length,
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
            names=("--workload",),
            path="workload.preset",
            metavar="NAME",
            panel=_PANEL,
            apply=apply_workload,
            help="Lengths: chatbot, contentgen, summarization, multidoc or distribution; or "
            "traces (distribution).",
        ),
        row(
            "--trace --workload-traces-filepath",
            "workload.trace",
            "FILE",
            "Replay a trace: CSV of ours, of Azure or of BLIS.",
        ),
        row("--trace-format", "workload.trace_format", "NAME", "auto, csv, azure or blis (auto)."),
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
        row("--rate-scale", "workload.rate_scale", "FACTOR", "Multiply the rate of a trace."),
        row(
            "--arrivals", "workload.arrivals", "NAME", "poisson, constant or gamma gaps (poisson)."
        ),
        row(
            "--burstiness",
            "workload.burstiness",
            "SHAPE",
            "Gamma gaps: 1 = Poisson, below 1 burstier, above 1 smoother.",
        ),
        Flag(
            names=("--normalize-span",),
            path="workload.normalize_span",
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
            metavar="random",
            panel=_PANEL,
            apply=apply_dataset,
            help="Constant lengths: 1024 and 128, or as --random-input-len and -output-len say.",
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
