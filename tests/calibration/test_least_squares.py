"""Least squares >= 0, and quantiles."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blis_sim.calibration.intervals import student_quantile
from blis_sim.calibration.non_negative import non_negative_least_squares


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_no_other_choice_of_columns_is_better(seed: int, num_columns: int) -> None:
    """Against the best of all subsets of columns whose solution is >= 0."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(12, num_columns)) * 10.0 ** rng.integers(-3, 4, num_columns)
    target = rng.normal(size=12)
    x = non_negative_least_squares(matrix, target)
    assert (x >= 0).all()
    best = float(target @ target)
    for size in range(1, num_columns + 1):
        for chosen in itertools.combinations(range(num_columns), size):
            part = matrix[:, chosen]
            found = np.linalg.lstsq(part, target, rcond=None)[0]
            if (found >= 0).all():
                best = min(best, float(((part @ found - target) ** 2).sum()))
    assert float(((matrix @ x - target) ** 2).sum()) == pytest.approx(best, rel=1e-9, abs=1e-12)


def test_columns_without_effect_get_nothing() -> None:
    """And equal columns do not disturb."""
    column = np.arange(1.0, 6.0)
    x = non_negative_least_squares(np.column_stack([0 * column, column, column]), 3 * column)
    assert x[0] == 0
    assert x[1] + x[2] == pytest.approx(3)


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(4, 2.776), (10, 2.228), (24, 2.064), (1e9, 1.95996)]
)
def test_student_quantiles(freedom: float, quantile: float) -> None:
    """Those of the tables."""
    assert student_quantile(0.95, freedom) == pytest.approx(quantile, rel=0.005)
