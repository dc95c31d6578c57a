from __future__ import annotations

import math
import tracemalloc
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blis_sim.config.workload import ArrivalProcess, WorkloadSettings
from blis_sim.errors import ConfigError
from blis_sim.rng import named_stream
from blis_sim.workload.arrival_settings import arrival_plan, load_rate
from blis_sim.workload.arrivals import ArrivalPlan, chunk_sizes
from blis_sim.workload.base import Int64Array
from blis_sim.workload.gaps import GapProcess
from blis_sim.workload.rate import Rate

PROCESSES: list[Any] = [
    "poisson",
    "constant",
    {"process": "gamma", "burstiness": 0.3},
    {"process": "gamma", "cv": 10},
    {"process": "weibull", "cv": 0.01},
    {"process": "weibull", "cv": 3},
]
STAGES: list[dict[str, float]] = [
    {"rate": 5, "duration_s": 600},
    {"rate": 0, "duration_s": 100},
    {"rate": 8, "end_rate": 0, "duration_s": 300},
    {"rate": 0, "end_rate": 20, "duration_s": 60},
    {"rate": 0.7, "duration_s": 77.7},
]
COUNTS = [3000, 0, 1200, 600, 54]
BEGINS_US = [0, 600_000_000, 700_000_000, 1_000_000_000, 1_060_000_000, 1_137_700_000]
ON_OFF = {"kind": "on_off", "on_s": 10, "off_s": 5}


def make_plan(limit: int | None = None, *, normalize: bool = False, **fields: Any) -> ArrivalPlan:
    if normalize:
        arrivals = fields.pop("arrivals", "poisson")
        base = {"process": arrivals} if isinstance(arrivals, str) else arrivals
        fields["arrivals"] = {**base, "normalize_span": True}
    return arrival_plan("workload", WorkloadSettings(**fields), limit)


def times(plan: ArrivalPlan, seed: int = 5, **given: Any) -> Int64Array:
    return np.concatenate([np.empty(0, dtype=np.int64), *plan.times_us(seed, **given)])


def first_times(plan: ArrivalPlan, count: int, seed: int = 5) -> Int64Array:
    """The beginning of a plan that may have no end."""
    return np.concatenate(list(islice(plan.times_us(seed, chunk=count), 1)))


def poisson_band(expected: float) -> float:
    return 4.5 * math.sqrt(max(expected, 1))


@pytest.mark.parametrize("rate", [3.7, 1 / 3, 1e-3, 1234.5])
@pytest.mark.parametrize("burstiness", [None, 0.25])
def test_constant_rates_are_sums_of_gaps_over_the_rate(
    rate: float, burstiness: float | None
) -> None:
    """Times are the added gaps of the stream (workload, arrivals) over the rate, to the bit."""
    count, rng = 10_000, named_stream(5, "workload", "arrivals")
    fields: dict[str, Any] = {"request_rate": rate}
    if burstiness is None:
        sums = np.cumsum(rng.standard_exponential(count))
    else:
        sums = np.cumsum(rng.standard_gamma(burstiness, count) / burstiness)
        fields["arrivals"] = {"burstiness": burstiness}
    drawn = times(make_plan(count, **fields))
    assert np.array_equal(drawn, np.rint(sums / rate * 1e6).astype(np.int64))
    spanned = times(make_plan(count, normalize=True, **fields))
    expected = np.rint(sums / sums[-1] * (count * 1e6 / rate))
    assert np.array_equal(spanned, expected.astype(np.int64))


def test_constant_arrivals_are_equally_spaced() -> None:
    """Request k arrives at k/rate, the first one a gap after the begin, without drift."""
    arrivals = times(make_plan(300_000, arrivals="constant", request_rate=3.0))
    assert arrivals[:4].tolist() == [333_333, 666_667, 1_000_000, 1_333_333]
    assert arrivals[299_999] == 100_000_000_000
    later = times(make_plan(3, arrivals="constant", request_rate=2.0, start_s=10.0))
    assert later.tolist() == [10_500_000, 11_000_000, 11_500_000]


@pytest.mark.parametrize("fields", [{"request_rate": math.inf}, {"arrivals": "all_at_once"}])
def test_all_at_once(fields: dict[str, Any]) -> None:
    """Everyone arrives at the begin; a load without number goes on for ever."""
    plan = make_plan(10_000, start_s=3, **fields)
    assert times(plan).tolist() == [3_000_000] * 10_000
    assert (plan.num_requests, plan.end_us, plan.mean_rate) == (10_000, 3_000_000, math.inf)
    endless = ArrivalPlan(gaps=plan.gaps, rate=plan.rate)
    assert first_times(endless, 20_000).tolist() == [0] * 20_000


@pytest.mark.parametrize("arrivals", PROCESSES, ids=str)
@pytest.mark.parametrize("count", [1, 2, 777, 20_000])
def test_normalised_span_is_exact(arrivals: Any, count: int) -> None:
    """The last arrival is at num_requests/rate to the microsecond."""
    plan = make_plan(count, arrivals=arrivals, request_rate=7.0, normalize=True)
    found = times(plan)
    assert len(found) == plan.num_requests == count
    assert found[-1] == plan.end_us == round(count * 1e6 / 7)
    assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize("arrivals", PROCESSES, ids=str)
def test_normalised_stages_are_exact(arrivals: Any) -> None:
    """Each stage has rate x time arrivals (rounded, a half up), the last at its very end."""
    plan = make_plan(stages=STAGES, arrivals=arrivals, normalize=True)
    found = times(plan)
    assert plan.num_requests == len(found) == sum(COUNTS)
    assert (np.diff(found) >= 0).all()
    stages = [
        found[end - count : end] for count, end in zip(COUNTS, np.cumsum(COUNTS), strict=True)
    ]
    for stage, begin_us, end_us in zip(stages, BEGINS_US[:-1], BEGINS_US[1:], strict=True):
        assert len(stage) == 0 or (stage[0] >= begin_us and stage[-1] == end_us)


@pytest.mark.parametrize(
    ("rate", "seconds", "count"), [(0.1, 15, 2), (0.29, 50, 15), (0.1, 14.9, 1), (2.5, 1, 3)]
)
def test_halves_are_rounded_up(rate: float, seconds: float, count: int) -> None:
    """Also where a half is just below one in floating point (0.29 x 50)."""
    plan = make_plan(stages=[{"rate": rate, "duration_s": seconds}], normalize=True)
    assert len(times(plan)) == plan.num_requests == count


@pytest.mark.parametrize("arrivals", ["poisson", "constant", {"process": "weibull", "cv": 2}])
@pytest.mark.parametrize("curves", [None, [ON_OFF], [{"kind": "diurnal", "period_s": 200}]])
@pytest.mark.parametrize("limit", [None, 3500])
@pytest.mark.parametrize("normalize", [False, True])
def test_stages_one_by_one_are_the_whole(
    arrivals: Any, curves: Any, limit: int | None, normalize: bool
) -> None:
    """The plans of the stages give the arrivals of the plan, to the microsecond."""
    fields = {"stages": STAGES, "arrivals": arrivals, "rate_curve": curves}
    plan = make_plan(limit, normalize=normalize, **fields)
    whole, parts = times(plan), plan.stage_plans()
    assert len(parts) == len(STAGES)
    stages = [times(part) for part in parts]
    moved = [part + begin for part, begin in zip(stages, BEGINS_US[:-1], strict=True)]
    assert np.array_equal(np.concatenate(moved), whole)
    for part, found, begin, end in zip(parts, stages, BEGINS_US, BEGINS_US[1:], strict=False):
        assert part.end_us == end - begin
        assert part.num_requests in (None, len(found))
        assert len(found) == 0 or (found[0] >= 0 and found[-1] <= part.end_us)
    if normalize or arrivals == "constant":
        assert plan.num_requests == len(whole)
        assert [part.num_requests for part in parts] == [len(found) for found in stages]


def test_a_normalised_stage_depends_on_its_number_only() -> None:
    """What comes before or after a stage leaves its own arrivals alone."""
    alone = make_plan(stages=[{"rate": 9, "duration_s": 5}, STAGES[0]], normalize=True)
    among = make_plan(stages=[STAGES[4], STAGES[0], STAGES[2]], normalize=True)
    assert np.array_equal(times(alone.stage_plans()[1]), times(among.stage_plans()[1]))
    thrice = make_plan(stages=[STAGES[0]] * 3, normalize=True).stage_plans()
    first, second = times(thrice[1]), times(thrice[2])
    assert abs(np.corrcoef(np.diff(first), np.diff(second))[0, 1]) < 4.5 / math.sqrt(3000)
    stage = make_plan(stages=STAGES[:1], normalize=True)
    spanned = make_plan(3000, request_rate=5, normalize=True)
    timed = make_plan(request_rate=5, duration_s=600, normalize=True)
    assert np.array_equal(times(stage), times(timed))
    assert np.abs(times(stage) - times(spanned)).max() <= 1


def expected_due(rate: Rate, begin_s: float, end_s: float) -> float:
    before = rate.until(begin_s).stages if begin_s else ()
    return rate.due(rate.until(end_s).stages) - rate.due(before)


@pytest.mark.parametrize(
    ("curves", "integrals"),
    [
        # (from, to, integral by hand of 50/s times the curve)
        ([], [(0, 500, 25_000), (500, 1000, 25_000)]),
        (
            [{"kind": "diurnal", "amplitude": 0.8, "period_s": 400, "peak_at_s": 100}],
            [
                (0, 200, 50 * (200 + 0.8 * 400 / math.pi)),
                (200, 400, 50 * (200 - 0.8 * 400 / math.pi)),
                (400, 800, 50 * 400),
            ],
        ),
        (
            [{"kind": "spike", "start_s": 100, "duration_s": 50, "factor": 6}],
            [(0, 100, 5000), (100, 150, 15_000), (150, 1000, 42_500)],
        ),
        (
            [{"kind": "on_off", "on_s": 30, "off_s": 70, "off_factor": 0.1}],
            [(0, 30, 1500), (30, 100, 350), (100, 130, 1500), (930, 1000, 350)],
        ),
    ],
)
def test_poisson_counts_follow_the_integral(
    curves: list[dict[str, Any]], integrals: list[tuple[float, float, float]]
) -> None:
    """Arrivals in a window are a Poisson number with the integral of the rate as its mean."""
    fields: dict[str, Any] = {"request_rate": 50, "rate_curve": curves, "duration_s": 1000}
    plans = [times(make_plan(**fields), seed=seed) / 1e6 for seed in range(4)]
    for begin_s, end_s, integral in integrals:
        counts = [np.count_nonzero((begin_s < found) & (found <= end_s)) for found in plans]
        assert sum(counts) == pytest.approx(4 * integral, abs=poisson_band(4 * integral))


def test_poisson_counts_in_ramps_and_days() -> None:
    """A ramp under a day: 60 windows have a chi-square sum of about 60."""
    curves = [{"kind": "diurnal", "amplitude": 1, "period_s": 97}]
    stages = [{"rate": 10, "end_rate": 200, "duration_s": 300}, {"rate": 50, "duration_s": 300}]
    plan = make_plan(stages=stages, rate_curve=curves)
    edges_s = np.linspace(0, 600, 61)
    counts = np.histogram(times(plan) / 1e6, edges_s)[0]
    expected = np.array([expected_due(plan.rate, *window) for window in pairwise(edges_s)])
    assert expected[:30].sum() > 30_000
    chi_square = (((counts - expected) ** 2) / expected).sum()
    assert chi_square == pytest.approx(60, abs=4.5 * math.sqrt(2 * 60))


def test_poisson_counts_spread_as_poisson_numbers() -> None:
    """The variance of the number in a stage is its mean; neighbours are not correlated."""
    stages = [{"rate": 2, "duration_s": 10}, {"rate": 0, "end_rate": 6, "duration_s": 10}]
    plan = make_plan(stages=stages)
    counts = np.array(
        [np.histogram(times(plan, seed=seed) / 1e6, [0, 10, 20])[0] for seed in range(1500)]
    )
    for column, mean in ((0, 20), (1, 30)):
        assert counts[:, column].mean() == pytest.approx(mean, abs=4.5 * math.sqrt(mean / 1500))
        assert counts[:, column].var() == pytest.approx(mean, rel=4.5 * math.sqrt(2 / 1500))
    assert abs(np.corrcoef(counts.T)[0, 1]) < 4.5 / math.sqrt(1500)


@pytest.mark.parametrize("arrivals", PROCESSES, ids=str)
@pytest.mark.parametrize("normalize", [False, True])
def test_off_windows_are_empty(arrivals: Any, normalize: bool) -> None:
    """Nobody arrives while the rate is 0, whatever the process."""
    plan = make_plan(
        request_rate=20, duration_s=90, rate_curve=[ON_OFF], arrivals=arrivals, normalize=normalize
    )
    found = times(plan)
    into_us = found % 15_000_000
    assert len(found) > 50
    # Gaps below a microsecond may begin a window at its very first moment.
    assert (into_us <= 10_000_000).all()
    if normalize:
        # The stage ends in an off window: its last arrival is at the end of the on window.
        assert len(found) == 1200
        assert found[-1] == 85_000_000


PLANS = [
    make_plan(9000, arrivals=PROCESSES[2], request_rate=3.7, start_s=1.5),
    make_plan(9000, arrivals=PROCESSES[5], request_rate=3.7, normalize=True),
    make_plan(9000, rate_curve=[ON_OFF, {"kind": "diurnal"}]),
    make_plan(9000, rate_curve=[{"kind": "diurnal", "period_s": 60}], normalize=True),
    make_plan(stages=STAGES, arrivals=PROCESSES[4]),
    make_plan(stages=STAGES, rate_curve=[ON_OFF], normalize=True),
    make_plan(stages=STAGES, duration_s=1033.3),
    make_plan(5000, arrivals="all_at_once"),
]


@given(plan=st.sampled_from(PLANS), chunk=st.integers(1, 12_000), seed=st.integers(0, 3))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_chunks_do_not_change_the_times(plan: ArrivalPlan, chunk: int, seed: int) -> None:
    """Any chunk gives the same microseconds, never decreasing, in arrays of that length."""
    arrays = list(plan.times_us(seed, chunk=chunk))
    assert {len(array) for array in arrays[:-1]} <= {chunk}
    assert 0 < len(arrays[-1]) <= chunk
    found = np.concatenate(arrays)
    assert np.array_equal(found, times(plan, seed=seed))
    assert found.dtype == np.int64
    assert (np.diff(found) >= 0).all()
    assert plan.num_requests in (None, len(found))
    assert plan.end_us is None or found[-1] <= plan.end_us


@pytest.mark.parametrize("normalize", [False, True])
def test_rates_stretch_the_same_arrivals(normalize: bool) -> None:
    """Half the rate over twice the time doubles every arrival, up to rounding."""
    fast, slow = (
        make_plan(
            normalize=normalize,
            stages=[
                {"rate": 8 / k, "duration_s": 100 * k},
                {"rate": 8 / k, "end_rate": 2 / k, "duration_s": 50 * k},
            ],
            rate_curve=[{"kind": "on_off", "on_s": 6 * k, "off_s": 3 * k}],
        )
        for k in (1, 2)
    )
    assert np.abs(times(slow) - 2 * times(fast)).max() <= 2
    plain = make_plan(5000, request_rate=8.0)
    assert np.abs(times(plain.scaled(0.5)) - 2 * times(plain)).max() <= 2


def test_names_give_streams_of_their_own() -> None:
    """Another name or seed gives other arrivals; all are far from correlated."""
    plan = make_plan(20_000)
    found = [
        times(plan),
        times(plan, names=("workload", "chat")),
        times(plan, names=("workload", "batch")),
        times(plan, seed=6),
    ]
    assert np.array_equal(found[0], times(plan, names=("workload",)))
    gaps = np.diff(np.array(found).astype(float))
    correlation = np.corrcoef(gaps) - np.eye(4)
    assert np.abs(correlation).max() < 4.5 / math.sqrt(20_000)


def test_a_plan_ends_where_the_first_of_its_bounds_is() -> None:
    """Number, duration and stages; without any it goes on."""
    endless = make_plan(request_rate=5)
    assert (endless.num_requests, endless.end_us, endless.mean_rate) == (None, None, 5)
    assert len(first_times(endless, 50_000)) == 50_000
    timed = make_plan(request_rate=5, duration_s=100, start_s=7)
    assert times(timed).max() <= timed.end_us == 107_000_000
    reference = first_times(endless, 2000)
    assert np.array_equal(times(timed) - 7_000_000, reference[reference <= 100_000_000])
    assert len(times(make_plan(30, request_rate=5, duration_s=100))) == 30
    staged = make_plan(10, stages=STAGES, normalize=True)
    assert np.array_equal(times(staged), times(make_plan(stages=STAGES, normalize=True))[:10])
    cut = make_plan(stages=STAGES, duration_s=650, normalize=True)
    assert (cut.num_requests, cut.end_us) == (3000, 650_000_000)


def test_constant_arrivals_are_counted() -> None:
    """Constant arrivals in a window are a known number, the end included."""
    plan = make_plan(request_rate=0.1, arrivals="constant", duration_s=30)
    assert times(plan).tolist() == [10_000_000, 20_000_000, 30_000_000]
    assert plan.num_requests == 3
    assert make_plan(4, request_rate=0.1, arrivals="constant").end_us == 40_000_000
    paused = make_plan(stages=STAGES, arrivals="constant")
    assert paused.num_requests == len(times(paused)) == 4854


def test_mean_rates() -> None:
    """Arrivals due over the time until the end, pauses included."""
    stages = make_plan(stages=STAGES)
    assert stages.mean_rate == pytest.approx((4800 + 0.7 * 77.7) / 1137.7)
    assert stages.stage_plans()[2].mean_rate == pytest.approx(4)
    windows = make_plan(100, request_rate=2, rate_curve=[ON_OFF])
    assert windows.mean_rate == pytest.approx(100 / 70)
    assert make_plan(request_rate=2, rate_curve=[ON_OFF]).mean_rate is None
    spanned = make_plan(100, request_rate=2, rate_curve=[ON_OFF], normalize=True)
    assert spanned.end_us == times(spanned)[-1] == 70_000_000


def test_extreme_rates() -> None:
    """Rates near 0 end in a very late time, huge ones at the begin; never in an overflow."""
    poisson = GapProcess(ArrivalProcess.POISSON)
    late = ArrivalPlan(gaps=poisson, rate=Rate.constant(1e-300), limit=3)
    assert times(late).tolist() == [2**62] * 3
    assert times(make_plan(5000, request_rate=1e12)).max() == 0
    slow = make_plan(5, request_rate=1e-7, rate_curve=[{"kind": "diurnal"}])
    assert 1e12 < times(slow)[-1] < 1e15
    assert len(times(make_plan(stages=[{"rate": 1e-9, "duration_s": 1}]))) == 0


def test_memory_is_flat() -> None:
    """A million arrivals are never in memory at once, normalised ones neither."""
    curves = [{"kind": "diurnal", "period_s": 3600}]
    plan = make_plan(1_000_000, request_rate=5000, rate_curve=curves, normalize=True)
    stream = plan.times_us(1)
    next(stream)
    tracemalloc.start()
    try:
        count = sum(map(len, stream))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count > 990_000
    assert peak_bytes < 2_000_000


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (make_plan(request_rate=4), "poisson arrivals at 4 requests/s"),
        (
            make_plan(arrivals={"burstiness": 0.5}, request_rate=4, duration_s=60, start_s=5),
            "gamma (burstiness 0.5) arrivals at 4 requests/s, 60 s, from 5 s",
        ),
        (make_plan(3, arrivals="all_at_once"), "all at once"),
        (
            make_plan(stages=[{"rate": r, "duration_s": 600} for r in (5, 10)]),
            "poisson arrivals in 2 stages (5, 10 requests/s), 1,200 s",
        ),
        (
            make_plan(stages=STAGES[2:3]).stage_plans()[0],
            "poisson arrivals in 1 stage (8 to 0 requests/s), 300 s, stage 1",
        ),
        (
            make_plan(rate_curve=[ON_OFF, {"kind": "diurnal"}]),
            "poisson arrivals at 1 requests/s, on_off (10 s on, 5 s off), "
            "diurnal (amplitude 0.5, period 86,400 s)",
        ),
        (
            make_plan(
                rate_curve=[{"kind": "spike", "start_s": 1, "duration_s": 2, "factor": 3}]
            ).scaled(0.25),
            "poisson arrivals at 0.25 requests/s, spike (x3, 2 s from 1 s)",
        ),
    ],
)
def test_plans_say_what_they_are(plan: ArrivalPlan, text: str) -> None:
    """One line with the process, the rates, the curves and the time."""
    assert str(plan) == text


@pytest.mark.parametrize(
    ("limit", "fields", "message"),
    [
        (5, {"request_rate": 2, "stages": STAGES}, r"request_rate must not be set together with"),
        (5, {"stages": []}, r"workload\.stages must have at least one stage; got none"),
        (
            None,
            {"stages": [{"rate": 0, "duration_s": 5}]},
            r"stages must have a rate > 0 requests/s in one of them; got no arrival in 5 s",
        ),
        (
            None,
            {
                "stages": [{"rate": 3, "duration_s": 5}],
                "rate_curve": [{"kind": "spike", "start_s": 0, "duration_s": 9, "factor": 0}],
            },
            r"stages must have a rate > 0 requests/s",
        ),
        (
            5,
            {"stages": [{"rate": 3, "duration_s": 1e-9}]},
            r"stages\[0\]\.duration_s must be >= 0\.000001 s; got 1e-09 s",
        ),
        (
            None,
            {"stages": [{"rate": 0.1, "duration_s": 4}], "arrivals": {"normalize_span": True}},
            r"normalize_span must leave an arrival in a stage",
        ),
        (
            None,
            {"arrivals": {"normalize_span": True}},
            r"normalize_span must be used with workload\.num_requests, workload\.stages or",
        ),
        (100, {"request_rate": 1e-9}, r"request_rate must be >= 1e-07 requests/s for 100 req"),
        (5, {"duration_s": 1e12}, r"workload must end within 1,000,000,000 s; got arrivals from"),
        (5, {"start_s": 1e12}, r"workload must end within 1,000,000,000 s; got arrivals from"),
        (5, {"request_rate": 1e15, "duration_s": 60}, r"must have at most 1e\+15 arrivals; got"),
        (None, {"request_rate": math.inf}, r"num_requests must be set with .*request_rate inf"),
        (None, {"arrivals": "all_at_once"}, r"num_requests must be set with .* all_at_once and"),
        (
            5,
            {"request_rate": math.inf, "arrivals": {"burstiness": 2}},
            r"arrivals\.burstiness must not be set when all requests arrive at once",
        ),
        (
            5,
            {"request_rate": math.inf, "arrivals": {"normalize_span": True}},
            r"arrivals\.normalize_span must not be set when all requests arrive at once",
        ),
        (
            5,
            {"request_rate": math.inf, "arrivals": "constant"},
            r"arrivals\.process must not be set when all requests arrive at once .*; got constant",
        ),
        (
            5,
            {"request_rate": math.inf, "rate_curve": [ON_OFF]},
            r"rate_curve must not be set when",
        ),
        (5, {"request_rate": math.inf, "duration_s": 5}, r"duration_s must not be set when all"),
        (
            5,
            {"arrivals": "all_at_once", "request_rate": 3},
            r"request_rate must not be set when all .*process: all_at_once\); got 3; leave it out",
        ),
        (5, {"arrivals": "all_at_once", "stages": STAGES}, r"stages must not .* got 5 entries"),
        (
            5,
            {"rate_curve": [ON_OFF, {"kind": "spike"}]},
            r"rate_curve\[1\]\.start_s must be given",
        ),
    ],
)
def test_settings_that_contradict_each_other(
    limit: int | None, fields: dict[str, Any], message: str
) -> None:
    """What no plan can be made of is refused by its name."""
    with pytest.raises(ConfigError, match=message):
        make_plan(limit, **fields)


def test_a_share_of_a_common_rate() -> None:
    """A client's plan takes its arrivals from its settings and the rate it is given."""
    common = load_rate("workload", WorkloadSettings(stages=STAGES))
    client = WorkloadSettings(arrivals="constant")
    plan = arrival_plan("workload.clients[1]", client, None, common.scaled(0.5))
    assert str(plan) == (
        "constant arrivals in 5 stages (2.5, 0, 4 to 0, 0 to 10, 0.35 requests/s), 1,137.7 s"
    )
    assert len(times(plan)) == 2427


def test_chunk_sizes_add_up() -> None:
    """Sizes cover the total, the last one smaller, and go on without a total."""
    assert list(chunk_sizes(10, 4)) == [4, 4, 2]
    assert list(chunk_sizes(0, 4)) == []
    assert list(islice(chunk_sizes(None, 4), 5)) == [4] * 5
