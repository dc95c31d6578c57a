"""Searches for the best settings, on scenarios of a few milliseconds."""

from __future__ import annotations

import itertools
import logging
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from blis_sim.capacity.executor import Backend
from blis_sim.capacity.grid import axis, grid_points
from blis_sim.capacity.search import Measurement
from blis_sim.capacity.slo import Limit, parse_slo
from blis_sim.capacity.store import ResultStore
from blis_sim.capacity.study import Outcome, OutcomeStatus, StudyKind
from blis_sim.capacity.sweep import run_sweep
from blis_sim.capacity.tune import Tuner, tune
from blis_sim.capacity.tune_objective import (
    Objective,
    Reached,
    limits_to_measure,
    make_objective,
    objective_named,
    reached,
)
from blis_sim.capacity.tune_rate import RateBracket, TunedRate
from blis_sim.capacity.tune_sampler import Sampler
from blis_sim.capacity.tune_space import SearchSpace, given_scenario, search_space
from blis_sim.capacity.tune_trial import Trial, TrialStatus, Tuning
from blis_sim.capacity.worker import simulate_point
from blis_sim.config.draft import ScenarioDraft
from blis_sim.errors import CatalogError, ConfigError, MissingExtraError
from tests.capacity.studies import write_trace

BUSY = {
    "latency": {"model": "blackbox"},
    "workload": {"num_requests": 40, "request_rate": "inf"},
    "engine": {"max_num_seqs": 2},
}
"""All requests at once, so that the settings of the engine matter."""
SEARCH = {
    "engine.max_num_seqs": [4, 8, 16, 32],
    "engine.max_num_batched_tokens": [256, 1024, 4096],
}
SLO = "p99_ttft_ms:4000"
SPLIT = {
    "latency": {"model": "blackbox"},
    "workload": {"num_requests": 40, "request_rate": 40},
    "cluster": {
        "pools": [
            {"name": "p", "role": "prefill", "num_instances": 2},
            {"name": "d", "role": "decode", "num_instances": 2},
        ]
    },
}


def make_space(
    base: dict[str, Any] | None = None, *, splits: bool = False, **search: Sequence[Any]
) -> SearchSpace:
    """Return a space; ``engine__max_num_seqs`` stands for the path."""
    axes = [axis(path.replace("__", "."), list(values)) for path, values in search.items()]
    return search_space(ScenarioDraft(BUSY if base is None else base), axes, splits=splits)


def made(name: str, space: SearchSpace | None = None, slo: str = "") -> Objective:
    """Return an objective by its name."""
    limits = parse_slo(slo) if slo else ()
    chosen = space or make_space(engine__block_size=[16])
    return make_objective(objective_named(name), chosen, limits)


def told(tuning: Tuning) -> list[dict[str, Any]]:
    """Return what became of each trial."""
    return [trial.to_json_dict() for trial in tuning.trials]


# -- the answer ---------------------------------------------------------------


def every_run() -> Iterator[tuple[dict[str, Any], Outcome]]:
    """Simulate each combination of `SEARCH`."""
    axes = [axis(path, values) for path, values in SEARCH.items()]
    for point in grid_points(ScenarioDraft(BUSY), axes):
        yield dict(point.labels), simulate_point(point)


def test_the_best_is_that_of_all_combinations() -> None:
    """What a search finds is what simulating everything finds, also where a limit binds."""
    runs = list(every_run())
    keeping = [
        (outcome.metrics["output_throughput_per_gpu"] or 0.0, settings)
        for settings, outcome in runs
        if (outcome.metrics["p99_ttft_ms"] or math.inf) <= 4000
    ]
    assert 0 < len(keeping) < len(runs), "the limit must bind"
    most, settings = max(keeping, key=lambda pair: pair[0])
    tuning = tune(BUSY, SEARCH, objective="throughput", slo=SLO, num_trials=40, num_jobs=1)
    assert tuning.best is not None
    assert tuning.best.value == pytest.approx(most, rel=tuning.objective.tie_frac)
    assert tuning.ranked()[0] is tuning.best
    assert max(trial.value or 0.0 for trial in tuning.trials) == most
    assert settings in [trial.settings for trial in tuning.trials]


def test_no_combination_is_tried_twice_and_a_small_space_ends_early() -> None:
    """The scenario as given comes first; where it lies in the space it counts as one of it."""
    inside = BUSY | {"engine": {"max_num_seqs": 8, "max_num_batched_tokens": 1024}}
    for base, number in ((BUSY, 13), (inside, 12)):
        tuning = tune(base, SEARCH, objective="throughput", num_trials=40, num_jobs=1)
        assert tuning.given.is_given
        assert len({str(trial.settings) for trial in tuning.trials}) == number
        assert len(tuning.trials) == number
        assert tuning.num_combinations == 12
    assert tuning.given.settings == {
        "engine.max_num_seqs": 8,
        "engine.max_num_batched_tokens": 1024,
    }


def test_the_same_search_takes_the_same_way(tmp_path: Path) -> None:
    """Whatever is in the store; another seed takes another way."""
    asked: dict[str, Any] = {"objective": "throughput", "num_trials": 7, "num_jobs": 1}
    first = tune(BUSY, SEARCH, **asked, store=tmp_path / "a.db")
    assert told(tune(BUSY, SEARCH, **asked)) == told(first)
    assert told(tune(BUSY, SEARCH, **asked, store=tmp_path / "a.db")) == told(first)
    other = tune(BUSY | {"seed": 1}, SEARCH, **asked)
    assert [trial.settings for trial in other.trials] != [t.settings for t in first.trials]


def test_more_trials_go_on_with_the_same_search(tmp_path: Path) -> None:
    """The first ones are as they were, in batches of two as well."""
    axes = [axis(path, values) for path, values in SEARCH.items()]
    space = search_space(ScenarioDraft(BUSY), axes)
    with ResultStore(tmp_path / "s.db") as store:
        # With all results there, two at a time need no workers.
        Tuner(space, made("throughput"), (), store, Backend()).run(13)
        pairs = Tuner(space, made("throughput"), (), store, Backend(num_jobs=2))
        few, more = pairs.run(3), pairs.run(6)
        assert told(more)[:3] == told(few)
        (study,) = store.studies()
        assert study.kind is StudyKind.TUNE
        assert study.answer is not None
        assert [trial["number"] for trial in study.answer["trials"]] == list(range(6))
        assert len(store.study().points) == 6


def test_points_of_a_sweep_are_used(tmp_path: Path) -> None:
    """What a sweep has simulated is not simulated again."""
    axes = [axis(path, values) for path, values in SEARCH.items()]
    with ResultStore(tmp_path / "s.db") as store:
        run_sweep(grid_points(ScenarioDraft(BUSY), axes), store=store, backend=Backend(num_jobs=1))
        space = search_space(ScenarioDraft(BUSY), axes)
        stored: list[bool] = []
        tuner = Tuner(
            space,
            made("cost"),
            parse_slo(SLO),
            store,
            Backend(num_jobs=1),
            lambda number, outcome, is_stored: stored.append(is_stored),
        )
        tuner.run(13)
    assert stored == [False] + [True] * 12


def test_a_search_whose_trials_all_fail_alike_is_an_error() -> None:
    """It lies in what they share; where only some cannot be simulated it goes on."""
    with pytest.raises(ConfigError, match="model must be a known name"):
        tune({"model": "no-model"}, SEARCH, objective="cost", num_trials=2, num_jobs=1)
    large = {"model": "Llama-3.3-70B-Instruct", "workload": {"num_requests": 5}}
    search = {"engine.tensor_parallel_size": [1, 4]}
    tuning = tune(large, search, objective="cost", num_trials=5, num_jobs=1)
    assert tuning.given.status is TrialStatus.INFEASIBLE
    assert "to hold meta-llama/Llama-3.3-70B" in tuning.given.reason
    assert tuning.best is not None
    assert tuning.best.settings == {"engine.tensor_parallel_size": 4}
    assert "while as given it cannot be simulated" in tuning.sentence()


# -- which trial is best ------------------------------------------------------


def make_trial(
    number: int, figure: float | None = 10.0, excess: float = 0.5, **more: Any
) -> Trial:
    """Return a trial; it misses a limit where the excess is above 1."""
    is_missed = excess > 1
    values: dict[str, Any] = {
        "settings": {"engine.max_num_seqs": 100 + number, "engine.block_size": 16},
        "status": TrialStatus.MISSED if is_missed else TrialStatus.DONE,
        "reason": "p99 TTFT 900 of 500 ms" if is_missed else "",
        "figure": figure,
        "reached": Reached(excess, f"p99 TTFT {excess * 500:g} of 500 ms"),
    }
    return Trial(number=number, **(values | more))


def make_tuning(*trials: Trial, objective: str = "throughput") -> Tuning:
    """Return a search with some trials."""
    return Tuning(
        objective=made(objective, slo=SLO),
        limits=(Limit("p99_ttft_ms", 500.0),),
        axes=(),
        trials=trials,
        num_combinations=9,
    )


def test_one_that_misses_a_limit_is_below_all_that_keep_it() -> None:
    """By how much it misses it, and above what cannot be simulated."""
    objective = made("throughput")
    infeasible = make_trial(5, status=TrialStatus.INFEASIBLE, figure=None)
    trials = [
        make_trial(0, 10.0),
        make_trial(1, 90.0, excess=1.2),
        make_trial(2, 99.0, excess=math.inf),
        infeasible,
        make_trial(4, 0.001),
        make_trial(3, 95.0, excess=1.1),
    ]
    tuning = make_tuning(*trials)
    assert tuning.best is trials[0]
    assert [trial.number for trial in tuning.ranked()] == [0, 4, 3, 1, 2, 5]
    scores = [trial.score(objective) for trial in tuning.ranked()]
    assert scores == sorted(score for score in scores if score is not None)
    assert make_trial(1, status=TrialStatus.FAILED).score(objective) is None
    assert [trial.value for trial in trials[:3]] == [10.0, None, None]


def test_less_is_better_for_cost() -> None:
    tuning = make_tuning(make_trial(0, 0.094), make_trial(1, 0.081), objective="cost")
    assert tuning.best is tuning.trials[1]
    assert tuning.sentence() == (
        "max_num_seqs 101 gives 0.081 USD per million output tokens, 14 % less than as given "
        "(0.094); p99 TTFT 250 of 500 ms."
    )


def test_among_equals_the_fewest_changes_then_the_most_room() -> None:
    """Half a percent is no reason to change a setting."""
    given = make_trial(0, 10.0, excess=0.9)
    assert make_tuning(given, make_trial(1, 10.04, 0.1)).best is given
    two = {"engine.max_num_seqs": 101, "engine.block_size": 32}
    better = [
        make_trial(1, 11.03, excess=0.1, settings=two),
        make_trial(2, 11.0, excess=0.8),
        make_trial(3, 11.01, excess=0.7),
    ]
    assert make_tuning(given, *better).best is better[2]
    assert make_tuning(given, *better, make_trial(4, 12.0)).best is not better[2]


def test_finalists_differ_and_alone_can_be_the_answer() -> None:
    """The best of each group of equals by its fewest changes, and the one as given."""

    def found(number: int, rate: float, *, is_quick: bool = True, **more: Any) -> Trial:
        rates = TunedRate(rate=rate, low=None, high=None, num_simulations=5, is_quick=is_quick)
        return make_trial(number, rate, found=rates, **more)

    two = {"engine.max_num_seqs": 101, "engine.block_size": 32}
    quick = [
        found(0, 5.0),
        found(1, 9.1, settings=two),
        found(2, 9.0),
        found(3, 8.0),
        found(4, 7.0),
        found(5, 6.0),
        found(6, 9.9, excess=1.2),
    ]
    tuning = make_tuning(*quick, objective="max-rate")
    assert [trial.number for trial in tuning.finalists()] == [2, 3, 4, 0]
    careful = [found(2, 7.1, is_quick=False), found(3, 7.9, is_quick=False)]
    tuning = make_tuning(*quick[:2], *careful, *quick[4:], objective="max-rate")
    assert tuning.best is careful[1]
    assert [trial.number for trial in tuning.ranked()] == [3, 2, 1, 4, 5, 0, 6]


def test_the_answer_says_what_there_is_to_say() -> None:
    """That the given settings are best, that nothing matters, and that nothing will do."""
    equal = make_tuning(make_trial(0), make_trial(1), make_trial(2))
    assert equal.sentence().startswith("As given is the best of 3 trials: 10 output tokens/s per")
    assert "All trials that keep the limits are equally good" in equal.sentence()
    missed = make_tuning(make_trial(0, excess=3.0), make_trial(1, excess=1.8))
    assert missed.best is None
    assert missed.sentence() == (
        "None of the 2 trials keeps p99 TTFT <= 500 ms; nearest: max_num_seqs 101, p99 TTFT 900 "
        "of 500 ms."
    )
    mixed = make_tuning(make_trial(0, 9.0, excess=2.0), make_trial(1, 8.0))
    assert "while as given a limit is missed (p99 TTFT 900 of 500 ms; 9)" in mixed.sentence()
    assert missed.to_json_dict()["best"] is None


# -- limits -------------------------------------------------------------------


def run_of(**metrics: float | None) -> Outcome:
    """Return a run of 100 requests that were all answered."""
    return Outcome(
        status=OutcomeStatus.DONE,
        metrics={"num_prompts": 100, "completed": 100, "p99_ttft_ms": 400.0} | metrics,
    )


def test_the_limit_that_is_nearest_counts() -> None:
    outcome = run_of(mean_tpot_ms=45.0)
    limits = parse_slo("p99_ttft_ms:500,mean_tpot_ms:50")
    assert reached(outcome, limits) == Reached(0.9, "mean TPOT 45 of 50 ms")
    assert reached(outcome, ()) == Reached(0.0, "")
    assert reached(run_of(p99_ttft_ms=None), limits).excess == math.inf


def test_requests_without_an_answer_are_beyond_every_limit() -> None:
    """A run does not keep its limits by turning requests away."""
    limits = parse_slo("p99_ttft_ms:500")
    assert reached(run_of(completed=99), limits).excess == 0.8
    dropped = reached(run_of(completed=90), limits)
    assert dropped.excess == pytest.approx(10)
    assert dropped.words == "p99 TTFT: 10 % of the requests without an answer"
    share = parse_slo("goodput:90%")
    good = {"request_goodput": 4.75, "request_throughput": 5.0}
    assert reached(run_of(**good), share).excess == pytest.approx(0.5)
    assert reached(run_of(**good, completed=90), share).excess == pytest.approx(1.45)


def test_unusual_percentiles_are_asked_for() -> None:
    assert limits_to_measure(parse_slo("p99_ttft_ms:500,mean_tpot_ms:9,goodput:0.9")) == ()
    unusual = parse_slo("p97_ttft_ms:4000")
    assert limits_to_measure(unusual) == unusual
    search = {"engine.max_num_seqs": [4, 32]}
    tuning = tune(BUSY, search, objective="cost", slo=unusual, num_trials=3, num_jobs=1)
    assert {trial.status for trial in tuning.trials} == {TrialStatus.DONE, TrialStatus.MISSED}
    assert all("p97 TTFT" in trial.reached.words for trial in tuning.trials)


# -- objectives ---------------------------------------------------------------


def test_each_objective_reads_its_figure() -> None:
    """Per GPU, or per token."""
    outcome = run_of(
        request_goodput=6.0,
        mean_gpus=2.0,
        output_throughput_per_gpu=700.0,
        usd_per_million_output_tokens=0.5,
        gpu_hours=3.0,
        num_generated_tokens=2e6,
        cost_usd=12.0,
        duration=3600.0,
    )
    good = make_space(BUSY | {"slo": {"ttft_ms": 9}}, engine__block_size=[16])
    assert made("throughput").figure(outcome) == 700.0
    assert made("cost").figure(outcome) == 0.5
    assert made("goodput", good).figure(outcome) == 3.0
    assert made("max-rate", slo=SLO).rate_figure(8.0, 2.0, None) == 4.0


@pytest.mark.parametrize("path", ["model", "hardware"])
def test_an_unknown_name_to_choose_from_is_an_error(path: str) -> None:
    """It is a slip of the pen, not a trial that is not possible."""
    known = {"model": "llama-3.1-8b", "hardware": "H100"}[path]
    with pytest.raises(CatalogError, match=f"{path} must be a known name; got 'H1OO'"):
        make_space(**{path: [known, "H1OO"]})


def test_prices_decide_the_unit() -> None:
    """Without a price cost is in GPU-hours; between kinds of GPUs the highest rate is per USD."""
    unpriced = make_space(BUSY | {"hardware": "T4"}, engine__block_size=[16])
    cost = made("cost", unpriced)
    assert cost.key == "gpu_hours_per_million_output_tokens"
    assert cost.is_less_better
    assert cost.figure(run_of(gpu_hours=3.0, num_generated_tokens=2e6)) == 1.5
    assert made("max-rate", unpriced, SLO).key == "request_rate_per_gpu"
    several = make_space(hardware=["H100", "L40S"])
    per_usd = made("max-rate", several, SLO)
    assert per_usd.key == "requests_per_usd"
    assert per_usd.rate_figure(8.0, 2.0, 4.0) == 3600.0
    assert per_usd.rate_figure(8.0, 2.0, None) is None
    assert made("cost", several).key == "usd_per_million_output_tokens"


def test_a_gpu_without_a_price_is_no_answer() -> None:
    base = {"model": "Qwen3-0.6B", "workload": {"num_requests": 5, "request_rate": 9}}
    search = {"hardware": ["H100", "T4"]}
    tuning = tune(base, search, objective="cost", num_trials=3, num_jobs=1)
    assert tuning.best is tuning.given
    (other,) = tuning.trials[1:]
    assert other.status is TrialStatus.INFEASIBLE
    assert other.reason == "no price of T4 is known; give --prices FILE"


def test_goodput_counts_good_requests_per_gpu() -> None:
    """At the rate of the scenario; the limits are those of single requests."""
    base = BUSY | {"slo": {"ttft_ms": 1500}}
    tuning = tune(base, {"engine.max_num_seqs": [4, 16]}, objective="goodput", num_jobs=1)
    for trial in tuning.trials:
        assert trial.figure == trial.metrics["request_goodput"]
    assert tuning.best is not None
    assert tuning.best.value == max(trial.figure or 0.0 for trial in tuning.trials)


def test_an_objective_has_the_limits_it_needs() -> None:
    """Goodput those of a request, the highest rate those of the run."""
    for name, slo, message in (
        ("goodput", "", "objective goodput must come with limits of a request"),
        ("cost", "goodput:99%", "--slo goodput must come with limits of a request"),
        ("max-rate", "", "objective max-rate must come with --slo"),
        ("good", "", "objective must be one of goodput, cost, throughput, max-rate; got 'good'"),
    ):
        with pytest.raises(ConfigError, match=message):
            made(name, slo=slo)
    assert made("MAX_RATE", slo=SLO).is_rate


# -- the highest rate ---------------------------------------------------------


@pytest.mark.parametrize("guess", [0.0, 3.0, 30.0, 40.0, 300.0])
@pytest.mark.parametrize("power", [0.5, 8.0])
def test_a_bracket_closes_around_the_limit(guess: float, power: float) -> None:
    """Wherever it begins, the rate found is within 2 % of the true one."""
    true = 33.3
    bracket = RateBracket(0.5)
    found = searched(bracket, lambda rate: (rate / true) ** power, guess)
    assert found.low is not None
    assert found.high is not None
    assert found.low.probe.rate <= true <= found.high.probe.rate
    assert found.rate == pytest.approx(true, rel=0.02)
    assert found.num_simulations <= (9 if 30 <= guess <= 40 else 14)


def searched(
    bracket: RateBracket,
    ratio_at: Callable[[float], float],
    guess: float,
    saturated_from: float = math.inf,
) -> TunedRate:
    """Answer the questions of a search by a formula."""
    while (probe := bracket.ask()) is not None:
        assert probe.num_requests >= 250
        ratio = ratio_at(probe.rate)
        bracket.tell(
            Measurement(
                probe=probe,
                ratios={"p99_ttft_ms": ratio},
                margins={"p99_ttft_ms": 1 - ratio},
                is_saturated=probe.rate >= saturated_from,
            )
        )
        bracket.guess = guess
    return bracket.result()


def test_a_growing_queue_misses_whatever_the_figures_say() -> None:
    found = searched(RateBracket(0.5), lambda rate: 0.1, 20.0, saturated_from=30.0)
    assert found.rate == pytest.approx(30.0, rel=0.03)


def test_an_idle_engine_that_misses_ends_the_search() -> None:
    found = searched(RateBracket(0.5), lambda rate: 2.0, 20.0)
    assert (found.rate, found.low, found.num_simulations) == (0.0, None, 1)


def test_the_highest_rate_of_each_trial(tmp_path: Path) -> None:
    """More seats carry more; a limit that one request alone misses is missed at every rate."""
    trace = write_trace(tmp_path / "t.csv", *(f"{n},300,30" for n in range(300)))
    base = {
        "latency": {"model": "blackbox"},
        "workload": {"trace": str(trace), "num_requests": 300},
    }
    search = {"engine.max_num_seqs": [2, 8]}
    tuning = tune(base, search, slo="p99_ttft_ms:400", num_trials=5, num_jobs=1)
    rates = {
        trial.settings["engine.max_num_seqs"]: trial.figure or 0.0 for trial in tuning.trials[1:]
    }
    assert rates[8] > 1.5 * rates[2] > 0
    assert not any(trial.is_quick for trial in tuning.trials), "so few are all finalists"
    for trial in tuning.trials:
        assert trial.found is not None
        assert trial.found.low is not None
        assert trial.found.high is not None
        assert trial.found.low.probe.rate <= trial.found.rate <= trial.found.high.probe.rate
        assert trial.reached.excess <= 1
    assert all("workload.request_rate" not in trial.settings for trial in tuning.trials)
    assert tuning.load
    assert "requests/s" not in tuning.load
    never = tune(base, search, slo="p50_ttft_ms:0.1", num_trials=2, num_jobs=1)
    assert never.best is None
    assert "even at" in never.trials[1].reason


@pytest.mark.parametrize(
    ("load", "why"),
    [
        ({"arrivals": {"num_users": 2, "process": "closed_loop"}}, "closed_loop"),
        ({"stages": [{"rate": 1, "duration_s": 5}]}, "stages"),
    ],
)
def test_the_highest_rate_needs_a_load_with_a_rate(load: dict[str, Any], why: str) -> None:
    space = make_space({"workload": load}, engine__block_size=[16])
    message = f"objective max-rate: the load must have one rate .*{why}.*another objective"
    with pytest.raises(ConfigError, match=message):
        made("max-rate", space, SLO)


def test_prices_of_ones_own_count(tmp_path: Path) -> None:
    """Of the highest rate, too, whose simulations know no prices."""
    prices = tmp_path / "prices.csv"
    prices.write_text("gpu,usd_per_gpu_hour,as_of\nH100,2,2025\nL40S,1,2025\n")
    trace = write_trace(tmp_path / "t.csv", *(f"{n},300,30" for n in range(200)))
    base = {"workload": {"trace": str(trace), "num_requests": 200}, "prices": str(prices)}
    search = {"hardware": ["H100", "L40S"]}
    tuning = tune(base, search, slo="p99_ttft_ms:400", num_trials=3, num_jobs=1)
    assert [trial.settings["hardware"] for trial in tuning.trials] == ["H100", "L40S"]
    for trial, usd in zip(tuning.trials, (2, 1), strict=True):
        assert trial.found is not None
        assert trial.figure == pytest.approx(trial.found.rate * 3600 / usd)


# -- prefill and decode -------------------------------------------------------


def test_instances_move_between_prefill_and_decode() -> None:
    """Their total stays, and the split as given is one of those that are tried."""
    space = make_space(SPLIT, splits=True)
    assert [space.labels((place,)) for place in range(3)] == [
        {"pd_ratio": "1:3"},
        {"pd_ratio": "2:2"},
        {"pd_ratio": "3:1"},
    ]
    for place in range(3):
        pools = space.scenario((place,)).cluster.pools
        assert pools is not None
        assert [pool.num_instances for pool in pools] == [place + 1, 3 - place]
    assert given_scenario(space).choice == (1,)
    tuning = tune(SPLIT, {"pd_ratio": "all"}, objective="throughput", num_trials=9, num_jobs=1)
    assert len(tuning.trials) == 3
    assert {trial.metrics["mean_gpus"] for trial in tuning.trials} == {4.0}
    assert len({trial.figure for trial in tuning.trials}) == 3


def pools(**changes: Any) -> dict[str, Any]:
    """Return the scenario with pools, the first one changed."""
    first, second = SPLIT["cluster"]["pools"]  # type: ignore[index]
    return SPLIT | {"cluster": {"pools": [first | changes, second]}}


@pytest.mark.parametrize(
    ("base", "why"),
    [
        (BUSY, "0 prefill and 0 decode pools"),
        (pools(hardware="A100-80"), "pools of A100-80 TP 1 and H100 TP 1"),
        (pools(engine={"tensor_parallel_size": 2}), "pools of H100 TP 2 and H100 TP 1"),
        (pools(autoscaling={"target": 4, "max_instances": 3}), "pools that are autoscaled"),
    ],
)
def test_pools_between_which_nothing_can_move(base: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=f"pd_ratio must come with one prefill .*; got {why}"):
        make_space(base, splits=True)


# -- the space ----------------------------------------------------------------


def test_the_usual_space() -> None:
    """Without what a flag or a pool sets, and with the split where there is one."""
    draft = ScenarioDraft(BUSY)
    usual = ["engine.max_num_seqs", "engine.max_num_batched_tokens", "engine.tensor_parallel_size"]
    assert [one.path for one in search_space(draft, ()).axes] == usual
    draft.set("engine.max_num_seqs", 64, "--max-num-seqs")
    assert [one.path for one in search_space(draft, ()).axes] == usual[1:]
    split = search_space(ScenarioDraft(pools(engine={"max_num_batched_tokens": 2048})), ())
    assert [one.path for one in split.axes] == [usual[0], usual[2], "pd_ratio"]


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"engine.max_num_sqs": [1]}, r"search engine\.max_num_sqs must be a known name; .*seqs"),
        ({"engine.max_num_seqs": [8, 0]}, r"search engine\.max_num_seqs must be >= 1; got 0"),
        ({"engine.max_num_seqs": []}, "must have a list of values"),
        ({"workload.request_rate": [1, 2]}, "must name a setting of what is deployed"),
        ({"slo.ttft_ms": [1, 2]}, "must name a setting of what is deployed"),
        ({"cluster.pools": [[{"name": "a"}]], "pd_ratio": [0]}, "pd_ratio must come with"),
    ],
)
def test_what_cannot_be_searched(search: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tune(BUSY, search, objective="cost", num_jobs=1)


def test_a_setting_that_pools_have_for_themselves_cannot_be_searched() -> None:
    """The common one would not reach them."""
    base = pools(engine={"max_num_seqs": 8}, hardware="H100")
    where = r"cluster\.pools\[0\]"
    with pytest.raises(ConfigError, match=rf"no pool has for itself; .*{where}\.engine\.max_num"):
        make_space(base, engine__max_num_seqs=[8, 16])
    with pytest.raises(ConfigError, match=rf"{where}\.hardware"):
        make_space(base, hardware=["H100", "H200"])


def test_what_is_in_force_is_found_in_the_space() -> None:
    """By the values that are derived, by names in any case, and by whole parts."""
    space = make_space(
        BUSY | {"cluster": {"num_instances": 2}},
        engine__max_num_batched_tokens=[4096, 8192],
        hardware=["l40s", "h100"],
        cluster__routing=["random", "round-robin"],
        engine__gpu_memory_utilization=[0.8, 0.9],
    )
    given = given_scenario(space)
    assert given.choice == (1, 1, 1, 1)
    assert list(given.labels.values()) == [8192, "h100", "round-robin", 0.9]
    outside = given_scenario(make_space(engine__max_num_seqs=[1, 3]))
    assert (outside.choice, outside.labels) == (None, {"engine.max_num_seqs": 2})
    assert space.is_ordered == (True, False, False, True)


# -- the sampler --------------------------------------------------------------


def test_few_suggestions_come_near_the_best_of_many() -> None:
    """40 of 192 combinations, with a valley: the best of them is among the best 2 %."""

    def height(choice: tuple[int, ...]) -> float:
        return 1 + (choice[0] - 5) ** 2 + (choice[1] - 2) ** 2 / 2 + 6 * (choice[2] != 1)

    sizes = (8, 8, 3)
    ranked = sorted(height(each) for each in itertools.product(*map(range, sizes)))
    near = 0
    for seed in range(3):
        sampler = Sampler(sizes, (True, True, False), seed)
        seen = []
        for _ in range(20):
            batch = [sampler.ask(), sampler.ask()]
            for choice in batch:
                assert choice is not None
                sampler.tell(choice, height(choice))
                seen.append(choice)
        assert len(set(seen)) == 40
        near += min(map(height, seen)) <= ranked[3]
    assert near >= 2


def test_every_combination_is_suggested_once() -> None:
    """Also where nothing, or the same, is known of each, and what was taken is left out."""
    for score in (None, 1.0):
        sampler = Sampler((3, 2, 1), (True, False, False), 7)
        sampler.take((1, 1, 0))
        seen = []
        while (choice := sampler.ask()) is not None:
            seen.append(choice)
            sampler.tell(choice, score)
        assert len(seen) == 5
        assert {*seen, (1, 1, 0)} == set(itertools.product(range(3), range(2), range(1)))


def test_optuna_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """And its logging is as it was, for those who use it themselves."""
    logging.getLogger("optuna").setLevel(logging.INFO)
    tune(BUSY, {"engine.max_num_seqs": [4, 8]}, objective="cost", num_trials=3, num_jobs=1)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert logging.getLogger("optuna").level == logging.INFO


def test_without_optuna(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"blis tune needs .*'blis-sim\[tune\]'"):
        tune(BUSY, SEARCH)
