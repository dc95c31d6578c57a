"""Least squares through a simulator that is piecewise constant in its coefficients.

A simulation takes whole microseconds and puts requests into batches: a small change of a
coefficient changes nothing, or one batch and with it many times. Differences are therefore
taken over steps that move the predictions by a tenth or so, to both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from blis_sim.calibration.non_negative import non_negative_least_squares
from blis_sim.calibration.problem import (
    Backdrop,
    BoolArray,
    FloatArray,
    Measurements,
    Parameter,
    Predict,
    System,
    Weighting,
)

_RESPONSE = 0.15
"""By how much a step of the differences changes the predictions on average."""
_LEAST_RESPONSE = 0.25
"""As a share of `_RESPONSE`: steps that do less are made longer."""
_FIRST_DAMPING = 1e-3
_MOST_STEP = 1e9
_MOST_ITERATIONS = 12
_MOST_TRIALS = 5
_ENOUGH = 0.02
"""A decrease of the loss below which the search ends: a seventh of a standard error."""


@dataclass(slots=True)
class Fit:
    """The parameters that predict best.

    Attributes
    ----------
    values : float64 array
        Of all parameters, those that are held included.
    is_free : bool array
        Which of them were fitted.
    predicted_us : float64 array
        With these values, for the measurements fitted to.
    jacobian : float64 array, shape (measurements, parameters)
        Change of predictions per unit of a parameter; 0 for those that are held.
    weighting : Weighting
        At these values.
    num_iterations : int
        Steps that the search took.
    """

    values: FloatArray
    is_free: BoolArray
    predicted_us: FloatArray
    jacobian: FloatArray
    weighting: Weighting
    num_iterations: int


@dataclass(slots=True)
class Search:
    """Fits parameters to measurements.

    Parameters
    ----------
    predict : callable
        What the model says with given values.
    data : Measurements
        What is fitted to: predictions for these are all finite.
    parameters : sequence of Parameter
        What is fitted.
    backdrop : callable, optional
        What residuals are seen against, for given values; where predictions jump.
    """

    predict: Predict
    data: Measurements
    parameters: Sequence[Parameter]
    backdrop: Callable[[FloatArray], Backdrop] | None = None
    num_predictions: int = 0
    _steps: FloatArray = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        self._steps = np.array([max(0.05 * p.start, 1.0) for p in self.parameters])

    def fit(
        self, start: FloatArray, is_free: BoolArray, most_iterations: int = _MOST_ITERATIONS
    ) -> Fit:
        """Return the best values of the free parameters, the others as they are.

        Gauss and Newton's method with Levenberg and Marquardt's damping, each step a linear
        problem with values >= 0; weights follow from the residuals (Huber).

        Parameters
        ----------
        start : float64 array
            Values to begin with, >= 0.
        is_free : bool array
            Which may change.
        most_iterations : int
            Steps of the search, at most.
        """
        values, predicted = start.copy(), self._predicted(start)
        damping = _FIRST_DAMPING
        num_iterations = 0
        while num_iterations < most_iterations:
            num_iterations += 1
            jacobian = self._jacobian(values, is_free)
            weighting = self._weighting(values, predicted)
            system = weighting.system(jacobian, predicted, self.data)
            before = best = self._loss(system, weighting, predicted)
            for _ in range(_MOST_TRIALS):
                trial = self._step(values, is_free, predicted, system, weighting, damping)
                trial_us = self._predicted(trial)
                loss = self._loss(system, weighting, trial_us)
                if loss < before:
                    values, predicted, best = trial, trial_us, loss
                    damping = max(damping / 10, _FIRST_DAMPING / 1e3)
                    break
                damping *= 10
            if best > before - _ENOUGH:
                break
        jacobian = self._jacobian(values, is_free)
        return Fit(
            values,
            is_free,
            predicted,
            jacobian,
            self._weighting(values, predicted),
            num_iterations,
        )

    def misfit(self, fit: Fit, of: Fit) -> float:
        """Return how badly a fit predicts, seen with the weights of another."""
        system = of.weighting.system(of.jacobian, of.predicted_us, self.data)
        return self._loss(system, of.weighting, fit.predicted_us)

    def _loss(self, system: System, weighting: Weighting, predicted: FloatArray) -> float:
        residuals = system.root * weighting.residuals(predicted, self.data)
        return float((system.seen(residuals) ** 2).sum())

    def _weighting(self, values: FloatArray, predicted: FloatArray) -> Weighting:
        backdrop = None if self.backdrop is None else self.backdrop(values)
        return Weighting.of(predicted, self.data, backdrop)

    def _predicted(self, values: FloatArray) -> FloatArray:
        self.num_predictions += 1
        return self.predict(values)

    def _step(
        self,
        values: FloatArray,
        is_free: BoolArray,
        predicted: FloatArray,
        system: System,
        weighting: Weighting,
        damping: float,
    ) -> FloatArray:
        residuals = system.root * weighting.residuals(predicted, self.data)
        matrix = system.seen(system.jacobian[:, is_free])
        target = system.seen(residuals) + matrix @ values[is_free]
        norms = np.sqrt(damping) * np.linalg.norm(matrix, axis=0)
        damped = np.vstack([matrix, np.diag(norms)])
        goal = np.concatenate([target, norms * values[is_free]])
        changed = values.copy()
        changed[is_free] = non_negative_least_squares(damped, goal)
        return changed

    def _jacobian(self, values: FloatArray, is_free: BoolArray) -> FloatArray:
        jacobian = np.zeros((self.data.values_us.size, len(self.parameters)))
        for number in np.flatnonzero(is_free).tolist():
            jacobian[:, number] = self._column(values, number)
        return jacobian

    def _column(self, values: FloatArray, number: int) -> FloatArray:
        """Return differences per unit of a parameter, over a step that changes something."""
        for _ in range(_MOST_TRIALS + 3):
            step = self._steps[number]
            up, down = values.copy(), values.copy()
            up[number] += step
            down[number] = max(values[number] - step, 0.0)
            up_us, down_us = self._predicted(up), self._predicted(down)
            width = up[number] - down[number]
            change = (up_us - down_us) / np.maximum(up_us, down_us)
            response = max(
                abs(float(np.mean(change[self.data.kind == kind])))
                for kind in np.unique(self.data.kind).tolist()
            )
            per_unit = response / width
            if per_unit == 0:  # it may have an effect beyond a threshold: that is not fitted
                break
            wanted = min(_RESPONSE / per_unit, _MOST_STEP)
            self._steps[number] = min(wanted, 100 * step)
            is_enough = _LEAST_RESPONSE * wanted <= step <= wanted / _LEAST_RESPONSE
            if is_enough or step >= _MOST_STEP:
                break
        slope: FloatArray = (up_us - down_us) / width
        return slope
