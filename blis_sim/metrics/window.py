"""The part of a run between its first and its last mark, as a run of its own."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from blis_sim.errors import ConfigError
from blis_sim.metrics.percentiles import Int64Array
from blis_sim.metrics.records import EngineCounters, Mark, RequestColumns, RunData
from blis_sim.units import US_PER_S

_PEAKS = {"num_kv_blocks", "peak_kv_blocks", "peak_running", "peak_waiting", "num_events"}
"""Counters that are no sums over time: a window has those so far."""


def window_of(run: RunData) -> RunData:
    """Return what lies between the first and the last mark of a run.

    Requests count that arrived in between, whenever they ended; gaps between tokens, steps and
    integrals count where they ended in between. Peaks are those from the start of the run to
    the last mark. Samples, scaling events, a timeline and counted steps are left
    out.

    Raises
    ------
    ConfigError
        The run has fewer than two marks.
    """
    if len(run.marks) < 2:
        raise ConfigError(
            f"a window needs marks at its start and its end; got {len(run.marks)} marks; give "
            "marks_s, within the horizon"
        )
    first, last = run.marks[0], run.marks[-1]
    itl_us, itl_count = gaps_between(first, last)
    seconds = run.token_seconds
    # Whole seconds that lie in the window.
    within = (seconds * US_PER_S >= first.time_us) & ((seconds + 1) * US_PER_S <= last.time_us)
    return replace(
        run,
        requests=_arrived(run.requests, first.time_us, last.time_us),
        counters=counters_between(first, last),
        itl_us=itl_us,
        itl_count=itl_count,
        token_seconds=seconds[within],
        token_counts=run.token_counts[within],
        start_us=first.time_us,
        end_us=last.time_us,
        instances=run.instances[: len(last.counters)],
        timeseries=None,
        scaling=[],
        decisions=None,
        timeline=None,
        work=None,
        marks=[],
    )


def gaps_between(first: Mark, last: Mark) -> tuple[Int64Array, Int64Array]:
    """Return the distinct gaps that ended between two marks, ascending, and how often."""
    counts = last.itl_count.copy()
    counts[np.searchsorted(last.itl_us, first.itl_us)] -= first.itl_count
    some = counts > 0
    return last.itl_us[some], counts[some]


def counters_between(first: Mark, last: Mark) -> list[EngineCounters]:
    """Return what the counters of each instance grew by between two marks."""
    new = [EngineCounters() for _ in last.counters[len(first.counters) :]]
    return [
        EngineCounters(
            **{
                each.name: getattr(after, each.name)
                - (0 if each.name in _PEAKS else getattr(before, each.name))
                for each in fields(EngineCounters)
            }
        )
        for before, after in zip([*first.counters, *new], last.counters, strict=True)
    ]


def _arrived(columns: RequestColumns, from_us: int, to_us: int) -> RequestColumns:
    arrival_us = columns.arrival_us
    rows = (arrival_us >= from_us) & (arrival_us < to_us)
    return RequestColumns(**{f.name: getattr(columns, f.name)[rows] for f in fields(columns)})
