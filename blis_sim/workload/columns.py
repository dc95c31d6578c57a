"""What a trace format makes of a file: columns of integers, and labels."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, fields
from typing import Protocol

import numpy as np

from blis_sim.errors import unknown_name
from blis_sim.workload.base import Int64Array
from blis_sim.workload.table import TraceTable, shown


@dataclass(frozen=True, slots=True)
class LabelColumn:
    """Text of each row: a number into ``names`` or ``ABSENT``."""

    codes: Int64Array
    names: tuple[str, ...]


@dataclass(slots=True)
class TraceColumns:
    """The rows of a trace in file order; None where the trace has no such column.

    Times are in microseconds and lengths in tokens. ``ABSENT`` stands for an empty cell in
    ``max_output_tokens``, ``timeout_us`` and ``abort_us``. The meaning of the columns is
    that of the fields of :class:`~blis_sim.workload.request.RequestSpec`.
    """

    arrival_us: Int64Array
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
    notices: list[str] = field(default_factory=list)

    def take(self, rows: Int64Array) -> TraceColumns:
        """Return the given rows, in the given order."""
        taken: dict[str, object] = {}
        for column in fields(self):
            value = getattr(self, column.name)
            if isinstance(value, np.ndarray):
                value = value[rows]
            elif isinstance(value, LabelColumn):
                value = LabelColumn(value.codes[rows], value.names)
            taken[column.name] = value
        return TraceColumns(**taken)  # type: ignore[arg-type]


class TraceFormat(Protocol):
    """One kind of trace file."""

    name: str
    """As in ``WorkloadSettings.trace_format``."""
    title: str
    """For people."""

    def recognises(self, header: tuple[str, ...]) -> bool:
        """Return whether a file with these column names is of this format."""
        ...

    def read(self, table: TraceTable) -> TraceColumns:
        """Read all rows; raise TraceError at the first that is not acceptable."""
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
