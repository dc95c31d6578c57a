"""The page of one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from blis_sim.metrics.definitions import (
    CLUSTER_METRICS,
    ENGINE_METRICS,
    KV_CACHE_METRICS,
    LATENCIES,
    SERVING_METRICS,
)
from blis_sim.report.averaged import with_derived
from blis_sim.report.html import charts
from blis_sim.report.html.answer import mapping
from blis_sim.report.html.manifest import run_documents, run_facts
from blis_sim.report.html.page import Absent, Cell, Column, Page, Table, Tile
from blis_sim.report.html.roofline_section import roofline_chart, roofline_table
from blis_sim.report.html.run_document import RunDocument
from blis_sim.report.html.run_words import (
    answer_sentence,
    deployment_words,
    load_words,
    question_words,
    rate_unit,
)
from blis_sim.report.html.tables import figure_cell, meanings, record_table
from blis_sim.report.metric_words import USD_PER_HOUR, USD_PER_MILLION, named
from blis_sim.report.number_words import (
    as_float,
    joined,
    milliseconds,
    number,
    percent,
    rate,
    seconds,
    usd,
)
from blis_sim.report.plots.distributions import TAGS

_STATISTICS = ("mean", "median", "p90", "p95", "p99", "std")
_SLO_TAGS = {"ttft_ms": "ttft", "tpot_ms": "tpot", "e2el_ms": "e2el"}
_PARTS = (
    *("num_prompts", "completed", "failed", "request_throughput", "request_goodput"),
    *("output_throughput", "mean_ttft_ms", "p99_ttft_ms", "mean_tpot_ms", "p99_e2el_ms"),
    *("kv_usage_mean_frac", "kv_usage_peak_frac", "prefix_hit_rate", "gpu_busy_frac"),
    *("num_preemptions", "mean_gpus", "cost_usd"),
)
_FLAG = "blis run --report FILE.html"


def run_page(run: RunDocument) -> Page:
    """Return the page of a run."""
    each_ms = _each_ms(mapping(run.manifest.get("slo")))
    deployed = deployment_words(run.manifest)
    shown = (
        None if run.over_time is None else charts.over_time_chart(run.over_time),
        charts.quantile_chart(run.quantiles, each_ms, deployed or "all requests"),
        roofline_chart(run.roofline),
    )
    tables = [table for table in _tables(run) if table is not None]
    return Page(
        kind="run",
        question=question_words(run, deployed),
        about=f"load: {run.load or load_words(run)}",
        answer=answer_sentence(run, deployed),
        is_good=bool(run.figure("completed")),
        tiles=tuple(_tiles(run)),
        charts=tuple(chart for chart in shown if chart is not None),
        absent=tuple(_absent(run)),
        tables=tuple(tables),
        notices=(*run.notices, *map(str, run.manifest.get("notices") or ())),
        facts=run_facts(run.manifest, run.run_info, run.place),
        documents=run_documents(run.manifest),
        meanings=meanings(tables),
    )


def _tiles(run: RunDocument) -> Iterator[Tile]:
    asked, served = as_float(run.summary.get("request_rate")), run.figure("request_throughput")
    if served is not None:
        begun = " conversations/s" if rate_unit(run) == "conversations/s" else ""
        note = f"asked for: {rate(asked)}{begun}" if asked is not None else ""
        yield Tile("served, requests/s", number(served), note)
    good = with_derived(run.summary).get("goodput_frac")
    if good is not None:
        slo = mapping(run.manifest.get("slo"))
        note = ", ".join(
            f"{TAGS[tag]} {rate(slo[key])} ms" for key, tag in _SLO_TAGS.items() if slo.get(key)
        )
        yield Tile("within the limits", percent(good), note)
    for tag in ("ttft", "tpot", "e2el"):
        mean, p99 = run.figure(f"mean_{tag}_ms"), run.figure(f"p99_{tag}_ms")
        if mean is not None:
            yield Tile(f"mean {TAGS[tag]}", milliseconds(mean), f"p99 {milliseconds(p99)}")
    output = run.figure("output_throughput")
    if output is not None:
        per_gpu = run.figure("output_throughput_per_gpu")
        gpus = run.figure("mean_gpus")
        is_several = per_gpu is not None and gpus is not None and gpus > 1
        yield Tile(
            "output tokens/s", number(output), f"{number(per_gpu)} per GPU" if is_several else ""
        )
    per_hour = with_derived(run.summary).get(USD_PER_HOUR)
    if run.figure(USD_PER_MILLION) is not None:
        note = f"{usd(per_hour)} per hour" if per_hour is not None else ""
        yield Tile("per million output tokens", usd(run.figure(USD_PER_MILLION)), note)
    peak = run.figure("kv_usage_peak_frac")
    if peak is not None:
        yield Tile(
            "KV cache, peak", percent(peak), f"mean {percent(run.figure('kv_usage_mean_frac'))}"
        )
    if run.figure("duration") is not None:
        failed = int(run.figure("failed") or 0)
        yield Tile(
            "simulated", seconds(run.figure("duration")), f"{failed:,} failed" if failed else ""
        )


def _each_ms(slo: Mapping[str, Any]) -> dict[str, float]:
    """Return what each request must stay within, by the time that is limited."""
    found = {tag: as_float(slo.get(key)) for key, tag in _SLO_TAGS.items()}
    return {tag: value for tag, value in found.items() if value is not None}


def _absent(run: RunDocument) -> Iterator[Absent]:
    if run.over_time is None:
        yield Absent(
            "Over time",
            "This file has no time series: KV cache, queue and running requests over time. "
            f"{_FLAG} makes a page with them.",
        )
    missing = [name for tag, name in TAGS.items() if len(run.quantiles.get(tag, ())) < 2]
    if missing:
        also = " --save-detailed adds TTFT to the JSON." if "TTFT" in missing else ""
        yield Absent(
            "How latencies are distributed",
            f"This file has no distribution of {joined(missing)}, only the percentiles in the "
            f"table below. {_FLAG} makes a page with all of them.{also}",
        )


def _tables(run: RunDocument) -> Iterator[Table | None]:
    yield _latency_table(run)
    yield roofline_table(run.roofline)
    for title, name, parts in (
        ("Classes", "class", run.per_class),
        ("Tenants", "tenant", run.per_tenant),
        ("Pools", "pool", run.per_pool if len(run.per_pool) > 1 else {}),
        ("Instances", "instance", run.per_instance if len(run.per_instance) > 1 else {}),
    ):
        yield record_table(title, name, parts, _PARTS)
    yield _figure_table(run)


def _latency_table(run: RunDocument) -> Table | None:
    known = [
        statistic
        for statistic in _STATISTICS
        if any(run.figure(f"{statistic}_{each.tag}_ms") is not None for each in LATENCIES)
    ]
    own = _further_ranks(run)
    columns = (
        Column("latency", is_number=False),
        *(Column(statistic, "ms") for statistic in (*known, *own)),
    )
    rows = []
    for latency in LATENCIES:
        keys = [f"{statistic}_{latency.tag}_ms" for statistic in (*known, *own)]
        if any(run.figure(key) is not None for key in keys):
            cells = (figure_cell(key, run.figure(key)) for key in keys)
            rows.append((Cell(latency.title, latency.title), *cells))
    return Table("Latencies", columns, tuple(rows)) if rows else None


def _further_ranks(run: RunDocument) -> list[str]:
    """Return the percentiles that were asked for besides the usual ones."""
    ends = "_ttft_ms"
    ranks = {key.removesuffix(ends) for key in run.summary if key.endswith(ends)}
    further = [rank for rank in ranks if rank[:1] == "p" and rank not in (*_STATISTICS, "p50")]
    return sorted(further, key=lambda rank: as_float_text(rank[1:]))


def as_float_text(text: str) -> float:
    """Return the number a text holds, infinity where it holds none."""
    try:
        return float(text)
    except ValueError:
        return float("inf")


def _figure_table(run: RunDocument) -> Table | None:
    rows = []
    for metric in (*SERVING_METRICS, *KV_CACHE_METRICS, *ENGINE_METRICS, *CLUSTER_METRICS):
        value = run.figure(metric.tag)
        if value is None:
            continue
        known = named(metric.tag)
        unit = "%" if metric.unit == "fraction" else metric.unit
        name = metric.header.rpartition(" (")[0] or metric.header
        cell = figure_cell(metric.tag, value)
        rows.append((Cell(name, name), cell, Cell(unit, unit), Cell(known.formula, known.formula)))
    columns = (
        Column("figure", is_number=False),
        Column("value"),
        Column("unit", is_number=False),
        Column("definition", is_number=False),
    )
    return Table("All figures", columns, tuple(rows)) if rows else None
