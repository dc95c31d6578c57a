from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from blis_sim.cli.main import main

TRACE = "arrival_s,prompt_tokens,output_tokens,slo_class\n0,100,10,gold\n2,200,20,\n8,300,30,\n"
LENGTHS = "arrival_s,prompt_tokens,output_tokens\n0,100,10\n2,200,20\n8,300,30\n"
BENCH = {"input_lens": [5, 6], "output_lens": [7, 8], "start_times": [1.0, 2.5], "ttfts": [0.1, 0]}


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    path.write_text(TRACE)
    return path


def converted(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[str, list[str]]:
    assert main(["convert", *map(str, arguments)]) == 0
    captured = capsys.readouterr()
    return captured.out, captured.err.splitlines()


def refused(
    capsys: pytest.CaptureFixture[str], *arguments: object, exit_code: int = 2
) -> list[str]:
    """Return what a command that fails says; the last line is the error."""
    assert main(["convert", *map(str, arguments)]) == exit_code
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_one_line_says_what_was_done(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was found, how many requests, what was written; what is lost is a note."""
    target = trace.with_name("out.jsonl")
    out, err = converted(capsys, trace, target)
    assert out.count("\n") == 1
    assert "trace in.csv (blis_sim CSV): 3 requests over 8.0 s" in out
    assert f"written to {target} (Mooncake JSONL)" in out
    assert err == ["blis: note: mooncake: slo_class of 1 request is not kept"]
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert [(row["timestamp"], row["input_length"]) for row in rows] == [
        (0, 100),
        (2000, 200),
        (8000, 300),
    ]


def test_there_and_back(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Through the own formats nothing changes, and there is no note."""
    pytest.importorskip("pyarrow")
    names = ["a.parquet", "b.csv.gz", "c.csv", "d.parquet", "e.csv"]
    paths = [trace, *(trace.with_name(name) for name in names)]
    for source, target in itertools.pairwise(paths):
        assert converted(capsys, source, target)[1] == []
    assert paths[3].read_text() == paths[5].read_text()
    assert paths[5].read_text().splitlines()[1:] == [
        "0,100,10,gold",
        "2000000,200,20,",
        "8000000,300,30,",
    ]


@pytest.mark.parametrize(
    ("flags", "arrivals"),
    [
        (["--num-requests", "2"], ["0.000000", "2.000000"]),
        (["--start", "1s"], ["1.000000", "7.000000"]),
        (["--duration", "5s"], ["0.000000", "2.000000"]),
        (["--request-rate", "2"], ["0.000000", "0.250000", "1.000000"]),
        (["--request-rate", "inf"], ["0.000000"] * 3),
        (["--rate-scale", "0.5"], ["0.000000", "4.000000", "16.000000"]),
    ],
)
def test_filters(
    flags: list[str], arrivals: list[str], trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows and rates are chosen as in a replay."""
    target = trace.with_name("out.csv")
    converted(capsys, trace, target, "--to", "burstgpt", *flags)
    assert [line.split(",")[0] for line in target.read_text().splitlines()[1:]] == arrivals


def test_bad_rows_are_counted(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are an error with its line, or left out with a note."""
    trace.write_text(TRACE + "9,x,1,\n")
    target = trace.with_name("out.parquet")
    (error,) = refused(capsys, trace, target)
    assert f"{trace}:5: column prompt_tokens must be a whole number" in error
    assert not target.exists()
    out, err = converted(capsys, trace, trace.with_name("out.csv"), "--skip-bad-rows")
    assert "3 requests" in out
    assert "1 malformed row left out" in err[0]


def test_words_become_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Texts have their lengths by the ratio given; without times they get arrivals."""
    turns = [{"from": "human", "value": "word " * 10}, {"from": "gpt", "value": "word " * 20}]
    source, target = tmp_path / "in.json", tmp_path / "out.csv"
    source.write_text(json.dumps([{"id": "a", "conversations": turns}] * 3))
    converted(capsys, source, target, "--from", "sharegpt", "--tokens-per-word", "2")
    lengths = [line.split(",")[1:] for line in target.read_text().splitlines()[1:]]
    assert lengths == [["20", "40"]] * 3


def test_measurements_are_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a benchmark measured is no part of a load, and is counted."""
    source = tmp_path / "in.json"
    source.write_text(json.dumps(BENCH))
    _, err = converted(capsys, source, tmp_path / "out.csv")
    assert err[-1] == "blis: note: csv: measured latencies of 2 requests are not kept"


def test_strict_writes_all_or_nothing(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A loss is exit 1 without a file; without losses strict changes nothing."""
    target = trace.with_name("out.csv")
    *notes, error = refused(capsys, trace, target, "--to", "azure", "--strict", exit_code=1)
    assert notes == ["blis: note: azure: slo_class of 1 request is not kept"]
    assert "--strict: OUT must hold all of IN; got Azure LLM inference CSV" in error
    assert list(trace.parent.iterdir()) == [trace]
    trace.write_text(LENGTHS)
    assert converted(capsys, trace, target, "--to", "azure", "--strict")[1] == []


def test_existing_files_are_kept(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only --force replaces a file, and never the input; a pair of files counts as both."""
    target = trace.with_name("out.csv")
    target.write_text("mine")
    (error,) = refused(capsys, trace, target)
    assert "OUT must be a new file; got" in error
    assert error.endswith("which exists; --force replaces it")
    (error,) = refused(capsys, trace, trace.with_name("out.yaml"))
    assert f"got {target}, which exists" in error
    assert target.read_text() == "mine"
    converted(capsys, trace, target, "--force")
    assert target.read_text().startswith("arrival_us,")
    link = trace.with_name("link.csv")
    link.symlink_to(trace)
    for same in (trace, link):
        (error,) = refused(capsys, trace, same, "--force")
        assert "OUT must be another file than the input" in error
    assert trace.read_text() == TRACE


def test_a_pair_is_not_written_over_itself(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The data beside a TraceV2 header is an input, too."""
    pair = trace.with_name("pair.yaml")
    out, _ = converted(capsys, trace, pair)
    assert f"{pair} and {pair.with_suffix('.csv')}" in out
    (error,) = refused(capsys, pair, pair.with_suffix(".csv"), "--force")
    assert "OUT must be another file than the input" in error


def test_a_device_gets_nothing_but_the_trace(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It needs no --force, and the line about it goes to stderr: stdout may be the device."""
    out, err = converted(capsys, trace, "/dev/null", "--to", "csv")
    assert out == ""
    assert "written to /dev/null (blis_sim CSV)" in err[-1]


def test_a_workload_spec_is_no_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command that makes a trace of it is named."""
    spec = tmp_path / "spec.yaml"
    spec.write_text("workload: {num_requests: 3}\n")
    (error,) = refused(capsys, spec, tmp_path / "out.csv")
    assert "IN must be a trace; got" in error
    assert "blis workload generate" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["out.foo"], "a trace file must end in .csv"),
        (["out.csv", "--to", "guidellm"], "got guidellm, which holds what a benchmark measured"),
        (["out.csv", "--to", "azur"], "trace format must be a known name; got 'azur'; nearest:"),
        (["out.csv", "--from", "azur"], "trace format must be a known name; got 'azur'; nearest:"),
        (["no/out.csv"], "OUT must be a file in an existing folder"),
        (["out.csv", "--num-requests", "0"], "--num-requests must be"),
        (["out.csv", "--rate-scale", "-1"], "--rate-scale must be"),
        (["out.csv", "--start", "5"], "--start must be a time with its unit"),
        (["out.csv", "--start", "99s"], "start_s"),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: list[str], message: str, trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, one line, no file."""
    (error,) = refused(capsys, trace, trace.parent / arguments[0], *arguments[1:])
    assert error.startswith("blis: error: ")
    assert message in error
    assert list(trace.parent.iterdir()) == [trace]
