from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from blis_sim.workload.replay import TraceWorkload
from blis_sim.workload.request import RequestSpec

from .trace_builders import SHARED_TRACES, make_requests, make_workload, replay, write_trace

HEAD = "arrival_s,prompt_tokens,output_tokens"
FULL = (
    "arrival_us,prompt_tokens,output_tokens,max_output_tokens,prefix_group,prefix_tokens,"
    "session_id,round,slo_class,tenant,priority,timeout_s,abort_s"
)


def test_required_columns_alone(tmp_path: Path) -> None:
    """Seconds become microseconds; what the trace does not say has the record's defaults."""
    requests = replay(tmp_path, f"{HEAD}\n0.25,100,20\n1,5,0\n")
    assert requests == [RequestSpec(0, 250_000, 100, 20), RequestSpec(1, 1_000_000, 5, 0)]
    assert all(type(r) is RequestSpec and type(r.arrival_us) is int for r in requests)


def test_all_columns_and_empty_cells(tmp_path: Path) -> None:
    """Every optional column reaches its field; an empty cell is the field's default."""
    text = f"{FULL}\n7,100,20,15,sys,64,s1,2,gold,acme,-3,1.5,0\n8,100,20,,,,,,,,,,\n"
    full, empty = replay(tmp_path, text)
    assert full == RequestSpec(
        request_id=0,
        arrival_us=7,
        prompt_tokens=100,
        output_tokens=20,
        max_output_tokens=15,
        prefix_group="sys",
        prefix_tokens=64,
        session_id="s1",
        round=2,
        slo_class="gold",
        tenant="acme",
        priority=-3,
        timeout_us=1_500_000,
        abort_us=0,
    )
    assert empty == RequestSpec(1, 8, 100, 20)


def test_settings_fill_in_what_rows_leave_open(tmp_path: Path) -> None:
    """Cap, timeout, class and tenant of the settings hold for rows that say nothing else."""
    text = f"{FULL}\n0,9,9,5,,,,,gold,,,2,\n1,9,9,,,,,,,,,,\n"
    workload = make_workload(
        trace=write_trace(tmp_path, text),
        max_output_tokens=7,
        timeout_s=9,
        slo_class="basic",
        tenant="us",
    )
    rows = [(r.max_output_tokens, r.timeout_us, r.slo_class, r.tenant) for r in workload]
    assert rows == [(5, 2_000_000, "gold", "us"), (7, 9_000_000, "basic", "us")]
    assert workload.slo_classes == ("gold", "basic")
    assert workload.tenants == ("us",)
    bare = make_workload(trace=write_trace(tmp_path, f"{HEAD}\n0,1,1\n"), slo_class="basic")
    assert (bare.slo_classes, bare.tenants) == (("basic",), ())
    assert [r.slo_class for r in bare] == ["basic"]


@pytest.mark.parametrize(
    "text",
    [
        f"{HEAD}\n0.5,10,2\n1.5,20,3\n",
        f"{HEAD}\r\n0.5,10,2\r\n1.5,20,3\r\n",
        f"\ufeff{HEAD}\n0.5,10,2\n1.5,20,3",
        f"\n{HEAD}\n\n0.5,10,2\n\n1.5,20,3\n\n",
        'output_tokens,"arrival_s",prompt_tokens\n2,"0.5",10\n3,1.5,20\n',
        f" {HEAD.replace(',', ' , ')}\n 0.5, 10 ,2\n+1.5,020,3\n",
        f"{HEAD}\n5e-1,10,2\n15.E-1,20,3\n",
        "arrival_us,prompt_tokens,output_tokens\n500000,10,2\n1500000,20,3\n",
    ],
    ids=["plain", "crlf", "bom", "blank lines", "order", "blanks", "exponents", "us"],
)
@pytest.mark.parametrize("name", ["trace.csv", "trace.csv.gz", "packed.gz"])
def test_ways_to_write_the_same_trace(tmp_path: Path, text: str, name: str) -> None:
    """Line ends, byte order marks, blank lines, column order, blanks, gzip: all the same."""
    path = write_trace(tmp_path, text, name)
    expected = [RequestSpec(0, 500_000, 10, 2), RequestSpec(1, 1_500_000, 20, 3)]
    assert make_requests(trace=path) == expected


def test_unsorted_rows_keep_their_number(tmp_path: Path) -> None:
    """Rows are replayed by arrival; request_id is the place in the file; ties keep file order."""
    path = write_trace(tmp_path, f"{HEAD}\n3,30,1\n1,10,1\n2,20,1\n1,11,1\n")
    workload = make_workload(trace=path)
    found = [(r.request_id, r.arrival_us, r.prompt_tokens) for r in workload]
    assert found == [
        (1, 1_000_000, 10),
        (3, 1_000_000, 11),
        (2, 2_000_000, 20),
        (0, 3_000_000, 30),
    ]
    assert len(workload.notices) == 1
    assert "rows are not in order of arrival" in workload.notices[0]


def test_first_rows_of_an_unsorted_trace_are_numbered_without_gaps(tmp_path: Path) -> None:
    """num_requests takes the earliest arrivals; ids are their places among the rows used."""
    text = f"{HEAD}\n3,30,1\n2,20,1\n1,10,1\n9,90,1\n"
    found = [(r.request_id, r.prompt_tokens) for r in replay(tmp_path, text, num_requests=2)]
    assert found == [(1, 10), (0, 20)]
    sorted_text = f"{HEAD}\n1,10,1\n1,11,1\n2,20,1\n"
    path = write_trace(tmp_path, sorted_text)
    assert make_workload(trace=path, num_requests=2).notices == []


def test_chunks_do_not_change_the_stream(tmp_path: Path) -> None:
    """Rows come out the same however many are turned into requests at a time."""
    rows = [f"{i},{i + 1},{i % 7},,g{i % 3},{i % 5 + 1},,,,t{i % 2},,," for i in range(5, 1005)]
    workload = make_workload(trace=write_trace(tmp_path, "\n".join([FULL, *rows])))
    assert isinstance(workload, TraceWorkload)
    requests = list(workload)
    assert len(requests) == workload.num_requests == 1000
    for chunk in (1, 7, 999, 5000):
        assert list(replace(workload, chunk_requests=chunk)) == requests


def test_file_parts_do_not_change_the_labels(tmp_path: Path) -> None:
    """A file longer than what is read at once keeps one numbering of labels."""
    rows = [f"{i},9,1,,,,,,c{i % 3},t{i // 20_000},,," for i in range(45_000)]
    workload = make_workload(trace=write_trace(tmp_path, "\n".join([FULL, *rows])))
    assert [r.slo_class for r in workload] == [f"c{i % 3}" for i in range(45_000)]
    assert [r.tenant for r in workload] == [f"t{i // 20_000}" for i in range(45_000)]
    assert workload.slo_classes == ("c0", "c1", "c2")
    assert workload.tenants == ("t0", "t1", "t2")


def test_facts_of_a_trace(tmp_path: Path) -> None:
    """The description names file, format, rows, span and mean rate."""
    path = write_trace(tmp_path, f"{HEAD}\n1,10,1\n3,20,2\n5,30,3\n")
    workload = make_workload(trace=path)
    assert workload.source == path
    assert workload.notices == []
    assert workload.description == (
        "trace trace.csv (blis_sim CSV): 3 requests over 4.0 s, mean rate 0.5 requests/s"
    )
    part = make_workload(trace=path, num_requests=1)
    assert part.description == "trace trace.csv (blis_sim CSV): 1 of 3 requests over 0.0 s"


def test_azure_arrivals_are_exact(tmp_path: Path) -> None:
    """Differences of seven-decimal timestamps, rounded to microseconds, across midnight."""
    stamps = [
        "2023-11-16 23:59:59.9999994",
        "2023-11-17 00:00:00.0000000",  # 0.6 us later
        "2023-11-17 00:00:00.0000003",  # 0.9 us later
        "2023-11-17 00:00:00.0000008",  # 1.4 us later
        "2023-11-17 00:00:00.0000009",  # 1.5 us later
        "2023-11-17 00:00:04.3145784",  # 4.3145790 s later
    ]
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(f"{s},374,44\n" for s in stamps)
    arrivals = [r.arrival_us for r in replay(tmp_path, text)]
    assert arrivals == [0, 1, 1, 1, 2, 4_314_579]


def test_azure_counts_from_the_earliest_row(tmp_path: Path) -> None:
    """The earliest timestamp is time 0, wherever it stands."""
    text = (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:47.5,374,44\n2023-11-16 18:15:46.5,396,109\n"
    )
    found = replay(tmp_path, text)
    assert found == [RequestSpec(1, 0, 396, 109), RequestSpec(0, 1_000_000, 374, 44)]


@pytest.mark.parametrize("arrival", ["arrival_time", "arrived_at"])
def test_blis_token_lists_count_by_length(tmp_path: Path, arrival: str) -> None:
    """Lengths of the lists are the lengths of prompt and answer; the notices say so."""
    long_list = str(list(range(100_000, 140_000)))
    text = (
        f"{arrival},request_id,model,prefill_tokens,decode_tokens\n"
        '0.0,req_0,llama,"[1,2,3,4,5]","[101, 102, 103]"\n'
        f'0.05,req_1,llama,"{long_list}",[]\n'
    )
    path = write_trace(tmp_path, text)
    limit = csv.field_size_limit()
    workload = make_workload(trace=path)
    assert csv.field_size_limit() == limit
    assert list(workload) == [RequestSpec(0, 0, 5, 3), RequestSpec(1, 50_000, 40_000, 0)]
    assert "BLIS CSV" in workload.description
    assert any("not recognised as sharing a prefix" in n for n in workload.notices)
    assert any("'request_id', 'model'" in n for n in workload.notices)


@pytest.mark.skipif(not SHARED_TRACES.is_dir(), reason="../shared/data/traces is not there")
@pytest.mark.parametrize(
    ("name", "rows", "second", "last_s"),
    [
        ("azure_llm_2023_conv.csv", 19_366, RequestSpec(1, 4_314_579, 396, 109), 3501.721937),
        ("azure_llm_2023_code.csv", 8_819, RequestSpec(1, 52_000, 3180, 8), 3435.948056),
    ],
)
def test_azure_traces_of_2023(name: str, rows: int, second: RequestSpec, last_s: float) -> None:
    """The published traces have their published number of requests, in order."""
    workload = make_workload(trace=SHARED_TRACES / name)
    requests = list(workload)
    assert len(requests) == workload.num_requests == rows
    assert requests[1] == second
    assert requests[-1].arrival_us == round(last_s * 1e6)
    assert workload.notices == []
    with (SHARED_TRACES / name).open() as file:
        table = list(csv.DictReader(file))
    assert sum(r.prompt_tokens for r in requests) == sum(int(r["ContextTokens"]) for r in table)
    assert sum(r.output_tokens for r in requests) == sum(int(r["GeneratedTokens"]) for r in table)
