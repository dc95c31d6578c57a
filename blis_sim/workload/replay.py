"""Replay of a trace: which rows, at what rate, and the lazy stream over its columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import numpy as np

from blis_sim.config.scenario import WorkloadSettings
from blis_sim.errors import ConfigError
from blis_sim.units import US_PER_S, seconds_to_us
from blis_sim.workload.base import (
    CHUNK_REQUESTS,
    MAX_TIME_US,
    Int64Array,
    Workload,
    build_requests,
)
from blis_sim.workload.cells import ABSENT
from blis_sim.workload.columns import LabelColumn, TraceColumns
from blis_sim.workload.request import RequestSpec
from blis_sim.workload.trace import read_trace


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceWorkload(Workload):
    """The requests of a trace.

    Attributes
    ----------
    columns : TraceColumns
        The rows to replay, in order of arrival.
    request_ids : numpy.ndarray
        Position of each of them among the rows used, in file order.
    defaults : WorkloadSettings
        ``max_output_tokens``, ``timeout_s``, ``slo_class`` and ``tenant`` for rows that do
        not say otherwise.
    chunk_requests : int
        Rows turned into requests at a time; does not change the stream.
    """

    columns: TraceColumns
    request_ids: Int64Array
    defaults: WorkloadSettings
    chunk_requests: int = CHUNK_REQUESTS

    def requests(self) -> Iterator[RequestSpec]:
        """Yield the requests in order of ``(arrival_us, request_id)``."""
        for start in range(0, len(self.request_ids), self.chunk_requests):
            part = slice(start, start + self.chunk_requests)
            yield from build_requests(self._rows(part))

    def _rows(self, part: slice) -> Iterator[tuple[Any, ...]]:
        """Return the fields of RequestSpec, in its order, for a slice of the rows."""
        columns, defaults = self.columns, self.defaults
        timeout_us = None if defaults.timeout_s is None else seconds_to_us(defaults.timeout_s)
        return zip(
            self.request_ids[part].tolist(),
            columns.arrival_us[part].tolist(),
            columns.prompt_tokens[part].tolist(),
            columns.output_tokens[part].tolist(),
            _optional(columns.max_output_tokens, part, defaults.max_output_tokens),
            _labels(columns.prefix_group, part, None),
            _numbers(columns.prefix_tokens, part),
            _labels(columns.session_id, part, None),
            _numbers(columns.round, part),
            _labels(columns.slo_class, part, defaults.slo_class),
            _labels(columns.tenant, part, defaults.tenant),
            _numbers(columns.priority, part),
            _optional(columns.timeout_us, part, timeout_us),
            _optional(columns.abort_us, part, None),
            strict=False,
        )


def _numbers(column: Int64Array | None, part: slice) -> Iterable[int]:
    return repeat(0) if column is None else column[part].tolist()


def _optional(column: Int64Array | None, part: slice, default: int | None) -> Iterable[int | None]:
    if column is None:
        return repeat(default)
    return [default if value == ABSENT else value for value in column[part].tolist()]


def _labels(column: LabelColumn | None, part: slice, default: str | None) -> Iterable[str | None]:
    if column is None:
        return repeat(default)
    names = (*column.names, default)  # ABSENT is -1: the last one
    return [names[code] for code in column.codes[part].tolist()]


def open_trace(settings: WorkloadSettings) -> TraceWorkload:
    """Read the trace that ``settings`` name, choose its rows and set its rate.

    The first ``num_requests`` in order of arrival are used (all by default). A mean rate is
    the number of gaps over the time from the first to the last arrival used; the first
    arrival stays where it is.

    Raises
    ------
    TraceError
        If the file is not acceptable.
    ConfigError
        If the settings ask for more than the trace has.
    """
    if settings.trace is None:
        raise ConfigError("workload.trace must be a path; got nothing")
    columns, trace_format = read_trace(settings.trace, settings.trace_format)
    total = len(columns.arrival_us)
    count = total if settings.num_requests is None else settings.num_requests
    if count > total:
        raise ConfigError(
            f"workload.num_requests must be at most the {total} requests of {settings.trace}; "
            f"got {count}"
        )
    notices = list(columns.notices)
    order = np.argsort(columns.arrival_us, kind="stable")[:count]
    # The rank of each row among those used: the identity, when the trace is sorted.
    request_ids = np.empty(count, dtype=np.int64)
    request_ids[np.argsort(order, kind="stable")] = np.arange(count)
    if not np.array_equal(request_ids, np.arange(count)):
        notices.append(
            f"{settings.trace}: rows are not in order of arrival; they are replayed by arrival, "
            "and request_id is their place in the file"
        )
    columns = columns.take(order)
    columns = replace(columns, arrival_us=_rescaled(columns.arrival_us, settings))
    return TraceWorkload(
        num_requests=count,
        description=_description(columns.arrival_us, settings, trace_format.title, total),
        source=settings.trace,
        notices=notices,
        slo_classes=_used_labels(columns.slo_class, settings.slo_class),
        tenants=_used_labels(columns.tenant, settings.tenant),
        columns=columns,
        request_ids=request_ids,
        defaults=settings,
    )


def _rescaled(arrival_us: Int64Array, settings: WorkloadSettings) -> Int64Array:
    """Return the arrivals at the rate asked for, whole microseconds, never decreasing."""
    first, span_us = int(arrival_us[0]), int(arrival_us[-1] - arrival_us[0])
    if settings.request_rate is not None:
        if math.isinf(settings.request_rate):
            return np.full_like(arrival_us, first)
        if span_us == 0:
            raise ConfigError(
                f"workload.request_rate must not be set when all requests used from "
                f"{settings.trace} arrive at one instant; got {settings.request_rate:g} requests/s"
            )
        new_span_us = (len(arrival_us) - 1) * US_PER_S / settings.request_rate
        where, value = "request_rate", settings.request_rate
    elif settings.rate_scale is not None:
        new_span_us = span_us / settings.rate_scale
        where, value = "rate_scale", settings.rate_scale
    else:
        return arrival_us
    if first + new_span_us > MAX_TIME_US:
        raise ConfigError(
            f"workload.{where} must be large enough for the last arrival to be within "
            f"{MAX_TIME_US // US_PER_S} s; got {value:g}"
        )
    # Dividing by the span first makes the last quotient exactly 1.
    offsets = (arrival_us - first) / max(span_us, 1) * new_span_us
    return first + np.rint(offsets).astype(np.int64)


def _description(
    arrival_us: Int64Array, settings: WorkloadSettings, title: str, total: int
) -> str:
    count, span_us = len(arrival_us), int(arrival_us[-1] - arrival_us[0])
    of_all = "" if count == total else f" of {total:,}"
    name = "" if settings.trace is None else settings.trace.name
    text = f"trace {name} ({title}): {count:,}{of_all} requests over {span_us / US_PER_S:,.1f} s"
    if span_us:
        text += f", mean rate {(count - 1) * US_PER_S / span_us:.4g} requests/s"
    if settings.request_rate is not None:
        text += f" (rescaled to {settings.request_rate:g} requests/s)"
    if settings.rate_scale is not None:
        text += f" (rate scaled by {settings.rate_scale:g})"
    return text


def _used_labels(column: LabelColumn | None, default: str | None) -> tuple[str, ...]:
    """Return the labels of the rows in order of first appearance, the default included."""
    if column is None:
        return () if default is None else (default,)
    codes, first_rows = np.unique(column.codes, return_index=True)
    names = (*column.names, default)
    in_order = [names[code] for code in codes[np.argsort(first_rows)].tolist()]
    return tuple(dict.fromkeys(name for name in in_order if name is not None))
