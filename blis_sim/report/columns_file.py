"""Tables of integer columns as CSV or Parquet files."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from blis_sim.atomic import atomic_write, check_output_path, open_text
from blis_sim.errors import ConfigError, MissingExtraError, SimulationError
from blis_sim.metrics.columns import Column

if TYPE_CHECKING:
    import pyarrow as pa

    from blis_sim.metrics.records import RunData

SUFFIXES = (".csv", ".csv.gz", ".parquet")

_CHUNK_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class RunTable:
    """A table of a run that a flag asks for.

    Attributes
    ----------
    flag : str
        Takes the path; its suffix (``.csv``, ``.csv.gz``, ``.parquet``) says the format.
    columns : callable
        Pure function of the run; None = it did not keep what the table shows.
    needs : str
        What kind of run has the table, and how to get one: for the message where it has not.
    """

    flag: str
    columns: Callable[[RunData], Sequence[Column] | None]
    needs: str = ""

    def check(self, path: str | Path) -> None:
        """Check, before a run, that the table can be written; raises as `check_table_path`."""
        check_table_path(path, self.flag)

    def write(self, run: RunData, path: str | Path) -> None:
        """Write the table, whole or not at all; raises as `write_columns`, and more.

        Raises
        ------
        SimulationError
            The run did not keep what the table shows.
        """
        columns = self.columns(run)
        if columns is None:
            raise SimulationError(f"{self.flag} must follow {self.needs}")
        write_columns(columns, path, self.flag)


def check_table_path(path: str | Path, flag: str) -> None:
    """Check, before a run, that a table can be written to ``path``.

    Raises
    ------
    ConfigError
        The suffix is unknown or the path cannot be written.
    MissingExtraError
        Parquet was asked for and pyarrow is not installed.
    """
    if _suffix(path, flag) == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise _no_pyarrow()
    check_output_path(path, flag)


def write_columns(columns: Sequence[Column], path: str | Path, flag: str) -> None:
    """Write ``columns`` to ``path``, whole or not at all; its suffix says the format.

    Parameters
    ----------
    columns : sequence of Column
        All of one length.
    path : str or Path
        ``.csv``, ``.csv.gz`` or ``.parquet``.
    flag : str
        Who asked for it, for messages.

    Raises
    ------
    ConfigError
        The suffix is unknown or the file cannot be written.
    MissingExtraError
        Parquet was asked for and pyarrow is not installed.
    """
    suffix = _suffix(path, flag)
    with atomic_write(path) as temporary:
        if suffix == ".parquet":
            _write_parquet(columns, temporary)
            return
        with open_text(temporary, compressed=suffix == ".csv.gz") as stream:
            _write_csv(columns, stream)


def _suffix(path: str | Path, flag: str) -> str:
    name = Path(path).name.lower()
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return suffix
    raise ConfigError(
        f"{flag} must be a file ending in {', '.join(SUFFIXES)}; got {path}; the ending "
        "selects the format"
    )


def _write_csv(columns: Sequence[Column], stream: TextIO) -> None:
    stream.write(",".join(column.name for column in columns) + "\n")
    num_rows = columns[0].data.size
    for start in range(0, num_rows, _CHUNK_ROWS):
        rows = slice(start, min(start + _CHUNK_ROWS, num_rows))
        cells = [_cells(column, rows) for column in columns]
        template = ",".join(form for form, _ in cells) + "\n"
        fields = [values for _, lists in cells for values in lists]
        printed: Iterable[tuple[Any, ...]] = zip(*fields, strict=True)
        if not fields:  # every column is one literal
            printed = itertools.repeat((), rows.stop - rows.start)
        stream.write("".join([template % row for row in printed]))


def _cells(column: Column, rows: slice) -> tuple[str, list[list[Any]]]:
    """Return how a chunk of a column is printed, and the lists of what is printed.

    Most chunks have every value or none, and many have one value only: then no text is made
    value by value.
    """
    data = column.data[rows]
    present = None if column.present is None else column.present[rows]
    if present is not None and not present.any():
        return "", []
    is_full = present is None or bool(present.all())
    if column.labels is not None:
        texts = [*(_quoted(label) for label in column.labels), ""]
        index = data if present is None else np.where(present, data, -1)
        form, lists = "%s", [[texts[position] for position in index.tolist()]]
    else:
        form, lists = _number_cells(data, column.decimals)
    if is_full and bool((data == data[0]).all()):
        literal = form % tuple(values[0] for values in lists)
        return literal.replace("%", "%%"), []
    if is_full or column.labels is not None:
        return form, lists
    there = present.tolist() if present is not None else []
    numbers = zip(*lists, strict=True)
    return "%s", [[form % one if known else "" for one, known in zip(numbers, there, strict=True)]]


def _number_cells(data: Any, decimals: int) -> tuple[str, list[list[Any]]]:
    if not decimals:
        return "%d", [data.tolist()]
    form = f"%d.%0{decimals}d"
    whole, rest = np.divmod(np.abs(data), 10**decimals)
    if not (data < 0).any():
        return form, [whole.tolist(), rest.tolist()]
    signs = np.where(data < 0, "-", "")
    return f"%s{form}", [signs.tolist(), whole.tolist(), rest.tolist()]


def _quoted(text: str) -> str:
    """Return ``text`` as one CSV field (RFC 4180)."""
    if any(mark in text for mark in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


def _write_parquet(columns: Sequence[Column], path: Path) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise _no_pyarrow() from error
    table = pa.table({column.name: _arrow(column) for column in columns})
    pq.write_table(table, path)


def _arrow(column: Column) -> pa.Array:
    import pyarrow as pa

    absent = None if column.present is None else ~column.present
    if column.labels is not None:
        index = pa.array(column.data, mask=absent)
        return pa.array(column.labels, type=pa.string()).take(index)
    if column.decimals:
        return pa.array(column.data / 10**column.decimals, mask=absent)
    return pa.array(column.data, mask=absent)


def _no_pyarrow() -> MissingExtraError:
    return MissingExtraError("pyarrow", "parquet", "writing Parquet")
