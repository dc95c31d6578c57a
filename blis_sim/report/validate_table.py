"""``blis validate``: measured and predicted figures, and what their errors amount to, as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from blis_sim.report.number_words import ABSENT, counted
from blis_sim.report.text_columns import text_columns
from blis_sim.validation.compare import Compared, ValidatedRow
from blis_sim.validation.figures import FIGURES, Figure
from blis_sim.validation.records import WHOLE_RUN
from blis_sim.validation.shipped import LeftOut
from blis_sim.validation.summary import ErrorSummary, summarize, summarize_groups
from blis_sim.validation.validate import ValidatedRequests, Validation

WIDTH = 100
_MAX_NOTICES = 20
_OF_ERRORS = ("MAPE", "median", "bias")
_GROUPINGS = {
    "model": "By model",
    "gpu": "By GPU",
    "model_gpu": "By model and GPU",
    "tp": "By tensor parallel size",
    "load": "By load",
    "in_flight": "By requests in flight (measured rate x E2E)",
}
_WORDS = {"ttft": "TTFT", "tpot": "TPOT", "e2e": "E2E"}


def render_validation(
    validation: Validation, left_out: Sequence[LeftOut] = (), *, has_rows: bool = True
) -> str:
    """Return everything as text, without a final newline.

    Parameters
    ----------
    validation : Validation
        What came out.
    left_out : sequence of LeftOut
        Published rows that are not in the table.
    has_rows : bool
        Whether each experiment is shown, or only what they amount to.
    """
    rows = validation.rows
    lines: list[str] = []
    if rows:
        lines += [*_experiments(rows), ""] if has_rows else []
        lines += _summary(rows)
    for each in validation.requests:
        lines += [*([""] if lines else []), *_requests(each)]
    lines += [*_notes(validation), *_left_out(left_out)]
    return "\n".join(lines)


def _shown(rows: Sequence[ValidatedRow]) -> list[Figure]:
    """Return the figures that were measured in any of the rows."""
    return [figure for figure in FIGURES if any(figure.name in row.metrics for row in rows)]


def _heading(figures: Sequence[Figure]) -> list[list[str]]:
    names = [figure.header for figure in figures]
    return [names, [figure.unit for figure in figures]]


# -- each experiment ------------------------------------------------------


def _experiments(rows: Sequence[ValidatedRow]) -> Iterator[str]:
    """Yield the figures of each experiment below its name, in columns that all share."""
    figures = _shown(rows)
    names, units = _heading(figures)
    table = [["stage", "", *names], ["", "", *units]]
    titles: list[tuple[int, str]] = []
    before: tuple[str, str] | None = None
    for row in rows:
        if (row.dataset, row.exp_id) != before:
            before = (row.dataset, row.exp_id)
            titles.append((len(table), _title(row)))
        stage = "all" if row.stage == WHOLE_RUN else str(row.stage)
        for number, (word, cells) in enumerate(_cells(row, figures)):
            table.append(["" if number else stage, word, *cells])
    lines = text_columns(table, left=(0, 1))
    yield from lines[:2]
    begins = [place for place, _ in titles]
    ends = [*begins[1:], len(lines)]
    for (begin, title), end in zip(titles, ends, strict=True):
        yield from textwrap.wrap(title, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
        yield from lines[begin:end]


def _title(row: ValidatedRow) -> str:
    load = f", {row.load}" if row.load else ""
    role = f" ({row.role})" if row.role else ""
    model = f", {row.latency_model}" if row.latency_model else ", not simulated"
    return f"{row.dataset} {row.exp_id}{role}: {row.model} on {row.gpu} TP{row.tp}{load}{model}"


def _cells(row: ValidatedRow, figures: Sequence[Figure]) -> Iterator[tuple[str, list[str]]]:
    """Yield three lines: measured, predicted, error."""
    found = [(figure, row.metrics.get(figure.name)) for figure in figures]
    yield "measured", [_number(c.measured if c else None, f.decimals) for f, c in found]
    yield "predicted", [_number(c.predicted if c else None, f.decimals) for f, c in found]
    yield "error %", [_signed(c.error_pct if c else None) for _, c in found]


def _number(value: float | None, decimals: int) -> str:
    return ABSENT if value is None else f"{value:,.{decimals}f}"


def _signed(value: float | None) -> str:
    return ABSENT if value is None else f"{value:+.1f}"


# -- in all ---------------------------------------------------------------


def _summary(rows: Sequence[ValidatedRow]) -> Iterator[str]:
    figures = _shown(rows)
    names, _ = _heading(figures)
    table = [[f"Errors in % over {counted(len(rows), 'row')}", "", "", *names]]
    table += _summary_cells("all", len(rows), summarize(rows), figures)
    simulated = [row for row in rows if not row.reason]
    if 0 < len(simulated) < len(rows):
        summaries = summarize(simulated)
        table += _summary_cells("those simulated", len(simulated), summaries, figures)
    titles: list[tuple[int, str]] = []
    by = summarize_groups(rows)
    if len(by["model_gpu"]) == max(len(by["model"]), len(by["gpu"])):
        del by["model_gpu"]  # it would repeat the other
    for grouping, groups in by.items():
        if len(groups) > 1:
            titles.append((len(table), _GROUPINGS[grouping]))
            for name, summaries in groups.items():
                size = max((each.n for each in summaries.values()), default=0)
                table += _summary_cells(name, size, summaries, figures)
    lines = text_columns(table, left=(0, 2))
    for number, line in enumerate(lines):
        yield from (title for place, title in titles if place == number)
        yield line


def _summary_cells(
    name: str,
    size: int,
    summaries: Mapping[str, ErrorSummary],
    figures: Sequence[Figure],
) -> Iterator[list[str]]:
    found = [summaries.get(figure.name) for figure in figures]
    values = {
        "MAPE": [_number(each.mape if each else None, 1) for each in found],
        "median": [_number(each.median_ape if each else None, 1) for each in found],
        "bias": [_signed(each.bias if each else None) for each in found],
    }
    for number, word in enumerate(_OF_ERRORS):
        first = ("", "") if number else (name, str(size))
        yield [*first, word, *values[word]]


# -- requests one by one --------------------------------------------------


def _requests(validated: ValidatedRequests) -> Iterator[str]:
    case, answer = validated.case, validated.answer
    title = (
        f"Requests one by one, {validated.served.path.name}: {case.model} on {case.gpu} "
        f"TP{case.tp}, {answer.num_completed:,} of {validated.served.num_requests:,} compared"
    )
    if answer.latency_model:
        title += f", {answer.latency_model}"
    yield from textwrap.wrap(title, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    if answer.reason:
        return
    table = [
        ["", "measured", "predicted", "error", "median |error|", "Wasserstein"],
        ["", "mean ms", "mean ms", "%", "%", "ms"],
    ]
    for name, times in answer.times.items():
        mean: Compared = times.mean
        decimals = 2 if name == "tpot" else 1
        table.append(
            [
                _WORDS[name],
                _number(mean.measured, decimals),
                _number(mean.predicted, decimals),
                _signed(mean.error_pct),
                _number(times.median_abs_error_pct, 1),
                _number(times.wasserstein_ms, decimals),
            ]
        )
    yield from text_columns(table)


# -- what was not compared -------------------------------------------------


def _left_out(left_out: Sequence[LeftOut]) -> Iterator[str]:
    """Yield how many published rows are not in the table, by reason."""
    if not left_out:
        return
    counts: dict[str, int] = {}
    for each in left_out:
        counts[each.reason] = counts.get(each.reason, 0) + each.num_rows
    yield ""
    yield f"Not in the table: {counted(sum(counts.values()), 'published row')}, not simulated"
    table = [
        [reason, f"{counts[reason]:,}"] for reason in sorted(counts, key=lambda r: -counts[r])
    ]
    yield from text_columns(table, left=(0,))


# -- what one should know -------------------------------------------------


def _notes(validation: Validation) -> Iterator[str]:
    """Yield reasons and notices, each once with the number of rows it is of."""
    rows = validation.rows
    failed = [row for row in rows if row.reason]
    notes: dict[str, None] = {}
    if failed:
        notes[
            f"{counted(len(failed), 'row')} could not be simulated: every error of them counts "
            "as 100 %"
        ] = None
    for row in failed:
        notes[f"{row.dataset} {row.exp_id}: {row.reason}"] = None
    for each in validation.requests:
        if each.answer.reason:
            notes[f"{each.served.path.name}: {each.answer.reason}"] = None
    counts: dict[str, int] = {}
    for row in rows:
        for notice in row.notices:
            counts[notice] = counts.get(notice, 0) + 1
    notes |= {f"{notice} ({counted(count, 'row')})": None for notice, count in counts.items()}
    for note in list(notes)[:_MAX_NOTICES]:
        yield from textwrap.wrap(
            f"note: {note}", WIDTH, subsequent_indent="  ", break_on_hyphens=False
        )
    if len(notes) > _MAX_NOTICES:
        yield f"and {len(notes) - _MAX_NOTICES} more notes (--json has them all)"
