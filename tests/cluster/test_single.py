"""A cluster of one is an engine without a gateway."""

from __future__ import annotations

from hypothesis import given, settings

from tests.engine.builders import fixed, observed
from tests.engine.builders import simulate as simulate_alone
from tests.engine.scenarios import Scenario, scenarios

from .builders import make_cluster, make_pool, serve_cluster


@given(scenarios())
@settings(fixed, max_examples=150)
def test_one_instance_is_the_engine(scenario: Scenario) -> None:
    """Every time and counter is the same, with arrivals as events of a gateway.

    But for the longest queue: a gateway sends on whom it has after the clients of this instant
    have left; without one, those who arrive are in the queue at once.
    """
    pool = make_pool(latency=scenario.latency, **scenario.engine)
    alone = observed(simulate_alone(scenario.requests, **scenario.settings))
    cluster = observed(serve_cluster(make_cluster(pool), scenario.requests))
    for seen in (alone, cluster):
        del seen["dispatched_us"], seen["0.peak_waiting"]
        # A request whose client leaves in the frontend is no instance's without a gateway.
        for position, enqueued_us in enumerate(seen["enqueued_us"]):
            if enqueued_us < 0:
                seen["instance"][position] = None
    assert cluster == alone
