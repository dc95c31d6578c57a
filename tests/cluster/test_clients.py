"""Clients who wait for answers, before a cluster: coalesced, plain and the reference agree."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blis_sim.metrics.records import RunData
from blis_sim.workload.clients import Clients
from blis_sim.workload.request import RequestSpec
from tests.engine.builders import fixed
from tests.engine.test_clients import KINDS, Load

from .builders import observed_cluster, serve_cluster, with_coalescing
from .replay import check_replay
from .scenarios import ClusterScenario, clusters

NUM_EXAMPLES = int(os.environ.get("BLIS_CLUSTER_EXAMPLES", "150"))
REACH: Counter[str] = Counter()


@st.composite
def loads(draw: st.DrawFn) -> tuple[ClusterScenario, Load]:
    """Return a cluster, and clients who send what they are told when they are answered."""
    scenario = draw(clusters())
    think = st.sampled_from([0, 0, 10, 70]) | st.integers(0, 500)
    load = Load(
        draw(st.sampled_from(KINDS)),
        scenario.requests,
        draw(st.integers(1, 4)),
        draw(st.lists(think, min_size=1, max_size=3)),
        draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)),
    )
    return scenario, load


def serve(scenario: ClusterScenario, load: Load, coalesce: bool) -> tuple[RunData, Any]:
    """Return the run of a load, and the requests as they were sent."""
    noted = load.open()
    config = with_coalescing(scenario.config, coalesce)
    run = serve_cluster(config, Clients(noted), **scenario.settings)
    columns = run.requests
    arrivals = dict(zip(columns.request_id.tolist(), columns.arrival_us.tolist(), strict=True))
    sent: list[RequestSpec] = [
        spec._replace(arrival_us=arrivals[spec.request_id])
        for spec in noted.sent
        if spec.request_id in arrivals
    ]
    return run, sent


@given(loads())
@settings(fixed, max_examples=NUM_EXAMPLES)
def test_a_load_with_feedback(drawn: tuple[ClusterScenario, Load]) -> None:
    """Coalesced = plain; sent again at the times it was sent, an open load gives the same.

    Of mixed pools each instance is replayed by the reference, too.
    """
    scenario, load = drawn
    run, sent = serve(scenario, load, True)
    plain, sent_plain = serve(scenario, load, False)
    assert observed_cluster(run) == observed_cluster(plain)
    assert sent == sent_plain
    again = serve_cluster(scenario.config, sent, **scenario.settings)
    assert _requests(again) == _requests(run)
    if not scenario.config.is_disaggregated and "horizon_us" not in scenario.settings:
        check_replay(scenario.config, run, sent)
    REACH[load.kind] += len(sent) > 0


def _requests(run: RunData) -> dict[str, Any]:
    seen = observed_cluster(run)
    return {name: values for name, values in seen.items() if name.endswith(("_us", "tokens"))}


def test_every_kind_of_load_was_reached() -> None:
    """Each kind came up."""
    if not REACH:
        pytest.skip("the property did not run")
    assert min(REACH[kind] for kind in KINDS) >= 1, REACH
