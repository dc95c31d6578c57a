"""Coalescing changes nothing in a cluster; nothing is lost, whatever happens."""

from __future__ import annotations

import os
from collections import Counter

from hypothesis import HealthCheck, given, settings

from blis_sim.metrics.records import ABSENT, RunData, Status
from tests.engine.builders import fixed

from .builders import serve_both_ways
from .scenarios import ClusterScenario, clusters

NUM_EXAMPLES = int(os.environ.get("BLIS_CLUSTER_EXAMPLES", "400"))
WANTED = {
    "handed over": 0.08,
    "transfer took its time": 0.05,
    "left in the transfer": 0.0025,
    "waited in the gateway": 0.05,
    "left in the gateway": 0.01,
    "rejected": 0.02,
    "scaled": 0.05,
    "drained with work": 0.005,
    "preempted": 0.005,
    "at a horizon": 0.05,
}
"""How often, at least, an example must reach what is difficult."""


def reached(run: RunData) -> set[str]:
    """Return what a run has seen of the difficult things."""
    columns = run.requests
    status, handed_over = columns.status, columns.handed_over_us != ABSENT
    arrived_there = columns.transferred_us != ABSENT
    gone = (status == Status.ABORTED) | (status == Status.TIMED_OUT)
    took_us = (columns.transferred_us - columns.handed_over_us)[arrived_there & handed_over]
    was_sent = columns.dispatched_us != ABSENT
    found = {
        "handed over": handed_over.any(),
        "transfer took its time": (took_us > 7).any(),
        "left in the transfer": (handed_over & ~arrived_there & gone).any(),
        "waited in the gateway": (columns.dispatched_us > columns.arrival_us)[was_sent].any(),
        "left in the gateway": (~was_sent & gone).any(),
        "rejected": (status == Status.REJECTED).any(),
        "scaled": bool(run.scaling),
        "drained with work": any(
            each.drained_us is not None and (each.stopped_us or 0) > each.drained_us
            for each in run.instances
        ),
        "preempted": (columns.num_preemptions > 0).any(),
        "at a horizon": (status >= Status.IN_FRONTEND).any(),
    }
    return {what for what, is_so in found.items() if is_so}


def test_coalesced_is_step_by_step() -> None:
    """Random pools, policies, queues, transfers, timeouts, aborts and scaling: the same bytes.

    Conservation, block accounting and the order of times are checked in both runs. The
    examples reach far enough.
    """
    seen: Counter[str] = Counter()

    @given(clusters())
    @settings(
        fixed,
        max_examples=NUM_EXAMPLES,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    def check(scenario: ClusterScenario) -> None:
        run = serve_both_ways(scenario.config, scenario.requests, **scenario.settings)
        seen.update(["examples", *reached(run)])

    check()
    shares = {what: seen[what] / seen["examples"] for what in WANTED}
    missed = {what: share for what, share in shares.items() if share < WANTED[what]}
    assert not missed, f"reach of {seen['examples']} examples: {shares}"
