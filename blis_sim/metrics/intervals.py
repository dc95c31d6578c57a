"""Confidence intervals of means over independent replications."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

_T_975 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""97.5 % quantiles of Student's t for 1 to 30 degrees of freedom: every statistics table."""
_Z_975 = 1.959964


def student_t_975(degrees: int) -> float:
    """Return the 97.5 % quantile of Student's t distribution, to three decimals.

    Beyond the table by the expansion of Abramowitz and Stegun, 26.7.5.

    Parameters
    ----------
    degrees : int
        Degrees of freedom, >= 1.
    """
    if degrees <= len(_T_975):
        return _T_975[degrees - 1]
    z = _Z_975
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / degrees + second / degrees**2


def half_width_95(values: Sequence[float]) -> float | None:
    """Return half the 95 % confidence interval of the mean, None with fewer than two values."""
    if len(values) < 2:
        return None
    error: float = statistics.stdev(values) / len(values) ** 0.5
    return student_t_975(len(values) - 1) * error
