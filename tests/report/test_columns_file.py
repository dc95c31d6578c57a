from __future__ import annotations

import csv
import gzip
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.errors import ConfigError, MissingExtraError
from blis_sim.metrics.columns import Column
from blis_sim.report import columns_file
from blis_sim.report.columns_file import check_table_path, write_columns

LABELS = ["plain", "", "with, comma", 'with "quotes"', "50 %s\nnext line"]


def plain_cell(column: Column, row: int) -> str:
    """One cell by the definition, without any shortcut."""
    if column.present is not None and not column.present[row]:
        return ""
    value = int(column.data[row])
    if column.labels is not None:
        return column.labels[value]
    if not column.decimals:
        return str(value)
    return f"{Decimal(value).scaleb(-column.decimals):.{column.decimals}f}"


@st.composite
def tables(draw: st.DrawFn) -> list[Column]:
    num_rows = draw(st.integers(0, 9))

    def array(values: st.SearchStrategy[int]) -> list[int]:
        return draw(st.lists(values, min_size=num_rows, max_size=num_rows))

    columns = []
    for number in range(draw(st.integers(1, 5))):
        labels = LABELS if draw(st.booleans()) else None
        decimals = 0 if labels else draw(st.sampled_from([0, 3, 6]))
        values = st.integers(0, len(LABELS) - 1) if labels else st.integers(-(10**6), 10**7)
        data = array(st.just(draw(values)) if draw(st.booleans()) else values)
        present = draw(st.sampled_from(["always", "mixed", "never"]))
        mask = np.array(array(st.integers(0, 1)) if present == "mixed" else [0] * num_rows)
        columns.append(
            Column(
                f"c{number}",
                np.array(data, dtype=np.int64),
                None if present == "always" else mask.astype(np.bool_),
                decimals,
                labels,
            )
        )
    return columns


@given(tables())
def test_csv_reads_back_cell_by_cell(
    tmp_path_factory: pytest.TempPathFactory, columns: list[Column]
) -> None:
    """Whatever is absent, constant or in need of quotes, each cell reads back as defined."""
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns_file, "_CHUNK_ROWS", 4)
        write_columns(columns, path, "--out")
    with path.open(newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    assert header == [column.name for column in columns]
    num_rows = columns[0].data.size
    expected = [[plain_cell(column, row) for column in columns] for row in range(num_rows)]
    # A lone empty cell is an empty line, which the reader gives as no cells.
    assert [row or [""] for row in rows] == expected


def make_column(*values: int, **more: object) -> Column:
    return Column("x", np.array(values, dtype=np.int64), **more)  # type: ignore[arg-type]


def test_decimals_keep_their_zeros(tmp_path: Path) -> None:
    """A column with three decimals shows three, also behind small and whole numbers."""
    path = tmp_path / "t.csv"
    write_columns([make_column(5, 1_000, 123_456, 0, decimals=3)], path, "--out")
    assert path.read_text().split() == ["x", "0.005", "1.000", "123.456", "0.000"]


def test_gzip_is_the_same_text_and_the_same_bytes(tmp_path: Path) -> None:
    """A compressed table holds the CSV, and nothing that changes between runs."""
    columns = [make_column(1, 2, 3)]
    for name in ("a.csv", "a.csv.gz", "b.csv.gz"):
        write_columns(columns, tmp_path / name, "--out")
    packed = (tmp_path / "a.csv.gz").read_bytes()
    assert gzip.decompress(packed) == (tmp_path / "a.csv").read_bytes()
    assert packed == (tmp_path / "b.csv.gz").read_bytes()


def test_parquet_reads_back(tmp_path: Path) -> None:
    """Parquet holds integers, decimals and texts with real nulls."""
    parquet = pytest.importorskip("pyarrow.parquet")
    half = np.array([True, False])
    columns = [
        Column("whole", np.array([4, 5])),
        Column("maybe", np.array([4, 5]), half),
        Column("ms", np.array([1_500, 7]), half, decimals=3),
        Column("label", np.array([1, 0]), half, labels=["a", "b"]),
    ]
    path = tmp_path / "t.parquet"
    write_columns(columns, path, "--out")
    assert parquet.read_table(path).to_pydict() == {
        "whole": [4, 5],
        "maybe": [4, None],
        "ms": [1.5, None],
        "label": ["b", None],
    }


@pytest.mark.parametrize("name", ["t.txt", "csv", "t.csv.zip"])
def test_unknown_suffix(tmp_path: Path, name: str) -> None:
    """The ending selects the format; the message lists the endings."""
    for call in (check_table_path, lambda path, flag: write_columns([], path, flag)):
        with pytest.raises(ConfigError, match=r"--out must be .* \.csv, \.csv\.gz, \.parquet"):
            call(tmp_path / name, "--out")


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow the message tells what to install, before the run and after it."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr(columns_file.importlib.util, "find_spec", lambda _: None)
    path = tmp_path / "t.parquet"
    with pytest.raises(MissingExtraError, match=r"pip install 'blis-sim\[parquet\]'"):
        check_table_path(path, "--out")
    with pytest.raises(MissingExtraError, match="writing Parquet needs the package 'pyarrow'"):
        write_columns([make_column(1)], path, "--out")
    assert list(tmp_path.iterdir()) == []


def test_check_covers_the_folder(tmp_path: Path) -> None:
    """A good ending in a folder that does not exist is refused too."""
    check_table_path(tmp_path / "t.CSV", "--out")
    with pytest.raises(ConfigError, match="--out must be a file in an existing folder"):
        check_table_path(tmp_path / "no" / "t.csv", "--out")
