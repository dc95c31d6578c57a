"""Rows of a comparison, made up."""

from __future__ import annotations

from typing import Any

from blis_sim.capacity.compared import METRICS, ComparedPool, ComparedRun


def make_pool(gpu: str = "H100", **more: Any) -> ComparedPool:
    settings: dict[str, Any] = {
        "model": "some/model-8B",
        "gpu": gpu,
        "tensor_parallel_size": 1,
        "latency_model": "roofline-v2",
        "num_kv_blocks": 26_237,
    }
    return ComparedPool(**settings | more)


def make_row(
    gpu: str = "H100",
    model: str = "some/model-8B",
    tp: int = 1,
    latency_model: str = "roofline-v2",
    **more: Any,
) -> ComparedRun:
    pool = make_pool(gpu, model=model, tensor_parallel_size=tp, latency_model=latency_model)
    settings: dict[str, Any] = {
        "pools": [pool],
        "seed": 42,
        "request_rate": 4.0,
        "load": "a load",
        "metrics": dict.fromkeys(METRICS) | {"mean_ttft_ms": 27.26, "output_throughput": 2023.0},
    }
    return ComparedRun(**settings | more)


def make_failed(gpu: str = "T4", **more: Any) -> ComparedRun:
    pool = make_pool(gpu, latency_model="", num_kv_blocks=None)
    settings: dict[str, Any] = {
        "pools": [pool],
        "seed": 42,
        "request_rate": None,
        "reason": "too small",
    }
    return ComparedRun(**settings | more)
