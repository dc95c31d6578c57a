"""The numbers of a run as dictionaries, made by iterating the metric registry."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from blis_sim.metrics.definitions import (
    LATENCIES,
    METRICS,
    SERVING_METRICS,
    STANDARD_PERCENTILES,
    Group,
)
from blis_sim.metrics.measured import Measured
from blis_sim.metrics.percentiles import BoolArray
from blis_sim.metrics.records import ABSENT, RunData, Status
from blis_sim.units import us_to_seconds

if TYPE_CHECKING:
    from blis_sim.metrics.context import RunContext

NO_CLASS = "(none)"
"""Key of the requests without an SLO class, beside others that have one."""


DETAILED_DEFINITIONS = {
    "input_lens": {"unit": "tokens", "formula": "prompt tokens, one per request"},
    "output_lens": {"unit": "tokens", "formula": "tokens the client received, one per request"},
    "start_times": {"unit": "s", "formula": "arrival, from the start of the run"},
    "ttfts": {"unit": "s", "formula": "first token - arrival; null without a token"},
    "errors": {"unit": "text", "formula": "empty when completed, else the state and the reason"},
    "itls": {"unit": "s", "formula": "left out: gaps are pooled, not kept by request"},
}


def percentile_ranks(context: RunContext) -> tuple[float, ...]:
    """Return the percentiles to report: the standard ones and the user's, ascending."""
    return tuple(sorted({*STANDARD_PERCENTILES, *context.percentiles}))


def measure(run: RunData, context: RunContext, chosen: BoolArray | None = None) -> Measured:
    """Return the view of ``run`` that the metric formulas read."""
    return Measured(run, num_gpus=context.num_gpus, slo=context.slo, chosen=chosen)


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
    ranks = percentile_ranks(context)
    for latency in LATENCIES:
        summary |= latency.statistics(measured, ranks)
    return summary


def group_summary(run: RunData, context: RunContext, group: Group) -> dict[str, Any]:
    """Return the metrics of one group by their tags."""
    measured = measure(run, context)
    return {
        declared.tag: declared.value(measured) for declared in METRICS if declared.group is group
    }


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


def per_class_block(run: RunData, context: RunContext) -> dict[str, dict[str, Any]]:
    """Return counts, rates and latencies of each SLO class; empty when there are none.

    Inter-token latency is pooled over all requests and has no place here.
    """
    if not run.slo_classes:
        return {}
    codes = run.requests.slo_class
    chosen = {name: codes == code for code, name in enumerate(run.slo_classes)}
    names = sorted(chosen)
    unlabelled = codes == ABSENT
    if unlabelled.any():
        chosen[NO_CLASS] = unlabelled
        names.append(NO_CLASS)
    return {name: _class_summary(run, context, chosen[name]) for name in names}


def _class_summary(run: RunData, context: RunContext, chosen: BoolArray) -> dict[str, Any]:
    measured = measure(run, context, chosen)
    summary: dict[str, Any] = {"num_prompts": measured.num_injected}
    summary |= {d.tag: d.value(measured) for d in SERVING_METRICS if d.per_class}
    ranks = percentile_ranks(context)
    for latency in LATENCIES:
        if latency.per_class:
            summary |= latency.statistics(measured, ranks)
    return summary


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
