"""From what was recorded to what the reports read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from blis_sim.metrics.records import RunData, TimeSeries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blis_sim.metrics.recorder import Recorder
    from blis_sim.metrics.records import EngineCounters


def run_data(
    recorder: Recorder,
    counters: Sequence[EngineCounters],
    *,
    now_us: int,
    at_horizon: bool,
    output_token_us: int,
) -> RunData:
    """Return the outcome of a simulation.

    Parameters
    ----------
    recorder : Recorder
        Has been told of every request.
    counters : sequence of EngineCounters
        One per instance, closed.
    now_us : int
        End of the last step, or the horizon.
    at_horizon : bool
        Whether the clock was stopped: the run ends there, whatever clients see later.
    output_token_us : int
        Client-side delay per token, the longest of all instances.
    """
    columns = recorder.request_columns()
    itl_us, itl_count = recorder.gap_histogram()
    token_seconds, token_counts = recorder.tokens_per_second()
    start_us = int(columns.arrival_us.min()) if len(columns.arrival_us) else 0
    end_us = max(start_us, now_us)
    if not at_horizon:
        end_us = max(end_us, int(columns.last_token_us.max(initial=start_us)))
    return RunData(
        requests=columns,
        counters=list(counters),
        itl_us=itl_us,
        itl_count=itl_count,
        token_seconds=token_seconds,
        token_counts=token_counts,
        start_us=start_us,
        end_us=end_us,
        output_token_us=output_token_us,
        slo_classes=recorder.slo_classes.names,
        tenants=recorder.tenants.names,
        reasons=recorder.reasons.names,
        timeline=recorder.timeline,
        work=recorder.work,
    )


def time_series(samples: Sequence[tuple[int, ...]]) -> TimeSeries:
    """Return samples as columns: the fields of `TimeSeries`, in order."""
    width = len(samples[0]) if samples else 6
    table = np.array(samples, dtype=np.int64).reshape(-1, width)
    return TimeSeries(*(np.ascontiguousarray(table[:, i]) for i in range(width)))
