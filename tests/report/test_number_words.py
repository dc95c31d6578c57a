from __future__ import annotations

import math

import pytest

from blis_sim.report.metric_words import declared, figure, named
from blis_sim.report.number_words import (
    as_float,
    counted,
    joined,
    milliseconds,
    number,
    percent,
    rate,
    seconds,
    size,
    usd,
)
from blis_sim.report.setting_words import point_words, setting_words, value_words, varying


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (math.nan, "-"),
        (0.0, "0"),
        (1755.4, "1,755"),
        (298.66, "299"),
        (99.96, "100"),
        (56.61, "56.6"),
        (9.999, "10.0"),
        (7.666, "7.67"),
        (0.02314, "0.0231"),
        (-3.14159, "-3.14"),
        (12, "12"),
        (1_234_567, "1,234,567"),
        (math.inf, "∞"),
        (1e-12, "0.00000000"),
    ],
)
def test_a_number_has_three_significant_digits(value: float | None, text: str) -> None:
    """Thousands are kept apart, whole numbers stay whole, nothing has an exponent."""
    assert number(value) == text


def test_units_suit_the_size() -> None:
    """Nobody has to count zeros."""
    assert [milliseconds(7.67), milliseconds(9999.0), milliseconds(12_345.0)] == [
        "7.67 ms",
        "9,999 ms",
        "12.3 s",
    ]
    assert [seconds(4.1), seconds(750.0), seconds(11_520.0)] == ["4.10 s", "12.5 min", "3.20 h"]
    assert [usd(3.99), usd(0.154), usd(1755.0), usd(0.00231)] == [
        "$3.99",
        "$0.15",
        "$1,755",
        "$0.00231",
    ]
    assert [percent(0.0481), percent(1.0), percent(None)] == ["4.81 %", "100 %", "-"]
    assert [size(48_100), size(4_884_133)] == ["48 kB", "4.9 MB"]
    assert [rate(8.0), rate(2.5), rate(1200.0), rate(math.inf)] == ["8", "2.5", "1,200", "∞"]


def test_words() -> None:
    """Numbers agree with their nouns, lists with their language."""
    assert [counted(1, "point"), counted(1200, "point")] == ["1 point", "1,200 points"]
    assert [joined([]), joined(["a"]), joined(["a", "b", "c"])] == ["", "a", "a, b and c"]
    assert [as_float("inf"), as_float(True), as_float("x"), as_float(3)] == [
        math.inf,
        None,
        None,
        3.0,
    ]


def test_figures_are_called_as_people_call_them() -> None:
    """Percentiles of a latency, declared metrics, derived ones, and anything else by its key."""
    assert named("p99_ttft_ms").title == "p99 TTFT (ms)"
    assert named("p99.9_e2el_ms").header == "p99.9 E2E"
    assert named("mean_scheduling_delay_ms").header == "mean scheduling delay"
    assert named("gpu_busy_frac").write(0.966) == "96.6"
    assert named("num_steps").title == "Engine steps (steps)"
    assert named("kv_usage_peak_frac").formula
    assert named("something_new").title == "something new"
    assert declared("output_throughput_per_gpu").title == "Output tokens per GPU (tok/s)"
    assert figure("p99_ttft_ms", 56.6) == "p99 TTFT 56.6 ms"
    assert figure("usd_per_million_output_tokens", 0.4) == "$0.40 per million output tokens"
    assert figure("usd_per_hour", 3.99) == "$3.99 per hour"
    assert figure("request_goodput", 9.5) == "goodput 9.50 req/s"


def test_settings_are_said_in_short() -> None:
    """What speaks for itself needs no name; two settings of one name have their paths."""
    labels = {
        "workload.request_rate": 8,
        "engine.enable_prefix_caching": False,
        "hardware": "H100",
        "model": "meta-llama/Llama-3.1-8B",
        "engine.tensor_parallel_size": 2,
    }
    assert point_words(labels) == (
        "Llama-3.1-8B on H100 TP 2, enable_prefix_caching off, 8 requests/s"
    )
    assert point_words({"workload.request_rate": 1}) == "1 request/s"
    assert value_words("inf", "workload.request_rate") == "all at once"
    assert setting_words("a.size", 3, ["a.size", "b.size"]) == "a.size 3"
    assert varying([{"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 1, "b": 1, "c": None}]) == ["a"]
