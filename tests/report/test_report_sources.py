"""What a page is made of: result stores, JSON of runs, and files that are neither."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from blis_sim.api import load_scenario, resolve, run, simulate
from blis_sim.capacity.study import Study
from blis_sim.errors import ConfigError
from blis_sim.metrics.result import Result
from blis_sim.report.blis_json import write_blis_json
from blis_sim.report.html.run_document import RunDocument, document_of, read_document
from blis_sim.report.html.run_page import run_page
from blis_sim.report.html.sampling import sample_interval_s
from blis_sim.report.html.source import page_of, read_source
from blis_sim.report.json_report import write_json
from tests.report.studies import make_plan, make_sweep, store_of

SCENARIO: dict[str, Any] = {"workload": {"num_requests": 40, "request_rate": 10}}


@pytest.fixture(scope="module")
def result() -> Result:
    """A short run."""
    return simulate(load_scenario(SCENARIO))


# -- stores -------------------------------------------------------------------


def test_a_store_gives_the_study_asked_last_or_any(tmp_path: Path) -> None:
    """With its points and its answer as they were put in."""
    path = store_of(tmp_path / "s.db", make_sweep(), make_plan())
    last, first = read_source(path), read_source(path, 1)
    assert isinstance(last, Study)
    assert isinstance(first, Study)
    assert (last.kind.value, first.kind.value) == ("plan", "sweep")
    for stored, made in ((last, make_plan()), (first, make_sweep())):
        assert page_of(stored, "s.db").tables == page_of(made, "s.db").tables
    assert page_of(last, "s.db").answer == page_of(make_plan(), "s.db").answer
    with pytest.raises(ConfigError, match=r"must hold study 7; there: 1, 2"):
        read_source(path, 7)


# -- results ------------------------------------------------------------------


def test_json_has_the_figures_of_the_run(result: Result, tmp_path: Path) -> None:
    """The same page as from memory, but for what the file does not hold."""
    path = tmp_path / "result.json"
    write_json(result, path)
    read, known = read_document(path), document_of(result, "result.json")
    assert read.summary == known.summary
    assert read.manifest == known.manifest
    assert (dict(read.quantiles), read.over_time) == ({}, None)
    page = run_page(read)
    assert page.answer == run_page(known).answer
    assert page.charts == ()
    over_time, distribution = page.absent
    assert "blis run --report FILE.html" in over_time.text
    assert "no distribution of TTFT, TPOT, ITL and E2E" in distribution.text
    assert "--save-detailed adds TTFT" in distribution.text


def test_detailed_json_has_the_distribution_of_ttft(result: Result, tmp_path: Path) -> None:
    """Of requests that completed; the rest is still missing."""
    path = tmp_path / "result.json"
    write_json(result, path, detailed=True)
    read = read_document(path)
    assert list(read.quantiles) == ["ttft"]
    assert read.quantiles["ttft"][99] == pytest.approx(result.summary["p99_ttft_ms"])
    page = run_page(read)
    assert [chart.key for chart in page.charts] == ["distribution"]
    assert "no distribution of TPOT, ITL and E2E" in page.absent[1].text
    assert "--save-detailed" not in page.absent[1].text


def test_the_layout_of_blis_can_be_read(result: Result, tmp_path: Path) -> None:
    """It has distributions, but does not say what was simulated; the page says so."""
    path = tmp_path / "blis.json"
    write_blis_json(result, path)
    read = read_document(path)
    assert read.figure("completed") == 40
    for key in ("p99_ttft_ms", "p99_itl_ms", "mean_e2el_ms", "mean_tpot_ms"):
        assert read.figure(key) == pytest.approx(result.summary[key])
    assert sorted(read.quantiles) == ["e2el", "tpot", "ttft"]
    page = run_page(read)
    assert page.answer.startswith("The deployment served 40 requests at ")
    assert page.question == "What does blis.json say?"
    assert "the layout of BLIS does not say what was simulated" in page.notices[0]


def test_a_run_that_served_nobody(result: Result) -> None:
    """One sentence, and no figures where there are none."""
    page = run_page(RunDocument(place="x", summary={"completed": 0, "num_prompts": 3}))
    assert page.answer == "None of 3 requests was completed."
    assert not page.is_good


# -- neither ------------------------------------------------------------------


def _other_database(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE a (b)")
    database.close()


def _cut(path: Path) -> None:
    whole = store_of(path.with_name("whole.db"), make_sweep()).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "must be a readable file; got .*: No such file"),
        (Path.mkdir, "got the folder"),
        (lambda path: path.write_text(""), "which is empty"),
        (lambda path: path.write_text("hello"), "Expecting value"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "must be a result store or the JSON"),
        (lambda path: path.write_text("[" * 100_000), "must be a result store or the JSON"),
        (lambda path: path.write_text("[1, 2]"), "which has no manifest"),
        (lambda path: path.write_text('{"rows": []}'), "which has no manifest"),
        (
            lambda path: path.write_text(
                '{"manifest": {}, "completed": 1, "ttfts": [1], "errors": []}'
            ),
            "must be a whole result; got .*damaged",
        ),
        (_other_database, "SOURCE must be a result store of blis; got .* another program"),
        (_cut, "SOURCE must be an undamaged result store"),
    ],
)
def test_files_that_are_no_source(make: Any, message: str, tmp_path: Path) -> None:
    """One line says what is wrong and what can be read."""
    path = tmp_path / "source"
    make(path)
    with pytest.raises(ConfigError, match=message) as caught:
        read_source(path)
    assert "\n" not in str(caught.value)


def test_a_result_has_no_studies(tmp_path: Path) -> None:
    """--study belongs to a store."""
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"manifest": {}, "completed": 1}))
    with pytest.raises(ConfigError, match="--study must be given with a result store"):
        read_source(path, 1)


# -- sampling -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("workload", "interval_s"),
    [
        ({"num_requests": 100, "request_rate": 1}, 0.5),
        ({"num_requests": 4000, "request_rate": 10}, 1.0),
        ({"num_requests": 10, "request_rate": 100}, 0.01),
        ({"num_requests": 40, "request_rate": float("inf")}, 0.5),
        ({"duration_s": 86_400, "request_rate": 1}, 500.0),
        ({"trace": "workloads/chat_small.csv"}, 0.5),
    ],
)
def test_runs_are_sampled_a_few_hundred_times(workload: dict[str, Any], interval_s: float) -> None:
    """1, 2 or 5 times a power of ten, by how long the load takes to arrive."""
    resolved = resolve(load_scenario({"workload": workload}))
    assert sample_interval_s(resolved) == interval_s


def test_samples_change_nothing() -> None:
    """Results with and without them are the same but for wall-clock facts."""
    resolved = resolve(load_scenario(SCENARIO))
    plain, sampled = run(resolved), run(resolved, timeseries_interval_s=0.05)
    one, other = (each.to_json_dict(detailed=True) for each in (plain, sampled))
    for key in ("date", "run_info"):
        del one[key], other[key]
    assert one == other
