"""The CSV traces of the BLIS simulator."""

from __future__ import annotations

from blis_sim.workload.cells import CellParser, Seconds, TokenLists
from blis_sim.workload.columns import TraceColumns, check_header
from blis_sim.workload.formats.csv_format import CsvFormat
from blis_sim.workload.table import TraceTable
from blis_sim.workload.trace_file import shown

_MAX_TOKEN_LIST_CHARS = 2**26


class BlisCsv(CsvFormat):
    """BLIS CSV traces: prompt and answer as JSON arrays of token ids.

    ``arrival_time`` (or ``arrived_at``) in seconds, ``prefill_tokens``, ``decode_tokens``;
    other columns (``request_id``, ``model``) have no meaning there either.
    """

    name = "blis"
    title = "BLIS CSV with token lists"
    signature = ("prefill_tokens", "decode_tokens")

    def read_table(self, table: TraceTable) -> TraceColumns:
        """Read the rows, keeping the lengths of the lists."""
        arrival = "arrived_at" if "arrived_at" in table.header else "arrival_time"
        columns: dict[str, CellParser] = {
            arrival: Seconds(note=" from the start of the run"),
            "prefill_tokens": TokenLists(minimum=1),
            "decode_tokens": TokenLists(minimum=0),
        }
        check_header(table, columns)
        values = table.columns(columns, max_cell_chars=_MAX_TOKEN_LIST_CHARS)
        notices = [
            f"{table.path}: the token lists count by their lengths; prompts that begin alike "
            "are not recognised as sharing a prefix"
        ]
        unused = [shown(column) for column in table.header if column not in columns]
        if unused:
            notices.append(f"{table.path}: columns without a meaning here: {', '.join(unused)}")
        return TraceColumns(
            values[arrival], values["prefill_tokens"], values["decode_tokens"], notices=notices
        )
