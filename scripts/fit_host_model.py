"""Fit the host model of roofline-v2 to measured serving runs, and print how well it does.

Run from the root of a checkout: python scripts/fit_host_model.py serving_runs.csv

The table has a row per stage of a run; columns used: role, stage, model, gpu, tp, prompt_tokens,
output_tokens, stage_rates (per second, by stage, divided by |), ttft_mean_ms, tpot_mean_ms,
e2e_mean_ms, prompt_pool and prefix_caching (with a pool and 1, all but the last block of a
prompt is in the prefix cache). Rows with role ``calib`` are fitted, the others only compared.

A stage is taken to be at rest: by Little's law ``rate x (E2E - TTFT)`` requests decode at a
time, each with its prompt and on average half of its output in the cache; ``rate x TPOT``
prompts arrive in a step; and the measured TPOT is the mean duration of a step. What its kernels
do not explain is the host's.
"""

from __future__ import annotations

import csv
import itertools
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from blis_sim.catalog.gpus import load_gpu
from blis_sim.catalog.models import load_model
from blis_sim.latency.base import Batch, PrefillChunk
from blis_sim.latency.kernel_tables.borrow import tables_for
from blis_sim.latency.kernel_tables.tables import KernelTables
from blis_sim.latency.roofline_v2.host import HostModel, shipped_host
from blis_sim.latency.roofline_v2.model import RooflineV2Model
from blis_sim.transformer.forward_pass import ForwardPass

FloatArray = NDArray[np.float64]
BLOCK_TOKENS = 16


class Stage(NamedTuple):
    """One measured stage of a run, at rest."""

    role: str
    model: str
    gpu: str
    tp: int
    rate_per_s: float
    batch: float
    """Requests that decode at a time."""
    context_tokens: float
    """In the cache, of each of them."""
    cached_tokens: int
    """Of a prompt, from the prefix cache."""
    prompt_tokens: int
    tpot_us: float

    @property
    def prompts_per_step(self) -> float:
        return self.rate_per_s * self.tpot_us / 1e6

    @property
    def requests(self) -> float:
        """In a step, on average."""
        return self.batch + self.prompts_per_step


class Step(NamedTuple):
    """A stage with what the model says about its step."""

    stage: Stage
    num_layers: int
    kernels_us: float
    """Of a step on average."""


def stage_of(row: dict[str, str]) -> Stage | None:
    """Return the stage a row describes; None for whole runs and rows without figures."""
    needed = ("stage_rates", "ttft_mean_ms", "tpot_mean_ms", "e2e_mean_ms")
    number = int(row["stage"])
    if number < 0 or not all(row[name] for name in needed):
        return None
    rates = row["stage_rates"].split("|")
    rate = float(rates[number] if len(rates) > 1 else rates[0])
    decoding_s = (float(row["e2e_mean_ms"]) - float(row["ttft_mean_ms"])) / 1000
    prompt, output = round(float(row["prompt_tokens"])), float(row["output_tokens"])
    is_cached = bool(row["prompt_pool"]) and row["prefix_caching"] == "1"
    cached = (prompt - 1) // BLOCK_TOKENS * BLOCK_TOKENS if is_cached else 0
    return Stage(
        row["role"],
        row["model"],
        row["gpu"],
        int(row["tp"]),
        rate,
        max(1.0, rate * decoding_s),
        prompt + output / 2,
        cached,
        prompt,
        1000 * float(row["tpot_mean_ms"]),
    )


@cache
def tables_of(gpu: str) -> KernelTables:
    return tables_for(load_gpu(gpu)).tables


@cache
def kernels_only(model: str, gpu: str, tp: int) -> RooflineV2Model:
    forward = ForwardPass(
        load_model(model), tp, has_fp8=load_gpu(gpu).fp8_tflops_dense is not None
    )
    return RooflineV2Model(forward, tables_of(gpu), HostModel())


def step_of(stage: Stage) -> Step:
    """Return the stage with the time of its kernels, between whole batches linearly.

    A step with one prompt more takes longer by as much as the prompt adds to it.
    """
    model = kernels_only(stage.model, stage.gpu, stage.tp)
    chunk = PrefillChunk(stage.cached_tokens, stage.prompt_tokens - stage.cached_tokens)

    def kernels_us(batch: int) -> float:
        context = round(batch * stage.context_tokens)
        plain = model.step_time(Batch(batch, context))
        added = model.step_time(Batch(batch, context, [chunk])) - plain
        return plain + stage.prompts_per_step * added

    low = int(stage.batch)
    part = stage.batch - low
    us = kernels_us(low) * (1 - part) + kernels_us(low + 1) * part
    return Step(stage, model.forward.spec.num_layers, us)


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


def fit_host(steps: Sequence[Step]) -> HostModel:
    """Return the host model with the least squares of relative errors."""
    tpot_us = np.array([step.stage.tpot_us for step in steps])
    kernels_us = np.array([step.kernels_us for step in steps])
    left = np.array([[1.0, step.stage.requests, step.num_layers] for step in steps])
    figures = least_squares_from_0(left / tpot_us[:, None], 1 - kernels_us / tpot_us)
    return HostModel(*figures.tolist())


def errors(steps: Sequence[Step], host: HostModel) -> FloatArray:
    """Return predicted over measured TPOT, less 1."""
    predicted = [
        step.kernels_us
        + host.constant_us
        + host.per_request_us * step.stage.requests
        + host.per_layer_us * step.num_layers
        for step in steps
    ]
    return np.array(predicted) / [step.stage.tpot_us for step in steps] - 1


def show(title: str, steps: Sequence[Step], host: HostModel) -> None:
    """Print a line per step and what they amount to."""
    print(f"\n{title}")
    print(f"{'model':38} {'GPU':19} TP  rate batch context kernels us TPOT us  error")
    found = errors(steps, host)
    for step, error in zip(steps, found.tolist(), strict=True):
        stage = step.stage
        print(
            f"{stage.model[-38:]:38} {stage.gpu:19} {stage.tp:2} {stage.rate_per_s:5.1f}"
            f" {stage.batch:5.1f} {stage.context_tokens:7.0f} {step.kernels_us:10.0f}"
            f" {stage.tpot_us:7.0f} {100 * error:+5.1f} %"
        )
    print(summary(title, found))


def summary(title: str, found: FloatArray) -> str:
    size = 100 * np.abs(found)
    return (
        f"{title}: {len(found)} rows, mean error {100 * found.mean():+.1f} %, "
        f"mean |error| {size.mean():.1f} %, median {np.median(size):.1f} %, "
        f"most {size.max():.1f} %"
    )


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/fit_host_model.py serving_runs.csv")
    with Path(sys.argv[1]).open(encoding="utf-8", newline="") as handle:
        stages = [stage_of(row) for row in csv.DictReader(handle)]
    steps = [step_of(stage) for stage in stages if stage is not None]
    calib = [step for step in steps if step.stage.role == "calib"]
    others = [step for step in steps if step.stage.role != "calib"]
    host = fit_host(calib)
    show("calib, fitted", calib, host)
    show("others, not fitted", others, host)
    print()
    shipped = shipped_host()
    for name, model in (("fitted", host), ("shipped", shipped), ("no host", HostModel())):
        print(
            f"{name}: constant_us: {model.constant_us:.1f} per_request_us: "
            f"{model.per_request_us:.2f} per_layer_us: {model.per_layer_us:.2f}"
        )
        print("   ", summary("calib", errors(calib, model)))
        print("   ", summary("others", errors(others, model)))


if __name__ == "__main__":
    main()
