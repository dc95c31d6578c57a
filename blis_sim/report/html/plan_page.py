"""The page of a plan: the cheapest deployment that carries a load within limits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from blis_sim.capacity.slo import slo_words
from blis_sim.report.averaged import averaged_points
from blis_sim.report.html import charts
from blis_sim.report.html.answer import (
    SEPARATOR,
    accuracy_notices,
    limits_of,
    mapping,
    progress_notices,
    question_of,
    sentence,
    sentence_of,
)
from blis_sim.report.html.manifest import study_documents, study_facts, yaml_text
from blis_sim.report.html.page import Document, Page, Tile
from blis_sim.report.html.plan_answer import Plan
from blis_sim.report.html.plan_tables import (
    candidate_table,
    probe_table,
    refused_table,
    verification_table,
)
from blis_sim.report.html.tables import (
    infeasible_table,
    meanings,
    point_table,
)
from blis_sim.report.metric_words import (
    USD_PER_HOUR,
    USD_PER_MILLION,
    named,
)
from blis_sim.report.number_words import as_float, counted, number, percent, rate, usd
from blis_sim.report.setting_words import GPU, MODEL, TP

if TYPE_CHECKING:
    from blis_sim.capacity.study import Study

_FOUND = "found"
_DEPLOYED = {MODEL: "model", GPU: "gpu", TP: "tensor_parallel_size"}
_MOST_ROWS = 500

_REQUESTS = re.compile(r"[\d,]+ requests, [^;]*arrivals at [^;]*; ")


def plan_page(study: Study, place: str) -> Page:
    """Return the page of a plan.

    Parameters
    ----------
    study : Study
        With its points, those of the probes.
    place : str
        Where it is stored.
    """
    answer = mapping(study.answer)
    limits = limits_of(study)
    plan = Plan(answer, limits)
    stored = averaged_points(study.points)
    known = str(mapping(plan.winner).get("accuracy") or "")
    notices = accuracy_notices(study, known, "at the highest rate")
    notices += progress_notices(study, [])
    pruned = as_float(answer.get("num_pruned"))
    if pruned:
        notices.append(f"{counted(int(pruned), 'candidate')} dismissed without a simulation")
    wanted = (candidate_table(plan), probe_table(plan), verification_table(plan))
    tables = [table for table in wanted if table is not None]
    if not plan.candidates and stored:
        tables.append(point_table(stored, limits, title="Simulated so far"))
    at_rates = plan.at_highest_rate()
    shown_charts = (
        charts.latency_chart(plan.curve_points() or stored, limits),
        charts.cost_chart(plan.bars(), "What carries the whole load; the answer is marked."),
        charts.pareto_chart(at_rates or stored),
        charts.distribution_chart(plan.stored_at_rates(stored), limits),
    )
    return Page(
        kind="plan",
        question=question_of(study, "Which deployment carries the load at the lowest cost?"),
        about=_about(study, plan),
        answer=sentence_of(study) or _not_finished(study),
        is_good=plan.winner is not None,
        tiles=tuple(plan_tiles(plan)),
        charts=tuple(chart for chart in shown_charts if chart is not None),
        tables=tuple(tables),
        infeasible=refused_table(plan) or infeasible_table(stored),
        notices=tuple(notices),
        facts=study_facts(study, place),
        documents=(*_prices(answer), *study_documents(study)),
        meanings=meanings(tables),
    )


def _about(study: Study, plan: Plan) -> str:
    answer = plan.answer
    target = as_float(study.asked.get("target_rate", answer.get("target_rate")))
    models = list(dict.fromkeys(each["model"] for each in plan.candidates if each.get("model")))
    if study.asked.get("model"):
        models = [study.asked["model"]]
    load = next((each for each in (study.asked.get("load"), answer.get("load")) if each), "")
    parts = [f"model: {', '.join(map(str, models))}"] if models else []
    parts += [f"load: {_without_rate(load)}"] if isinstance(load, str) and load else []
    parts += [f"rate to carry: {rate(target)} {plan.unit}"] if target else []
    parts += [f"limits: {slo_words(plan.limits)}"] if plan.limits else []
    return SEPARATOR.join(parts)


def _without_rate(load: str) -> str:
    """Return a load without the requests and the rate of the scenario: a plan tries many."""
    return _REQUESTS.sub("", load, count=1)


def _not_finished(study: Study) -> str:
    done = sum(point.outcome is not None for point in study.points)
    return sentence(
        f"the plan has not come to its end yet: {counted(done, 'simulation')} are done; the "
        "command that began it, given again, goes on"
    )


def _prices(answer: Mapping[str, Any]) -> tuple[Document, ...]:
    prices = answer.get("prices")
    return (Document("Prices", yaml_text(prices)),) if prices else ()


def _limited_tiles(plan: Plan, win: Mapping[str, Any], highest: float | None) -> Iterator[Tile]:
    """Yield what is limited: of the whole deployment where it was simulated, else of a replica."""
    whole = mapping(mapping(plan.answer.get("verification")).get("values"))
    target = as_float(plan.answer.get("target_rate"))
    values, at = (whole, target) if whole else (mapping(win.get("metrics")), highest)
    where = "" if at is None else f", at {rate(at)}/s"
    for limit in plan.limits:
        value = as_float(values.get(limit.metric))
        if value is not None and not limit.is_goodput:
            note = f"limit {rate(limit.value)} ms{where}"
            yield Tile(named(limit.metric).header, f"{number(value)} ms", note)


def plan_tiles(plan: Plan) -> list[Tile]:
    """Return the key figures of the answer."""
    win = plan.winner
    if win is None:
        return [Tile("candidates", f"{len(plan.candidates):,}", "none carries the load")]
    replicas, gpus = as_float(win.get("replicas")), as_float(win.get("num_gpus"))
    if replicas is None:
        highest = rate(as_float(win.get("rate_per_replica")))
        found = [Tile(f"highest rate, {plan.unit}", highest, plan.name(win))]
    else:
        note = "" if gpus is None else counted(int(gpus), "GPU")
        found = [Tile("deploy", plan.deployed_name(win), note)]
    if as_float(win.get(USD_PER_HOUR)) is not None:
        per_token = as_float(win.get(USD_PER_MILLION))
        note = f"{usd(per_token)} per million output tokens" if per_token is not None else ""
        found.append(Tile("per hour", usd(as_float(win[USD_PER_HOUR])), note))
    target = as_float(plan.answer.get("target_rate"))
    carried = as_float(win.get("rate_per_replica"))
    if carried is not None and replicas is not None:
        note = f"wanted: {rate(target)}" if target is not None else ""
        found.append(Tile(f"carries, {plan.unit}", number(carried * replicas), note))
    headroom = as_float(win.get("headroom_frac"))
    if headroom is not None:
        found.append(Tile("headroom", percent(headroom)))
    if win.get("binds"):
        found.append(Tile("limited by", str(win["binds"])))
    found += _limited_tiles(plan, win, carried)
    others = len(plan.candidates) - 1
    found.append(Tile("compared with", f"{others:,}", "other candidates"))
    return found
