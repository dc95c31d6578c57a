"""Times of requests of which distributions are reported.

The words are vLLM's. The same words mean other things elsewhere; where they do, the formula
says so.
"""

from __future__ import annotations

from blis_sim.metrics.measured import Measured
from blis_sim.metrics.metric import Group, LatencyMetric, Scope
from blis_sim.metrics.percentiles import Distribution


def _tpot(measured: Measured) -> Distribution | None:
    tpot_us = measured.tpot_us
    return Distribution.from_values(tpot_us[measured.output_tokens >= 2])


def _queue(measured: Measured) -> Distribution | None:
    columns = measured.columns
    return Distribution.from_values(measured.since(columns.scheduled_us, columns.enqueued_us))


def _scheduling_delay(measured: Measured) -> Distribution | None:
    columns = measured.columns
    return Distribution.from_values(measured.since(columns.scheduled_us, columns.arrival_us))


def _gateway(measured: Measured) -> Distribution | None:
    columns = measured.columns
    return Distribution.from_values(measured.since(columns.dispatched_us, columns.arrival_us))


def _transfer(measured: Measured) -> Distribution | None:
    columns = measured.columns
    return Distribution.from_values(measured.since(columns.transferred_us, columns.handed_over_us))


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
        scope=Scope.RUN,
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
        "first scheduled - arrival (queue time + frontend + gateway), completed requests",
        _scheduling_delay,
    ),
    LatencyMetric(
        "gateway",
        "gateway time",
        "Gateway Time",
        "sent to an instance - arrival, completed requests; 0 = sent at once, null without a "
        "cluster",
        _gateway,
        Group.CLUSTER,
    ),
    LatencyMetric(
        "transfer",
        "transfer time",
        "KV Transfer Time",
        "KV cache at the decode instance - end of prefill (waiting for blocks and for the link "
        "included), completed requests; null without transfers",
        _transfer,
        Group.CLUSTER,
    ),
)
