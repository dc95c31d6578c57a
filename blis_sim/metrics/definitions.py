"""The registry of metrics: each is declared once, and every report iterates it.

The words are vLLM's. The same words mean other things elsewhere; where they do, the formula
says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from blis_sim.metrics.measured import FAILED, Measured, ratio
from blis_sim.metrics.percentiles import Distribution, rank_word
from blis_sim.metrics.records import Status
from blis_sim.units import US_PER_MS

STANDARD_PERCENTILES = (50.0, 90.0, 95.0, 99.0)


class Group(StrEnum):
    """Where a metric stands in the JSON report."""

    SERVING = "serving"
    """At the top level, under vLLM's key where vLLM has one."""
    KV_CACHE = "kv_cache"
    ENGINE = "engine"


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a run.

    Attributes
    ----------
    tag : str
        Key in the summary and in JSON.
    header : str
        Label in tables.
    unit : str
        Unit of the value; a ``fraction`` lies in 0..1 and is shown in percent.
    formula : str
        Definition, for people.
    compute : callable
        Pure function of a :class:`Measured`; None = no data.
    group : Group
        Where it stands in JSON.
    per_class : bool
        Whether it has a meaning for the requests of one class.
    """

    tag: str
    header: str
    unit: str
    formula: str
    compute: Callable[[Measured], float | None]
    group: Group = Group.SERVING
    per_class: bool = False

    def value(self, measured: Measured) -> int | float | None:
        """Return the number as a plain Python one, None without data."""
        raw = self.compute(measured)
        return raw.item() if isinstance(raw, np.generic) else raw


@dataclass(frozen=True, slots=True)
class LatencyMetric:
    """A time of which mean, median, standard deviation and percentiles are reported.

    Attributes
    ----------
    tag : str
        Part of the keys: ``mean_<tag>_ms``, ``p99_<tag>_ms``.
    header : str
        Short label in tables.
    title : str
        Heading of its section in tables.
    formula : str
        Definition, for people.
    compute : callable
        Pure function of a :class:`Measured` giving microseconds; None = no data.
    per_class : bool
        Whether it can be told for the requests of one class.
    """

    tag: str
    header: str
    title: str
    formula: str
    compute: Callable[[Measured], Distribution | None]
    per_class: bool = True

    def statistics(self, measured: Measured, ranks: tuple[float, ...]) -> dict[str, float | None]:
        """Return mean, median, std and the percentiles at ``ranks``, in ms, by their keys.

        Every key is present; all are None when there is no data.
        """
        sample = self.compute(measured)
        keys = [f"{name}_{self.tag}_ms" for name in ("mean", "median", "std")]
        keys += [f"p{rank_word(rank)}_{self.tag}_ms" for rank in ranks]
        if sample is None:
            return dict.fromkeys(keys)
        median, *rest = sample.percentiles((50.0, *ranks))
        values = [sample.mean(), median, sample.std(), *rest]
        return {key: value / US_PER_MS for key, value in zip(keys, values, strict=True)}


def _tpot(measured: Measured) -> Distribution | None:
    tpot_us = measured.tpot_us
    return Distribution.from_values(tpot_us[measured.output_tokens >= 2])


def _queue(measured: Measured) -> Distribution | None:
    columns = measured.run.requests
    return Distribution.from_values(measured.since(columns.scheduled_us, columns.enqueued_us))


def _scheduling_delay(measured: Measured) -> Distribution | None:
    columns = measured.run.requests
    return Distribution.from_values(measured.since(columns.scheduled_us, columns.arrival_us))


LATENCIES: tuple[LatencyMetric, ...] = (
    LatencyMetric(
        "ttft",
        "TTFT",
        "Time to First Token",
        "first token - arrival, client times, completed requests",
        lambda m: Distribution.from_values(m.ttft_us),
    ),
    LatencyMetric(
        "tpot",
        "TPOT",
        "Time per Output Token (excl. 1st token)",
        "(E2E - TTFT) / (N - 1), one per completed request with N >= 2 output tokens "
        "(AIPerf calls this ITL; GuideLLM's TPOT includes the first token)",
        _tpot,
    ),
    LatencyMetric(
        "itl",
        "ITL",
        "Inter-token Latency",
        "each gap between consecutive tokens of a request, all gaps seen by clients pooled "
        "(also those of requests that did not complete); not kept by class or by request",
        Measured.gaps,
        per_class=False,
    ),
    LatencyMetric(
        "e2el",
        "E2EL",
        "End-to-end Latency",
        "last token - arrival, client times, completed requests",
        lambda m: Distribution.from_values(m.e2e_us),
    ),
    LatencyMetric(
        "queue",
        "queue time",
        "Queue Time",
        "first scheduled - entered the waiting queue, completed requests",
        _queue,
    ),
    LatencyMetric(
        "scheduling_delay",
        "scheduling delay",
        "Scheduling Delay",
        "first scheduled - arrival (queue time + frontend), completed requests",
        _scheduling_delay,
    ),
)


SERVING_METRICS: tuple[Metric, ...] = (
    Metric(
        "duration",
        "Benchmark duration (s)",
        "s",
        "first arrival to last token seen by a client, or to the horizon",
        lambda m: m.duration_s,
    ),
    Metric(
        "completed",
        "Successful requests",
        "requests",
        "requests that received their last token (length-capped ones included)",
        lambda m: m.num_with(Status.COMPLETED),
        per_class=True,
    ),
    Metric(
        "failed",
        "Failed requests",
        "requests",
        "aborted + timed_out + rejected + dropped",
        lambda m: m.num_with(*FAILED),
        per_class=True,
    ),
    Metric(
        "total_input_tokens",
        "Total input tokens",
        "tokens",
        "prompt tokens of completed requests",
        Measured.input_tokens,
        per_class=True,
    ),
    Metric(
        "total_output_tokens",
        "Total generated tokens",
        "tokens",
        "output tokens of completed requests",
        lambda m: int(m.output_tokens.sum()),
        per_class=True,
    ),
    Metric(
        "request_throughput",
        "Request throughput (req/s)",
        "req/s",
        "completed / duration",
        lambda m: m.per_second(m.num_with(Status.COMPLETED)),
        per_class=True,
    ),
    Metric(
        "request_goodput",
        "Request goodput (req/s)",
        "req/s",
        "completed requests that meet every given limit (ttft, tpot, e2el; at the limit is "
        "met; one without a TPOT meets any TPOT limit) / duration; null without limits",
        lambda m: m.per_second(m.num_good),
        per_class=True,
    ),
    Metric(
        "output_throughput",
        "Output token throughput (tok/s)",
        "tok/s",
        "total_output_tokens / duration",
        lambda m: m.per_second(int(m.output_tokens.sum())),
        per_class=True,
    ),
    Metric(
        "total_token_throughput",
        "Total token throughput (tok/s)",
        "tok/s",
        "(total_input_tokens + total_output_tokens) / duration",
        lambda m: m.per_second(m.input_tokens() + int(m.output_tokens.sum())),
        per_class=True,
    ),
    Metric(
        "max_output_tokens_per_s",
        "Peak output token throughput (tok/s)",
        "tok/s",
        "most tokens generated in one whole second of simulated time, all requests",
        lambda m: float(m.run.token_counts.max()) if m.run.token_counts.size else None,
    ),
    Metric(
        "max_concurrent_requests",
        "Peak concurrent requests",
        "requests",
        "most requests at once between arrival and last token; one still in the system counts "
        "to the end; aborted and timed-out ones to their last recorded moment (lower bound)",
        Measured.peak_concurrent_requests,
        per_class=True,
    ),
    Metric(
        "request_throughput_per_gpu",
        "Request throughput per GPU (req/s)",
        "req/s/GPU",
        "request_throughput / (tensor_parallel_size * num_instances)",
        lambda m: m.per_gpu_second(m.num_with(Status.COMPLETED)),
    ),
    Metric(
        "output_throughput_per_gpu",
        "Output tokens per GPU (tok/s)",
        "tok/s/GPU",
        "output_throughput / (tensor_parallel_size * num_instances)",
        lambda m: m.per_gpu_second(int(m.output_tokens.sum())),
    ),
    Metric(
        "total_token_throughput_per_gpu",
        "Total tokens per GPU (tok/s)",
        "tok/s/GPU",
        "total_token_throughput / (tensor_parallel_size * num_instances)",
        lambda m: m.per_gpu_second(m.input_tokens() + int(m.output_tokens.sum())),
    ),
)


def _kv_usage_mean(measured: Measured) -> float | None:
    mean_blocks = measured.time_mean(measured.total("kv_block_us"))
    return None if mean_blocks is None else ratio(mean_blocks, measured.total("num_kv_blocks"))


def _kv_usage_peak(measured: Measured) -> float | None:
    used = [c.peak_kv_blocks / c.num_kv_blocks for c in measured.counters if c.num_kv_blocks]
    return max(used, default=None)


KV_CACHE_METRICS: tuple[Metric, ...] = (
    Metric(
        "kv_usage_mean_frac",
        "KV cache usage, mean (%)",
        "fraction",
        "integral of allocated blocks over time / (blocks of all instances * duration)",
        _kv_usage_mean,
        Group.KV_CACHE,
    ),
    Metric(
        "kv_usage_peak_frac",
        "KV cache usage, peak (%)",
        "fraction",
        "largest share of its blocks any instance had allocated at once",
        _kv_usage_peak,
        Group.KV_CACHE,
    ),
    Metric(
        "prefix_hit_rate",
        "Prefix cache hit rate (%)",
        "fraction",
        "prompt tokens found in the cache / prompt tokens looked up, at first admission; "
        "null when nothing was looked up",
        lambda m: ratio(m.total("prefix_hits_tokens"), m.total("prefix_queries_tokens")),
        Group.KV_CACHE,
    ),
    Metric(
        "prefix_queries_tokens",
        "Prefix cache lookups (tokens)",
        "tokens",
        "prompt tokens of requests at first admission, prefix caching on",
        lambda m: m.total("prefix_queries_tokens"),
        Group.KV_CACHE,
    ),
    Metric(
        "prefix_hits_tokens",
        "Prefix cache hits (tokens)",
        "tokens",
        "of prefix_queries_tokens, found in the cache",
        lambda m: m.total("prefix_hits_tokens"),
        Group.KV_CACHE,
    ),
    Metric(
        "recached_tokens",
        "Hits after preemption (tokens)",
        "tokens",
        "tokens found in the cache at re-admissions after a preemption",
        lambda m: m.total("recached_tokens"),
        Group.KV_CACHE,
    ),
)

ENGINE_METRICS: tuple[Metric, ...] = (
    Metric(
        "num_preemptions",
        "Preemptions",
        "preemptions",
        "times a running request lost its blocks and went back to the queue",
        lambda m: m.total("num_preemptions"),
        Group.ENGINE,
    ),
    Metric(
        "num_steps",
        "Engine steps",
        "steps",
        "engine steps of all instances",
        lambda m: m.total("num_steps"),
        Group.ENGINE,
    ),
    Metric(
        "mean_batch_requests",
        "Batch size, mean (requests)",
        "requests",
        "mean over steps of the requests with tokens in the step",
        lambda m: ratio(m.total("batch_requests"), m.total("num_steps")),
        Group.ENGINE,
    ),
    Metric(
        "mean_batch_tokens",
        "Batch size, mean (tokens)",
        "tokens",
        "mean over steps of the tokens in the step",
        lambda m: ratio(m.total("batch_tokens"), m.total("num_steps")),
        Group.ENGINE,
    ),
    Metric(
        "mean_running_requests",
        "Running requests, mean",
        "requests",
        "time average of the running lists' lengths, summed over instances",
        lambda m: m.time_mean(m.total("running_us")),
        Group.ENGINE,
    ),
    Metric(
        "mean_waiting_requests",
        "Waiting requests, mean",
        "requests",
        "time average of the waiting queues' lengths, summed over instances",
        lambda m: m.time_mean(m.total("waiting_us")),
        Group.ENGINE,
    ),
    Metric(
        "peak_running_requests",
        "Running requests, peak",
        "requests",
        "longest running list of any instance",
        lambda m: max((c.peak_running for c in m.counters), default=None),
        Group.ENGINE,
    ),
    Metric(
        "peak_waiting_requests",
        "Waiting requests, peak",
        "requests",
        "longest waiting queue of any instance",
        lambda m: max((c.peak_waiting for c in m.counters), default=None),
        Group.ENGINE,
    ),
    Metric(
        "gpu_busy_frac",
        "GPU busy (%)",
        "fraction",
        "sum of step durations / (duration * num_instances)",
        lambda m: ratio(m.total("busy_us"), m.duration_us * len(m.counters)),
        Group.ENGINE,
    ),
    Metric(
        "num_prefill_tokens",
        "Prefill tokens processed",
        "tokens",
        "prompt and recomputed tokens processed in steps",
        lambda m: m.total("num_prefill_tokens"),
        Group.ENGINE,
    ),
    Metric(
        "num_decode_tokens",
        "Decode tokens processed",
        "tokens",
        "tokens processed by decodes, one per decode and step",
        lambda m: m.total("num_decode_tokens"),
        Group.ENGINE,
    ),
    Metric(
        "num_generated_tokens",
        "Tokens generated",
        "tokens",
        "tokens the engines generated, for all requests",
        lambda m: m.total("num_generated_tokens"),
        Group.ENGINE,
    ),
)

METRICS: tuple[Metric, ...] = (*SERVING_METRICS, *KV_CACHE_METRICS, *ENGINE_METRICS)


def metric(tag: str) -> Metric:
    """Return the declaration of ``tag``; KeyError when there is none."""
    for declared in METRICS:
        if declared.tag == tag:
            return declared
    raise KeyError(tag)


def metric_definitions() -> dict[str, dict[str, str]]:
    """Return what every reported number means: tag → keys, header, unit, formula."""
    definitions: dict[str, dict[str, str]] = {}
    for declared in METRICS:
        definitions[declared.tag] = {
            "header": declared.header,
            "unit": declared.unit,
            "formula": declared.formula,
        }
    for latency in LATENCIES:
        definitions[latency.tag] = {
            "header": latency.title,
            "keys": f"mean|median|std|p<percentile>_{latency.tag}_ms",
            "unit": "ms",
            "formula": f"{latency.formula}; std over the population; percentiles by linear "
            "interpolation at p/100*(n-1)",
        }
    return definitions
