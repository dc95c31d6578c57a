"""The search for the highest rate alone: on functions whose answer is known, and on a queue.

`BLIS_SEARCH_EXAMPLES` and `BLIS_SEARCH_SEEDS` make the two properties a soak.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from blis_sim.capacity.search import SURE, FoundRate, Measurement, Probe, RateSearch, Verdict
from blis_sim.capacity.slo import Limit

from .queues import SERVICE_S, md1, md1_rate_of_mean, md1_rate_of_share

NUM_EXAMPLES = int(os.environ.get("BLIS_SEARCH_EXAMPLES", "200"))
NUM_SEEDS = int(os.environ.get("BLIS_SEARCH_SEEDS", "14"))
MOST = 12
TOLERANCE = 0.03


def searched(
    measure: Callable[[Probe], Measurement],
    *,
    guess: float | None = None,
    lowest: float = 1.0,
    **settings: float,
) -> FoundRate:
    """Return what a search finds; the guess is known after the first probe, as in a plan."""
    search = RateSearch(lowest=lowest, **settings)  # type: ignore[arg-type]
    asked: list[Probe] = []
    while (probe := search.ask()) is not None:
        asked.append(probe)
        search.tell(measure(probe))
        if len(asked) == 1:
            search.guess = guess
        assert len(asked) <= settings.get("max_simulations", MOST)
    assert [each.probe for each in search.measurements] == asked
    return search.result()


# -- functions whose answer is known ----------------------------------------------


@dataclass(frozen=True)
class Figure:
    """A figure over its limit, as a function of the rate: above 1 it is missed.

    ``shape`` is a power of the rate, a step, or what explodes at ``capacity`` as queues do.
    """

    threshold: float
    shape: str
    steepness: float = 2.0
    sureness: float = 1000.0
    """Standard errors between a figure and its limit where it is e times as high."""

    @property
    def capacity(self) -> float:
        return math.inf if self.shape != "explosive" else self.threshold * (1 + 1 / self.steepness)

    def ratio(self, rate: float) -> float:
        if self.shape == "step":
            return 0.5 if rate <= self.threshold else 1 + self.steepness
        if self.shape == "power":
            power = self.steepness * math.log(rate / self.threshold)
            return math.exp(min(max(power, -50.0), 50.0))
        if rate >= self.capacity:
            return 1e9
        return (1 - self.threshold / self.capacity) / (1 - rate / self.capacity)


def measured(figures: Sequence[Figure]) -> Callable[[Probe], Measurement]:
    def measure(probe: Probe) -> Measurement:
        ratios = {str(n): each.ratio(probe.rate) for n, each in enumerate(figures)}
        margins = {
            str(n): -each.sureness * math.log(ratios[str(n)]) for n, each in enumerate(figures)
        }
        return Measurement(
            probe=probe,
            margins=margins,
            ratios=ratios,
            values=dict(ratios),
            is_saturated=any(probe.rate >= each.capacity for each in figures),
        )

    return measure


figures = st.builds(
    Figure,
    threshold=st.floats(0, 5).map(lambda power: 10**power),
    shape=st.sampled_from(["power", "step", "explosive"]),
    steepness=st.floats(-1, 2).map(lambda power: 10**power),
    sureness=st.floats(1, 4).map(lambda power: 10**power),
)


@hypothesis_settings(max_examples=NUM_EXAMPLES, derandomize=True, deadline=None)
@given(
    limits=st.lists(figures, min_size=1, max_size=3),
    guess=st.none() | st.floats(-0.5, 6).map(lambda power: 10**power),
    max_simulations=st.integers(4, 14),
    least=st.sampled_from([100, 1000]),
)
@example([Figure(5.0, "step")], None, 4, 1000)
@example([Figure(1.0, "step")], None, 12, 1000)
def test_a_monotone_figure_never_ends_on_the_wrong_side(
    limits: list[Figure], guess: float | None, max_simulations: int, least: int
) -> None:
    """Whatever the shapes, the limits and the guess: rate <= threshold <= upper.

    Every probe has a rate and a number that make sense, none is made twice, and the ends are
    what probes showed.
    """
    truth = min(each.threshold for each in limits)
    found = searched(
        measured(limits), guess=guess, max_simulations=max_simulations, least_requests=least
    )
    assert found.rate <= truth * (1 + 1e-9)
    assert found.upper >= truth * (1 - 1e-9)
    probes = [each.probe for each in found.measurements]
    assert len(set(probes)) == len(probes) <= max_simulations
    assert all(0 < each.rate < math.inf for each in probes)
    assert all(100 <= each.num_requests <= 16_000 for each in probes)
    if found.rate:
        assert found.at_rate in found.measurements
        assert found.at_rate.probe.rate == found.rate
        assert found.at_rate.seems_kept
    if found.upper < math.inf:
        assert found.at_upper in found.measurements
        assert found.at_upper.probe.rate == found.upper
        assert found.at_upper.verdict is not Verdict.KEPT


@pytest.mark.parametrize(("shape", "share"), [("power", 0.9), ("explosive", 0.8), ("step", 0.6)])
@pytest.mark.parametrize("off", [0.5, 0.8, 1.0, 1.3, 2.0])
def test_a_fair_guess_ends_within_the_tolerance(shape: str, share: float, off: float) -> None:
    """From a guess within a factor of two, with figures that are surely known, most brackets are
    within the tolerance, and none is wider than a tenth; steps give the least hints."""
    widths = []
    for number in range(30):
        figure = Figure(10 ** (0.5 + 0.15 * number), shape, 1 + number % 5)
        guess = off * figure.threshold
        widths.append(searched(measured([figure]), guess=guess, tolerance=TOLERANCE).tolerance)
    assert np.mean(np.array(widths) <= TOLERANCE + 1e-9) >= share
    assert max(widths) <= 0.1


@pytest.mark.parametrize("off", [1e-3, 1e-2, 0.1, 10.0, 100.0, 1e3, None])
def test_a_bad_guess_costs_probes_not_the_answer(off: float | None) -> None:
    """Three decades off, or none at all: half the brackets are within 10 %, and all within a
    factor of two."""
    widths = []
    for number in range(24):
        figure = Figure(10 ** (0.5 + 0.15 * number), "power", 1 + number % 4)
        guess = None if off is None else max(off * figure.threshold, 0.5)
        widths.append(searched(measured([figure]), guess=guess).tolerance)
    assert np.median(widths) <= 0.1
    assert max(widths) <= 1.0


def test_what_misses_when_idle_carries_nothing() -> None:
    """The first probe says so, and is the only one."""
    found = searched(measured([Figure(0.5, "step")]))
    assert (found.rate, found.upper) == (0.0, 1.0)
    assert found.at_upper is found.measurements[0]
    assert len(found.measurements) == 1


def test_an_idle_probe_that_cannot_tell_is_made_once_more() -> None:
    """With the requests of a short one; a single probe is no proof."""

    def measure(probe: Probe) -> Measurement:
        margin = -1.0 if probe.num_requests < 1000 else -2 * SURE
        return Measurement(probe=probe, margins={"x": margin})

    found = searched(measure)
    assert [each.probe for each in found.measurements] == [Probe(1.0, 333), Probe(1.0, 1000)]
    assert (found.rate, found.upper) == (0.0, 1.0)

    def unlucky(probe: Probe) -> Measurement:
        margin = -1.0 if probe.num_requests < 1000 else 20.0 if probe.rate < 50 else -20.0
        return Measurement(probe=probe, margins={"x": margin})

    assert 40 < searched(unlucky).rate < 50


def test_what_is_always_kept_has_no_upper_end() -> None:
    """The rate goes up as long as there are probes."""
    found = searched(measured([Figure(1e30, "step")]), guess=10.0)
    assert found.upper == math.inf
    assert found.at_upper is None
    assert found.rate > 1000
    assert found.tolerance == math.inf


def test_only_a_full_probe_makes_a_rate() -> None:
    """What a short probe seems to keep and a full one does not is not kept.

    The true threshold is 30; short probes see it at 60.
    """

    def measure(probe: Probe) -> Measurement:
        threshold = 30.0 if probe.num_requests >= 16_000 else 60.0
        return measured([Figure(threshold, "step")])(probe)

    found = searched(measure, guess=55.0)
    assert found.rate <= 30 <= found.upper
    assert found.at_rate is not None
    assert found.at_rate.probe.num_requests == 16_000


def test_a_short_probe_may_be_too_dark() -> None:
    """Where short probes see the limit at half of what it is, the search goes on upwards."""

    def measure(probe: Probe) -> Measurement:
        is_full = probe.num_requests >= 16_000
        figure = Figure(100.0 if is_full else 50.0, "power", sureness=100.0 if is_full else 5.0)
        return measured([figure])(probe)

    found = searched(measure, guess=50.0)
    assert 90 <= found.rate <= 100 <= found.upper <= 110


def test_a_queue_that_grows_in_a_short_probe_is_no_end() -> None:
    """A few requests that pile up by chance do not bound the answer; the limits must say so."""

    def measure(probe: Probe) -> Measurement:
        is_grown = probe.num_requests < 16_000 and probe.rate > 20
        one = measured([Figure(100.0, "step")])(probe)
        return Measurement(
            probe=probe, margins=one.margins, ratios=one.ratios, is_saturated=is_grown
        )

    found = searched(measure, guess=25.0)
    assert found.upper >= 100


def test_limits_that_cannot_be_told_are_no_answer() -> None:
    """Where nothing is sure there is no rate, rather than that of the idle engine."""

    def measure(probe: Probe) -> Measurement:
        margin = 1.0 - 2 * math.log10(probe.rate)
        return Measurement(probe=probe, margins={"x": max(margin, -1.0)}, ratios={"x": 0.9})

    found = searched(measure, guess=20.0)
    assert found.rate == 0
    assert found.at_rate is None
    assert found.measurements[0].seems_kept


def test_a_figure_without_data_ends_too() -> None:
    """Margins of zero at all rates: the search ends, and promises nothing."""
    found = searched(lambda probe: Measurement(probe=probe, margins={"x": 0.0}))
    assert found.rate == 0
    assert len(found.measurements) <= MOST


def test_a_probe_lasts_as_long_as_asked() -> None:
    """least_duration_s makes short and full probes longer where the rate is high."""
    search = RateSearch(lowest=1.0, guess=5000.0)
    measure = measured([Figure(4000.0, "power")])
    probe = search.ask()
    assert probe is not None
    search.tell(measure(probe))
    search.least_duration_s = 6.0
    while (probe := search.ask()) is not None:
        assert probe.num_requests >= math.ceil(6 * probe.rate)
        search.tell(measure(probe))
    found = search.result()
    assert found.at_rate is not None
    assert found.at_rate.probe.num_requests == math.ceil(6 * found.rate) > 16_000


def test_probes_that_turn_out_to_be_too_short_do_not_count() -> None:
    """Requests live longer at work than was known: what was seen before is a hint alone.

    Until a busy probe, short runs keep the limit at rates that long ones miss.
    """
    search = RateSearch(lowest=1.0, guess=150.0)

    def threshold(probe: Probe) -> float:
        return 100.0 if probe.num_requests >= 300 * probe.rate else 200.0

    while (probe := search.ask()) is not None:
        search.tell(measured([Figure(threshold(probe), "power")])(probe))
        if len(search.measurements) == 6:
            search.least_duration_s = 300.0
    found = search.result()
    assert found.rate <= 100 <= found.upper
    assert found.at_rate is not None
    assert found.at_rate.probe.num_requests >= 0.9 * 300 * found.rate


def test_a_load_has_only_so_many_requests() -> None:
    """No probe asks for more, and the longest there is counts as full."""
    found = searched(measured([Figure(40.0, "power")]), guess=30.0, available=700)
    assert {each.probe.num_requests for each in found.measurements} == {233, 700}
    assert found.rate <= 40 <= found.upper
    assert found.tolerance <= TOLERANCE


def test_verdicts_and_margins() -> None:
    """The least margin decides; saturation is a miss whatever the limits say."""
    probe = Probe(1.0, 100)
    kept = Measurement(probe=probe, margins={"a": SURE, "b": 9.0}, ratios={"a": 0.9, "b": 0.1})
    assert (kept.verdict, kept.worst, kept.ratio, kept.margin) == (Verdict.KEPT, "a", 0.9, SURE)
    unclear = Measurement(probe=probe, margins={"a": SURE - 0.1, "b": 9.0})
    assert (unclear.verdict, unclear.seems_kept) == (Verdict.UNCLEAR, True)
    missed = Measurement(probe=probe, margins={"a": -math.inf, "b": math.inf})
    assert (missed.verdict, missed.margin, missed.clipped("b")) == (Verdict.MISSED, -12, 12)
    grown = Measurement(probe=probe, margins={"a": 9.0}, is_saturated=True)
    assert (grown.verdict, grown.seems_kept, grown.margin) == (Verdict.MISSED, False, -12)


# -- a queue ----------------------------------------------------------------------

QUEUES = {
    # Limit, true threshold by theory, widest median bracket, how far above the truth at most.
    "p99": (Limit("p99_ttft_ms", 500.0), md1_rate_of_share(0.5, 0.99), 0.25, 0.05),
    "p95": (Limit("p95_ttft_ms", 500.0), md1_rate_of_share(0.5, 0.95), 0.15, 0.05),
    "mean": (Limit("mean_ttft_ms", 100.0), md1_rate_of_mean(0.1), 0.12, 0.05),
    "busy": (Limit("mean_ttft_ms", 300.0), md1_rate_of_mean(0.3), 0.12, 0.03),
}


def test_the_truths_are_those_of_long_runs() -> None:
    """Erlang's sum and Pollaczek and Khinchine's mean, where the search shall end."""
    for name, (limit, truth, _, _) in QUEUES.items():
        measurement = md1(limit, 7)(Probe(truth, 400_000))
        assert abs(measurement.margins[limit.metric]) < 3.5, name
        assert measurement.ratio == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize(
    ("load", "num", "least", "most"),
    [(0.9, 16_000, 0, 0), (0.97, 16_000, 0, 1), (1.03, 16_000, 9, 10), (1.1, 3_000, 9, 10)],
)
def test_a_queue_beyond_its_capacity_is_saturated(
    load: float, num: int, least: int, most: int
) -> None:
    """Of ten queues; one that is nearly full, and swings for that, is not."""
    limit = Limit("p50_ttft_ms", 1e9)
    probe = Probe(load / SERVICE_S, num)
    assert least <= sum(md1(limit, seed)(probe).is_saturated for seed in range(10)) <= most


@pytest.mark.parametrize("name", QUEUES)
def test_the_truth_lies_between_the_ends(name: str) -> None:
    """Of M/D/1 queues with random numbers of their own at least nine of ten end so.

    2.3 standard errors would leave out one in fifty on each side if errors were known; scatter
    tells them only so well. No rate is far above the truth, whatever the guess.
    """
    limit, truth, width, above = QUEUES[name]
    guesses = np.random.default_rng(11).uniform(0.6, 1.6, NUM_SEEDS) * truth
    found = [
        searched(md1(limit, seed), guess=float(guess))
        for seed, guess in enumerate(guesses, start=100)
    ]
    inside = [each.rate <= truth <= each.upper for each in found]
    assert np.mean(inside) >= 0.9
    assert max(each.rate for each in found) <= (1 + above) * truth
    assert np.median([each.tolerance for each in found]) <= width
    assert min(each.rate for each in found) >= 0.5 * truth


@pytest.mark.parametrize("limit_ms", [5_000.0, 20_000.0])
def test_a_loose_limit_on_a_mean_is_found_near_the_capacity(limit_ms: float) -> None:
    """A hundred times the service time and more: what is far below the limit surely keeps it.

    So near saturation the ends are right to within the tolerance, on either side.
    """
    truth = md1_rate_of_mean(limit_ms / 1000)
    for seed in range(max(NUM_SEEDS // 3, 3)):
        found = searched(md1(Limit("mean_ttft_ms", limit_ms), seed), lowest=1.0, guess=18.0)
        assert 0.85 * truth <= found.rate <= (1 + TOLERANCE) * truth
        assert found.upper >= (1 - TOLERANCE) * truth
