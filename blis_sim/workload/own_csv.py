"""The package's own trace format."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from blis_sim.workload.base import MAX_TIME_US, Int64Array
from blis_sim.workload.cells import (
    ABSENT,
    BadCellError,
    CellParser,
    Labels,
    OptionalCells,
    Seconds,
    WholeNumbers,
)
from blis_sim.workload.columns import LabelColumn, TraceColumns, check_header
from blis_sim.workload.table import TraceTable, shown

_MIN_PRIORITY = -(2**31)


class OwnCsv:
    """The package's own CSV.

    ``arrival_s`` (seconds) or ``arrival_us`` (whole microseconds), ``prompt_tokens``,
    ``output_tokens``, and optionally the other fields of RequestSpec, with ``timeout_s`` and
    ``abort_s`` in seconds. Optional cells may be empty.
    """

    name = "csv"
    title = "blis_sim CSV"

    def recognises(self, header: tuple[str, ...]) -> bool:
        """Return True: what no other format claims is taken for ours, and checked."""
        return True

    def read(self, table: TraceTable) -> TraceColumns:
        """Read the rows and check those columns of a row that depend on one another."""
        parsers = _own_parsers()
        self._check_header(table, parsers)
        labels = {c: p for c, p in parsers.items() if isinstance(p, Labels)}
        present = {column: parsers[column] for column in table.header}
        values = table.columns(present, check=_check_own_rows)
        arrival_us = values["arrival_us" if "arrival_us" in values else "arrival_s"]

        def label(column: str) -> LabelColumn | None:
            if column not in values:
                return None
            return LabelColumn(values[column], tuple(labels[column].names))

        return TraceColumns(
            arrival_us=arrival_us,
            prompt_tokens=values["prompt_tokens"],
            output_tokens=values["output_tokens"],
            max_output_tokens=values.get("max_output_tokens"),
            prefix_group=label("prefix_group"),
            prefix_tokens=values.get("prefix_tokens"),
            session_id=label("session_id"),
            round=values.get("round"),
            slo_class=label("slo_class"),
            tenant=label("tenant"),
            priority=values.get("priority"),
            timeout_us=values.get("timeout_s"),
            abort_us=values.get("abort_s"),
        )

    def _check_header(self, table: TraceTable, parsers: Mapping[str, CellParser]) -> None:
        line, header = table.header_line, table.header
        if not set(header) & set(parsers):
            raise table.error(
                line,
                "first line must be a header with arrival_s or arrival_us, prompt_tokens and "
                f"output_tokens; got {shown(','.join(header))}",
            )
        required = ["prompt_tokens", "output_tokens"]
        for column, other in (
            ("prefix_tokens", "prefix_group"),
            ("prefix_group", "prefix_tokens"),
            ("round", "session_id"),
        ):
            if column in header:
                required.append(other)
        check_header(table, required, known=parsers)
        arrivals = [column for column in ("arrival_s", "arrival_us") if column in header]
        if len(arrivals) != 1:
            raise table.error(
                line,
                "header must have exactly one of the columns arrival_s (seconds) and arrival_us "
                f"(whole microseconds); got {'both' if arrivals else 'neither'}",
            )


def _own_parsers() -> dict[str, CellParser]:
    return {
        "arrival_s": Seconds(note=" from the start of the run"),
        "arrival_us": WholeNumbers(0, MAX_TIME_US, "microseconds"),
        "prompt_tokens": WholeNumbers(1),
        "output_tokens": WholeNumbers(0),
        "prefix_group": Labels(),
        "prefix_tokens": OptionalCells(WholeNumbers(0), empty=0),
        "max_output_tokens": OptionalCells(WholeNumbers(0)),
        "priority": OptionalCells(WholeNumbers(_MIN_PRIORITY, unit=""), empty=0),
        "slo_class": Labels(),
        "tenant": Labels(),
        "session_id": Labels(),
        "round": OptionalCells(WholeNumbers(0, unit=""), empty=0),
        "timeout_s": OptionalCells(Seconds(minimum_us=1, note=" after arrival")),
        "abort_s": OptionalCells(Seconds(note=" after arrival")),
    }


def _check_own_rows(values: Mapping[str, Int64Array]) -> None:
    prompt, prefix = values["prompt_tokens"], values.get("prefix_tokens")
    if prefix is not None:
        _refuse(prefix > prompt, "prefix_tokens", "at most the row's prompt_tokens")
        grouped = values["prefix_group"] != ABSENT
        _refuse((prefix > 0) & ~grouped, "prefix_group", "given in a row that has prefix_tokens")
        _refuse((prefix == 0) & grouped, "prefix_tokens", ">= 1 in a row that has a prefix_group")
    if "round" in values:
        missing = (values["round"] > 0) & (values["session_id"] == ABSENT)
        _refuse(missing, "session_id", "given in a row that has a round")


def _refuse(bad: npt.NDArray[np.bool_], column: str, requirement: str) -> None:
    if bad.any():
        raise BadCellError(int(bad.argmax()), requirement, column)
