"""The numbers of a run as dictionaries, made by iterating the metric registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from blis_sim.metrics.definitions import (
    LATENCIES,
    METRICS,
    SERVING_METRICS,
    Group,
)
from blis_sim.metrics.measured import Measured
from blis_sim.metrics.metric import STANDARD_PERCENTILES
from blis_sim.metrics.percentiles import BoolArray, Int64Array
from blis_sim.metrics.records import ABSENT, RunData, Status
from blis_sim.units import US_PER_HOUR, us_to_seconds

if TYPE_CHECKING:
    from blis_sim.metrics.context import RunContext

DETAILED_DEFINITIONS = {
    "input_lens": {"unit": "tokens", "formula": "prompt tokens, one per request"},
    "output_lens": {"unit": "tokens", "formula": "tokens the client received, one per request"},
    "start_times": {"unit": "s", "formula": "arrival, from the start of the run"},
    "ttfts": {"unit": "s", "formula": "first token - arrival; null without a token"},
    "errors": {"unit": "text", "formula": "empty when completed, else the state and the reason"},
    "itls": {"unit": "s", "formula": "left out: gaps are pooled, not kept by request"},
}

BLOCK_DEFINITIONS = {
    "started_s": {"unit": "s", "formula": "from then on the instance is paid for"},
    "ready_s": {"unit": "s", "formula": "from then on the instance takes requests"},
    "drained_s": {"unit": "s", "formula": "from then on it takes no more; null = it always does"},
    "stopped_s": {"unit": "s", "formula": "end of its last request after that; null = never"},
    "gpu_hours_by_gpu": {"unit": "GPU-h", "formula": "gpu_hours of the instances of each GPU"},
    "scaling": {
        "unit": "list",
        "formula": "decisions of autoscalers: instances wanted before and after, and what the "
        "metric measured, in its unit",
    },
}
"""What stands in the blocks of a cluster beside the metrics."""


def percentile_ranks(context: RunContext) -> tuple[float, ...]:
    """Return the percentiles to report: the standard ones and the user's, ascending."""
    return tuple(sorted({*STANDARD_PERCENTILES, *context.percentiles}))


def measure(
    run: RunData,
    context: RunContext,
    *,
    chosen: BoolArray | Int64Array | None = None,
    instances: Sequence[int] | None = None,
) -> Measured:
    """Return the view of ``run``, or of some requests and instances, that formulas read."""
    return Measured(
        run,
        num_gpus=context.num_gpus,
        slo=context.slo,
        chosen=chosen,
        instances=instances,
        usd_per_gpu_hour={gpu: each.usd_per_gpu_hour for gpu, each in context.prices.items()},
        gpu=context.gpu,
    )


def serving_summary(run: RunData, context: RunContext, date: str) -> dict[str, Any]:
    """Return vLLM's keys in vLLM's order, then the serving metrics it does not have."""
    measured = measure(run, context)
    summary: dict[str, Any] = {
        "date": date,
        "backend": context.backend,
        "model_id": context.model,
        "num_prompts": measured.num_injected,
        "request_rate": context.request_rate,
        "burstiness": context.burstiness,
        "max_concurrency": context.max_concurrency,
    }
    summary |= {declared.tag: declared.value(measured) for declared in SERVING_METRICS}
    return summary | latency_summary(measured, context, Group.SERVING)


def latency_summary(
    measured: Measured, context: RunContext, group: Group
) -> dict[str, float | None]:
    """Return mean, median, std and percentiles of the latencies of one group."""
    ranks = percentile_ranks(context)
    summary: dict[str, float | None] = {}
    for latency in LATENCIES:
        if latency.group is group:
            summary |= latency.statistics(measured, ranks)
    return summary


def group_summary(run: RunData, context: RunContext, group: Group) -> dict[str, Any]:
    """Return the metrics of one group by their tags, then its latencies."""
    measured = measure(run, context)
    values = {each.tag: each.value(measured) for each in METRICS if each.group is group}
    return values | latency_summary(measured, context, group)


def kv_cache_block(run: RunData, context: RunContext) -> dict[str, Any]:
    """Return the size of the KV cache, where it comes from, and how it was used."""
    return {
        "num_blocks_per_instance": context.num_kv_blocks,
        "num_blocks_source": context.kv_blocks_source,
        **group_summary(run, context, Group.KV_CACHE),
    }


def engine_block(run: RunData, context: RunContext) -> dict[str, Any]:
    """Return the engine metrics, and the counters of each instance."""
    per_instance = []
    for number, counters in enumerate(run.counters):
        plain = {"instance": number, **asdict(counters)}
        # Work of the simulator, not of the engine: it stands in run_info.
        del plain["num_events"]
        per_instance.append(plain)
    return {
        "num_instances": context.num_instances,
        "num_gpus": context.num_gpus,
        **group_summary(run, context, Group.ENGINE),
        "per_instance": per_instance,
    }


def cluster_block(run: RunData, context: RunContext) -> dict[str, Any]:
    """Return the metrics of the cluster, its GPU-hours by GPU, and how it was scaled."""
    return {
        **group_summary(run, context, Group.CLUSTER),
        "gpu_hours_by_gpu": gpu_hours_by_gpu(run, context),
        "scaling": [
            {
                "time_s": us_to_seconds(event.time_us),
                "pool": run.pools[event.pool].name,
                "before": event.before,
                "after": event.after,
                "measured": event.measured,
            }
            for event in run.scaling
        ],
    }


def gpu_hours_by_gpu(run: RunData, context: RunContext) -> dict[str, float]:
    """Return the hours of GPU time that were paid for within the run, by the GPU's name."""
    if not run.instances:
        return {context.gpu: measure(run, context).gpu_us / US_PER_HOUR}
    instances: dict[str, list[int]] = {pool.gpu: [] for pool in run.pools}
    for number, data in enumerate(run.instances):
        instances[run.pools[data.pool].gpu].append(number)
    return {
        gpu: measure(run, context, instances=numbers).gpu_us / US_PER_HOUR
        for gpu, numbers in instances.items()
    }


def detailed_arrays(run: RunData) -> dict[str, list[Any]]:
    """Return vLLM's per-request arrays: one entry per request, null where there is none.

    ``start_times`` and ``ttfts`` are in seconds (start times from the start of the run).
    There is no ``itls``: gaps are pooled, not kept by request.
    """
    columns = run.requests
    first = columns.first_token_us
    ttfts = [
        us_to_seconds(token - arrival) if token != ABSENT else None
        for token, arrival in zip(first.tolist(), columns.arrival_us.tolist(), strict=True)
    ]
    endings = ["" if status is Status.COMPLETED else status.name.lower() for status in Status]
    errors = [
        f"{endings[status]}: {run.reasons[code]}" if code != ABSENT else endings[status]
        for status, code in zip(columns.status.tolist(), columns.reason.tolist(), strict=True)
    ]
    return {
        "input_lens": columns.prompt_tokens.tolist(),
        "output_lens": columns.output_tokens.tolist(),
        "start_times": [us_to_seconds(us) for us in columns.arrival_us.tolist()],
        "ttfts": ttfts,
        "errors": errors,
    }
