"""The section of the console table that a cluster has: its pools, its balance, its cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from blis_sim.metrics.result import Result
from blis_sim.report.table_rows import metric_row, row
from blis_sim.report.text_columns import text_columns

MAX_WIDTH = 80
_MAX_INSTANCES = 8
"""Up to so many instances of a single pool have a row each."""
_HEADER = ("requests", "in tok/s", "out tok/s", "busy %", "KV %", "hit %", "TTFT ms")
_MIN_NAME = 8
_WHOLE_FROM = 1_000.0


def cluster_rows(result: Result, summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line per pool, or per instance of a small single pool, then the whole cluster.

    Rows about tenants, waiting in the gateway, transfers and scaling are left out where there is
    nothing of the kind.
    In and out are tokens of prompts computed and tokens generated, per second of the run.

    Parameters
    ----------
    result : Result
        What to show.
    summary : mapping
        Its figures, or those of several replications, as `metric_row` takes them.
    """
    run = result.run
    if result.replications is not None and result.replications.is_random:
        yield f"with the first seed, {result.context.seed}:"
    yield from _parts(result)
    yield metric_row(summary, "jain_instances")
    yield metric_row(summary, "load_imbalance")
    if summary["jain_tenants"] is not None:
        yield metric_row(summary, "jain_tenants")
    gateway = result.context.gateway
    has_queue = gateway is not None and gateway.max_outstanding_per_instance is not None
    if has_queue or summary["mean_gateway_ms"]:
        yield from _time_rows(summary, "gateway time", "gateway")
    if any(pool.role != "mixed" for pool in run.pools):
        yield metric_row(summary, "num_transfers")
        yield metric_row(summary, "transferred_blocks")
        yield from _time_rows(summary, "transfer time", "transfer")
    yield metric_row(summary, "mean_gpus")
    yield metric_row(summary, "gpu_hours")
    if summary["cost_usd"] is not None:
        yield metric_row(summary, "cost_usd")
        yield metric_row(summary, "usd_per_million_output_tokens")
    is_scaled = any(pool.max_instances is not None for pool in result.context.pools)
    if is_scaled or run.scaling:
        yield metric_row(summary, "num_scaling_events")
        yield from _instance_rows(result, summary)


def _parts(result: Result) -> Iterator[str]:
    title, parts = "pool", list(result.per_pool.items())
    if len(parts) == 1 and 1 < len(result.per_instance) <= _MAX_INSTANCES:
        title = "instance"
        parts = [(str(each["instance"]), each) for each in result.per_instance]
    cells = [_HEADER, *(tuple(_cells(part)) for _, part in parts)]
    used = sum(2 + max(map(len, column)) for column in zip(*cells, strict=True))
    width = max(MAX_WIDTH - used, _MIN_NAME)
    names = [title, *(_short(name, width) for name, _ in parts)]
    yield from text_columns([(name, *line) for name, line in zip(names, cells, strict=True)])


def _cells(part: Mapping[str, Any]) -> Iterator[str]:
    if part.get("ready_s") and not part["lifetime_s"]:
        yield "not ready"  # was still starting, or given up before
        yield from ("",) * (len(_HEADER) - 1)
        return
    yield f"{part['num_prompts']}"
    yield _number(part["prompt_throughput"])
    yield _number(part["generation_throughput"])
    for tag in ("gpu_busy_frac", "kv_usage_mean_frac", "prefix_hit_rate"):
        fraction = part[tag]
        yield "n/a" if fraction is None else f"{100 * fraction:.1f}"
    yield _number(part["mean_ttft_ms"])


def _time_rows(summary: Mapping[str, Any], label: str, tag: str) -> Iterator[str]:
    yield row(f"Mean {label} (ms)", summary[f"mean_{tag}_ms"])
    yield row(f"P99 {label} (ms)", summary[f"p99_{tag}_ms"])


def _instance_rows(result: Result, summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield how many instances took requests at a time: mean, fewest and most."""
    if len(result.per_pool) == 1:
        for tag in ("mean_instances", "min_instances", "max_instances"):
            yield metric_row(summary, tag)
        return
    for name, pool in result.per_pool.items():
        if pool["num_scaling_events"] or pool["min_instances"] != pool["max_instances"]:
            fewest, most = pool["min_instances"], pool["max_instances"]
            mean = _number(pool["mean_instances"], decimals=2)
            yield f"{_short(name, 30)}: {fewest} to {most} instances, mean {mean}"


def _number(value: float | None, *, decimals: int = 1) -> str:
    if value is None:
        return "n/a"
    return f"{value:.{0 if value >= _WHOLE_FROM else decimals}f}"


def _short(name: str, width: int) -> str:
    return name if len(name) <= width else f"{name[: width - 3]}..."
