"""Prefill here, decode there: times by hand, blocks, backpressure, clients who leave."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from blis_sim.cluster.config import ClusterConfig
from blis_sim.config.cluster import GatewaySettings
from blis_sim.metrics.records import RunData, Status
from tests.engine.builders import make_blackbox, make_specs, rows

from .builders import make_cluster, make_pool, serve_both_ways


def make_pair(
    mode: str = "decode",
    *,
    prefill: dict[str, Any] | None = None,
    decode: dict[str, Any] | None = None,
    num_prefill: int = 1,
    num_decode: int = 1,
    **disaggregation: Any,
) -> ClusterConfig:
    """Return one prefill and one decode pool; a prompt token takes 1 us, a step at least 10."""
    latency = make_blackbox(10, 1, 0)
    common: dict[str, Any] = {"latency": latency, "block_size": 4, "num_kv_blocks": 100}
    return make_cluster(
        make_pool("p", role="prefill", num_instances=num_prefill, **common | (prefill or {})),
        make_pool("d", role="decode", num_instances=num_decode, **common | (decode or {})),
        disaggregation={"first_token_from": mode, **disaggregation},
    )


def serve(config: ClusterConfig, *requests: dict[str, Any], **settings: Any) -> RunData:
    return serve_both_ways(config, make_specs(*requests), **settings)


def test_first_token_from_the_decode_instance() -> None:
    """The prompt takes 10 + 40 us; the decode instance is idle: one step of 10 us more.

    3 tokens are 3 steps over there: 60, 70, 80.
    """
    (row,) = rows(serve(make_pair(), {"prompt_tokens": 40, "output_tokens": 3}))
    assert (row.prefill_instance, row.instance) == (0, 1)
    assert (row.scheduled_us, row.handed_over_us, row.transferred_us) == (0, 50, 50)
    assert (row.first_token_us, row.last_token_us, row.output_tokens) == (60, 80, 3)


def test_first_token_from_the_prefill_instance() -> None:
    """The first token is the end of the prefill; 2 more are 2 steps over there."""
    (row,) = rows(serve(make_pair("prefill"), {"prompt_tokens": 40, "output_tokens": 3}))
    assert (row.handed_over_us, row.first_token_us, row.last_token_us) == (50, 50, 70)


@pytest.mark.parametrize("mode", ["decode", "prefill"])
def test_ttft_against_the_prefill_pool_alone(mode: str) -> None:
    """With infinite bandwidth and free blocks nothing but the decode step is added.

    ``prefill``: the TTFTs are those of the prefill pool alone. ``decode``: the wait for the
    step that runs on the decode instance, and the length of the next one.
    """
    requests = [
        {"arrival_us": 13 * n, "prompt_tokens": 8 + 3 * (n % 5), "output_tokens": 1 + n % 7}
        for n in range(60)
    ]
    alone = make_cluster(
        make_pool(
            "p", latency=make_blackbox(10, 1, 0), block_size=4, num_kv_blocks=1000, num_instances=2
        )
    )
    ends = [
        row.first_token_us
        for row in rows(serve(alone, *({**r, "output_tokens": 1} for r in requests)))
    ]
    config = make_pair(mode, prefill={"num_kv_blocks": 1000}, num_prefill=2)
    run = serve(config, *requests)
    step_us = 10
    for row, end_us in zip(rows(run), ends, strict=True):
        if mode == "prefill":
            assert row.first_token_us == end_us
        else:
            assert row.handed_over_us == end_us
            assert step_us <= row.first_token_us - end_us < 2 * step_us
    if mode == "decode":
        waits = {row.first_token_us - row.handed_over_us for row in rows(run)}
        assert len(waits) > 1  # some had to wait for a step, some had not


def test_one_token_in_prefill_mode_stays() -> None:
    """An answer of one token is complete where the prompt was computed; nothing is sent."""
    run = serve(make_pair("prefill"), {"prompt_tokens": 40, "output_tokens": 1})
    (row,) = rows(run)
    assert (row.instance, row.prefill_instance, row.last_token_us) == (0, None, 50)
    assert [c.num_transfers for c in run.counters] == [0, 0]


def test_a_transfer_takes_its_time() -> None:
    """40 tokens of 3 bytes over 2 bytes/us and 7 us latency: 67 us after the prefill's 50."""
    slow: dict[str, Any] = {"nic_bytes_per_us": 2, "kv_bytes_per_token": 3}
    config = make_pair(prefill=slow, decode=slow, link_latency_us=7)
    run = serve(config, {"prompt_tokens": 40, "output_tokens": 2})
    (row,) = rows(run)
    assert (row.handed_over_us, row.transferred_us) == (50, 117)
    assert (row.first_token_us, row.last_token_us) == (127, 137)
    assert run.counters[1].transferred_blocks == 10


def test_layers_go_while_later_ones_are_computed() -> None:
    """4 layers of 30 bytes: 90 may go during the prefill, but 50 us at 1 byte/us are 50.

    70 bytes are left: 70 us. At 2 bytes/us all but the last layer are sent: 15 us.
    """
    for rate, end_us in ((1, 120), (2, 65)):
        slow: dict[str, Any] = {"nic_bytes_per_us": rate, "kv_bytes_per_token": 3}
        config = make_pair(prefill=slow, decode=slow, overlap="layerwise")
        (row,) = rows(serve(config, {"prompt_tokens": 40, "output_tokens": 2}))
        assert row.transferred_us == end_us


def test_what_is_cached_is_not_sent() -> None:
    """The second prompt of a group finds its prefix on both sides: 2 of 10 blocks are sent."""
    config = make_pair()
    group = {"prompt_tokens": 40, "output_tokens": 2, "prefix_group": "g", "prefix_tokens": 32}
    run = serve(config, group, {**group, "arrival_us": 1000})
    assert run.counters[1].transferred_blocks == 10 + 2
    assert [row.cached_tokens for row in rows(run)] == [0, 32]


def test_a_full_decode_pool_holds_the_prefill_side_back() -> None:
    """Ten blocks there: the second transfer waits until the first request has ended.

    Its blocks stay on the prefill side, so the third prompt cannot start there. The first
    request is seen at 60, 70, 80, 90 and 100; only then blocks for the second are free.
    """
    config = make_pair(prefill={"num_kv_blocks": 10}, decode={"num_kv_blocks": 10})
    request = {"prompt_tokens": 32, "output_tokens": 5}
    first, second, third = rows(serve(config, request, request, request))
    assert first.handed_over_us == first.transferred_us == 42
    assert (first.first_token_us, first.last_token_us) == (52, 92)
    assert second.scheduled_us == 42
    assert (second.handed_over_us, second.transferred_us) == (84, 92)
    assert third.scheduled_us == 92
    assert third.transferred_us >= second.last_token_us


def test_preempted_over_there_it_is_computed_again_there() -> None:
    """Two answers outgrow the decode pool: a victim is recomputed by the decode instance."""
    config = make_pair(decode={"num_kv_blocks": 12, "max_model_len": 48})
    request = {"prompt_tokens": 20, "output_tokens": 20}
    run = serve(config, request, request)
    assert run.counters[1].num_preemptions > 0
    assert run.counters[1].num_prefill_tokens > 0
    assert all(row.status is Status.COMPLETED and row.output_tokens == 20 for row in rows(run))


@pytest.mark.parametrize(
    ("timeout_us", "reached"),
    [(30, None), (60, 50), (200, 50)],
    ids=["in its prefill", "in the transfer", "while it decodes"],
)
def test_clients_may_leave_at_any_time(timeout_us: int, reached: int | None) -> None:
    """Prefill to 50, transfer to 170, then decoding: blocks return on both sides."""
    slow: dict[str, Any] = {"nic_bytes_per_us": 1, "kv_bytes_per_token": 3}
    config = make_pair(prefill=slow, decode=slow)
    run = serve(
        config,
        {"prompt_tokens": 40, "output_tokens": 50, "timeout_us": timeout_us},
        {"arrival_us": 1000, "prompt_tokens": 40, "output_tokens": 5},
    )
    left, other = rows(run)
    assert (left.status, left.handed_over_us) == (Status.TIMED_OUT, reached)
    assert other.status is Status.COMPLETED
    assert [c.kv_block_us > 0 for c in run.counters] == [True, True]


def test_a_client_who_waits_for_blocks_leaves_the_queue() -> None:
    """The one behind gets its turn; the blocks on the prefill side come back at once."""
    config = make_pair(prefill={"num_kv_blocks": 100}, decode={"num_kv_blocks": 10})
    long = {"prompt_tokens": 32, "output_tokens": 8}
    run = serve(config, long, {**long, "timeout_us": 90}, long)
    first, second, third = rows(run)
    assert second.status is Status.TIMED_OUT
    assert second.transferred_us is None
    assert third.transferred_us == first.last_token_us


@pytest.mark.parametrize(
    ("decider", "handed_over"),
    [
        ({"decider": "always"}, [True, True]),
        ({"decider": "never"}, [False, False]),
        ({"decider": "uncached-prefix", "threshold_tokens": 20}, [True, False]),
    ],
)
def test_deciders(decider: dict[str, Any], handed_over: list[bool]) -> None:
    """The second request finds 32 of its 40 tokens cached on the decode instance."""
    group = {"prompt_tokens": 40, "output_tokens": 2, "prefix_group": "g", "prefix_tokens": 32}
    run = serve(make_pair(**decider), group, {**group, "arrival_us": 1000})
    assert [row.prefill_instance is not None for row in rows(run)] == handed_over


def test_tokens_and_blocks_are_conserved() -> None:
    """Prompt tokens are computed once, on the prefill side; answers on the other."""
    requests = [
        {"arrival_us": 7 * n, "prompt_tokens": 5 + n, "output_tokens": 1 + n % 4}
        for n in range(40)
    ]
    run = serve(make_pair(decode={"num_kv_blocks": 40}), *requests)
    prefill, decode = run.counters
    assert prefill.num_prefill_tokens == sum(r["prompt_tokens"] for r in requests)
    assert decode.num_prefill_tokens == 0
    assert decode.num_decode_tokens == sum(r["output_tokens"] for r in requests)
    assert decode.num_transfers == len(requests)
    assert decode.transferred_blocks == sum(-(-r["prompt_tokens"] // 4) for r in requests)


def test_a_placed_request_gives_way_before_one_preempts_itself() -> None:
    """Five blocks: one request needs a fourth while another waits with two, and no seat.

    It would preempt itself and be recomputed up to the same point for ever.
    """
    pool: dict[str, Any] = {"max_num_seqs": 1, "num_kv_blocks": 5, "max_model_len": 20}
    config = make_pair(decode=pool)
    run = serve(
        config,
        {"prompt_tokens": 8, "output_tokens": 12},
        {"prompt_tokens": 8, "output_tokens": 4},
    )
    first, second = rows(run)
    assert [first.status, second.status] == [Status.COMPLETED] * 2
    assert (first.num_preemptions, second.num_preemptions) == (0, 1)
    assert run.counters[1].num_prefill_tokens == 8  # the second prompt, once more


def test_a_placed_request_leaves_after_the_steps_under_way_took_their_blocks() -> None:
    """It gives its blocks back in the middle of a run: the peak is that of the plain loop."""
    config = make_pair(decode={"max_num_seqs": 1})
    run = serve(
        config,
        {"prompt_tokens": 8, "output_tokens": 22},
        {"prompt_tokens": 8, "output_tokens": 4, "timeout_us": 205},
    )
    assert run.counters[1].peak_kv_blocks == 9


def test_a_prompt_that_stays_waits_for_no_prefill_instance() -> None:
    """The prefill instance has all it may have; a short prompt goes on to the decode instance."""
    config = make_pair(decider="uncached-prefix", threshold_tokens=20)
    config = replace(config, gateway=GatewaySettings(max_outstanding_per_instance=2))
    long, short = {"prompt_tokens": 40}, {"prompt_tokens": 10}
    load = [long, long, {**short, "arrival_us": 5}]
    run = serve(config, *({"output_tokens": 1, **each} for each in load))
    # The decode instance expects two already: the third waits for one of them to end there.
    first, second, third = rows(run)
    assert (first.dispatched_us, second.dispatched_us) == (0, 0)
    assert third.dispatched_us == first.last_token_us
    config = replace(config, gateway=GatewaySettings(max_outstanding_per_instance=1))
    pools = (config.pools[0], replace(config.pools[1], num_instances=2))
    first, second, third = rows(
        serve(
            replace(config, pools=pools), *({"output_tokens": 1, **e} for e in (long, short, long))
        )
    )
    assert (first.dispatched_us, second.dispatched_us) == (0, 0)
    assert third.dispatched_us == max(first.handed_over_us, second.last_token_us)
