"""Which rows of a trace are replayed, and when they arrive."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from blis_sim.config.workload import LoadSettings
from blis_sim.errors import ConfigError
from blis_sim.units import US_PER_S, seconds_to_us
from blis_sim.workload.base import MAX_TIME_US, Int64Array

ArrivalTimes = Callable[[int], Int64Array]
"""Draws arrivals: from a count to at most so many times, microseconds, sorted."""

_DRAWN_BY = ("arrivals", "stages", "rate_curve")


@dataclass(frozen=True, slots=True)
class ChosenRows:
    """The rows to replay.

    Attributes
    ----------
    rows : numpy.ndarray
        Their positions in the file, in order of arrival; at least one.
    arrival_us : numpy.ndarray
        When they arrive, microseconds, never decreasing.
    notes : list of str
        What was done to the trace, for its description.
    repetition : numpy.ndarray or None
        Of each row, in which replay of the trace it stands, from 0; None = in the only one.
    """

    rows: Int64Array
    arrival_us: Int64Array
    notes: list[str]
    repetition: Int64Array | None = None


def choose_rows(
    recorded_us: Int64Array | None,
    total: int,
    settings: LoadSettings,
    arrival_times: ArrivalTimes | None,
    where: str = "workload",
) -> ChosenRows:
    """Apply the window, then ``repeats``, ``num_requests``, and the rate or drawn arrivals.

    A replay begins one mean gap after the last arrival of the one before.

    Parameters
    ----------
    recorded_us : numpy.ndarray or None
        Arrivals the trace has, microseconds, in file order.
    total : int
        Rows of the trace, >= 1.
    settings : LoadSettings
        ``start_s``, ``duration_s``, ``repeats``, ``num_requests``, ``request_rate``,
        ``rate_scale``, and ``arrivals``, ``stages`` or ``rate_curve``.
    arrival_times : callable or None
        Draws arrivals, for a trace without times or where the settings ask for it.
    where : str
        Name of the settings in messages, e.g. ``workload.clients[2]``.

    Raises
    ------
    ConfigError
        If the settings ask for what the trace does not have.
    """
    if settings.request_rate is not None and settings.rate_scale is not None:
        raise ConfigError(
            f"{where}.rate_scale must not be set together with {where}.request_rate; "
            f"got {settings.rate_scale:g} and {settings.request_rate:g}; leave one out"
        )
    notes: list[str] = []
    rows = _in_window(recorded_us, total, settings, notes, where)
    repetition, later_us = None, 0
    if settings.repeats is not None and settings.repeats > 1:
        if recorded_us is not None:
            later_us = _period_us(recorded_us[rows])
        repetition = np.repeat(np.arange(settings.repeats, dtype=np.int64), len(rows))
        rows = np.tile(rows, settings.repeats)
        notes.append(f"replayed {settings.repeats} times")
    count = len(rows) if settings.num_requests is None else settings.num_requests
    if count > len(rows):
        has_window = settings.start_s is not None or settings.duration_s is not None
        window = " in the window of start_s and duration_s" if has_window else ""
        window += "" if repetition is None else f" in {settings.repeats} replays"
        raise ConfigError(
            f"{where}.num_requests must be at most the {len(rows)} requests of "
            f"{settings.trace}{window}; got {count}; replay it more often with repeats"
        )
    rows = rows[:count]
    repetition = None if repetition is None else repetition[:count]
    if recorded_us is not None and not (arrival_times and _asks_for_drawn(settings)):
        start_us = seconds_to_us(settings.start_s or 0)
        times_us = recorded_us[rows] - start_us
        if repetition is not None:
            if int(times_us.max()) + later_us * int(repetition[-1]) > MAX_TIME_US:
                raise ConfigError(
                    f"{where}.repeats must be small enough for the last arrival to be within "
                    f"{MAX_TIME_US // US_PER_S} s; got {settings.repeats}"
                )
            times_us += repetition * later_us
        arrival_us = _rescaled(times_us, settings, where)
        if settings.request_rate is not None:
            notes.append(f"rescaled to {settings.request_rate:g} requests/s")
        if settings.rate_scale is not None:
            notes.append(f"rate scaled by {settings.rate_scale:g}")
        return ChosenRows(rows, arrival_us, notes, repetition)
    arrival_us = _drawn(count, recorded_us is None, settings, arrival_times, where)
    had = "the trace has none" if recorded_us is None else "the recorded ones are not used"
    notes.append(f"arrivals drawn; {had}")
    count = len(arrival_us)
    repetition = None if repetition is None else repetition[:count]
    return ChosenRows(rows[:count], arrival_us, notes, repetition)


def _period_us(times_us: Int64Array) -> int:
    """Return the time from one replay to the next: the span and one mean gap."""
    span_us, num_gaps = int(times_us[-1] - times_us[0]), len(times_us) - 1
    return span_us + round(span_us / num_gaps) if num_gaps else US_PER_S


def _asks_for_drawn(settings: LoadSettings) -> bool:
    """Return whether the user says how arrivals are drawn, beyond a mean rate."""
    given = settings.model_fields_set
    return any(name in given and getattr(settings, name) is not None for name in _DRAWN_BY)


def _in_window(
    recorded_us: Int64Array | None,
    total: int,
    settings: LoadSettings,
    notes: list[str],
    where: str,
) -> Int64Array:
    """Return the rows of the window, in order of arrival."""
    if recorded_us is None:
        if settings.start_s is not None:
            raise ConfigError(
                f"{where}.start_s must not be set when {settings.trace} is replayed, which has "
                f"no arrival times; got {settings.start_s:g} s; leave it out"
            )
        return np.arange(total)
    rows = np.argsort(recorded_us, kind="stable")
    if settings.start_s is None and settings.duration_s is None:
        return rows
    times_us = recorded_us[rows]
    start_s, duration_s = settings.start_s or 0.0, settings.duration_s or math.inf
    # Compared as floats: an end may be beyond 64 bits of microseconds.
    bounds_us = np.array([start_s, start_s + duration_s]) * US_PER_S
    first, last = np.searchsorted(times_us.astype(np.float64), np.rint(bounds_us))
    if first == last:
        raise ConfigError(
            f"{where}.start_s and duration_s must leave at least one request of "
            f"{settings.trace}, whose requests arrive from {times_us[0] / US_PER_S:g} s to "
            f"{times_us[-1] / US_PER_S:g} s; got {start_s:g} s and {duration_s:g} s"
        )
    end = "the end" if math.isinf(duration_s) else f"{start_s + duration_s:g} s"
    notes.append(f"from {start_s:g} s to {end} of it")
    return rows[first:last]


def _drawn(
    count: int,
    times_missing: bool,
    settings: LoadSettings,
    arrival_times: ArrivalTimes | None,
    where: str,
) -> Int64Array:
    """Return drawn arrivals of at most ``count`` requests."""
    if arrival_times is None:
        raise ConfigError(
            f"{where}.request_rate must be given to replay {settings.trace}, which has no "
            "arrival times; got nothing; give a rate in requests/s, inf = all at once, or stages"
        )
    if settings.rate_scale is not None:
        raise ConfigError(
            f"{where}.rate_scale must not be set when arrivals are drawn; "
            f"got {settings.rate_scale:g}; leave it out and give a rate"
        )
    arrival_us = np.asarray(arrival_times(count), dtype=np.int64)[:count]
    if times_missing and settings.duration_s is not None:
        arrival_us = arrival_us[arrival_us < settings.duration_s * US_PER_S]
    if not len(arrival_us):
        raise ConfigError(
            f"{where}.arrivals must give at least one arrival in the time of the load; got none"
        )
    return arrival_us


def _rescaled(arrival_us: Int64Array, settings: LoadSettings, where: str) -> Int64Array:
    """Return the arrivals at the rate asked for, whole microseconds, never decreasing."""
    first, span_us = int(arrival_us[0]), int(arrival_us[-1] - arrival_us[0])
    if settings.request_rate is not None:
        if math.isinf(settings.request_rate):
            return np.full_like(arrival_us, first)
        if span_us == 0:
            raise ConfigError(
                f"{where}.request_rate must not be set when all requests used from "
                f"{settings.trace} arrive at one instant; got {settings.request_rate:g} requests/s"
            )
        new_span_us = (len(arrival_us) - 1) * US_PER_S / settings.request_rate
        name, value = "request_rate", settings.request_rate
    elif settings.rate_scale is not None:
        new_span_us = span_us / settings.rate_scale
        name, value = "rate_scale", settings.rate_scale
    else:
        return arrival_us
    if first + new_span_us > MAX_TIME_US:
        raise ConfigError(
            f"{where}.{name} must be large enough for the last arrival to be within "
            f"{MAX_TIME_US // US_PER_S} s; got {value:g}"
        )
    # Dividing by the span first makes the last quotient exactly 1.
    offsets = (arrival_us - first) / max(span_us, 1) * new_span_us
    return first + np.rint(offsets).astype(np.int64)
