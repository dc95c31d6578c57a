"""Flags of ``blis run`` about clusters: many instances behind a gateway."""

from __future__ import annotations

from functools import partial

from blis_sim.cli.cluster_settings import (
    apply_autoscale,
    apply_priority,
    apply_queue_limit,
    apply_scorers,
    apply_split,
    apply_transfer_latency,
)
from blis_sim.cli.flags import Flag, setting
from blis_sim.cli.settings import apply_microseconds
from blis_sim.cli.values import count, one_of, token_count, word_of
from blis_sim.config.policy_names import ADMISSION, DECIDERS, QUEUE_ORDERS, ROUTING

_PANEL = "Cluster"
_ADMISSION = "cluster.gateway.admission"


def cluster_flags() -> tuple[Flag, ...]:
    """Return the flags in the order in which they are applied: a policy before its scorers."""
    return (
        *_instance_flags(),
        *_routing_flags(),
        *_admission_flags(),
        *_queue_flags(),
        *_disaggregation_flags(),
    )


def _instance_flags() -> tuple[Flag, ...]:
    row = partial(setting, _PANEL)
    return (
        row("--num-instances", "cluster.num_instances", "N", "Engine instances (1)."),
        row(
            "--data-parallel-size --dp -dp",
            "engine.data_parallel_size",
            "N",
            "Ranks of one server; each is an engine with its own GPUs, cache and queue (1).",
        ),
        Flag(
            names=("--autoscale",),
            path="cluster.autoscaling",
            metavar="METRIC:TARGET:MIN-MAX",
            panel=_PANEL,
            apply=apply_autoscale,
            help="Let the number of instances follow queue-depth, kv-utilization, concurrency "
            "or predicted-ttft (ms), e.g. concurrency:32:1-8.",
        ),
        row(
            "--policy-config",
            "",
            "FILE",
            "YAML file of policies: of BLIS, or the cluster part of a scenario.",
        ),
        Flag(
            names=("--priority-policy",),
            metavar="constant",
            panel="",
            help="The only one there is.",
            apply=apply_priority,
        ),
    )


def _routing_flags() -> tuple[Flag, ...]:
    row = partial(setting, _PANEL)
    return (
        row(
            "--routing-policy",
            "cluster.routing.policy",
            "POLICY",
            "round-robin, random, least-loaded, power-of-two, shortest-expected-ttft, "
            "session-affinity, prefix-affinity, weighted or vllm-dp (round-robin; vllm-dp for "
            "the ranks of one server).",
            word_of(ROUTING),
        ),
        Flag(
            names=("--routing-scorers",),
            path="cluster.routing.scorers",
            metavar="NAME:WEIGHT,...",
            panel=_PANEL,
            apply=apply_scorers,
            help="What weighted scores instances by (precise-prefix-cache:2,queue-depth:1,"
            "kv-utilization:1); given alone it selects weighted.",
        ),
        _interval(
            "--snapshot-refresh-interval",
            "snapshot_interval_s",
            "How often instances report their load: 100ms, 0.1s; a bare number is "
            "microseconds (0 = always known; 100ms with vllm-dp).",
        ),
        _interval(
            "--cache-signal-delay",
            "cache_signal_delay_s",
            "How often what is cached becomes known, likewise (0).",
        ),
    )


def _interval(name: str, key: str, text_of_help: str) -> Flag:
    path = f"cluster.routing.{key}"
    return Flag(
        names=(name,),
        path=path,
        metavar="TIME",
        panel=_PANEL,
        apply=partial(apply_microseconds, path),
        help=text_of_help,
    )


def _admission_flags() -> tuple[Flag, ...]:
    row = partial(setting, _PANEL)
    return (
        row(
            "--admission-policy",
            f"{_ADMISSION}.policy",
            "POLICY",
            "always-admit, token-bucket, tier-shed or reject-all (always-admit).",
            word_of(ADMISSION),
        ),
        row(
            "--token-bucket-capacity",
            f"{_ADMISSION}.token_bucket_capacity",
            "TOKENS",
            "token-bucket: prompt tokens it holds (10000).",
        ),
        row(
            "--token-bucket-refill-rate",
            f"{_ADMISSION}.token_bucket_refill_rate",
            "TOKENS",
            "token-bucket: prompt tokens added per second (1000).",
        ),
    )


def _queue_flags() -> tuple[Flag, ...]:
    row = partial(setting, _PANEL)
    return (
        row(
            "--max-outstanding-per-instance",
            "cluster.gateway.max_outstanding_per_instance",
            "N",
            "Most requests an instance has at a time; the others wait in the gateway (no limit).",
        ),
        Flag(
            names=("--gateway-queue-limit", "--max-gateway-queue-depth"),
            path="cluster.gateway.queue_limit",
            metavar="N",
            panel=_PANEL,
            parse=count,
            apply=apply_queue_limit,
            help="Reject what finds so many waiting in the gateway (no limit).",
        ),
        row(
            "--gateway-queue-order --dispatch-order",
            "cluster.gateway.queue_order",
            "ORDER",
            "Who leaves the gateway first: fcfs, priority or slo-deadline (fcfs).",
            word_of(QUEUE_ORDERS),
        ),
        Flag(
            names=("--fair-share",),
            off_names=("--no-fair-share",),
            path="cluster.gateway.fair_share",
            panel=_PANEL,
            help="Serve tenants in proportion to their weights (off).",
        ),
    )


def _disaggregation_flags() -> tuple[Flag, ...]:
    row = partial(setting, _PANEL)
    split = tuple(
        Flag(
            names=(f"--{role}-instances",),
            metavar="N",
            panel=_PANEL,
            parse=count,
            apply=partial(apply_split, role),
            help=f"Instances that {what}; both flags together (none).",
        )
        for role, what in (
            ("prefill", "compute prompts and hand the KV cache on"),
            ("decode", "generate the answers"),
        )
    )
    return (
        *split,
        row(
            "--pd-decider",
            "cluster.disaggregation.decider",
            "NAME",
            "Prompts that go to prefill instances: always, never, or uncached-prefix = the long "
            "ones (always).",
            word_of(DECIDERS),
        ),
        row(
            "--pd-prefix-threshold",
            "cluster.disaggregation.threshold_tokens",
            "TOKENS",
            "uncached-prefix: from so many tokens that are not cached (256).",
            token_count,
        ),
        row(
            "--pd-transfer-bandwidth",
            "cluster.disaggregation.link_gb_per_s",
            "GB/S",
            "Bandwidth of each instance's network card, 1e9 bytes per second (50).",
        ),
        Flag(
            names=("--pd-transfer-base-latency",),
            path="cluster.disaggregation.link_latency_us",
            metavar="TIME",
            panel=_PANEL,
            apply=apply_transfer_latency,
            help="Time added to every transfer: 50us, 0.05ms; a bare number is milliseconds "
            "(50us).",
        ),
        row(
            "--first-token-from",
            "cluster.disaggregation.first_token_from",
            "decode|prefill",
            "Who sends the first token to the client (decode).",
            one_of({"decode": "decode", "prefill": "prefill"}),
        ),
    )
