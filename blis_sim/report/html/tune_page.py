"""The page of a search for the best settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from blis_sim.capacity.slo import slo_words
from blis_sim.report.averaged import averaged_points
from blis_sim.report.html import charts
from blis_sim.report.html.answer import (
    SEPARATOR,
    limits_of,
    load_of,
    mapping,
    progress_notices,
    question_of,
    records,
    sentence,
    sentence_of,
)
from blis_sim.report.html.manifest import study_documents, study_facts, yaml_text
from blis_sim.report.html.page import Cell, Chart, Column, Document, Page, Table, Tile
from blis_sim.report.html.tables import (
    infeasible_table,
    meanings,
    setting_cell,
    setting_column,
    text_cell,
)
from blis_sim.report.metric_words import Named, declared, named
from blis_sim.report.number_words import as_float, counted, milliseconds
from blis_sim.report.plots.trials import trials_plot
from blis_sim.report.setting_words import point_words

if TYPE_CHECKING:
    from blis_sim.capacity.study import Study

_MOST_ROWS = 1000
_LESS_IS_BETTER = ("usd_", "_ms", "cost")


def tune_page(study: Study, place: str) -> Page:
    """Return the page of a tuning study.

    Parameters
    ----------
    study : Study
        With its points, those of the trials.
    place : str
        Where it is stored.
    """
    answer = mapping(study.answer)
    points = averaged_points(study.points)
    limits = limits_of(study)
    objective = declared(str(answer.get("objective") or "objective"))
    trials = records(answer.get("trials"))
    best = mapping(answer.get("best"))
    settings = mapping(best.get("settings"))
    table = _table(trials, best, objective)
    is_less_better = bool(answer.get("is_less_better", _is_cost(objective.key)))
    shown = (_chart(trials, objective, is_less_better=is_less_better), charts.pareto_chart(points))
    about = [f"objective: {objective.title}"] if answer.get("objective") else []
    load = str(answer.get("load") or load_of(study))
    about += [f"load: {load}"] if load else []
    about += [f"limits: {slo_words(limits)}"] if limits else []
    documents = (Document("The best settings", yaml_text(dict(settings))),) if settings else ()
    return Page(
        kind="tune",
        question=question_of(study, "Which settings are best?"),
        about=SEPARATOR.join(about),
        answer=sentence_of(study) or _sentence(trials, best, objective),
        is_good=bool(best),
        tiles=tuple(_tiles(answer, trials, best, objective)),
        charts=tuple(chart for chart in shown if chart is not None),
        tables=() if table is None else (table,),
        infeasible=infeasible_table(points),
        notices=tuple(progress_notices(study, points)),
        facts=study_facts(study, place),
        documents=(*documents, *study_documents(study)),
        meanings=meanings([] if table is None else [table]),
    )


def _sentence(trials: list[Mapping[str, Any]], best: Mapping[str, Any], what: Named) -> str:
    value = as_float(best.get("value"))
    if value is None:
        return "The search has not come to its end yet."
    words = point_words(mapping(best.get("settings")))
    figure = f"{what.header} {what.write(value)} {what.unit}".strip()
    return sentence(f"of {counted(len(trials), 'trial')}, {words} is the best: {figure}")


def _tiles(
    answer: Mapping[str, Any],
    trials: list[Mapping[str, Any]],
    best: Mapping[str, Any],
    what: Named,
) -> Iterator[Tile]:
    value, metrics = as_float(best.get("value")), mapping(best.get("metrics"))
    if value is not None:
        name = point_words(mapping(best.get("settings")))
        yield Tile(what.title, what.write(value), name or "as given")
    given = as_float(mapping(answer.get("default")).get("figure"))
    if given and value is not None:
        yield Tile("against as given", f"{100 * (value / given - 1):+.3g} %", what.write(given))
    for key in ("p99_ttft_ms", "mean_tpot_ms"):
        if as_float(metrics.get(key)) is not None:
            yield Tile(named(key).header, milliseconds(as_float(metrics[key])))
    done = sum(as_float(trial.get("value")) is not None for trial in trials)
    yield Tile("trials", f"{len(trials):,}", f"{done:,} with a value")


def _is_cost(key: str) -> bool:
    return any(word in key for word in _LESS_IS_BETTER)


def _chart(trials: list[Mapping[str, Any]], what: Named, *, is_less_better: bool) -> Chart | None:
    pairs = [
        (as_float(trial.get("number")) or 0.0, value)
        for trial in trials
        if (value := as_float(trial.get("value"))) is not None
    ]
    if len(pairs) < 2:
        return None
    plot = trials_plot(pairs, what.title, is_less_better=is_less_better)
    return Chart("trials", "The search", "Each trial, and the best one so far.", {"": plot})


def _table(trials: list[Mapping[str, Any]], best: Mapping[str, Any], what: Named) -> Table | None:
    if not trials:
        return None
    settings = [mapping(trial.get("settings")) for trial in trials]
    paths = list(dict.fromkeys(path for each in settings for path in each))
    columns = (
        Column("trial"),
        *(setting_column(path, paths) for path in paths),
        Column(what.header, what.unit, what.formula),
        Column("status", is_number=False),
        Column("limits", is_number=False),
    )
    rows = []
    for trial, each in zip(trials[:_MOST_ROWS], settings, strict=False):
        value, number = as_float(trial.get("value")), as_float(trial.get("number"))
        status = str(trial.get("status") or "")
        rows.append(
            (
                Cell("-" if number is None else f"{number:g}", number),
                *(setting_cell(path, each) for path in paths),
                Cell(what.write(value), value),
                Cell(status, status),
                text_cell(trial.get("reason") or trial.get("reached") or None),
            )
        )
    chosen = {
        place
        for place, trial in enumerate(trials)
        if best and mapping(trial.get("settings")) == mapping(best.get("settings"))
    }
    return Table("Trials", columns, tuple(rows), frozenset(chosen))
