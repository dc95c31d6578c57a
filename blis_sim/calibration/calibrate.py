"""From measurements to coefficients: fit, intervals, and errors on data not fitted to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from blis_sim.calibration import blackbox, host
from blis_sim.calibration.accuracy import STEP, Accuracy, accuracies
from blis_sim.calibration.identify import NO_EFFECT, Estimate, identify
from blis_sim.calibration.problem import BoolArray, FloatArray, Measurements, Parameter
from blis_sim.calibration.replay import Latencies, Replay
from blis_sim.calibration.search import Search
from blis_sim.config.latency import LatencyModelName
from blis_sim.errors import ConfigError
from blis_sim.latency.roofline_v2.host import shipped_host
from blis_sim.latency.roofline_v2.model import RooflineV2Model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blis_sim.calibration.served import Served
    from blis_sim.calibration.steps import StepLog
    from blis_sim.calibration.target import Target
    from blis_sim.latency.base import LatencyModel

DEFAULT_HOLD_OUT = 0.2
_FEWEST = 10
"""Measurements of a kind, at least, from which something is fitted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """How well measurements of one file are predicted.

    Attributes
    ----------
    source : str
        What they are, in words, with their number.
    fitted, held_out : tuple of Accuracy
        Of the data that were fitted to, and of those that were not.
    as_shipped : tuple of Accuracy
        Of all of them, with the coefficients that come with the package; empty without any.
    """

    source: str
    fitted: tuple[Accuracy, ...]
    held_out: tuple[Accuracy, ...]
    as_shipped: tuple[Accuracy, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A latency model fitted to measurements.

    Attributes
    ----------
    target : Target
        The deployment.
    estimates : tuple of Estimate
        Every parameter.
    errors : tuple of Errors
        Of each file.
    num_simulations : int
        How many candidates were simulated.
    notices : tuple of str
        What the user should know.
    """

    target: Target
    estimates: tuple[Estimate, ...]
    errors: tuple[Errors, ...]
    num_simulations: int
    notices: tuple[str, ...]

    @property
    def values(self) -> FloatArray:
        """The values of all parameters."""
        return np.array([each.value for each in self.estimates])


def calibrate(
    target: Target,
    *,
    steps: StepLog | None = None,
    served: Served | None = None,
    hold_out: float = DEFAULT_HOLD_OUT,
) -> Calibration:
    """Fit the latency model of a deployment.

    Steps are fitted as they are: their duration is linear in the coefficients. Requests are
    fitted through the simulator. With both, requests determine what steps do not depend on.

    Parameters
    ----------
    target : Target
        The deployment and its latency model.
    steps : StepLog, optional
        Measured engine steps.
    served : Served, optional
        Measured requests.
    hold_out : float
        Share of the data, 0 to 0.5, that is not fitted to: of requests the last, of steps
        every so many.

    Raises
    ------
    ConfigError
        There are no data, or too few.
    TraceError
        The data lack what the latency model needs.
    SimulationError
        The requests cannot be simulated.
    """
    if not 0 <= hold_out <= 0.5:
        raise ConfigError(f"--hold-out must be a share from 0 to 0.5; got {hold_out:g}")
    if steps is None and served is None:
        raise ConfigError("calibration must have steps or requests; got neither; give --data FILE")
    estimates: tuple[Estimate, ...] = ()
    errors: list[Errors] = []
    num_simulations = 0
    notices = list(target.resolved.notices)
    on_steps = None
    if steps is not None:
        notices += steps.notices
        on_steps = _StepFit(target, steps, hold_out)
        estimates = identify(on_steps.search())
    if served is not None:
        notices += served.notices
        on_requests = _RequestFit(target, served, hold_out)
        notices += on_requests.notices
        known = {n: each.value for n, each in enumerate(estimates) if not _is_open(each)}
        search = on_requests.search()
        found = identify(search, known)
        estimates = tuple(
            estimates[number] if number in known else each for number, each in enumerate(found)
        )
        num_simulations = search.num_predictions
    values = np.array([each.value for each in estimates])
    if on_steps is not None:
        errors.append(on_steps.errors(values))
    if served is not None:
        errors.append(on_requests.errors(values))
    return Calibration(
        target=target,
        estimates=estimates,
        errors=tuple(errors),
        num_simulations=num_simulations,
        notices=tuple(dict.fromkeys(notices)),
    )


def _is_open(estimate: Estimate) -> bool:
    """Return whether the steps say nothing at all of a parameter."""
    return estimate.held_because == NO_EFFECT


def _check_enough(count: int, what: str) -> None:
    if count < _FEWEST:
        raise ConfigError(
            f"calibration must have at least {_FEWEST} {what} to fit to; got {count}; measure "
            "more, or hold out less"
        )


def _kernels(target: Target) -> RooflineV2Model:
    model = target.resolved.latency.model
    assert isinstance(model, RooflineV2Model)
    return model


# -- steps ----------------------------------------------------------------


class _StepFit:
    """Steps whose duration is linear in the parameters."""

    def __init__(self, target: Target, steps: StepLog, hold_out: float) -> None:
        self._steps = steps
        self.parameters: Sequence[Parameter]
        self._shipped: FloatArray | None = None
        self._fitted: BoolArray = np.ones(steps.num_rows, dtype=bool)
        if hold_out:
            places = np.arange(1, steps.num_rows + 1) * hold_out
            self._fitted = np.floor(places) == np.floor(places - hold_out)
        if target.latency_model is LatencyModelName.BLACKBOX:
            self._fixed_us = np.zeros(steps.num_rows)
            self._features = blackbox.step_features(steps)
            self.parameters = blackbox.parameters(blackbox.start_from_steps(steps, self._fitted))
        else:
            self._fixed_us, self._features = host.step_features(_kernels(target), steps)
            self.parameters = host.parameters(shipped_host())
            self._shipped = host.values_of(shipped_host())
        _check_enough(int(self._fitted.sum()), "steps")

    def search(self) -> Search:
        """Return what is fitted to what."""
        steps, rows = self._steps, self._fitted
        data = Measurements(
            values_us=steps.duration_us[rows],
            kind=np.zeros(int(rows.sum()), dtype=np.int64),
            kinds=(STEP,),
            count=steps.count[rows],
            order=np.flatnonzero(rows).astype(np.float64),
        )
        return Search(lambda values: self._predicted(values)[rows], data, self.parameters)

    def _predicted(self, values: FloatArray) -> FloatArray:
        predicted: FloatArray = self._fixed_us + self._features @ values
        return predicted

    def errors(self, values: FloatArray) -> Errors:
        """Return how well the steps are predicted."""
        every = np.ones(self._steps.num_rows, dtype=bool)
        shipped = () if self._shipped is None else self._accuracies(self._shipped, every)
        return Errors(
            source=f"{self._steps.num_rows:,} steps of {self._steps.path.name}",
            fitted=self._accuracies(values, self._fitted),
            held_out=self._accuracies(values, ~self._fitted),
            as_shipped=shipped,
        )

    def _accuracies(self, values: FloatArray, rows: BoolArray) -> tuple[Accuracy, ...]:
        measured, predicted = {STEP: self._steps.duration_us}, {STEP: self._predicted(values)}
        return accuracies(measured, predicted, rows, self._steps.count)


# -- requests -------------------------------------------------------------


class _RequestFit:
    """Requests whose latencies come out of the simulator."""

    def __init__(self, target: Target, served: Served, hold_out: float) -> None:
        self._served = served
        self._shipped: FloatArray | None = None
        self.notices: tuple[str, ...] = ()
        self.parameters: Sequence[Parameter]
        count = served.requests.num_requests
        is_fitted = np.arange(count) < round(count * (1 - hold_out))
        model_of: Callable[[FloatArray], LatencyModel] = blackbox.model_of
        if target.latency_model is LatencyModelName.BLACKBOX:
            self.parameters = blackbox.parameters(blackbox.start_from_requests(served, is_fitted))
        else:
            self.parameters = host.parameters(shipped_host())
            self._shipped = host.values_of(shipped_host())
            model_of = partial(host.model_of, _kernels(target))

        self._replay = Replay(target.resolved.engine, served, model_of)
        self._completed = self._find_completed()
        self._fitted: BoolArray = is_fitted & self._completed
        _check_enough(int(self._fitted.sum()), "requests")

    def _find_completed(self) -> BoolArray:
        """Return which requests the simulated engine completes: it may not take all."""
        start = np.array([each.start for each in self.parameters])
        found: BoolArray = np.isfinite(self._replay.latencies(start).e2e_us)
        num_open = int((~found).sum())
        if num_open == found.size:
            raise ConfigError(
                "calibration must have requests that the simulated engine completes; got none: "
                "are all longer than --max-model-len "
                f"({self._replay.config.scheduler.max_model_len})?"
            )
        if num_open:
            self.notices = (
                f"{num_open:,} requests are not completed by the simulated engine and do not "
                "count: are they longer than max_model_len?",
            )
        return found

    def search(self) -> Search:
        """Return what is fitted to what."""
        replay = self._replay
        measured_us = replay.measured_us()
        kinds = measured_us.size // self._fitted.size
        keep = np.tile(self._fitted, kinds) & np.isfinite(measured_us) & (measured_us > 0)
        return Search(
            lambda values: replay.latencies(values).fitted_us()[keep],
            replay.measurements(keep),
            self.parameters,
            lambda values: replay.backdrop(values, keep),
        )

    def errors(self, values: FloatArray) -> Errors:
        """Return how well the requests are predicted."""
        predicted = self._replay.latencies(values)
        shipped: tuple[Accuracy, ...] = ()
        if self._shipped is not None:
            before = self._replay.latencies(self._shipped)
            shipped = self._accuracies(before, self._completed)
        requests = self._served.requests
        return Errors(
            source=f"{requests.num_requests:,} requests of {requests.path.name}",
            fitted=self._accuracies(predicted, self._fitted),
            held_out=self._accuracies(predicted, self._completed & ~self._fitted),
            as_shipped=shipped,
        )

    def _accuracies(self, predicted: Latencies, rows: BoolArray) -> tuple[Accuracy, ...]:
        return accuracies(Latencies.measured(self._served).by_kind, predicted.by_kind, rows)
