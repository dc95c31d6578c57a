"""The tables of a plan's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from blis_sim.report.html.answer import mapping, records
from blis_sim.report.html.page import Cell, Column, Table
from blis_sim.report.html.plan_answer import FOUND, PER_GPU, Plan
from blis_sim.report.html.tables import figure_cell, figure_column, reason_table, text_cell
from blis_sim.report.metric_words import (
    TOKENS_PER_S_PER_USER,
    USD_PER_HOUR,
    USD_PER_MILLION,
    named,
)
from blis_sim.report.number_words import ABSENT, as_float, counted, number

_MOST_ROWS = 500
_UNBEATEN = "no candidate is both no dearer and no slower for its users"
_SHOWN = (
    *("p99_ttft_ms", "mean_ttft_ms", "mean_tpot_ms", "p99_itl_ms", "p99_e2el_ms"),
    *("kv_usage_peak_frac", "num_preemptions"),
)
_CANDIDATE = (
    (
        "rate_per_replica",
        "one replica carries",
        "",
        "highest rate within all limits on one replica, and the bounds it lies between",
    ),
    ("replicas", "replicas", "", ""),
    ("num_gpus", "GPUs", "", ""),
    (USD_PER_HOUR, "cost", "$/h", "price of all GPUs"),
    (USD_PER_MILLION, "cost", "$/M output tok", "price per hour / output tokens per hour"),
    ("headroom_frac", "headroom", "%", "share of the rate it could carry that is not asked for"),
    (TOKENS_PER_S_PER_USER, "per user", "tok/s", "1000 / mean TPOT in ms"),
    (PER_GPU, "per GPU", "tok/s", "output tokens per second and GPU"),
)


def candidate_table(plan: Plan) -> Table | None:
    """Return the candidates that carry the load."""
    found = plan.found
    if not found:
        return None
    metrics = dict.fromkeys(key for each in found for key in mapping(each.get("metrics")))
    limited = [limit.metric for limit in plan.limits if limit.metric in metrics]
    shown = limited + [key for key in _SHOWN if key in metrics and key not in limited]
    columns = [
        Column("rank", about="the cheapest that carries the load comes first"),
        Column("deployment", is_number=False),
        *(
            Column(header, plan.unit if key == "rate_per_replica" else unit, about)
            for key, header, unit, about in _CANDIDATE
        ),
        Column("limited by", is_number=False),
        *(figure_column(key) for key in shown),
        Column("unbeaten", about=_UNBEATEN, is_number=False),
    ]
    rows = [
        (
            text_cell(each.get("rank")),
            Cell(plan.name(each), plan.name(each)),
            *(_candidate_cell(each, key) for key, *_ in _CANDIDATE),
            text_cell(each.get("binds")),
            *(figure_cell(key, as_float(mapping(each.get("metrics")).get(key))) for key in shown),
            text_cell("yes" if each.get("is_pareto") else None),
        )
        for each in found[:_MOST_ROWS]
    ]
    chosen = {place for place, each in enumerate(found) if plan.is_chosen(each)}
    note = "Latencies are those at the highest rate that keeps all limits."
    kept = [n for n, column in enumerate(zip(*rows, strict=True)) if _has_data(column)]
    return Table(
        "Candidates",
        tuple(columns[n] for n in kept),
        tuple(tuple(row[n] for n in kept) for row in rows),
        frozenset(chosen),
        note,
    )


def probe_table(plan: Plan) -> Table | None:
    """Return what was tried of the winner."""
    probes = records(mapping(plan.winner).get("probes"))
    keys = list(dict.fromkeys(key for each in probes for key in mapping(each.get("values"))))
    if not probes or plan.winner is None:
        return None
    columns = (
        Column("rate", plan.unit),
        Column("requests"),
        *(figure_column(key) for key in keys),
        Column("verdict", is_number=False),
    )
    rows = [
        (
            text_cell(each.get("rate")),
            text_cell(each.get("num_requests")),
            *(figure_cell(key, as_float(mapping(each.get("values")).get(key))) for key in keys),
            Cell(_verdict(each), _verdict(each)),
        )
        for each in sorted(probes, key=lambda each: as_float(each.get("rate")) or 0.0)
    ]
    title = f"How the rate of one replica was found: {plan.name(plan.winner)}"
    return Table(title, columns, tuple(rows))


def verification_table(plan: Plan) -> Table | None:
    """Return what a simulation of the whole deployment said."""
    check = mapping(plan.answer.get("verification"))
    values = mapping(check.get("values"))
    if not values:
        return None
    limits = {limit.metric: limit for limit in plan.limits}
    rows = []
    for key, value in values.items():
        limit = limits.get(key)
        shown = Cell(ABSENT) if limit is None else text_cell(limit.value)
        name = named(key).title
        rows.append((Cell(name, name), figure_cell(key, as_float(value)), shown))
    columns = (Column("figure", is_number=False), Column("simulated"), Column("limit"))
    routing = check.get("routing")
    replicas = as_float(check.get("replicas"))
    note = "All replicas" if replicas is None else counted(int(replicas), "replica")
    note += f", routing {routing}" if routing else ""
    note += f": {check['verdict']}" if check.get("verdict") else ""
    return Table("The whole deployment, simulated", columns, tuple(rows), note=f"{note}.")


def refused_table(plan: Plan) -> Table | None:
    """Return the candidates that cannot carry the load, and why."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for each in plan.candidates:
        status = str(each.get("status", FOUND))
        if status != FOUND:
            reason = str(each.get("reason") or "")
            reasons.setdefault((status, reason), []).append(plan.name(each))
    return reason_table("What cannot carry the load", "deployment", reasons)


def _candidate_cell(candidate: Mapping[str, Any], key: str) -> Cell:
    value = as_float(candidate.get(key))
    cell = figure_cell("goodput_frac" if key == "headroom_frac" else key, value)
    low, high = as_float(candidate.get("rate_low")), as_float(candidate.get("rate_high"))
    if key == "rate_per_replica" and low is not None and high is not None and value is not None:
        return Cell(cell.text, cell.value, f"{number(low)} to {number(high)}")
    return cell


def _has_data(cells: Sequence[Cell]) -> bool:
    return any(cell.text != ABSENT for cell in cells)


def _verdict(probe: Mapping[str, Any]) -> str:
    words = str(probe.get("verdict") or ABSENT)
    return f"{words}, queue grows" if probe.get("is_saturated") else words
