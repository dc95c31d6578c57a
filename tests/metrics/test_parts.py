from __future__ import annotations

import pytest

from blis_sim.metrics.definitions import LATENCIES, METRICS, Scope
from tests.metrics.builders import (
    cluster_rows,
    dropped,
    make_cluster_result,
    make_cluster_run,
    make_result,
    served,
)


def test_pools_by_hand() -> None:
    """A pool's counters are its own; a request counts in each pool that worked on it."""
    pools = make_cluster_result().per_pool
    assert list(pools) == ["p", "d"]
    prefill, decode = pools["p"], pools["d"]
    assert (prefill["role"], prefill["gpu"], prefill["gpus_per_instance"]) == (
        "prefill",
        "H100",
        1,
    )
    assert (prefill["num_kv_blocks_per_instance"], decode["num_kv_blocks_per_instance"]) == (
        100,
        200,
    )
    assert (prefill["num_prompts"], decode["num_prompts"]) == (2, 3)
    assert (prefill["mean_gpus"], decode["mean_gpus"]) == (1.0, 3.5)
    assert decode["gpu_hours"] == pytest.approx(3.5 / 3600)
    assert prefill["gpu_busy_frac"] == pytest.approx(0.2)
    assert decode["gpu_busy_frac"] == pytest.approx(0.725 / 1.45)
    assert decode["kv_usage_mean_frac"] == pytest.approx(67 / (200 + 90))
    assert (prefill["prompt_throughput"], decode["generation_throughput"]) == (50.0, 7.0)
    assert (prefill["prefix_hit_rate"], decode["prefix_hit_rate"]) == (0.1, None)
    assert (prefill["num_transfers"], decode["num_transfers"]) == (0, 2)
    assert (decode["min_instances"], decode["max_instances"]) == (1, 2)
    assert decode["mean_instances"] == pytest.approx(1.45)
    assert (prefill["num_scaling_events"], decode["num_scaling_events"]) == (0, 2)
    assert (prefill["jain_instances"], prefill["load_imbalance"]) == (None, None)
    assert prefill["mean_ttft_ms"] == 200.0
    assert decode["mean_ttft_ms"] == pytest.approx(500 / 3)
    assert decode["output_throughput"] == 7.0


def test_instances_by_hand() -> None:
    """An instance that was started late counts from then only."""
    prefill, first, late = make_cluster_result().per_instance
    assert [each["instance"] for each in (prefill, first, late)] == [0, 1, 2]
    assert [each["pool"] for each in (prefill, first, late)] == ["p", "d", "d"]
    assert [each["num_prompts"] for each in (prefill, first, late)] == [2, 2, 1]
    assert (late["started_s"], late["ready_s"]) == (0.2, 0.5)
    assert (late["drained_s"], late["stopped_s"]) == (0.9, 0.95)
    assert (first["drained_s"], first["stopped_s"]) == (None, None)
    assert (first["lifetime_s"], late["lifetime_s"]) == (1.0, 0.45)
    assert late["gpu_busy_frac"] == 0.5
    assert late["kv_usage_mean_frac"] == pytest.approx(0.3)
    assert late["kv_usage_peak_frac"] == 0.4
    assert prefill["mean_batch_requests"] == 1.5
    assert late["mean_batch_requests"] is None
    assert first["mean_ttft_ms"] == 150.0
    assert first["total_input_tokens"] == 60
    assert "jain_instances" not in first


def test_instance_that_did_nothing() -> None:
    """An instance without requests has counts of 0 and no latencies."""
    idle = make_cluster_result(make_cluster_run(cluster_rows()[2:])).per_instance[2]
    assert (idle["num_prompts"], idle["completed"], idle["mean_ttft_ms"]) == (0, 0, None)


def test_request_is_in_no_pool_before_it_is_sent() -> None:
    """What the gateway turned away belongs to no pool."""
    rows = [*cluster_rows(), dropped(600_000)]
    pools = make_cluster_result(make_cluster_run(rows)).per_pool
    assert [pool["num_prompts"] for pool in pools.values()] == [2, 3]


def test_tenants_as_classes() -> None:
    """Tenants have the same numbers as classes, sorted, and the rest at the end."""
    rows = [served(0, ttft_us=4_000, tenant="b"), served(0, ttft_us=2_000, tenant="a"), served(0)]
    result = make_result(rows)
    assert list(result.per_tenant) == ["a", "b", "(none)"]
    assert result.per_tenant["b"]["mean_ttft_ms"] == 4.0
    assert (
        make_result(
            [served(0, ttft_us=4_000, slo_class="b")],
        )
        .per_class["b"]
        .keys()
        == result.per_tenant["b"].keys()
    )
    assert make_cluster_result().per_tenant["a"]["mean_gateway_ms"] == 10.0


def test_parts_without_a_cluster() -> None:
    """One instance is the whole run: there are no parts to tell of."""
    result = make_result([served()])
    assert (result.per_pool, result.per_instance, result.per_tenant) == ({}, [], {})


def test_every_part_has_the_metrics_of_its_scope() -> None:
    """A part has each metric that can be told of it, and no other."""
    result = make_cluster_result()
    parts = (
        (Scope.POOL, result.per_pool["d"]),
        (Scope.INSTANCE, result.per_instance[1]),
        (Scope.REQUESTS, result.per_tenant["a"]),
    )
    for scope, part in parts:
        assert {each.tag for each in METRICS if each.scope >= scope} == {
            each.tag for each in METRICS if each.tag in part
        }
        assert [each.tag for each in LATENCIES if f"mean_{each.tag}_ms" not in part] == ["itl"]
