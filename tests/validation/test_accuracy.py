"""How far predictions are off on servers that nothing was fitted to.

The measurements are not part of the repository; without them these tests skip.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from blis_sim.validation.compare import ValidatedRow
from blis_sim.validation.experiment import case_of
from blis_sim.validation.read_runs import read_runs
from blis_sim.validation.summary import summarize
from blis_sim.validation.validate import validate

RUNS = Path(__file__).resolve().parents[3] / "shared" / "data" / "measured" / "serving_runs.csv"

pytestmark = pytest.mark.skipif(
    not RUNS.is_file(), reason=f"the shared measurements are not here: {RUNS}"
)


@cache
def rows_of(role: str) -> tuple[ValidatedRow, ...]:
    cases = [case_of(record) for record in read_runs(RUNS) if record.role == role]
    return validate(cases, overrides=["latency.model=roofline-v2"]).rows


@pytest.mark.parametrize(
    ("metric", "most_pct"),
    [("ttft_mean_ms", 12), ("ttft_p99_ms", 25), ("tpot_mean_ms", 5), ("e2e_mean_ms", 5)],
)
def test_mean_error_of_servers_not_fitted(metric: str, most_pct: float) -> None:
    """41 rows on H100, A100, L40S and RTX PRO 6000, TP 1 to 4, one set of host figures."""
    rows = rows_of("dev")
    assert len(rows) == 41
    errors = summarize(rows)[metric]
    assert errors.n == 41
    assert errors.mape < most_pct


def test_requests_on_rtx_pro_6000() -> None:
    """300 requests, KV blocks computed: mean TTFT, TPOT and E2E within 10 %."""
    (row,) = (row for row in rows_of("dev") if row.dataset == "llmservingsim_bench")
    for metric in ("ttft_mean_ms", "tpot_mean_ms", "e2e_mean_ms"):
        assert abs(row.metrics[metric].error_pct) < 10


def test_shipped_host_model_is_the_fitted_one() -> None:
    """Where it was fitted, its TTFT is right on average and its TPOT has little bias."""
    rows = rows_of("calib")
    missing_ms = [
        row.metrics["ttft_mean_ms"].measured - (row.metrics["ttft_mean_ms"].predicted or 0)
        for row in rows
    ]
    assert len(rows) == 19
    assert abs(float(np.mean(missing_ms))) < 0.25
    assert abs(summarize(rows)["tpot_mean_ms"].bias) < 1.5


def saturated(rate: float, duration_s: float, prompt: str) -> float:
    """Return the requests/s that Qwen3-14B serves on an H100 to at most 256 at a time."""
    from blis_sim import api
    from blis_sim.config.loading import load_scenario

    settings = [
        *("model=Qwen/Qwen3-14B", "hardware=H100", "engine.version=0.23.0"),
        *("engine.max_num_seqs=256", "engine.max_num_batched_tokens=8192"),
        *("engine.num_gpu_blocks_override=18038", "workload.arrivals.normalize_span=true"),
        *("workload.max_outstanding=256", "workload.output=128", f"workload.prompt={prompt}"),
        f"workload.stages=[{{rate: {rate}, duration_s: {duration_s}}}]",
    ]
    result = api.run(api.resolve(load_scenario({}, settings)))
    return float(result.summary["request_throughput"])


@pytest.mark.parametrize(
    ("rate", "prompt", "measured"),
    [
        (18, "986", 17.2),
        (12, "{kind: mixture, parts: [{mean: 256, weight: 1}, {mean: 4096, weight: 1}]}", 8.4),
    ],
)
def test_rate_of_a_saturated_server(rate: float, prompt: str, measured: float) -> None:
    """More than it can serve, and more than its KV cache holds: within 5 % of what it served.

    The measured mix is known as 256 and 4096 tokens; equal shares are assumed.
    """
    assert saturated(rate, 150, prompt) == pytest.approx(measured, rel=0.05)
