"""The coefficients of the blackbox model, and where a search for them begins."""

from __future__ import annotations

import numpy as np

from blis_sim.calibration.non_negative import non_negative_least_squares
from blis_sim.calibration.problem import BoolArray, FloatArray, Parameter
from blis_sim.calibration.replay import Latencies, Surroundings
from blis_sim.calibration.served import Served
from blis_sim.calibration.steps import StepLog
from blis_sim.latency.blackbox import BlackboxModel

NAMES = (
    *("alpha0_us", "alpha1_us_per_in_tok", "alpha2_us_per_out_tok"),
    *("beta0_us", "beta1_us_per_prefill_tok", "beta2_us_per_decode_tok"),
)
"""Columns of configs/coefficients.csv, in the order of the parameters."""
NUM_ALPHA = 3
_UNITS = (
    *("us", "us per prompt token", "us per output token"),
    *("us", "us per prefill token", "us per decode"),
)
_RANKS = (1, 4, 5, 0, 2, 3)
"""A delay per output token is held before the constant of a step it looks like."""
_HINTS = (
    "requests at a low rate, with TTFT measured to less than a step",
    "prompts of very different lengths at a low rate",
    "requests of few and of many output tokens at a load near the limit, or a step log",
    "steps, or requests at a low rate",
    "steps with prompts of different lengths, or requests at rates at which prompts often "
    "interrupt decodes",
    "steps, or requests, with few and with many requests in the batch",
)
_WAIT_STEPS = 1.5
"""A prompt waits for the rest of a step, half of one on average, and takes one of its own."""


def parameters(start: FloatArray) -> tuple[Parameter, ...]:
    """Return alpha and beta; what the data do not determine is held at 0.

    Parameters
    ----------
    start : float64 array, shape (6,)
        Where to begin.
    """
    return tuple(
        Parameter(
            name=name,
            unit=unit,
            start=float(value),
            rank=rank,
            hint=hint,
            is_rounded=unit in {"us", "us per output token"},
        )
        for name, unit, rank, hint, value in zip(NAMES, _UNITS, _RANKS, _HINTS, start, strict=True)
    )


def model_of(values: FloatArray) -> BlackboxModel:
    """Return the model with these coefficients."""
    a0, a1, a2, b0, b1, b2 = values.tolist()
    return BlackboxModel((a0, a1, a2), (b0, b1, b2))


def step_features(steps: StepLog) -> FloatArray:
    """Return what the duration of each step is linear in, one column per coefficient.

    ``step = b0 + b1 * prefill tokens + b2 * decodes``: alpha has no part in it.
    """
    zeros = np.zeros((steps.num_rows, NUM_ALPHA))
    beta = [np.ones(steps.num_rows), steps.prefill_tokens, steps.num_decodes]
    return np.hstack([zeros, np.column_stack(beta)])


def start_from_steps(steps: StepLog, rows: BoolArray) -> FloatArray:
    """Return coefficients fitted to some steps, each relative to its duration; alpha is 0."""
    weights = np.where(rows, np.sqrt(steps.count) / steps.duration_us, 0.0)
    features = step_features(steps) * weights[:, None]
    return non_negative_least_squares(features, steps.duration_us * weights)


def start_from_requests(served: Served, rows: BoolArray) -> FloatArray:
    """Return a guess from the measured times of some requests.

    Between its first and last token a request sees ``1 / TPOT`` steps per second, on average as
    many decodes as there are other requests between these tokens, and the prompts whose first
    tokens come in that time. TPOT is linear in them; what is left of TTFT after the steps of
    the prompt is alpha's.
    """
    measured = Latencies.measured(served)
    around = Surroundings.of(served, measured)
    prompts = served.requests.prompt_tokens.astype(np.float64)
    decodes, between = around.decodes, around.prompt_tokens_per_gap
    several = np.flatnonzero(rows & np.isfinite(measured.tpot_us) & (measured.tpot_us > 0))
    if several.size:
        tpot = measured.tpot_us[several]
        columns = np.column_stack([np.ones(several.size), between[several], decodes[several]])
        beta = non_negative_least_squares(columns / tpot[:, None], np.ones(several.size))
    else:
        beta = np.array([float(np.median(measured.ttft_us[rows])) / 2, 0.0, 0.0])
    engine_us = _WAIT_STEPS * (beta[0] + beta[2] * decodes) + beta[1] * prompts
    left = np.maximum(measured.ttft_us - engine_us, 0.0)
    alpha0 = float(np.median(left[rows]))
    return np.array([alpha0, 0.0, 0.0, *beta])
