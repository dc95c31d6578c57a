from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.errors import BlisError, TraceError
from blis_sim.workload.request import RequestSpec

from .trace_builders import make_requests, make_workload, write_trace

HEAD = "arrival_s,prompt_tokens,output_tokens"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens"
STAMP = "2023-11-16 18:15:46.6805900"
ROW = "0,1,1\n"
BLIS = "arrival_time,request_id,model,prefill_tokens,decode_tokens"
TOKENS = r"from 1 to 2147483647; got"

# label, text of the file, what follows the path in the message
BAD_FILES: list[tuple[str, str, str]] = [
    ("empty", "", r": trace must have at least one request; got no text"),
    ("blank lines", "\n\n\n", r": trace must have at least one request; got no text"),
    ("header only", f"{HEAD}\n", r": trace must have at least one request; got a header and no"),
    (
        "no header",
        "0.5,100,20\n1,5,6\n",
        r": trace must be in a known format \(azure, moon.*; got a first line '0\.5,100,20'; if.*"
        r"; data of your own: a CSV file with commas and a header that has arrival_s, ",
    ),
    (
        "other file",
        '{"timestamp": 0, "a": {"b": 1}}\n{}\n',
        r": trace must be in a known format .*; got JSON with the keys 'timestamp', 'a'; if it",
    ),
    ("no object", "[1, 2]", r": trace must be in a known .*; got JSON without any object"),
    (
        "semicolons",
        "arrival_s;prompt_tokens\n1;2\n",
        r": trace must be in a known .*; got a first line 'arrival_s;prompt_tokens'",
    ),
    ("unknown", f"{HEAD},prio\n0,1,1,1\n", r":1: column must be a known .*'prio'; .*priority"),
    ("unnamed", f"{HEAD},\n0,1,1,\n", r":1: column 4 must have a name; got an empty cell"),
    ("duplicate", f"{HEAD},arrival_s\n0,1,1,0\n", r":1: column 'arrival_s' must be there once"),
    ("no prompt", "arrival_s,output_tokens\n0,1\n", r":1: header must have .* prompt_tokens; got"),
    ("no output", "arrival_s,prompt_tokens\n0,1\n", r":1: header must have .* output_tokens; got"),
    ("no arrival", "prompt_tokens,output_tokens\n1,1\n", r":1: header must .*one of.*got neither"),
    ("both", f"{HEAD},arrival_us\n0,1,1,0\n", r":1: header must have exactly one.*got both"),
    ("no group", f"{HEAD},prefix_tokens\n0,1,1,0\n", r":1: header must have .* prefix_group"),
    ("no prefix", f"{HEAD},prefix_group\n0,1,1,g\n", r":1: header must have .* prefix_tokens"),
    ("no session", f"{HEAD},round\n0,1,1,0\n", r":1: header must have the column session_id"),
    ("few cells", f"{HEAD}\n0,1,1\n1,2\n", r":3: row must have 3 cells, one per .*; got 2"),
    ("many cells", f"{HEAD}\n0,1,1,9\n", r":2: row must have 3 cells.*; got 4"),
    ("blank row", f"{HEAD}\n0,1,1\n  \n", r":3: row must have 3 cells.*; got 1"),
    (
        "open quote",
        f'{HEAD}\n0,1,1\n1,"2,3\n4,5,6\n',
        r":3: row must be well-formed CSV; got: une",
    ),
    ("bad quote", f'{HEAD}\n0,"1"2,1\n', r":2: row must be well-formed CSV; got: "),
    (
        "long cell",
        f"{HEAD}\n0,{'1' * 140_000},1\n",
        r":2: row must be well-formed CSV; got: field",
    ),
    ("prompt text", f"{HEAD}\n0,ten,1\n", rf":2: column prompt_tokens must .*{TOKENS} 'ten'"),
    ("prompt 0", f"{HEAD}\n0,1,1\n0,0,1\n", rf":3: column prompt_tokens must be .*{TOKENS} '0'"),
    ("prompt negative", f"{HEAD}\n0,-3,1\n", rf":2: column prompt_tokens must .*{TOKENS} '-3'"),
    ("prompt float", f"{HEAD}\n0,3.0,1\n", rf":2: column prompt_tokens must .*{TOKENS} '3\.0'"),
    ("prompt empty", f"{HEAD}\n0,,1\n", rf":2: column prompt_tokens must be .*{TOKENS} ''"),
    ("prompt nan", f"{HEAD}\n0,nan,1\n", rf":2: column prompt_tokens must be .*{TOKENS} 'nan'"),
    ("prompt script", f"{HEAD}\n0,1_0,1\n", rf":2: column prompt_tokens must .*{TOKENS} '1_0'"),
    ("prompt digits", f"{HEAD}\n0,١٢,1\n", rf":2: column prompt_tokens must be .*{TOKENS}"),
    ("prompt huge", f"{HEAD}\n0,{10**30},1\n", rf":2: column prompt_tokens must .*{TOKENS} '10"),
    (
        "prompt endless",
        f"{HEAD}\n0,{'9' * 9000},1\n",
        rf":2: column prompt_.*{TOKENS} '9{{59}}\.\.\.",
    ),
    ("output negative", f"{HEAD}\n0,1,-1\n", r":2: column output_tokens must be .* from 0 .*'-1'"),
    (
        "arrival text",
        f"{HEAD}\nnoon,1,1\n",
        r":2: column arrival_s must be seconds from the start .*'noon'",
    ),
    ("arrival empty", f"{HEAD}\n,1,1\n", r":2: column arrival_s must be seconds .*; got ''"),
    ("arrival nan", f"{HEAD}\nnan,1,1\n", r":2: column arrival_s must be seconds .*; got 'nan'"),
    ("arrival inf", f"{HEAD}\ninf,1,1\n", r":2: column arrival_s must be seconds .*; got 'inf'"),
    ("arrival overflow", f"{HEAD}\n1e999,1,1\n", r":2: column arrival_s must be .*; got '1e999'"),
    ("arrival big", f"{HEAD}\n1e305,1,1\n", r":2: column arrival_s must be .*; got '1e305'"),
    ("arrival negative", f"{HEAD}\n-0.1,1,1\n", r":2: column arrival_s must be .*; got '-0\.1'"),
    ("arrival just negative", f"{HEAD}\n-1e-9,1,1\n", r":2: column arrival_s must .*'-1e-9'"),
    ("arrival epoch", f"{HEAD}\n1700000000,1,1\n", r":2: column arrival_s must .* to 1000000000;"),
    (
        "us float",
        HEAD.replace("_s", "_us") + "\n1.5,1,1\n",
        r":2: column arrival_us must be .*'1\.5'",
    ),
    (
        "us negative",
        HEAD.replace("_s", "_us") + "\n-1,1,1\n",
        r":2: column arrival_us must .*'-1'",
    ),
    (
        "cap",
        f"{HEAD},max_output_tokens\n0,1,1,\n0,1,1,x\n",
        r":3: column max_output.* or empty; .*'x'",
    ),
    (
        "priority",
        f"{HEAD},priority\n0,1,1,high\n",
        r":2: column priority must be a whole .*'high'",
    ),
    ("timeout 0", f"{HEAD},timeout_s\n0,1,1,0\n", r":2: column timeout_s must .*0\.000001 .*'0'"),
    ("timeout", f"{HEAD},timeout_s\n0,1,1,-1\n", r":2: column timeout_s must be seconds .*'-1'"),
    ("abort", f"{HEAD},abort_s\n0,1,1,soon\n", r":2: column abort_s must be seconds .*'soon'"),
    ("round", f"{HEAD},round,session_id\n0,1,1,-1,s\n", r":2: column round must be .*'-1'"),
    (
        "round alone",
        f"{HEAD},round,session_id\n0,1,1,1,\n",
        r":2: column session_id must be given",
    ),
    (
        "prefix too long",
        f"{HEAD},prefix_group,prefix_tokens\n0,9,1,g,9\n0,9,1,g,10\n",
        r":3: column prefix_tokens must be at most the row's prompt_tokens; got '10'",
    ),
    (
        "prefix without group",
        f"{HEAD},prefix_group,prefix_tokens\n0,9,1,,9\n",
        r":2: column prefix_group must be given in a row that has prefix_tokens; got ''",
    ),
    (
        "group without prefix",
        f"{HEAD},prefix_group,prefix_tokens\n0,9,1,g,\n",
        r":2: column prefix_tokens must be >= 1 in a row that has a prefix_group; got ''",
    ),
    (
        "label",
        f'{HEAD},tenant\n0,1,1,"a\nb"\n',
        r":2: column tenant must be printable UTF-8 .*'a\\nb'",
    ),
    ("after newline", f'{HEAD},tenant\n0,1,1,"a"\n\n0,x,1,b\n', r":4: column prompt_tokens must"),
    (
        "late",
        f"{HEAD}\n" + "0,1,1\n" * 40_000 + "0,1,?\n",
        r":40002: column output_tokens must .*'\?'",
    ),
    ("azure extra", f"{AZURE},Model\n{STAMP},1,1,m\n", r":1: column must be a known .*'Model'"),
    (
        "azure missing",
        f"TIMESTAMP,ContextTokens\n{STAMP},1\n",
        r":1: header must .*GeneratedTokens",
    ),
    (
        "azure stamp",
        f"{AZURE}\n16/11/2023 18:15,1,1\n",
        r":2: column TIMESTAMP must be a timestamp",
    ),
    (
        "azure date",
        f"{AZURE}\n{STAMP},1,1\n2023-02-30 10:00:00,1,1\n",
        r":3: column TIMESTAMP must",
    ),
    (
        "azure hour",
        f"{AZURE}\n2023-02-03 25:00:00,1,1\n",
        r":2: column TIMESTAMP must .*'2023-02-03",
    ),
    (
        "azure zone",
        f"{AZURE}\n{STAMP}+02:00,1,1\n",
        r":2: column TIMESTAMP must be .*no zone, or UTC",
    ),
    (
        "azure span",
        f"{AZURE}\n1970-01-01 00:00:00,1,1\n{STAMP},1,1\n",
        r": column TIMESTAMP must span",
    ),
    (
        "azure prompt",
        f"{AZURE}\n{STAMP},0,1\n",
        rf":2: column ContextTokens must be .*{TOKENS} '0'",
    ),
    ("azure output", f"{AZURE}\n{STAMP},1,x\n", r":2: column GeneratedTokens must be .*'x'"),
    ("blis missing", "arrival_time,prefill_tokens\n0,[1]\n", r":1: header must .* decode_tokens"),
    ("blis arrival", "prefill_tokens,decode_tokens\n[1],[1]\n", r":1: header must .*arrival_time"),
    (
        "blis text",
        f"{BLIS}\n0,r,m,hello,[1]\n",
        r":2: column prefill_tokens must be a JSON .*'hello'",
    ),
    (
        "blis empty",
        f"{BLIS}\n0,r,m,[],[1]\n",
        r":2: column prefill_tokens must be .* least 1 .*'\[\]'",
    ),
    ("blis number", f"{BLIS}\n0,r,m,5,[1]\n", r":2: column prefill_tokens must be a JSON array"),
    (
        "blis float",
        f"{BLIS}\n0,r,m,[1.5],[1]\n",
        r":2: column prefill_tokens must be a JSON array",
    ),
    ("blis bool", f"{BLIS}\n0,r,m,[1],[true]\n", r":2: column decode_tokens must be a JSON array"),
    (
        "blis deep",
        f"{BLIS}\n0,r,m,{'[' * 50_000},[1]\n",
        r":2: column prefill_tokens must be a JSON",
    ),
]


@pytest.mark.parametrize(("label", "text", "match"), BAD_FILES, ids=[row[0] for row in BAD_FILES])
def test_a_malformed_trace_is_one_clear_line(
    tmp_path: Path, label: str, text: str, match: str
) -> None:
    """Path, line, column, what must be there, and what is there."""
    path = write_trace(tmp_path, text)
    with pytest.raises(TraceError, match=re.escape(str(path)) + match) as caught:
        make_workload(trace=path)
    message = str(caught.value)
    assert "\n" not in message, label
    assert len(message) - len(str(path)) < 400
    message.encode()  # can be printed


NOT_TEXT: list[tuple[str, bytes, str]] = [
    ("binary", b"\x89PNG\r\n\0\0\0", r": trace must be a UTF-8 text file or Parquet; got binary"),
    ("utf-16", HEAD.encode("utf-16"), r": trace must be a UTF-8 text file or Parquet; got binary"),
    (
        "latin-1 cell",
        f"{HEAD},tenant\n0,1,1,caf".encode() + b"\xe9\n",
        r":2: column tenant must be ",
    ),
    (
        "latin-1 number",
        f"{HEAD}\n0,\xbd,1\n".encode("latin-1"),
        r":2: column prompt_tokens must be",
    ),
    ("latin-1 header", b"arrival_s,prompt_tokens,caf\xe9\n1,2,3\n", r":1: column must be a known"),
    (
        "late zero byte",
        f"{HEAD}\n{ROW * 3000}0,\0,1".encode(),
        r":3002: column prompt_tokens must .*; got '\\x00'",
    ),
    (
        "cut gzip",
        gzip.compress(f"{HEAD}\n0,1,1\n".encode())[:-9],
        r": trace must be an intact gzip",
    ),
    ("bad gzip", b"\x1f\x8b\x08 not gzip at all", r": trace must be "),
    (
        "gzip of nothing",
        gzip.compress(b""),
        r": trace must have at least one request; got no text",
    ),
    (
        "gzip of binary",
        gzip.compress(b"a\0b"),
        r": trace must be a UTF-8 text file or Parquet; got",
    ),
]


@pytest.mark.parametrize(("label", "data", "match"), NOT_TEXT, ids=[row[0] for row in NOT_TEXT])
def test_a_file_that_is_not_text_is_refused(
    tmp_path: Path, label: str, data: bytes, match: str
) -> None:
    """Binary data, other encodings and damaged archives are named as such."""
    path = write_trace(tmp_path, data)
    with pytest.raises(TraceError, match=re.escape(str(path)) + match) as caught:
        make_workload(trace=path)
    assert "\n" not in str(caught.value), label
    str(caught.value).encode()


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    """What cannot be opened is named with the system's reason."""
    missing = tmp_path / "nowhere" / "trace.csv"
    with pytest.raises(TraceError, match=r"trace\.csv: trace must be a readable file; got: No su"):
        make_workload(trace=missing)
    with pytest.raises(TraceError, match=r"trace must be a readable file; got: Is a directory"):
        make_workload(trace=tmp_path)
    through_a_file = write_trace(tmp_path, f"{HEAD}\n0,1,1\n") / "x"
    with pytest.raises(TraceError, match=r"trace must be a readable file; got: Not a directory"):
        make_workload(trace=through_a_file)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("azure", r":1: column must be a known name; got 'arrival_s'"),
        ("blis", r":1: header must have the column arrival_time; got"),
    ],
)
def test_a_forced_format_is_held_to(tmp_path: Path, name: str, match: str) -> None:
    """A file that is not of the format asked for is refused, not guessed."""
    with pytest.raises(TraceError, match=match):
        make_workload(trace=write_trace(tmp_path, f"{HEAD}\n0,1,1\n"), trace_format=name)


CELLS = st.sampled_from(
    ["", "0", "1", "7", "-1", "1.5", "nan", "x", '"', "é", "\0", "\ud800", STAMP]
)
ROWS = st.lists(st.lists(CELLS, max_size=6).map(",".join), max_size=6).map("\n".join)
HEADERS = st.sampled_from([HEAD, AZURE, BLIS, f"{HEAD},prefix_group,prefix_tokens", ""])


@given(header=HEADERS, rows=ROWS, noise=st.binary(max_size=20))
def test_any_file_is_replayed_or_refused(
    tmp_path_factory: pytest.TempPathFactory, header: str, rows: str, noise: bytes
) -> None:
    """No file, however broken, raises anything but our own errors."""
    data = f"{header}\n{rows}".encode(errors="surrogatepass") + noise
    path = write_trace(tmp_path_factory.mktemp("fuzz"), data)
    message = str(path)
    requests: list[RequestSpec] = []
    try:
        requests = make_requests(trace=path)
    except BlisError as error:
        message = str(error)
    assert str(path) in message
    assert [r.request_id for r in sorted(requests)] == list(range(len(requests)))
    assert all(len(r) == len(RequestSpec._fields) for r in requests)
