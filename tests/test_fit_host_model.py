"""The script that fits the host model: that it finds figures again, and what it fits."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blis_sim.latency.roofline_v2.host import HostModel
from blis_sim.validation.compare import Compared, ValidatedRow
from blis_sim.validation.read_runs import read_runs

sys.path.append(str(Path(__file__).resolve().parent.parent / "scripts"))

from fit_host_model import SYNC_ROWS, fit, is_sync, least_squares_from_0

ROOT = Path(__file__).resolve().parent.parent
DEPLOYMENTS = [(layers, tp) for layers in (16, 32, 80) for tp in (1, 2, 4)]
FIGURES = st.floats(0, 200)


def make_row(measured: tuple[float, float], predicted: tuple[float, float]) -> ValidatedRow:
    metrics = {
        name: Compared(*pair)
        for name, pair in zip(
            ("tpot_mean_ms", "ttft_mean_ms"), zip(measured, predicted, strict=True), strict=True
        )
    }
    return ValidatedRow(
        dataset="d",
        exp_id="e",
        stage=0,
        role="calib",
        model="m",
        gpu="H100",
        tp=1,
        load="",
        in_flight=None,
        metrics=metrics,
    )


def served(host: HostModel, *, is_async: bool) -> list[tuple[float, float]]:
    """Return (TPOT, TTFT) in ms of servers on which longer steps mean more requests."""
    found = []
    for layers, tp in DEPLOYMENTS:
        for load in (1.0, 12.0):
            tpot_us = 5000.0
            for _ in range(30):
                requests = load * tpot_us / 5000
                kernels_us = 4000 + 60 * layers / tp + 30 * requests
                tpot_us = kernels_us + host.step_us(
                    round(requests), layers, tp, hides_host=is_async
                )
            ttft_us = 2.5 * tpot_us + host.frontend_us + 600 * host.frontend_per_prompt_token_us
            found.append((tpot_us / 1000, ttft_us / 1000))
    return found


def simulate_like(truth: HostModel, host: HostModel, *, is_async: bool) -> Sequence[ValidatedRow]:
    pairs = zip(served(truth, is_async=is_async), served(host, is_async=is_async), strict=True)
    return [make_row(measured, predicted) for measured, predicted in pairs]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(FIGURES, st.floats(0, 8), st.floats(0, 600), st.floats(0, 30), st.floats(0, 9000))
def test_figures_are_found_again(
    constant: float, wait: float, scheduling: float, per_request: float, frontend: float
) -> None:
    """From servers that follow a host model its figures come back, though batches feed back."""
    truth = HostModel(
        frontend_us=frontend,
        frontend_per_prompt_token_us=3.0,
        scheduling_us=scheduling,
        scheduling_per_request_us=per_request,
        constant_us=constant,
        rank_wait_us=wait,
    )
    found = fit(
        lambda host: simulate_like(truth, host, is_async=True),
        lambda host: simulate_like(truth, host, is_async=False),
        HostModel(frontend_per_prompt_token_us=3.0),
    )
    wanted = [served(truth, is_async=flag) for flag in (True, False)]
    got = [served(found, is_async=flag) for flag in (True, False)]
    assert np.allclose(got, wanted, rtol=0.01)
    assert found.rank_wait_us == pytest.approx(wait, abs=0.5)
    assert found.frontend_us == pytest.approx(frontend, abs=150)
    assert found.frontend_per_prompt_token_us == 3.0


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(*[st.floats(-3, 3)] * 4), min_size=3, max_size=8))
def test_least_squares_from_0(rows: list[tuple[float, ...]]) -> None:
    """The optimality conditions: x >= 0, slope >= 0 where x is 0, slope 0 where it is not."""
    table = np.round(np.array(rows), 2) + 1e-3 * np.eye(len(rows), 4)
    left, right = table[:, :3], table[:, 3]
    x = least_squares_from_0(left, right)
    slope = left.T @ (left @ x - right)
    assert np.all(x >= 0)
    assert np.all(slope >= -1e-6)
    assert np.abs(slope * x).max() < 1e-6 * (1 + x.max()) ** 2


def test_what_would_be_negative_is_0() -> None:
    """Servers faster than their kernels, and than no frontend at all, leave nothing."""
    truth = HostModel(frontend_us=1000.0)

    def simulate(host: HostModel) -> Sequence[ValidatedRow]:
        rows = simulate_like(truth, host, is_async=True)
        return [
            replace(row, metrics={k: Compared(v.measured / 2, v.predicted) for k, v in pairs})
            for row in rows
            for pairs in [row.metrics.items()]
        ]

    assert fit(simulate, simulate, HostModel()) == HostModel()


def test_rows_of_a_synchronous_engine() -> None:
    """30 shipped rows: TP 2, 4 and 8, from 8 to 128 users, two lengths of answers."""
    shipped = read_runs(ROOT / "bench_data" / "serving" / SYNC_ROWS)
    rows = [row for row in shipped if is_sync(row)]
    assert len(rows) == 30
    assert {row.tp for row in rows} == {2, 4, 8}
    assert {row.concurrency for row in rows} == {8, 16, 32, 64, 128}
    assert all(row.gpu == "H100" for row in rows)
