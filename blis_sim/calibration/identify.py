"""Which parameters the data determine; the others are held, and it is said why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from blis_sim.calibration.intervals import Spread, spread_of
from blis_sim.calibration.problem import BoolArray, FloatArray, Parameter
from blis_sim.calibration.search import Fit, Search

_ALIKE = 0.9
"""Share of an effect that others can have from which on that is the reason."""
_SAME = 0.9999
"""The same, even where the data leave no residuals and so no errors."""
_NOT_WORSE = 1.02
"""A value to hold a parameter at is good enough when the loss grows by no more than this."""
_FEW_ITERATIONS = 3
"""Of a fit that is only to tell which parameters are determined."""
_KNOWN = "other data determine it"
NO_EFFECT = "nothing in these data depends on it"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A parameter after the fit.

    Attributes
    ----------
    parameter : Parameter
        Which one.
    value : float
        In its unit, >= 0.
    low, high : float or None
        95 % confidence interval; None where it is held.
    held_because : str
        Why the data do not determine it; empty when they do.
    """

    parameter: Parameter
    value: float
    low: float | None = None
    high: float | None = None
    held_because: str = ""

    @property
    def is_held(self) -> bool:
        """Whether the data do not determine it."""
        return bool(self.held_because)


def identify(search: Search, known: Mapping[int, float] | None = None) -> tuple[Estimate, ...]:
    """Fit the parameters that the data determine, and hold the others.

    A parameter whose confidence interval reaches down to 0 is not determined. One at a time is
    held and the rest fitted again: first those that others can stand in for, by their ranks;
    then the least certain. Intervals of the others hold for the values at which these are held.

    Parameters
    ----------
    search : Search
        What is fitted to what.
    known : mapping of int to float, optional
        Values of parameters, by their places, that other data have determined.
    """
    parameters = tuple(search.parameters)
    known = known or {}
    places = range(len(parameters))
    reasons = [_KNOWN if number in known else "" for number in places]
    values = np.array(
        [known.get(number, parameters[number].start) for number in places], dtype=np.float64
    )
    fit = search.fit(values, _free(reasons), _FEW_ITERATIONS)
    while True:
        spread = spread_of(fit, search.data, parameters)
        for place in np.flatnonzero(np.isinf(spread.half_width)).tolist():
            reasons[place] = NO_EFFECT
            fit.values[place] = parameters[place].held_at[0]
        fit.is_free = _free(reasons)
        number = _least_known(fit, spread, parameters)
        if number is not None:
            reasons[number] = _reason(parameters, number, fit, spread)
            fit = _held(search, fit, parameters[number], number, _free(reasons))
        elif fit.num_iterations == _FEW_ITERATIONS:
            fit = search.fit(fit.values, fit.is_free)
        else:
            break
    return tuple(
        _estimate(parameter, float(fit.values[number]), float(spread.half_width[number]), why)
        for number, (parameter, why) in enumerate(zip(parameters, reasons, strict=True))
    )


def _free(reasons: Sequence[str]) -> BoolArray:
    return np.array([not why for why in reasons])


def _least_known(fit: Fit, spread: Spread, parameters: Sequence[Parameter]) -> int | None:
    """Return the parameter to hold next; None when all that are free are determined."""
    unknown = fit.is_free & ((spread.half_width >= fit.values) | (spread.explained >= _SAME))
    if not unknown.any():
        return None
    alike = set(np.flatnonzero(unknown & (spread.explained >= _ALIKE)).tolist())
    if alike:
        alike |= {int(spread.partner[number]) for number in alike} - {-1}
        return max(alike, key=lambda number: parameters[number].rank)
    relative = np.where(unknown, spread.half_width / np.maximum(fit.values, 1e-12), -1.0)
    return int(relative.argmax())


def _held(search: Search, fit: Fit, parameter: Parameter, number: int, is_free: BoolArray) -> Fit:
    """Fit again with one parameter less, at the first value that does not make it worse."""
    limit = _NOT_WORSE * search.misfit(fit, fit)
    best: tuple[float, Fit] | None = None
    for value in dict.fromkeys(parameter.held_at):
        values: FloatArray = fit.values.copy()
        values[number] = value
        again = search.fit(values, is_free, _FEW_ITERATIONS)
        loss = search.misfit(again, fit)
        if best is None or loss < best[0]:
            best = (loss, again)
        if loss <= limit:
            break
    assert best is not None
    return best[1]


def _reason(parameters: Sequence[Parameter], number: int, fit: Fit, spread: Spread) -> str:
    partner, half = int(spread.partner[number]), float(spread.half_width[number])
    if spread.explained[number] >= _ALIKE and partner >= 0:
        return f"its effect cannot be told from that of {parameters[partner].name}, which has it"
    value = float(fit.values[number])
    return f"the interval of its estimate, {value:.4g} +- {half:.2g}, includes 0"


def _estimate(parameter: Parameter, value: float, half: float, why: str) -> Estimate:
    if why:
        return Estimate(parameter, value, held_because=why)
    return Estimate(parameter, value, max(value - half, 0.0), value + half)
