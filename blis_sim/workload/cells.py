"""Parsers of trace columns: text cells in, integers out, nothing accepted that is not meant.

Each parser first tries the whole column at once, with checks that run in C, and looks at
single cells only when that fails. Both ways give the same values.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from blis_sim.units import US_PER_S, seconds_to_us
from blis_sim.workload.base import MAX_TIME_US, MAX_TOKENS, Int64Array

ABSENT = -1
"""Marks an empty cell in a column that may be empty and holds nothing negative."""

ABSENT_PRIORITY = -(2**63)
"""Marks an empty cell in a column of priorities, which may be negative."""

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_TIMESTAMP = re.compile(
    r"((?:19[7-9]|20[0-9]|21[0-9])[0-9]-[0-9]{2}-[0-9]{2})[ T]([0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:\.([0-9]{1,9}))?(?:Z|\+00:00)?"
)
_NS_PER_S = 1_000_000_000
_MAX_HASH = 2**63 - 1


class BadCellError(ValueError):
    """A cell does not hold what its column must hold.

    Attributes
    ----------
    index : int
        Position of the cell among those given to the parser.
    requirement : str
        What the cell must be, to follow "column NAME must be".
    column : str or None
        The column, where the check looks at several.
    """

    def __init__(self, index: int, requirement: str, column: str | None = None) -> None:
        super().__init__(requirement)
        self.index = index
        self.requirement = requirement
        self.column = column


class CellParser(Protocol):
    """Turns the cells of one column into integers."""

    def parse(self, cells: Sequence[str]) -> Int64Array:
        """Return one integer per cell.

        Raises
        ------
        BadCellError
            At the first cell that is not acceptable.
        """
        ...


def _parse_each(
    cells: Sequence[str], one: Callable[[str], int | None], requirement: str
) -> Int64Array:
    """Parse cell by cell; ``one`` returns None for a cell that is not acceptable."""
    values = np.empty(len(cells), dtype=np.int64)
    for index, cell in enumerate(cells):
        value = one(cell.strip())
        if value is None:
            raise BadCellError(index, requirement)
        values[index] = value
    return values


@dataclass(frozen=True, slots=True)
class WholeNumbers:
    """Whole numbers in a range."""

    minimum: int
    maximum: int = MAX_TOKENS
    unit: str = "tokens"

    def parse(self, cells: Sequence[str]) -> Int64Array:
        """Return the numbers."""
        text = "".join(cells)
        # Up to 18 digits fit into 64 bits.
        if text.isascii() and text.isdigit() and all(cells) and max(map(len, cells)) <= 18:
            values = np.fromiter(map(int, cells), dtype=np.int64, count=len(cells))
            if values.min() >= self.minimum and values.max() <= self.maximum:
                return values
        return _parse_each(cells, self._one, self._requirement())

    def _one(self, cell: str) -> int | None:
        if not _WHOLE.fullmatch(cell):
            return None
        value = int(cell)
        return value if self.minimum <= value <= self.maximum else None

    def _requirement(self) -> str:
        unit = f" of {self.unit}" if self.unit else ""
        return f"a whole number{unit} from {self.minimum} to {self.maximum}"


@dataclass(frozen=True, slots=True)
class Seconds:
    """Seconds, as whole microseconds rounded half to even.

    ``note`` says, in error messages, from when the seconds count.
    """

    minimum_us: int = 0
    maximum_us: int = MAX_TIME_US
    note: str = ""

    def parse(self, cells: Sequence[str]) -> Int64Array:
        """Return the times in microseconds."""
        text = "".join(cells)
        if text.isascii() and "_" not in text and all(cells):
            try:
                seconds = np.fromiter(map(float, cells), dtype=np.float64, count=len(cells))
            except ValueError:
                seconds = np.array([np.nan])
            # NaN fails every comparison.
            if seconds.min() >= 0 and seconds.max() <= self.maximum_us / US_PER_S:
                # Up to 1e9 s, a decimal with six places or fewer comes out exact: the
                # rounding errors of the two steps stay below a quarter of a microsecond.
                microseconds = np.rint(seconds * US_PER_S)
                if microseconds.min() >= self.minimum_us:
                    return microseconds.astype(np.int64)
        return _parse_each(cells, self._one, self._requirement())

    def _one(self, cell: str) -> int | None:
        if not _DECIMAL.fullmatch(cell):
            return None
        seconds = float(cell)
        if not 0 <= seconds <= self.maximum_us / US_PER_S:
            return None
        value = seconds_to_us(seconds)
        return value if value >= self.minimum_us else None

    def _requirement(self) -> str:
        low = f"{self.minimum_us / US_PER_S:.6f}" if self.minimum_us else "0"
        return f"seconds{self.note}, {low} to {self.maximum_us // US_PER_S}"


@dataclass(frozen=True, slots=True)
class OptionalCells:
    """A column whose cells may be empty; ``empty`` is what an empty cell means."""

    parser: CellParser
    empty: int = ABSENT

    def parse(self, cells: Sequence[str]) -> Int64Array:
        """Return the values, ``empty`` where the cell is empty or blank."""
        stripped = [cell.strip() for cell in cells]
        given = np.fromiter(map(bool, stripped), dtype=bool, count=len(stripped))
        values = np.full(len(stripped), self.empty, dtype=np.int64)
        if given.any():
            try:
                values[given] = self.parser.parse([cell for cell in stripped if cell])
            except BadCellError as error:
                error.index = int(np.flatnonzero(given)[error.index])
                error.requirement += " or empty"
                raise
        return values


@dataclass(slots=True)
class Labels:
    """Free text as numbers 0, 1, 2, … into ``names``; an empty cell is ``ABSENT``."""

    names: dict[str, int] = field(default_factory=dict)

    def parse(self, cells: Sequence[str]) -> Int64Array:
        """Return the numbers of the labels, adding new ones to ``names``."""
        if not "".join(cells).isprintable():
            # An undecodable byte is a lone surrogate here, which is not printable either.
            bad = next(i for i, cell in enumerate(cells) if not cell.isprintable())
            raise BadCellError(bad, "printable UTF-8 text")
        names = self.names
        codes = [
            names.setdefault(label, len(names)) if (label := cell.strip()) else ABSENT
            for cell in cells
        ]
        return np.array(codes, dtype=np.int64)


@dataclass(slots=True)
class NumberLists:
    """Whole numbers >= 0 separated by blanks, as positions 0, 1, 2, … of lists kept here.

    An empty cell is ``ABSENT``.
    """

    _flat: array[int] = field(default_factory=lambda: array("q"))
    _ends: array[int] = field(default_factory=lambda: array("q"))

    def parse(self, cells: Sequence[str]) -> Int64Array:
        """Return the positions of the lists, keeping their numbers."""
        requirement = "whole numbers >= 0 separated by blanks, or empty"
        return _parse_each(cells, self._one, requirement)

    def _one(self, cell: str) -> int | None:
        texts = cell.split()
        if not texts:
            return ABSENT
        digits = "".join(texts)
        if not (digits.isascii() and digits.isdigit() and max(map(len, texts)) <= 19):
            return None
        numbers = [int(text) for text in texts]
        if max(numbers) > _MAX_HASH:
            return None
        self._flat.extend(numbers)
        self._ends.append(len(self._flat))
        return len(self._ends) - 1

    def lengths(self, positions: Int64Array) -> Int64Array:
        """Return how many numbers the lists at these positions have; 0 for ``ABSENT``."""
        lengths = np.zeros(len(positions), dtype=np.int64)
        given = positions[positions != ABSENT]
        if not len(given):
            return lengths
        ends = np.frombuffer(self._ends, dtype=np.int64)
        starts = np.where(given > 0, ends[given - 1], 0)
        lengths[positions != ABSENT] = ends[given] - starts
        return lengths

    def lists(self) -> tuple[Int64Array, Int64Array]:
        """Return all numbers, one list after the other, and where each list ends."""
        return np.array(self._flat, dtype=np.int64), np.array(self._ends, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Timestamps:
    """UTC or zoneless timestamps (1970 to 2199), as nanoseconds since 1970."""

    def parse(self, cells: Sequence[str]) -> Int64Array:
        """Return the times in nanoseconds: integers all the way, no digit is lost."""
        matches = [_TIMESTAMP.fullmatch(cell.strip()) for cell in cells]
        requirement = "a timestamp such as 2023-11-16 18:15:46.6805900 (no zone, or UTC)"
        if None in matches:
            raise BadCellError(matches.index(None), requirement)
        parts = [match.groups(default="0") for match in matches if match]
        stamps = [f"{day}T{time}" for day, time, _ in parts]
        try:
            seconds = np.array(stamps, dtype="datetime64[s]").astype(np.int64)
        except ValueError:
            bad = next(i for i, stamp in enumerate(stamps) if not _is_date(stamp))
            raise BadCellError(bad, requirement) from None
        fraction_ns = [int(fraction.ljust(9, "0")) for _, _, fraction in parts]
        return seconds * _NS_PER_S + np.array(fraction_ns, dtype=np.int64)


def _is_date(stamp: str) -> bool:
    try:
        np.datetime64(stamp, "s")
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class TokenLists:
    """JSON arrays of token ids, as their lengths."""

    minimum: int

    def parse(self, cells: Sequence[str]) -> Int64Array:
        """Return the lengths in tokens."""
        requirement = f"a JSON array of at least {self.minimum} token ids (whole numbers >= 0)"
        return _parse_each(cells, self._one, requirement)

    def _one(self, cell: str) -> int | None:
        try:
            tokens = json.loads(cell)
        except (ValueError, RecursionError):
            return None
        if not isinstance(tokens, list) or len(tokens) < self.minimum:
            return None
        if not all(type(token) is int and token >= 0 for token in tokens):
            return None
        return len(tokens)
