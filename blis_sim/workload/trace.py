"""Reading a trace file in one of the known formats.

A format is a small class with a name, a way to recognise its header, and ``read``
(:class:`~blis_sim.workload.columns.TraceFormat`). To add one, write the class and name it in
``trace_formats`` and in ``WorkloadSettings.trace_format``.
"""

from __future__ import annotations

from pathlib import Path

from blis_sim.errors import TraceError, unknown_name
from blis_sim.workload.base import MAX_TIME_US
from blis_sim.workload.cells import CellParser, Seconds, Timestamps, TokenLists, WholeNumbers
from blis_sim.workload.columns import TraceColumns, TraceFormat, check_header
from blis_sim.workload.own_csv import OwnCsv
from blis_sim.workload.table import TraceTable, open_table, shown

_MAX_TOKEN_LIST_CHARS = 2**26
_NS_PER_US = 1_000


class AzureCsv:
    """Azure LLM inference traces: ``TIMESTAMP,ContextTokens,GeneratedTokens``.

    The arrival is the time since the earliest timestamp, computed in integers and rounded to
    microseconds (half up; the timestamps have seven decimals).
    """

    name = "azure"
    title = "Azure LLM inference CSV"
    _columns = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")

    def recognises(self, header: tuple[str, ...]) -> bool:
        """Return whether any of the three column names is there."""
        return not set(self._columns).isdisjoint(header)

    def read(self, table: TraceTable) -> TraceColumns:
        """Read the rows."""
        check_header(table, self._columns, known=self._columns)
        values = table.columns(
            {
                "TIMESTAMP": Timestamps(),
                "ContextTokens": WholeNumbers(1),
                "GeneratedTokens": WholeNumbers(0),
            }
        )
        time_ns = values["TIMESTAMP"]
        arrival_us = (time_ns - time_ns.min() + _NS_PER_US // 2) // _NS_PER_US
        if arrival_us.max() > MAX_TIME_US:
            raise TraceError(
                f"{table.path}: column TIMESTAMP must span at most {MAX_TIME_US // 10**6} s; "
                f"got {arrival_us.max() // 10**6} s"
            )
        return TraceColumns(arrival_us, values["ContextTokens"], values["GeneratedTokens"])


class BlisCsv:
    """BLIS CSV traces: prompt and answer as JSON arrays of token ids.

    ``arrival_time`` (or ``arrived_at``) in seconds, ``prefill_tokens``, ``decode_tokens``;
    other columns (``request_id``, ``model``) have no meaning there either.
    """

    name = "blis"
    title = "BLIS CSV with token lists"

    def recognises(self, header: tuple[str, ...]) -> bool:
        """Return whether one of the token list columns is there."""
        return not {"prefill_tokens", "decode_tokens"}.isdisjoint(header)

    def read(self, table: TraceTable) -> TraceColumns:
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


def trace_formats() -> tuple[TraceFormat, ...]:
    """Return the formats in the order in which a header is shown to them."""
    return AzureCsv(), BlisCsv(), OwnCsv()


def read_trace(path: Path, format_name: str = "auto") -> tuple[TraceColumns, TraceFormat]:
    """Read a trace file.

    Parameters
    ----------
    path : pathlib.Path
        CSV file, plain or gzip.
    format_name : str
        Name of a format, or ``auto``: the first that recognises the header.

    Returns
    -------
    columns : TraceColumns
        All rows, in file order.
    format : TraceFormat
        The format it was read as.

    Raises
    ------
    TraceError
        If the file cannot be read or a row is malformed; names the line and the column.
    """
    formats = trace_formats()
    if format_name not in ("auto", *(f.name for f in formats)):
        known = ["auto", *(f.name for f in formats)]
        raise TraceError(unknown_name("trace format", format_name, known))
    with open_table(path) as table:
        chosen = next(
            f
            for f in formats
            if f.name == format_name or (format_name == "auto" and f.recognises(table.header))
        )
        return chosen.read(table), chosen
