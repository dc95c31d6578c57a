"""The same numbers for parts of a run: a class, a tenant, a pool, an instance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from blis_sim.metrics.definitions import LATENCIES, METRICS, Scope
from blis_sim.metrics.measured import Measured
from blis_sim.metrics.percentiles import Int64Array
from blis_sim.metrics.records import ABSENT, RunData
from blis_sim.metrics.summary import measure, percentile_ranks
from blis_sim.units import us_to_seconds

if TYPE_CHECKING:
    from blis_sim.metrics.context import RunContext

UNLABELLED = "(none)"
"""Key of the requests without a label, beside others that have one."""


def per_class_block(run: RunData, context: RunContext) -> dict[str, dict[str, Any]]:
    """Return counts, rates and latencies of each SLO class; empty when there are none."""
    return _per_label(run, context, run.requests.slo_class, run.slo_classes)


def per_tenant_block(run: RunData, context: RunContext) -> dict[str, dict[str, Any]]:
    """Return counts, rates and latencies of each tenant; empty when there are none."""
    return _per_label(run, context, run.requests.tenant, run.tenants)


def per_pool_block(run: RunData, context: RunContext) -> dict[str, dict[str, Any]]:
    """Return what each pool of a cluster is and did; empty without a cluster.

    A request counts in each pool that worked on it: where prompts are computed apart, in two.
    Its latencies are those of the whole request.
    """
    numbers: list[list[int]] = [[] for _ in run.pools]
    for number, data in enumerate(run.instances):
        numbers[data.pool].append(number)
    rows = _rows_by_pool(run)
    block: dict[str, dict[str, Any]] = {}
    for code, pool in enumerate(run.pools):
        instances = numbers[code]
        measured = measure(run, context, chosen=rows[code], instances=instances)
        block[pool.name] = {
            "role": pool.role,
            "model": pool.model,
            "gpu": pool.gpu,
            "gpus_per_instance": pool.gpus_per_instance,
            "num_kv_blocks_per_instance": max(
                (c.num_kv_blocks for c in measured.counters), default=0
            ),
            **_part_summary(measured, context, Scope.POOL),
        }
    return block


def per_instance_block(run: RunData, context: RunContext) -> list[dict[str, Any]]:
    """Return what each instance of a cluster did, in order; empty without a cluster.

    A request counts at the instance that computed its prompt and at the one that went on.
    """
    rows = _rows_by_instance(run)
    block = []
    for number, data in enumerate(run.instances):
        chosen = rows.get(number, np.empty(0, dtype=np.int64))
        measured = measure(run, context, chosen=chosen, instances=[number])
        block.append(
            {
                "instance": number,
                "pool": run.pools[data.pool].name,
                "started_s": us_to_seconds(data.started_us),
                "ready_s": us_to_seconds(data.ready_us),
                "drained_s": _seconds(data.drained_us),
                "stopped_s": _seconds(data.stopped_us),
                **_part_summary(measured, context, Scope.INSTANCE),
            }
        )
    return block


def _per_label(
    run: RunData, context: RunContext, codes: Int64Array, labels: Sequence[str]
) -> dict[str, dict[str, Any]]:
    if not labels:
        return {}
    rows = _rows_by_code(codes)
    names = {name: code for code, name in enumerate(labels)}
    keys = {name: names[name] for name in sorted(names)}
    if ABSENT in rows:
        keys[UNLABELLED] = ABSENT
    return {
        name: _part_summary(measure(run, context, chosen=rows[code]), context, Scope.REQUESTS)
        for name, code in keys.items()
    }


def _part_summary(measured: Measured, context: RunContext, scope: Scope) -> dict[str, Any]:
    """Return all numbers that can be told of a part of this scope.

    Inter-token latency is pooled over all requests and is told of no part.
    """
    summary: dict[str, Any] = {"num_prompts": measured.num_injected}
    summary |= {d.tag: d.value(measured) for d in METRICS if d.scope >= scope}
    ranks = percentile_ranks(context)
    for latency in LATENCIES:
        if latency.scope >= scope:
            summary |= latency.statistics(measured, ranks)
    return summary


def _rows_by_code(codes: Int64Array) -> dict[int, Int64Array]:
    """Return the rows of each code that occurs, ascending."""
    order = np.argsort(codes, kind="stable")
    found, starts = np.unique(codes[order], return_index=True)
    return dict(zip(found.tolist(), np.split(order, starts)[1:], strict=True))


def _rows_by_instance(run: RunData) -> dict[int, Int64Array]:
    columns = run.requests
    codes = np.concatenate((columns.instance, columns.prefill_instance))
    rows = _rows_by_code(codes)
    return {code: at % columns.instance.size for code, at in rows.items() if code != ABSENT}


def _rows_by_pool(run: RunData) -> list[Int64Array]:
    rows: list[list[Int64Array]] = [[] for _ in run.pools]
    if run.instances:
        for number, at in _rows_by_instance(run).items():
            rows[run.instances[number].pool].append(at)
    none = np.empty(0, dtype=np.int64)
    return [np.unique(np.concatenate([none, *parts])) for parts in rows]


def _seconds(time_us: int | None) -> float | None:
    return None if time_us is None else us_to_seconds(time_us)
