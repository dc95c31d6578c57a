"""``blis sweep`` as a table: a line per combination of settings."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blis_sim.capacity.sweep import served_short, sweep_answer, words_of
from blis_sim.errors import ConfigError, unknown_name
from blis_sim.metrics.definitions import LATENCIES, metric_definitions
from blis_sim.report.text_columns import text_columns

if TYPE_CHECKING:
    from blis_sim.capacity.slo import Limit
    from blis_sim.capacity.study import Label
    from blis_sim.capacity.sweep import SweepRow

DEFAULT_METRICS = (
    *("mean_ttft_ms", "p99_ttft_ms", "mean_tpot_ms", "p95_itl_ms", "mean_e2el_ms"),
    *("output_throughput", "output_throughput_per_gpu", "usd_per_million_output_tokens"),
)
_LEFT_OUT_FIRST = ("output_throughput", "mean_e2el_ms", "mean_ttft_ms", "p95_itl_ms")
"""Of the usual metrics, where the table would be too wide."""
_SHORT = {
    "output_throughput": "output",
    "output_throughput_per_gpu": "output",
    "usd_per_million_output_tokens": "cost",
    "request_throughput": "requests",
    "request_throughput_per_gpu": "requests",
    "total_token_throughput": "tokens",
    "total_token_throughput_per_gpu": "tokens",
    "request_goodput": "goodput",
}
_UNITS = {"usd_per_million_output_tokens": "$/M tok"}
_WIDTH = 110
_MAX_WIDTH = 130
_MAX_LABEL = 24
_MOST_ROWS = 200


def check_metrics(text: str) -> tuple[str, ...]:
    """Return the metrics of ``--metrics``, the usual ones when it is empty.

    Raises
    ------
    ConfigError
        A metric is unknown.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    statistics = ("mean", "median", "std", "p50", "p90", "p95", "p99")
    times = [f"{what}_{each.tag}_ms" for each in LATENCIES for what in statistics]
    tags = {each.tag for each in LATENCIES}
    known = [*times, *(name for name in metric_definitions() if name not in tags)]
    for name in names:
        if name not in known:
            raise ConfigError(unknown_name("--metrics", name, known))
    return tuple(dict.fromkeys(names)) or DEFAULT_METRICS


def render_sweep(
    rows: Sequence[SweepRow],
    limits: Sequence[Limit] = (),
    metrics: Sequence[str] = DEFAULT_METRICS,
) -> str:
    """Return the table, the reasons of what could not be simulated, and the answer.

    With replications a figure is the mean, and below the table stands how wide the 95 %
    intervals are at most. A table wider than 130 columns has shorter labels, and fewer of the
    usual metrics.
    """
    shown = [each for each in metrics if any(row.values(each) for row in rows)] or list(metrics)
    lines, notes = _fitted(rows[:_MOST_ROWS], limits, shown, may_leave_out=metrics)
    rule = "-" * max(map(len, lines))
    lines = [rule, *lines[:2], rule, *lines[2:], rule]
    for note in notes:
        lines += textwrap.wrap(note, _WIDTH)
    if len(rows) > _MOST_ROWS:
        lines.append(f"{len(rows) - _MOST_ROWS} more rows: --csv FILE has all")
    lines += _intervals(rows, shown)
    lines += _reasons(rows)
    lines += _short(rows)
    lines += textwrap.wrap(sweep_answer(rows, limits)["sentence"], _WIDTH)
    return "\n".join(lines)


def _fitted(
    rows: Sequence[SweepRow],
    limits: Sequence[Limit],
    shown: Sequence[str],
    *,
    may_leave_out: Sequence[str],
) -> tuple[list[str], list[str]]:
    """Return the lines of a table that is not too wide, if that can be, and what it lacks."""
    notes: list[str] = []
    labels = list(_label_columns(rows))
    lines = _lines(rows, limits, shown, labels)
    if _width(lines) <= _MAX_WIDTH:
        return lines, notes
    same = [label for label in labels if len(set(label.cells)) == 1 < len(rows)]
    if same:
        notes.append(
            f"all rows: {', '.join(f'{each.header[0]}={each.cells[0]}' for each in same)}"
        )
    labels = [label.shortened() for label in labels if label not in same]
    lines = _lines(rows, limits, shown, labels)
    left_out: list[str] = []
    for metric in _LEFT_OUT_FIRST if may_leave_out == DEFAULT_METRICS else ():
        if _width(lines) > _MAX_WIDTH and metric in shown:
            left_out.append(metric)
            kept = [each for each in shown if each not in left_out]
            lines = _lines(rows, limits, kept, labels)
    if left_out:
        notes.append(f"left out for its width: {', '.join(left_out)} (--metrics shows it)")
    return lines, notes


def _width(lines: Sequence[str]) -> int:
    return max(map(len, lines))


def _lines(
    rows: Sequence[SweepRow],
    limits: Sequence[Limit],
    shown: Sequence[str],
    labels: Sequence[_LabelColumn],
) -> list[str]:
    """Return a table with two lines of header."""
    columns = [[*label.header, *label.cells] for label in labels]
    columns += [
        [_name(metric), metric_unit(metric), *(_number(row.mean(metric)) for row in rows)]
        for metric in shown
    ]
    if limits:
        columns.append(["SLO", "", *(_verdict(row, limits) for row in rows)])
    return text_columns(list(zip(*columns, strict=True)), left=range(len(labels)))


def _verdict(row: SweepRow, limits: Sequence[Limit]) -> str:
    if not row.is_done:
        return "-"
    return "yes" if row.meets(limits) else "no"


# -- labels ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _LabelColumn:
    """A setting that sets rows apart: two lines of header, and its values."""

    header: tuple[str, str]
    cells: list[str]

    def shortened(self) -> _LabelColumn:
        """Return a narrower column that tells the same values apart."""
        cells = _if_distinct(self.cells, [cell.rpartition("/")[2] for cell in self.cells])
        cells = _if_distinct(cells, [_clipped(cell) for cell in cells])
        width = max(map(len, cells), default=0)
        first, _ = self.header
        return _LabelColumn(_split(first) if len(first) > width else self.header, cells)


def _label_columns(rows: Sequence[SweepRow]) -> Iterator[_LabelColumn]:
    paths = list(dict.fromkeys(path for row in rows for path in row.labels))
    for path in paths:
        cells = [_label(row.labels.get(path)) for row in rows]
        yield _LabelColumn((_column(path, paths), ""), cells)


def _if_distinct(before: list[str], after: list[str]) -> list[str]:
    """Return the shorter texts unless different ones have become the same."""
    return after if len(set(after)) == len(set(before)) else before


def _clipped(text: str) -> str:
    if len(text) <= _MAX_LABEL:
        return text
    kept = (_MAX_LABEL - 2) // 2
    return f"{text[:kept]}..{text[-kept:]}"


def _split(name: str) -> tuple[str, str]:
    """Return a name in two lines of nearly one length."""
    places = [place for place, sign in enumerate(name, start=1) if sign in "_."]
    if not places:
        return name, ""
    middle = min(places, key=lambda place: abs(2 * place - len(name)))
    return name[:middle], name[middle:]


def _column(path: str, paths: Sequence[str]) -> str:
    """Return the last part of a path, the whole where another one ends so, too."""
    last = path.rpartition(".")[2]
    is_alone = sum(other.rpartition(".")[2] == last for other in paths) == 1
    return last if is_alone else path


def _label(value: Label) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


# -- figures --------------------------------------------------------------------


def _name(metric: str) -> str:
    name = metric.removesuffix("_ms").removesuffix("_s").removesuffix("_frac")
    return _SHORT.get(metric, name.replace("_", " ").replace("e2el", "e2e"))


def metric_unit(metric: str) -> str:
    """Return the unit of a metric; empty where its name says it."""
    if metric in _UNITS:
        return _UNITS[metric]
    unit = "ms" if metric.endswith("_ms") else metric_definitions()[metric]["unit"]
    return "" if _name(metric).endswith(unit) else unit


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"


def _intervals(rows: Sequence[SweepRow], shown: Sequence[str]) -> Iterator[str]:
    widest: dict[str, float] = {}
    for row in rows:
        for metric in shown:
            half, mean = row.half_width(metric), row.mean(metric)
            if half is not None and mean:
                widest[metric] = max(widest.get(metric, 0.0), half / mean)
    if widest:
        number = max(len(row.outcomes) for row in rows)
        parts = (f"{_full_name(m)} {100 * share:.1f} %" for m, share in widest.items())
        text = f"means of {number} runs; 95 % intervals are at most +- {', '.join(parts)}"
        yield from textwrap.wrap(text, _WIDTH)


def _full_name(metric: str) -> str:
    return f"{_name(metric)} ({metric_unit(metric)})" if metric in _SHORT else _name(metric)


def _reasons(rows: Sequence[SweepRow]) -> Iterator[str]:
    """Yield why rows have no figures, each reason once."""
    places: dict[str, list[str]] = {}
    for row in rows:
        if row.reason:
            places.setdefault(row.reason, []).append(words_of(row.labels))
    for reason, names in places.items():
        where = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        yield from textwrap.wrap(f"not simulated: {where}: {reason}", _WIDTH)


def _short(rows: Sequence[SweepRow]) -> Iterator[str]:
    """Yield which rows served far fewer requests than were asked for, and why that may be."""
    found = [(row, rates) for row in rows if (rates := served_short(row)) is not None]
    if found:
        row, (served, asked) = found[0]
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        text = (
            f"far fewer served than asked: {words_of(row.labels)} ({served:.3g} of {asked:.3g} "
            f"requests/s){more}: that rate is not carried, or did not last: give more "
            "--num-requests or --duration"
        )
        yield from textwrap.wrap(text, _WIDTH)
