"""Fit the host model of roofline-v2 to measured serving runs, and print how well it does.

Run from the root of a checkout: python scripts/fit_host_model.py serving_runs.csv

The table is one that ``blis validate --runs`` reads (docs/validation.md). Experiments with role
``calib`` are fitted; no other is looked at. They are simulated, so that what a step costs acts as
it does on a server: longer steps mean more requests in flight, and those longer steps again.

1. What a step costs (constant, per request, per layer, wait at collectives) by the measured mean
   TPOT: from the simulated figures and their slopes by each parameter, least squares of the
   relative errors, none below 0; twice, the second time from where the first one led.
2. What synchronous engines add (constant, per request) by the measured mean TPOT of shipped rows
   of such an engine (vLLM 0.12.0 with Qwen3-32B on H100, TP 2, 4 and 8, 8 to 128 requests in
   flight, ``bench_data/serving``), in the same way: all calib rows are of asynchronous engines,
   which hide it.
3. The frontend's constant by the measured mean TTFT of the calib rows: the mean of what is
   missing then. It passes before the queue, and a load that does not wait for answers is only
   shifted by it. Its part per prompt token is not fitted, prompts of these rows are too much
   alike: it is what ``scripts/measure_tokenizer.py`` measures, and is taken from the host model
   that is there.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from blis_sim.latency.roofline_v2.host import HostModel, shipped_host
from blis_sim.validation.compare import ValidatedRow
from blis_sim.validation.experiment import Case, case_of
from blis_sim.validation.read_runs import read_runs
from blis_sim.validation.records import RunRecord
from blis_sim.validation.validate import validate

FloatArray = NDArray[np.float64]
Simulate = Callable[[HostModel], Sequence[ValidatedRow]]
"""Measured rows with what is predicted under a host model, always in the same order."""

TPOT, TTFT = "tpot_mean_ms", "ttft_mean_ms"
STEP_US = {"constant_us": 100.0, "per_request_us": 5.0, "per_layer_us": 5.0, "rank_wait_us": 3.0}
SYNC_US = {"scheduling_us": 300.0, "scheduling_per_request_us": 20.0}
"""Parameters of the step, and how far each is moved for its slope."""
SYNC_ROWS = "silicon.csv"
SYNC_ENGINE, SYNC_MODEL = "vLLM 0.12.0", "Qwen/Qwen3-32B"
SYNC_LOADS = ("1024 in, 1024 out", "1024 in, 512 out")


def least_squares_from_0(left: FloatArray, right: FloatArray) -> FloatArray:
    """Return the x >= 0 with the least ``|left x - right|``, by trying which ones are 0."""
    columns = left.shape[1]
    best, least = np.zeros(columns), float(np.sum(right**2))
    for size in range(1, columns + 1):
        for chosen in itertools.combinations(range(columns), size):
            some = np.linalg.lstsq(left[:, chosen], right, rcond=None)[0]
            residual = float(np.sum((left[:, chosen] @ some - right) ** 2))
            if np.all(some >= 0) and residual < least:
                best, least = np.zeros(columns), residual
                best[list(chosen)] = some
    return best


def figures_of(rows: Iterable[ValidatedRow], name: str) -> tuple[FloatArray, FloatArray]:
    """Return what was measured and what is predicted."""
    pairs = [(row.metrics[name].measured, row.metrics[name].predicted) for row in rows]
    measured, predicted = np.array(pairs, dtype=np.float64).T
    return measured, predicted


def fit_step(simulate: Simulate, host: HostModel, step_us: Mapping[str, float]) -> HostModel:
    """Return the host with some parameters of the step moved to where the slopes say."""
    measured, predicted = figures_of(simulate(host), TPOT)
    slopes = []
    for name, distance in step_us.items():
        moved = replace(host, **{name: getattr(host, name) + distance})
        slopes.append((figures_of(simulate(moved), TPOT)[1] - predicted) / distance)
    left = np.array(slopes).T
    now = np.array([getattr(host, name) for name in step_us])
    right = measured - predicted + left @ now
    found = least_squares_from_0(left / measured[:, None], right / measured)
    return replace(host, **dict(zip(step_us, found.tolist(), strict=True)))


def fit_frontend(rows: Sequence[ValidatedRow], host: HostModel) -> HostModel:
    """Return the host with the frontend that the rows, simulated under it, lack more of."""
    measured, predicted = figures_of(rows, TTFT)
    missing_us = 1000 * float((measured - predicted).mean())
    return replace(host, frontend_us=max(0.0, host.frontend_us + missing_us))


def fit(calib: Simulate, sync: Simulate, host: HostModel) -> HostModel:
    """Return the fitted host model, its part per prompt token as given."""
    for _ in range(2):
        host = fit_step(calib, host, STEP_US)
    for _ in range(2):
        host = fit_step(sync, host, SYNC_US)
    return fit_frontend(calib(host), host)


def simulated(cases: Sequence[Case]) -> Simulate:
    """Return how to simulate the cases under a host model."""

    def simulate(host: HostModel) -> Sequence[ValidatedRow]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "host.yaml"
            path.write_text(yaml.safe_dump(asdict(host)), encoding="utf-8")
            overrides = ["latency.model=roofline-v2", f"latency.coefficients_file={path}"]
            found = validate(cases, overrides=overrides, num_jobs=os.cpu_count() or 1)
        return found.rows

    return simulate


def is_sync(record: RunRecord) -> bool:
    """Return whether a shipped row is fitted for what synchronous engines add."""
    deployment = (record.engine, record.model, record.precision)
    is_wanted = deployment == (SYNC_ENGINE, SYNC_MODEL, "BF16")
    return is_wanted and record.workload in SYNC_LOADS


def show(title: str, host: HostModel, rows: Sequence[ValidatedRow]) -> None:
    """Print the figures of a host model and how well it does."""
    print(f"\n{title}")
    print("\n".join(f"{name}: {value:.4g}" for name, value in asdict(host).items()))
    for name in (TPOT, TTFT, "e2e_mean_ms"):
        measured, predicted = figures_of(rows, name)
        errors = 100 * (predicted / measured - 1)
        print(
            f"{name:12} mean |error| {np.abs(errors).mean():5.1f} %, "
            f"bias {errors.mean():+5.1f} %, most {np.abs(errors).max():5.1f} %, "
            f"{errors.size} rows"
        )


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/fit_host_model.py serving_runs.csv")
    calib = [each for each in read_runs(Path(sys.argv[1])) if each.role == "calib"]
    shipped = read_runs(Path("bench_data/serving") / SYNC_ROWS)
    sync = [each for each in shipped if is_sync(each)]
    simulate, simulate_sync = (
        simulated([case_of(record) for record in records]) for records in (calib, sync)
    )
    given = shipped_host()
    start = HostModel(frontend_per_prompt_token_us=given.frontend_per_prompt_token_us)
    for title, host in (
        ("configs/host.yaml", given),
        ("fitted", fit(simulate, simulate_sync, start)),
    ):
        show(f"{title}, calib rows", host, simulate(host))
        show(f"{title}, rows of a synchronous engine", host, simulate_sync(host))
    for record in (*calib, *sync):
        print(record.dataset, record.exp_id, *(f"stage {row.stage}" for row in record.rows))


if __name__ == "__main__":
    main()
