"""The search for a rate, against thresholds that are known."""

from __future__ import annotations

import math
import os
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blis_sim.capacity.search import FoundRate, Measurement, Probe, RateSearch

EXAMPLES = int(os.environ.get("BLIS_SEARCH_EXAMPLES", "200"))
MOST = 12


def search_with(
    measure: Callable[[Probe], Measurement], **options: float
) -> tuple[FoundRate, list[Measurement]]:
    search = RateSearch(lowest=options.pop("lowest", 0.01), **options)  # type: ignore[arg-type]
    while (probe := search.ask()) is not None:
        search.tell(measure(probe))
    return search.result(), search.measurements


def exact(threshold: float, sharpness: float) -> Callable[[Probe], Measurement]:
    """Return a figure that is a power of the rate and is known without error."""

    def measure(probe: Probe) -> Measurement:
        ratio = math.exp(min(sharpness * math.log(probe.rate / threshold), 14.0))
        margin = math.inf if probe.rate < threshold else -math.inf
        return Measurement(probe=probe, margins={"x": margin}, ratios={"x": ratio})

    return measure


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    threshold=st.floats(0.02, 2000),
    sharpness=st.sampled_from([0.3, 1.0, 3.0, 20.0, 200.0]),
    off=st.floats(0.05, 20) | st.none(),
)
def test_a_monotone_figure_never_ends_on_the_wrong_side(
    threshold: float, sharpness: float, off: float | None
) -> None:
    """Whatever the guess, the rate keeps the limit, the upper end misses it, in 12 probes."""
    guess = None if off is None else max(threshold * off, 0.02)
    found, made = search_with(exact(threshold, sharpness), guess=guess)
    assert len(made) <= MOST
    assert found.rate < threshold
    assert found.upper >= threshold


@pytest.mark.parametrize("threshold", [0.5, 7.0, 90.0])
@pytest.mark.parametrize("off", [0.5, 0.9, 1.1, 1.6])
def test_a_fair_guess_ends_in_a_narrow_bracket(threshold: float, off: float) -> None:
    """From a guess within 60 % the bracket is within the tolerance."""
    found, _ = search_with(exact(threshold, 3.0), guess=threshold * off, tolerance=0.03)
    assert found.tolerance <= 0.03 + 1e-9


def test_what_misses_when_idle_carries_nothing() -> None:
    """No rate is found, and the idle probe says why."""
    found, made = search_with(exact(1e-6, 3.0))
    assert found.rate == 0
    assert found.at_upper is made[-1]
    assert len(made) <= 2


def test_what_is_always_kept_has_no_upper_end() -> None:
    """It goes up as long as it may."""
    found, made = search_with(exact(1e12, 1.0), guess=10.0)
    assert math.isinf(found.upper)
    assert found.rate >= 10
    assert len(made) <= MOST


# -- a queue ------------------------------------------------------------------

SERVICE_S, LIMIT_S, RANK = 0.05, 0.5, 0.99
TRUTH = 15.51
"""Rate at which the p99 of the time in an M/D/1 queue of 50 ms is 500 ms; see the test below."""


def queue_times(rate: float, num: int, seed: int) -> np.ndarray:
    """Return times in the system by Lindley's recursion, without a first fifth."""
    gaps = np.random.default_rng(seed).exponential(1, num) / rate
    sums = np.concatenate([[0.0], np.cumsum(SERVICE_S - gaps[1:])])
    waits = sums - np.minimum.accumulate(sums)
    return waits[num // 5 :] + SERVICE_S


def test_the_truth_is_that_of_a_long_run() -> None:
    """At the rate above, the p99 of four million requests is the limit within 3 %."""
    times = queue_times(TRUTH, 4_000_000, 99)
    assert float(np.quantile(times, RANK)) == pytest.approx(LIMIT_S, rel=0.03)


def measured_queue(probe: Probe, seed: int) -> Measurement:
    """Return what a run tells, with errors from slices, as checks of limits have them."""
    times = queue_times(probe.rate, probe.num_requests, seed)
    slices = np.array_split(times, 20)
    means = np.array([part.mean() for part in slices])
    effect = min(max(means.var(ddof=1) * times.size / 20 / times.var(), 1.0), times.size / 20)
    size, share, allowed = times.size / effect, float((times > LIMIT_S).mean()), 1 - RANK
    deviance = 2 * size * (1 - share) * math.log((1 - share) / (1 - allowed)) if share < 1 else 0.0
    deviance += 2 * size * share * math.log(share / allowed) if share > 0 else 0.0
    margin = math.copysign(math.sqrt(max(deviance, 0.0)), allowed - share)
    ratio = float(np.quantile(times, RANK)) / LIMIT_S
    return Measurement(probe=probe, margins={"p99": margin}, ratios={"p99": ratio})


def test_the_truth_lies_between_the_ends_for_most_seeds() -> None:
    """2.3 standard errors on each side: of 40 loads at most 5 may be wrong, and none by 7 %."""
    rng = np.random.default_rng(3)
    outside = 0
    for seed in range(40):
        found, made = search_with(
            lambda probe, seed=seed: measured_queue(probe, seed),
            lowest=0.4,
            guess=float(rng.uniform(6, 25)),
        )
        assert len(made) <= MOST
        assert found.rate <= 1.07 * TRUTH
        outside += not found.rate <= TRUTH <= found.upper
    assert outside <= 5
