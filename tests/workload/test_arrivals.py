from __future__ import annotations

import math

import numpy as np
import pytest

from blis_sim.config.scenario import ArrivalProcess
from blis_sim.workload.arrivals import Arrivals, chunk_sizes
from blis_sim.workload.base import Int64Array

POISSON, CONSTANT, GAMMA = ArrivalProcess.POISSON, ArrivalProcess.CONSTANT, ArrivalProcess.GAMMA
BUSTLING = Arrivals(GAMMA, 3.7, burstiness=0.3, num_normalized=10_000)


def times(arrivals: Arrivals, count: int, chunk: int = 4096, seed: int = 5) -> Int64Array:
    return np.concatenate(list(arrivals.times_us(seed, chunk_sizes(count, chunk))))


@pytest.mark.parametrize(
    ("process", "burstiness"), [(POISSON, 1.0), (GAMMA, 0.25), (GAMMA, 1.0), (GAMMA, 6.0)]
)
def test_gaps_have_the_mean_and_spread_of_the_process(
    process: ArrivalProcess, burstiness: float
) -> None:
    """Gaps have mean 1/rate and coefficient of variation 1/sqrt(burstiness)."""
    count, rate = 200_000, 4.0
    arrivals = times(Arrivals(process, rate, burstiness), count)
    gaps_s = np.diff(arrivals, prepend=0) / 1e6
    variance = 1 / burstiness  # of a gap, in units of its mean
    assert gaps_s.mean() * rate == pytest.approx(1, abs=4.5 * math.sqrt(variance / count))
    # Excess kurtosis of a gamma distribution is 6/shape.
    error = variance * math.sqrt((2 + 6 / burstiness) / count)
    assert gaps_s.var() * rate**2 == pytest.approx(variance, abs=4.5 * error)


def test_gaps_are_not_correlated() -> None:
    """A Poisson process forgets: neighbouring gaps have no correlation."""
    gaps = np.diff(times(Arrivals(POISSON, 1.0), 100_000)).astype(float)
    correlation = np.corrcoef(gaps[:-1], gaps[1:])[0, 1]
    assert abs(correlation) < 4.5 / math.sqrt(len(gaps))


def test_constant_arrivals_are_equally_spaced() -> None:
    """Request k arrives at k/rate, the first one a gap after 0, without drift."""
    arrivals = times(Arrivals(CONSTANT, 3.0), 300_000)
    assert arrivals[:4].tolist() == [333_333, 666_667, 1_000_000, 1_333_333]
    assert arrivals[299_999] == 100_000_000_000


def test_infinite_rate_is_all_at_once() -> None:
    """Without gaps everyone arrives at time 0."""
    assert times(Arrivals(POISSON, math.inf), 10_000).tolist() == [0] * 10_000


@pytest.mark.parametrize("process", list(ArrivalProcess))
@pytest.mark.parametrize("count", [1, 2, 777, 70_000])
def test_normalised_span_is_exact(process: ArrivalProcess, count: int) -> None:
    """The last arrival is at num_requests/rate to the microsecond."""
    arrivals = times(Arrivals(process, 7.0, burstiness=0.5, num_normalized=count), count)
    assert arrivals[-1] == round(count * 1e6 / 7)
    assert (np.diff(arrivals) >= 0).all()


def test_normalising_stretches_the_same_gaps() -> None:
    """Normalised arrivals are the drawn ones times a constant."""
    plain = times(Arrivals(POISSON, 2.0), 1000)
    normalised = times(Arrivals(POISSON, 2.0, num_normalized=1000), 1000)
    factor = 500_000_000 / plain[-1]
    # Half a microsecond each: the normalised time, the drawn one, and the factor's divisor.
    assert np.abs(normalised - plain * factor).max() <= 0.5 + factor


def test_bursts_that_underflow_still_have_a_span() -> None:
    """Gaps too small for a float do not turn the rescaling into 0/0."""
    arrivals = Arrivals(GAMMA, 1.0, burstiness=0.001, num_normalized=1)
    for seed in range(20):
        assert times(arrivals, 1, seed=seed).tolist() == [1_000_000]


@pytest.mark.parametrize(
    "arrivals",
    [Arrivals(POISSON, 3.7), Arrivals(CONSTANT, 3.7), Arrivals(GAMMA, 3.7, 0.3), BUSTLING],
    ids=str,
)
@pytest.mark.parametrize("chunk", [1, 7, 1000, 9999, 100_000])
def test_chunks_do_not_change_the_times(arrivals: Arrivals, chunk: int) -> None:
    """Drawing one at a time or all at once gives the same microseconds, never decreasing."""
    reference = times(arrivals, 10_000)
    assert (np.diff(reference) >= 0).all()
    assert np.array_equal(times(arrivals, 10_000, chunk), reference)


def test_rate_stretches_the_same_arrivals() -> None:
    """Half the rate doubles every arrival time, up to rounding."""
    fast, slow = (times(Arrivals(POISSON, rate), 5000) for rate in (8.0, 4.0))
    assert np.abs(slow - 2 * fast).max() <= 2


def test_times_beyond_64_bits_stay_integers() -> None:
    """A rate near 0 ends in a very late time, not in an overflow."""
    arrivals = times(Arrivals(POISSON, 1e-300), 3)
    assert arrivals.tolist() == [2**62] * 3


def test_chunk_sizes_add_up() -> None:
    """Sizes cover the total, the last one smaller, and go on without a total."""
    assert list(chunk_sizes(10, 4)) == [4, 4, 2]
    assert list(chunk_sizes(0, 4)) == []
    endless = chunk_sizes(None, 4)
    assert [next(endless) for _ in range(5)] == [4] * 5
