"""What the engines did: KV cache, batches, work."""

from __future__ import annotations

from blis_sim.metrics.measured import Measured, ratio
from blis_sim.metrics.metric import Group, Metric, Scope


def _kv_usage_mean(measured: Measured) -> float | None:
    each = zip(measured.counters, measured.serving_us, strict=True)
    blocks_us = sum(counters.num_kv_blocks * serving_us for counters, serving_us in each)
    used, there = measured.time_mean(measured.total("kv_block_us")), measured.time_mean(blocks_us)
    return None if used is None or there is None else ratio(used, there)


def _busy(measured: Measured) -> float | None:
    busy_us = [counters.busy_us for counters in measured.counters]
    return ratio(measured.gpu_weighted(busy_us), measured.gpu_weighted(measured.serving_us))


def _kv_usage_peak(measured: Measured) -> float | None:
    used = [c.peak_kv_blocks / c.num_kv_blocks for c in measured.counters if c.num_kv_blocks]
    return max(used, default=None)


KV_CACHE_METRICS: tuple[Metric, ...] = (
    Metric(
        "kv_usage_mean_frac",
        "KV cache usage, mean (%)",
        "fraction",
        "integral over time of the blocks allocated / of the blocks there are; an instance's "
        "are there from ready to stopped (without a cluster for the whole duration)",
        _kv_usage_mean,
        Group.KV_CACHE,
        Scope.INSTANCE,
    ),
    Metric(
        "kv_usage_peak_frac",
        "KV cache usage, peak (%)",
        "fraction",
        "largest share of its blocks any instance had allocated at once",
        _kv_usage_peak,
        Group.KV_CACHE,
        Scope.INSTANCE,
    ),
    Metric(
        "prefix_hit_rate",
        "Prefix cache hit rate (%)",
        "fraction",
        "prompt tokens found in the cache / prompt tokens looked up, at first admission; "
        "null when nothing was looked up",
        lambda m: ratio(m.total("prefix_hits_tokens"), m.total("prefix_queries_tokens")),
        Group.KV_CACHE,
        Scope.INSTANCE,
    ),
    Metric(
        "prefix_queries_tokens",
        "Prefix cache lookups (tokens)",
        "tokens",
        "prompt tokens of requests at first admission, prefix caching on",
        lambda m: m.total("prefix_queries_tokens"),
        Group.KV_CACHE,
        Scope.INSTANCE,
    ),
    Metric(
        "prefix_hits_tokens",
        "Prefix cache hits (tokens)",
        "tokens",
        "of prefix_queries_tokens, found in the cache",
        lambda m: m.total("prefix_hits_tokens"),
        Group.KV_CACHE,
        Scope.INSTANCE,
    ),
    Metric(
        "recached_tokens",
        "Hits after preemption (tokens)",
        "tokens",
        "tokens found in the cache at re-admissions after a preemption",
        lambda m: m.total("recached_tokens"),
        Group.KV_CACHE,
        Scope.INSTANCE,
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
        Scope.INSTANCE,
    ),
    Metric(
        "num_steps",
        "Engine steps",
        "steps",
        "engine steps of all instances",
        lambda m: m.total("num_steps"),
        Group.ENGINE,
        Scope.INSTANCE,
    ),
    Metric(
        "mean_batch_requests",
        "Batch size, mean (requests)",
        "requests",
        "mean over steps of the requests with tokens in the step",
        lambda m: ratio(m.total("batch_requests"), m.total("num_steps")),
        Group.ENGINE,
        Scope.INSTANCE,
    ),
    Metric(
        "mean_batch_tokens",
        "Batch size, mean (tokens)",
        "tokens",
        "mean over steps of the tokens in the step",
        lambda m: ratio(m.total("batch_tokens"), m.total("num_steps")),
        Group.ENGINE,
        Scope.INSTANCE,
    ),
    Metric(
        "mean_running_requests",
        "Running requests, mean",
        "requests",
        "time average of the running lists' lengths, summed over instances",
        lambda m: m.time_mean(m.total("running_us")),
        Group.ENGINE,
        Scope.POOL,
    ),
    Metric(
        "mean_waiting_requests",
        "Waiting requests, mean",
        "requests",
        "time average of the waiting queues' lengths, summed over instances",
        lambda m: m.time_mean(m.total("waiting_us")),
        Group.ENGINE,
        Scope.POOL,
    ),
    Metric(
        "peak_running_requests",
        "Running requests, peak",
        "requests",
        "longest running list of any instance",
        lambda m: max((c.peak_running for c in m.counters), default=None),
        Group.ENGINE,
        Scope.INSTANCE,
    ),
    Metric(
        "peak_waiting_requests",
        "Waiting requests, peak",
        "requests",
        "longest waiting queue of any instance",
        lambda m: max((c.peak_waiting for c in m.counters), default=None),
        Group.ENGINE,
        Scope.INSTANCE,
    ),
    Metric(
        "gpu_busy_frac",
        "GPU busy (%)",
        "fraction",
        "step durations / time from ready to stopped (without a cluster the duration), both "
        "summed over instances, each weighted by its GPUs",
        _busy,
        Group.ENGINE,
        Scope.INSTANCE,
    ),
    Metric(
        "num_prefill_tokens",
        "Prefill tokens processed",
        "tokens",
        "prompt and recomputed tokens processed in steps",
        lambda m: m.total("num_prefill_tokens"),
        Group.ENGINE,
        Scope.INSTANCE,
    ),
    Metric(
        "num_decode_tokens",
        "Decode tokens processed",
        "tokens",
        "tokens processed by decodes, one per decode and step",
        lambda m: m.total("num_decode_tokens"),
        Group.ENGINE,
        Scope.INSTANCE,
    ),
    Metric(
        "num_generated_tokens",
        "Tokens generated",
        "tokens",
        "tokens the engines generated, for all requests",
        lambda m: m.total("num_generated_tokens"),
        Group.ENGINE,
        Scope.INSTANCE,
    ),
    Metric(
        "prompt_throughput",
        "Prefill tokens per second (tok/s)",
        "tok/s",
        "num_prefill_tokens / duration",
        lambda m: m.per_second(m.total("num_prefill_tokens")),
        Group.ENGINE,
        Scope.INSTANCE,
    ),
    Metric(
        "generation_throughput",
        "Tokens generated per second (tok/s)",
        "tok/s",
        "num_generated_tokens / duration",
        lambda m: m.per_second(m.total("num_generated_tokens")),
        Group.ENGINE,
        Scope.INSTANCE,
    ),
)
