from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.metrics.percentiles import Distribution, rank_word

RANKS = (0.0, 12.5, 50.0, 90.0, 95.0, 99.0, 99.9, 100.0)
HISTOGRAMS = st.dictionaries(
    st.integers(0, 10**9), st.integers(1, 40), min_size=1, max_size=30
).map(lambda pairs: sorted(pairs.items()))


def make_histogram(pairs: list[tuple[int, int]]) -> Distribution:
    values, counts = (np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True))
    distribution = Distribution.from_histogram(values, counts)
    assert distribution is not None
    return distribution


@given(HISTOGRAMS)
def test_weighted_statistics_are_those_of_the_expanded_sample(
    pairs: list[tuple[int, int]],
) -> None:
    """A histogram has the mean, std and percentiles numpy finds in the expanded sample."""
    expanded = np.array([value for value, count in pairs for _ in range(count)])
    distribution = make_histogram(pairs)
    assert distribution.size == expanded.size
    assert distribution.mean() == pytest.approx(expanded.mean(), rel=1e-12)
    assert distribution.std() == pytest.approx(expanded.std(), rel=1e-9, abs=1e-6)
    expected = np.percentile(expanded, RANKS)
    assert distribution.percentiles(RANKS) == pytest.approx(expected.tolist(), rel=1e-9)


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=50))
def test_plain_statistics_are_numpys(values: list[float]) -> None:
    """Values in any order have numpy's mean, population std and linear percentiles."""
    distribution = Distribution.from_values(np.array(values))
    assert distribution is not None
    assert distribution.mean() == pytest.approx(np.mean(values), rel=1e-12)
    assert distribution.std() == pytest.approx(np.std(values), rel=1e-9, abs=1e-6)
    expected = np.percentile(values, RANKS)
    assert distribution.percentiles(RANKS) == pytest.approx(expected.tolist(), rel=1e-9)


def test_percentile_of_four_values_by_hand() -> None:
    """The 90th percentile of 10, 20, 30, 50 lies 0.7 of the way from 30 to 50."""
    distribution = Distribution.from_values(np.array([50, 10, 30, 20]))
    assert distribution is not None
    assert distribution.percentiles((90.0, 50.0)) == pytest.approx([44.0, 25.0])


def test_constant_sample_is_exact() -> None:
    """A constant sample has that constant everywhere and no spread, to the bit."""
    distribution = make_histogram([(7_001, 1_000_003)])
    assert distribution.mean() == 7_001
    assert distribution.std() == 0
    assert distribution.percentiles(RANKS) == [7_001] * len(RANKS)


def test_mean_does_not_overflow() -> None:
    """Sums beyond 64 bits still give the exact mean."""
    largest = int(np.iinfo(np.int64).max) - 1
    assert make_histogram([(largest - 2, 5), (largest, 5)]).mean() == float(largest - 1)


def test_no_sample_is_none() -> None:
    """No observations are no distribution, never zeros."""
    empty = np.array([], dtype=np.int64)
    assert Distribution.from_values(empty) is None
    assert Distribution.from_histogram(empty, empty) is None


@pytest.mark.parametrize(("rank", "word"), [(99.0, "99"), (99.9, "99.9"), (5, "5")])
def test_rank_word(rank: float, word: str) -> None:
    """Whole percentiles are written without a point."""
    assert rank_word(rank) == word
