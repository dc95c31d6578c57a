"""Files of measurements, as they exist in the wild."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from blis_sim.calibration.served import DataKind, kind_of, read_served
from blis_sim.calibration.steps import (
    CONTEXT,
    COUNT,
    DECODES,
    DURATION,
    PREFILL_TOKENS,
    PREFILLS,
    read_steps,
)
from blis_sim.errors import TraceError
from tests.calibration.servers import write_csv

STEPS: dict[str, Any] = {"prefill_tokens": [0, 100], "num_decodes": [3, 4], "step_ms": [8, 9.5]}
REQUESTS: dict[str, Any] = {
    "arrival_s": [2, 1.5],
    "prompt_tokens": [10, 20],
    "output_tokens": [5, 1],
    "ttft_ms": [30, 40],
    "e2e_ms": [70, 40],
}
RESULT: dict[str, Any] = {
    "input_lens": [10, 20, 30],
    "output_lens": [3, 2, 0],
    "start_times": [5.0, 5.5, 6.0],
    "ttfts": [0.02, 0.03, 0.0],
    "itls": [[0.01, 0.01], [0.02], []],
    "errors": ["", "", "refused"],
}


def write_json(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_steps_in_any_unit(tmp_path: Path) -> None:
    """The name of the column says it; columns that are not known are not read."""
    log = read_steps(write_csv(tmp_path / "s.csv", STEPS | {"note": ["a", "b"]}))
    assert log.duration_us.tolist() == [8000, 9500]
    assert log.count.tolist() == [1, 1]
    micro = STEPS | {"step_us": [8, 9]}
    del micro["step_ms"]
    assert read_steps(write_csv(tmp_path / "u.csv", micro)).duration_us.tolist() == [8, 9]


def test_steps_of_jsonl_with_other_names(tmp_path: Path) -> None:
    """The names of inference-sim's logs; steps without tokens are left out."""
    rows = [
        {"batch_prefill_tokens": 5, "batch_num_decode_reqs": 1, "dt_next_us": 7.5, "n": 2},
        {"batch_prefill_tokens": 0, "batch_num_decode_reqs": 0, "dt_next_us": 7.5, "n": 1},
    ]
    path = tmp_path / "s.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    log = read_steps(path)
    assert (log.num_rows, log.count.tolist()) == (1, [2])
    assert "1 steps without tokens left out" in log.notices[0]


def test_steps_of_one_run(tmp_path: Path) -> None:
    """A log of several deployments cannot be fitted as one."""
    path = write_csv(tmp_path / "s.csv", {"exp_id": ["a", "b"], **STEPS})
    with pytest.raises(TraceError, match=r"got 2 runs in the column exp_id; choose one with --ex"):
        read_steps(path)
    assert read_steps(path, "b").num_decodes.tolist() == [4]
    with pytest.raises(TraceError, match=r"--exp-id must be a run of the log \(.*\); got 'c'"):
        read_steps(path, "c")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step_ms": [8, 0]}, r"s\.csv:3: step_ms must be a number > 0 .*; got '0'"),
        ({"step_ms": [8, "nan"]}, r":3: step_ms must be a number > 0"),
        ({"num_decodes": [-1, 2]}, r":2: num_decodes must be a number >= 0"),
        ({"num_decodes": ["", 2]}, r":2: num_decodes must be .*; got ''"),
        ({"prefill_tokens": [0, 0], "num_decodes": [0, 0]}, r"steps must have tokens; got 2"),
    ],
)
def test_wrong_steps(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """Are said with line and column."""
    with pytest.raises(TraceError, match=message):
        read_steps(write_csv(tmp_path / "s.csv", STEPS | change))


def test_steps_without_a_duration(tmp_path: Path) -> None:
    """The columns that would do are named."""
    lacking = {name: values for name, values in STEPS.items() if name != "step_ms"}
    with pytest.raises(TraceError, match="duration of a step must be in a column step_us or "):
        read_steps(write_csv(tmp_path / "s.csv", lacking))


def test_requests_of_a_table(tmp_path: Path) -> None:
    """In order of arrival, from the first; what was not completed is left out."""
    table = REQUESTS | {"status": ["completed", "completed"]}
    served = read_served(write_csv(tmp_path / "r.csv", table))
    assert served.requests.arrival_us.tolist() == [0, 500_000]
    assert served.requests.prompt_tokens.tolist() == [20, 10]
    assert served.ttft_us.tolist() == [40_000, 30_000]
    assert served.e2e_us.tolist() == [40_000, 70_000]
    one = read_served(write_csv(tmp_path / "o.csv", REQUESTS | {"status": ["completed", "x"]}))
    assert one.requests.num_requests == 1
    assert "1 requests not completed left out" in one.notices[0]


def test_requests_with_moments(tmp_path: Path) -> None:
    """Times of tokens on the clock of the arrival do as well."""
    table = {name: REQUESTS[name] for name in ("arrival_s", "prompt_tokens", "output_tokens")}
    moments = table | {"first_token_s": [2.03, 1.6], "last_token_s": [2.1, 1.6]}
    served = read_served(write_csv(tmp_path / "r.csv", moments))
    assert served.ttft_us.tolist() == [100_000, 30_000]
    early = table | {"first_token_s": [1.9, 1.6], "last_token_s": [2.1, 1.6]}
    with pytest.raises(TraceError, match=r":2: first_token_s must be at or after the arrival"):
        read_served(write_csv(tmp_path / "e.csv", early))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ttft_ms": [30, 41]}, r"r\.csv:3: the last token must be at or after the first"),
        ({"prompt_tokens": [10, 2.5]}, r":3: prompt_tokens must be a whole number > 0"),
        ({"output_tokens": [0, 0]}, r"must have requests with an answer; got none"),
        ({"arrival_s": ["x", 1]}, r":2: arrival_s must be a number >= 0"),
    ],
)
def test_wrong_requests(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """Are said with line and column."""
    with pytest.raises(TraceError, match=message):
        read_served(write_csv(tmp_path / "r.csv", REQUESTS | change))


def test_results_of_vllm_bench(tmp_path: Path) -> None:
    """E2E is TTFT and the gaps; failed requests are left out and counted."""
    served = read_served(write_json(tmp_path / "b.json", RESULT))
    assert served.requests.arrival_us.tolist() == [0, 500_000]
    assert served.ttft_us.tolist() == [20_000, 30_000]
    assert served.e2e_us.tolist() == [40_000, 50_000]
    assert "1 requests that failed" in served.notices[0]


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("start_times", "result must have start_times, when each request was sent; got none"),
        ("ttfts", r"result must have ttfts of each request"),
        ("itls", r"result must have itls \(or latencies\) of each request"),
    ],
)
def test_results_that_lack_something(tmp_path: Path, missing: str, message: str) -> None:
    """It is said what, and how to get it."""
    result = {name: values for name, values in RESULT.items() if name != missing}
    with pytest.raises(TraceError, match=message):
        read_served(write_json(tmp_path / "b.json", result))


def test_kinds_are_told_by_the_columns(tmp_path: Path) -> None:
    """What is neither is an error."""
    assert kind_of(write_csv(tmp_path / "s.csv", STEPS)) is DataKind.STEPS
    assert kind_of(write_csv(tmp_path / "r.csv", REQUESTS)) is DataKind.REQUESTS
    assert kind_of(write_json(tmp_path / "b.json", RESULT)) is DataKind.REQUESTS
    with pytest.raises(TraceError, match="not neither; got a first line 'a,b'; say which with"):
        kind_of(write_csv(tmp_path / "x.csv", {"a": [1], "b": [2]}))
    both = STEPS | {name: REQUESTS[name] for name in REQUESTS}
    with pytest.raises(TraceError, match="not both; got"):
        kind_of(write_csv(tmp_path / "y.csv", both))


def test_every_column_is_described() -> None:
    """The page has a row for each quantity of a step, with all its names."""
    page = Path(__file__).resolve().parents[2] / "docs/calibration.md"
    text = page.read_text(encoding="utf-8").partition("| column |")[2].partition("\n\n")[0]
    described = set(re.findall(r"`([a-z_]+)`", text))
    for quantity in (PREFILL_TOKENS, DECODES, DURATION, PREFILLS, CONTEXT, COUNT):
        names = {name for name in quantity.names if not name.endswith(("_ms", "_s"))}
        assert names <= described, names - described
