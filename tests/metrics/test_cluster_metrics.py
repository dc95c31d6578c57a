from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.metrics.cluster_metrics import jain_index
from blis_sim.metrics.lifetimes import paid_us, ready_range, serving_us
from blis_sim.metrics.records import InstanceData, PoolData
from tests.metrics.builders import (
    dropped,
    make_cluster_result,
    make_cluster_run,
    make_result,
    make_run,
    served,
)

AMOUNTS = st.lists(st.integers(0, 10**9), min_size=2, max_size=8).filter(any)


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        # 1 GPU for 1 s, 2 GPUs for 1 s, 2 GPUs from 0.2 s to 0.95 s.
        ("mean_gpus", 4.5),
        ("gpu_hours", 4.5 / 3600),
        ("output_throughput_per_gpu", 7 / 4.5),
        ("request_throughput_per_gpu", 3 / 4.5),
        # The late instance serves from 0.5 s to 0.95 s.
        ("lifetime_s", 2.45),
        ("mean_instances", 2.45),
        ("min_instances", 2),
        ("max_instances", 3),
        ("gpu_busy_frac", (0.2 + 2 * 0.5 + 2 * 0.225) / (1 + 2 + 2 * 0.45)),
        ("kv_usage_mean_frac", (10 + 40 + 27) / (100 + 200 + 200 * 0.45)),
        ("kv_usage_peak_frac", 0.5),
        ("prefix_hit_rate", 0.1),
        ("num_scaling_events", 2),
        # Of the decode role: 2 requests in 1 s and 1 in 0.45 s.
        ("jain_instances", (2 + 1 / 0.45) ** 2 / (2 * (4 + (1 / 0.45) ** 2))),
        # 24 tokens in 1 s and 2 in 0.45 s.
        ("load_imbalance", 24 / ((24 + 2 / 0.45) / 2)),
        # Tenant a was served 43 + 22 tokens, b 12.
        ("jain_tenants", 77**2 / (2 * (65**2 + 12**2))),
        ("num_transfers", 2),
        ("transferred_blocks", 4),
        ("mean_gateway_ms", 50 / 3),
        ("p99_gateway_ms", 29.6),
        ("mean_transfer_ms", 30.0),
        ("p99_transfer_ms", 39.8),
        ("prompt_throughput", 70.0),
        ("generation_throughput", 7.0),
    ],
)
def test_cluster_by_hand(tag: str, expected: float) -> None:
    """Each number is what its formula says, each instance counting for its own lifetime."""
    assert make_cluster_result().summary[tag] == pytest.approx(expected)


def test_cluster_block() -> None:
    """The block adds GPU-hours by GPU and the decisions of the autoscaler."""
    document = make_cluster_result().to_json_dict()
    block = document["cluster"]
    assert block["gpu_hours_by_gpu"] == pytest.approx({"H100": 1 / 3600, "A100": 3.5 / 3600})
    assert sum(block["gpu_hours_by_gpu"].values()) == pytest.approx(block["gpu_hours"])
    assert block["scaling"] == [
        {"time_s": 0.2, "pool": "d", "before": 1, "after": 2, "measured": 3.0},
        {"time_s": 0.9, "pool": "d", "before": 2, "after": 1, "measured": 0.5},
    ]
    assert set(block) <= set(document["metric_definitions"]) | {
        f"{statistic}_{tag}_ms"
        for tag in ("gateway", "transfer")
        for statistic in ("mean", "median", "std", "p50", "p90", "p95", "p99")
    }
    json.dumps(document, allow_nan=False)


def test_without_a_cluster_only_gpus_are_known() -> None:
    """One instance without a gateway has GPU-hours; nothing to compare, wait for or scale."""
    run = make_run([served(0, ttft_us=1_800_000_000)])
    cluster = make_result(run=run, tensor_parallel_size=4).cluster
    assert (cluster["mean_gpus"], cluster["gpu_hours"]) == (4.0, 2.0)
    assert cluster["gpu_hours_by_gpu"] == {"H100": 2.0}
    assert (cluster["min_instances"], cluster["max_instances"]) == (1, 1)
    for tag in ("jain_instances", "load_imbalance", "jain_tenants", "num_scaling_events"):
        assert cluster[tag] is None
    assert cluster["mean_gateway_ms"] is None
    assert cluster["p99_transfer_ms"] is None


def test_same_pool_as_a_cluster_or_not() -> None:
    """One fixed instance gives the same numbers with a gateway before it and without."""
    rows = [served(5_000, ttft_us=400, gaps_us=[7, 9])]
    alone = make_result(rows, tensor_parallel_size=2).summary
    run = make_run(
        rows, pools=[PoolData("x", "mixed", "m", "H100", 2)], instances=[InstanceData(0)]
    )
    behind = make_result(run=run, tensor_parallel_size=2).summary
    different = {tag for tag, value in alone.items() if behind[tag] != value}
    assert different == {"num_scaling_events"}


def test_instances_of_different_roles_are_not_compared() -> None:
    """One prefill and one decode instance do different work; there is no index."""
    run = make_cluster_run()
    run.instances[2].ready_us = run.instances[2].stopped_us = 950_000
    summary = make_cluster_result(run).summary
    assert summary["jain_instances"] is None
    assert summary["load_imbalance"] is None


def test_tenant_that_got_nothing_counts() -> None:
    """A tenant none of whose requests completed was served 0 tokens; no tenant is none."""
    rows = [served(0, tenant="a"), dropped(0, tenant="b"), served(0)]
    assert make_result(rows).summary["jain_tenants"] == 0.5
    assert make_result(rows[::2]).summary["jain_tenants"] is None


@given(AMOUNTS, st.integers(1, 1000))
def test_jain_index(amounts: list[int], factor: int) -> None:
    """It lies from 1/n to 1, does not depend on the unit, and is 1 when all have the same."""
    index = jain_index(amounts)
    assert index is not None
    assert 1 / len(amounts) - 1e-9 <= index <= 1 + 1e-9
    assert jain_index([factor * amount for amount in amounts]) == pytest.approx(index)
    assert jain_index([factor] * len(amounts)) == pytest.approx(1)
    assert jain_index([factor] + [0] * (len(amounts) - 1)) == pytest.approx(1 / len(amounts))


def test_jain_index_of_nothing() -> None:
    """Fewer than two, or nothing to share, is no data."""
    assert jain_index([3]) is None
    assert jain_index([0, 0]) is None


def test_lifetimes_lie_within_the_run() -> None:
    """Time before the first arrival and after the end counts for nobody."""
    run = make_cluster_run([served(300_000, ttft_us=100)])
    run.instances[0].stopped_us = 5_000_000
    assert run.start_us == 300_000
    assert [serving_us(run, number) for number in range(3)] == [700_000, 700_000, 450_000]
    assert [paid_us(run, number) for number in range(3)] == [700_000, 700_000, 650_000]
    run.instances[2] = InstanceData(1, started_us=10, ready_us=20, drained_us=30, stopped_us=40)
    assert (serving_us(run, 2), paid_us(run, 2)) == (0, 0)


MOMENTS = st.lists(st.integers(0, 40), min_size=4, max_size=4).map(sorted)


@given(st.lists(MOMENTS, min_size=1, max_size=6), st.booleans())
def test_ready_range_against_a_walk_through_time(lives: list[list[int]], is_open: bool) -> None:
    """Fewest and most are those of a count at each instant of the run."""
    instances = [InstanceData(0, *life) for life in lives]
    if is_open:
        instances[0].drained_us = instances[0].stopped_us = None
    run = make_run([served(10, ttft_us=15)], end_us=30)
    run.instances = instances
    counts = [
        sum(
            data.ready_us <= now and (data.drained_us is None or now < data.drained_us)
            for data in instances
        )
        for now in range(10, 30)
    ]
    assert ready_range(run, range(len(instances))) == (min(counts), max(counts))
