from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from blis_sim.errors import MissingExtraError, TraceError
from blis_sim.workload.request import RequestSpec

from .trace_builders import make_requests, make_workload, read, write_trace


def write_parquet(folder: Path, columns: dict[str, Any], name: str = "trace.parquet") -> Path:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path = folder / name
    pq.write_table(pa.table(columns), path)
    return path


BASE: dict[str, Any] = {
    "arrival_us": [0, 5],
    "prompt_tokens": [600, 20],
    "output_tokens": [7, 8],
}


def test_columns_and_nulls(tmp_path: Path) -> None:
    """The columns of the CSV with their types; null is an empty cell."""
    more: dict[str, Any] = {
        "slo_class": ["gold", None],
        "priority": [None, -3],
        "timeout_s": [1.5, None],
        "max_output_tokens": [None, 4.0],
        "block_hashes": [[11, 12], None],
    }
    path = write_parquet(tmp_path, BASE | more, "any name")
    assert make_requests(trace=path) == [
        RequestSpec(0, 0, 600, 7, slo_class="gold", timeout_us=1_500_000, block_hashes=(11, 12)),
        RequestSpec(1, 5, 20, 8, max_output_tokens=4, priority=-3),
    ]
    assert "(blis_sim Parquet): 2 requests" in make_workload(trace=path).description


def test_seconds_are_exact(tmp_path: Path) -> None:
    """A double of seconds is the microsecond it was written as."""
    columns = {k: v for k, v in BASE.items() if k != "arrival_us"}
    path = write_parquet(tmp_path, {"arrival_s": [0.1, 123456789.654321]} | columns)
    assert [r.arrival_us for r in make_requests(trace=path)] == [100_000, 123_456_789_654_321]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"prompt_tokens": [1, 0]}, r"trace\.parquet: row 2: column prompt_tokens must be .*'0'"),
        ({"prompt_tokens": [1, 1.5]}, r": row 2: column prompt_tokens must be a whole .*'1\.5'"),
        ({"prompt_tokens": [None, 1]}, r": row 1: column prompt_tokens must be a whole .*''"),
        ({"block_hashes": [[1], None]}, r": row 1: column block_hashes must be one number per"),
        ({"tokens": [1, 2]}, r"trace\.parquet: column must be a known name; got 'tokens'"),
        ({"round": [1, 2]}, r"trace\.parquet: header must have the column session_id"),
    ],
)
def test_errors_name_row_and_column(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    """Rows count from 1."""
    path = write_parquet(tmp_path, BASE | change)
    with pytest.raises(TraceError, match=match):
        read(path)


def test_bad_rows_are_skipped(tmp_path: Path) -> None:
    """As in the CSV, with the position of the row."""
    columns = read(write_parquet(tmp_path, BASE | {"prompt_tokens": [-1, 9]}), skip=True)
    assert columns.prompt_tokens.tolist() == [9]
    assert "1 malformed row left out, the first at row 1: column prompt" in columns.notices[0]


def test_empty_and_broken_files(tmp_path: Path) -> None:
    """A table without rows and a damaged file are each one line."""
    pytest.importorskip("pyarrow")
    empty = write_parquet(tmp_path, {name: [] for name in BASE})
    with pytest.raises(TraceError, match=r"trace must have at least one request; got a header"):
        read(empty)
    with pytest.raises(TraceError, match=r"trace must be a Parquet file; got: ") as caught:
        read(write_trace(tmp_path, b"PAR1 and nothing of the kind", "x"))
    assert "\n" not in str(caught.value)


def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow the error says what to install."""
    path = write_trace(tmp_path, b"PAR1", "x")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"reading Parquet .*blis-sim\[parquet\]"):
        read(path)
