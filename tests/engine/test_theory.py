"""Queueing theory: a simulated server must wait as long as its formula says.

Means over independent replications are compared within four of their standard errors, and the
standard error itself must be small, lest the band prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from blis_sim.metrics.records import Int64Array, RunData
from blis_sim.workload.request import RequestSpec

from .builders import make_blackbox, simulate

Lengths = Callable[[np.random.Generator, int], Int64Array]

NUM_REPLICATIONS = 12
STEP_US = 100
MEAN_OUTPUT = 60
SERVICE_US = STEP_US * MEAN_OUTPUT


def poisson_load(
    seed: int, *, num_requests: int, mean_gap_us: float, lengths: Lengths
) -> list[RequestSpec]:
    rng = np.random.default_rng(seed)
    arrivals_us = np.rint(rng.exponential(mean_gap_us, num_requests).cumsum()).astype(np.int64)
    output_tokens = lengths(rng, num_requests)
    return [
        RequestSpec(number, arrival_us, 8, tokens)
        for number, (arrival_us, tokens) in enumerate(
            zip(arrivals_us.tolist(), output_tokens.tolist(), strict=True)
        )
    ]


def constant(_rng: np.random.Generator, count: int) -> Int64Array:
    return np.full(count, MEAN_OUTPUT)


def geometric(rng: np.random.Generator, count: int) -> Int64Array:
    """Return the memoryless lengths of that mean: exponential service in whole steps."""
    return rng.geometric(1 / MEAN_OUTPUT, count)


def serve(load: list[RequestSpec], *, max_num_seqs: int = 1) -> RunData:
    """Serve a load with steps of ``STEP_US``, whatever is in them."""
    return simulate(
        load,
        latency=make_blackbox(STEP_US),
        max_num_seqs=max_num_seqs,
        max_model_len=50_000,
        max_num_batched_tokens=50_000,
        num_kv_blocks=2_000_000,
    )


def assert_agrees(measured: list[float], theory: float, *, precision: float) -> None:
    """Assert that the mean is within four standard errors, and those within ``precision``."""
    values: npt.NDArray[np.float64] = np.array(measured)
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert error < precision * theory, f"standard error {error:.3g} of {theory:.3g}"
    assert abs(values.mean() - theory) < 4 * error, (
        f"measured {values.mean():.5g} +- {error:.2g}, theory {theory:.5g}"
    )


def mean_waits_us(lengths: Lengths, *, utilization: float, num_requests: int) -> list[float]:
    """Return the mean wait of each replication, its first tenth left out as warm-up."""
    waits = []
    for seed in range(NUM_REPLICATIONS):
        gap_us = SERVICE_US / utilization
        load = poisson_load(seed, num_requests=num_requests, mean_gap_us=gap_us, lengths=lengths)
        columns = serve(load).requests
        wait_us = (columns.scheduled_us - columns.enqueued_us)[num_requests // 10 :]
        waits.append(float(wait_us.mean()))
    return waits


@pytest.mark.parametrize("utilization", [0.3, 0.7])
def test_wait_of_m_d_1(utilization: float) -> None:
    """One seat and constant answers: the mean wait is rho S / (2 (1 - rho))."""
    theory_us = utilization * SERVICE_US / (2 * (1 - utilization))
    waits = mean_waits_us(constant, utilization=utilization, num_requests=2500)
    assert_agrees(waits, theory_us, precision=0.04)


def test_wait_of_m_m_1() -> None:
    """One seat and memoryless answers: rho S / (1 - rho), here in whole steps.

    Pollaczek and Khinchine: lambda E[S^2] / (2 (1 - rho)); for geometric lengths of mean m
    E[N^2] = m (2 m - 1), so the wait is (1 - 1 / (2 m)) of the continuous one.
    """
    utilization = 0.5
    theory_us = utilization * SERVICE_US / (1 - utilization) * (1 - 1 / (2 * MEAN_OUTPUT))
    waits = mean_waits_us(geometric, utilization=utilization, num_requests=4000)
    assert_agrees(waits, theory_us, precision=0.03)


def chat_load(seed: int, *, num_requests: int, mean_gap_us: float) -> list[RequestSpec]:
    """Return chat-like lengths: normal, rounded and clamped, prompts and answers of 30 to 500."""
    rng = np.random.default_rng(seed)
    arrivals_us = np.rint(rng.exponential(mean_gap_us, num_requests).cumsum()).astype(np.int64)
    lengths = rng.normal(200, 80, (2, num_requests)).round().clip(30, 500).astype(np.int64)
    rows = zip(arrivals_us.tolist(), *lengths.tolist(), strict=True)
    return [RequestSpec(number, *row) for number, row in enumerate(rows)]


def test_number_inside_is_arrival_rate_times_time_inside() -> None:
    """Little's law on a chat-like load: L = lambda W, with L from the engine's integrals.

    W is the mean time from entering to leaving, summed over requests; the two agree exactly
    with the rate that came about, and within the error of the replications with the one that
    was asked for.
    """
    mean_gap_us, rates = 2_000.0, []
    for seed in range(NUM_REPLICATIONS):
        load = chat_load(seed, num_requests=1_000, mean_gap_us=mean_gap_us)
        run = simulate(
            load, latency=make_blackbox(900, 1, 20), max_num_seqs=64, num_kv_blocks=20_000
        )
        columns, counters = run.requests, run.counters[0]
        inside_us = columns.last_token_us - columns.enqueued_us
        waiting_us = columns.scheduled_us - columns.enqueued_us
        assert counters.running_us + counters.waiting_us == inside_us.sum()
        assert counters.waiting_us == waiting_us.sum()
        assert counters.waiting_us > 0
        span_us = int(columns.arrival_us[-1])
        number_inside = (counters.running_us + counters.waiting_us) / span_us
        rates.append(number_inside / float(inside_us.mean()))
    assert_agrees(rates, 1 / mean_gap_us, precision=0.03)


def test_unlimited_seats_are_m_g_infinity() -> None:
    """With a seat for everybody and steps that cost the same whatever is in them, the number
    running is lambda S: nobody is slowed down by anybody."""
    mean_gap_us, numbers = 400.0, []
    for seed in range(NUM_REPLICATIONS):
        load = poisson_load(seed, num_requests=3_000, mean_gap_us=mean_gap_us, lengths=geometric)
        run = serve(load, max_num_seqs=1_000)
        counters = run.counters[0]
        residence_us = run.requests.last_token_us - run.requests.scheduled_us
        assert np.array_equal(residence_us, run.requests.output_tokens * STEP_US)
        numbers.append(counters.running_us / int(run.requests.arrival_us[-1]))
    assert_agrees(numbers, SERVICE_US / mean_gap_us, precision=0.03)


def test_arrivals_wait_half_a_step_on_a_busy_engine() -> None:
    """Poisson arrivals see a step in flight at a uniform instant: half a step, on average."""
    waits = []
    for seed in range(NUM_REPLICATIONS):
        load = poisson_load(seed, num_requests=2_000, mean_gap_us=270.0, lengths=constant)
        columns = serve(load, max_num_seqs=1_000).requests
        waits.append(float((columns.scheduled_us - columns.enqueued_us)[100:].mean()))
    assert_agrees(waits, STEP_US / 2, precision=0.02)
