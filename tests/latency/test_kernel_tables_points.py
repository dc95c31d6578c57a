from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blis_sim.errors import CatalogError
from blis_sim.latency.kernel_tables.layout import columns_of
from blis_sim.latency.kernel_tables.points import Columns, Points, read_points

GEMM = columns_of("gemm")


def read(tmp_path: Path, text: str, columns: Columns = GEMM) -> Points:
    path = tmp_path / "table.csv"
    path.write_text(text)
    return read_points(path, columns)


def test_columns_and_rows_may_stand_in_any_order(tmp_path: Path) -> None:
    """Values are found by the name of their column."""
    points = read(tmp_path, "n,latency_us,m,k\n30,5.5,2,20\n10,4.5,1,20\n")
    assert points.values["n"].tolist() == [30, 10]
    assert points.values["m"].tolist() == [2, 1]
    assert points.latency_us.tolist() == [5.5, 4.5]
    assert np.isnan(points.mfu).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("m,k,n,latency_us,speed\n1,2,3,4,5\n", r"csv:1 must hold known columns; got 'speed'"),
        ("m,k,latency_us\n1,2,3\n", r"csv:1 must hold the columns m, k, n; missing: n"),
        ("m,k,n,m,latency_us\n1,2,3,1,4\n", r"csv:1 must name each column once; got 'm' twice"),
        ("m,k,n\n1,2,3\n", r"csv:1 must hold the column latency_us or mfu; got neither"),
        ("m,k,n,latency_us\n", r"must hold at least one row"),
        ("", r"must begin with a header line"),
        (
            "m,k,n,latency_us\n1,2,3,4\n1,2,4,x\n",
            r"csv:3:latency_us must be .*> 0 \(us\); got 'x'",
        ),
        ("m,k,n,latency_us\n1,2,3,0\n", r"csv:2:latency_us must be .*> 0 \(us\); got '0'"),
        ("m,k,n,latency_us\n1,2,3,-4\n", r"csv:2:latency_us must be .*got '-4'"),
        ("m,k,n,latency_us\n1,2,3,inf\n", r"csv:2:latency_us must be a finite .*got 'inf'"),
        ("m,k,n,latency_us\n1,2,3,nan\n", r"csv:2:latency_us must be a finite .*got 'nan'"),
        ("m,k,n,latency_us\n1,2,3.5,4\n", r"csv:2:n must be a whole number >= 1; got '3.5'"),
        ("m,k,n,latency_us\n1,0,3,4\n", r"csv:2:k must be a whole number >= 1; got '0'"),
        ("m,k,n,latency_us\n1,,3,4\n", r"csv:2:k must be a whole number >= 1; got ''"),
        ("m,k,n,latency_us\n1,2,3\n", r"csv:2 must have 4 fields"),
        ("m,k,n,mfu\n1,2,3,45\n", r"csv:2:mfu must be a share of the peak from 0 to 1"),
        ("m,k,n,mfu\n1,2,3,-0.1\n", r"csv:2:mfu must be .*got '-0.1'"),
        ("m,k,n,mfu\n1,2,3,0\n", r"must give latency_us or mfu of at least one point"),
    ],
)
def test_a_fault_is_named_with_line_and_column(tmp_path: Path, text: str, message: str) -> None:
    """Nothing that is wrong is guessed at or left out silently."""
    with pytest.raises(CatalogError, match=message):
        read(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A file that cannot be read is an error of the catalog."""
    with pytest.raises(CatalogError, match=r"none\.csv must be a readable CSV file"):
        read_points(tmp_path / "none.csv", GEMM)


def test_one_point_with_two_times_is_an_error(tmp_path: Path) -> None:
    """Both lines are named: nobody knows which is right."""
    text = "m,k,n,latency_us\n1,2,3,4\n2,2,3,5\n1,2,3,4.5\n"
    with pytest.raises(CatalogError, match=r"csv:4:m must .*\(1, 2, 3\) again.* than on line 2"):
        read(tmp_path, text)


def test_a_row_given_twice_counts_once(tmp_path: Path) -> None:
    """Collections that were put together repeat rows; the same figure harms nobody."""
    points = read(tmp_path, "m,k,n,latency_us\n1,2,3,4\n2,2,3,5\n1,2,3,4\n")
    assert points.values["m"].tolist() == [1, 2]
    assert points.latency_us.tolist() == [4, 5]


def test_cells_without_a_time_are_missing(tmp_path: Path) -> None:
    """Empty cells, and an MFU of 0 without latency, are not measured; they are never 0."""
    points = read(tmp_path, "m,k,n,latency_us,mfu\n1,2,3,,0.5\n2,2,3,,\n3,2,3,,0\n4,2,3,7,0\n")
    assert points.values["m"].tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(points.latency_us, [np.nan, np.nan, np.nan, 7])
    np.testing.assert_array_equal(points.mfu, [0.5, np.nan, np.nan, 0])
    alone = read(tmp_path, "m,k,n,mfu\n1,2,3,0.5\n2,2,3,0\n")
    np.testing.assert_array_equal(alone.mfu, [0.5, np.nan])


def test_optional_columns_have_their_defaults(tmp_path: Path) -> None:
    """A prompt without a batch column is one prompt, without kv_len it has no context."""
    points = read(tmp_path, "seq_len,latency_us\n10,5\n", columns_of("prefill"))
    assert points.values["batch"].tolist() == [1]
    assert points.values["kv_len"].tolist() == [0]
    points = read(tmp_path, "seq_len,kv_len,latency_us\n10,0,5\n10,8,6\n", columns_of("prefill"))
    assert points.values["kv_len"].tolist() == [0, 8]


def test_both_ways_of_reading_agree(tmp_path: Path) -> None:
    """Plain numbers take a fast path; text that needs care gives the same points."""
    rows = [(m, k, 64, 0.25 * m + k, round(0.001 * m, 3)) for m in (1, 8, 64) for k in (32, 128)]
    plain = "m,k,n,latency_us,mfu\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
    quoted = "m,k,n,latency_us,mfu\n" + "".join(
        f'"{r[0]}",{r[1]} ,{r[2]},{r[3]},{r[4]}\n\n' for r in rows
    )
    fast, careful = read(tmp_path, plain), read(tmp_path, quoted)
    assert fast.values.keys() == careful.values.keys()
    for name, column in fast.values.items():
        np.testing.assert_array_equal(column, careful.values[name])
    np.testing.assert_array_equal(fast.latency_us, careful.latency_us)
    np.testing.assert_array_equal(fast.mfu, careful.mfu)
