"""``blis compare``: deployments side by side, as text."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from blis_sim.capacity.compared import ComparedRun
from blis_sim.report.compare_names import deployment, notes_of, short_model
from blis_sim.report.text_columns import text_columns

WIDTH = 100
_MAX_NOTICES = 20
_MIN_NAME = 12
_LATENCY_MODEL = "latency model"
_ABOVE = ("model", "GPU", "rate", _LATENCY_MODEL)
"""Columns that stand above the table where they are left out."""
_GAP = 2


@dataclass(frozen=True, slots=True)
class Shown:
    """A figure in the table.

    Attributes
    ----------
    key : str
        Of `ComparedRun.metrics`.
    header, unit : str
        Lines above the numbers; each word of the unit has one.
    decimals : int
        Digits after the point.
    """

    key: str
    header: str
    unit: str
    decimals: int


SHOWN = (
    Shown("mean_ttft_ms", "TTFT", "mean ms", 1),
    Shown("p99_ttft_ms", "TTFT", "p99 ms", 1),
    Shown("mean_tpot_ms", "TPOT", "mean ms", 2),
    Shown("p99_itl_ms", "ITL", "p99 ms", 2),
    Shown("mean_e2el_ms", "E2E", "mean ms", 0),
    Shown("output_throughput", "output", "tok/s", 1),
    Shown("output_throughput_per_gpu", "per GPU", "tok/s", 1),
)
_GOODPUT = Shown("request_goodput", "goodput", "req/s", 2)
_GPU_HOURS = Shown("gpu_hours", "GPU-h", "", 3)


@dataclass(frozen=True, slots=True)
class _Column:
    """A column: up to three lines of header, then a cell for each row.

    The lower its ``rank`` the sooner it is left out where the table is too wide; None = never.
    """

    header: tuple[str, ...]
    cells: list[str]
    is_left: bool = False
    rank: int | None = None

    @property
    def width(self) -> int:
        return max(map(len, (*self.header, *self.cells)))


def render_comparison(rows: Sequence[ComparedRun]) -> str:
    """Return the comparison as text, without a final newline.

    What all rows have in common stands above the table. A table that would be wider than
    `WIDTH` has fewer columns.

    Parameters
    ----------
    rows : sequence of ComparedRun
        At least one.
    """
    every = list(_columns(rows))
    columns = _fitting(every)
    headers = {column.header for column in columns}
    lines = [*_title(rows, {header[0] for header in headers})]
    depth = max(len(column.header) for column in columns)
    cells = [
        [*column.header, *[""] * (depth - len(column.header)), *column.cells] for column in columns
    ]
    left = [number for number, column in enumerate(columns) if column.is_left]
    table = text_columns(list(zip(*cells, strict=True)), left)
    rule = "-" * max(map(len, table))
    lines += [rule, *table[:depth], rule, *table[depth:], rule]
    unseen = [_words(c) for c in every if c.header not in headers and c.header[0] not in _ABOVE]
    if unseen:
        lines += _wrapped(f"left out for its width: {', '.join(unseen)} (--csv has all)")
    notes = notes_of(rows)
    for note in notes[:_MAX_NOTICES]:
        lines += _wrapped(f"note: {note}")
    if len(notes) > _MAX_NOTICES:
        lines.append(f"and {len(notes) - _MAX_NOTICES} more notes (--json has them all)")
    return "\n".join(lines)


def _title(rows: Sequence[ComparedRun], headers: Collection[str]) -> Iterator[str]:
    """Yield what the rows have in common, and what stands in no column."""
    if "model" not in headers:
        yield from _by_row("model", [(row.name, row.model) for row in rows])
    if "GPU" not in headers:
        yield from _by_row("GPUs", [(row.name, deployment(row)) for row in rows])
    if _LATENCY_MODEL not in headers:
        latency_models = [(row.name, row.latency_model) for row in rows if row.latency_model]
        yield from _by_row(_LATENCY_MODEL, latency_models)
    loads = [(row.name, f"{row.load}, seed {row.seed}") for row in rows if row.load]
    yield from _by_row("load", loads)


def _by_row(what: str, said: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield each text once; where there are several, with the names of its rows."""
    names: dict[str, list[str]] = {}
    for name, text in said:
        names.setdefault(text, []).append(name)
    for text, of in names.items():
        of_rows = f" of {'; '.join(of)}" if len(names) > 1 and all(of) else ""
        yield from _wrapped(f"{what}{of_rows}: {text}")


def _columns(rows: Sequence[ComparedRun]) -> Iterator[_Column]:
    is_named = any(row.name for row in rows)
    if is_named:
        yield _Column(("scenario",), [row.name for row in rows], is_left=True)
    if len({row.model for row in rows}) > 1:
        models = [short_model(row.model) for row in rows]
        yield _Column(("model",), models, is_left=True, rank=5 if is_named else None)
    places = [deployment(row, with_tp=is_named) for row in rows]
    if not is_named or len(set(places)) > 1:
        yield _Column(("GPU",), places, is_left=True, rank=0 if is_named else None)
    if not is_named:
        yield _Column(("TP",), [_number(row.tensor_parallel_size, 0) for row in rows])
    if any(row.num_instances > 1 or row.pools[0].scaled for row in rows) or is_named:
        yield _Column(("GPUs",), [f"{round(row.gpus, 1):g}" for row in rows])
    # A row that was not simulated has no rate unless one was given.
    if len({row.request_rate for row in rows} - {None}) > 1:
        rates = [_rate(row.request_rate) for row in rows]
        yield _Column(("rate", "req/s"), rates, rank=6 if is_named else None)
    yield from _figures(rows, is_named=is_named)
    if not is_named:
        yield _Column(("KV", "blocks"), [_number(row.num_kv_blocks, 0) for row in rows], rank=1)
        answered = [row.latency_model or "not simulated" for row in rows]
        yield _Column((_LATENCY_MODEL,), answered, is_left=True, rank=5)


def _figures(rows: Sequence[ComparedRun], *, is_named: bool) -> Iterator[_Column]:
    shown = list(SHOWN)
    if any(row.metrics.get(_GOODPUT.key) is not None for row in rows):
        shown.append(_GOODPUT)
    if is_named:
        shown.append(_GPU_HOURS)
    ranks = {
        "p99_itl_ms": 2,
        "output_throughput": 3,
        "mean_e2el_ms": 4,
        "gpu_hours": 7,
        "p99_ttft_ms": 8,
    }
    for figure in shown:
        cells = [_number(row.metrics.get(figure.key), figure.decimals) for row in rows]
        header = (figure.header, *figure.unit.split())
        yield _Column(header, cells, rank=ranks.get(figure.key))


def _words(column: _Column) -> str:
    title, *unit = column.header
    return f"{title} {unit[0]}" if len(unit) > 1 else title


def _fitting(every: Sequence[_Column]) -> list[_Column]:
    """Return the columns that fit; at last the first one is cut."""
    columns = list(every)
    while _width(columns) > WIDTH:
        optional = [column for column in columns if column.rank is not None]
        if not optional:
            first = columns[0]
            room = max(first.width - (_width(columns) - WIDTH), _MIN_NAME)
            cells = [_cut(cell, room) for cell in first.cells]
            return [_Column(first.header, cells, first.is_left), *columns[1:]]
        columns.remove(min(optional, key=lambda column: column.rank or 0))
    return columns


def _width(columns: Sequence[_Column]) -> int:
    return sum(column.width + _GAP for column in columns) - _GAP


def _cut(text: str, room: int) -> str:
    """Return a text with its middle left out: names differ at both ends."""
    if len(text) <= room:
        return text
    head = (room - 3) // 2
    return f"{text[:head]}...{text[len(text) - (room - 3 - head) :]}"


def _number(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:,.{decimals}f}"


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:g}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
