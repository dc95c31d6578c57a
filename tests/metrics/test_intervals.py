from __future__ import annotations

import math

import numpy as np
import pytest

from blis_sim.metrics.intervals import half_width_95, student_t_975

TABLE = {1: 12.706, 2: 4.303, 9: 2.262, 30: 2.042, 31: 2.040, 40: 2.021, 60: 2.000, 120: 1.980}


@pytest.mark.parametrize(("degrees", "quantile"), TABLE.items())
def test_quantiles_are_those_of_the_tables(degrees: int, quantile: float) -> None:
    """Within the table and beyond it."""
    assert student_t_975(degrees) == pytest.approx(quantile, abs=6e-4)


def test_quantiles_fall_to_that_of_the_normal_distribution() -> None:
    quantiles = [student_t_975(degrees) for degrees in range(1, 200)]
    assert quantiles == sorted(quantiles, reverse=True)
    assert student_t_975(10**9) == pytest.approx(1.959964)


def test_the_width_by_hand() -> None:
    """1, 2, 3: the standard deviation is 1, its error 1 / sqrt(3), t of two degrees 4.303."""
    assert half_width_95([1, 2, 3]) == pytest.approx(4.303 / math.sqrt(3))
    assert half_width_95([5.0, 5.0]) == 0


@pytest.mark.parametrize("values", [[], [3.0]])
def test_one_value_has_no_interval(values: list[float]) -> None:
    assert half_width_95(values) is None


@pytest.mark.parametrize("size", [3, 10, 40])
def test_intervals_cover_the_mean_as_often_as_they_say(size: int) -> None:
    """95 % of 2,000 intervals of normal samples hold the mean, give or take 1.5 %."""
    rng = np.random.default_rng(size)
    covered = 0
    for sample in rng.normal(7.0, 2.0, (2000, size)):
        half = half_width_95(sample.tolist())
        assert half is not None
        covered += abs(sample.mean() - 7.0) <= half
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)
