from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blis_sim.config.lengths import DurationSettings
from blis_sim.errors import ConfigError
from blis_sim.rng import named_stream
from blis_sim.workload.durations import Durations, open_durations

Cdf = Callable[[float], float]
WHERE = "workload.sessions.think_time_s"


def make(form: Any) -> Durations:
    return open_durations(WHERE, DurationSettings.model_validate(form))


def lognormal(mean: float, stdev: float) -> Cdf:
    variance = math.log(1 + stdev**2 / mean**2)
    mu = math.log(mean) - variance / 2
    return lambda x: NormalDist(mu, math.sqrt(variance)).cdf(math.log(x)) if x > 0 else 0.0


def exponential(mean: float) -> Cdf:
    return lambda x: -math.expm1(-x / mean)


CASES: list[tuple[dict[str, Any], Cdf, float, float]] = [
    ({"kind": "normal", "mean": 5, "stdev": 1, "min": 0, "max": 10}, NormalDist(5).cdf, 0, 10),
    ({"kind": "normal", "mean": 2, "stdev": 4, "max": 5}, NormalDist(2, 4).cdf, 0, 5),
    ({"kind": "lognormal", "mean": 8, "stdev": 12, "max": 90}, lognormal(8, 12), 0, 90),
    ({"kind": "uniform", "min": 0.5, "max": 2}, lambda x: (x - 0.5) / 1.5, 0.5, 2),
    ({"kind": "exponential", "mean": 0.2, "max": 1.5}, exponential(0.2), 0, 1.5),
    ({"kind": "exponential", "mean": 4, "min": 1, "max": 9}, exponential(4), 1, 9),
]
every_case = pytest.mark.parametrize(
    ("form", "below", "low", "high"), CASES, ids=[str(row[0]) for row in CASES]
)


def exact_moments(below: Cdf, low: float, high: float) -> tuple[float, float, float]:
    """Return mean, variance and fourth central moment in seconds, from 20,000 small steps."""
    edges = np.linspace(low, high, 20_001)
    values = np.array([low, *((edges[1:] + edges[:-1]) / 2), high])
    share = np.diff([0.0, *(below(e) for e in edges.tolist()), 1.0])
    mean = share @ values
    return mean, share @ (values - mean) ** 2, share @ (values - mean) ** 4


@every_case
def test_samples_have_the_moments_of_theory(
    form: dict[str, Any], below: Cdf, low: float, high: float
) -> None:
    """Mean and variance are those of the clamped distribution within 4.5 standard errors."""
    count = 200_000
    durations = make(form)
    drawn = durations.draw_us(named_stream(3, "x"), count)
    mean, variance, fourth = exact_moments(below, low, high)
    assert drawn.dtype == np.int64
    assert (drawn.min() >= low * 1e6) & (drawn.max() <= high * 1e6)
    drawn_s = drawn / 1e6
    assert drawn_s.mean() == pytest.approx(mean, abs=4.5 * math.sqrt(variance / count))
    error = 4.5 * math.sqrt((fourth - variance**2) / count)
    assert drawn_s.var() == pytest.approx(variance, abs=error)
    assert durations.mean_s == pytest.approx(mean, rel=1e-6)


@every_case
def test_samples_have_the_percentiles_of_theory(
    form: dict[str, Any], below: Cdf, low: float, high: float
) -> None:
    """The share of times up to a point is the distribution's, all over the range."""
    count = 100_000
    drawn = np.sort(make(form).draw_us(named_stream(4, "x"), count))
    for point in np.linspace(low, high, 12)[1:-1].tolist():
        share = below(point)
        found = np.searchsorted(drawn, point * 1e6, side="right") / count
        error = 4.5 * math.sqrt(share * (1 - share) / count)
        assert found == pytest.approx(share, abs=error)


@pytest.mark.parametrize("form", [row[0] for row in CASES], ids=str)
@settings(max_examples=15)
@given(sizes=st.lists(st.integers(0, 40), max_size=6))
def test_chunks_do_not_change_the_times(form: dict[str, Any], sizes: list[int]) -> None:
    """Drawing 10 and then 20 times gives the same as drawing 30."""
    durations, rng = make(form), named_stream(1, "x")
    parts = [time for size in sizes for time in durations.draw_us(rng, size).tolist()]
    assert parts == durations.draw_us(named_stream(1, "x"), sum(sizes)).tolist()


def test_another_mean_stretches_the_same_times() -> None:
    """Twice the mean is twice every time, to the microsecond's rounding."""
    short, long = (
        make({"kind": "exponential", "mean": mean}).draw_us(named_stream(1, "x"), 3000)
        for mean in (3.0, 6.0)
    )
    assert np.abs(long - 2 * short).max() <= 1


@pytest.mark.parametrize(
    ("form", "time_us", "text"),
    [
        (2.5, 2_500_000, "2.5 s"),
        (0, 0, "0 s"),
        ({"mean": 1e6}, 10**12, "1e+06 s"),
        ({"kind": "normal", "mean": 3}, 3_000_000, "3 s"),
        ({"kind": "lognormal", "mean": 3, "stdev": 0}, 3_000_000, "3 s"),
        ({"kind": "exponential", "mean": 0}, 0, "0 s"),
    ],
)
def test_no_spread_gives_one_time(form: Any, time_us: int, text: str) -> None:
    """A number alone, and every kind without spread, is a constant."""
    durations = make(form)
    assert set(durations.draw_us(named_stream(1, "x"), 50).tolist()) == {time_us}
    assert durations.mean_s == time_us / 1e6
    assert str(durations) == text


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ({"kind": "normal", "mean": 5, "stdev": 2}, "normal 5/2 s"),
        ({"kind": "normal", "mean": 5, "stdev": 2, "min": 1}, "normal 5/2 of at least 1 s"),
        ({"kind": "lognormal", "mean": 5, "stdev": 2, "max": 60}, "lognormal 5/2 within 0..60 s"),
        ({"kind": "uniform", "min": 0.5, "max": 2}, "uniform 0.5..2 s"),
        ({"kind": "exponential", "mean": 5, "max": 60}, "exponential 5 within 0..60 s"),
    ],
)
def test_times_say_what_they_are(form: Any, text: str) -> None:
    """The description names the kind, its figures and the bounds given, in seconds."""
    assert str(make(form)) == text


BAD: list[tuple[dict[str, Any], str]] = [
    ({}, ".mean (s) must be set with kind constant; got nothing"),
    (
        {"mean": 5, "stdev": 1},
        ".stdev must not be set with kind constant; got 1; leave it out or ",
    ),
    ({"kind": "constant", "mean": 5, "stdev": 1}, ".stdev must not be set with kind constant; "),
    (
        {"kind": "uniform", "mean": 5, "max": 9},
        ".mean must not be set with kind uniform; got 5; l",
    ),
    ({"kind": "uniform", "min": 5}, ".max (s) must be set with kind uniform; got nothing"),
    ({"kind": "exponential"}, ".mean (s) must be set with kind exponential; got nothing"),
    ({"kind": "lognormal", "mean": 5}, ".stdev (s) must be set with kind lognormal; got nothing"),
    ({"kind": "lognormal", "mean": 0, "stdev": 1}, ".mean must be > 0 s with kind lognormal; got"),
    ({"mean": 5, "min": 9, "max": 3}, f".min must be <= {WHERE}.max (3.0 s); got 9"),
    (
        {"mean": 50, "max": 40},
        f".mean must be between {WHERE}.min and {WHERE}.max (0.0 and 40.0 s); got 50; move the",
    ),
]


@pytest.mark.parametrize(("form", "message"), BAD, ids=[m for _, m in BAD])
def test_settings_that_contradict_are_one_clear_line(form: dict[str, Any], message: str) -> None:
    """What is missing, out of range or unused is named with its path and value."""
    with pytest.raises(ConfigError, match="must") as caught:
        make(form)
    assert str(caught.value).startswith(f"{WHERE}{message}")
    assert "\n" not in str(caught.value)
