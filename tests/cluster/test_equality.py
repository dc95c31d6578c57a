"""Coalescing changes nothing in a cluster; nothing is lost, whatever happens."""

from __future__ import annotations

import os

from hypothesis import given, settings

from tests.engine.builders import fixed

from .builders import serve_both_ways
from .scenarios import ClusterScenario, clusters

NUM_EXAMPLES = int(os.environ.get("BLIS_CLUSTER_EXAMPLES", "300"))


@given(clusters())
@settings(fixed, max_examples=NUM_EXAMPLES)
def test_coalesced_is_step_by_step(scenario: ClusterScenario) -> None:
    """Random pools, policies, queues, transfers, timeouts, aborts and scaling: the same bytes.

    Conservation, block accounting and the order of times are checked in both runs.
    """
    serve_both_ways(scenario.config, scenario.requests, **scenario.settings)
