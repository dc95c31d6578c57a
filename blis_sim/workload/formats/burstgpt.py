"""The BurstGPT traces."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from blis_sim.errors import TraceError
from blis_sim.workload.base import Int64Array
from blis_sim.workload.cells import CellParser, Seconds, WholeNumbers
from blis_sim.workload.columns import TraceColumns, check_header, refuse
from blis_sim.workload.formats.csv_format import CsvFormat
from blis_sim.workload.table import TraceTable
from blis_sim.workload.trace_file import shown

_TIME, _PROMPT, _OUTPUT = "Timestamp", "Request tokens", "Response tokens"


class BurstGptCsv(CsvFormat):
    """BurstGPT traces: seconds from the trace's start, prompt and answer lengths.

    ``Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type``; later files add
    ``Session ID`` and ``Elapsed time``. A session does not say which tokens its requests
    share, so it is not used. Rows with 0 response tokens are failed requests: they are left
    out and counted.
    """

    name = "burstgpt"
    title = "BurstGPT CSV"
    signature = (_PROMPT, _OUTPUT)

    def read_table(self, table: TraceTable) -> TraceColumns:
        """Read the rows, leaving the failed requests out."""
        parsers: dict[str, CellParser] = {
            _TIME: Seconds(note=" from the start of the trace"),
            _PROMPT: WholeNumbers(0),
            _OUTPUT: WholeNumbers(0),
        }
        check_header(table, parsers)
        values = table.columns(parsers, check=_check_rows)
        answered = np.flatnonzero(values[_OUTPUT])
        failed = len(values[_OUTPUT]) - len(answered)
        if not len(answered):
            raise TraceError(
                f"{table.path}: trace must have at least one answered request; got {failed:,} "
                f"with 0 in the column {_OUTPUT}"
            )
        columns = TraceColumns(values[_TIME], values[_PROMPT], values[_OUTPUT]).take(answered)
        if failed:
            columns.notices.append(
                f"{table.path}: {failed:,} failed requests (0 response tokens) left out"
            )
        unused = [shown(name) for name in table.header if name not in parsers]
        if unused:
            columns.notices.append(f"{table.path}: columns not used: {', '.join(unused)}")
        return columns


def _check_rows(values: Mapping[str, Int64Array]) -> None:
    empty = (values[_PROMPT] == 0) & (values[_OUTPUT] > 0)
    refuse(empty, _PROMPT, "at least 1 in a row that has response tokens")
