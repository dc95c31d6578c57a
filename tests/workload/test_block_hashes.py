from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.workload.block_hashes import hash_column, prefix_complete

ROWS = st.lists(st.lists(st.integers(0, 4), max_size=5), min_size=1, max_size=12)


def as_lists(column: object) -> list[tuple[int, ...]]:
    rows = column.rows(slice(0, len(column.ends)))  # type: ignore[attr-defined]
    return [row or () for row in rows]


@given(ROWS)
def test_equal_numbers_mean_equal_prefixes(rows: list[list[int]]) -> None:
    """Two rows have the same number at a place if and only if they are alike up to there."""
    column, renumbered = prefix_complete(hash_column(rows))
    found = as_lists(column)
    prefixes: dict[int, tuple[int, ...]] = {}
    for before, after in zip(rows, found, strict=True):
        assert len(before) == len(after)
        for place, number in enumerate(after):
            prefix = tuple(before[: place + 1])
            assert prefixes.setdefault(number, prefix) == prefix
    assert len(set(prefixes.values())) == len(prefixes)
    assert renumbered or found == [tuple(row) for row in rows]


def test_complete_numbers_are_kept() -> None:
    """Numbers that already stand for prefixes stay as they are in the file."""
    rows = [[70, 5], [70, 5, 9], [], [8]]
    column, renumbered = prefix_complete(hash_column(rows))
    assert not renumbered
    assert as_lists(column) == [tuple(row) for row in rows]


def test_rows_can_be_taken_in_any_order() -> None:
    """Taking rows moves their hashes with them; a negative row has none."""
    column = hash_column([[1, 2], [], [3], [4, 5, 6]])
    taken = column.take(np.array([3, -1, 0, 1, 3]))
    assert taken.rows(slice(0, 5)) == [(4, 5, 6), None, (1, 2), None, (4, 5, 6)]
    assert taken.rows(slice(2, 4)) == [(1, 2), None]
    assert column.take(np.array([], dtype=np.int64)).rows(slice(0, 9)) == []
