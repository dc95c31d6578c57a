"""How often a run is sampled for its page: a few hundred times, whatever its length."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from blis_sim.units import US_PER_S, us_to_seconds
from blis_sim.workload.replay import TraceWorkload

if TYPE_CHECKING:
    from blis_sim.engine.resolved import Resolved

_WANTED = 400
_LEAST_S, _MOST_S = 0.01, 3600.0
_UNKNOWN_S = 0.5
"""Where nothing tells how long the load takes to arrive."""
_STEPS = (1.0, 2.0, 5.0, 10.0)


def sample_interval_s(resolved: Resolved) -> float:
    """Return how often to sample a run, simulated seconds.

    About 400 times while its load arrives: 1, 2 or 5 times a power of ten, from 0.01 to 3600.
    """
    span_s = _arrivals_s(resolved)
    if span_s is None:
        return _UNKNOWN_S
    wanted_s = min(max(span_s / _WANTED, _LEAST_S), _MOST_S)
    power = 10.0 ** math.floor(math.log10(wanted_s))
    step = next(step for step in _STEPS if wanted_s <= step * power * (1 + 1e-9))
    return min(float(f"{step * power:.6g}"), _MOST_S)


def _arrivals_s(resolved: Resolved) -> float | None:
    """Return how long the load takes to arrive, seconds > 0; None where nothing tells."""
    workload, settings = resolved.workload, resolved.scenario.workload
    spans = [settings.duration_s]
    if resolved.horizon_us is not None:
        spans.append(us_to_seconds(resolved.horizon_us))
    if isinstance(workload, TraceWorkload) and len(workload.arrival_us):
        spans.append(float(workload.arrival_us[-1]) / US_PER_S)
    rate, number = resolved.request_rate, workload.num_requests
    if rate and number is not None and math.isfinite(rate):
        spans.append(number / rate)
    return min((span for span in spans if span), default=None)
