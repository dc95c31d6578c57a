"""The page of a sweep: every combination of some settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from blis_sim.capacity.slo import slo_words
from blis_sim.capacity.study import OutcomeStatus
from blis_sim.capacity.sweep import is_far_short
from blis_sim.report.averaged import AveragedPoint, averaged_points
from blis_sim.report.compare_names import short_model
from blis_sim.report.html import charts
from blis_sim.report.html.answer import (
    SEPARATOR,
    accuracy_notices,
    limits_of,
    load_of,
    mapping,
    progress_notices,
    sentence,
    sentence_of,
)
from blis_sim.report.html.manifest import study_documents, study_facts
from blis_sim.report.html.page import Chart, Page, Tile
from blis_sim.report.html.tables import infeasible_table, meanings, point_table
from blis_sim.report.metric_words import (
    TOKENS_PER_S_PER_GPU,
    USD_PER_HOUR,
    USD_PER_MILLION,
    figure,
    named,
)
from blis_sim.report.number_words import counted, milliseconds, number, rate, usd
from blis_sim.report.plots.cost_bars import CostBar, cost_bars
from blis_sim.report.plots.series import deployment_words, lines_of, setting_axis
from blis_sim.report.setting_words import (
    GPU,
    MODEL,
    RATE,
    header,
    point_words,
    value_words,
    varying,
)

if TYPE_CHECKING:
    from blis_sim.capacity.slo import Limit
    from blis_sim.capacity.study import Study

_MOST_NAMED, _MOST_VALUES = 5, 12


def sweep_page(study: Study, place: str) -> Page:
    """Return the page of a sweep.

    Parameters
    ----------
    study : Study
        With its points.
    place : str
        Where it is stored.
    """
    points = averaged_points(study.points)
    limits = limits_of(study)
    best = chosen_point(study, points, limits)
    table = point_table(points, limits, best)
    wanted = (
        charts.latency_chart(points, limits),
        charts.distribution_chart(points, limits, best),
        charts.pareto_chart(points),
        cost_chart(points, limits, best),
    )
    return Page(
        kind="sweep",
        question=question(points),
        about=about(study, points, limits),
        answer=sentence_of(study) or sweep_sentence(points, limits, best),
        is_good=best is not None,
        tiles=tuple(tiles(points, best, limits)),
        charts=tuple(chart for chart in wanted if chart is not None),
        tables=(table,) if table.rows else (),
        infeasible=infeasible_table(points),
        notices=(
            *accuracy_notices(study, "" if best is None else best.accuracy),
            *progress_notices(study, points),
            *_short_notices(points),
        ),
        facts=study_facts(study, place),
        documents=study_documents(study),
        meanings=meanings([table]),
    )


def _short_notices(points: Sequence[AveragedPoint]) -> Iterator[str]:
    """Yield at how many points the rate that was asked for was not served."""
    served = [(point.mean("request_throughput"), point.request_rate) for point in points]
    number = sum(is_far_short(*each) for each in served)
    if number:
        yield (
            f"{counted(number, 'point')} served far fewer requests than asked: the rate is not "
            "carried, or did not last"
        )


def question(points: Sequence[AveragedPoint]) -> str:
    """Return the question of a sweep in words: what was tried with what."""
    if not points:
        return "A sweep without points"
    paths = varying([point.labels for point in points])
    values = {path: _values(points, path) for path in paths}
    first = points[0]
    models = values.pop(MODEL, None) or [short_model(str(first.deployment.get("model", "")))]
    gpus = values.pop(GPU, None) or [str(first.deployment.get("gpu", ""))]
    rates = values.pop(RATE, None)
    words = f"How does {_either(models) or 'the deployment'} run"
    words += f" on {_either(gpus)}" if any(gpus) else ""
    with_ = [f"{header(path, paths)} {_either(each)}" for path, each in values.items()]
    words += f" with {' and '.join(with_)}" if with_ else ""
    if rates is not None:
        words += f" at {_span(rates)} requests/s"
    return f"{words}?"


def _values(points: Sequence[AveragedPoint], path: str) -> list[str]:
    return list(dict.fromkeys(value_words(point.labels.get(path), path) for point in points))


def _either(values: Sequence[str]) -> str:
    if len(values) > _MOST_NAMED:
        return f"{values[0]}, …, {values[-1]} ({len(values)} values)"
    return " or ".join(filter(None, [", ".join(values[:-1]), values[-1]]))


def _span(rates: Sequence[str]) -> str:
    return f"{rates[0]} to {rates[-1]}" if len(rates) > 2 else " or ".join(rates)


def about(study: Study, points: Sequence[AveragedPoint], limits: Sequence[Limit]) -> str:
    """Return the values that were tried, load and limits."""
    paths = varying([point.labels for point in points])
    parts = []
    for path in paths:
        values = _values(points, path)
        shown = values if len(values) <= _MOST_VALUES else [*values[:11], f"… {values[-1]}"]
        parts.append(f"{header(path, paths)}: {', '.join(shown)}")
    if load_of(study):
        parts.append(f"load: {load_of(study)}")
    if limits:
        parts.append(f"limits: {slo_words(limits)}")
    return SEPARATOR.join(parts)


def good_points(points: Sequence[AveragedPoint], limits: Sequence[Limit]) -> list[AveragedPoint]:
    """Return the points with figures that keep all limits and whose queue does not grow."""
    return [p for p in points if p.is_done and not p.misses(limits) and not p.is_saturated]


def chosen_point(
    study: Study, points: Sequence[AveragedPoint], limits: Sequence[Limit]
) -> AveragedPoint | None:
    """Return the point that the answer names; without an answer, the best one.

    The best one costs least per token; where a price is not known, it has the highest goodput
    or else the most output tokens per second and GPU. It keeps all limits.
    """
    answered = mapping(study.answer)
    place = answered.get("best")
    if isinstance(place, int) and 0 <= place < len(points):
        return points[place]
    return None if "best" in answered else best_point(points, limits)


def best_point(points: Sequence[AveragedPoint], limits: Sequence[Limit]) -> AveragedPoint | None:
    """Return the best of the points; None where none keeps the limits."""
    good = good_points(points, limits)
    key, sign = _objective(good)
    with_data = [point for point in good if key in point.estimates]
    return min(with_data, key=lambda point: sign * (point.mean(key) or 0.0), default=None)


def _objective(points: Sequence[AveragedPoint]) -> tuple[str, int]:
    """Return what the best point is best in, and 1 where less is better."""
    for key, sign in ((USD_PER_MILLION, 1), ("request_goodput", -1)):
        if points and all(key in point.estimates for point in points):
            return key, sign
    return TOKENS_PER_S_PER_GPU, -1


def sweep_sentence(
    points: Sequence[AveragedPoint], limits: Sequence[Limit], best: AveragedPoint | None
) -> str:
    """Return the answer of a sweep that has not written one."""
    done = [point for point in points if point.is_done]
    if not done:
        return "Nothing has been simulated yet." if points else "The study has no points."
    many = f"{counted(len(done), 'combination')} simulated so far"
    if best is None:
        return sentence(f"none of the {many} keeps {slo_words(limits)}")
    good = good_points(points, limits)
    key, _ = _objective(good)
    what = {
        USD_PER_MILLION: "costs least per token",
        "request_goodput": "has the highest goodput",
    }.get(key, "yields most per GPU")
    kept = f"{len(good):,} of {len(done):,} keep {slo_words(limits)}; of these " if limits else ""
    of = kept or f"of {many}, "
    words = name_of(best, points)
    figures = [figure(each, best.mean(each)) for each in (key, *_told(limits)) if best.mean(each)]
    return sentence(f"{of}{words} {what}: {', '.join(dict.fromkeys(figures))}")


def _told(limits: Sequence[Limit]) -> list[str]:
    own = [limit.metric for limit in limits]
    return list(dict.fromkeys([*own, "p99_ttft_ms", "mean_tpot_ms"]))


def name_of(point: AveragedPoint, points: Sequence[AveragedPoint]) -> str:
    """Return what sets a point apart from the others in words."""
    paths = varying([each.labels for each in points])
    labels = {path: point.labels[path] for path in paths if path in point.labels}
    return point_words(labels) or deployment_words(point)


def tiles(
    points: Sequence[AveragedPoint], best: AveragedPoint | None, limits: Sequence[Limit]
) -> list[Tile]:
    """Return the key figures: how much was tried, and those of the best point."""
    done = [point for point in points if point.is_done]
    wrong = sum(p.status in (OutcomeStatus.INFEASIBLE, OutcomeStatus.FAILED) for p in points)
    notes = [f"{wrong:,} cannot run"] * bool(wrong)
    if limits:
        notes.insert(0, f"{len(good_points(points, limits)):,} keep the limits")
    found = [Tile("combinations", f"{len(done):,} of {len(points):,}", ", ".join(notes))]
    if best is None:
        return found
    found.insert(0, Tile("best", name_of(best, points), "marked in the charts and the table"))
    if best.mean(USD_PER_MILLION) is not None:
        per_hour = best.mean(USD_PER_HOUR)
        note = f"{usd(per_hour)} per hour" if per_hour is not None else ""
        found.append(Tile("per million output tokens", usd(best.mean(USD_PER_MILLION)), note))
    for limit in limits:
        value = best.mean(limit.metric)
        if value is not None and not limit.is_goodput:
            note = f"limit {rate(limit.value)} ms"
            found.append(Tile(named(limit.metric).header, milliseconds(value), note))
    shown = {limit.metric for limit in limits}
    found += [
        Tile(named(key).header, milliseconds(best.mean(key)))
        for key in ("p99_ttft_ms", "mean_tpot_ms")
        if key not in shown and best.mean(key) is not None
    ]
    per_gpu = best.mean(TOKENS_PER_S_PER_GPU)
    if per_gpu is not None:
        found.append(Tile("output tokens/s per GPU", number(per_gpu)))
    return found


def cost_chart(
    points: Sequence[AveragedPoint], limits: Sequence[Limit], best: AveragedPoint | None
) -> Chart | None:
    """Return what each deployment costs at its cheapest point that keeps all limits."""
    good = good_points(points, limits)
    axis = setting_axis(points)
    if axis is None:
        return charts.cost_chart(cost_bars(good, best), "Only combinations that keep all limits.")
    cheapest = []
    for line in lines_of(good, axis):
        priced = [point for point in line.points if USD_PER_MILLION in point.estimates]
        if priced:
            cheapest.append(min(priced, key=lambda point: point.mean(USD_PER_MILLION) or 0.0))
    bars: list[CostBar] = cost_bars(cheapest, best)
    limited = " that keeps all limits" if limits else ""
    return charts.cost_chart(bars, f"Each at the load at which it costs least per token{limited}.")
