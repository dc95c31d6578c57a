from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.errors import ConfigError
from blis_sim.metrics.records import Status
from blis_sim.report.requests_file import REQUESTS
from tests.metrics.builders import Row, dropped, make_cluster_run, make_run, served

TIMES = st.integers(0, 10**12)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_file_by_hand(tmp_path: Path) -> None:
    """Times are whole microseconds, latencies have decimals, absent cells are empty."""
    rows = [
        Row(0, 5, 1_005, 21_005, gaps_us=[7_000, 8_001, 8_000], slo_class="a,b", tenant="t"),
        dropped(2, reason="too long"),
        served(3, ttft_us=40, gaps_us=[9], status=Status.TIMED_OUT, num_preemptions=2),
    ]
    path = tmp_path / "r.csv"
    REQUESTS.write(make_run(rows), path)
    assert path.read_text().splitlines() == [
        "request_id,arrival_us,enqueued_us,scheduled_us,first_token_us,last_token_us,"
        "prompt_tokens,output_tokens,cached_tokens,queue_ms,scheduling_delay_ms,ttft_ms,"
        "tpot_ms,e2e_ms,num_preemptions,instance,slo_class,tenant,status,recached_tokens,"
        "length_capped,reason,dispatched_us,prefill_instance,handed_over_us,transferred_us,"
        "pool,gateway_ms,transfer_ms",
        "0,0,5,1005,21005,44006,10,4,0,1.000,1.005,21.005,7.667000,44.006,0,0,"
        '"a,b",t,completed,0,0,,,,,,,,',
        "1,2,,,,,10,0,,,,,,,0,,,,dropped,0,0,too long,,,,,,,",
        "2,3,3,3,43,52,10,2,0,0.000,0.000,0.040,,,2,0,,,timed_out,0,0,,,,,,,,",
    ]


def test_cluster_by_hand(tmp_path: Path) -> None:
    """The last columns say how the request went through the cluster."""
    path = tmp_path / "r.csv"
    REQUESTS.write(make_cluster_run(), path)
    ends = [line.split(",")[-7:] for line in path.read_text().splitlines()]
    assert ends[1:] == [
        ["10000", "0", "100000", "140000", "d", "10.000", "40.000"],
        ["530000", "0", "600000", "620000", "d", "30.000", "20.000"],
        ["510000", "", "", "", "d", "10.000", ""],
    ]


@given(TIMES, st.integers(0, 10**10), st.integers(0, 10**10))
def test_milliseconds_are_exact(
    tmp_path_factory: pytest.TempPathFactory, arrival: int, wait: int, compute: int
) -> None:
    """A latency in the file is the difference of its times, digit by digit."""
    path = tmp_path_factory.mktemp("csv") / "r.csv"
    row = Row(arrival, arrival, arrival + wait, arrival + wait + compute)
    REQUESTS.write(make_run([row]), path)
    (record,) = read(path)
    assert int(record["ttft_ms"].replace(".", "")) == wait + compute
    assert int(record["queue_ms"].replace(".", "")) == wait
    assert len(record["ttft_ms"].partition(".")[2]) == 3
    assert int(record["first_token_us"]) - int(record["arrival_us"]) == wait + compute


def test_rows_are_in_trace_order(tmp_path: Path) -> None:
    """One row per request in order of request_id, also across chunks."""
    path = tmp_path / "r.csv"
    num_requests = 70_000
    REQUESTS.write(make_run([served(i) for i in range(num_requests)]), path)
    assert [int(row["request_id"]) for row in read(path)] == list(range(num_requests))


def test_empty_run_is_a_header(tmp_path: Path) -> None:
    """No requests give a file with the header alone."""
    path = tmp_path / "r.csv"
    REQUESTS.write(make_run([]), path)
    assert path.read_text().count("\n") == 1


def test_parquet_has_the_same_numbers(tmp_path: Path) -> None:
    """Parquet and CSV agree, row by row and column by column."""
    parquet = pytest.importorskip("pyarrow.parquet")
    run = make_run([served(5, gaps_us=[3, 4]), dropped(9)])
    REQUESTS.write(run, tmp_path / "r.csv")
    REQUESTS.write(run, tmp_path / "r.parquet")
    table = parquet.read_table(tmp_path / "r.parquet")
    rows = read(tmp_path / "r.csv")
    assert table.column_names == list(rows[0])
    for found, expected in zip(table.to_pylist(), rows, strict=True):
        for name, value in found.items():
            cell = expected[name]
            assert cell == "" if value is None else type(value)(cell) == value


def test_path_is_checked_under_its_flag() -> None:
    """The message names the flag."""
    with pytest.raises(ConfigError, match="--requests-out must be a file ending in"):
        REQUESTS.check("requests.json")
