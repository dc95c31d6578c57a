"""Replay of a trace: the lazy stream over its columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np

from blis_sim.config.workload import LoadSettings
from blis_sim.errors import ConfigError
from blis_sim.units import US_PER_S, seconds_to_us
from blis_sim.workload.base import CHUNK_REQUESTS, Int64Array, Workload, build_requests
from blis_sim.workload.cells import ABSENT, ABSENT_PRIORITY
from blis_sim.workload.columns import LabelColumn, ReadOptions, TraceColumns
from blis_sim.workload.request import RequestSpec
from blis_sim.workload.trace import read_trace
from blis_sim.workload.trace_rows import ArrivalTimes, ChosenRows, choose_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceWorkload(Workload):
    """The requests of a trace.

    Attributes
    ----------
    columns : TraceColumns
        The rows to replay, in order of arrival.
    arrival_us : numpy.ndarray
        When each of them arrives, microseconds, never decreasing.
    request_ids : numpy.ndarray
        Position of each of them among the rows used, in file order.
    defaults : LoadSettings
        ``max_output_tokens``, ``timeout_s``, ``slo_class``, ``tenant`` and ``priority`` for
        rows that do not say otherwise.
    chunk_requests : int
        Rows turned into requests at a time; does not change the stream.
    """

    columns: TraceColumns
    arrival_us: Int64Array
    request_ids: Int64Array
    defaults: LoadSettings
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
            self.arrival_us[part].tolist(),
            columns.prompt_tokens[part].tolist(),
            columns.output_tokens[part].tolist(),
            _optional(columns.max_output_tokens, part, defaults.max_output_tokens),
            _labels(columns.prefix_group, part, None),
            _numbers(columns.prefix_tokens, part),
            _labels(columns.session_id, part, None),
            _numbers(columns.round, part),
            _labels(columns.slo_class, part, defaults.slo_class),
            _labels(columns.tenant, part, defaults.tenant),
            _optional(columns.priority, part, defaults.priority or 0, ABSENT_PRIORITY),
            _optional(columns.timeout_us, part, timeout_us),
            _optional(columns.abort_us, part, None),
            _labels(columns.prompt_id, part, None),
            repeat(None) if columns.block_hashes is None else columns.block_hashes.rows(part),
            repeat(columns.hash_block_tokens),
            strict=False,
        )


def _numbers(column: Int64Array | None, part: slice) -> Iterable[int]:
    return repeat(0) if column is None else column[part].tolist()


def _optional(
    column: Int64Array | None, part: slice, default: int | None, absent: int = ABSENT
) -> Iterable[int | None]:
    if column is None:
        return repeat(default)
    return [default if value == absent else value for value in column[part].tolist()]


def _labels(column: LabelColumn | None, part: slice, default: str | None) -> Iterable[str | None]:
    if column is None:
        return repeat(default)
    names = (*column.names, default)  # ABSENT is -1: the last one
    return [names[code] for code in column.codes[part].tolist()]


def open_trace(
    settings: LoadSettings, arrival_times: ArrivalTimes | None = None, where: str = "workload"
) -> TraceWorkload:
    """Read the trace that ``settings`` name, choose its rows and set its rate.

    Of the rows in order of arrival those with start_s <= time < start_s + duration_s are
    used, ``repeats`` times in a row, and of these the first ``num_requests``; ``start_s``
    becomes time 0. Times count from the trace's own time 0: its earliest row, where it has
    points in time (Azure, results of benchmarks), else the zero of its clock. A mean rate is
    the number of gaps over the time from the first to the last arrival used; the first arrival
    stays where it is.

    Parameters
    ----------
    settings : LoadSettings
        ``trace`` and what to do with it.
    arrival_times : callable, optional
        Draws arrivals: from a count to at most so many times, microseconds, sorted. Used for
        a trace without times, and instead of the recorded times where ``settings`` give
        ``arrivals``, ``stages`` or a ``rate_curve``.
    where : str
        Name of the settings in messages, e.g. ``workload.clients[2]``.

    Raises
    ------
    TraceError
        If the file is not acceptable.
    ConfigError
        If the settings ask for what the trace does not have.
    """
    if settings.trace is None:
        raise ConfigError(f"{where}.trace must be a path; got nothing")
    options = ReadOptions(settings.skip_bad_rows, settings.tokens_per_word)
    columns, trace_format = read_trace(settings.trace, settings.trace_format, options, where)
    total = len(columns.prompt_tokens)
    chosen = choose_rows(columns.arrival_us, total, settings, arrival_times, where)
    count = len(chosen.rows)
    notices = list(columns.notices)
    # The rank of each row among those used: the identity, when the trace is sorted.
    request_ids = np.empty(count, dtype=np.int64)
    places = chosen.rows
    if chosen.repetition is not None:
        places = places + total * chosen.repetition
    request_ids[np.argsort(places, kind="stable")] = np.arange(count)
    if not np.array_equal(request_ids, np.arange(count)):
        notices.append(
            f"{settings.trace}: rows are not in order of arrival; they are replayed by arrival, "
            "and request_id is their place in the file"
        )
    columns = columns.take(chosen.rows)
    if chosen.repetition is not None:
        columns = columns.renewed(chosen.repetition)
    return TraceWorkload(
        num_requests=count,
        description=_description(chosen, settings, trace_format.title, total),
        source=settings.trace,
        notices=notices,
        slo_classes=_used_labels(columns.slo_class, settings.slo_class),
        tenants=_used_labels(columns.tenant, settings.tenant),
        columns=columns,
        arrival_us=chosen.arrival_us,
        request_ids=request_ids,
        defaults=settings,
    )


def _description(chosen: ChosenRows, settings: LoadSettings, title: str, total: int) -> str:
    arrival_us = chosen.arrival_us
    count, span_us = len(arrival_us), int(arrival_us[-1] - arrival_us[0])
    of_all = "" if count == total else f" of {total:,}"
    name = "" if settings.trace is None else settings.trace.name
    text = f"trace {name} ({title}): {count:,}{of_all} requests over {span_us / US_PER_S:,.1f} s"
    if span_us:
        text += f", mean rate {(count - 1) * US_PER_S / span_us:.4g} requests/s"
    return text + "".join(f" ({note})" for note in chosen.notes)


def _used_labels(column: LabelColumn | None, default: str | None) -> tuple[str, ...]:
    """Return the labels of the rows in order of first appearance, the default included."""
    if column is None:
        return () if default is None else (default,)
    codes, first_rows = np.unique(column.codes, return_index=True)
    names = (*column.names, default)
    in_order = [names[code] for code in codes[np.argsort(first_rows)].tolist()]
    return tuple(dict.fromkeys(name for name in in_order if name is not None))
