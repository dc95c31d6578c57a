"""Each instance of a cluster is the engine of the reference, fed by the gateway."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import given, settings

from blis_sim.metrics.records import ABSENT, Status
from tests.engine.builders import fixed

from .builders import serve_cluster
from .replay import check_replay
from .scenarios import ClusterScenario, clusters

NUM_EXAMPLES = int(os.environ.get("BLIS_CLUSTER_EXAMPLES", "250"))
REACH: Counter[str] = Counter()


@given(clusters(apart=False))
@settings(fixed, max_examples=NUM_EXAMPLES)
def test_every_instance_is_the_reference(scenario: ClusterScenario) -> None:
    """Given when who was sent where, the reference gives every time, gap and counter.

    With every routing policy, queues at the gateway, timeouts, aborts and scaling.
    """
    scenario.settings.pop("horizon_us", None)
    run = serve_cluster(scenario.config, scenario.requests, **scenario.settings)
    check_replay(scenario.config, run, scenario.requests)
    columns = run.requests
    REACH["several instances"] += len(set(columns.instance.tolist()) - {ABSENT}) > 1
    REACH["waited at the gateway"] += bool((columns.dispatched_us > columns.arrival_us).any())
    REACH["started later"] += any(record.started_us for record in run.instances)
    REACH["left"] += bool((columns.status == Status.TIMED_OUT).any())
    REACH["preempted"] += bool((columns.num_preemptions > 0).any())


def test_the_examples_reach_far_enough() -> None:
    """Every kind of trouble came up."""
    if not REACH:
        pytest.skip("the property did not run")
    kinds = ["several instances", "waited at the gateway", "started later", "left", "preempted"]
    assert min(REACH[kind] for kind in kinds) >= 1, REACH
