"""The package's own trace formats: its columns, as CSV and as Parquet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from blis_sim.workload.base import MAX_TIME_US, Int64Array
from blis_sim.workload.block_hashes import DEFAULT_HASH_BLOCK_TOKENS, num_blocks, prefix_complete
from blis_sim.workload.cells import (
    ABSENT,
    ABSENT_PRIORITY,
    CellParser,
    Labels,
    NumberLists,
    OptionalCells,
    Seconds,
    WholeNumbers,
)
from blis_sim.workload.columns import (
    HashColumn,
    LabelColumn,
    TraceColumns,
    check_header,
    refuse,
)
from blis_sim.workload.formats.csv_format import CsvFormat
from blis_sim.workload.table import TraceTable
from blis_sim.workload.trace_file import shown

_MIN_PRIORITY = -(2**31)
_MAX_HASH_LIST_CHARS = 2**26


class OwnCsv(CsvFormat):
    """The package's own CSV.

    ``arrival_s`` (seconds) or ``arrival_us`` (whole microseconds), ``prompt_tokens``,
    ``output_tokens``, and optionally the other fields of RequestSpec, with ``timeout_s`` and
    ``abort_s`` in seconds and ``block_hashes`` as numbers separated by blanks. Optional cells
    may be empty.
    """

    name = "csv"
    title = "blis_sim CSV"
    signature = ("arrival_s", "arrival_us", "prompt_tokens", "output_tokens")

    def read_table(self, table: TraceTable) -> TraceColumns:
        """Read the rows and check those columns of a row that depend on one another."""
        parsers = own_parsers()
        self._check_header(table, parsers)
        present = {column: parsers[column] for column in table.header}
        lists = present.get("block_hashes")
        hashes = lists if isinstance(lists, NumberLists) else None
        values = table.columns(
            present,
            check=RowRules(hashes.lengths if hashes else np.zeros_like),
            max_cell_chars=_MAX_HASH_LIST_CHARS if hashes else None,
        )
        labels = {c: tuple(p.names) for c, p in present.items() if isinstance(p, Labels)}
        column = HashColumn(*hashes.lists()).take(values["block_hashes"]) if hashes else None
        return own_columns(values, labels, column)

    def _check_header(self, table: TraceTable, parsers: Mapping[str, CellParser]) -> None:
        line, header = table.header_line, table.header
        if not set(header) & set(parsers):
            raise table.error(
                line,
                "first line must be a header with arrival_s or arrival_us, prompt_tokens and "
                f"output_tokens; got {shown(','.join(header))}",
            )
        check_header(table, required_columns(header), known=parsers)
        if problem := arrival_problem(header):
            raise table.error(line, problem)


def own_parsers() -> dict[str, CellParser]:
    """Return the columns of the own formats with what each holds."""
    return {
        "arrival_s": Seconds(note=" from the start of the run"),
        "arrival_us": WholeNumbers(0, MAX_TIME_US, "microseconds"),
        "prompt_tokens": WholeNumbers(1),
        "output_tokens": WholeNumbers(0),
        "prefix_group": Labels(),
        "prefix_tokens": OptionalCells(WholeNumbers(0), empty=0),
        "max_output_tokens": OptionalCells(WholeNumbers(0)),
        "priority": OptionalCells(WholeNumbers(_MIN_PRIORITY, unit=""), empty=ABSENT_PRIORITY),
        "slo_class": Labels(),
        "tenant": Labels(),
        "session_id": Labels(),
        "round": OptionalCells(WholeNumbers(0, unit=""), empty=0),
        "timeout_s": OptionalCells(Seconds(minimum_us=1, note=" after arrival")),
        "abort_s": OptionalCells(Seconds(note=" after arrival")),
        "prompt_id": Labels(),
        "block_hashes": NumberLists(),
        "hash_block_tokens": OptionalCells(WholeNumbers(1), empty=DEFAULT_HASH_BLOCK_TOKENS),
    }


def required_columns(header: Iterable[str]) -> list[str]:
    """Return the columns that must be there, given those that are."""
    required = ["prompt_tokens", "output_tokens"]
    for column, other in (
        ("prefix_tokens", "prefix_group"),
        ("prefix_group", "prefix_tokens"),
        ("round", "session_id"),
        ("hash_block_tokens", "block_hashes"),
    ):
        if column in header:
            required.append(other)
    return required


def arrival_problem(header: Iterable[str]) -> str | None:
    """Return what is wrong with the arrival columns, if anything."""
    arrivals = [column for column in ("arrival_s", "arrival_us") if column in header]
    if len(arrivals) == 1:
        return None
    return (
        "header must have exactly one of the columns arrival_s (seconds) and arrival_us "
        f"(whole microseconds); got {'both' if arrivals else 'neither'}"
    )


class RowRules:
    """What the columns of a row demand of one another.

    Parameters
    ----------
    num_hashes : callable
        From the values of ``block_hashes`` to how many each row has; 0 = none.
    """

    def __init__(self, num_hashes: Callable[[Int64Array], Int64Array]) -> None:
        self._num_hashes = num_hashes
        self._block_tokens: int | None = None

    def __call__(self, values: Mapping[str, Int64Array]) -> None:
        """Raise BadCellError at the first row that contradicts itself."""
        prompt, prefix = values["prompt_tokens"], values.get("prefix_tokens")
        if prefix is not None:
            refuse(prefix > prompt, "prefix_tokens", "at most the row's prompt_tokens")
            grouped = values["prefix_group"] != ABSENT
            alone = (prefix > 0) & ~grouped
            refuse(alone, "prefix_group", "given in a row that has prefix_tokens")
            empty = (prefix == 0) & grouped
            refuse(empty, "prefix_tokens", ">= 1 in a row that has a prefix_group")
        if "round" in values:
            missing = (values["round"] > 0) & (values["session_id"] == ABSENT)
            refuse(missing, "session_id", "given in a row that has a round")
        if "block_hashes" in values:
            self._check_hashes(values, self._num_hashes(values["block_hashes"]))

    def _check_hashes(self, values: Mapping[str, Int64Array], num_hashes: Int64Array) -> None:
        hashed = num_hashes > 0
        if not hashed.any():
            return
        size, sizes = DEFAULT_HASH_BLOCK_TOKENS, values.get("hash_block_tokens")
        if sizes is not None:
            if self._block_tokens is None:
                self._block_tokens = int(sizes[hashed][0])
            size = self._block_tokens
            refuse(hashed & (sizes != size), "hash_block_tokens", f"{size} as in the rows before")
        wrong = hashed & (num_hashes != num_blocks(values["prompt_tokens"], size))
        refuse(wrong, "block_hashes", f"one number per {size} tokens of prompt_tokens")
        for column in ("prefix_group", "prompt_id"):
            if column in values:
                both = hashed & (values[column] != ABSENT)
                refuse(both, column, "empty in a row that has block_hashes")


def own_columns(
    values: Mapping[str, Int64Array],
    labels: Mapping[str, tuple[str, ...]],
    hashes: HashColumn | None,
) -> TraceColumns:
    """Return the columns of a trace in one of the own formats.

    Parameters
    ----------
    values : mapping
        Name to values, as the parsers of ``own_parsers`` give them.
    labels : mapping
        Name to the labels of those columns that hold text.
    hashes : HashColumn or None
        Block hashes of the rows.
    """

    def label(column: str) -> LabelColumn | None:
        return LabelColumn(values[column], labels[column]) if column in values else None

    block_tokens = DEFAULT_HASH_BLOCK_TOKENS
    if hashes is not None:
        hashes, _ = prefix_complete(hashes)
        hashed = np.diff(hashes.ends, prepend=0) > 0
        if "hash_block_tokens" in values and hashed.any():
            block_tokens = int(values["hash_block_tokens"][hashed][0])
    return TraceColumns(
        arrival_us=values["arrival_us" if "arrival_us" in values else "arrival_s"],
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
        prompt_id=label("prompt_id"),
        block_hashes=hashes if hashes is not None and len(hashes.hashes) else None,
        hash_block_tokens=block_tokens,
    )
