"""How well data determine parameters: confidence intervals from a fit's Jacobian."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from blis_sim.calibration.problem import FloatArray, Measurements, Parameter
from blis_sim.calibration.search import Fit

CONFIDENCE = 0.95
_BLOCKS = 25
"""Stretches of time whose residuals are added up: neighbours share engine steps."""
_LEAST_EIGENVALUE = 1e-9
"""Of the normal matrix with a diagonal of 1: what is below is not determined at all."""
_JUMPS = 1.5
"""By what intervals are wider where predictions jump: so many times the error that residuals
tell is that of estimates from simulated servers whose coefficients are known."""
_ROUNDING_US = 1.0
"""The latency models use whole microseconds."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How uncertain the free parameters of a fit are.

    Attributes
    ----------
    half_width : float64 array
        Half of the 95 % confidence interval of each parameter; 0 for those that are held.
    explained : float64 array
        Share of each parameter's effect that the other free parameters can have, 0 to 1.
    partner : int64 array
        The other parameter whose effect is most like it; -1 where it has no effect, or there
        is no other.
    """

    half_width: FloatArray
    explained: FloatArray
    partner: np.ndarray[tuple[int], np.dtype[np.int64]]


def student_quantile(confidence: float, freedom: float) -> float:
    """Return the two-sided quantile of Student's t distribution.

    Series in 1/freedom (Abramowitz and Stegun, 1964, 26.7.5); within 0.5 % from 4 degrees of
    freedom on, at 95 %.

    Parameters
    ----------
    confidence : float
        Probability between the quantile and its negative, 0 to 1.
    freedom : float
        Degrees of freedom, > 0.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, start=1))


def spread_of(fit: Fit, data: Measurements, parameters: tuple[Parameter, ...]) -> Spread:
    """Return the confidence intervals of a fit.

    The covariance is the larger of two, for each parameter: the residual variance times the
    inverse normal matrix, and the sandwich over blocks of time, which holds where residuals of
    neighbours are alike (Liang and Zeger, Biometrika 73, 1986).

    Parameters
    ----------
    fit : Fit
        With its Jacobian.
    data : Measurements
        What it was fitted to.
    parameters : tuple of Parameter
        All of them.
    """
    free = np.flatnonzero(fit.is_free)
    count = len(parameters)
    half, explained = np.zeros(count), np.zeros(count)
    partner = np.full(count, -1, dtype=np.int64)
    if not free.size:
        return Spread(half, explained, partner)
    residuals = fit.weighting.residuals(fit.predicted_us, data)
    system = fit.weighting.system(fit.jacobian, fit.predicted_us, data)
    matrix = system.seen(system.jacobian[:, free])
    norms = np.linalg.norm(matrix, axis=0)
    has_effect = norms > 0
    safe = np.where(has_effect, norms, 1.0)
    alike = (matrix / safe).T @ (matrix / safe)
    np.fill_diagonal(alike, 1.0)
    eigenvalues, vectors = np.linalg.eigh(alike)
    inverse = (vectors / np.maximum(eigenvalues, _LEAST_EIGENVALUE)) @ vectors.T
    num_rows = data.values_us.size
    freedom = max(num_rows - free.size, 1)
    variance = float(((system.root * residuals) ** 2).sum()) / freedom
    if fit.weighting.backdrop is not None:  # data without noise jump along with the predictions
        variance = max(variance, 1.0)
    errors = np.sqrt(np.diag(inverse) * variance) * student_quantile(CONFIDENCE, max(freedom, 2))
    num_blocks = min(_BLOCKS, num_rows // (2 * free.size))
    if num_blocks > free.size + 2:
        scores = system.scores(residuals)[:, free] / safe
        robust = _block_errors(scores, data, inverse, num_blocks)
        errors = np.maximum(errors, robust * student_quantile(CONFIDENCE, num_blocks - 1.0))
    if fit.weighting.backdrop is not None:
        errors = errors * _JUMPS
    half[free] = np.where(has_effect, errors / safe, np.inf)
    half[free] += [_ROUNDING_US * parameters[number].is_rounded for number in free]
    explained[free] = np.where(has_effect, 1 - 1 / np.maximum(np.diag(inverse), 1.0), 0.0)
    for place, number in enumerate(free.tolist()):
        others = np.abs(alike[place]) * has_effect
        others[place] = 0.0
        if has_effect[place] and others.max() > 0:
            partner[number] = free[int(others.argmax())]
    return Spread(half, explained, partner)


def _block_errors(
    scores: FloatArray, data: Measurements, inverse: FloatArray, num_blocks: int
) -> FloatArray:
    """Return standard errors where residuals within a block may be correlated."""
    places = np.argsort(np.argsort(data.order, kind="stable"), kind="stable")
    block = places * num_blocks // data.order.size
    sums = np.zeros((num_blocks, scores.shape[1]))
    np.add.at(sums, block, scores)
    middle = sums.T @ sums * num_blocks / (num_blocks - 1)
    diagonal = np.diag(inverse @ middle @ inverse)
    return np.sqrt(np.maximum(diagonal, 0.0))
