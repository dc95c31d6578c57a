"""The figures of roofline-v2's host model, whichever they are."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from blis_sim.calibration.problem import FloatArray, Parameter
from blis_sim.calibration.steps import StepLog
from blis_sim.errors import TraceError
from blis_sim.latency.base import Batch, PrefillChunk
from blis_sim.latency.roofline_v2.host import HostModel
from blis_sim.latency.roofline_v2.model import RooflineV2Model

NAMES = tuple(field.name for field in fields(HostModel))
"""In the order of the parameters."""
_HINT = (
    "more requests, at rates from one at a time to the limit, with prompts of very different "
    "lengths; figures per layer need several models"
)
_LEAST_START_US = 1.0


def parameters(shipped: HostModel) -> tuple[Parameter, ...]:
    """Return the figures; what the data do not determine is held as shipped, or at 0.

    Of figures whose effects cannot be told apart those that are 0 as shipped are held first,
    from the last.

    Parameters
    ----------
    shipped : HostModel
        Where to begin.
    """
    return tuple(
        Parameter(
            name=name,
            unit="us",
            start=max(getattr(shipped, name), _LEAST_START_US),
            held_at=(getattr(shipped, name), 0.0),
            rank=place + (0 if getattr(shipped, name) else len(NAMES)),
            hint=_HINT,
        )
        for place, name in enumerate(NAMES)
    )


def host_of(values: FloatArray) -> HostModel:
    """Return the host model with these figures."""
    return HostModel(**dict(zip(NAMES, values.tolist(), strict=True)))


def values_of(model: HostModel) -> FloatArray:
    """Return the figures of a host model."""
    return np.array([getattr(model, name) for name in NAMES], dtype=np.float64)


def model_of(base: RooflineV2Model, values: FloatArray) -> RooflineV2Model:
    """Return a latency model like ``base`` with another host model."""
    return RooflineV2Model(
        base.forward, base.timer.tables, host_of(values), hides_host=base.hides_host
    )


def step_features(base: RooflineV2Model, steps: StepLog) -> tuple[FloatArray, FloatArray]:
    """Return the kernels of each step, and what each figure of the host model adds to it.

    A step is linear in the figures of the host model: what one adds is the difference it makes.

    Returns
    -------
    kernels_us : float64 array, shape (steps,)
        Duration without the host's share.
    features : float64 array, shape (steps, figures)
        Microseconds per unit of each figure.

    Raises
    ------
    TraceError
        The log does not say how many prompts or how much context there was.
    """
    batches = _batches(steps)
    nothing = np.zeros(len(NAMES))
    kernels_us = _durations(base, nothing, batches)
    unit = 1e4  # times are rounded to microseconds
    columns = [
        (_durations(base, nothing + unit * one, batches) - kernels_us) / unit
        for one in np.eye(len(NAMES))
    ]
    return kernels_us, np.column_stack(columns)


def _durations(base: RooflineV2Model, values: FloatArray, batches: list[Batch]) -> FloatArray:
    model = model_of(base, values)
    return np.array([model.step_time(batch) for batch in batches], dtype=np.float64)


def _batches(steps: StepLog) -> list[Batch]:
    """Return the batch of each step: prompts of equal length, without context."""
    if steps.context_tokens is None and (steps.num_decodes > 0).any():
        raise TraceError(
            f"{steps.path}: steps must say the mean context of their decodes for roofline-v2 "
            "(column context_tokens_mean); got none; fit blackbox, or give --requests"
        )
    if steps.num_prefills is None and (steps.prefill_tokens > 0).any():
        raise TraceError(
            f"{steps.path}: steps must say how many prompts they have for roofline-v2 (column "
            "num_prefills); got none; fit blackbox, or give --requests"
        )
    return [_batch(steps, row) for row in range(steps.num_rows)]


def _batch(steps: StepLog, row: int) -> Batch:
    decodes, tokens = round(steps.num_decodes[row]), round(steps.prefill_tokens[row])
    context = 0.0 if steps.context_tokens is None else float(steps.context_tokens[row])
    chunks: list[PrefillChunk] = []
    if tokens:
        assert steps.num_prefills is not None
        count = min(max(round(steps.num_prefills[row]), 1), tokens)
        share, more = divmod(tokens, count)
        chunks = [PrefillChunk(0, share + (number < more)) for number in range(count)]
    return Batch(decodes, round(decodes * context), chunks)
