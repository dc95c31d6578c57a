"""``blis results``: what a store holds, as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from blis_sim.capacity.study import OutcomeStatus, StudyKind
from blis_sim.capacity.sweep import stored_rows, words_of
from blis_sim.metrics.definitions import metric_definitions
from blis_sim.report.sweep_table import DEFAULT_METRICS, metric_unit, render_sweep
from blis_sim.report.text_columns import text_columns

if TYPE_CHECKING:
    from blis_sim.capacity.slo import Limit
    from blis_sim.capacity.study import Outcome, StoredPoint, Study

_WIDTH = 110
_TABLE_WIDTH = 130
_COMMENT_WIDTH = 98
_MAX_CELL = 40
UNFINISHED = "unfinished"
_STATES = (*(status.value for status in OutcomeStatus), UNFINISHED)


def render_studies(
    studies: Sequence[Study], tallies: Mapping[int, Mapping[str, int]], version: str
) -> str:
    """Return a line per study.

    Parameters
    ----------
    studies : sequence of Study
        Their points are not needed.
    tallies : mapping
        Number of a study -> state -> points, as `ResultStore.tallies` counts them.
    version : str
        That of the code that asks.
    """
    header = ["no.", "kind", "question", "points", *_STATES, "last run (UTC)", "code"]
    body = [
        [
            str(study.number),
            study.kind.value,
            textwrap.shorten(study.name, 48, placeholder=" ..."),
            *_counts(tallies.get(study.number, {})),
            _minute(study.updated_at),
            "current" if study.code_version == version else "other",
        ]
        for study in studies
    ]
    if not body:
        return "no studies"
    return "\n".join(text_columns([header, *body], left=(1, 2, 8, 9)))


def _counts(tally: Mapping[str, int]) -> list[str]:
    return [str(sum(tally.values())), *(str(tally.get(state, 0)) for state in _STATES)]


def _minute(iso: str) -> str:
    return iso[:16].replace("T", " ")


def render_study(study: Study, limits: Sequence[Limit], metrics: Sequence[str] | None) -> str:
    """Return a study as text: a sweep as its table, another one as its answer.

    Parameters
    ----------
    study : Study
        With its points.
    limits : sequence of Limit
        That it asked for.
    metrics : sequence of str or None
        Columns of the table of points; None = the usual ones, where there is such a table.
    """
    lines = list(_heading(study))
    answer = study.answer or {}
    candidates: list[str] = []
    if study.kind is not StudyKind.SWEEP:
        candidates = list(_candidates(answer.get("candidates") or answer.get("trials")))
        lines += candidates
        sentence = str(answer.get("sentence") or "It has not come to its answer.")
        lines += textwrap.wrap(sentence, _WIDTH)
    if study.points and (study.kind is StudyKind.SWEEP or metrics or not candidates):
        table = render_sweep(stored_rows(study), limits, metrics or DEFAULT_METRICS)
        # What a plan finds is not what its points would be as a sweep.
        lines += table.splitlines() if study.kind is StudyKind.SWEEP else _without_answer(table)
    return "\n".join(lines)


def _heading(study: Study) -> Iterator[str]:
    states = [
        UNFINISHED if point.outcome is None else point.outcome.status.value
        for point in study.points
    ]
    counts = ", ".join(f"{states.count(state)} {state}" for state in _STATES if state in states)
    points = f"{len(states)} points ({counts})" if states else "no points"
    head = (
        f"study {study.number}, {study.kind.value}: {study.name}; {points}; last run "
        f"{_minute(study.updated_at)} UTC, code {study.code_version}"
    )
    yield from textwrap.wrap(head, _WIDTH)


def _without_answer(table: str) -> list[str]:
    lines = table.splitlines()
    last_rule = max(n for n, line in enumerate(lines) if line.startswith("--"))
    return lines[: last_rule + 1]


def _candidates(candidates: Any) -> Iterator[str]:
    """Yield a table of what a plan compared, whatever it says of each, as far as there is room."""
    if not isinstance(candidates, Sequence) or isinstance(candidates, str):
        return
    records = [each for each in candidates if isinstance(each, Mapping)]
    names = dict.fromkeys(
        name for record in records for name, value in record.items() if _is_short(value)
    )
    shown: list[list[str]] = []
    same: list[str] = []
    num_left_out, room = 0, _TABLE_WIDTH
    for name in names:
        column = [name, *(_cell(record.get(name)) for record in records)]
        width = max(map(len, column)) + 2
        if len(set(column[1:])) == 1 < len(records):
            same.append(f"{name}={column[1]}")
        elif width <= room:
            shown.append(column)
            room -= width
        else:
            num_left_out += 1
    if shown:
        is_text = [
            any(isinstance(each.get(column[0]), str) for each in records) for column in shown
        ]
        left = [number for number, text in enumerate(is_text) if text]
        lines = text_columns(list(zip(*shown, strict=True)), left)
        rule = "-" * max(map(len, lines))
        yield from (rule, lines[0], rule, *lines[1:], rule)
    if same:
        yield from textwrap.wrap(f"all rows: {', '.join(same)}", _WIDTH)
    if num_left_out:
        yield f"{num_left_out} more columns: --json - has all"


def _is_short(value: Any) -> bool:
    return isinstance(value, bool | int | float) or (
        isinstance(value, str) and 0 < len(value) <= _MAX_CELL
    )


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return "-" if value is None or not _is_short(value) else str(value)


# -- a point --------------------------------------------------------------------


def render_point(study: Study, point: StoredPoint) -> str:
    """Return everything about a point as YAML: its scenario, and comments above it.

    ``blis run --scenario`` reads it.
    """
    import yaml

    lines = [f"study {study.number}: {words_of(point.labels)}", f"key: {point.key}"]
    if point.outcome is None:
        lines.append("not finished: run the same command again")
    else:
        lines.append(f"simulated: {_minute(point.finished_at)} UTC, code {point.code_version}")
        lines += _outcome(point.outcome)
    text = "\n".join(f"# {line}".rstrip() for line in lines)
    scenario = yaml.safe_dump(dict(point.scenario), sort_keys=False, allow_unicode=True)
    return f"{text}\n{scenario.rstrip()}"


def _outcome(outcome: Outcome) -> Iterator[str]:
    yield f"status: {outcome.status.value}"
    yield from _wrapped("reason", outcome.reason)
    for name, value in outcome.deployment.items():
        if isinstance(value, list):
            for each in value:
                yield from _wrapped(name.removesuffix("s"), _words(each))
        else:
            yield from _wrapped(name, "" if value is None else str(value))
    yield from _wrapped("load", outcome.load)
    for name in ("request_rate", "seed", "num_requests"):
        yield from _wrapped(name, _cell(getattr(outcome, name)).removesuffix("-"))
    for check in outcome.checks:
        yield from _wrapped("limit", _words(check))
    if outcome.is_saturated is not None:
        yield f"saturated: {'yes' if outcome.is_saturated else 'no'}"
    for notice in outcome.notices:
        yield from _wrapped("note", notice)
    rows = [[name, _figure(value), _unit(name)] for name, value in outcome.metrics.items()]
    if rows:
        yield ""
        yield from text_columns(rows, left=(0, 2))
    if outcome.quantiles:
        yield ""
        yield from text_columns(list(_quantiles(outcome)), left=(0,))


def _wrapped(name: str, text: str) -> Iterator[str]:
    if text:
        yield from textwrap.wrap(f"{name}: {text}", _COMMENT_WIDTH, subsequent_indent="  ")


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_cell(value)}" for name, value in values.items() if value != "")


def _figure(value: float | str | None) -> str:
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _unit(name: str) -> str:
    is_declared = name.endswith("_ms") or name in metric_definitions()
    return metric_unit(name) if is_declared else ""


def _quantiles(outcome: Outcome) -> Iterator[list[str]]:
    ranks = (0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 100)
    yield ["percentile (ms)", *map(str, ranks)]
    for tag, values in outcome.quantiles.items():
        yield [tag, *(f"{values[rank]:.4g}" for rank in ranks)]
