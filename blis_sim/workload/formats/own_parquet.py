"""The package's own Parquet: the columns of its CSV with their types."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blis_sim.errors import MissingExtraError, TraceError
from blis_sim.workload.columns import ReadOptions, TraceColumns
from blis_sim.workload.own_csv import OwnCsv
from blis_sim.workload.table import Chunk, TraceTable
from blis_sim.workload.trace_file import BadRows, readable
from blis_sim.workload.trace_sample import FileSample

if TYPE_CHECKING:
    import pyarrow.parquet as pq


class OwnParquet:
    """The package's own Parquet: the columns of its CSV.

    Numbers for lengths and times, strings for labels, lists of whole numbers for
    ``block_hashes``; null is an empty cell. Needs the ``parquet`` extra.
    """

    name = "parquet"
    title = "blis_sim Parquet"

    def recognises(self, sample: FileSample) -> bool:
        """Return whether it is a Parquet file."""
        return sample.kind == "parquet"

    def read(self, path: Path, options: ReadOptions) -> TraceColumns:
        """Read the rows as those of the CSV; malformed ones are named by position, from 1."""
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise MissingExtraError("pyarrow", "parquet", "reading Parquet traces") from error
        bad_rows = BadRows(path, options.skip_bad_rows, unit="row")
        with readable(path):
            try:
                with pq.ParquetFile(path) as file:
                    header = tuple(file.schema_arrow.names)
                    table = TraceTable(path, header, 0, bad_rows, _chunks(file))
                    columns = OwnCsv().read_table(table)
            except pa.ArrowException as error:
                reason = str(error).partition("\n")[0]
                raise TraceError(f"{path}: trace must be a Parquet file; got: {reason}") from error
        columns.notices += bad_rows.notices()
        return columns


def _chunks(file: pq.ParquetFile) -> Iterator[Chunk]:
    """Yield the rows with the texts the CSV would have, and their positions from 1."""
    first = 1
    for batch in file.iter_batches():
        columns = [[_text(value) for value in column.to_pylist()] for column in batch.columns]
        yield Chunk(list(zip(*columns, strict=True)), range(first, first + batch.num_rows))
        first += batch.num_rows


def _text(value: Any) -> str:
    """Return a value as the cell of a CSV file."""
    if value is None:
        return ""
    if isinstance(value, list):
        return " ".join(map(str, value))
    # Whole numbers become floats where a column has nulls.
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
