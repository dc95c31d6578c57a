"""The page of a search for the best settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from blis_sim.capacity.slo import slo_words
from blis_sim.report.averaged import averaged_points, figures_of
from blis_sim.report.compare_names import short_model
from blis_sim.report.html import charts
from blis_sim.report.html.answer import (
    SEPARATOR,
    accuracy_notices,
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
    figure_cell,
    figure_column,
    infeasible_table,
    meanings,
    setting_cell,
    setting_column,
    text_cell,
)
from blis_sim.report.metric_words import Named, declared, named
from blis_sim.report.number_words import as_float, counted, milliseconds
from blis_sim.report.plots.distributions import TAGS
from blis_sim.report.plots.trials import trials_plot
from blis_sim.report.setting_words import GPU, MODEL, point_words

if TYPE_CHECKING:
    from blis_sim.capacity.study import Outcome, Study

_MOST_ROWS = 1000
_SHOWN = (
    *("p99_ttft_ms", "mean_tpot_ms", "p95_itl_ms", "mean_e2el_ms"),
    *("output_throughput_per_gpu", "usd_per_million_output_tokens"),
)
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
    outcomes = _outcomes(study)
    found = _outcome_of(best, outcomes)
    simulated = [_outcome_of(trial, outcomes) for trial in trials[:_MOST_ROWS]]
    figures = [{} if each is None else figures_of(each) for each in simulated]
    table = _table(trials, best, objective, figures, [limit.metric for limit in limits])
    is_less_better = bool(answer.get("is_less_better", _is_cost(objective.key)))
    shown = (_chart(trials, objective, is_less_better=is_less_better), charts.pareto_chart(points))
    about = list(_given(mapping(study.asked.get("scenario")), settings))
    about += [f"objective: {objective.title}"] if answer.get("objective") else []
    load = str(answer.get("load") or load_of(study))
    about += [f"load: {load}"] if load else []
    about += [f"limits: {slo_words(limits)}"] if limits else []
    about += _each_limit(mapping(study.asked.get("scenario")))
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
        notices=(
            *accuracy_notices(study, "" if found is None else found.accuracy),
            *progress_notices(study, points),
        ),
        facts=study_facts(study, place),
        documents=(*documents, *study_documents(study)),
        meanings=meanings([] if table is None else [table]),
    )


def _given(scenario: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield model and GPU, where they are not what is searched."""
    for name, path in (("model", MODEL), ("GPU", GPU)):
        if path not in settings and scenario.get(path):
            yield f"{name}: {short_model(str(scenario[path]))}"


def _each_limit(scenario: Mapping[str, Any]) -> list[str]:
    """Return what each request must stay within."""
    slo = mapping(scenario.get("slo"))
    told = [
        f"{TAGS[tag]} <= {milliseconds(value)}"
        for tag in TAGS
        if (value := as_float(slo.get(f"{tag}_ms"))) is not None
    ]
    return [f"a request is good within {', '.join(told)}"] if told else []


def _outcomes(study: Study) -> dict[str, Outcome]:
    """Return what was simulated, by the hash of its scenario."""
    done = (point.outcome for point in study.points if point.outcome is not None)
    return {each.scenario_sha256: each for each in done if each.is_done}


def _outcome_of(trial: Mapping[str, Any], outcomes: Mapping[str, Outcome]) -> Outcome | None:
    """Return the simulation that the figures of a trial are from; None = it has none."""
    return outcomes.get(str(trial.get("scenario_sha256")))


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


def _table(
    trials: list[Mapping[str, Any]],
    best: Mapping[str, Any],
    what: Named,
    figures: Sequence[Mapping[str, float]],
    limited: Sequence[str],
) -> Table | None:
    """Return a row for each trial; ``figures`` are those of its simulation."""
    if not trials:
        return None
    wanted = [key for key in dict.fromkeys((*limited, *_SHOWN)) if key != what.key]
    shown = [key for key in wanted if any(key in each for each in figures)]
    settings = [mapping(trial.get("settings")) for trial in trials]
    paths = list(dict.fromkeys(path for each in settings for path in each))
    columns = (
        Column("trial"),
        *(setting_column(path, paths) for path in paths),
        Column(what.header, what.unit, what.formula),
        Column("status", is_number=False),
        Column("limits", is_number=False),
        *(figure_column(key) for key in shown),
    )
    rows = [
        (
            _number_cell(trial),
            *(setting_cell(path, each) for path in paths),
            _value_cell(trial, what),
            text_cell(trial.get("status") or None),
            text_cell(trial.get("reason") or trial.get("reached") or None),
            *(figure_cell(key, own.get(key)) for key in shown),
        )
        for trial, each, own in zip(trials, settings, figures, strict=False)
    ]
    chosen = {
        place
        for place, trial in enumerate(trials)
        if best and mapping(trial.get("settings")) == mapping(best.get("settings"))
    }
    is_quick = any(trial.get("is_quick") for trial in trials)
    note = "short: by short simulations, which cannot be the answer." if is_quick else ""
    return Table("Trials", columns, tuple(rows), frozenset(chosen), note)


def _number_cell(trial: Mapping[str, Any]) -> Cell:
    number = as_float(trial.get("number"))
    return Cell(
        "-" if number is None else f"{number:g}", number, "as given" if number == 0 else ""
    )


def _value_cell(trial: Mapping[str, Any], what: Named) -> Cell:
    value = as_float(trial.get("value"))
    return Cell(what.write(value), value, "short" if trial.get("is_quick") else "")
