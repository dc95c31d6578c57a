"""Block hashes of prompts: numbers that stand for a block and everything before it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from blis_sim.workload.base import Int64Array
from blis_sim.workload.columns import HashColumn

DEFAULT_HASH_BLOCK_TOKENS = 512
"""Tokens per block hash, as in the Mooncake traces."""


def hash_column(lists: Iterable[list[int]]) -> HashColumn:
    """Return the lists of block hashes of some rows as a column."""
    flat: list[int] = []
    ends: list[int] = []
    for numbers in lists:
        flat += numbers
        ends.append(len(flat))
    return HashColumn(np.array(flat, dtype=np.int64), np.array(ends, dtype=np.int64))


def num_blocks(prompt_tokens: Int64Array, hash_block_tokens: int) -> Int64Array:
    """Return how many block hashes prompts of these lengths have, the last one partial."""
    return -(-prompt_tokens // hash_block_tokens)


def prefix_complete(column: HashColumn) -> tuple[HashColumn, bool]:
    """Make equal numbers mean equal prompts up to there.

    They do if every number always follows the same one, or always begins a row; by induction
    the whole row before it is then the same too. Otherwise the numbers stand for a block's
    own content only, and all are renumbered by first appearance of (number before, number).

    Returns
    -------
    column : HashColumn
        The same column, or the renumbered one.
    renumbered : bool
        Whether it was renumbered.
    """
    hashes, ends = column.hashes, column.ends
    if not len(hashes):
        return column, False
    before = np.empty_like(hashes)
    before[1:] = hashes[:-1]
    lengths = np.diff(ends, prepend=0)
    before[(ends - lengths)[lengths > 0]] = -1
    order = np.argsort(hashes, kind="stable")
    same = hashes[order][1:] == hashes[order][:-1]
    if not (same & (before[order][1:] != before[order][:-1])).any():
        return column, False
    return HashColumn(_renumbered(hashes, lengths), ends), True


def _renumbered(hashes: Int64Array, lengths: Int64Array) -> Int64Array:
    numbers: dict[tuple[int, int], int] = {}
    renumbered: list[int] = []
    flat = iter(hashes.tolist())
    for length in lengths.tolist():
        number = -1
        for _ in range(length):
            number = numbers.setdefault((number, next(flat)), len(numbers))
            renumbered.append(number)
    return np.array(renumbered, dtype=np.int64)
