"""Servers whose coefficients are known: what a measurement of them would hold."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from blis_sim.calibration import blackbox, host
from blis_sim.calibration.problem import FloatArray
from blis_sim.calibration.replay import Latencies, Replay
from blis_sim.calibration.served import Served
from blis_sim.calibration.steps import StepLog
from blis_sim.calibration.target import Target, target_of
from blis_sim.config.loading import load_scenario
from blis_sim.latency.roofline_v2.host import HostModel
from blis_sim.latency.roofline_v2.model import RooflineV2Model
from blis_sim.validation.requests_file import ServedRequests

FIGURES = [field.name for field in fields(HostModel)]


def make_target(latency_model: str = "blackbox") -> Target:
    """Return a deployment on one H100."""
    settings = {"model": "meta-llama/Llama-3.1-8B-Instruct", "hardware": "H100"}
    return target_of(load_scenario(settings, [f"latency.model={latency_model}"]))


def make_steps(
    true: Sequence[float], seed: int, *, count: int = 300, noise: float = 0.05
) -> StepLog:
    """Return a log of steps that take what beta says, and some noise."""
    rng = np.random.default_rng(seed)
    prefill = np.where(rng.random(count) < 0.3, rng.integers(10, 2000, count), 0).astype(float)
    decodes = rng.integers(1, 60, count).astype(float)
    duration = true[0] + true[1] * prefill + true[2] * decodes
    return StepLog(
        path=Path("steps.csv"),
        prefill_tokens=prefill,
        num_decodes=decodes,
        duration_us=duration * (1 + rng.normal(0, noise, count)),
        count=np.ones(count),
    )


def make_served(
    target: Target,
    true: FloatArray,
    seed: int,
    *,
    count: int = 120,
    rate_per_s: float = 6.0,
    noise: float = 0.02,
    prompt_tokens: int | None = None,
) -> Served:
    """Return requests answered by a server with these coefficients, measured with noise."""
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(1e6 / rate_per_s, count)).astype(np.int64)
    prompts = np.clip(rng.lognormal(6, 1, count), 10, 4000).astype(np.int64)
    if prompt_tokens is not None:
        prompts[:] = prompt_tokens
    output = np.clip(rng.lognormal(4, 0.8, count), 1, 500).astype(np.int64)
    nothing = np.zeros(count, dtype=np.int64)
    asked = Served(
        ServedRequests(Path("requests.csv"), arrival, prompts, output, nothing, nothing)
    )
    found = latencies(target, asked, true)
    ttft = found.ttft_us * np.exp(rng.normal(0, 2 * noise, count))
    decoding = (found.e2e_us - found.ttft_us) * np.exp(rng.normal(0, noise, count))
    measured = (np.rint(each).astype(np.int64) for each in (ttft, ttft + decoding))
    return Served(ServedRequests(Path("requests.csv"), arrival, prompts, output, *measured))


def latencies(target: Target, served: Served, values: FloatArray) -> Latencies:
    """Return what the simulator says of the requests."""
    model = target.resolved.latency.model
    if isinstance(model, RooflineV2Model):
        replay = Replay(target.resolved.engine, served, lambda v: host.model_of(model, v))
    else:
        replay = Replay(target.resolved.engine, served, blackbox.model_of)
    return replay.latencies(values)


def write_csv(path: Path, columns: dict[str, Sequence[object]]) -> Path:
    """Write columns with a header."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path
