"""Queueing theory: what routing must do to waiting times.

Means over independent replications are compared within four of their standard errors; the
first tenth of each run is left out.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from math import factorial

import numpy as np
import pytest

from blis_sim.cluster.config import ClusterConfig
from blis_sim.metrics.records import RunData
from blis_sim.workload.request import RequestSpec
from tests.engine.builders import make_blackbox, simulate
from tests.engine.test_theory import (
    MEAN_OUTPUT,
    SERVICE_US,
    STEP_US,
    assert_agrees,
    constant,
    geometric,
    poisson_load,
)

from .builders import make_cluster, make_pool, serve_cluster

NUM_REPLICATIONS = 6
ENGINE = {
    "latency": make_blackbox(STEP_US),
    "max_num_seqs": 1,
    "max_model_len": 5_000,
    "max_num_batched_tokens": 5_000,
    "num_kv_blocks": 2_000_000,
}


def make_servers(count: int, routing: str, *, central_queue: bool = False) -> ClusterConfig:
    """Return servers of one seat each: what is sent to one waits there."""
    gateway = {"max_outstanding_per_instance": 1} if central_queue else None
    return make_cluster(make_pool(num_instances=count, **ENGINE), routing=routing, gateway=gateway)


def load_of(count: int, utilization: float, seed: int, *, lengths=geometric, per_server=400):
    return poisson_load(
        seed,
        num_requests=count * per_server,
        mean_gap_us=SERVICE_US / utilization / count,
        lengths=lengths,
    )


def waits_us(run: RunData) -> float:
    columns = run.requests
    waits = columns.scheduled_us - columns.arrival_us
    return float(waits[len(waits) // 10 :].mean())


@cache
def mean_waits_us(count: int, routing: str, utilization: float, *, central: bool = False):
    """Return the mean wait of each replication under memoryless answers."""
    config = make_servers(count, routing, central_queue=central)
    return [
        waits_us(serve_cluster(config, load_of(count, utilization, seed)))
        for seed in range(NUM_REPLICATIONS)
    ]


def erlang_c(count: int, utilization: float) -> float:
    """Return the probability that all servers of M/M/N are busy."""
    offered = count * utilization
    last = offered**count / factorial(count) / (1 - utilization)
    return last / (sum(offered**k / factorial(k) for k in range(count)) + last)


VARIANCE = 1 - 1 / MEAN_OUTPUT
"""Squared coefficient of variation of geometric service times of that mean."""


def test_random_routing_makes_independent_queues() -> None:
    """Each instance serves what it was sent as if it stood alone, to the microsecond."""
    load = load_of(4, 0.7, 3)
    run = serve_cluster(make_servers(4, "random"), load)
    columns = run.requests
    for number in range(4):
        mine = columns.instance == number
        alone = simulate([spec for spec in load if mine[spec.request_id]], **ENGINE).requests
        assert alone.last_token_us.tolist() == columns.last_token_us[mine].tolist()
    shares = np.bincount(columns.instance, minlength=4) / len(load)
    assert np.abs(shares - 0.25).max() < 4 * np.sqrt(0.25 * 0.75 / len(load))


@pytest.mark.parametrize("count", [1, 8])
def test_random_routing_of_constant_work_is_m_d_1(count: int) -> None:
    """A Poisson stream split at random is Poisson: rho S / (2 (1 - rho)) for any N."""
    utilization = 0.6
    waits = [
        waits_us(
            serve_cluster(
                make_servers(count, "random"),
                load_of(count, utilization, seed, lengths=constant, per_server=2400 // count),
            )
        )
        for seed in range(NUM_REPLICATIONS)
    ]
    theory_us = utilization * SERVICE_US / (2 * (1 - utilization))
    assert_agrees(waits, theory_us, precision=0.06)


def test_a_central_queue_is_erlang_c() -> None:
    """With one request per instance the gateway's queue is that of M/M/N.

    C(N, rho) S / (N (1 - rho)), times (1 + c^2) / 2 for work of that variation (Allen and
    Cunneen).
    """
    count, utilization = 4, 0.7
    waits = mean_waits_us(count, "round-robin", utilization, central=True)
    theory_us = erlang_c(count, utilization) * SERVICE_US / (count * (1 - utilization))
    assert_agrees(list(waits), theory_us * (1 + VARIANCE) / 2, precision=0.1)


def test_power_of_two_choices() -> None:
    """Of many queues a share rho^(2^k - 1) holds k or more (Mitzenmacher; Vvedenskaya et al.).

    So the mean time inside is S sum_{i >= 1} rho^(2^i - 2): that of infinitely many queues,
    which 30 exceed by a few percent.
    """
    count, utilization = 30, 0.8
    waits = np.array(mean_waits_us(count, "power-of-two", utilization))
    theory_us = SERVICE_US * (sum(utilization ** (2**i - 2) for i in range(1, 12)) - 1)
    error = waits.std(ddof=1) / np.sqrt(len(waits))
    assert error < 0.05 * theory_us
    assert theory_us - 4 * error < waits.mean() < 1.08 * theory_us + 4 * error


def test_who_looks_waits_less() -> None:
    """Random, two choices, the shortest queue, one queue for all: each clearly beats the last.

    The gains are those of the same requests.
    """
    count, utilization = 10, 0.7
    ranked = [
        np.array(mean_waits_us(count, "random", utilization)),
        np.array(mean_waits_us(count, "power-of-two", utilization)),
        np.array(mean_waits_us(count, "least-loaded", utilization)),
        np.array(mean_waits_us(count, "round-robin", utilization, central=True)),
    ]
    for worse, better in pairwise(ranked):
        gain = worse - better
        assert gain.mean() > 4 * gain.std(ddof=1) / np.sqrt(len(gain))


def test_work_is_the_same_whoever_routes() -> None:
    """Routing moves waiting, not work: tokens and busy time add up to the same."""
    load: list[RequestSpec] = load_of(5, 0.7, 11)
    sums = set()
    for routing in ("random", "round-robin", "least-loaded", "power-of-two"):
        run = serve_cluster(make_servers(5, routing), load)
        tokens = sum(c.num_generated_tokens for c in run.counters)
        sums.add((tokens, sum(c.busy_us for c in run.counters)))
    assert len(sums) == 1
