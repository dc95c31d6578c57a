"""Places that become free between instances, the order at the gateway, and reports in time."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle
from typing import Any

import pytest

from blis_sim.cluster.config import ClusterConfig
from blis_sim.cluster.simulation import ClusterSimulation
from blis_sim.engine.clock import call_at
from blis_sim.errors import InvariantError
from blis_sim.metrics.records import RunData, Status
from blis_sim.workload.clients import Clients, Merged, OpenSource, Source, UserLoop
from tests.engine.builders import make_blackbox, make_specs, rows

from .builders import make_cluster, make_pool, serve_both_ways, serve_cluster, with_coalescing
from .test_handovers import make_pair


def one_at_a_time(config: ClusterConfig) -> ClusterConfig:
    """Return the cluster with a gateway that sends an instance one request at a time."""
    limited = make_cluster(make_pool(), gateway={"max_outstanding_per_instance": 1})
    return replace(config, gateway=limited.gateway)


def serve(config: ClusterConfig, *requests: dict[str, Any]) -> RunData:
    return serve_both_ways(config, make_specs(*requests))


def test_a_hand_over_frees_a_place_on_the_prefill_instance() -> None:
    """The prompt takes 50 us; the next one is sent then, not when the answer is complete."""
    long = {"prompt_tokens": 40, "output_tokens": 100}
    run = serve(one_at_a_time(make_pair(num_decode=2)), long, {**long, "arrival_us": 10})
    assert [row.dispatched_us for row in rows(run)] == [0, 50]
    assert [row.handed_over_us for row in rows(run)] == [50, 100]


@pytest.mark.parametrize("bytes_per_us", [0.01, float("inf")], ids=["slow", "at once"])
def test_who_leaves_during_the_transfer_frees_a_place_on_the_decode_instance(
    bytes_per_us: float,
) -> None:
    """The client leaves at 100, in the transfer or in its decode; the next one is sent then."""
    card = {"nic_bytes_per_us": bytes_per_us}
    request = {"prompt_tokens": 40, "output_tokens": 100}
    run = serve(
        one_at_a_time(make_pair(prefill=card, decode=card)),
        {**request, "timeout_us": 100},
        {**request, "arrival_us": 10},
    )
    first, second = rows(run)
    assert (first.status, second.status) == (Status.TIMED_OUT, Status.COMPLETED)
    assert second.dispatched_us == 100


def test_a_drained_prefill_instance_stops_when_a_victim_has_gone_over() -> None:
    """Asynchronous scheduling: it is preempted while its last step is in flight.

    No blocks are left to be sent, so no transfer's end can tell that it is done; the one it
    gave way to has left.
    """
    config = make_pair(
        prefill={
            "async_scheduling": True,
            "num_kv_blocks": 10,
            "max_model_len": 40,
            "long_prefill_token_threshold": 20,
            "max_num_batched_tokens": 40,
        }
    )
    long, short = {"prompt_tokens": 39, "timeout_us": 30}, {"prompt_tokens": 18}
    simulation = ClusterSimulation(config, make_specs(long, short))
    drained = simulation.fleet.replicas[0]
    call_at(simulation.env, 1, 0, lambda: simulation.fleet.drain(drained))
    run = simulation.run()
    _, second = rows(run)
    assert second.num_preemptions == 1
    assert drained.record.stopped_us == second.handed_over_us


@pytest.mark.parametrize("is_user_first", [True, False])
@pytest.mark.parametrize("coalesce", [True, False])
def test_those_who_arrive_come_before_those_who_wait(
    *, coalesce: bool, is_user_first: bool
) -> None:
    """Two instances end at 50, and a user sends the next request at that instant.

    One waits in the gateway, whose queue is full: the user is rejected, whichever of the
    two instances served them.
    """
    request: dict[str, Any] = {"prompt_tokens": 4, "output_tokens": 5}
    user = UserLoop(iter(make_specs(request, request)), 1, cycle([0]))
    others = OpenSource(iter(make_specs(request, {**request, "arrival_us": 10})))
    sources: list[Source] = [user, others] if is_user_first else [others, user]
    config = make_cluster(
        make_pool(num_instances=2), gateway={"max_outstanding_per_instance": 1, "queue_limit": 1}
    )
    run = serve_cluster(with_coalescing(config, coalesce), Clients(Merged(sources)))
    assert [row.status for row in rows(run)] == [Status.COMPLETED] * 3 + [Status.REJECTED]


def test_prefill_instances_report_while_requests_come_from_the_gateways_queue() -> None:
    """Short prompts keep only the decode pool busy; then long ones come out of the queue.

    From then on prefill instances report every 10 us, although nobody arrives any more.
    """
    config = make_pair(decider="uncached-prefix", threshold_tokens=20, num_prefill=2, num_decode=1)
    config = replace(
        one_at_a_time(config),
        routing=make_cluster(
            make_pool(), routing={"policy": "least-loaded", "snapshot_interval_s": 10e-6}
        ).routing,
    )
    short, long = {"prompt_tokens": 10, "output_tokens": 30}, {"prompt_tokens": 300}
    simulation = ClusterSimulation(config, make_specs(short, {**long, "output_tokens": 2}))
    seen: list[list[int]] = []
    prefills = simulation.fleet.replicas[:2]
    call_at(
        simulation.env, 500, 0, lambda: seen.append([r.report().num_running for r in prefills])
    )
    run = simulation.run()
    assert rows(run)[1].dispatched_us < 500 < rows(run)[1].handed_over_us
    assert seen == [[1, 0]]


def test_a_token_of_the_prefill_instance_is_seen_as_late_as_ever() -> None:
    """Whether its client leaves in the transfer or later, it saw the first token at one time."""
    slow = {"nic_bytes_per_us": 0.1}
    pools: dict[str, Any] = {
        "prefill": {**slow, "latency": make_blackbox(10, 1, 0, alpha=(0, 0, 30))},
        "decode": {**slow, "latency": make_blackbox(10, 1, 0, alpha=(0, 0, 2))},
    }
    request = {"prompt_tokens": 40, "output_tokens": 100}
    config = make_pair("prefill", **pools)
    seen = [
        rows(serve(config, {**request, "timeout_us": timeout_us}))[0].first_token_us
        for timeout_us in (100, 1000)
    ]
    assert seen == [52, 52]


def test_nobody_is_left_over_without_a_horizon() -> None:
    """A request that waits for ever in the gateway is a defect, not a result."""
    config = one_at_a_time(make_cluster(make_pool()))
    simulation = ClusterSimulation(config, make_specs({}, {}))
    simulation.gateway.send_waiting = lambda now_us: None  # type: ignore[method-assign]
    with pytest.raises(InvariantError, match="1 in the gateway"):
        simulation.run()
