from __future__ import annotations

import csv
import json
import math

from blis_sim.capacity.compared import METRICS
from blis_sim.report.compare_files import comparison_csv, comparison_json
from tests.report.compare_rows import make_failed, make_pool, make_row


def test_csv_has_a_line_per_deployment() -> None:
    """Absent values are empty; the reason stands in the last column."""
    lines = comparison_csv([make_row(request_rate=math.inf), make_failed()]).splitlines()
    one, failed = csv.DictReader(lines)
    assert (one["gpu"], one["request_rate"], one["mean_ttft_ms"]) == ("H100", "inf", "27.26")
    assert (one["p99_itl_ms"], one["not_simulated"]) == ("", "")
    assert (failed["num_kv_blocks"], failed["not_simulated"]) == ("", "too small")


def test_json_has_everything() -> None:
    """Rows with notices, notes, and what every metric means."""
    document = json.loads(comparison_json([make_row(notices=["n"]), make_failed()]))
    first, second = document["rows"]
    assert first["mean_ttft_ms"] == 27.26
    assert first["notices"] == ["n"]
    assert second["not_simulated"] == "too small"
    assert second["mean_ttft_ms"] is None
    assert document["notes"] == ["T4 TP 1: not simulated: too small", "n"]
    defined = set(document["metric_definitions"])
    assert {key for key in METRICS if not key.endswith("_ms")} <= defined
    assert {"ttft", "tpot", "itl", "e2el"} <= defined


def test_a_cluster_in_files() -> None:
    """One deployment in words and numbers; its pools one by one in JSON alone."""
    pools = [make_pool(num_instances=2), make_pool("A100-80", tensor_parallel_size=2)]
    row = make_row(name="mixed", pools=pools)
    (line,) = csv.DictReader(comparison_csv([row]).splitlines())
    assert line["name"] == "mixed"
    assert line["deployment"] == "2 x H100 + 1 x A100-80 TP2"
    assert (line["gpu"], line["num_instances"]) == ("H100 + A100-80", "3")
    assert (line["tensor_parallel_size"], line["num_kv_blocks"]) == ("", "26237")
    (written,) = json.loads(comparison_json([row]))["rows"]
    assert [pool["gpu"] for pool in written["pools"]] == ["H100", "A100-80"]
    assert written["pools"][1]["tensor_parallel_size"] == 2
