"""Plans: replicas, cost, order, the whole cluster, and what is not simulated twice."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from blis_sim import api
from blis_sim.capacity.candidate import CandidatePlan, PlanCandidate, Verification
from blis_sim.capacity.executor import Backend
from blis_sim.capacity.plan import Plan, Planner, PlanSettings
from blis_sim.capacity.planning import plan as plan_api
from blis_sim.capacity.ranking import plan_rows, ranked
from blis_sim.capacity.search import FoundRate, Measurement, Probe, Verdict
from blis_sim.capacity.slo import parse_slo
from blis_sim.capacity.store import ResultStore
from blis_sim.capacity.study import Outcome, StudyKind
from blis_sim.config.loading import load_scenario
from blis_sim.config.scenario import Scenario
from blis_sim.errors import ConfigError
from blis_sim.latency.base import Batch, PrefillChunk

from .queues import SERVICE_S, md1_rate_of_mean, md1_rate_of_share

NUM_TOKENS = 5
SLO = "mean_ttft_ms:60"
MEAN_S = 0.06 + 0.8 * SERVICE_S
"""Time in the system where the first of five tokens comes after 60 ms, on average."""


def make_candidate(
    gpu: str = "H100",
    *,
    speed: float = 1.0,
    settings: dict[str, Any] | None = None,
    **changes: Any,
) -> PlanCandidate:
    """Return a replica that serves one request at a time, in five equal steps of 50 ms in all."""
    base: dict[str, Any] = {
        "hardware": gpu,
        "engine": {"max_num_seqs": 1, "enable_prefix_caching": False},
        "latency": {
            "model": "blackbox",
            "alpha": [0, 0, 0],
            "beta": [1e6 * SERVICE_S / NUM_TOKENS / speed, 0, 0],
        },
        "workload": {"prompt": 64, "output": NUM_TOKENS},
    }
    scenario = load_scenario(base | changes)
    return PlanCandidate(scenario, "a model", gpu, settings or {})


class Counter:
    """Counts what is simulated, and what the store had."""

    def __init__(self) -> None:
        self.num_simulated = self.num_stored = 0

    def __call__(self, number: int, outcome: Outcome, is_stored: bool) -> None:
        self.num_stored += is_stored
        self.num_simulated += not is_stored


def planned(
    candidates: Sequence[PlanCandidate],
    target: float | None = None,
    slo: str = SLO,
    *,
    store: Path | None = None,
    counter: Counter | None = None,
    most: int = 1500,
    verify: bool = True,
) -> Plan:
    with ResultStore(store) as opened:
        planner = Planner(
            parse_slo(slo),
            opened,
            Backend(),
            PlanSettings(most_requests=most, tolerance=0.1),
            counter,
        )
        return planner.run(candidates, target, verify=verify)


def prices(folder: Path, **usd: float) -> str:
    path = folder / "prices.csv"
    rows = [f"{gpu.replace('_', '-')},{each},2026-05,our contract" for gpu, each in usd.items()]
    path.write_text("\n".join(["gpu,usd_per_gpu_hour,as_of,source", *rows]) + "\n")
    return str(path)


# -- the order of plans -----------------------------------------------------------


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Five kinds of replicas: dear and fast, cheap and slow, without a price, and two that
    cannot be."""
    file = prices(tmp_path_factory.mktemp("prices"), H100=4.0, L40S=2.0, L4=0.5)
    return planned(
        [
            make_candidate("H20", speed=0.9, prices=file),
            make_candidate("H100", prices=file),
            make_candidate("L4", speed=0.1, prices=file),
            make_candidate("L40S", speed=0.8, prices=file),
            make_candidate("A100-80", speed=0.01, prices=file),
        ],
        target=41.0,
        slo="mean_ttft_ms:60,p95_itl_ms:200",
    )


def test_the_cheapest_is_first(several: Plan) -> None:
    """Then those without a price, then those that carry nothing."""
    assert [each.candidate.gpu for each in several.candidates][:3] == ["L40S", "H100", "H20"]
    assert [each.rank for each in several.candidates] == [1, 2, 3, None, None]
    cheap, dear, unknown, *nothing = several.candidates
    assert cheap.usd_per_hour is not None
    assert dear.usd_per_hour is not None
    assert cheap.usd_per_hour < dear.usd_per_hour
    assert unknown.usd_per_hour is None
    assert unknown.num_replicas is not None
    assert [each.rate for each in nothing] == [0, 0]
    assert several.winners == (cheap,)
    assert several.is_carried


def test_replicas_and_cost_are_arithmetic(several: Plan) -> None:
    """As few replicas as the rate of one allows, and what they cost."""
    usd = {"H100": 4.0, "L40S": 2.0}
    for each in several.candidates[:3]:
        assert each.num_replicas == math.ceil(41 / each.rate)
        assert each.num_gpus == each.num_replicas
        assert each.headroom_frac == pytest.approx(1 - 41 / (each.num_replicas * each.rate))
        assert 0 <= each.headroom_frac < 1 / each.num_replicas
        price = usd.get(each.candidate.gpu)
        assert each.usd_per_gpu_hour == price
        if price is not None:
            assert each.usd_per_hour == pytest.approx(price * each.num_replicas)
            tokens = 41 * NUM_TOKENS * 3600
            assert each.usd_per_million_output_tokens == pytest.approx(
                each.usd_per_hour / tokens * 1e6
            )
        assert each.tokens_per_s_per_user == pytest.approx(1000 / each.metrics["mean_tpot_ms"])
        assert each.tokens_per_s_per_gpu == pytest.approx(NUM_TOKENS * each.rate)


def test_prices_are_dated(several: Plan) -> None:
    """The user's win, GPU by GPU; who says so and when is kept."""
    said = {each["gpu"]: each for each in several.prices}
    assert said["L40S"]["usd_per_gpu_hour"] == 2.0
    assert said["L40S"]["sources"] == ["our contract, 2026-05"]
    assert said["A100-80"]["num_offers"] > 1
    assert "H20" not in said


def test_what_carries_nothing_says_why(several: Plan) -> None:
    """One was dismissed without a simulation: it is too slow alone. The other needed one."""
    slow, slower = several.candidates[3:]
    assert (slow.candidate.gpu, slow.num_simulations, slow.is_simulated) == ("L4", 1, True)
    assert "requests/s mean TTFT 100 of 60 ms" in slow.reason
    assert (slower.candidate.gpu, slower.is_simulated) == ("A100-80", False)
    assert slower.reason.startswith("one request alone takes at least 1e+03 ms per token")
    assert several.num_pruned == 1


def test_the_answer_in_words(several: Plan) -> None:
    """What to deploy, what it costs, what binds, and that the whole was simulated."""
    (sentence,) = several.sentences()
    best = several.winners[0]
    for part in (
        "a model at 41 requests/s:",
        f"{best.num_replicas} x L40S TP 1 ({best.num_gpus} GPUs, {best.usd_per_hour:.2f} USD/h",
        "% headroom",
        "mean TTFT (max_num_seqs 1) binds first",
        "simulated as a whole: mean TTFT ",
        "kept.",
    ):
        assert part in sentence


def test_the_answer_is_plain(several: Plan) -> None:
    """Strict JSON, and one flat record per candidate."""
    text = json.dumps(several.to_json_dict(), allow_nan=False)
    read = json.loads(text)
    assert read["unit"] == "requests/s"
    assert read["winner"] == 0
    assert [each["status"] for each in read["candidates"]] == ["found"] * 3 + ["infeasible"] * 2
    first = read["candidates"][0]
    assert first["rate_low"] == first["rate_per_replica"] <= first["rate_high"]
    assert all(each["num_requests"] > 0 for each in first["probes"])
    rows = list(plan_rows(several))
    assert len(rows) == 5
    assert not any(isinstance(value, dict | list) for row in rows for value in row.values())


def test_no_candidate_takes_more_than_twelve_simulations(several: Plan) -> None:
    assert max(each.num_simulations for each in several.candidates) <= 12
    total = sum(each.num_simulations for each in several.candidates)
    assert several.num_simulations == total + len(several.verifications)


def make_plan(
    rate: float, usd: float | None, tpot_ms: float, *, target: float | None = None
) -> CandidatePlan:
    """Return a candidate with a price of its own that was found to carry a rate."""
    probe = Measurement(probe=Probe(rate or 1.0, 1))
    found = FoundRate(
        rate=rate, upper=math.inf, at_rate=probe, at_upper=None, measurements=(probe,)
    )
    plan = CandidatePlan(
        candidate=PlanCandidate(Scenario(), "m", "g"),
        found=found,
        usd_per_gpu_hour=usd,
        output_tokens=10.0,
        metrics={"mean_tpot_ms": tpot_ms},
    )
    if target is None or not rate:
        return plan
    return plan.with_replicas(math.ceil(target / rate), target)


plans = st.builds(
    make_plan,
    st.sampled_from([0.0, 1.0, 2.0, 5.0, 9.0]),
    st.sampled_from([None, 1.0, 2.0, 4.0]),
    st.sampled_from([5.0, 10.0, 20.0]),
    target=st.sampled_from([None, 9.0]),
)


@hypothesis_settings(max_examples=200, derandomize=True, deadline=None)
@given(
    st.lists(plans, max_size=7).filter(
        lambda many: len({p.num_replicas is None for p in many if p.rate}) < 2
    )
)
def test_the_marked_are_those_that_nobody_beats(many: list[CandidatePlan]) -> None:
    """Brute force: marked = carries something, and none is at least as cheap and as fast, and
    better in one of them. Unknown prices count as dearer than all known ones."""

    def usd(plan: CandidatePlan) -> float:
        found = plan.usd_per_hour if plan.num_replicas is not None else plan.usd_per_rate
        return math.inf if found is None else found

    order = ranked(many)
    carrying = [each for each in order if each.rate > 0]
    for each in order:
        ms = each.metrics["mean_tpot_ms"]
        beaten = any(
            usd(other) <= usd(each)
            and other.metrics["mean_tpot_ms"] <= ms
            and (usd(other), other.metrics["mean_tpot_ms"]) != (usd(each), ms)
            for other in carrying
        )
        assert each.is_pareto == (each.rate > 0 and not beaten)
    costs = [usd(each) for each in carrying]
    assert costs == sorted(costs)
    assert order[: len(carrying)] == carrying
    assert [each.rank for each in carrying] == list(range(1, len(carrying) + 1))


# -- only the highest rates -------------------------------------------------------


def test_without_a_target_there_are_rates_alone(tmp_path: Path) -> None:
    """Order by cost for a request per second; no replicas and no cluster."""
    file = prices(tmp_path, H100=4.0, L40S=2.5)
    found = planned([make_candidate("L40S", speed=0.5, prices=file), make_candidate(prices=file)])
    assert [each.candidate.gpu for each in found.candidates] == ["H100", "L40S"]
    assert found.verifications == ()
    best = found.winners[0]
    assert best.num_replicas is None
    assert best.usd_per_rate == pytest.approx(4 / best.rate)
    truth = md1_rate_of_mean(MEAN_S)
    assert best.rate <= truth <= best.found.upper  # type: ignore[union-attr]
    (sentence,) = found.sentences()
    assert sentence.startswith(f"a model: H100 TP 1 carries {best.rate:.3g} requests/s within")


def test_goodput_is_a_limit_too() -> None:
    """Nine of ten within 140 ms of the whole: M/D/1 again."""
    slo = {"slo": {"e2el_ms": 140}}
    found = planned([make_candidate(**slo)], slo="goodput:90%", most=4000).candidates[0].found
    assert found is not None
    assert found.rate <= md1_rate_of_share(0.14, 0.9) <= found.upper
    assert found.rate >= 0.8 * md1_rate_of_share(0.14, 0.9)
    with pytest.raises(ConfigError, match="goodput must come with limits of a request"):
        planned([make_candidate()], slo="goodput:90%")
    with pytest.raises(ConfigError, match="goodput must be below 100 %"):
        planned([make_candidate(**slo)], slo="goodput:100%")


def write_trace(folder: Path, outputs: Sequence[int]) -> str:
    """Write evenly spaced requests with these answers."""
    rows = [f"{number / 10:.1f},64,{tokens}" for number, tokens in enumerate(outputs)]
    path = folder / "trace.csv"
    path.write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *rows]) + "\n")
    return str(path)


def test_tokens_are_those_of_the_longest_simulation(tmp_path: Path) -> None:
    """Not of the first one, which sees the first 333 requests: here they get one token, not 5."""
    trace = write_trace(tmp_path, [1] * 333 + [NUM_TOKENS] * 1167)
    (row,) = planned([make_candidate(workload={"trace": trace})]).candidates
    assert row.rate > 0
    assert row.output_tokens == NUM_TOKENS
    assert row.tokens_per_s_per_gpu == pytest.approx(NUM_TOKENS * row.rate)


def test_a_part_of_a_trace_is_named(tmp_path: Path) -> None:
    """What is longer than a simulation is not simulated to its end, and the load says so."""
    candidate = make_candidate(workload={"trace": write_trace(tmp_path, [NUM_TOKENS] * 1500)})
    assert planned([candidate], most=1000).load.endswith(
        "; a simulation takes the first 1,000, with --max-requests 1500 it would take all"
    )
    assert planned([candidate], most=1500).load.endswith("1,500 requests")


def test_few_seats_bind_where_they_are_waited_for() -> None:
    """A hundredth waits for the one seat, which is free most of the time."""
    (row,) = planned([make_candidate()], slo="p99_ttft_ms:100").candidates
    assert 0 < row.metrics["mean_running_requests"] < 0.5
    assert row.binds == "p99 TTFT (max_num_seqs 1)"


# -- the whole cluster ------------------------------------------------------------


def unequal_trace(folder: Path) -> str:
    """Write requests of 1 and of 9 tokens in turn, evenly spaced.

    Dealt out in turn to two replicas, one of them gets all the long ones.
    """
    rows = [f"{number / 10:.1f},64,{1 if number % 2 else 9}" for number in range(1000)]
    path = folder / "unequal.csv"
    path.write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *rows]) + "\n")
    return str(path)


def test_a_cluster_that_misses_gets_more_replicas(tmp_path: Path) -> None:
    """Two replicas would do if they shared the work; of three each gets its part of all kinds."""
    load = {"trace": unequal_trace(tmp_path)}
    found = planned([make_candidate(workload=load)], target=36.0, slo="mean_ttft_ms:80")
    best, (checked,) = found.winners[0], found.verifications
    assert math.ceil(36 / best.rate) == 2
    assert (checked.num_planned, checked.num_replicas, best.num_replicas) == (2, 3, 3)
    assert checked.verdict is Verdict.KEPT
    assert best.num_gpus == 3
    assert best.headroom_frac == pytest.approx(1 - 36 / (3 * best.rate))
    assert "(2 replicas missed a limit)" in found.sentences()[0]


def test_the_winner_may_change_when_it_needs_more(tmp_path: Path) -> None:
    """Another is cheaper than the first one with three replicas: it is simulated and wins."""
    load, file = {"trace": unequal_trace(tmp_path)}, prices(tmp_path, H100=3.0, L40S=2.5)
    first = make_candidate("H100", workload=load, prices=file)
    other = make_candidate("L40S", speed=0.7, workload=load, prices=file)
    found = planned([first, other], target=36.0, slo="mean_ttft_ms:80")
    assert [each.candidate for each in found.candidates] == [other, first]
    assert [each.usd_per_hour for each in found.candidates] == [7.5, 9.0]
    (checked,) = found.verifications
    assert (checked.num_planned, checked.num_replicas) == (3, 3)
    assert found.winners[0].candidate is other
    assert found.num_simulations == sum(e.num_simulations for e in found.candidates) + 3


def test_a_cluster_that_never_keeps_its_limits_is_no_answer() -> None:
    """A router that follows the one prompt that all share sends everything to one replica."""
    engine = {"max_num_seqs": 1, "enable_prefix_caching": True}
    load = {"prompt": 64, "output": NUM_TOKENS, "prefix_tokens": 6400}
    candidate = make_candidate(
        engine=engine, workload=load, cluster={"routing": {"scorers": {"prefix-affinity": 1}}}
    )
    found = planned([candidate], target=30.0)
    (checked,) = found.verifications
    assert checked.verdict is Verdict.MISSED
    assert not found.is_carried
    assert "MISSED" in found.sentences()[0]
    assert checked.num_replicas > checked.num_planned


def test_the_cluster_is_simulated_as_it_is_written(tmp_path: Path) -> None:
    """Its router, its replicas, the whole rate; with the requests of several thousand."""
    candidate = make_candidate(cluster={"routing": "random"})
    store = tmp_path / "s.db"
    found = planned([candidate], target=30.0, store=store)
    with ResultStore(store, is_read_only=True) as opened:
        study = opened.study()
    assert study.kind is StudyKind.PLAN
    assert study.answer == json.loads(json.dumps(found.to_json_dict()))
    last = study.points[-1]
    cluster, load = last.scenario["cluster"], last.scenario["workload"]
    assert cluster == {"routing": {"policy": "random"}, "num_instances": 3}
    assert (load["request_rate"], load["num_requests"]) == (30.0, 4000)
    assert last.labels["replicas"] == 3
    assert all("replicas" not in each.labels for each in study.points[:-1])
    assert len(study.points) == found.num_simulations


def test_a_cluster_in_no_steady_state_tells_nothing(tmp_path: Path) -> None:
    """A thousand requests are over in 0.25 s, when those of the first are just answered."""
    load = {"trace": write_trace(tmp_path, [NUM_TOKENS] * 1000), "num_requests": 1000}
    found = planned([make_candidate(workload=load)], target=4000.0)
    (checked,) = found.verifications
    assert (checked.num_requests, checked.duration_s) == (1000, 0.25)
    assert (checked.is_short, checked.verdict) == (True, Verdict.UNCLEAR)
    assert "simulated as a whole, for 0.25 s only: mean TTFT" in found.sentences()[0]
    assert found.sentences()[0].endswith(", too short to tell.")
    assert found.is_carried


def test_a_plan_may_end_before_the_cluster() -> None:
    found = planned([make_candidate()], target=30.0, verify=False)
    assert found.verifications == ()
    assert "simulated as a whole" not in found.sentences()[0]


def test_a_verification_in_words() -> None:
    checked = Verification(
        model="m",
        num_replicas=4,
        num_planned=3,
        num_requests=9,
        values={"p99_ttft_ms": 120.0, "p95_itl_ms": None},
        limits=parse_slo("p99_ttft_ms:500,p95_itl_ms:50"),
        verdict=Verdict.UNCLEAR,
    )
    assert checked.words() == (
        "simulated as a whole (3 replicas missed a limit): p99 TTFT 120 of 500 ms, within chance "
        "of the limit"
    )


# -- what is not simulated twice --------------------------------------------------


def test_a_plan_goes_on_where_it_was(tmp_path: Path) -> None:
    """The same question simulates nothing; the answer is the same to the byte."""
    store, first, again = tmp_path / "s.db", Counter(), Counter()
    candidates = [make_candidate(), make_candidate("L40S", speed=0.8)]
    before = planned(candidates, 30.0, store=store, counter=first)
    after = planned(candidates, 30.0, store=store, counter=again)
    assert first.num_simulated == before.num_simulations > 8
    assert (again.num_simulated, again.num_stored) == (0, first.num_simulated)
    assert json.dumps(before.to_json_dict()) == json.dumps(after.to_json_dict())


def test_an_interrupted_plan_repeats_nothing(tmp_path: Path) -> None:
    """Stopped in the middle of a search, it does the rest."""
    store, candidates = tmp_path / "s.db", [make_candidate()]
    whole = Counter()
    planned(candidates, 30.0, counter=whole)

    class Stopped(Counter):
        def __call__(self, number: int, outcome: Outcome, is_stored: bool) -> None:
            super().__call__(number, outcome, is_stored)
            if self.num_simulated == 4:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        planned(candidates, 30.0, store=store, counter=Stopped())
    rest = Counter()
    planned(candidates, 30.0, store=store, counter=rest)
    assert (rest.num_stored, rest.num_simulated) == (4, whole.num_simulated - 4)


def test_other_questions_reuse_what_they_can(tmp_path: Path) -> None:
    """Another target needs a cluster alone; other prices nothing; more candidates themselves.

    Other limits need their own simulations: how sure a run is of a limit is counted in it.
    """
    store = tmp_path / "s.db"
    planned([make_candidate()], 30.0, store=store)
    for target, changes, slo, number in (
        (60.0, {}, SLO, 1),
        (30.0, {"prices": prices(tmp_path, H100=9.0)}, SLO, 0),
        (None, {}, SLO, 0),
    ):
        counter = Counter()
        planned([make_candidate(**changes)], target, slo, store=store, counter=counter)
        assert counter.num_simulated == number
    counter = Counter()
    planned([make_candidate(), make_candidate("L40S", speed=0.8)], store=store, counter=counter)
    assert 4 <= counter.num_simulated <= 12
    counter = Counter()
    planned([make_candidate()], None, "mean_ttft_ms:61", store=store, counter=counter)
    assert counter.num_stored == 0
    with ResultStore(store, is_read_only=True) as opened:
        assert len(opened.studies()) == 4


# -- errors -----------------------------------------------------------------------


def test_all_for_one_reason_is_an_error() -> None:
    """What nobody can do is said once; different reasons are a table."""
    too_long = "one request alone takes at least 10 ms per token"
    with pytest.raises(ConfigError, match=too_long):
        planned([make_candidate(), make_candidate("L40S")], slo="p95_itl_ms:9")
    found = planned([make_candidate(), make_candidate(speed=0.5)], 30.0, slo="p95_itl_ms:9")
    assert found.winners == ()
    assert not found.is_carried
    assert found.num_simulations == 0
    assert found.sentences() == [
        "a model: no candidate was found to keep p95 ITL <= 9 ms at any rate."
    ]
    assert json.loads(json.dumps(found.to_json_dict()))["winner"] is None


def test_different_reasons_without_any_load() -> None:
    """No candidate could even be looked up: a table of reasons, no rate and no load."""
    large = [
        PlanCandidate(load_scenario({"model": "llama-3.1-405b", "hardware": gpu}), "m", gpu)
        for gpu in ("L4", "A10")
    ]
    found = planned(large, 3.0)
    assert (found.winners, found.load, found.num_pruned) == ((), "", 2)
    assert all("to hold meta-llama/Llama-3.1-405B" in each.reason for each in found.candidates)


@contextmanager
def refused(match: str) -> Iterator[None]:
    with pytest.raises(ConfigError, match=match):
        yield


def test_what_is_no_question() -> None:
    with ResultStore(None) as store, refused("a plan must have limits; got none"):
        Planner((), store, Backend())
    with refused("a plan must have candidates; got none"):
        planned([])
    with refused("the load must have one rate"):
        planned(
            [make_candidate(workload={"arrivals": {"process": "closed_loop", "num_users": 2}})]
        )
    with refused("cluster.num_instances must not be set for a plan"):
        planned([make_candidate(cluster={"num_instances": 4})])


@pytest.mark.parametrize(
    ("setting", "value", "match"),
    [
        ("tolerance", 0.0, "tolerance must be from 0.001 to 0.5; got 0"),
        ("tolerance", math.nan, "tolerance must be from 0.001 to 0.5; got nan"),
        ("max_simulations", 3, "max_simulations must be from 4 to 50; got 3"),
        ("most_requests", 999, "max_requests must be from 1000 to 10,000,000; got 999"),
    ],
)
def test_settings_are_checked(setting: str, value: Any, match: str) -> None:
    with refused(match):
        PlanSettings(**{setting: value})


# -- from Python, and against arithmetic ------------------------------------------


@pytest.fixture(scope="module")
def chat() -> Plan:
    """Two GPUs under chat with a limit on gaps, from Python."""
    return plan_api(
        {"model": "llama-3.1-8b-instruct", "workload": {"preset": "chatbot"}},
        {"hardware": ["H100", "L40S"], "engine.max_num_seqs": [512]},
        slo="p95_itl_ms:50",
        settings=PlanSettings(most_requests=1000, tolerance=0.1),
        num_jobs=1,
    )


def test_rates_of_a_real_engine_are_those_of_arithmetic(chat: Plan) -> None:
    """llama-3.1-8b on an H100, 256 tokens in and 256 out, p95 of the gaps within 50 ms.

    Each request takes 2 x 8.03e9 x 512 FLOPs; an H100 does 989.5e12 a second at best, and what
    engines reach of it in such a mix is 35 to 80 %. In a steady state a batch of b requests
    computes b prompt tokens beside its b decodes; the largest whose step by the latency model is
    50 ms serves b / 256 / 0.05 requests a second, which chance allows to reach at 70 to 105 %.
    """
    row = next(each for each in chat.candidates if each.candidate.gpu == "H100")
    flops = 2 * 8.03e9 * 512
    assert 0.35 <= row.rate * flops / 989.5e12 <= 0.8
    model = api.resolve(row.candidate.scenario).latency.model
    size = max(
        number
        for number in range(1, 2000)
        if model.step_time(Batch(number, 384 * number, [PrefillChunk(0, number)])) <= 50_000
    )
    assert 0.7 <= row.rate / (size / 256 / 0.05) <= 1.05


def test_rates_agree_with_littles_law(chat: Plan) -> None:
    """Requests running = rate x time on the engine: answers of 256 tokens, a gap each."""
    for row in chat.candidates:
        inside = row.rate * row.metrics["mean_e2el_ms"] / 1000
        assert row.metrics["mean_running_requests"] == pytest.approx(inside, rel=0.1)
        gaps_s = row.output_tokens * row.metrics["mean_itl_ms"] / 1000
        assert inside == pytest.approx(row.rate * gaps_s, rel=0.1)


def test_settings_are_named(chat: Plan) -> None:
    """What sets candidates apart stands with them."""
    assert {each.candidate.words() for each in chat.candidates} == {
        "H100 TP 1, max_num_seqs=512",
        "L40S TP 1, max_num_seqs=512",
    }
    assert all(each.candidate.settings == {"engine.max_num_seqs": 512} for each in chat.candidates)
