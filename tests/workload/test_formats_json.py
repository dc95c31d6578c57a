"""Samples are written by hand; none is taken from a published trace or result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blis_sim.errors import ConfigError, TraceError
from blis_sim.workload import json_file
from blis_sim.workload.request import RequestSpec

from .trace_builders import (
    SHARED_TRACES,
    make_requests,
    make_workload,
    read,
    write_json,
    write_lines,
    write_trace,
)


def mooncake(timestamp: float = 0, tokens: int = 600, **more: Any) -> dict[str, Any]:
    row = {"timestamp": timestamp, "input_length": tokens, "output_length": 5, "hash_ids": [1, 2]}
    return row | more


def test_mooncake_rows(tmp_path: Path) -> None:
    """Times are milliseconds, hashes blocks of 512 tokens, the last one partial."""
    path = write_lines(tmp_path, [mooncake(), mooncake(1.5, 1025, hash_ids=[1, 2, 30])])
    assert make_requests(trace=path) == [
        RequestSpec(0, 0, 600, 5, block_hashes=(1, 2)),
        RequestSpec(1, 1_500, 1025, 5, block_hashes=(1, 2, 30)),
    ]
    assert read(path).notices == []


def test_mooncake_ids_of_single_blocks_are_renumbered(tmp_path: Path) -> None:
    """An id that follows different ones is the hash of a block alone."""
    rows = [[1, 2], [3, 2], [1, 2]]
    workload = make_workload(trace=write_lines(tmp_path, [mooncake(hash_ids=ids) for ids in rows]))
    first, second, third = (r.block_hashes for r in workload)
    assert first == third
    assert set(first or ()).isdisjoint(second or ())
    assert "equal hash_ids follow different ones" in workload.notices[0]


def test_mooncake_without_hashes(tmp_path: Path) -> None:
    """Rows without hash_ids share nothing."""
    bare = {"timestamp": 0, "input_length": 600, "output_length": 5}
    assert make_requests(trace=write_lines(tmp_path, [bare])) == [RequestSpec(0, 0, 600, 5)]
    mixed = make_requests(trace=write_lines(tmp_path, [bare, mooncake()]))
    assert [r.block_hashes for r in mixed] == [None, (1, 2)]


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"timestamp": "0"}, r"timestamp must be a number of ms from 0 to 1000000000000; got '0'"),
        ({"timestamp": float("nan")}, r"timestamp must be a number of ms .*; got nan"),
        ({"timestamp": -1}, r"timestamp must be a number of ms .*; got -1"),
        ({"timestamp": 10**400}, r"timestamp must be a number of ms .*; got 1000"),
        ({"timestamp": True}, r"timestamp must be a number of ms .*; got True"),
        ({"input_length": 0}, r"input_length must be a whole number of tokens from 1 .*; got 0"),
        ({"input_length": 1.5}, r"input_length must be a whole number .*; got 1\.5"),
        ({"input_length": None}, r"input_length must be a whole number .*; got nothing"),
        ({"output_length": [1]}, r"output_length must be a whole number .*; got a list of 1"),
        ({"hash_ids": [1]}, r"hash_ids must be an array of 2 numbers, .*; got a list of 1"),
        ({"hash_ids": "1 2"}, r"hash_ids must be an array of 2 numbers, .*; got '1 2'"),
        ({"hash_ids": [1, 2.5]}, r"hash_ids must be whole numbers from 0 .*; got '\[1, 2\.5\]'"),
        ({"hash_ids": [1, -2]}, r"hash_ids must be whole numbers from 0 .*; got '\[1, -2\]'"),
        ({"hash_ids": [1, 2**63]}, r"hash_ids must be whole numbers from 0 to 9223"),
    ],
)
def test_mooncake_errors(tmp_path: Path, row: dict[str, Any], match: str) -> None:
    """The line is named, and what is wrong in it."""
    path = write_lines(tmp_path, [mooncake(), mooncake(**row)])
    with pytest.raises(TraceError, match=rf"trace\.jsonl:2: {match}") as caught:
        read(path)
    assert len(str(caught.value)) - len(str(path)) < 400


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("{", r":2: row must be a JSON object; got '\{'"),
        ("[1]", r":2: row must be a JSON object; got '\[1\]'"),
        ("\xff", r":2: row must be a JSON object; got "),
        ("[" * 100_000, r":2: row must be a JSON object; got '\[\[\["),
        ("9" * 5000, r":2: row must be a JSON object; got '999"),
    ],
    ids=["cut", "array", "latin-1", "deep", "digits"],
)
def test_lines_that_are_no_object(tmp_path: Path, line: str, match: str) -> None:
    """Whatever a line holds, it is an error of that line."""
    text = json.dumps(mooncake()).encode() + b"\n" + line.encode("latin-1") + b"\n"
    with pytest.raises(TraceError, match=match) as caught:
        read(write_trace(tmp_path, text, "trace.jsonl"))
    str(caught.value).encode()


def turns(*texts: object) -> dict[str, Any]:
    return {"id": "x", "conversations": [{"from": "human", "value": text} for text in texts]}


def words(count: int) -> str:
    return "word " * count


def test_sharegpt_lengths_and_limits(tmp_path: Path) -> None:
    """The first two turns, words times the ratio; vLLM's limits are inclusive."""
    kept = [(4, 4), (1024, 1024), (1024, 4), (4, 2044)]
    dropped = [(3, 9), (9, 3), (1025, 4), (4, 2045)]
    items = [turns(words(p), words(o), "more") for p, o in (*kept, *dropped)]
    items += [turns(words(9)), {"id": "no turns"}]
    path = write_json(tmp_path, items)
    workload = make_workload(np.arange, trace=path, tokens_per_word=1)
    assert [(r.prompt_tokens, r.output_tokens) for r in workload] == kept
    assert [r.arrival_us for r in workload] == [0, 1, 2, 3]
    assert "words x 1 tokens" in workload.notices[0]
    assert (
        "2 conversations of fewer than two turns and 4 too short or too long"
        in (workload.notices[1])
    )
    assert "arrivals drawn; the trace has none" in workload.description
    assert "ShareGPT JSON" in workload.description


def test_sharegpt_default_ratio(tmp_path: Path) -> None:
    """1.3 tokens per word, rounded: 10 words are 13 tokens."""
    columns = read(write_json(tmp_path, [turns(words(10), words(5))]))
    assert columns.arrival_us is None
    assert (columns.prompt_tokens.tolist(), columns.output_tokens.tolist()) == ([13], [6])


def test_long_arrays_are_read_item_by_item(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the file is cut into parts, the items are the same."""
    items = [turns(words(4 + i), words(9)) for i in range(50)]
    path = write_trace(tmp_path, json.dumps(items, indent=1), "trace.json.gz")
    expected = read(path).prompt_tokens.tolist()
    assert len(expected) == 50
    monkeypatch.setattr(json_file, "_CHUNK_CHARS", 7)
    assert read(path).prompt_tokens.tolist() == expected
    monkeypatch.setattr(json_file, "MAX_ITEM_BYTES", 100)
    with pytest.raises(TraceError, match=r"item \[\d+\] must be well-formed JSON"):
        read(path)


@pytest.mark.parametrize(
    ("document", "match"),
    [
        ([turns(1, "b")], r": \[0\]\.conversations\[0\]\.value must be text; got 1"),
        ([turns("a", None)], r": \[0\]\.conversations\[1\]\.value must be text; got nothing"),
        ([{"conversations": 3}], r": \[0\]\.conversations must be an array; got 3"),
        ([turns("a", "b")], r": trace must have at least one request; got 0 conversations of f"),
        ({"conversations": []}, r": file must be a JSON array; got '\{"),
    ],
)
def test_sharegpt_errors(tmp_path: Path, document: object, match: str) -> None:
    """The place is a JSON path."""
    with pytest.raises(TraceError, match=match):
        read(write_json(tmp_path, document))


def test_a_cut_array_is_refused(tmp_path: Path) -> None:
    """The item at which the file ends is named."""
    text = json.dumps([turns(words(9), words(9))] * 2)
    with pytest.raises(TraceError, match=r": item \[1\] must be well-formed JSON; got: "):
        read(write_trace(tmp_path, text[:-20]))


def vllm(**more: Any) -> dict[str, Any]:
    result = {
        "date": "20260101-000000",
        "total_input_tokens": 60,
        "total_output_tokens": 5,
        "request_throughput": 1.0,
        "input_lens": [10, 20, 30],
        "output_lens": [3, 0, 2],
        "start_times": [100.25, 100.5, 100.0],
        "ttfts": [0.05, 0.0, 0.06],
        "itls": [[0.01, 0.02], [], [0.03]],
        "errors": ["", "Bad Gateway", ""],
    }
    return result | more


def test_vllm_bench_rows(tmp_path: Path) -> None:
    """Arrivals count from the first send; failures are left out; E2E is TTFT plus the gaps."""
    path = write_json(tmp_path, vllm())
    workload = make_workload(trace=path)
    assert list(workload) == [RequestSpec(1, 0, 30, 2), RequestSpec(0, 250_000, 10, 3)]
    assert any(
        "1 requests that failed or were not finished left out" in n for n in workload.notices
    )
    columns = read(path)
    assert columns.measured_ttft_us is not None
    assert columns.measured_e2e_us is not None
    assert columns.measured_ttft_us.tolist() == [50_000, 60_000]
    assert columns.measured_e2e_us.tolist() == [80_000, 90_000]
    with_latencies = read(write_json(tmp_path, vllm(latencies=[0.5, 0, 0.25])))
    assert with_latencies.measured_e2e_us is not None
    assert with_latencies.measured_e2e_us.tolist() == [500_000, 250_000]


def test_vllm_bench_without_times(tmp_path: Path) -> None:
    """Older versions wrote no start times: the load draws arrivals, or says it needs a rate."""
    document = vllm(ttfts=None, itls=None)
    del document["start_times"], document["errors"]
    path = write_json(tmp_path, document)
    columns = read(path)
    assert columns.arrival_us is None
    assert columns.measured_ttft_us is None
    assert columns.output_tokens.tolist() == [3, 2]
    with pytest.raises(ConfigError, match=r"workload\.request_rate must be given to replay .*no"):
        make_workload(trace=path)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            {"input_lens": [10, "x", 30], "output_lens": [3, 1, 2], "errors": None},
            r"input_lens\[1\]",
        ),
        ({"output_lens": [3, 0]}, r": output_lens must have 3 entries, .*; got 2"),
        ({"ttfts": [0.1, 0, -1]}, r": ttfts\[2\] must be a number of s from 0 .*; got -1"),
        ({"itls": [[0.01, "y"], [], []]}, r": itls\[0\]\[1\] must be a number of s .*; got 'y'"),
        ({"itls": [3, [], []]}, r": itls\[0\] must be an array; got 3"),
        ({"errors": ["e", "e", "e"]}, r": trace must have at least one request; got 3 failed"),
    ],
)
def test_vllm_bench_errors(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    """The place is a JSON path."""
    with pytest.raises(TraceError, match=match):
        read(write_json(tmp_path, vllm(**change)))


def test_a_result_without_details_says_how_to_save_them(tmp_path: Path) -> None:
    """A summary has no requests to replay."""
    document = vllm()
    del document["input_lens"]
    with pytest.raises(TraceError, match=r"must have the array input_lens; .*--save-detailed"):
        read(write_json(tmp_path, document))


def test_broken_and_large_documents_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Line and character of the defect, or the largest size."""
    text = json.dumps(vllm(), indent=1)
    with pytest.raises(
        TraceError, match=r"trace\.csv:\d+: file must be well-formed JSON; got: .*"
    ):
        read(write_trace(tmp_path, text[:-30]))
    monkeypatch.setattr(json_file, "MAX_DOCUMENT_BYTES", 100)
    with pytest.raises(TraceError, match=r"JSON file must be at most 0 MiB, unpacked; got more"):
        read(write_trace(tmp_path, text))


def guide_request(start_s: float, new: bool = True, **more: Any) -> dict[str, Any]:
    row = {
        "prompt_tokens": 40,
        "output_tokens": 4,
        "request_start_time" if new else "start_time": start_s,
        "time_to_first_token_ms": 50.5,
        "request_latency": 0.25,
    }
    return row | more


def guide(*benchmarks: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"version": 1},
        "benchmarks": [
            {"requests": {"successful": rows, "incomplete": [{}], "errored": []}} | more
            for rows in benchmarks
        ],
    }


@pytest.mark.parametrize("new", [True, False])
def test_guidellm_rows(tmp_path: Path, new: bool) -> None:
    """Both names of the start; seconds since 1970 count from the first; benchmarks in turn."""
    runs = [[guide_request(1.7e9 + 0.5, new)], [guide_request(1.7e9 + 60.125, new)]]
    path = write_json(tmp_path, guide(*runs))
    workload = make_workload(trace=path)
    assert list(workload) == [RequestSpec(0, 0, 40, 4), RequestSpec(1, 59_625_000, 40, 4)]
    assert "2 requests that failed or were not finished" in workload.notices[0]
    assert "2 benchmarks, one after the other" in workload.notices[1]
    columns = read(path)
    assert columns.measured_ttft_us is not None
    assert columns.measured_e2e_us is not None
    assert columns.measured_ttft_us.tolist() == [50_500] * 2
    assert columns.measured_e2e_us.tolist() == [250_000] * 2


@pytest.mark.parametrize("nested", [True, False])
def test_guidellm_samples_are_noticed(tmp_path: Path, nested: bool) -> None:
    """A file that holds some of the requests only has a lower rate than the run."""
    totals: dict[str, Any] = {"request_totals": {"successful": 10}}
    more = {"metrics": totals} if nested else totals
    columns = read(write_json(tmp_path, guide([guide_request(1.0)], **more)))
    assert any("9 successful requests are not in it" in notice for notice in columns.notices)


@pytest.mark.parametrize(
    ("document", "match"),
    [
        (
            guide([guide_request(1.0), guide_request(1.0, prompt_tokens=None)]),
            r": benchmarks\[0\]\.requests\.successful\[1\]\.prompt_tokens must be .*nothing",
        ),
        (
            guide([guide_request(1.0, request_start_time=None)]),
            r"\.successful\[0\]\.request_start_time must be a time in s since 1970; got nothing",
        ),
        (guide([]), r": trace must have at least one request; got no successful request"),
        ({"benchmarks": 3}, r": benchmarks must be an array; got 3"),
        ({"benchmarks": [{"name": "x"}]}, r": benchmarks\[0\]\.requests must be an object; got n"),
    ],
)
def test_guidellm_errors(tmp_path: Path, document: object, match: str) -> None:
    """The place is a JSON path; other tools' benchmarks are told apart."""
    with pytest.raises(TraceError, match=match):
        read(write_json(tmp_path, document))


def aiperf(start_ns: int = 10**18, **more: Any) -> dict[str, Any]:
    record = {
        "metadata": {
            "request_start_ns": start_ns,
            "turn_index": 0,
            "benchmark_phase": "profiling",
            "was_cancelled": False,
        },
        "metrics": {
            "input_sequence_length": {"value": 40, "unit": "tokens"},
            "output_sequence_length": {"value": 4, "unit": "tokens"},
            "time_to_first_token": {"value": 50.5, "unit": "ms"},
            "request_latency": {"value": 0.25, "unit": "s"},
        },
        "error": None,
    }
    return record | more


def test_aiperf_rows(tmp_path: Path) -> None:
    """Nanoseconds count from the first; failures and the warm-up are left out and counted."""
    start_ns = 1_760_000_000_123_456_789
    metadata = aiperf()["metadata"]
    items = [
        aiperf(start_ns + 2_000_000),
        aiperf(start_ns),
        aiperf(metrics={"error_isl": {"value": 1}}, error={"code": 499}),
        aiperf(metadata=metadata | {"benchmark_phase": "warmup"}),
        aiperf(metadata=metadata | {"request_start_ns": start_ns + 5_000, "turn_index": 1}),
    ]
    path = write_lines(tmp_path, items)
    workload = make_workload(trace=path)
    assert list(workload) == [
        RequestSpec(1, 0, 40, 4),
        RequestSpec(2, 5, 40, 4),
        RequestSpec(0, 2_000, 40, 4),
    ]
    notices = " ".join(workload.notices)
    assert "1 requests that failed" in notices
    assert "1 requests of the warm-up left out" in notices
    assert "1 follow-up turns are replayed at their times" in notices
    columns = read(path)
    assert columns.measured_ttft_us is not None
    assert columns.measured_e2e_us is not None
    assert columns.measured_ttft_us.tolist() == [50_500] * 3
    assert columns.measured_e2e_us.tolist() == [250_000] * 3


@pytest.mark.parametrize(
    ("metrics", "match"),
    [
        ({"input_sequence_length": {"value": 0}}, r"metrics\.input_sequence_length\.value must"),
        ({"output_sequence_length": None}, r"metrics\.output_sequence_length must be an object"),
        (
            {"time_to_first_token": {"value": 1, "unit": "min"}},
            r"metrics\.time_to_first_token\.unit must be one of ns, us, ms, s; got 'min'",
        ),
    ],
)
def test_aiperf_errors(tmp_path: Path, metrics: dict[str, Any], match: str) -> None:
    """Line and JSON path are named."""
    good = aiperf()
    path = write_lines(tmp_path, [good, aiperf(metrics=good["metrics"] | metrics)])
    with pytest.raises(TraceError, match=rf":2: {match}"):
        read(path)


def test_words_are_counted_only_where_there_are_texts(tmp_path: Path) -> None:
    """A ratio for a trace that holds lengths is a mistake of the user."""
    path = write_lines(tmp_path, [mooncake()])
    with pytest.raises(ConfigError, match=r"tokens_per_word must not be set for .*; got 1\.5"):
        make_workload(trace=path, tokens_per_word=1.5)


@pytest.mark.skipif(not SHARED_TRACES.is_dir(), reason="../shared/data/traces is not there")
def test_the_mooncake_conversation_trace() -> None:
    """12,031 requests; ids already stand for prefixes; ten lines count what could be shared."""
    path = SHARED_TRACES / "mooncake_conversation.jsonl"
    columns = read(path)
    assert columns.notices == []
    assert columns.arrival_us is not None
    assert columns.block_hashes is not None
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) == len(columns.arrival_us) == 12_031
    assert columns.arrival_us.tolist() == [row["timestamp"] * 1000 for row in rows]
    assert columns.prompt_tokens.tolist() == [row["input_length"] for row in rows]
    assert columns.output_tokens.tolist() == [row["output_length"] for row in rows]
    assert columns.block_hashes.rows(slice(0, len(rows))) == [tuple(r["hash_ids"]) for r in rows]


def test_long_strings_do_not_hide_the_keys_before_them(tmp_path: Path) -> None:
    """The sample may end within a text full of quotes and braces."""
    path = write_json(tmp_path, [turns('\\"{' * 200_000, words(9))] * 2)
    with pytest.raises(TraceError, match=r"got 0 conversations of fewer than two"):
        read(path)
