from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from blis_sim.errors import ConfigError
from blis_sim.metrics.records import Status
from blis_sim.metrics.result import Result
from blis_sim.report.blis_json import blis_summary, check_blis_path, write_blis_json
from tests.metrics.builders import Row, dropped, make_result, served

# The fields BLIS v0.6.1 always writes (sim/metrics_utils.go, MetricsOutput), in its order.
ALWAYS = [
    *("instance_id", "completed_requests", "still_queued", "still_running"),
    *("injected_requests", "total_input_tokens", "total_output_tokens"),
    *("vllm_estimated_duration_s", "responses_per_sec", "tokens_per_sec"),
    *("e2e_mean_ms", "e2e_p90_ms", "e2e_p95_ms", "e2e_p99_ms"),
    *("ttft_mean_ms", "ttft_p90_ms", "ttft_p95_ms", "ttft_p99_ms"),
    *("itl_mean_ms", "itl_p90_ms", "itl_p95_ms", "itl_p99_ms"),
    *("scheduling_delay_p99_ms", "preemption_count", "dropped_unservable"),
    *("length_capped_requests", "timed_out_requests"),
]


def write_and_read(result: Result, folder: Path) -> dict[str, Any]:
    path = folder / "results.json"
    write_blis_json(result, path)
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def test_keys_are_blis_keys_in_its_order(tmp_path: Path) -> None:
    """The file has BLIS's keys, and its requests at the end."""
    assert list(write_and_read(make_result(), tmp_path)) == [*ALWAYS, "requests"]


def test_numbers_by_hand() -> None:
    """Counts, and rates over the clock at the end counted from 0."""
    rows = [
        served(1_000_000, ttft_us=500_000, gaps_us=[250_000, 250_000], length_capped=1),
        dropped(1_000_000),
        Row(arrival_us=1_000_000, status=Status.WAITING),
        Row(arrival_us=1_000_000, status=Status.IN_FRONTEND),
        Row(arrival_us=1_000_000, status=Status.RUNNING, num_preemptions=1),
        Row(arrival_us=1_000_000, status=Status.TIMED_OUT),
    ]
    summary = blis_summary(make_result(rows))
    expected = {
        "completed_requests": 1,
        "still_queued": 2,
        "still_running": 1,
        "injected_requests": 6,
        "vllm_estimated_duration_s": 2.0,
        "responses_per_sec": 0.5,
        "tokens_per_sec": 1.5,
        "ttft_mean_ms": 500.0,
        "e2e_p99_ms": 1_000.0,
        "itl_mean_ms": 250.0,
        "preemption_count": 1,
        "dropped_unservable": 1,
        "length_capped_requests": 1,
        "timed_out_requests": 1,
    }
    assert {key: summary[key] for key in expected} == expected


def test_requests_are_in_order_of_arrival(tmp_path: Path) -> None:
    """Requests are sorted by arrival, ties in trace order; labels only where there are any."""
    rows = [
        served(2_000_000, ttft_us=1_500, gaps_us=[500, 501], slo_class="a", length_capped=1),
        served(1_000_000, tenant='say "hi"', instance=3),
        dropped(1_000_000),
    ]
    requests = write_and_read(make_result(rows), tmp_path)["requests"]
    assert [request["requestID"] for request in requests] == [
        "request_1",
        "request_2",
        "request_0",
    ]
    assert requests[0]["tenant_id"] == 'say "hi"'
    assert requests[0]["handled_by"] == "instance_3"
    assert requests[1] == {
        "arrived_at": 1.0,
        "requestID": "request_2",
        "num_prefill_tokens": 10,
        "num_decode_tokens": 0,
        "ttft_ms": None,
        "itl_ms": None,
        "e2e_ms": None,
        "scheduling_delay_ms": None,
    }
    assert requests[2] == {
        "arrived_at": 2.0,
        "requestID": "request_0",
        "num_prefill_tokens": 10,
        "num_decode_tokens": 3,
        "ttft_ms": 1.5,
        "itl_ms": 0.5005,
        "e2e_ms": 2.501,
        "scheduling_delay_ms": 0.0,
        "slo_class": "a",
        "handled_by": "instance_0",
        "length_capped": True,
    }


def test_empty_run(tmp_path: Path) -> None:
    """Without requests the list is empty and means are null."""
    document = write_and_read(make_result([]), tmp_path)
    assert document["requests"] == []
    assert document["ttft_mean_ms"] is None
    assert document["responses_per_sec"] is None


def test_path_is_checked_under_its_flag(tmp_path: Path) -> None:
    """The message names the flag."""
    with pytest.raises(ConfigError, match="--results-path must be a file"):
        check_blis_path(tmp_path)
