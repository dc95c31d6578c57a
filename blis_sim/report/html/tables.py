"""The tables of a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from blis_sim.capacity.study import OutcomeStatus
from blis_sim.report.averaged import AveragedPoint, Estimate
from blis_sim.report.html.page import Cell, Column, Fact, Table
from blis_sim.report.metric_words import named
from blis_sim.report.number_words import ABSENT, number
from blis_sim.report.setting_words import (
    header,
    number_of,
    point_words,
    value_words,
    varying,
)

if TYPE_CHECKING:
    from blis_sim.capacity.slo import Limit

MOST_ROWS = 1000
_MOST_NAMES = 8
_NO_WIDTH = 1e-6
"""An interval below this share of its mean is none."""
FIGURES = (
    *("request_throughput", "request_goodput", "output_throughput", "output_throughput_per_gpu"),
    *("tokens_per_s_per_user", "mean_ttft_ms", "p99_ttft_ms", "mean_tpot_ms", "p99_itl_ms"),
    *("p99_e2el_ms", "kv_usage_peak_frac", "num_preemptions"),
    *("usd_per_million_output_tokens", "usd_per_hour"),
)


def setting_column(path: str, among: Sequence[str]) -> Column:
    """Return the column of a setting."""
    return Column(header(path, among), about=path, is_number=False)


def setting_cell(path: str, labels: Mapping[str, Any]) -> Cell:
    """Return the value of a setting; a point without it has none."""
    if path not in labels:
        return Cell(ABSENT)
    value = labels[path]
    plain = number_of(value)
    shown = value_words(value, path)
    return Cell(shown, shown if plain is None else plain)


def figure_column(key: str) -> Column:
    """Return the column of a figure."""
    known = named(key)
    return Column(known.header, known.unit, known.formula)


def figure_cell(key: str, found: Estimate | float | None) -> Cell:
    """Return a figure, with half its interval where it has one."""
    if found is None:
        return Cell(ABSENT)
    estimate = found if isinstance(found, Estimate) else Estimate(float(found))
    write = named(key).write
    half = estimate.half_width
    has_width = half is not None and half > _NO_WIDTH * abs(estimate.mean)
    note = f"± {write(half)}" if has_width else ""
    return Cell(write(_plain(estimate.mean)), estimate.mean, note)


def _plain(value: float) -> float | int:
    """Return a whole number as one: a count has no decimals."""
    return int(value) if value == int(value) and abs(value) < 1e15 else value


def point_table(
    points: Sequence[AveragedPoint],
    limits: Sequence[Limit],
    chosen: AveragedPoint | None = None,
    *,
    title: str = "All combinations",
) -> Table:
    """Return a row for each point with figures."""
    done = [point for point in points if point.is_done]
    paths = list(dict.fromkeys(path for point in done for path in point.labels))
    keys = dict.fromkeys([limit.metric for limit in limits] + list(FIGURES))
    shown = [key for key in keys if any(key in point.estimates for point in done)]
    columns = [setting_column(path, paths) for path in paths]
    columns += [Column("keeps limits", is_number=False)] * bool(limits)
    columns += [figure_column(key) for key in shown]
    rows = []
    for point in done[:MOST_ROWS]:
        cells = [setting_cell(path, point.labels) for path in paths]
        if limits:
            cells.append(_verdict(point, limits))
        cells += [figure_cell(key, point.estimates.get(key)) for key in shown]
        rows.append(tuple(cells))
    marked = {number_ for number_, point in enumerate(done[:MOST_ROWS]) if point is chosen}
    return Table(title, tuple(columns), tuple(rows), frozenset(marked), _note(points, done))


def _note(points: Sequence[AveragedPoint], done: Sequence[AveragedPoint]) -> str:
    notes = ["The answer is marked."]
    most = max((point.num_done for point in points), default=1)
    if most > 1:
        notes.append(f"Means of up to {most} runs, ± half the 95 % interval.")
    if len(done) > MOST_ROWS:
        notes.append(f"{len(done) - MOST_ROWS:,} more rows are left out.")
    return " ".join(notes)


def _verdict(point: AveragedPoint, limits: Sequence[Limit]) -> Cell:
    missed = point.misses(limits)
    if point.is_saturated:
        return Cell("no", "no", "queue grows")
    return (
        Cell("no", "no", ", ".join(named(each.metric).header for each in missed))
        if missed
        else Cell("yes", "yes")
    )


def infeasible_table(points: Sequence[AveragedPoint]) -> Table | None:
    """Return each reason why something could not be simulated; None where everything could."""
    wrong = [p for p in points if p.status in (OutcomeStatus.INFEASIBLE, OutcomeStatus.FAILED)]
    paths = varying([point.labels for point in points])
    reasons: dict[tuple[str, str], list[str]] = {}
    for point in wrong:
        labels = {path: point.labels[path] for path in paths if path in point.labels}
        reasons.setdefault((str(point.status), point.reason), []).append(
            point_words(labels) or "the scenario"
        )
    return reason_table("What could not be simulated", "combination", reasons)


def reason_table(
    title: str, name: str, reasons: Mapping[tuple[str, str], Sequence[str]]
) -> Table | None:
    """Return a row for each status and reason with all that have it; None without any."""
    if not reasons:
        return None
    columns = (
        Column(f"{name}s", is_number=False),
        Column("reason", is_number=False),
        Column("status", is_number=False),
        Column("number"),
    )
    rows = [
        (
            Cell(_listed(names), names[0]),
            Cell(reason, reason),
            Cell(status, status),
            Cell(f"{len(names):,}", len(names)),
        )
        for (status, reason), names in list(reasons.items())[:MOST_ROWS]
    ]
    return Table(title, columns, tuple(rows))


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return "; ".join(names[:_MOST_NAMES]) + (f"; and {more:,} more" if more > 0 else "")


def record_table(
    title: str, name: str, records: Mapping[str, Mapping[str, Any]], keys: Iterable[str]
) -> Table | None:
    """Return a row for each part of a run; None where there are none.

    Parameters
    ----------
    title : str
    name : str
        What the parts are: the heading of the first column.
    records : mapping of str to mapping
        Figures by the names of the parts.
    keys : iterable of str
        Which figures to show; those without data anywhere are left out.
    """
    shown = [key for key in keys if any(_has(record, key) for record in records.values())]
    if not records or not shown:
        return None
    columns = (Column(name, is_number=False), *(figure_column(key) for key in shown))
    rows = [
        (Cell(each, each), *(figure_cell(key, _number(record.get(key))) for key in shown))
        for each, record in list(records.items())[:MOST_ROWS]
    ]
    more = len(records) - MOST_ROWS
    note = f"{more:,} more rows are left out." if more > 0 else ""
    return Table(title, columns, tuple(rows), note=note)


def _has(record: Mapping[str, Any], key: str) -> bool:
    return _number(record.get(key)) is not None


def _number(value: Any) -> float | None:
    return None if isinstance(value, bool) else number_of(value)


def meanings(tables: Iterable[Table]) -> tuple[Fact, ...]:
    """Return the definitions of the figures that stand in tables, each once."""
    found: dict[str, str] = {}
    for table in tables:
        for column in table.columns:
            if column.is_number and column.about and column.header:
                unit = f" ({column.unit})" if column.unit else ""
                found.setdefault(f"{column.header}{unit}", column.about)
    return tuple(Fact(name, about) for name, about in found.items())


def text_cell(value: Any) -> Cell:
    """Return a value of an answer as it is."""
    if value is None:
        return Cell(ABSENT)
    plain = _number(value)
    if plain is None:
        shown = value_words(value)
        return Cell(shown, shown)
    return Cell(number(_plain(plain)), plain)
