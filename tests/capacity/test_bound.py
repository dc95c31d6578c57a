"""What an engine runs out of, where arithmetic says it."""

from __future__ import annotations

from typing import Any

import pytest

from blis_sim import api
from blis_sim.capacity.bound import what_runs_out
from blis_sim.config.loading import load_scenario
from blis_sim.engine.resolved import Deployed

V1 = {"model": "roofline-v1"}
"""A latency model that knows no kernels: bounds decide."""


def deployed(**changes: Any) -> Deployed:
    return api.resolve(load_scenario(changes)).deployed


def metrics(requests: float = 4, tokens: float | None = None, **more: Any) -> dict[str, Any]:
    return {
        "num_preemptions": 0,
        "kv_usage_peak_frac": 0.4,
        "mean_running_requests": requests,
        "mean_instances": 1,
        "mean_batch_requests": requests,
        "mean_batch_tokens": requests if tokens is None else tokens,
    } | more


@pytest.mark.parametrize("full", [{"num_preemptions": 1}, {"kv_usage_peak_frac": 0.985}])
def test_blocks_that_are_used_up(full: dict[str, Any]) -> None:
    """A preemption, or a cache that was full, comes before all else."""
    assert what_runs_out(deployed(), metrics(2000, **full), 300) == "KV memory"
    almost = metrics(4, kv_usage_peak_frac=0.97)
    assert what_runs_out(deployed(), almost, 300) == "bandwidth"


def test_seats_that_are_taken() -> None:
    """All that max_num_seqs lets run, and half of them on average; of several engines each."""
    engine = deployed(engine={"max_num_seqs": 16})
    full = {"peak_running_requests": 16}
    assert what_runs_out(engine, metrics(9, **full), 300) == "max_num_seqs 16"
    assert what_runs_out(engine, metrics(7, **full), 300) == "bandwidth"
    assert what_runs_out(engine, metrics(15, peak_running_requests=15), 300) == "bandwidth"
    half = metrics(8, mean_running_requests=15, mean_instances=2, **full)
    assert what_runs_out(engine, half, 300) == "bandwidth"


def test_seats_that_the_late_ones_waited_for() -> None:
    """Where waiting counts, they need not be taken half of the time."""
    engine = deployed(engine={"max_num_seqs": 16})
    late = {"p99_queue_ms": 754.0, "p99_ttft_ms": 774.0}
    full = metrics(5, peak_running_requests=16, **late)
    assert what_runs_out(engine, full, 300, is_late=True) == "max_num_seqs 16"
    assert what_runs_out(engine, full, 300) == "bandwidth"
    free = metrics(5, peak_running_requests=15, **late)
    assert what_runs_out(engine, free, 300, is_late=True) == "bandwidth"
    quick = metrics(5, peak_running_requests=16, p99_queue_ms=10.0, p99_ttft_ms=774.0)
    assert what_runs_out(engine, quick, 300, is_late=True) == "bandwidth"


@pytest.mark.parametrize("latency", [{}, V1], ids=["kernels", "bounds"])
@pytest.mark.parametrize(
    ("requests", "new", "expected"),
    [(1, 0, "bandwidth"), (16, 0, "bandwidth"), (1, 4000, "compute")],
)
def test_few_tokens_wait_for_weights_and_many_for_products(
    latency: dict[str, Any], requests: int, new: int, expected: str
) -> None:
    """On an H100 a byte takes as long as 989.5 / 3.35 = 295 FLOPs.

    A token takes two FLOPs for each weight of two bytes: below some 295 tokens the weights
    decide, above them the products.
    """
    engine = deployed(latency=latency)
    gpu = engine.gpu
    tokens_at_ridge = gpu.bf16_tflops_dense * 1e12 / (gpu.hbm_gb_per_s * 1e9)
    assert 250 < tokens_at_ridge < 350
    assert (requests + new > tokens_at_ridge) == (expected == "compute")
    assert what_runs_out(engine, metrics(requests, requests + new), 10) == expected


def test_long_contexts_wait_for_the_cache() -> None:
    """256 requests of 16,000 tokens read 537 GB of keys and values, and compute little."""
    engine = deployed(engine={"max_num_seqs": 512})
    assert what_runs_out(engine, metrics(256), 16_000) == "bandwidth"


def test_messages_over_a_slow_link() -> None:
    """Eight L40S have no NVLink: 64 all-reduces of 60 x 4096 x 2 bytes over PCIe take longer
    than reading an eighth of 16 GB, 2.3 ms, as measured all-reduces have it."""
    slow = deployed(hardware="L40S", engine={"tensor_parallel_size": 8})
    assert slow.gpu.nvlink_gb_per_s is None
    assert what_runs_out(slow, metrics(60), 400) == "interconnect"
    fast = deployed(hardware="H100", engine={"tensor_parallel_size": 8})
    assert what_runs_out(fast, metrics(8), 400) != "interconnect"


def test_bounds_of_messages() -> None:
    """Without kernels the bytes of a message over the link decide.

    4,000 tokens of 4096 x 2 bytes, 64 times, at 64 GB/s: 33 ms and more for the two ways of an
    all-reduce; the products of an eighth of 8e9 weights at 362 TFLOP/s: 22 ms.
    """
    engine = deployed(
        hardware="L40S", engine={"tensor_parallel_size": 8}, latency={"model": "roofline-v1"}
    )
    compute_ms = 2 * 8e9 / 8 * 4000 / (engine.gpu.bf16_tflops_dense * 1e12) * 1e3
    link_ms = 64 * 4000 * 4096 * 2 / 64e9 * 1e3
    assert link_ms > compute_ms
    assert what_runs_out(engine, metrics(1, 4001), 10) == "interconnect"
