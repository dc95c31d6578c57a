from __future__ import annotations

import math

import pytest

from blis_sim.errors import ConfigError
from blis_sim.metrics.records import Status
from blis_sim.report.table import render_table
from tests.metrics.builders import Row, dropped, make_counters, make_result, make_run, served


def body(text: str) -> list[str]:
    """The table without the heading."""
    lines = text.splitlines()
    return lines[lines.index("============ Serving Benchmark Result ============") :]


def value(text: str, label: str) -> str:
    (line,) = [line for line in text.splitlines() if line.startswith(f"{label}:")]
    return line[40:].strip()


def test_table_is_vllms() -> None:
    """Title, labels, columns, sections and number forms are those of vLLM's report."""
    rows = [
        served(0, ttft_us=500_000, gaps_us=[100_000, 300_000], prompt_tokens=7),
        served(1_000_000, ttft_us=1_000_000, prompt_tokens=13),
    ]
    text = render_table(make_result(rows, slo={"ttft_ms": 600.0}, max_concurrency=8))
    assert body(text)[:29] == [
        "============ Serving Benchmark Result ============",
        "Successful requests:                     2",
        "Failed requests:                         0",
        "Maximum request concurrency:             8",
        "Request rate configured (RPS):           10.00",
        "Benchmark duration (s):                  2.00",
        "Total input tokens:                      20",
        "Total generated tokens:                  4",
        "Request throughput (req/s):              1.00",
        "Request goodput (req/s):                 0.50",
        "Output token throughput (tok/s):         2.00",
        "Peak output token throughput (tok/s):    3.00",
        "Peak concurrent requests:                1.00",
        "Total token throughput (tok/s):          12.00",
        "---------------Time to First Token----------------",
        "Mean TTFT (ms):                          750.00",
        "Median TTFT (ms):                        750.00",
        "P99 TTFT (ms):                           995.00",
        "-----Time per Output Token (excl. 1st token)------",
        "Mean TPOT (ms):                          200.00",
        "Median TPOT (ms):                        200.00",
        "P99 TPOT (ms):                           200.00",
        "---------------Inter-token Latency----------------",
        "Mean ITL (ms):                           200.00",
        "Median ITL (ms):                         200.00",
        "P99 ITL (ms):                            298.00",
        "----------------End-to-end Latency----------------",
        "Mean E2EL (ms):                          950.00",
        "Median E2EL (ms):                        950.00",
    ]


def test_engine_section() -> None:
    """Fractions are shown in percent, counts as they are."""
    counters = make_counters(
        num_steps=4,
        batch_requests=6,
        busy_us=50_000,
        kv_block_us=12 * 100_000,
        peak_kv_blocks=40,
        num_preemptions=3,
        prefix_queries_tokens=200,
        prefix_hits_tokens=50,
    )
    text = render_table(make_result(run=make_run([served(ttft_us=100_000)], counters=[counters])))
    assert body(text)[-9:] == [
        "----------------------Engine----------------------",
        "KV blocks per instance:                  100",
        "KV cache usage, mean (%):                12.00",
        "KV cache usage, peak (%):                40.00",
        "Prefix cache hit rate (%):               25.00",
        "Preemptions:                             3",
        "Batch size, mean (requests):             1.50",
        "GPU busy (%):                            50.00",
        "==================================================",
    ]


def test_heading_says_what_ran() -> None:
    """Model, GPU, TP, instances, latency model with its reason and data, engine settings."""
    heading = render_table(make_result(tensor_parallel_size=2, num_instances=4)).splitlines()
    assert heading[:5] == [
        "meta-llama/Llama-3.1-8B-Instruct on H100, TP 2, 4 instances",
        "Latency: blackbox (a coefficient row for this model, GPU and TP); data:",
        "  configs/coefficients.csv; also available: roofline-v1",
        "Engine 0.15.1 (vllm defaults): max_num_seqs 1024, max_num_batched_tokens 8192,",
        "  enable_prefix_caching on",
    ]


def test_rows_nobody_asked_for_are_left_out() -> None:
    """No limit on concurrency, no rate, no goodput: no such rows, as in vLLM."""
    text = render_table(make_result(request_rate=None, slo={"ttft_ms": None}))
    for label in ("Maximum request", "Request rate", "Request goodput"):
        assert label not in text


def test_infinite_rate() -> None:
    """All at once is shown as inf."""
    text = render_table(make_result(request_rate=math.inf))
    assert value(text, "Request rate configured (RPS)") == "inf"


def test_no_data_is_na() -> None:
    """Where there is nothing to average the table says so, and never 0."""
    text = render_table(make_result([dropped()]))
    for label in ("Mean TTFT (ms)", "P99 ITL (ms)", "Request throughput (req/s)", "GPU busy (%)"):
        assert value(text, label) == "n/a"
    assert value(text, "Successful requests") == "0"


def test_percentiles_of_the_user() -> None:
    """Given percentiles stand beside P99, ascending."""
    text = render_table(make_result([served(gaps_us=[5])], percentiles=(99.9, 50)))
    labels = [line.partition(" (ms)")[0] for line in text.splitlines() if " TTFT (ms)" in line]
    assert labels == ["Mean TTFT", "Median TTFT", "P50 TTFT", "P99 TTFT", "P99.9 TTFT"]


def test_chosen_sections() -> None:
    """The latency sections can be chosen, also ours."""
    text = render_table(make_result(), latencies=["e2el", "queue"])
    sections = [line.strip("-") for line in text.splitlines() if line.startswith("--")]
    assert sections == ["End-to-end Latency", "Queue Time", "Engine"]


def test_unknown_section() -> None:
    """A section that does not exist is an error with the nearest names."""
    with pytest.raises(ConfigError, match="got 'e2e'; nearest: e2el"):
        render_table(make_result(), latencies=["e2e"])


def test_requests_that_did_not_complete() -> None:
    """Each state with requests is listed, and the most frequent reasons."""
    rows = [served(), Row(status=Status.TIMED_OUT), Row(status=Status.WAITING)]
    rows += [dropped(reason="too long") for _ in range(3)]
    rows += [dropped(reason=f"reason {number}") for number in range(6)]
    text = render_table(make_result(rows))
    lines = text.splitlines()
    start = lines.index("--------------Requests not completed--------------")
    assert lines[start + 1 :] == [
        "Timed out:                               1",
        "Dropped:                                 9",
        "Waiting:                                 1",
        "3 x too long",
        *(f"1 x reason {number}" for number in range(4)),
        "and 2 more reasons (see the requests' file)",
        "==================================================",
    ]


def test_complete_run_has_no_such_section() -> None:
    """When every request completed there is nothing to list."""
    assert "not completed" not in render_table(make_result())


def test_everything_fits_80_columns() -> None:
    """Long names, reasons and notices are wrapped."""
    long = "a rather long sentence about something " * 6
    text = render_table(
        make_result(
            [dropped(reason=long)],
            model="x" * 200,
            latency_reason=long,
            latency_source=long,
            notices=[long],
        )
    )
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "note: a rather long" in text
