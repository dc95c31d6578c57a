"""The console table: vLLM's "Serving Benchmark Result", then what the engine did."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from blis_sim.errors import ConfigError, unknown_name
from blis_sim.metrics.definitions import LATENCIES
from blis_sim.metrics.percentiles import rank_word
from blis_sim.metrics.records import ABSENT, Status
from blis_sim.metrics.replications import Replications
from blis_sim.metrics.result import PoolContext, Result, RunContext
from blis_sim.report.cluster_table import cluster_rows
from blis_sim.report.table_rows import LABEL_WIDTH, metric_row, row, shown

WIDTH = 50
MAX_WIDTH = 80

_BEFORE_RATE = ("completed", "failed")
_AFTER_RATE = (
    "duration",
    "total_input_tokens",
    "total_output_tokens",
    "request_throughput",
    "request_goodput",
    "output_throughput",
    "max_output_tokens_per_s",
    "max_concurrent_requests",
    "total_token_throughput",
)
_ENGINE = (
    "kv_usage_mean_frac",
    "kv_usage_peak_frac",
    "prefix_hit_rate",
    "num_preemptions",
    "mean_batch_requests",
    "gpu_busy_frac",
)
_UNFINISHED = tuple(status.name.lower() for status in Status if status is not Status.COMPLETED)
_MAX_REASONS = 5
_NO_BREAK = "\u00a0%"
_TABLE_LATENCIES = ("ttft", "tpot", "itl", "e2el")
_HEADLINE_SETTINGS = (
    "max_num_seqs",
    "max_num_batched_tokens",
    "max_model_len",
    "block_size",
    "enable_prefix_caching",
    "enable_chunked_prefill",
    "long_prefill_token_threshold",
    "scheduling_policy",
    "async_scheduling",
)


def render_table(result: Result, *, latencies: Sequence[str] = _TABLE_LATENCIES) -> str:
    """Return the result as text of at most 80 columns, without a final newline.

    Parameters
    ----------
    result : Result
        What to show.
    latencies : sequence of str
        Tags of the latency sections, in order (``--percentile-metrics``): ``ttft``, ``tpot``,
        ``itl``, ``e2el``, ``queue``, ``scheduling_delay``, ``gateway``, ``transfer``.

    Raises
    ------
    ConfigError
        A tag of ``latencies`` is unknown.

    Notes
    -----
    A row without data shows ``n/a``. Rows about a rate, a limit on concurrency or a goodput
    that was not asked for are left out, as in vLLM.
    """
    replications = result.replications
    summary = result.summary if replications is None else shown(replications.metrics)
    lines = [
        *_heading(result.context),
        *_replications_words(replications),
        f"{' Serving Benchmark Result ':=^{WIDTH}}",
        *_serving_rows(result.context, summary),
    ]
    by_tag = {latency.tag: latency for latency in LATENCIES}
    ranks = sorted({99.0, *result.context.percentiles})
    for tag in latencies:
        if tag not in by_tag:
            raise ConfigError(unknown_name("a latency metric", tag, by_tag))
        latency = by_tag[tag]
        lines.append(f"{latency.title:-^{WIDTH}}")
        stats = [("Mean", "mean"), ("Median", "median")]
        stats += [(f"P{rank_word(rank)}", f"p{rank_word(rank)}") for rank in ranks]
        lines += [
            row(f"{label} {latency.header} (ms)", summary[f"{key}_{tag}_ms"])
            for label, key in stats
        ]
    lines += [f"{'Engine':-^{WIDTH}}", *_engine_rows(result.context, summary)]
    if result.run.pools:
        lines += [f"{'Cluster':-^{WIDTH}}", *cluster_rows(result, summary)]
    roofline = result.roofline
    if roofline is not None:
        from blis_sim.report.roofline_rows import roofline_rows

        lines += roofline_rows(roofline)
    lines += [*_unfinished(result), "=" * WIDTH]
    if result.accuracy is not None:
        lines += _wrapped(result.accuracy.text)
    lines += _notices(result.context.notices)
    lines += _notices(() if roofline is None else roofline.notes)
    return "\n".join(lines)


def _heading(context: RunContext) -> Iterator[str]:
    """Yield what was simulated, with what, and which settings are in force."""
    yield from _wrapped(context.deployment)
    if context.gateway is not None:
        for title, text in (
            ("Routing", context.gateway.routing),
            ("Gateway", context.gateway.queue),
            ("Disaggregation", context.gateway.disaggregation),
        ):
            if text:
                yield from _wrapped(f"{title}: {text}")
    for text_of in (_latency_words, _engine_words):
        # Pools of which the same is to say share a line.
        names: dict[str, list[str]] = {}
        for pool in context.pools:
            names.setdefault(text_of(pool), []).append(pool.name)
        if len(names) < 2:
            yield from _wrapped(text_of(context))
            continue
        for text, pools in names.items():
            yield from _wrapped(f"[{', '.join(pools)}] {text}")


def _latency_words(context: RunContext | PoolContext) -> str:
    latency = f"Latency: {context.latency_model}"
    if context.latency_reason:
        latency += f" ({context.latency_reason})"
    if context.latency_source:
        latency += f"; data: {context.latency_source}"
    if context.latency_alternatives:
        latency += f"; also available: {', '.join(context.latency_alternatives)}"
    return latency


def _engine_words(context: RunContext | PoolContext) -> str:
    settings = context.engine_settings
    shown = [f"{key} {_setting(settings[key])}" for key in _HEADLINE_SETTINGS if key in settings]
    version = f" {settings['version']}" if "version" in settings else ""
    profile = f" ({settings['defaults']} defaults)" if "defaults" in settings else ""
    return f"Engine{version}{profile}: {', '.join(shown)}"


def _replications_words(replications: Replications | None) -> list[str]:
    """Return how many there are and how figures are written; nothing without any."""
    if replications is None:
        return []
    seeds = replications.seeds
    begin = f"Replications: {len(seeds)} (seeds {seeds[0]} to {seeds[-1]})"
    if not replications.is_random:
        return _wrapped(f"{begin} gave the same figures: nothing in this scenario is random")
    return _wrapped(
        f"{begin}: mean ± half its 95 % confidence interval; percentiles are averaged, not pooled"
    )


def _serving_rows(context: RunContext, summary: Mapping[str, Any]) -> Iterator[str]:
    for tag in _BEFORE_RATE:
        yield metric_row(summary, tag)
    if context.max_concurrency is not None:
        yield row("Maximum request concurrency", context.max_concurrency)
    if context.request_rate is not None:
        yield row("Request rate configured (RPS)", float(context.request_rate))
    has_limits = any(limit is not None for limit in context.slo.values())
    for tag in _AFTER_RATE:
        if tag != "request_goodput" or has_limits:
            yield metric_row(summary, tag)


def _engine_rows(context: RunContext, summary: Mapping[str, Any]) -> Iterator[str]:
    label = "KV blocks per instance"
    if len({pool.num_kv_blocks for pool in context.pools}) < 2:
        yield row(label, context.num_kv_blocks)
    else:
        for pool in context.pools:
            yield row(f"{label}, {pool.name}"[: LABEL_WIDTH - 1], pool.num_kv_blocks)
    for tag in _ENGINE:
        yield metric_row(summary, tag)


def _unfinished(result: Result) -> Iterator[str]:
    """Yield where the requests are that did not complete, and why; nothing when all did."""
    several = result.replications
    counts = result.conservation if several is None else shown(several.conservation)
    left = [(state, counts[state]) for state in _UNFINISHED if counts[state]]
    if not left:
        return
    yield f"{'Requests not completed':-^{WIDTH}}"
    for state, count in left:
        yield row(state.replace("_", " ").capitalize(), count)
    codes = result.run.requests.reason
    reasons = Counter(codes[codes != ABSENT].tolist()).most_common()
    if reasons and several is not None and several.is_random:
        yield f"with the first seed, {result.context.seed}:"
    for code, count in reasons[:_MAX_REASONS]:
        yield from _wrapped(f"{count} x {result.run.reasons[code]}")
    if len(reasons) > _MAX_REASONS:
        yield f"and {len(reasons) - _MAX_REASONS} more reasons (see the requests' file)"


def _notices(notices: Sequence[str]) -> Iterator[str]:
    for notice in notices:
        yield from _wrapped(f"note: {notice}")


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def _wrapped(text: str) -> list[str]:
    joined = text.replace(" %", _NO_BREAK)  # a number and its sign stay together
    lines = textwrap.wrap(joined, MAX_WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    return [line.replace(_NO_BREAK, " %") for line in lines]
