"""Samples are written by hand; none is taken from a published trace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blis_sim.errors import TraceError
from blis_sim.workload.request import RequestSpec

from .trace_builders import make_requests, make_workload, read, replay, write_trace

BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"
TRACE_V2 = (
    "request_id,client_id,tenant_id,slo_class,vllm_priority,session_id,round_index,prefix_group,"
    "prefix_length,streaming,input_tokens,output_tokens,deadline_us,server_input_tokens,"
    "arrival_time_us,send_time_us,first_chunk_time_us,last_chunk_time_us,num_chunks,status"
)
OWN = "arrival_us,prompt_tokens,output_tokens"


def test_azure_2024_stamps_have_a_zone_and_six_decimals_or_none(tmp_path: Path) -> None:
    """The stamps of 2024 count like those of 2023: from the earliest, UTC."""
    stamps = ["2024-05-11 23:59:59.990000+00:00", "2024-05-12 00:00:00+00:00"]
    rows = "".join(f"{stamp},700,30\n" for stamp in stamps)
    found = replay(tmp_path, f"TIMESTAMP,ContextTokens,GeneratedTokens\n{rows}")
    assert found == [RequestSpec(0, 0, 700, 30), RequestSpec(1, 10_000, 700, 30)]


def test_burstgpt_failed_requests_are_left_out_and_counted(tmp_path: Path) -> None:
    """0 response tokens mark a failed request, whatever its prompt; times are seconds."""
    rows = "1,GPT-4,10,3,13,API log\n2,GPT-4,0,0,0,API log\n3,GPT-4,9,0,9,API log\n4.5,X,7,2,9,A\n"
    workload = make_workload(trace=write_trace(tmp_path, f"{BURST}\n{rows}"))
    assert list(workload) == [RequestSpec(0, 1_000_000, 10, 3), RequestSpec(1, 4_500_000, 7, 2)]
    assert "BurstGPT CSV" in workload.description
    assert "2 failed requests (0 response tokens) left out" in workload.notices[0]
    assert "'Model', 'Total tokens', 'Log Type'" in workload.notices[1]


def test_burstgpt_with_sessions_goes_by_the_names_of_the_columns(tmp_path: Path) -> None:
    """Later files have two more columns in the middle; sessions say nothing about sharing."""
    head = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens"
    found = replay(tmp_path, f"{head},Log Type\n1,ab-1,2.5,GPT-4,10,3,13,Conversation log\n")
    assert found == [RequestSpec(0, 1_000_000, 10, 3)]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (f"{BURST}\n1,m,0,4,4,l\n", r":2: column Request tokens must be at least 1 in .*'0'"),
        (f"{BURST}\n-1,m,3,4,7,l\n", r":2: column Timestamp must be seconds .*'-1'"),
        (f"{BURST}\n1,m,3,0,3,l\n", r": trace must have at least one answered .*; got 1 with 0"),
        ("Timestamp,Request tokens\n1,2\n", r":1: header must have the column Response tokens"),
    ],
)
def test_burstgpt_errors(tmp_path: Path, text: str, match: str) -> None:
    """Line and column are named by the names of this format."""
    with pytest.raises(TraceError, match=match):
        read(write_trace(tmp_path, text))


def v2_row(**cells: object) -> str:
    row: dict[str, object] = dict.fromkeys(TRACE_V2.split(","), "")
    row |= {"input_tokens": 100, "output_tokens": 10, "arrival_time_us": 5_000, "status": "ok"}
    return ",".join(str(value) for value in (row | cells).values())


def v2_text(*rows: str) -> str:
    return "\n".join([TRACE_V2, *rows, ""])


def test_trace_v2_fields(tmp_path: Path) -> None:
    """Every field with a meaning here is kept; the prompt is the prefix and the rest."""
    row = v2_row(
        tenant_id="acme",
        slo_class="gold",
        vllm_priority=2,
        session_id="s1",
        round_index=3,
        prefix_group="sys",
        prefix_length=64,
        server_input_tokens=170,
        deadline_us=1_006_000,
        send_time_us=6_000,
    )
    found = replay(tmp_path, v2_text(row))
    assert found == [
        RequestSpec(
            request_id=0,
            arrival_us=6_000,
            prompt_tokens=164,
            output_tokens=10,
            prefix_group="sys",
            prefix_tokens=64,
            session_id="s1",
            round=3,
            slo_class="gold",
            tenant="acme",
            priority=2,
            timeout_us=1_000_000,
        )
    ]


def test_trace_v2_prompt_is_what_the_server_counted(tmp_path: Path) -> None:
    """Without a prefix group the server's count is better than the client's; 0 is none."""
    rows = [v2_row(server_input_tokens=123), v2_row(server_input_tokens=0, prefix_length=9)]
    found = replay(tmp_path, v2_text(*rows))
    assert [(r.prompt_tokens, r.prefix_tokens, r.prefix_group) for r in found] == [
        (123, 0, None),
        (100, 0, None),
    ]


def test_trace_v2_measured_latencies_count_from_the_send(tmp_path: Path) -> None:
    """First and last chunk minus the send; 0 is not measured; errors are left out."""
    rows = [
        v2_row(send_time_us=6_000, first_chunk_time_us=9_000, last_chunk_time_us=20_000),
        v2_row(first_chunk_time_us=0, last_chunk_time_us=0, status="timeout"),
        v2_row(status="error"),
    ]
    columns = read(write_trace(tmp_path, v2_text(*rows)))
    assert columns.measured_ttft_us is not None
    assert columns.measured_e2e_us is not None
    assert columns.measured_ttft_us.tolist() == [3_000, -1]
    assert columns.measured_e2e_us.tolist() == [14_000, -1]
    assert columns.notices == [
        f"{tmp_path / 'trace.csv'}: 1 requests with the status error left out"
    ]


def test_trace_v2_stamps_since_1970_count_from_the_first(tmp_path: Path) -> None:
    """Real runs are stamped with the time of day; simulated ones from 0, which stay."""
    epoch = 1_770_000_000_000_000
    rows = [v2_row(arrival_time_us=epoch + 7), v2_row(arrival_time_us=epoch)]
    assert [r.arrival_us for r in replay(tmp_path, v2_text(*rows))] == [0, 7]
    assert [r.arrival_us for r in replay(tmp_path, v2_text(v2_row()))] == [5_000]


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ("run.yaml", "run.csv"),
        ("run.yml", "run.csv.gz"),
        ("a_header.yaml", "a_data.csv"),
        ("b.yaml.gz", "b.csv"),
    ],
)
def test_trace_v2_either_file_of_the_pair(tmp_path: Path, header: str, data: str) -> None:
    """The YAML header stands for the CSV file beside it; its warm-up is mentioned."""
    text = 'trace_version: 2\ntime_unit: "microseconds"\nmode: real\nwarm_up_requests: 1\n'
    path = write_trace(tmp_path, text, header)
    expected = make_requests(trace=write_trace(tmp_path, v2_text(v2_row(), v2_row()), data))
    workload = make_workload(trace=path)
    assert list(workload) == expected
    assert "(BLIS TraceV2)" in workload.description
    assert any("first 1 requests are its warm-up" in notice for notice in workload.notices)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("trace_version: 2\n", r"run\.yaml: trace must have its data beside .* in run\.csv; got"),
        ("trace_version: [\n", r"run\.yaml:2: trace header must be well-formed YAML"),
        ("a:\n  trace_version: 2\n", r"run\.yaml: trace must be in a known format"),
        ("trace_version: 2\ntime_unit: ms\n", r"run\.yaml: time_unit must be micro.*; got 'ms'"),
    ],
)
def test_trace_v2_header_errors(tmp_path: Path, text: str, match: str) -> None:
    """A header that says nothing usable is named, not its data."""
    path = write_trace(tmp_path, text, "run.yaml")
    if "time_unit" in text:
        write_trace(tmp_path, v2_text(v2_row()), "run.csv")
    with pytest.raises(TraceError, match=match):
        read(path)


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"input_tokens": -1}, r":2: column input_tokens must be a whole .*'-1'"),
        ({"input_tokens": 0}, r":2: column input_tokens must be >= 1 where there is no prefix"),
        ({"deadline_us": 4_000}, r":2: column deadline_us must be after the row's arrival"),
        ({"status": "error"}, r": trace must have at least one request; got 1 with the status"),
    ],
)
def test_trace_v2_row_errors(tmp_path: Path, row: dict[str, object], match: str) -> None:
    """Line and column are named."""
    with pytest.raises(TraceError, match=match):
        read(write_trace(tmp_path, v2_text(v2_row(**row))))


def test_own_columns_of_content(tmp_path: Path) -> None:
    """Prompt ids and block hashes reach the request; an empty cell is none."""
    text = (
        f"{OWN},prompt_id,block_hashes,hash_block_tokens\n"
        "0,40,1,,7 8 9,16\n1,33,1,,7 8 10,16\n2,50,1,p1,,\n"
    )
    found = replay(tmp_path, text)
    assert [(r.prompt_id, r.block_hashes) for r in found] == [
        (None, (7, 8, 9)),
        (None, (7, 8, 10)),
        ("p1", None),
    ]
    assert found[0].hash_block_tokens == 16


def test_own_block_hashes_are_made_prefix_complete(tmp_path: Path) -> None:
    """Numbers that stand for single blocks are renumbered by what comes before them."""
    found = replay(tmp_path, f"{OWN},block_hashes\n0,1024,1,5 6\n1,1024,1,6 5\n2,1024,1,5 5\n")
    first, second, third = (r.block_hashes for r in found)
    assert first is not None
    assert second is not None
    assert third is not None
    assert first[0] == third[0]
    assert len({*first, *second, *third}) == 5


@pytest.mark.parametrize(
    ("head", "row", "match"),
    [
        ("block_hashes", "0,513,1,4", r":2: column block_hashes must be one number per 512 tok"),
        ("block_hashes", "0,9,1,a", r":2: column block_hashes must be whole numbers .*'a'"),
        ("block_hashes", "0,9,1,-4", r":2: column block_hashes must be whole numbers .*'-4'"),
        ("hash_block_tokens", "0,9,1,16", r":1: header must have the column block_hashes"),
        (
            "block_hashes,hash_block_tokens",
            "0,9,1,1,16\n0,9,1,1,32",
            r":3: column hash_block_tokens must be 16 as in the rows before; got '32'",
        ),
        (
            "block_hashes,prompt_id",
            "0,9,1,1,p",
            r":2: column prompt_id must be empty in a row that has block_hashes; got 'p'",
        ),
    ],
)
def test_own_content_errors(tmp_path: Path, head: str, row: str, match: str) -> None:
    """Hashes must fit the prompt, and are the only statement about its content."""
    with pytest.raises(TraceError, match=match):
        read(write_trace(tmp_path, f"{OWN},{head}\n{row}\n"))


def test_long_hash_lists_fit_into_a_cell(tmp_path: Path) -> None:
    """A prompt of a million tokens has more hashes than the csv module's longest cell."""
    hashes = " ".join(map(str, range(100_000, 162_500)))
    text = f"{OWN},block_hashes,hash_block_tokens\n0,1000000,1,{hashes},16\n"
    columns = read(write_trace(tmp_path, text))
    assert columns.block_hashes is not None
    assert np.array_equal(columns.block_hashes.hashes, np.arange(100_000, 162_500))


def test_priority_of_the_settings_is_for_rows_without(tmp_path: Path) -> None:
    """0 in a row is a priority; only an empty cell takes the default."""
    text = f"{OWN},priority\n0,1,1,0\n1,1,1,\n2,1,1,-4\n"
    assert [r.priority for r in replay(tmp_path, text, priority=7)] == [0, 7, -4]
    assert [r.priority for r in replay(tmp_path, text)] == [0, 0, -4]
    assert [r.priority for r in replay(tmp_path, f"{OWN}\n0,1,1\n", priority=7)] == [7]
