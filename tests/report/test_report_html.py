"""The page: self-contained, escaped, readable by programs and people."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from blis_sim.api import load_scenario, simulate
from blis_sim.capacity.replicate import replicate
from blis_sim.capacity.study import StoredPoint, Study, StudyKind
from blis_sim.metrics.result import Result
from blis_sim.report.html import tables
from blis_sim.report.html.page import Page
from blis_sim.report.html.pictures import pictures
from blis_sim.report.html.run_document import document_of
from blis_sim.report.html.run_page import run_page
from blis_sim.report.html.source import page_of
from tests.report.html_parts import Read, read_page
from tests.report.studies import (
    HOSTILE,
    make_candidate,
    make_outcome,
    make_plan,
    make_point,
    make_study,
    make_sweep,
    make_tune,
    plan_answer,
    sweep_points,
)

pytest.importorskip("jinja2")
pytest.importorskip("plotly")


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the five megabytes of plotly out: other tests look at them."""
    from blis_sim.report.html import render

    monkeypatch.setattr(render, "_plotly_js", lambda: "/* plotly */")


def rendered(page: Page) -> Read:
    from blis_sim.report.html.render import render_page

    return read_page(render_page(page))


def page_for(study: Study) -> Page:
    return page_of(study, "results.db")


@pytest.fixture(scope="module")
def result() -> Result:
    """A run of a small cluster with limits, sampled."""
    scenario = load_scenario(
        {
            "workload": {"num_requests": 60, "request_rate": 8},
            "slo": {"ttft_ms": 500, "tpot_ms": 50},
            "cluster": {"num_instances": 2},
        }
    )
    return simulate(scenario, timeseries_interval_s=0.5)


PAGES = {
    "sweep": make_sweep,
    "sweep with replications": lambda: make_sweep(points=sweep_points(num_replications=3)),
    "sweep of one point": lambda: make_sweep(points=[make_point({}, make_outcome())]),
    "unfinished sweep": lambda: make_sweep(
        points=[make_point({"workload.request_rate": rate}, None) for rate in (1, 2)]
    ),
    "empty sweep": make_study,
    "plan": make_plan,
    "plan without an answer": lambda: make_plan(answer=None),
    "plan of nothing": lambda: make_plan(answer={}, asked={}, points=[]),
    "plan that found nothing": lambda: make_plan(
        answer={
            "sentence": "Nothing carries 40 requests/s.",
            "winner": None,
            "candidates": [{"gpu": "T4", "status": "infeasible", "reason": "too small"}],
        }
    ),
    "plan with bare candidates": lambda: make_plan(
        answer={"winner": 0, "candidates": [{"gpu": "H100"}, {"model": "m"}]}, points=[]
    ),
    "tune": make_tune,
    "tune without an answer": lambda: make_study(StudyKind.TUNE, sweep_points()),
}


@pytest.mark.parametrize("name", PAGES)
def test_every_study_has_a_page(name: str) -> None:
    """It nests, loads nothing, has an answer in one sentence and no bare number."""
    page = page_for(PAGES[name]())
    read = rendered(page)
    assert [address for address in read.loads if not address.startswith("data:")] == []
    assert read.ids["answer"] == page.answer
    assert page.answer.endswith(".")
    assert page.question in read.text
    for mistake in ("None", "nan", "NaN", "{'", "Estimate(", "True", "False"):
        assert mistake not in re.sub(r"\bNone of", "", read.text)
    assert re.findall(r"\d\.\d{7,}|\de[+-]\d\d", read.text) == []


def test_the_order_of_the_parts() -> None:
    """Question, answer, key figures, charts, tables, reasons, notices, sources."""
    points = [*sweep_points(("H100", "T4")), make_point({"hardware": "L4"}, None)]
    read = rendered(page_for(make_sweep(points=points)))
    parts = (
        *("How does Llama-3.1-8B-Instruct run", "costs least per token", "combinations"),
        *("Latency and load", "How latencies are distributed", "Speed for a user"),
        *("All combinations", "What could not be simulated", "Good to know"),
        *("Where the numbers come from", "What the figures mean"),
    )
    places = [read.text.index(part) for part in parts]
    assert places == sorted(places)


def test_a_page_may_load_nothing() -> None:
    """The policy in the page forbids it, and neither style nor script asks for it."""
    from blis_sim.report.html import render

    html = render.render_page(page_for(make_sweep()))
    assert "default-src 'none'" in html
    templates = Path(render.__file__).parent / "templates"
    for name in ("style.css", "page.js"):
        text = (templates / name).read_text(encoding="utf-8")
        assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttpRequest|innerHTML", text)


def test_the_script_of_plotly_can_stand_in_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not end its element, and a page without charts has none."""
    from plotly.offline import get_plotlyjs

    from blis_sim.report.html import render

    script = get_plotlyjs()
    assert "</script" not in script.lower()
    assert "<!--" not in script
    monkeypatch.setattr(render, "_plotly_js", lambda: script)
    assert len(render.render_page(page_for(make_sweep()))) > len(script)
    assert len(render.render_page(page_for(make_study()))) < 100_000


# -- escaping -----------------------------------------------------------------


def hostile_studies() -> list[Study]:
    point = make_point(
        {HOSTILE: HOSTILE, "workload.request_rate": 2, "model": HOSTILE},
        make_outcome(
            load=HOSTILE,
            notices=[HOSTILE],
            deployment={"model": HOSTILE, "gpu": HOSTILE, "latency_model": HOSTILE},
        ),
    )
    refused = {"gpu": HOSTILE, "status": HOSTILE, "reason": HOSTILE, "settings": {HOSTILE: 1}}
    answer = plan_answer(sentence=HOSTILE, candidates=[*plan_answer()["candidates"], refused])
    trials = [{"number": n, "settings": {HOSTILE: HOSTILE}, "value": n} for n in range(3)]
    points = [point, *sweep_points((HOSTILE, "H100", "T4"))]
    return [
        make_sweep(name=HOSTILE, points=points),
        make_plan(name=HOSTILE, answer=answer, asked={"model": HOSTILE, "load": HOSTILE}),
        make_tune(
            name=HOSTILE,
            answer={"objective": HOSTILE, "trials": trials, "best": trials[2]},
            points=points,
        ),
    ]


@pytest.mark.parametrize("number", range(3), ids=["sweep", "plan", "tune"])
def test_no_name_becomes_a_part_of_the_page(number: int) -> None:
    """Not in HTML, not in the data of the charts, and not in what plotly reads of HTML."""
    read = rendered(page_for(hostile_studies()[number]))
    assert len(read.scripts) == 3
    assert HOSTILE in read.text
    assert all("<script" not in script for script in read.scripts)
    shown = json.dumps(read.charts)
    assert "<script" not in shown
    for chart in read.charts.values():
        for view in chart.values():
            for trace in view["data"]:
                template = trace.get("hovertemplate", "").removesuffix("<extra></extra>")
                assert "%{x}" not in template.replace("%{x}: %{y", "").replace("trial %{x}", "")


def test_a_hostile_manifest_of_a_run(result: Result) -> None:
    """Names of models, files and pools come from users, too."""
    document = document_of(result, HOSTILE, HOSTILE)
    manifest = dict(document.manifest) | {"notices": [HOSTILE], "model": HOSTILE}
    manifest["pools"] = [dict(manifest["pools"][0]) | {"name": HOSTILE, "model": HOSTILE}]
    from dataclasses import replace

    read = rendered(run_page(replace(document, manifest=manifest)))
    assert len(read.scripts) == 3
    assert HOSTILE in read.text
    assert "<script" not in json.dumps(read.charts)


# -- tables -------------------------------------------------------------------


def test_tables_hold_what_was_simulated() -> None:
    """A row per combination; header, unit, values as people write them."""
    (table, *_) = rendered(page_for(make_sweep())).tables
    assert table[0][:5] == ["GPU", "requests/s", "keeps limits", "p99 TTFT ms", "mean TPOT ms"]
    assert len(table) == 1 + 12
    assert table[3][:5] == ["H100", "8", "yes", "31.5", "10.1"]
    missed = ["no mean TPOT", "no mean TPOT", "no p99 TTFT, mean TPOT", "no queue grows"]
    assert [row[2] for row in table[9:]] == missed


def test_replications_have_intervals() -> None:
    """Half the 95 % interval behind the mean, where it has a width."""
    study = make_sweep(points=sweep_points(("H100",), num_replications=3))
    (table, *_) = rendered(page_for(study)).tables
    assert re.fullmatch(r"[\d.]+ ± [\d.]+", table[1][3])
    assert "Means of up to 3 runs" in rendered(page_for(study)).text


def test_reasons_stand_once() -> None:
    """With all that they keep from running."""
    table = rendered(page_for(make_sweep())).tables[-1]
    assert len(table) == 2
    assert table[1][0].startswith("T4, 2 requests/s; T4, 4 requests/s")
    assert table[1][1:] == ["the weights do not fit on a T4", "infeasible", "4"]


def test_large_studies_stay_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many rows and lines, and a word about the rest."""
    monkeypatch.setattr(tables, "MOST_ROWS", 100)
    gpus = [f"GPU{number}" for number in range(30)]
    study = make_sweep(points=sweep_points(gpus, range(1, 15)))
    read = rendered(page_for(study))
    assert len(read.tables[0]) == 101
    assert "320 more rows are left out" in read.text
    view = read.charts["latency"]["0-0"]
    assert len(view["data"]) == 24 + 1
    assert "6 lines more are not drawn" in view["note"]
    assert len([key for key in read.charts["distribution"] if key.startswith("0-")]) == 12


def test_pictures_of_a_page() -> None:
    """One for each chart and option of its first choice; both costs share one."""
    found = pictures(page_for(make_sweep()))
    assert [picture.name for picture in found] == [
        *("latency-p99_ttft.png", "latency-mean_tpot.png", "latency-mean_ttft.png"),
        *("latency-p99_itl.png", "latency-p99_e2e.png"),
        *("distribution-ttft.png", "distribution-itl.png", "pareto.png", "cost.png"),
    ]
    assert found[0].title.splitlines()[1] == "Latency and load, p99 TTFT, requests/s"


# -- answers ------------------------------------------------------------------


def test_the_answer_of_a_study_is_shown_as_it_is() -> None:
    """And its best combination is marked."""
    study = make_sweep(answer={"sentence": "This one.", "best": 1})
    page = page_for(study)
    assert page.answer == "This one."
    assert page.tables[0].chosen == {1}


def test_a_sweep_over_rates_names_its_load() -> None:
    """Without the rate, which differs."""
    points = [
        make_point(
            {"workload.request_rate": rate},
            make_outcome(
                rate=rate,
                load=f"chatbot: 9 requests, poisson arrivals at {rate:g} "
                "requests/s, 30 s; prompt 5 tokens",
            ),
        )
        for rate in (2.0, 4.0)
    ]
    about = page_for(make_sweep(points=points)).about
    assert "load: chatbot: 9 requests, poisson arrivals, 30 s; prompt 5 tokens" in about


def test_a_sweep_without_an_answer_gets_one() -> None:
    """The cheapest that keeps all limits; where nothing does, so much is said."""
    page = page_for(make_sweep())
    assert page.answer == (
        "6 of 12 keep p99 TTFT <= 200 ms, mean TPOT <= 25 ms; of these H100, 16 requests/s costs "
        "least per token: $0.28 per million output tokens, p99 TTFT 54.3 ms, mean TPOT 12.3 ms."
    )
    assert page.is_good
    limits = [{"metric": "p99_ttft_ms", "value": 1.0}]
    none = page_for(make_sweep(asked={"limits": limits}))
    assert none.answer == "None of the 12 combinations simulated so far keeps p99 TTFT <= 1 ms."
    assert not none.is_good
    assert page_for(make_sweep(answer={"best": None})).tables[0].chosen == frozenset()


def test_without_prices_the_best_has_most_goodput_or_yield() -> None:
    """In this order."""
    plain = {"output_throughput_per_gpu": 100.0}
    points = [
        make_point({"hardware": gpu}, make_outcome(metrics=plain | more))
        for gpu, more in (("A", {"request_goodput": 5.0}), ("B", {"request_goodput": 7.0}))
    ]
    assert "B has the highest goodput" in page_for(make_sweep(points=points, asked={})).answer
    points[0] = make_point({"hardware": "A"}, make_outcome(metrics=plain))
    assert "yields most per GPU" in page_for(make_sweep(points=points, asked={})).answer


def test_what_is_open_or_mixed_is_noted() -> None:
    """Unfinished points, several versions, growing queues, and the notices of runs."""
    points = sweep_points(("H100", "L40S"), (8, 16))
    points[0] = make_point({"hardware": "H100"}, make_outcome(notices=["mind this"]))
    points.append(make_point({"hardware": "B200"}, None))
    notices = page_for(make_sweep(points=points)).notices
    assert notices[0].startswith("1 of 5 simulations are not finished")
    assert "the queue kept growing at 1 point" in notices[1]
    assert notices[2] == "mind this (1 of 4 simulations)"


def test_a_plan_shows_its_winner() -> None:
    """Key figures, every candidate, the probes, the whole deployment, and who was refused."""
    page = page_for(make_plan())
    assert page.question == "The cheapest deployment for chat at 40 requests/s"
    assert [(tile.label, tile.value) for tile in page.tiles[:3]] == [
        ("deploy", "2 x H100"),
        ("per hour", "$7.98"),
        ("carries, requests/s", "48.0"),
    ]
    assert [table.title for table in page.tables] == [
        "Candidates",
        "How the rate of one replica was found: H100",
        "The whole deployment, simulated",
    ]
    assert page.tables[0].chosen == {0}
    assert [chart.key for chart in page.charts] == ["latency", "cost", "pareto", "distribution"]
    assert page.infeasible is not None
    assert [cell.text for cell in page.infeasible.rows[0]][:2] == ["T4", "the weights do not fit"]
    (bars,) = {view.plot for view in page.charts[1].views.values()}  # type: ignore[union-attr]
    assert (bars.bars[0].name, bars.bars[0].is_chosen) == ("2 x H100", True)


def test_what_is_limited_is_told_of_the_whole_deployment() -> None:
    """At the rate that was asked for; where it was not simulated, at the highest of a replica."""
    limits = {"p99 TTFT": "143 ms", "mean TPOT": "14.2 ms"}

    def told(page: Page) -> dict[str, tuple[str, str]]:
        return {tile.label: (tile.value, tile.note) for tile in page.tiles if tile.label in limits}

    assert told(page_for(make_plan())) == {
        "p99 TTFT": ("143 ms", "limit 200 ms, at 40/s"),
        "mean TPOT": ("14.2 ms", "limit 25 ms, at 40/s"),
    }
    alone = told(page_for(make_plan(answer=plan_answer(verification={}))))
    assert alone["p99 TTFT"] == ("153 ms", "limit 200 ms, at 24/s")


def test_a_study_says_how_well_its_figures_are_known() -> None:
    """Of all where it is the same, else of the answer and how many of each kind there are."""
    near, far = "validated: TTFT ±7 %", "extrapolated: 90 requests in flight above 40"

    def points(first: str, second: str) -> list[StoredPoint]:
        rates = ((2.0, first), (4.0, second))
        return [
            make_point({"workload.request_rate": r}, make_outcome(rate=r, accuracy=text))
            for r, text in rates
        ]

    both = "accuracy of the 2 simulations: 1 validated, 1 extrapolated"
    assert page_for(make_sweep(points=points(near, near))).notices == (f"accuracy, {near}",)
    asked: dict[str, Any] = {"points": points(near, far)}
    assert page_for(make_sweep(**asked)).notices == (f"accuracy of the answer, {far}", both)
    winner = make_candidate(accuracy=far)
    plan = make_plan(answer=plan_answer(candidates=[winner]), **asked)
    assert page_for(plan).notices[:2] == (f"accuracy at the highest rate, {far}", both)
    assert page_for(make_sweep()).notices[0].startswith("the queue kept growing")


def test_a_search_has_the_figures_of_its_simulations() -> None:
    """Of a highest rate those of the simulation it names; and what was asked."""
    trials: list[dict[str, Any]] = [
        {
            "number": number,
            "settings": {"engine.max_num_seqs": seqs},
            "value": rate + 1,
            "scenario_sha256": f"{seqs} at {rate:g}",
            "is_quick": number == 0,
        }
        for number, seqs, rate in ((0, 32, 2.0), (1, 64, 4.0))
    ]
    points = [
        make_point(
            {"engine.max_num_seqs": seqs, "workload.request_rate": rate},
            make_outcome(
                rate=rate,
                accuracy=f"extrapolated: {seqs} at {rate:g}",
                scenario_sha256=f"{seqs} at {rate:g}",
            ),
        )
        for seqs in (32, 64)
        for rate in (2.0, 4.0, 8.0)
    ]
    page = page_for(
        make_tune(
            points=points,
            asked={
                "scenario": {"model": "meta/m-8B", "hardware": "H100", "slo": {"ttft_ms": 500}}
            },
            answer={"objective": "request_rate_per_gpu", "best": trials[1], "trials": trials},
        )
    )
    (table,) = page.tables
    place = [column.header for column in table.columns].index("p99 TTFT")
    expected = [make_outcome(rate=rate).metrics["p99_ttft_ms"] for rate in (2.0, 4.0)]
    assert [row[place].value for row in table.rows] == expected
    assert [row[0].note for row in table.rows] == ["as given", ""]
    assert [row[2].note for row in table.rows] == ["short", ""]
    assert table.note.startswith("short: ")
    assert page.notices[0] == "accuracy of the answer, extrapolated: 64 at 4"
    assert page.about.startswith("model: m-8B · GPU: H100 · objective: highest rate per GPU")
    assert page.about.endswith("a request is good within TTFT <= 500 ms")


def test_a_search_shows_its_trials() -> None:
    """The best one is marked, one without a value is listed."""
    page = page_for(make_tune())
    assert page.question == "Which settings are best?"
    (table,) = page.tables
    assert table.chosen == {4}
    assert [cell.text for cell in table.rows[3]] == [
        "3",
        "128",
        "0.15.1",
        "-",
        "missed",
        "too slow",
    ]
    (chart,) = page.charts
    assert chart.key == "trials"


# -- runs ---------------------------------------------------------------------


def test_a_run_in_memory_has_all_parts(result: Result) -> None:
    """Timeline, distributions, tables of instances, prices with dates, the scenario."""
    page = run_page(document_of(result, "blis run", "60 requests"))
    read = rendered(page)
    assert page.question == "How does Llama-3.1-8B-Instruct on 2 x H100 serve 8 requests/s?"
    assert sorted(read.charts) == ["distribution", "over_time"]
    assert page.absent == ()
    titles = [table.title for table in page.tables]
    assert titles == ["Latencies", "Instances", "All figures"]
    assert page.answer.startswith("Llama-3.1-8B-Instruct on 2 x H100 served 60 requests at ")
    assert "on average" in page.answer
    assert "per hour" in page.answer
    assert "nothing is at its limit" in page.answer
    assert ", 100 % of them within their limits, for $" in page.answer
    for text in ("the median of 3 offers", "SHA-256", "roofline-v2", "num_requests: 60", "2026"):
        assert text in read.text


def test_how_well_the_figures_are_known(result: Result) -> None:
    """A page says it; of several seeds it shows the first, and says that, too."""
    page = run_page(document_of(result, "blis run"))
    assert page.notices[0].startswith("accuracy, ")
    load = {"num_requests": 3, "request_rate": 8}
    several = replicate(load_scenario({"workload": load, "seed": 5}), 2)
    notices = run_page(document_of(several, "blis run")).notices
    assert notices[0].startswith("the figures are those of seed 5, the first of 2; ")


def test_sessions_arrive_as_conversations() -> None:
    """The configured rate is that of their beginnings; what is served is requests."""
    load = {"request_rate": 2, "num_requests": 3, "sessions": {"rounds": 4, "think_time_s": 1}}
    run = document_of(simulate(load_scenario({"workload": load})), "blis run")
    page = run_page(run)
    assert page.question == "How does Llama-3.1-8B-Instruct on 1 x H100 serve 2 conversations/s?"
    assert page.about == "load: 12 requests, lengths as in distribution, 2 conversations/s"
    assert page.tiles[0].note == "asked for: 2 conversations/s"


def test_limits_of_requests_are_drawn(result: Result) -> None:
    """Where the time that is limited is shown."""
    read = rendered(run_page(document_of(result, "x")))
    views = read.charts["distribution"]
    marks = [[t["name"] for t in v["data"] if t.get("meta")] for v in views.values()]
    assert marks == [
        ["limit of each request: TTFT &lt;= 500 ms"],
        ["limit of each request: TPOT &lt;= 50 ms"],
        [],
        [],
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "nothing is at its limit: requests hardly wait, and at most 5 % of the KV cache"),
        ({"kv_usage_peak_frac": 1.0}, "the KV cache is the tightest spot: it was full at times"),
        (
            {"kv_usage_peak_frac": 1.0, "mean_queue_ms": 900.0, "num_preemptions": 3},
            "the KV cache limits it: it is full, and requests wait 900 ms on average for blocks "
            "(3 preemptions)",
        ),
        (
            {"mean_queue_ms": 900.0, "peak_running_requests": 64},
            "max_num_seqs limits it: all 64 seats are taken",
        ),
        ({"mean_queue_ms": 900.0}, "the speed of the engine limits it: requests wait 900 ms"),
        ({"mean_queue_ms": 30.0}, "nothing is at its limit"),
    ],
)
def test_what_limits_a_run(changes: dict[str, Any], words: str) -> None:
    """Memory before seats before speed, and only where requests wait."""
    from blis_sim.report.html.limiting import limiting_words
    from blis_sim.report.html.run_document import RunDocument

    summary = {
        "mean_ttft_ms": 40.0,
        "mean_queue_ms": 5.0,
        "kv_usage_peak_frac": 0.05,
        "peak_running_requests": 12,
    }
    run = RunDocument(
        place="x", summary=summary | changes, manifest={"engine_settings": {"max_num_seqs": 64}}
    )
    assert limiting_words(run).startswith(words)


def test_a_plan_for_conversations_counts_them() -> None:
    page = page_for(make_plan(answer=plan_answer(unit="conversations/s")))
    assert "conversations/s" in page.about
    assert "requests/s" not in page.about
    assert any(tile.label == "carries, conversations/s" for tile in page.tiles)
    units = {column.unit for table in page.tables for column in table.columns}
    assert "conversations/s" in units
    assert "requests/s" not in units


def test_a_sweep_says_where_the_rate_was_not_served() -> None:
    """A point that kept its limits may have had too few requests for its rate to last."""
    points = [
        make_point(
            {"workload.request_rate": rate},
            make_outcome(rate=rate, metrics={"request_throughput": served}, request_rate=rate),
        )
        for rate, served in ((8.0, 7.9), (56.0, 30.0))
    ]
    (said,) = (each for each in page_for(make_sweep(points=points)).notices if "far fewer" in each)
    assert said.startswith("1 point served far fewer requests than asked")
    steady = page_for(make_sweep(points=points[:1])).notices
    assert not any("far fewer" in each for each in steady)
