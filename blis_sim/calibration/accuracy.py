"""How far predictions are from what was measured, of the data fitted to and of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from blis_sim.calibration.problem import BoolArray, FloatArray

STEP = "step"


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Errors of one latency over some measurements.

    Attributes
    ----------
    name : str
        ``step``, ``TTFT``, ``TPOT`` or ``E2E``.
    num_values : int
        Measurements.
    measured_ms, predicted_ms : float
        Means.
    mape_pct : float
        Mean of the errors without their sign: predicted over measured, less 1, in percent.
    """

    name: str
    num_values: int
    measured_ms: float
    predicted_ms: float
    mape_pct: float

    @property
    def bias_pct(self) -> float:
        """Error of the mean: predicted over measured, less 1, in percent."""
        return 100 * (self.predicted_ms / self.measured_ms - 1)


def accuracies(
    measured_us: Mapping[str, FloatArray],
    predicted_us: Mapping[str, FloatArray],
    rows: BoolArray,
    counts: FloatArray | None = None,
) -> tuple[Accuracy, ...]:
    """Return the errors of each latency.

    Parameters
    ----------
    measured_us, predicted_us : mapping of str to float64 array
        Microseconds by name; those that are NaN, or measured as 0, do not count.
    rows : bool array
        Which measurements are looked at.
    counts : float64 array, optional
        How much each counts.
    """
    found = []
    for name, values in measured_us.items():
        some = rows & np.isfinite(values) & np.isfinite(predicted_us[name]) & (values > 0)
        if not some.any():
            continue
        measured, predicted = values[some], predicted_us[name][some]
        weights = None if counts is None else counts[some]
        found.append(
            Accuracy(
                name,
                int(some.sum()),
                float(np.average(measured, weights=weights)) / 1e3,
                float(np.average(predicted, weights=weights)) / 1e3,
                100 * float(np.average(np.abs(predicted / measured - 1), weights=weights)),
            )
        )
    return tuple(found)
