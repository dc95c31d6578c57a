from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

import pytest

from blis_sim import api
from blis_sim.capacity.executor import Backend, Executor
from blis_sim.capacity.grid import axis, grid_points
from blis_sim.capacity.slo import Limit, parse_slo
from blis_sim.capacity.store import ResultStore
from blis_sim.capacity.study import Outcome, Point, StudyKind
from blis_sim.capacity.sweep import (
    SweepRow,
    run_sweep,
    served_short,
    stored_rows,
    sweep,
    sweep_answer,
    sweep_rows,
    words_of,
)
from blis_sim.config.draft import ScenarioDraft
from blis_sim.errors import CatalogError, ConfigError, SimulationError, TraceError

from .studies import CHEAP, figures, make_outcome, make_point, make_scenario, write_trace

BASE = {**CHEAP, "seed": 7}


def points_of(*axes: tuple[str, list[Any]], num_replications: int = 1) -> list[Point]:
    draft = ScenarioDraft(BASE)
    return grid_points(
        draft, [axis(path, values) for path, values in axes], num_replications=num_replications
    )


def swept(points: list[Point], **more: Any) -> list[SweepRow]:
    with ResultStore(None) as store:
        return run_sweep(points, store=store, backend=Backend(), **more)


def row(number: int = 0, *outcomes: Outcome, **metrics: float) -> SweepRow:
    """Return a row of one outcome with these metrics, or of these outcomes."""
    return SweepRow({"n": number}, outcomes or (make_outcome(metrics=metrics),))


# -- rows -----------------------------------------------------------------------


def test_a_row_is_what_a_run_says() -> None:
    """All that the summary of one simulation has, to the last digit."""
    points = points_of(("hardware", ["H100", "A100-80"]), ("workload.request_rate", [2, 4]))
    rows = swept(points)
    assert [dict(each.labels) for each in rows] == [dict(point.labels) for point in points]
    for point, each in zip(points, rows, strict=True):
        summary = api.simulate(point.scenario).summary
        (outcome,) = each.outcomes
        assert outcome.metrics.keys() <= summary.keys()
        assert all(summary[key] == value for key, value in outcome.metrics.items())
        assert outcome.deployment["gpu"] == point.labels["hardware"]
        assert outcome.request_rate == point.labels["workload.request_rate"]
        assert outcome.seed == 7
        assert outcome.quantiles["ttft"][99] == pytest.approx(summary["p99_ttft_ms"])


def test_replications_are_one_row() -> None:
    """Means over them, with the half width of their interval."""
    (each, other) = swept(points_of(("hardware", ["H100", "A100-80"]), num_replications=3))
    assert [outcome.seed for outcome in each.outcomes] == [7, 8, 9]
    values = each.values("mean_ttft_ms")
    assert len(set(values)) == 3
    assert each.mean("mean_ttft_ms") == statistics.fmean(values)
    width = 4.303 * statistics.stdev(values) / math.sqrt(3)
    assert each.half_width("mean_ttft_ms") == pytest.approx(width)
    assert other.labels == {"hardware": "A100-80"}


def test_what_cannot_run_is_a_row_with_the_reason() -> None:
    """Weights that do not fit, heads that cannot be split; the others have their figures."""
    draft = ScenarioDraft({"workload": {"num_requests": 3}})
    axes = [axis("hardware", ["H100", "T4"]), axis("engine.tensor_parallel_size", [1, 3])]
    rows = swept(grid_points(draft, axes))
    assert [each.is_done for each in rows] == [True, False, False, False]
    assert rows[0].reason == ""
    assert "must split the 32 attention heads" in rows[1].reason
    assert "each GPU lacks 3.8 GB" in rows[2].reason
    assert rows[2].mean("mean_ttft_ms") is None
    (outcome,) = rows[2].outcomes
    assert (outcome.status.value, outcome.deployment["gpu"]) == ("infeasible", "T4")


def test_what_is_wrong_with_all_is_an_error() -> None:
    """It lies in what they share."""
    draft = ScenarioDraft({"hardware": "T4", "workload": {"num_requests": 3}})
    with pytest.raises(ConfigError, match=r"each GPU lacks 3\.8 GB"):
        swept(grid_points(draft, [axis("workload.request_rate", [1, 2])]))


def test_different_reasons_are_rows() -> None:
    draft = ScenarioDraft({"hardware": "T4", "workload": {"num_requests": 3}})
    rows = swept(grid_points(draft, [axis("engine.tensor_parallel_size", [1, 3])]))
    assert len({each.reason for each in rows}) == 2
    assert sweep_answer(rows)["sentence"] == "No combination could be simulated."


def test_a_defect_at_one_point_costs_the_others_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a row that says where, and is tried again; at every point it is one error."""
    run, points = api.run, points_of(("seed", [1, 2]))

    def stumble(resolved: Any, **more: Any) -> Any:
        return 1 / 0 if resolved.scenario.seed in bad else run(resolved, **more)

    monkeypatch.setattr(api, "run", stumble)
    with ResultStore(None) as store:
        bad = {1, 2}
        message = r"^ZeroDivisionError: division by zero, in stumble in test_sweep\.py:\d+; please"
        with pytest.raises(SimulationError, match=message):
            run_sweep(points, store=store, backend=Backend())
        bad = {2}
        rows = run_sweep(points, store=store, backend=Backend())
        assert [each.outcomes[0].status.value for each in rows] == ["done", "failed"]
        assert rows[1].reason.startswith("ZeroDivisionError")
        bad = set()
        rows = run_sweep(points, store=store, backend=Backend())
        assert [each.is_done for each in rows] == [True, True]


def test_a_wrong_trace_is_no_row(tmp_path: Path) -> None:
    """Nothing else would do better: file, line and column."""
    trace = write_trace(tmp_path / "bad.csv", "0,33,5", "1,33,many")
    draft = ScenarioDraft({"workload": {"trace": str(trace)}})
    with pytest.raises(TraceError, match=r"bad\.csv:3.*output_tokens"):
        swept(grid_points(draft, [axis("hardware", ["H100", "A100-80"])]))


def test_no_points() -> None:
    with pytest.raises(ConfigError, match="a sweep must have points; got none; give --grid"):
        swept([])


# -- what a store makes of it ---------------------------------------------------


def test_a_stored_study_has_the_same_rows() -> None:
    points = points_of(("hardware", ["H100", "A100-80"]), num_replications=2)
    with ResultStore(None) as store:
        rows = run_sweep(points, store=store, backend=Backend(), name="a name", asked={"x": 1})
        study = store.study()
    assert (study.name, study.asked) == ("a name", {"x": 1})
    assert study.answer == sweep_answer(rows)
    stored = stored_rows(study)
    assert [each.labels for each in stored] == [each.labels for each in rows]
    assert [figures(o) for each in stored for o in each.outcomes] == [
        figures(o) for each in rows for o in each.outcomes
    ]


def test_what_is_not_finished_is_a_row_without_figures() -> None:
    """Of a study that was stopped."""
    points = points_of(("hardware", ["H100", "A100-80"]))
    with ResultStore(None) as store:
        executor = Executor(store, Backend())
        keys = executor.keys(points)
        study = store.begin(StudyKind.SWEEP, "a", {})
        store.add_members(study, keys, points)
        executor.run(points[1:], keys[1:])
        rows = stored_rows(store.study(study))
    assert [each.is_done for each in rows] == [False, True]
    assert rows[0].reason == "not finished: run the same command again"


# -- the answer -----------------------------------------------------------------

COST, PER_GPU = "usd_per_million_output_tokens", "output_throughput_per_gpu"


def test_the_cheapest_that_keeps_the_limits_is_best() -> None:
    limits = parse_slo("p99_ttft_ms:500")
    rows = [
        row(0, p99_ttft_ms=600, **{COST: 0.1}),
        row(1, p99_ttft_ms=500, **{COST: 0.3}),
        row(2, p99_ttft_ms=100, **{COST: 0.2}),
        row(3, make_outcome("infeasible", reason="no")),
    ]
    answer = sweep_answer(rows, limits)
    assert (answer["best"], answer["num_meeting"], answer["num_infeasible"]) == (2, 2, 1)
    assert answer["sentence"] == (
        "2 of 3 combinations keep p99 TTFT <= 500 ms; of these n=2 costs least per token, 0.2 "
        "USD per million output tokens (p99 TTFT 100.0 ms)."
    )
    assert sweep_answer(rows)["best"] == 0


def test_where_requests_have_limits_good_tokens_count() -> None:
    """A token less dear is no bargain where its request came too late."""
    good = ((0.20, 1.5), (0.22, 2.0), (0.19, 0.0))
    rows = [
        row(n, **{COST: cost, PER_GPU: 100, "request_goodput": good, "request_throughput": 2.0})
        for n, (cost, good) in enumerate(good)
    ]
    answer = sweep_answer(rows)
    assert answer["best"] == 1
    assert answer["sentence"] == (
        "Of 3 combinations, n=1 costs least per good token, 0.22 USD per million output tokens "
        "(100 % of the requests within their limits)."
    )
    demanded = parse_slo("goodput:70%")
    assert sweep_answer(rows, demanded)["best"] == 0
    for each in rows:
        del each.outcomes[0].metrics[COST]  # type: ignore[attr-defined]
    assert sweep_answer(rows)["best"] == 1


def test_where_a_price_is_unknown_output_per_gpu_counts() -> None:
    rows = [
        row(0, **{COST: 0.1, PER_GPU: 900}),
        row(1, **{PER_GPU: 1200}),
    ]
    answer = sweep_answer(rows)
    assert answer["best"] == 1
    assert "n=1 gives most per GPU, 1,200 output tokens/s" in answer["sentence"]


def test_where_nothing_came_out_there_is_an_answer() -> None:
    """All prompts are too long and dropped: a run without a single token."""
    draft = ScenarioDraft({**BASE, "engine": {"max_model_len": 16}})
    rows = swept(grid_points(draft, [axis("workload.prompt", [{"mean": 99}, {"mean": 999}])]))
    assert [each.mean("completed") for each in rows] == [0, 0]
    assert sweep_answer(rows)["sentence"].startswith("Of 2 combinations, prompt=no. 1 gives most")


def test_when_none_keeps_the_limits() -> None:
    answer = sweep_answer([row(p99_ttft_ms=600.0)], parse_slo("p99_ttft_ms:500"))
    assert answer["best"] is None
    assert answer["sentence"] == "None of the 1 combinations simulated keeps p99 TTFT <= 500 ms."


@pytest.mark.parametrize(
    ("slo", "metrics", "meets"),
    [
        ("mean_itl_ms:5", {"mean_itl_ms": 5}, True),
        ("mean_itl_ms:5", {"mean_itl_ms": 5.01}, False),
        ("mean_itl_ms:5", {}, False),
        ("goodput:90%", {"request_goodput": 9, "request_throughput": 10}, True),
        ("goodput:91%", {"request_goodput": 9, "request_throughput": 10}, False),
        ("goodput:91%", {"request_throughput": 10}, False),
    ],
)
def test_limits_of_a_row(slo: str, metrics: dict[str, float], meets: bool) -> None:
    assert row(**metrics).meets(parse_slo(slo)) is meets


def test_a_row_with_one_replication_that_failed_keeps_no_limit() -> None:
    good = make_outcome(metrics={"mean_itl_ms": 1})
    assert row(0, good).meets([Limit("mean_itl_ms", 5)])
    assert not row(0, good, make_outcome("failed", reason="x")).meets([Limit("mean_itl_ms", 5)])


def test_words() -> None:
    assert words_of({"engine.max_num_seqs": 8, "hardware": "H100"}) == (
        "max_num_seqs=8, hardware=H100"
    )
    assert words_of({}) == "the scenario"


def test_rows_keep_the_order_of_their_first_points() -> None:
    points = [make_point(n, {"a": a, "replication": n}) for n, a in enumerate("xyx")]
    rows = sweep_rows(points, [make_outcome()] * 3)
    assert [(each.labels, len(each.outcomes)) for each in rows] == [
        ({"a": "x"}, 2),
        ({"a": "y"}, 1),
    ]


# -- from Python ----------------------------------------------------------------


def test_from_python(tmp_path: Path) -> None:
    """A data frame with a row per combination and replication; kept where one says."""
    grid = {"hardware": ["H100", "A100-80"], "engine.max_num_seqs": [4]}
    store = tmp_path / "a.db"
    frame = sweep(BASE, grid, num_replications=2, store=store, num_jobs=1)
    assert list(frame.columns[:5]) == [*grid, "replication", "status", "reason"]
    assert frame.hardware.tolist() == ["H100", "H100", "A100-80", "A100-80"]
    assert frame.replication.tolist() == [0, 1, 0, 1]
    scenario = make_scenario(seed=8, hardware="A100-80", engine={"max_num_seqs": 4})
    assert frame.mean_ttft_ms[3] == api.simulate(scenario).summary["mean_ttft_ms"]
    before = store.stat().st_mtime_ns
    file = tmp_path / "s.yaml"
    file.write_text(
        "latency: {model: blackbox}\nseed: 7\nworkload: {num_requests: 5, request_rate: 4}\n"
    )
    for base in (make_scenario(seed=7), file, str(file)):
        again = sweep(base, grid, num_replications=2, store=store, num_jobs=1)
        assert again.equals(frame)
    with ResultStore(store, is_read_only=True) as opened:
        assert opened.tallies() == {1: {"done": 4}}
    assert before <= store.stat().st_mtime_ns


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"hardware": "H100"}, "grid hardware must have a list of values, at least one; got"),
        ({"hardware": []}, "grid hardware must have a list of values, at least one; got"),
        ({"hardwear": ["H100"]}, "hardwear.* nearest: hardware"),
    ],
)
def test_wrong_grids_from_python(grid: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sweep(BASE, grid)


# -- what was asked -------------------------------------------------------------


def asked_and_served(asked: float | str | None, served: float) -> SweepRow:
    return SweepRow(
        {"n": 0}, (make_outcome(metrics={"request_throughput": served}, request_rate=asked),)
    )


@pytest.mark.parametrize(
    ("asked", "served", "told"),
    [
        (56.0, 30.0, (30.0, 56.0)),
        (40.0, 30.0, None),
        (0.15, 1.3, None),  # conversations
        ("inf", 30.0, None),
        (None, 30.0, None),
    ],
)
def test_far_fewer_served_than_asked(
    asked: float | str | None, served: float, told: tuple[float, float] | None
) -> None:
    assert served_short(asked_and_served(asked, served)) == told


def test_the_answer_says_that_its_rate_was_not_served() -> None:
    """300 requests at 56 per second are over before the batch is full."""
    points = points_of(("workload.num_requests", [300]), ("workload.request_rate", [4, 56]))
    steady, short = swept(points)
    assert served_short(steady) is None
    served, asked = served_short(short) or (0, 0)
    assert asked == 56
    assert served == short.mean("request_throughput")
    sentence = sweep_answer([steady, short])["sentence"]
    assert f"only {served:.3g} of 56 requests/s served" in sentence


@pytest.mark.parametrize("path", ["model", "hardware"])
def test_an_unknown_name_is_no_row(path: str) -> None:
    """Nothing is simulated or stored: it is a slip of the pen."""
    known = {"model": "llama-3.1-8b", "hardware": "H100"}[path]
    with ResultStore(None) as store:
        with pytest.raises(CatalogError, match=f"{path} must be a known name; got 'H1OO'"):
            run_sweep(points_of((path, [known, "H1OO"])), store=store, backend=Backend())
        assert store.studies() == []
