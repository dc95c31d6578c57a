"""What clients got: counts, rates, goodput. The words are vLLM's."""

from __future__ import annotations

from blis_sim.metrics.measured import FAILED, Measured
from blis_sim.metrics.metric import Metric, Scope
from blis_sim.metrics.records import Status

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
        scope=Scope.REQUESTS,
    ),
    Metric(
        "failed",
        "Failed requests",
        "requests",
        "aborted + timed_out + rejected + dropped",
        lambda m: m.num_with(*FAILED),
        scope=Scope.REQUESTS,
    ),
    Metric(
        "total_input_tokens",
        "Total input tokens",
        "tokens",
        "prompt tokens of completed requests",
        Measured.input_tokens,
        scope=Scope.REQUESTS,
    ),
    Metric(
        "total_output_tokens",
        "Total generated tokens",
        "tokens",
        "output tokens of completed requests",
        lambda m: int(m.output_tokens.sum()),
        scope=Scope.REQUESTS,
    ),
    Metric(
        "request_throughput",
        "Request throughput (req/s)",
        "req/s",
        "completed / duration",
        lambda m: m.per_second(m.num_with(Status.COMPLETED)),
        scope=Scope.REQUESTS,
    ),
    Metric(
        "request_goodput",
        "Request goodput (req/s)",
        "req/s",
        "completed requests that meet every given limit (ttft, tpot, e2el; at the limit is "
        "met; one without a TPOT meets any TPOT limit) / duration; null without limits",
        lambda m: m.per_second(m.num_good),
        scope=Scope.REQUESTS,
    ),
    Metric(
        "output_throughput",
        "Output token throughput (tok/s)",
        "tok/s",
        "total_output_tokens / duration",
        lambda m: m.per_second(int(m.output_tokens.sum())),
        scope=Scope.REQUESTS,
    ),
    Metric(
        "total_token_throughput",
        "Total token throughput (tok/s)",
        "tok/s",
        "(total_input_tokens + total_output_tokens) / duration",
        lambda m: m.per_second(m.input_tokens() + int(m.output_tokens.sum())),
        scope=Scope.REQUESTS,
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
        scope=Scope.REQUESTS,
    ),
    Metric(
        "request_throughput_per_gpu",
        "Request throughput per GPU (req/s)",
        "req/s/GPU",
        "request_throughput / mean_gpus",
        lambda m: m.per_gpu_second(m.num_with(Status.COMPLETED)),
    ),
    Metric(
        "output_throughput_per_gpu",
        "Output tokens per GPU (tok/s)",
        "tok/s/GPU",
        "output_throughput / mean_gpus",
        lambda m: m.per_gpu_second(int(m.output_tokens.sum())),
    ),
    Metric(
        "total_token_throughput_per_gpu",
        "Total tokens per GPU (tok/s)",
        "tok/s/GPU",
        "total_token_throughput / mean_gpus",
        lambda m: m.per_gpu_second(m.input_tokens() + int(m.output_tokens.sum())),
    ),
)
