from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.metrics.records import Status
from tests.metrics.builders import Row, dropped, make_result, make_run, served

VLLM_KEYS = [
    "date",
    "backend",
    "model_id",
    "num_prompts",
    "request_rate",
    "burstiness",
    "max_concurrency",
    "duration",
    "completed",
    "failed",
    "total_input_tokens",
    "total_output_tokens",
    "request_throughput",
    "request_goodput",
    "output_throughput",
    "total_token_throughput",
]

LOADS = st.lists(
    st.builds(
        served,
        st.integers(0, 10**6),
        ttft_us=st.integers(1, 10**6),
        gaps_us=st.lists(st.integers(1, 1_000), max_size=6),
        prompt_tokens=st.integers(1, 500),
        status=st.sampled_from([Status.COMPLETED, Status.COMPLETED, Status.ABORTED]),
    ),
    min_size=1,
    max_size=15,
)


def test_vllm_keys_come_first_and_in_order() -> None:
    """The summary begins with vLLM's keys in vLLM's order."""
    summary = make_result().summary
    assert list(summary)[: len(VLLM_KEYS)] == VLLM_KEYS
    for tag in ("ttft", "tpot", "itl", "e2el", "queue", "scheduling_delay"):
        for stat in ("mean", "median", "std", "p50", "p90", "p95", "p99"):
            assert f"{stat}_{tag}_ms" in summary


@given(LOADS)
def test_latencies_are_vllms_over_the_requests(rows: list[Row]) -> None:
    """Every statistic equals numpy's over per-request lists made by hand."""
    summary = make_result(rows, percentiles=(12.5,)).summary
    done = [row for row in rows if row.status is Status.COMPLETED]
    samples = {
        "ttft": [(row.first_token_us or 0) - row.arrival_us for row in done],
        "e2el": [(row.last_token_us or 0) - row.arrival_us for row in done],
        "tpot": [sum(row.gaps_us) / len(row.gaps_us) for row in done if row.gaps_us],
        "itl": [gap for row in rows for gap in row.gaps_us],
    }
    for tag, sample_us in samples.items():
        keys = [f"{name}_{tag}_ms" for name in ("mean", "median", "std", "p12.5", "p99")]
        found = [summary[key] for key in keys]
        if not sample_us:
            assert found == [None] * 5
            continue
        sample = np.array(sample_us) / 1_000
        expected = [sample.mean(), np.median(sample), sample.std()]
        expected += np.percentile(sample, [12.5, 99]).tolist()
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(LOADS)
def test_rates_are_totals_over_the_duration(rows: list[Row]) -> None:
    """Duration is first arrival to last token; rates are totals of completed requests."""
    summary = make_result(rows, tensor_parallel_size=2, num_instances=3).summary
    done = [row for row in rows if row.status is Status.COMPLETED]
    end_us = max(row.last_token_us or 0 for row in rows)
    duration_s = (end_us - min(row.arrival_us for row in rows)) / 1e6
    tokens_in = sum(row.prompt_tokens for row in done)
    tokens_out = sum(1 + len(row.gaps_us) for row in done)
    assert summary["duration"] == pytest.approx(duration_s)
    assert (summary["num_prompts"], summary["completed"]) == (len(rows), len(done))
    assert summary["failed"] == len(rows) - len(done)
    assert summary["total_input_tokens"] == tokens_in
    assert summary["total_output_tokens"] == tokens_out
    for key, total in (
        ("request_throughput", len(done)),
        ("output_throughput", tokens_out),
        ("total_token_throughput", tokens_in + tokens_out),
    ):
        assert summary[key] == pytest.approx(total / duration_s)
        assert summary[f"{key}_per_gpu"] == pytest.approx(total / duration_s / 6)


def test_failed_counts_only_what_ended_without_completing() -> None:
    """A request still in the system at the horizon has not failed."""
    rows = [served(), dropped(), Row(status=Status.WAITING), Row(status=Status.TIMED_OUT)]
    summary = make_result(rows).summary
    assert (summary["num_prompts"], summary["completed"], summary["failed"]) == (4, 1, 2)


def test_horizon_sets_the_duration() -> None:
    """With a horizon the duration runs to it, not to the last token."""
    run = make_run([served(1_000_000)], end_us=5_000_000)
    assert make_result(run=run).summary["duration"] == 4.0


def test_peak_output_throughput() -> None:
    """The peak is the largest number of tokens in one aligned second."""
    rows = [served(900_000, ttft_us=50_000, gaps_us=[100_000, 10, 10]), served(1_999_999)]
    assert make_result(rows).summary["max_output_tokens_per_s"] == 3.0


def test_goodput_is_none_unless_asked_for() -> None:
    """Goodput needs limits; with them it is good requests per second."""
    rows = [served(0, ttft_us=1_000), served(0, ttft_us=500_000)]
    assert make_result(rows).summary["request_goodput"] is None
    assert make_result(rows, slo={"ttft_ms": 1.0}).summary["request_goodput"] == 2.0


def test_nothing_happened() -> None:
    """Without requests counts are 0 and everything else is absent."""
    summary = make_result([]).summary
    assert (summary["num_prompts"], summary["completed"], summary["failed"]) == (0, 0, 0)
    assert summary["mean_ttft_ms"] is None
    assert summary["p99_itl_ms"] is None
    assert summary["request_throughput"] is None
    assert summary["max_output_tokens_per_s"] is None
    assert summary["max_concurrent_requests"] is None


def test_queue_times() -> None:
    """Queue time counts from the waiting queue, scheduling delay from the arrival."""
    row = Row(arrival_us=0, enqueued_us=1_500, scheduled_us=4_000, first_token_us=5_000)
    summary = make_result([row]).summary
    assert summary["mean_queue_ms"] == 2.5
    assert summary["p99_scheduling_delay_ms"] == 4.0


def test_per_class_sums_to_the_whole() -> None:
    """Classes, sorted, and the unlabelled rest partition the requests."""
    rows = [
        served(0, ttft_us=4_000, slo_class="batch"),
        served(0, ttft_us=1_000, slo_class="api"),
        served(0, ttft_us=3_000, slo_class="api", gaps_us=[500]),
        served(0, ttft_us=9_000),
        dropped(0, slo_class="batch"),
    ]
    result = make_result(rows, slo={"ttft_ms": 2})
    classes = result.per_class
    assert list(classes) == ["api", "batch", "(none)"]
    assert classes["api"]["mean_ttft_ms"] == 2.0
    assert classes["api"]["request_goodput"] == pytest.approx(1 / 0.009)
    assert classes["batch"]["failed"] == 1
    for key in ("num_prompts", "completed", "failed", "total_output_tokens", "output_throughput"):
        total = sum(one[key] for one in classes.values())
        assert total == pytest.approx(result.summary[key])


def test_per_class_leaves_out_what_it_cannot_know() -> None:
    """The pooled gaps have no classes, so no class shows inter-token latency."""
    classes = make_result([served(slo_class="a", gaps_us=[5])]).per_class
    assert not [key for key in classes["a"] if key.endswith("_itl_ms")]


def test_no_classes() -> None:
    """A load without classes has no such block's entries."""
    assert make_result([served()]).per_class == {}
