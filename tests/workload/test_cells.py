from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.workload.cells import (
    ABSENT,
    BadCellError,
    CellParser,
    Labels,
    OptionalCells,
    Seconds,
    Timestamps,
    TokenLists,
    WholeNumbers,
)

TEXT = st.text(st.characters(codec="utf-8") | st.sampled_from("0123456789.eE+-_ "), max_size=8)


@given(st.lists(st.decimals(0, 999_999_999, places=6, allow_nan=False), min_size=1))
def test_seconds_with_six_places_are_exact(values: list[Decimal]) -> None:
    """A time written in seconds to the microsecond is that microsecond."""
    exact = [int(v * 1_000_000) for v in values]
    assert Seconds().parse([str(v) for v in values]).tolist() == exact
    assert Seconds().parse([f" {v:f} " for v in values]).tolist() == exact


@given(st.decimals(0, 1000, places=9, allow_nan=False))
def test_seconds_with_more_places_are_rounded(value: Decimal) -> None:
    """More digits are rounded to the nearest microsecond."""
    found = int(Seconds().parse([f"{value:f}"])[0])
    nearest = int((value * 1_000_000).quantize(Decimal(1), ROUND_HALF_EVEN))
    assert abs(found - value * 1_000_000) <= Decimal("0.500001")
    assert abs(found - nearest) <= 1


def outcome(parser: CellParser, cells: list[str]) -> list[int] | tuple[int, str]:
    try:
        return parser.parse(cells).tolist()
    except BadCellError as error:
        return error.index, error.requirement


PARSERS: list[CellParser] = [
    WholeNumbers(1),
    WholeNumbers(-5, 5, unit=""),
    Seconds(),
    Seconds(minimum_us=1),
    OptionalCells(WholeNumbers(0)),
    OptionalCells(Seconds()),
    Timestamps(),
    TokenLists(minimum=0),
]


@pytest.mark.parametrize("parser", PARSERS, ids=repr)
@given(cells=st.lists(TEXT | st.integers(-10, 2**65).map(str) | st.floats().map(str), min_size=1))
def test_a_column_is_the_sum_of_its_cells(parser: CellParser, cells: list[str]) -> None:
    """Looking at a whole column at once gives what looking at each cell alone gives."""
    alone = [outcome(parser, [cell]) for cell in cells]
    bad = [(i, result[1]) for i, result in enumerate(alone) if isinstance(result, tuple)]
    expected = bad[0] if bad else [result[0] for result in alone]
    assert outcome(parser, cells) == expected


def test_labels_are_numbered_in_order_of_appearance() -> None:
    """The same text has the same number, also in a later part of the column."""
    labels = Labels()
    assert labels.parse(["b", "", " a ", "b"]).tolist() == [0, ABSENT, 1, 0]
    assert labels.parse(["c", "a", " "]).tolist() == [2, 1, ABSENT]
    assert list(labels.names) == ["b", "a", "c"]


def test_timestamps_keep_every_digit() -> None:
    """Nanoseconds since 1970, in integers: 2001-09-09 01:46:40 is a billion seconds."""
    cells = ["2001-09-09 01:46:40.6805900", "2001-09-09T01:46:40Z", "1970-01-01 00:00:00.1+00:00"]
    assert Timestamps().parse(cells).tolist() == [10**18 + 680_590_000, 10**18, 10**8]
