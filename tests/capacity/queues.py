"""Queues whose truth is known: what M/D/1 does by its formulas, and by Lindley's recursion."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from decimal import Decimal, localcontext

import numpy as np

from blis_sim.capacity.checks import check_limits, is_saturated
from blis_sim.capacity.search import Measurement, Probe
from blis_sim.capacity.slo import Limit
from blis_sim.capacity.study import Window
from blis_sim.metrics.records import EngineCounters, Mark, RequestColumns, RunData
from tests.metrics.builders import make_result, make_run, served

SERVICE_S = 0.05
_NO_GAPS = np.zeros(0, dtype=np.int64)


def md1_share_within(time_s: float, rate: float) -> float:
    """Return the share of requests that are no longer than ``time_s`` in an M/D/1 system.

    A. K. Erlang's sum for the wait t: (1 - rho) sum_k exp(x) (-x)^k / k! with x = lambda (t - k S)
    for k S <= t. Its terms alternate and cancel: eighty digits are enough for them.
    """
    with localcontext(prec=80):
        lam, wait, service = Decimal(rate), Decimal(time_s - SERVICE_S), Decimal(SERVICE_S)
        total = Decimal(0)
        for k in range(math.floor(wait / service) + 1):
            x = lam * (wait - k * service)
            total += x.exp() * (-x) ** k / math.factorial(k)
        return float((1 - lam * service) * total)


def md1_rate_of_share(time_s: float, share: float) -> float:
    """Return the rate at which a share of the requests is no longer than ``time_s`` in M/D/1."""
    low, high = 0.0, 1 / SERVICE_S
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if md1_share_within(time_s, middle) >= share else (low, middle)
    return low


def md1_rate_of_mean(mean_s: float) -> float:
    """Return the rate at which the mean time in M/D/1 is ``mean_s``.

    Pollaczek and Khinchine: the wait is rho S / (2 (1 - rho)).
    """
    wait_s = mean_s - SERVICE_S
    return 2 * wait_s / (SERVICE_S * (SERVICE_S + 2 * wait_s))


def md1_run(probe: Probe, seed: int) -> RunData:
    """Return what serving one after the other does to Poisson arrivals, in 20 slices.

    Other rates stretch the same gaps. The TTFT is the time in the system.
    """
    gaps_s = np.random.default_rng(seed).exponential(1.0, probe.num_requests) / probe.rate
    walk_s = np.concatenate([[0.0], np.cumsum(SERVICE_S - gaps_s[1:])])
    inside_s = walk_s - np.minimum.accumulate(walk_s) + SERVICE_S
    arrival_us = np.rint(1e6 * np.cumsum(gaps_s)).astype(np.int64)
    ended_us = arrival_us + np.rint(1e6 * inside_s).astype(np.int64)
    one = make_run([served()]).requests
    columns = {
        each.name: np.full(arrival_us.size, getattr(one, each.name)[0])
        for each in fields(RequestColumns)
    }
    columns |= {
        "request_id": np.arange(arrival_us.size),
        "arrival_us": arrival_us,
        "enqueued_us": arrival_us,
        "scheduled_us": ended_us - round(1e6 * SERVICE_S),
        "first_token_us": ended_us,
        "last_token_us": ended_us,
    }
    span_s = probe.num_requests / probe.rate
    marks = [
        Mark(round(1e6 * mark_s), [EngineCounters()], _NO_GAPS, _NO_GAPS)
        for mark_s in Window(0.25 * span_s, 0.97 * span_s).marks_s()
    ]
    run = make_run([served()], end_us=int(ended_us.max()))
    return replace(run, requests=RequestColumns(**columns), marks=marks)


def md1(limit: Limit, seed: int) -> Callable[[Probe], Measurement]:
    """Return what the search is told of an M/D/1 queue with random numbers of its own."""

    def measure(probe: Probe) -> Measurement:
        run = md1_run(probe, seed)
        (check,) = check_limits(make_result(run=run), [limit])
        assert check.value is not None
        return Measurement(
            probe=probe,
            margins={limit.metric: check.margin},
            ratios={limit.metric: check.value / limit.value},
            values={limit.metric: check.value},
            is_saturated=is_saturated(run),
        )

    return measure
