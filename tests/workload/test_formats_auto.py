"""A format is told by what the file holds, never by its name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from blis_sim.config.workload import LoadSettings
from blis_sim.errors import TraceError
from blis_sim.workload.trace import read_trace, trace_formats
from blis_sim.workload.trace_sample import look_at

from .trace_builders import make_workload, write_trace

TURN = {"from": "human", "value": "one two three four five"}
V2_HEAD = "request_id,input_tokens,output_tokens,arrival_time_us,slo_class,session_id"
SAMPLES = {
    "azure": "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-12 00:00:00+00:00,5,6\n",
    "mooncake": '{"timestamp": 0, "input_length": 5, "output_length": 6, "hash_ids": [0]}\n',
    "burstgpt": "Timestamp,Model,Request tokens,Response tokens,Log Type\n1,m,5,6,l\n",
    "sharegpt": json.dumps([{"id": "a", "conversations": [TURN, TURN]}]),
    "vllm": json.dumps({"date": "x", "input_lens": [5], "output_lens": [6], "start_times": [1]}),
    "guidellm": json.dumps(
        {
            "args": {"input_lens": 1},
            "benchmarks": [
                {
                    "requests": {
                        "successful": [{"prompt_tokens": 5, "output_tokens": 6, "start_time": 1.5}]
                    }
                }
            ],
        },
        indent=2,
    ),
    "aiperf": json.dumps(
        {
            "metadata": {"request_start_ns": 5},
            "metrics": {
                "input_sequence_length": {"value": 5},
                "output_sequence_length": {"value": 6},
            },
        }
    ),
    "blis": 'arrival_time,request_id,prefill_tokens,decode_tokens\n0,r,"[1,2]",[3]\n',
    "tracev2": f"{V2_HEAD}\n0,5,6,7,gold,s\n",
    "csv": "arrival_s,prompt_tokens,output_tokens\n0,5,6\n",
}


def test_every_format_has_a_sample() -> None:
    """Names are unique, and none is left out here (Parquet has its own file)."""
    names = [known.name for known in trace_formats()]
    assert len(set(names)) == len(names)
    assert set(names) == {*SAMPLES, "parquet"}


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("file_name", ["trace.csv", "trace.json", "data", "x.gz"])
def test_auto_tells_the_format_by_its_content(tmp_path: Path, name: str, file_name: str) -> None:
    """Whatever the file is called and packed, with or without a byte order mark."""
    path = write_trace(tmp_path, "\ufeff" + SAMPLES[name], file_name)
    columns, found = read_trace(path)
    assert found.name == name
    assert len(columns.prompt_tokens) == 1
    named, same = read_trace(path, name)
    assert same.name == name
    assert named.prompt_tokens.tolist() == columns.prompt_tokens.tolist()


@pytest.mark.parametrize("name", SAMPLES)
def test_the_description_says_what_was_found(tmp_path: Path, name: str) -> None:
    """People see under which name the file was read."""
    path = write_trace(tmp_path, SAMPLES[name])
    title = next(known.title for known in trace_formats() if known.name == name)
    workload = make_workload(lambda count: [0] * count, trace=path)  # type: ignore[arg-type,return-value]
    assert f"trace trace.csv ({title}): 1 requests" in workload.description


def test_unknown_names_list_the_nearest() -> None:
    """A typing error is answered with the names that are meant."""
    with pytest.raises(TraceError, match=r"must be a known name; got 'mooncak'; nearest: moonc"):
        read_trace(Path("x"), "mooncak")
    assert LoadSettings().trace_format == "auto"


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ('{"a": {"b": 1, "c": [{"d": 2}]}, "e": "f: {", "g": 3}', ("a", "e", "g")),
        ('  [[], [{"a\\"b": 1}], {"c": 1}]', ('a\\"b',)),
        ('{"a": 1, "b": "cut in the mid', ("a", "b")),
        ('{"a": 1, "b', ("a",)),
        ('{"a": 1}\n{"b": 2}\n', ("a",)),
        ("[]", ()),
        ("{}{}", ()),
        ("{]}{", ()),
    ],
)
def test_keys_of_the_first_object(tmp_path: Path, text: str, keys: tuple[str, ...]) -> None:
    """Only the outermost keys of the first object count, as far as the text goes."""
    assert look_at(write_trace(tmp_path, text)).names == keys


def test_a_format_may_be_forced_on_a_file_of_another(tmp_path: Path) -> None:
    """The error is then about the format asked for."""
    path = write_trace(tmp_path, SAMPLES["csv"])
    with pytest.raises(TraceError, match=r":1: row must be a JSON object; got 'arrival_s,"):
        read_trace(path, "mooncake")
    with pytest.raises(TraceError, match=r": file must be a JSON array; got 'arrival_s,"):
        read_trace(path, "sharegpt")
    with pytest.raises(TraceError, match=r"trace\.csv:1: file must be well-formed JSON"):
        read_trace(path, "vllm")
