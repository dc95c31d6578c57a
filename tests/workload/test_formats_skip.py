"""Malformed rows: an error at the first, or left out and counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.errors import TraceError

from .test_formats_json import aiperf, guide, guide_request, mooncake, turns, vllm, words
from .trace_builders import make_workload, read, write_json, write_lines, write_trace

HEAD = "arrival_us,prompt_tokens,output_tokens"


def test_the_error_says_how_to_leave_such_rows_out(tmp_path: Path) -> None:
    """Errors of rows carry the remedy; errors of the header do not."""
    with pytest.raises(TraceError, match=r":2: .*'x' \(--skip-bad-rows leaves such rows out\)$"):
        read(write_trace(tmp_path, f"{HEAD}\nx,1,1\n"))
    with pytest.raises(TraceError, match=r":1: header must have the column output_tokens") as e:
        read(write_trace(tmp_path, "arrival_us,prompt_tokens\n0,1\n"), skip=True)
    assert "skip" not in str(e.value)


def test_bad_rows_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    """Wrong cells, wrong widths and broken quotes are bad rows; the others stay."""
    text = f'{HEAD}\n0,1,1\n1,zero,1\n2,2\n3,3,3,3\n4,"4"4,4\n\n5,5,5\n'
    path = write_trace(tmp_path, text)
    workload = make_workload(trace=path, skip_bad_rows=True)
    assert [r.prompt_tokens for r in workload] == [1, 5]
    assert workload.notices == [
        f"{path}: 4 malformed rows left out, the first at line 3: column prompt_tokens must be a "
        "whole number of tokens from 1 to 2147483647; got 'zero'"
    ]


def test_rows_that_contradict_themselves_are_bad_too(tmp_path: Path) -> None:
    """What depends on several columns is checked row by row."""
    text = f"{HEAD},prefix_group,prefix_tokens\n0,9,1,g,10\n0,9,1,g,9\n"
    columns = read(write_trace(tmp_path, text), skip=True)
    assert columns.prefix_tokens is not None
    assert columns.prefix_tokens.tolist() == [9]
    assert columns.notices[0].endswith(
        "1 malformed row left out, the first at line 2: column "
        "prefix_tokens must be at most the row's prompt_tokens; "
        "got '10'"
    )


def test_an_unfinished_quote_is_an_error_all_the_same(tmp_path: Path) -> None:
    """It would swallow the rest of the file."""
    path = write_trace(tmp_path, f'{HEAD}\n0,1,1\n1,"2,2\n3,3,3\n')
    with pytest.raises(TraceError, match=r":3: row must be well-formed CSV"):
        read(path, skip=True)


def test_a_trace_of_bad_rows_only_is_refused(tmp_path: Path) -> None:
    """Nothing to replay is not a workload."""
    match = r"must have at least one request; got 2 malformed, the first at line 2: column arr"
    with pytest.raises(TraceError, match=match):
        read(write_trace(tmp_path, f"{HEAD}\nx,1,1\ny,1,1\n"), skip=True)
    with pytest.raises(TraceError, match=r"got 1 malformed, the first at line 1: input_length"):
        read(write_lines(tmp_path, [mooncake(input_length=0)]), skip=True)


@given(bad=st.lists(st.booleans(), min_size=1, max_size=60))
def test_exactly_the_bad_rows_are_left_out(
    tmp_path_factory: pytest.TempPathFactory, bad: list[bool]
) -> None:
    """Whichever rows are bad, the others come out in order, with their labels."""
    rows = [f"{i},{'x' if b else i + 1},1,t{i % 3}" for i, b in enumerate(bad)]
    path = write_trace(tmp_path_factory.mktemp("skip"), "\n".join([f"{HEAD},tenant", *rows]))
    good = [i for i, b in enumerate(bad) if not b]
    if not good:
        with pytest.raises(TraceError, match=f"got {len(bad)} malformed, the first at line 2"):
            read(path, skip=True)
        return
    columns = read(path, skip=True)
    assert columns.tenant is not None
    assert columns.prompt_tokens.tolist() == [i + 1 for i in good]
    found = [columns.tenant.names[code] for code in columns.tenant.codes]
    assert found == [f"t{i % 3}" for i in good]
    if any(bad):
        assert f"first at line {bad.index(True) + 2}: " in columns.notices[0]
    else:
        assert columns.notices == []


@pytest.mark.parametrize(
    ("kind", "first"),
    [
        ("mooncake", "at line 2: output_length must be"),
        ("aiperf", "at line 2: metadata must be an object"),
        ("sharegpt", "[1].conversations[0].value must be text"),
        ("vllm", "input_lens[1] must be"),
        ("guidellm", "benchmarks[0].requests.successful[1].output_tokens must be"),
    ],
)
def test_json_formats_skip_too(tmp_path: Path, kind: str, first: str) -> None:
    """Every format counts its bad rows and names the first."""
    good_turns, bad_turns = turns(words(9), words(9)), turns(1, "b")
    bad_request = guide_request(2.0, output_tokens="x")
    path = {
        "mooncake": lambda: write_lines(tmp_path, [mooncake(), mooncake(output_length=-1)]),
        "aiperf": lambda: write_lines(tmp_path, [aiperf(), aiperf(metadata=3)]),
        "sharegpt": lambda: write_json(tmp_path, [good_turns, bad_turns]),
        "vllm": lambda: write_json(
            tmp_path, vllm(input_lens=[1, 0, 1], output_lens=[1, 1, 1], errors=None)
        ),
        "guidellm": lambda: write_json(tmp_path, guide([guide_request(1.0), bad_request])),
    }[kind]()
    with pytest.raises(TraceError, match=r"--skip-bad-rows leaves such rows out"):
        read(path, kind)
    columns = read(path, kind, skip=True)
    assert len(columns.prompt_tokens) == (2 if kind == "vllm" else 1)
    assert f"1 malformed row left out, the first {first}" in " ".join(columns.notices)
