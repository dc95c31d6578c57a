from __future__ import annotations

import pytest

from blis_sim.metrics.definitions import LATENCIES, METRICS, metric, metric_definitions
from blis_sim.metrics.measured import Measured
from tests.metrics.builders import make_counters, make_run, served

UNITS = {"s", "requests", "tokens", "req/s", "tok/s", "req/s/GPU", "tok/s/GPU"}
UNITS |= {"fraction", "preemptions", "steps", "GPUs", "GPU-h", "instances", "events", "index"}
UNITS |= {"ratio", "transfers", "blocks", "USD"}


def test_every_metric_is_declared_once_and_completely() -> None:
    """Tags are unique; header, unit and formula are there."""
    tags = [declared.tag for declared in (*METRICS, *LATENCIES)]
    assert len(tags) == len(set(tags))
    assert {declared.unit for declared in METRICS} <= UNITS
    assert all(declared.header and declared.formula for declared in (*METRICS, *LATENCIES))


def test_definitions_cover_the_registry() -> None:
    """The block of definitions has an entry for each metric and nothing else."""
    definitions = metric_definitions()
    assert list(definitions) == [declared.tag for declared in (*METRICS, *LATENCIES)]
    assert definitions["ttft"]["unit"] == "ms"
    assert "first token - arrival" in definitions["ttft"]["formula"]


def test_headers_fit_the_table() -> None:
    """A label and its colon fit the 40 columns of vLLM's table."""
    assert max(len(declared.header) for declared in METRICS) < 40
    assert max(len(f"Median {latency.header} (ms)") for latency in LATENCIES) < 40


def test_unknown_tag() -> None:
    """Asking for a metric that is not declared is a mistake of the caller."""
    with pytest.raises(KeyError, match="nonsense"):
        metric("nonsense")


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("gpu_busy_frac", (600 + 200) / (1_000 * 2)),
        ("kv_usage_mean_frac", (50_000 + 10_000) / (200 * 1_000)),
        ("kv_usage_peak_frac", 0.9),
        ("prefix_hit_rate", 30 / 120),
        ("num_preemptions", 3),
        ("mean_batch_requests", 12 / 6),
        ("mean_batch_tokens", 90 / 6),
        ("mean_running_requests", 2_500 / 1_000),
        ("mean_waiting_requests", 500 / 1_000),
        ("peak_running_requests", 7),
        ("peak_waiting_requests", 4),
        ("num_steps", 6),
        ("recached_tokens", 16),
    ],
)
def test_engine_metrics_by_hand(tag: str, expected: float) -> None:
    """Each engine metric is the quotient its formula says, over two instances."""
    first = make_counters(
        num_steps=4,
        busy_us=600,
        kv_block_us=50_000,
        peak_kv_blocks=60,
        prefix_queries_tokens=100,
        prefix_hits_tokens=30,
        num_preemptions=3,
        batch_requests=10,
        batch_tokens=70,
        running_us=2_000,
        waiting_us=500,
        peak_running=7,
        peak_waiting=4,
        recached_tokens=16,
    )
    second = make_counters(
        num_steps=2,
        busy_us=200,
        kv_block_us=10_000,
        peak_kv_blocks=90,
        prefix_queries_tokens=20,
        batch_requests=2,
        batch_tokens=20,
        running_us=500,
        peak_running=1,
    )
    run = make_run([served(0, ttft_us=1_000)], counters=[first, second])
    assert metric(tag).value(Measured(run)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "tag", ["prefix_hit_rate", "mean_batch_requests", "gpu_busy_frac", "request_throughput"]
)
def test_no_data_is_none(tag: str) -> None:
    """A quotient without a denominator is absent, never 0."""
    assert metric(tag).value(Measured(make_run([]))) is None
