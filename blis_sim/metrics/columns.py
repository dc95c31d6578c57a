"""Per-request and per-sample tables as integer columns, from which every file is written.

A number with decimals is kept as a whole number of its last decimal, so that the CSV, the
Parquet file and the DataFrame hold exactly the same value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from blis_sim.metrics.percentiles import BoolArray, Int64Array
from blis_sim.metrics.records import ABSENT, RequestColumns, RunData, Status, TimeSeries
from blis_sim.units import US_PER_S

if TYPE_CHECKING:
    import pandas as pd

_MS_DECIMALS = 3
_TPOT_DECIMALS = 6
_NS_PER_US = 1_000
_FRACTION_DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes
    ----------
    name : str
        Header.
    data : int64 array, shape (rows,)
        The value times ``10**decimals``; an index into ``labels`` for a text column. Anything
        where the value is absent.
    present : bool array, shape (rows,), or None
        Where there is a value; None = everywhere, in every run.
    decimals : int
        Digits after the decimal point.
    labels : sequence of str or None
        The texts of a text column.
    """

    name: str
    data: Int64Array
    present: BoolArray | None = None
    decimals: int = 0
    labels: Sequence[str] | None = None


def request_columns(run: RunData) -> list[Column]:
    """Return one row per request in order of ``request_id``.

    ``*_us`` are client times in whole microseconds; ``*_ms`` are exact to the microsecond
    (``tpot_ms`` to the nanosecond, rounded half up). ``tpot_ms`` and ``e2e_ms`` exist for
    completed requests only.
    """
    columns = run.requests
    return [
        Column("request_id", columns.request_id),
        Column("arrival_us", columns.arrival_us),
        _optional("enqueued_us", columns.enqueued_us),
        _optional("scheduled_us", columns.scheduled_us),
        _optional("first_token_us", columns.first_token_us),
        _optional("last_token_us", columns.last_token_us),
        Column("prompt_tokens", columns.prompt_tokens),
        Column("output_tokens", columns.output_tokens),
        _optional("cached_tokens", columns.cached_tokens),
        *_latency_columns(columns),
        Column("num_preemptions", columns.num_preemptions),
        _optional("instance", columns.instance),
        _label("slo_class", columns.slo_class, run.slo_classes),
        _label("tenant", columns.tenant, run.tenants),
        Column("status", columns.status, labels=[status.name.lower() for status in Status]),
        _optional("recached_tokens", columns.recached_tokens),
        Column("length_capped", columns.length_capped),
        _label("reason", columns.reason, run.reasons),
        *_cluster_columns(run),
    ]


def _cluster_columns(run: RunData) -> list[Column]:
    """Return where a cluster sent each request and when; all absent without one."""
    columns = run.requests
    return [
        _optional("dispatched_us", columns.dispatched_us),
        _optional("prefill_instance", columns.prefill_instance),
        _optional("handed_over_us", columns.handed_over_us),
        _optional("transferred_us", columns.transferred_us),
        _pool(run, columns.instance),
        _milliseconds("gateway_ms", columns.dispatched_us, columns.arrival_us),
        _milliseconds("transfer_ms", columns.transferred_us, columns.handed_over_us),
    ]


def _latency_columns(columns: RequestColumns) -> list[Column]:
    """Return queue_ms, scheduling_delay_ms, ttft_ms, tpot_ms and e2e_ms."""
    completed = columns.status == Status.COMPLETED
    num_gaps = columns.output_tokens - 1
    has_tpot = completed & (num_gaps >= 1) & _both(columns.last_token_us, columns.first_token_us)
    spread_us = _subtract(columns.last_token_us, columns.first_token_us, has_tpot)
    divisor = np.maximum(num_gaps, 1)
    tpot_ns = (spread_us * _NS_PER_US + divisor // 2) // divisor
    return [
        _milliseconds("queue_ms", columns.scheduled_us, columns.enqueued_us),
        _milliseconds("scheduling_delay_ms", columns.scheduled_us, columns.arrival_us),
        _milliseconds("ttft_ms", columns.first_token_us, columns.arrival_us),
        Column("tpot_ms", tpot_ns, has_tpot, _TPOT_DECIMALS),
        _milliseconds("e2e_ms", columns.last_token_us, columns.arrival_us, where=completed),
    ]


def timeseries_columns(run: RunData) -> list[Column] | None:
    """Return one row per sample, or None when the run was not sampled.

    ``tokens_per_s`` counts the tokens since the previous sample of the instance; a run with
    a single instant sampled has none. ``num_instances`` are those of the same pool that took
    requests then.
    """
    samples = run.timeseries
    if samples is None:
        return None
    num_blocks = np.array([each.num_kv_blocks for each in run.counters], dtype=np.int64)
    num_ready = samples.num_ready
    if num_ready is None:
        num_ready = np.full(samples.time_us.shape, ABSENT, dtype=np.int64)
    return [
        Column("time_s", samples.time_us, decimals=6),
        Column("instance", samples.instance),
        Column("queue_depth", samples.num_waiting),
        Column("batch_size", samples.num_running),
        _quotient(
            "kv_usage_frac", samples.kv_blocks, num_blocks[samples.instance], _FRACTION_DECIMALS
        ),
        Column("kv_blocks", samples.kv_blocks),
        _tokens_per_s(samples),
        _pool(run, samples.instance),
        _optional("num_instances", num_ready),
    ]


def to_frame(columns: Sequence[Column]) -> pd.DataFrame:
    """Return the columns as a DataFrame.

    Whole numbers are ``int64``, or nullable ``Int64`` where a value may be absent; decimals
    are ``float64`` with NaN; texts are objects with None.
    """
    import pandas as pd

    return pd.DataFrame({column.name: _series(column) for column in columns})


def _series(column: Column) -> pd.Series:
    import pandas as pd

    present = column.present
    if column.labels is not None:
        texts = np.array([*column.labels, None], dtype=object)
        index = column.data if present is None else np.where(present, column.data, -1)
        return pd.Series(texts[index], dtype=object)
    if column.decimals:
        scaled = column.data / 10**column.decimals
        return pd.Series(scaled if present is None else np.where(present, scaled, np.nan))
    if present is None:
        return pd.Series(column.data)
    # The mask hides the marker of absence; a zero below it keeps the frame's bytes neutral.
    return pd.Series(pd.arrays.IntegerArray(np.where(present, column.data, 0), ~present))


def _optional(name: str, values: Int64Array) -> Column:
    return Column(name, values, values != ABSENT)


def _label(name: str, codes: Int64Array, labels: Sequence[str]) -> Column:
    return Column(name, codes, codes != ABSENT, labels=labels)


def _pool(run: RunData, instances: Int64Array) -> Column:
    """Return the pool of each instance."""
    codes = np.full(instances.shape, ABSENT, dtype=np.int64)
    if run.instances:
        pools = np.array([data.pool for data in run.instances], dtype=np.int64)
        is_known = instances != ABSENT
        codes[is_known] = pools[instances[is_known]]
    return _label("pool", codes, [pool.name for pool in run.pools])


def _both(one: Int64Array, other: Int64Array) -> BoolArray:
    both: BoolArray = (one != ABSENT) & (other != ABSENT)
    return both


def _subtract(end: Int64Array, start: Int64Array, where: BoolArray) -> Int64Array:
    """Return ``end - start`` where asked, 0 elsewhere (the marker of absence would overflow)."""
    values = np.zeros(end.shape, dtype=np.int64)
    np.subtract(end, start, out=values, where=where)
    return values


def _milliseconds(
    name: str, end: Int64Array, start: Int64Array, where: BoolArray | None = None
) -> Column:
    """Return ``end - start`` in milliseconds where both are present (and ``where`` holds)."""
    present = _both(end, start)
    if where is not None:
        present &= where
    return Column(name, _subtract(end, start, present), present, _MS_DECIMALS)


def _quotient(name: str, part: Int64Array, whole: Int64Array, decimals: int) -> Column:
    """Return ``part / whole`` rounded half up, absent where ``whole`` is 0."""
    divisor = np.maximum(whole, 1)
    values = (part * 10**decimals + divisor // 2) // divisor
    return Column(name, values, whole > 0, decimals)


def _tokens_per_s(samples: TimeSeries) -> Column:
    """Return the tokens since the instance's previous sample per second between them."""
    instants = np.unique(samples.time_us)
    shortest_us = int(np.diff(instants).min()) if instants.size > 1 else 0
    order = np.lexsort((samples.time_us, samples.instance))
    interval_us = np.diff(samples.time_us[order], prepend=0)
    first = np.diff(samples.instance[order], prepend=-1) != 0
    interval_us[first] = shortest_us
    unordered = np.empty_like(interval_us)
    unordered[order] = interval_us
    return _quotient("tokens_per_s", samples.generated_tokens * US_PER_S, unordered, _MS_DECIMALS)
