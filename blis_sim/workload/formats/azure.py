"""The Azure LLM inference traces of 2023 and 2024."""

from __future__ import annotations

from blis_sim.errors import TraceError
from blis_sim.workload.base import MAX_TIME_US
from blis_sim.workload.cells import Timestamps, WholeNumbers
from blis_sim.workload.columns import TraceColumns, check_header
from blis_sim.workload.formats.csv_format import CsvFormat
from blis_sim.workload.table import TraceTable

_NS_PER_US = 1_000


class AzureCsv(CsvFormat):
    """Azure LLM inference traces: ``TIMESTAMP,ContextTokens,GeneratedTokens``.

    The arrival is the time since the earliest timestamp, computed in integers and rounded to
    microseconds, half up. The timestamps of 2023 have seven decimals and no zone; those of
    2024 have six or none, and ``+00:00``.
    """

    name = "azure"
    title = "Azure LLM inference CSV"
    signature = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")

    def read_table(self, table: TraceTable) -> TraceColumns:
        """Read the rows."""
        check_header(table, self.signature, known=self.signature)
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
