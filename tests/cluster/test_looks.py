"""Whoever looks at an instance sees the same at every instant, coalesced or step by step."""

from __future__ import annotations

from typing import Any

import pytest

from blis_sim.cluster.asked import Asked
from blis_sim.cluster.simulation import ClusterSimulation
from blis_sim.engine.clock import Priority, call_at, order_key
from tests.engine.builders import make_blackbox, make_spec, make_specs

from .builders import make_cluster, make_pool, with_coalescing

LOOK = order_key(Priority.GATEWAY, 7)


def looks(*, coalesce: bool, async_scheduling: bool, uniform: bool) -> list[tuple[Any, ...]]:
    """Return what a gateway sees at each of the first 150 us of two short answers."""
    latency = make_blackbox(10, 1, 3 if uniform else 0)
    pool = make_pool(latency=latency, async_scheduling=async_scheduling, max_num_batched_tokens=20)
    requests = make_specs(
        {"prompt_tokens": 6, "output_tokens": 4, "session_id": "s"},
        {"arrival_us": 30, "prompt_tokens": 7, "output_tokens": 5},
    )
    config = with_coalescing(make_cluster(pool), coalesce)
    simulation = ClusterSimulation(config, requests)
    (replica,) = simulation.fleet.replicas
    asked = Asked(make_spec(9, 0, 33, session_id="s"))
    seen: list[tuple[Any, ...]] = []

    def look() -> None:
        report = replica.look()
        seen.append(
            (
                int(simulation.env.now),
                replica.expected_ttft_us(asked),
                replica.cached_prompt_tokens(asked),
                (report.num_waiting, report.num_running),
                (report.kv_used_blocks, report.active_tokens),
            )
        )

    for at_us in range(150):
        call_at(simulation.env, at_us, LOOK, look)
    simulation.run()
    return seen


@pytest.mark.parametrize("async_scheduling", [False, True])
@pytest.mark.parametrize("uniform", [False, True])
def test_a_look_at_every_instant(*, async_scheduling: bool, uniform: bool) -> None:
    """Also in the last step of a run: who gets the last token in it is in no later step."""
    coalesced, plain = (
        looks(coalesce=coalesce, async_scheduling=async_scheduling, uniform=uniform)
        for coalesce in (True, False)
    )
    assert coalesced == plain
    assert len({values[1] for values in plain}) > 3
