"""A timeline shows every step and request of a run as they were, and changes nothing."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blis_sim.metrics.timeline import TimelineSettings
from tests.cluster.builders import observed_cluster, serve_cluster, with_coalescing
from tests.cluster.scenarios import ClusterScenario, clusters
from tests.engine.builders import fixed, observed, simulate
from tests.engine.scenarios import Scenario, scenarios

from .timelines import check_timeline, events_of

NUM_EXAMPLES = int(os.environ.get("BLIS_TIMELINE_EXAMPLES", "50"))
WHOLE = TimelineSettings()
many = settings(
    fixed,
    max_examples=NUM_EXAMPLES,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@many
@given(scenarios(), st.sampled_from([None, None, 700]))
def test_random_engines(scenario: Scenario, horizon_us: int | None) -> None:
    """Steps add up to the counters, levels to the integrals, phases to the columns.

    The timeline is that of the plain loop, event for event; the results are those without one.
    """
    engine = scenario.settings | {"horizon_us": horizon_us}
    run = simulate(scenario.requests, timeline=WHOLE, **engine)
    events = check_timeline(run, [scenario.latency])
    plain = simulate(scenario.requests, timeline=WHOLE, coalesce=False, **engine)
    assert events_of(plain) == events
    assert observed(simulate(scenario.requests, **engine)) == observed(run) == observed(plain)


@many
@given(clusters())
def test_random_clusters(scenario: ClusterScenario) -> None:
    """The same in clusters: queues, transfers, timeouts, preemption, scaling."""
    config, requests, more = scenario.config, scenario.requests, scenario.settings
    run = serve_cluster(with_coalescing(config, True), requests, timeline=WHOLE, **more)
    events = check_timeline(run, [pool.latency for pool in config.pools])
    plain = serve_cluster(with_coalescing(config, False), requests, timeline=WHOLE, **more)
    assert events_of(plain) == events
    assert observed_cluster(serve_cluster(config, requests, **more)) == observed_cluster(run)
