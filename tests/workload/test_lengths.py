from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blis_sim.config.lengths import LengthSettings
from blis_sim.rng import named_stream
from blis_sim.workload.lengths import Lengths, open_lengths

Cdf = Callable[[float], float]


def make(form: Any = None, **fields: Any) -> Lengths:
    return open_lengths("x", LengthSettings.model_validate(fields if form is None else form))


@dataclass(frozen=True)
class Case:
    """Lengths, and the distribution before rounding and clamping, from its textbook formula."""

    fields: dict[str, Any]
    below: Cdf
    first: int
    last: int

    def pmf(self) -> tuple[np.ndarray, np.ndarray]:
        """Return all lengths and their exact probabilities."""
        values = np.arange(self.first, self.last + 1)
        inner = [self.below(value + 0.5) for value in values[:-1].tolist()]
        return values, np.diff([0.0, *inner, 1.0])


def lognormal(mu: float, sigma: float) -> Cdf:
    return lambda x: NormalDist(mu, sigma).cdf(math.log(x))


def pareto(alpha: float, minimum: float) -> Cdf:
    return lambda x: 1 - (minimum / max(x, minimum)) ** alpha


def steps(shares: dict[int, float]) -> Cdf:
    total = sum(shares.values())
    return lambda x: math.fsum(share for value, share in shares.items() if value <= x) / total


def mixed(*parts: tuple[float, Cdf]) -> Cdf:
    return lambda x: math.fsum(share * below(x) for share, below in parts)


def case(below: Cdf, first: int, last: int, **fields: Any) -> Case:
    return Case(fields, below, first, last)


def bounded(below: Cdf, first: int, last: int, **fields: Any) -> Case:
    return Case({**fields, "min": first, "max": last}, below, first, last)


def mean_of(mean: float, stdev: float) -> Cdf:
    """Return the lognormal with that mean and standard deviation, by its textbook formula."""
    variance = math.log(1 + stdev**2 / mean**2)
    return lognormal(math.log(mean**2 / math.hypot(mean, stdev)), math.sqrt(variance))


HEAVY = {"mu": 4.0, "sigma": 0.7, "pareto_alpha": 1.3, "pareto_min": 150.5, "pareto_share": 0.25}
MIXED = [
    {"kind": "normal", "mean": 30, "stdev": 9, "max": 40, "weight": 3},
    {"kind": "uniform", "min": 50, "max": 69, "weight": 2},
    {"kind": "exponential", "mean": 20, "weight": 4},
    "7:1|90:3",
]
CASES = {
    "normal": bounded(NormalDist(256, 100).cdf, 2, 800, mean=256, stdev=100),
    "normal, clamped on both sides": bounded(NormalDist(10, 20).cdf, 1, 25, mean=10, stdev=20),
    "normal, narrow": bounded(NormalDist(3, 0.7).cdf, 0, 9, mean=3, stdev=0.7),
    "lognormal by mean": bounded(
        mean_of(200, 300), 1, 9000, kind="lognormal", mean=200, stdev=300
    ),
    "lognormal by mu": bounded(lognormal(5, 0.5), 90, 250, kind="lognormal", mu=5, sigma=0.5),
    "uniform": case(lambda x: (x - 9.5) / 41, 10, 50, kind="uniform", min=10, max=50),
    "exponential": bounded(lambda x: -math.expm1(-x / 80), 0, 4000, kind="exponential", mean=80),
    "exponential, clamped": bounded(
        lambda x: -math.expm1(-x / 80), 30, 100, kind="exponential", mean=80
    ),
    "pareto_lognormal": bounded(
        mixed((0.25, pareto(1.3, 150.5)), (0.75, lognormal(4, 0.7))),
        1,
        2000,
        kind="pareto_lognormal",
        **HEAVY,
    ),
    "pareto alone": bounded(
        pareto(1.3, 150.5), 160, 1000, kind="pareto_lognormal", **{**HEAVY, "pareto_share": 1}
    ),
    "empirical": case(steps({5: 2, 8: 1, 90: 1}), 5, 90, kind="empirical", values=[8, 5, 90, 5]),
    "empirical with weights, clamped": case(
        steps({5: 0.5, 8: 3, 60: 1.5}),
        5,
        60,
        kind="empirical",
        values=[8, 4, 90, 5, 1, 95],
        weights=[3, 0, 1.5, 0.25, 0.25, 0],
        min=5,
        max=60,
    ),
    "mixture of constants": case(
        steps({256: 0.3, 1000: 0.7}),
        256,
        1000,
        kind="mixture",
        parts=[{"kind": "constant", "mean": m, "weight": w} for m, w in ((256, 3), (1000, 7))],
    ),
    "mixture": case(
        mixed(
            (0.3, lambda x: NormalDist(30, 9).cdf(x) if x < 40 else 1.0),
            (0.2, lambda x: min(max((x - 49.5) / 20, 0), 1)),
            (0.4, lambda x: -math.expm1(-x / 20)),
            (0.1, steps({7: 1, 90: 3})),
        ),
        5,
        80,
        kind="mixture",
        parts=MIXED,
        min=5,
        max=80,
    ),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@every_case
def test_samples_have_the_moments_of_theory(case: Case) -> None:
    """Mean and variance agree with the exact distribution within 4.5 standard errors."""
    count = 200_000
    drawn = make(**case.fields).draw(named_stream(3, "lengths"), count)
    values, probability = case.pmf()
    mean = probability @ values
    variance, fourth = (probability @ (values - mean) ** k for k in (2, 4))
    assert drawn.dtype == np.int64
    assert drawn.min() >= case.first
    assert drawn.max() <= case.last
    assert drawn.mean() == pytest.approx(mean, abs=4.5 * math.sqrt(variance / count))
    error = math.sqrt((fourth - variance**2) / count)
    assert drawn.var() == pytest.approx(variance, abs=4.5 * error)


@every_case
def test_samples_have_the_percentiles_of_theory(case: Case) -> None:
    """The share of lengths up to each percentile is that of the exact distribution."""
    count = 100_000
    drawn = np.sort(make(**case.fields).draw(named_stream(4, "lengths"), count))
    values, probability = case.pmf()
    below = np.cumsum(probability)
    for quantile in (0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999):
        place = int(np.searchsorted(below, quantile, side="right"))
        share = min(below[place], 1)
        found = np.searchsorted(drawn, values[place], side="right") / count
        assert found == pytest.approx(share, abs=4.5 * math.sqrt(share * (1 - share) / count))


@every_case
def test_lengths_know_their_moments_and_percentiles(case: Case) -> None:
    """Mean, variance and cdf are those of the lengths drawn: sums over all probabilities."""
    lengths = make(**case.fields)
    values, probability = case.pmf()
    mean = probability @ values
    assert lengths.mean == pytest.approx(mean, rel=1e-9)
    assert lengths.variance == pytest.approx(probability @ (values - mean) ** 2, rel=1e-9)
    below = np.cumsum(probability)
    assert [lengths.cdf(v) for v in values.tolist()] == pytest.approx(below.tolist(), abs=1e-12)
    assert (lengths.min_tokens, lengths.max_tokens) == (case.first, case.last)
    assert lengths.cdf(case.first - 1) == 0
    assert lengths.cdf(case.last) == 1
    assert lengths.cdf(case.first + 0.9) == lengths.cdf(case.first)


WIDE: list[tuple[dict[str, Any], Cdf]] = [
    ({"mean": 150_000, "stdev": 40_000.0}, NormalDist(150_000, 40_000).cdf),
    ({"mean": 100_000, "stdev": 2}, NormalDist(100_000, 2).cdf),
    ({"kind": "lognormal", "mu": 1, "sigma": 3}, lognormal(1, 3)),
    ({"kind": "lognormal", "mu": 11, "sigma": 0.01}, lognormal(11, 0.01)),
    ({"kind": "exponential", "mean": 50_000}, lambda x: -math.expm1(-x / 50_000)),
    ({"kind": "pareto_lognormal", **HEAVY, "pareto_share": 1}, pareto(1.3, 150.5)),
    (
        {
            "kind": "pareto_lognormal",
            **HEAVY,
            "pareto_min": 100_000.2,
            "pareto_alpha": 0.3,
            "pareto_share": 1,
        },
        pareto(0.3, 100_000.2),
    ),
]


@pytest.mark.parametrize(("fields", "below"), WIDE, ids=[str(fields) for fields, _ in WIDE])
def test_moments_of_many_lengths_are_accurate(fields: dict[str, Any], below: Cdf) -> None:
    """Sums over 300,000 lengths are right to 1e-6, although not every term is computed."""
    values, probability = Case({}, below, 1, 300_000).pmf()
    lengths = make(**fields, max=300_000)
    mean = probability @ values
    assert lengths.mean == pytest.approx(mean, rel=1e-7)
    assert lengths.variance == pytest.approx(probability @ (values - mean) ** 2, rel=1e-6)


def test_moments_without_a_bound_are_those_of_the_continuous_distribution() -> None:
    """Two billion possible lengths: rounding adds 1/12 to the variance and clamping nothing."""
    wide = make(mean=1e8, stdev=1e7)
    assert wide.mean == pytest.approx(1e8, rel=1e-12)
    assert wide.variance == pytest.approx(1e14 + 1 / 12, rel=1e-9)
    lengths = make(kind="lognormal", mean=1e6, stdev=3e5)
    assert lengths.mean == pytest.approx(1e6, rel=1e-9)
    assert lengths.variance == pytest.approx(9e10, rel=1e-8)
    uniform = make(kind="uniform", min=1, max=2**31 - 1)
    assert uniform.mean == pytest.approx(2**30, rel=1e-12)
    assert uniform.variance == pytest.approx(((2**31 - 1.0) ** 2 - 1) / 12, rel=1e-9)


@every_case
@settings(max_examples=15)
@given(sizes=st.lists(st.integers(0, 40), max_size=6))
def test_chunks_do_not_change_the_lengths(case: Case, sizes: list[int]) -> None:
    """Drawing 10 and then 20 lengths gives the same as drawing 30."""
    lengths, rng = make(**case.fields), named_stream(1, "x")
    parts = [tokens for size in sizes for tokens in lengths.draw(rng, size).tolist()]
    assert parts == lengths.draw(named_stream(1, "x"), sum(sizes)).tolist()
