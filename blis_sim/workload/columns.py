"""What a trace format makes of a file: columns of integers, labels and block hashes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from blis_sim.errors import unknown_name
from blis_sim.workload.base import Int64Array
from blis_sim.workload.cells import BadCellError
from blis_sim.workload.table import TraceTable
from blis_sim.workload.trace_file import shown
from blis_sim.workload.trace_sample import FileSample

_MOST_HASH = int(np.iinfo(np.int64).max)
_SPREAD = 0x9E3779B97F4A7C15
"""Odd, and near 2**64 over the golden ratio: its multiples lie far apart."""


@dataclass(frozen=True, slots=True)
class LabelColumn:
    """Text of each row: a number into ``names`` or ``ABSENT``."""

    codes: Int64Array
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HashColumn:
    """Block hashes of each row, one row after the other: row i is [ends[i-1], ends[i]).

    A row without any has no hashes.
    """

    hashes: Int64Array
    ends: Int64Array

    def rows(self, part: slice) -> list[tuple[int, ...] | None]:
        """Return the hashes of some rows: a tuple per row, or None for a row without."""
        ends = self.ends[part].tolist()
        if not ends:
            return []
        starts = [int(self.ends[part.start - 1]) if part.start else 0, *ends[:-1]]
        first = starts[0]
        flat = self.hashes[first : ends[-1]].tolist()
        return [
            tuple(flat[start - first : end - first]) or None
            for start, end in zip(starts, ends, strict=True)
        ]

    def renewed(self, repetition: Int64Array) -> HashColumn:
        """Return hashes that are others in each replay, as different as they were."""
        lengths = np.diff(self.ends, prepend=0)
        of_each = np.repeat(repetition, lengths)
        most, least = int(self.hashes.max(initial=0)), int(self.hashes.min(initial=0))
        span, last = most - least + 1, int(repetition.max(initial=0))
        if most + span * last <= _MOST_HASH:
            return HashColumn(self.hashes + of_each * span, self.ends)
        # No room above them: they are spread over all numbers, and stay so.
        salt = of_each.astype(np.uint64) * np.uint64(_SPREAD)
        mixed = (self.hashes.astype(np.uint64) ^ salt) & np.uint64(_MOST_HASH)
        return HashColumn(np.where(of_each == 0, self.hashes, mixed.astype(np.int64)), self.ends)

    def take(self, rows: Int64Array) -> HashColumn:
        """Return the given rows, in the given order; a negative row is one without hashes."""
        row_starts = np.concatenate(([0], self.ends[:-1])) if len(self.ends) else self.ends
        given = rows >= 0
        starts, lengths = np.zeros((2, len(rows)), dtype=np.int64)
        starts[given] = row_starts[rows[given]]
        lengths[given] = self.ends[rows[given]] - starts[given]
        ends = np.cumsum(lengths)
        places = np.arange(int(ends[-1]) if len(ends) else 0)
        places += np.repeat(starts - (ends - lengths), lengths)
        return HashColumn(self.hashes[places], ends)


def _renewed_labels(column: LabelColumn | None, repetition: Int64Array) -> LabelColumn | None:
    """Return labels that are others in each replay: ``a``, ``a (replay 2)``, ..."""
    if column is None:
        return None
    num_names, last = len(column.names), int(repetition.max(initial=0))
    codes = np.where(column.codes < 0, column.codes, column.codes + num_names * repetition)
    more = (f"{name} (replay {n + 1})" for n in range(1, last + 1) for name in column.names)
    return LabelColumn(codes, (*column.names, *more))


@dataclass(slots=True)
class TraceColumns:
    """The rows of a trace in file order; None where the trace has no such column.

    Times are in microseconds and lengths in tokens. ``ABSENT`` stands for an empty cell in
    ``max_output_tokens``, ``timeout_us``, ``abort_us`` and the measured latencies,
    ``ABSENT_PRIORITY`` in ``priority``. The meaning of the columns is that of the fields of
    :class:`~blis_sim.workload.request.RequestSpec`.

    Attributes
    ----------
    arrival_us : numpy.ndarray or None
        Arrivals from the trace's time 0; None where the format has no times.
    measured_ttft_us, measured_e2e_us : numpy.ndarray or None
        Latencies a real server had, from the send to the first and to the last token; the
        truth to compare a simulation with, never an input of it.
    notices : list of str
        What a user should know about how the file was read.
    """

    arrival_us: Int64Array | None
    prompt_tokens: Int64Array
    output_tokens: Int64Array
    max_output_tokens: Int64Array | None = None
    prefix_group: LabelColumn | None = None
    prefix_tokens: Int64Array | None = None
    session_id: LabelColumn | None = None
    round: Int64Array | None = None
    slo_class: LabelColumn | None = None
    tenant: LabelColumn | None = None
    priority: Int64Array | None = None
    timeout_us: Int64Array | None = None
    abort_us: Int64Array | None = None
    prompt_id: LabelColumn | None = None
    block_hashes: HashColumn | None = None
    hash_block_tokens: int = 512
    measured_ttft_us: Int64Array | None = None
    measured_e2e_us: Int64Array | None = None
    notices: list[str] = field(default_factory=list)

    def renewed(self, repetition: Int64Array) -> TraceColumns:
        """Return the rows with sessions and prompts that are others in each replay.

        Parameters
        ----------
        repetition : numpy.ndarray
            Of each row, in which replay it stands, from 0.
        """
        hashes = self.block_hashes
        return replace(
            self,
            session_id=_renewed_labels(self.session_id, repetition),
            prompt_id=_renewed_labels(self.prompt_id, repetition),
            block_hashes=None if hashes is None else hashes.renewed(repetition),
        )

    def take(self, rows: Int64Array) -> TraceColumns:
        """Return the given rows, in the given order."""
        taken: dict[str, object] = {}
        for column in fields(self):
            value = getattr(self, column.name)
            if isinstance(value, np.ndarray):
                value = value[rows]
            elif isinstance(value, LabelColumn):
                value = LabelColumn(value.codes[rows], value.names)
            elif isinstance(value, HashColumn):
                value = value.take(rows)
            taken[column.name] = value
        return TraceColumns(**taken)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read a trace.

    Attributes
    ----------
    skip_bad_rows : bool
        Leave out malformed rows and count them; otherwise the first is an error.
    tokens_per_word : float or None
        Tokens per word of text, > 0; None = the format's default.
    """

    skip_bad_rows: bool = False
    tokens_per_word: float | None = None


class TraceFormat(Protocol):
    """One kind of trace file."""

    name: str
    """As in ``LoadSettings.trace_format``."""
    title: str
    """For people."""

    def recognises(self, sample: FileSample) -> bool:
        """Return whether a file that begins like this is of this format."""
        ...

    def read(self, path: Path, options: ReadOptions) -> TraceColumns:
        """Read all rows, at least one.

        Raises
        ------
        TraceError
            If the file is not of this format, or a row is malformed and not to be skipped.
        """
        ...


def check_header(
    table: TraceTable, required: Iterable[str], known: Collection[str] | None = None
) -> None:
    """Check the column names of a file.

    Parameters
    ----------
    table : TraceTable
        The file.
    required : iterable of str
        Columns that must be there.
    known : collection of str, optional
        All columns that may be there; any others may, too, when it is left out.

    Raises
    ------
    TraceError
        If a name is empty, unknown, missing or there twice.
    """
    line, header = table.header_line, table.header
    for position, column in enumerate(header, start=1):
        if not column:
            raise table.error(line, f"column {position} must have a name; got an empty cell")
        if known is not None and column not in known:
            raise table.error(line, unknown_name("column", column, known))
        if header.count(column) > 1:
            raise table.error(
                line,
                f"column {shown(column)} must be there once; got it {header.count(column)} times",
            )
    for column in required:
        if column not in header:
            raise table.error(
                line, f"header must have the column {column}; got {shown(','.join(header))}"
            )


def refuse(bad: npt.NDArray[np.bool_], column: str, requirement: str) -> None:
    """Raise BadCellError for the first row marked bad, if there is one."""
    if bad.any():
        raise BadCellError(int(bad.argmax()), requirement, column)
