from __future__ import annotations

import csv
import json
import math
from typing import Any

from blis_sim.capacity.compare import METRICS, ComparedRun
from blis_sim.report.compare_table import (
    comparison_csv,
    comparison_json,
    notes_of,
    render_comparison,
)


def make_row(gpu: str = "H100", **more: Any) -> ComparedRun:
    settings: dict[str, Any] = {
        "model": "some/model-8B",
        "gpu": gpu,
        "tensor_parallel_size": 1,
        "request_rate": 4.0,
        "load": "a load",
        "latency_model": "roofline-v2",
        "num_kv_blocks": 26_237,
        "metrics": dict.fromkeys(METRICS) | {"mean_ttft_ms": 27.26, "output_throughput": 2023.0},
    }
    return ComparedRun(**settings | more)


def make_failed(gpu: str = "T4", **more: Any) -> ComparedRun:
    settings: dict[str, Any] = {
        "model": "some/model-8B",
        "gpu": gpu,
        "tensor_parallel_size": 1,
        "request_rate": None,
        "reason": "too small",
    }
    return ComparedRun(**settings | more)


def table_of(*rows: ComparedRun) -> list[str]:
    return render_comparison(rows, 42).splitlines()


def test_what_rows_have_in_common_stands_above() -> None:
    """One model and one rate need no column."""
    text = table_of(make_row(), make_row("A100-80"))
    assert text[:2] == ["model: some/model-8B", "load: a load, seed 42"]
    assert text[3].split()[:3] == ["GPU", "TP", "TTFT"]
    assert [line.split()[0] for line in text[6:8]] == ["H100", "A100-80"]
    assert text[6].split()[-2:] == ["26,237", "roofline-v2"]


def test_what_differs_is_a_column() -> None:
    """Models without their organisation, and rates."""
    text = table_of(make_row(), make_row(model="other/big", request_rate=math.inf))
    assert text[2].split()[:4] == ["model", "GPU", "TP", "rate"]
    assert text[5].split()[:4] == ["model-8B", "H100", "1", "4"]
    assert text[6].split()[:4] == ["big", "H100", "1", "inf"]


def test_a_failed_row_makes_no_column_of_rates() -> None:
    """It has none: nothing was resolved."""
    assert "rate" not in table_of(make_row(), make_failed())[3].split()


def test_goodput_is_shown_with_limits() -> None:
    """Only then there is any."""
    good = make_row(metrics={"request_goodput": 3.5})
    assert "goodput" not in table_of(make_row())[3]
    assert "3.50" in table_of(good)[6]


def test_failed_rows_have_dashes_and_a_note() -> None:
    """One note for all with the same reason, in front of those of the runs."""
    rows = [make_row(notices=["mind this"]), make_failed(), make_failed("V100")]
    text = table_of(*rows)
    assert text[7].split() == ["T4", "1", *"-" * 8, "not", "simulated"]
    assert notes_of(rows) == ["T4 TP 1, V100 TP 1: not simulated: too small", "mind this"]


def test_a_notice_of_some_rows_names_them() -> None:
    """One of all simulated rows does not; several models are told apart."""
    rows = [
        make_row(notices=["a", "b"]),
        make_row("L40S", notices=["b"]),
        make_row(model="other/big", notices=["b"]),
    ]
    assert notes_of(rows) == ["model-8B on H100 TP 1: a", "b"]


def test_csv_has_a_line_per_deployment() -> None:
    """Absent values are empty; the reason stands in the last column."""
    lines = comparison_csv([make_row(request_rate=math.inf), make_failed()]).splitlines()
    one, failed = csv.DictReader(lines)
    assert (one["gpu"], one["request_rate"], one["mean_ttft_ms"]) == ("H100", "inf", "27.26")
    assert (one["p99_itl_ms"], one["not_simulated"]) == ("", "")
    assert (failed["num_kv_blocks"], failed["not_simulated"]) == ("", "too small")


def test_json_has_everything() -> None:
    """Rows with notices, notes, and what every metric means."""
    document = json.loads(comparison_json([make_row(notices=["n"]), make_failed()], 42))
    first, second = document["rows"]
    assert first["mean_ttft_ms"] == 27.26
    assert first["notices"] == ["n"]
    assert second["not_simulated"] == "too small"
    assert second["mean_ttft_ms"] is None
    assert document["notes"] == ["T4 TP 1: not simulated: too small", "n"]
    defined = set(document["metric_definitions"])
    assert {key for key in METRICS if not key.endswith("_ms")} <= defined
    assert {"ttft", "tpot", "itl", "e2el"} <= defined
