"""What the CSV formats have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from blis_sim.workload.columns import ReadOptions, TraceColumns
from blis_sim.workload.table import TraceTable, open_table
from blis_sim.workload.trace_sample import FileSample


class CsvFormat(ABC):
    """A CSV file with a header, plain or gzip."""

    name: str
    title: str
    signature: tuple[str, ...]
    """Columns of which any one tells the format."""

    def recognises(self, sample: FileSample) -> bool:
        """Return whether it is CSV and has one of the columns that tell this format."""
        return sample.kind == "csv" and sample.has_any(*self.signature)

    def read(self, path: Path, options: ReadOptions) -> TraceColumns:
        """Read all rows."""
        with open_table(path, options.skip_bad_rows) as table:
            columns = self.read_table(table)
            columns.notices += table.bad_rows.notices()
        return columns

    @abstractmethod
    def read_table(self, table: TraceTable) -> TraceColumns:
        """Read all rows of an open table."""
