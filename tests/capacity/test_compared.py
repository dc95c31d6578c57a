from __future__ import annotations

from typing import Any

from blis_sim.capacity.compared import ComparedPool, ComparedRun, comparability


def make_row(*latency_models: str, gpu: str = "A", **more: Any) -> ComparedRun:
    pools = [
        ComparedPool(model="m", gpu=gpu, tensor_parallel_size=1, latency_model=model)
        for model in latency_models or ("",)
    ]
    return ComparedRun(**{"pools": pools, "seed": 1, "request_rate": 1.0} | more)


def test_different_latency_models_are_not_comparable() -> None:
    """The warning says who answered where; one model alone needs none."""
    one, other = make_row("blackbox"), make_row("roofline-v1", gpu="B")
    failed = make_row(gpu="C", reason="too small")
    assert comparability([one, failed]) == ""
    warning = comparability([one, other, failed])
    assert "(blackbox: A TP 1; roofline-v1: B TP 1): their rows are not comparable" in warning


def test_a_cluster_of_two_latency_models_is_comparable_with_itself() -> None:
    """As under several routers; beside one with a single model it is not."""
    rows = [make_row("v2", "v1", name=name) for name in ("a", "b")]
    assert comparability(rows) == ""
    warning = comparability([*rows, make_row("v2", name="c")])
    assert "(v2 + v1: a, b; v2: c)" in warning
