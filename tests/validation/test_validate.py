"""Simulating and comparing: what was predicted, for which part, and how wrong it is."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from blis_sim.api import simulate
from blis_sim.errors import ConfigError, SimulationError
from blis_sim.validation.compare import Compared, ValidatedRow, wasserstein
from blis_sim.validation.figures import FIGURES
from blis_sim.validation.validate import Task, scenario_of, simulate_case, validate
from blis_sim.validation.workers import in_parallel
from tests.validation.deaths import die_at_2
from tests.validation.tables import FAST, MEASURED, cases, row, served, write_requests

TWO = {"stage_rates": "5|15", "stage_durations_s": "6|4", "stage_gap_s": "2"}
ONES = dict.fromkeys([*MEASURED, "n_requests", "makespan_s"], "1")
SHARED = Path(__file__).resolve().parents[3] / "shared/data/measured"


def two_stages(**cells: object) -> list[dict[str, str]]:
    """Return the rows of an experiment with two stages, all figures 1."""
    return [row(stage=stage, **TWO, **(ONES | cells)) for stage in (-1, 0, 1)]


def predicted(of: ValidatedRow) -> dict[str, float]:
    """Return what was predicted, all of it."""
    values = {name: each.predicted for name, each in of.metrics.items()}
    found = {name: value for name, value in values.items() if value is not None}
    assert len(found) == len(values)
    return found


def as_measured(of: ValidatedRow) -> dict[str, str]:
    """Return the cells of a row as if the simulation had been measured."""
    figures = predicted(of)
    per_s = figures.pop("request_throughput")
    # The quotient must be the very same number.
    texts = {name: repr(value) for name, value in figures.items()}
    return texts | {"n_requests": "1", "makespan_s": repr(1 / per_s)}


def test_the_figures_are_those_of_a_run(tmp_path: Path) -> None:
    """As a simulation of the same scenario reports them."""
    (case,) = cases(tmp_path, row(stage=0, **ONES))
    summary = simulate(scenario_of(Task(case, overrides=FAST))).summary
    (of,) = validate([case], overrides=FAST).rows
    assert predicted(of) == {
        "ttft_mean_ms": summary["mean_ttft_ms"],
        "ttft_p99_ms": summary["p99_ttft_ms"],
        "tpot_mean_ms": pytest.approx(summary["mean_tpot_ms"]),
        "e2e_mean_ms": summary["mean_e2el_ms"],
        "e2e_p99_ms": summary["p99_e2el_ms"],
        "request_throughput": pytest.approx(summary["request_throughput"]),
    }


def test_stages_are_parts_of_one_simulation(tmp_path: Path) -> None:
    """Told apart by when requests were sent; the whole run is all of them together."""
    (case,) = cases(tmp_path, *two_stages())
    requests = simulate(scenario_of(Task(case, overrides=FAST))).run.requests
    assert np.diff(requests.arrival_us).argmax() == 29
    ttft_ms = (requests.first_token_us - requests.arrival_us) / 1000
    whole, first, second = (predicted(r) for r in validate([case], overrides=FAST).rows)
    assert first["ttft_mean_ms"] == pytest.approx(ttft_ms[:30].mean())
    assert second["ttft_mean_ms"] == pytest.approx(ttft_ms[30:].mean())
    assert whole["ttft_mean_ms"] == pytest.approx(ttft_ms.mean())
    assert second["ttft_p99_ms"] == pytest.approx(np.percentile(ttft_ms[30:], 99))
    assert second["request_throughput"] == pytest.approx(15, rel=0.1)


def test_what_the_simulator_measured_itself_has_no_error(tmp_path: Path) -> None:
    """With the same seed; with another one it has some."""
    made = validate(cases(tmp_path, *two_stages()), overrides=FAST).rows
    again = cases(
        tmp_path,
        *(row(stage=of.stage, **TWO, **as_measured(of)) for of in made),
    )
    for of in validate(again, overrides=FAST).rows:
        errors = {name: each.error_pct for name, each in of.metrics.items()}
        assert errors == {name: pytest.approx(0, abs=1e-9) for name in errors}
        assert len(errors) == 6
    other = validate(again, overrides=[*FAST, "seed=1"]).rows
    assert all(abs(of.metrics["ttft_mean_ms"].error_pct) > 1e-3 for of in other)


def test_a_later_answer_has_the_error_of_its_delay(tmp_path: Path) -> None:
    """3 ms more in the frontend are 3 ms of TTFT and of E2E, and none of TPOT."""
    made = validate(cases(tmp_path, *two_stages()), overrides=FAST).rows
    again = cases(tmp_path, *(row(stage=of.stage, **TWO, **as_measured(of)) for of in made))
    later = ["latency.alpha=[4000,0,0]", FAST[1]]
    for of in validate(again, overrides=later).rows:
        for name in ("ttft_mean_ms", "ttft_p99_ms", "e2e_mean_ms", "e2e_p99_ms"):
            each = of.metrics[name]
            assert each.predicted == pytest.approx(each.measured + 3)
            assert each.error_pct == pytest.approx(300 / each.measured)
        assert of.metrics["tpot_mean_ms"].error_pct == pytest.approx(0, abs=1e-6)


def test_only_requests_sent_late_enough_count(tmp_path: Path) -> None:
    """From the begin of the run on, not of the stage."""
    (case,) = cases(tmp_path, *two_stages(measure_from_s="3"))
    requests = simulate(scenario_of(Task(case, overrides=FAST))).run.requests
    is_late = requests.arrival_us >= 3_000_000
    e2e_ms = (requests.last_token_us - requests.arrival_us) / 1000
    whole, first, second = (predicted(r) for r in validate([case], overrides=FAST).rows)
    assert whole["e2e_mean_ms"] == pytest.approx(e2e_ms[is_late].mean())
    assert first["e2e_mean_ms"] == pytest.approx(e2e_ms[:30][is_late[:30]].mean())
    assert second["e2e_mean_ms"] == pytest.approx(e2e_ms[30:].mean())


def test_predictions_of_several_seeds_are_averaged(tmp_path: Path) -> None:
    """The seeds follow one another."""
    made = cases(tmp_path, row(ttft_mean_ms=1))
    each = [
        predicted(validate(made, overrides=[*FAST, f"seed={seed}"]).rows[0])["ttft_mean_ms"]
        for seed in (42, 43, 44)
    ]
    (of,) = validate(made, overrides=FAST, num_seeds=3).rows
    assert predicted(of)["ttft_mean_ms"] == pytest.approx(sum(each) / 3)
    assert len(set(each)) == 3


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"model": "nobody/Nothing-7B"}, "model must be a known name; got 'nobody/Nothing-7B'"),
        ({"gpu": "X1000"}, "hardware must be a known name; got 'X1000'"),
        ({"tp": 7}, "must"),
        ({"engine": "SGLang 0.5"}, "engine must be vLLM and its version"),
        ({"prompt_tokens": 50_000}, "no request was completed that has ttft_mean_ms, e2e_mean_ms"),
    ],
)
def test_what_cannot_be_simulated_is_a_row_with_a_reason(
    tmp_path: Path, cells: dict[str, object], reason: str
) -> None:
    """All its figures are wrong by 100 %, and the others are as they were."""
    figures = {"ttft_mean_ms": "5", "e2e_mean_ms": "50"}
    made = cases(
        tmp_path, row(exp_id="good", **figures), row(exp_id="bad", stage=0, **figures, **cells)
    )
    good, bad = validate(made, overrides=FAST).rows
    assert good.reason == ""
    assert reason in bad.reason
    assert bad.stage == 0
    assert {name: (each.predicted, each.error_pct) for name, each in bad.metrics.items()} == {
        "ttft_mean_ms": (None, 100),
        "e2e_mean_ms": (None, 100),
    }


def test_rows_are_in_the_order_of_the_table(tmp_path: Path) -> None:
    """Also those of experiments that are written in turn, whichever is simulated first."""
    table = [row(exp_id=name, stage=stage) for stage in (-1, 0) for name in "ab"]
    made = cases(tmp_path, *table, row(exp_id="c", stage_durations_s=9))
    rows = validate(made, overrides=FAST).rows
    assert [(of.exp_id, of.stage) for of in rows] == [
        *(("a", -1), ("b", -1), ("a", 0), ("b", 0)),
        ("c", -1),
    ]


def test_an_override_that_is_wrong_is_wrong_for_all(tmp_path: Path) -> None:
    """It is an error, and no reason of a row; so is a table without rows."""
    with pytest.raises(ConfigError, match=r"engine\.max_seqs must be a known name"):
        validate(cases(tmp_path, row()), overrides=["engine.max_seqs=4"])
    with pytest.raises(ConfigError, match="must have at least one experiment; got none"):
        validate([])


def test_an_error_without_a_prediction() -> None:
    """Is 100 %; with one it has a sign."""
    assert Compared(8, None).error_pct == 100
    assert Compared(8, 6).error_pct == -25
    assert Compared(8, 12).error_pct == 50


def test_figures_have_names_of_their_own() -> None:
    """They are columns, and keys."""
    names = [figure.name for figure in FIGURES]
    assert len(set(names)) == len(names)


# -- requests one by one --------------------------------------------------


def test_requests_are_compared_one_by_one(tmp_path: Path) -> None:
    """Each with its own measured times, in the order of arrival."""
    items = [served(n) for n in range(20)]
    write_requests(tmp_path / "r.jsonl", items)
    cells = {"requests_file": "r.jsonl", "stage_rates": "", "stage_durations_s": ""}
    made = cases(tmp_path, row(**cells, ttft_mean_ms="100", n_requests="20", makespan_s="4.8"))
    validation = validate(made, overrides=FAST)
    (of,), (requests,) = validation.rows, validation.requests
    assert requests.answer.num_completed == 20
    times = requests.answer.times
    # 1 ms in the frontend and one step of 5 ms, 10 us for each of 100 to 119 tokens.
    ttft_ms = 6 + 0.01 * (100 + np.arange(20))
    assert times["ttft"].mean.measured == 100
    assert times["ttft"].mean.predicted == pytest.approx(ttft_ms.mean())
    assert times["ttft"].median_abs_error_pct == pytest.approx(100 - np.median(ttft_ms))
    assert times["ttft"].wasserstein_ms == pytest.approx(100 - ttft_ms.mean())
    assert times["tpot"].mean.measured == pytest.approx(100)
    assert times["tpot"].mean.predicted == pytest.approx(5.1)
    assert times["e2e"].mean.measured == 1000
    assert of.metrics["ttft_mean_ms"].predicted == pytest.approx(ttft_ms.mean())
    assert of.metrics["request_throughput"].measured == pytest.approx(20 / 4.8)


def test_a_case_with_requests_that_fails_says_so(tmp_path: Path) -> None:
    """There is nothing to compare, and why."""
    write_requests(tmp_path / "r.jsonl", [served(n) for n in range(2)])
    cells = {"requests_file": "r.jsonl", "stage_rates": "", "stage_durations_s": ""}
    (requests,) = validate(cases(tmp_path, row(**cells, gpu="X1")), overrides=FAST).requests
    assert requests.answer.times == {}
    assert "hardware must be a known name" in requests.answer.reason


def test_the_distance_of_two_distributions() -> None:
    """A shift is its length, whatever the order; it is symmetric, and 0 for the same sample."""
    rng = np.random.default_rng(1)
    one, other = rng.exponential(size=50), rng.normal(size=50)
    assert wasserstein(one, one + 3) == pytest.approx(3)
    assert wasserstein(one, rng.permutation(one)) == 0
    assert wasserstein(one, other) == wasserstein(other, one) > 0
    # The area between the two distribution functions, from their definition.
    ends = np.sort(np.concatenate([one, other]))
    heights = [abs(np.mean(one <= x) - np.mean(other <= x)) for x in ends[:-1]]
    assert wasserstein(one, other) == pytest.approx(np.sum(heights * np.diff(ends)))
    with pytest.raises(ValueError, match="samples must be of one size >= 1; got 50 and 49"):
        wasserstein(one, other[:49])


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not there")
def test_the_published_requests_are_compared() -> None:
    """300 of a real server: their means are those the table of runs has."""
    from blis_sim.validation.experiment import case_of
    from blis_sim.validation.read_runs import read_runs

    records = read_runs(SHARED / "serving_runs.csv")
    made = [case_of(record) for record in records if record.requests_file is not None]
    validation = validate(made)
    (of,), (requests,) = validation.rows, validation.requests
    assert requests.answer.num_completed == 300
    for name, figure in (("ttft", "ttft_mean_ms"), ("e2e", "e2e_mean_ms")):
        mean = requests.answer.times[name].mean
        assert mean.measured == pytest.approx(of.metrics[figure].measured, rel=1e-4)
        assert mean.predicted == pytest.approx(of.metrics[figure].predicted)


# -- several at a time ----------------------------------------------------


def test_tasks_and_answers_survive_the_way_to_a_worker(tmp_path: Path) -> None:
    """As they are: where a case is simulated changes nothing."""
    write_requests(tmp_path / "r.jsonl", [served(n) for n in range(2)])
    cells = {"requests_file": "r.jsonl", "stage_rates": "", "stage_durations_s": ""}
    made = cases(tmp_path, row(e2e_mean_ms=1), row(exp_id="b", e2e_mean_ms=1, **cells))
    alone, there = Task(made[0], overrides=FAST), pickle.loads(pickle.dumps(Task(made[0])))
    assert there == Task(made[0])
    answer = simulate_case(alone)
    assert pickle.loads(pickle.dumps(answer)) == answer
    requests = pickle.loads(pickle.dumps(Task(made[1]))).case.requests
    assert requests.arrival_us.tolist() == [0, 200_000]


def test_a_worker_that_dies_takes_no_row_away() -> None:
    """Its task has no answer, and perhaps some of those beside it; all are accounted for."""
    answers = dict(in_parallel(die_at_2, range(4), 2))
    assert sorted(answers) == [0, 1, 2, 3]
    assert answers[2] is None
    assert all(answer in (None, number) for number, answer in answers.items())


def test_the_error_of_a_dead_worker() -> None:
    """Says what to do."""
    from blis_sim.validation.workers import no_worker

    with pytest.raises(SimulationError, match="try again with fewer --jobs"):
        raise no_worker()
