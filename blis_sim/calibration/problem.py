"""What is fitted to what: parameters, measurements, and how far predictions are from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

Predict = Callable[[FloatArray], FloatArray]
"""From the values of all parameters to a prediction for each measurement, microseconds."""

_HUBER = 3.0
"""Residuals beyond so many standard deviations count less than quadratically."""
_NORMAL_HALF, _NORMAL_MOST = 0.6745, 1.96
"""Standard deviations within which half and 95 % of a normal distribution lie. Where predictions
jump, half of them may be exact by chance: a request waits for the end of a step."""
_LEAST_SIGMA = 1e-5
"""Relative; times are whole microseconds."""
_LEAST_DIRECTION = 1e-6
"""Size below which a direction of the features is one of rounding errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A coefficient that is fitted, >= 0.

    Attributes
    ----------
    name, unit : str
        As they are written in the coefficient file, and in words.
    start : float
        Where the search begins, in ``unit``.
    held_at : tuple of float
        What it may be held at where the data do not determine it, the best first.
    rank : int
        Of parameters whose effects cannot be told apart, the one of the highest rank is held.
    hint : str
        Which data would determine it.
    is_rounded : bool
        Whether the latency model uses whole microseconds of it.
    """

    name: str
    unit: str
    start: float
    held_at: tuple[float, ...] = (0.0,)
    rank: int = 0
    hint: str = ""
    is_rounded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """What was measured, one entry per measurement.

    Attributes
    ----------
    values_us : float64 array
        Microseconds, > 0.
    kind : int64 array
        Index into ``kinds``: measurements of one kind are equally exact, relative to their
        size.
    kinds : tuple of str
        Names.
    count : float64 array
        How many measurements each is the mean of.
    order : float64 array
        Time, or place in the file: neighbours are not independent of each other.
    """

    values_us: FloatArray
    kind: IntArray
    kinds: tuple[str, ...]
    count: FloatArray
    order: FloatArray


@dataclass(frozen=True, slots=True)
class Backdrop:
    """What residuals are seen against, where predictions jump with the parameters.

    A small change of a parameter moves a request into another batch. Only what is common to
    many residuals then says something about the parameters: fits see residuals through
    features alone. Features must not know which way this measurement and this prediction
    jumped, or estimates are biased: they are those of other runs with the same parameters.

    Attributes
    ----------
    reference_us : float64 array
        Expected size of each measurement, microseconds.
    features : float64 array, shape (measurements, features)
        What a change of the parameters may add to each, a column per feature, in any unit.
    jumps_us : float64 array
        By how much each differs between two such runs: no measurement is more exact.
    """

    reference_us: FloatArray
    features: FloatArray
    jumps_us: FloatArray


@dataclass(frozen=True, slots=True)
class Weighting:
    """How much each residual counts.

    Attributes
    ----------
    reference_us : float64 array
        What residuals are relative to: predictions, so that a measurement that is too short
        by chance does not count more.
    sigma : mapping of int to float
        Standard deviation of the relative residuals of each kind, robust.
    backdrop : Backdrop or None
        What they are seen against; None = each for itself.
    """

    reference_us: FloatArray
    sigma: Mapping[int, float]
    backdrop: Backdrop | None = None

    @classmethod
    def of(
        cls, predicted_us: FloatArray, data: Measurements, backdrop: Backdrop | None = None
    ) -> Weighting:
        """Return the weights that follow from predictions."""
        reference = predicted_us if backdrop is None else backdrop.reference_us
        reference = np.maximum(reference, 1.0)
        relative = np.abs(predicted_us - data.values_us) / reference
        kinds = np.unique(data.kind).tolist()
        if backdrop is None:
            sigma = {k: _sigma(relative[data.kind == k], 0.5, _NORMAL_HALF) for k in kinds}
            return cls(reference, sigma)
        jumps = np.abs(backdrop.jumps_us) / np.sqrt(2) / reference
        sigma = {
            kind: max(
                _sigma(each[data.kind == kind], 0.95, _NORMAL_MOST) for each in (relative, jumps)
            )
            for kind in kinds
        }
        return cls(reference, sigma, backdrop)

    def scale_us(self, data: Measurements) -> FloatArray:
        """Return the standard deviation of each measurement, microseconds."""
        sigmas = np.array([self.sigma.get(kind, 1.0) for kind in range(len(data.kinds))])
        scale: FloatArray = self.reference_us * sigmas[data.kind] / np.sqrt(data.count)
        return scale

    def residuals(self, predicted_us: FloatArray, data: Measurements) -> FloatArray:
        """Return measured less predicted, in standard deviations."""
        return (data.values_us - predicted_us) / self.scale_us(data)

    def system(self, jacobian: FloatArray, predicted_us: FloatArray, data: Measurements) -> System:
        """Return the linear problem for a change of the parameters.

        Parameters
        ----------
        jacobian : float64 array, shape (measurements, parameters)
            Change of the predictions per unit of each.
        predicted_us : float64 array
            Predictions where the change begins.
        data : Measurements
            What was measured.
        """
        scale = self.scale_us(data)
        residuals = self.residuals(predicted_us, data)
        root = np.sqrt(_huber_weights(residuals))
        basis = None
        if self.backdrop is not None:
            columns = np.column_stack([self.backdrop.features, self.reference_us])
            basis = _basis(data, columns * (root / scale)[:, None])
        weighted = jacobian * (root / scale)[:, None]
        if basis is not None:  # what no parameter can change is noise
            basis = basis @ _range_of(basis.T @ weighted)
        return System(weighted, root, basis)


@dataclass(frozen=True, slots=True)
class System:
    """Residuals and their derivatives, weighted, as a linear problem.

    Attributes
    ----------
    jacobian : float64 array, shape (measurements, parameters)
        In weighted standard deviations per unit.
    root : float64 array
        Roots of the weights of the residuals.
    basis : float64 array, shape (measurements, features), or None
        Orthonormal: the directions in which residuals are seen.
    """

    jacobian: FloatArray
    root: FloatArray
    basis: FloatArray | None

    def seen(self, rows: FloatArray) -> FloatArray:
        """Return weighted rows, one per measurement, in the directions that are seen."""
        return rows if self.basis is None else self.basis.T @ rows

    def scores(self, residuals: FloatArray) -> FloatArray:
        """Return what each measurement pulls each parameter with, in standard deviations."""
        smooth = self.jacobian
        if self.basis is not None:
            smooth = self.basis @ (self.basis.T @ smooth)
        return smooth * (self.root * residuals)[:, None]


def _sigma(sizes: FloatArray, share: float, deviations: float) -> float:
    """Return the standard deviation that a quantile of sizes tells."""
    return max(float(np.quantile(sizes, share)) / deviations, _LEAST_SIGMA)


def _basis(data: Measurements, columns: FloatArray) -> FloatArray:
    """Return an orthonormal basis of the columns of each kind."""
    parts = []
    for kind in np.unique(data.kind).tolist():
        own = np.where((data.kind == kind)[:, None], columns, 0.0)
        norms = np.linalg.norm(own, axis=0)
        left, sizes, _ = np.linalg.svd(own[:, norms > 0] / norms[norms > 0], full_matrices=False)
        parts.append(left[:, sizes > _LEAST_DIRECTION * sizes[0]])
    return np.hstack(parts)


def _range_of(matrix: FloatArray) -> FloatArray:
    """Return an orthonormal basis of what the columns span."""
    norms = np.linalg.norm(matrix, axis=0)
    scaled = matrix[:, norms > 0] / norms[norms > 0]
    left, sizes, _ = np.linalg.svd(scaled, full_matrices=False)
    return left[:, sizes > _LEAST_DIRECTION * sizes.max(initial=0.0)]


def _huber_weights(residuals: FloatArray) -> FloatArray:
    """Return what each squared residual counts, > 0 and at most 1."""
    return np.minimum(1.0, _HUBER / np.maximum(np.abs(residuals), 1e-300))
