from __future__ import annotations

import math
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blis_sim.config.workload import RateCurveSettings
from blis_sim.errors import ConfigError
from blis_sim.workload.curves import Curve, Diurnal, OnOff, Spike, rate_curve
from blis_sim.workload.gaps import FloatArray
from blis_sim.workload.rate import Clock, Rate

DAY_S = 86_400.0


def times_s(rate: Rate, due: list[float] | FloatArray) -> FloatArray:
    return Clock(rate.walk(rate.stages)).times_s(np.asarray(due, dtype=float))


def diurnal_due(rate: float, curve: Diurnal, end_s: float | FloatArray) -> FloatArray:
    """Integral of rate * (1 + a cos(2 pi (t - p)/P)) from 0, written down by hand."""
    turns = 2 * math.pi / curve.period_s
    swing = np.sin(turns * (np.asarray(end_s) - curve.peak_at_s)) + math.sin(
        turns * curve.peak_at_s
    )
    return np.asarray(rate * (np.asarray(end_s) + curve.amplitude / turns * swing))


def test_constant_rate_is_a_division() -> None:
    """Number n is due at n/rate, to the bit, without end."""
    due = np.array([0.1, 1.0, 7.0, 1e9])
    assert np.array_equal(times_s(Rate.constant(3.7), due), due / 3.7)


def test_stages_and_pauses() -> None:
    """A pause holds the next arrival up until it is over; the last one before is at its begin."""
    rate = Rate.in_stages([(5, 5, 600), (0, 0, 100), (10, 10, 60)])
    found = times_s(rate, [1, 3000, 3000.5, 3010, 3600, 3601])
    assert found.tolist() == [0.2, 600, 700.05, 701, 760]
    assert rate.due(rate.stages) == 3600


@pytest.mark.parametrize(("begin", "end"), [(0.0, 8.0), (8.0, 0.0), (3.0, 5.0), (5.0, 3.0)])
def test_ramps_are_exact(begin: float, end: float) -> None:
    """The integral of a ramp up to the time found is what was asked for, to 1e-9 s."""
    length_s = 600.0
    rate = Rate.in_stages([(begin, end, length_s)])
    due = np.linspace(0.01, (begin + end) / 2 * length_s, 1001)
    found = times_s(rate, due)
    slope = (end - begin) / length_s
    back = begin * found + slope * found**2 / 2
    per_s = np.maximum(begin + slope * found, 1e-3)
    assert (np.abs(back - due) / per_s).max() < 1e-9
    assert found[-1] == length_s
    assert (np.diff(found) > 0).all()


@pytest.mark.parametrize("period_s", [1.0, 60.0, DAY_S, 30 * DAY_S])
@pytest.mark.parametrize("amplitude", [0.2, 0.5, 0.95])
def test_diurnal_error(period_s: float, amplitude: float) -> None:
    """A time is found to 1 us / (1 - amplitude), however long the period."""
    curve = Diurnal(amplitude, period_s, peak_at_s=0.6 * period_s)
    rate = Rate.constant(100 / period_s, [curve])
    rng = np.random.default_rng(4)
    asked = np.sort(rng.uniform(0.001 * period_s, 3 * period_s, 2000))
    found = times_s(rate, diurnal_due(100 / period_s, curve, asked))
    assert np.abs(found - asked).max() < 1e-6 / (1 - amplitude)


def test_diurnal_that_touches_0() -> None:
    """With amplitude 1 the time around the lowest rate is found to the cell of 21 s."""
    curve = Diurnal(1.0)
    low_s = curve.peak_at_s - DAY_S / 2
    asked = np.sort(np.concatenate([low_s + np.linspace(-60, 60, 101), [DAY_S]]))
    found = times_s(Rate.constant(5.0, [curve]), diurnal_due(5.0, curve, asked))
    error_s = np.abs(found - asked)
    assert error_s.max() < DAY_S / curve.cells_per_period
    assert error_s[np.abs(asked - low_s) > 45].max() < 0.2
    assert error_s[-1] < 1e-6


def test_diurnal_ramps_and_days_that_multiply() -> None:
    """A ramp under two days of different length has the integral of a fine numerical sum."""
    curves = [Diurnal(0.5, 100.0, 30.0), Diurnal(0.8, 37.0, 5.0)]
    rate = Rate.in_stages([(2, 12, 500)], curves)
    grid = np.linspace(0, 500, 2_000_001)
    middle = (grid[1:] + grid[:-1]) / 2
    per_s = (2 + 10 * middle / 500) * curves[0].factor(middle) * curves[1].factor(middle)
    due = np.concatenate([[0], np.cumsum(per_s * np.diff(grid))])
    assert rate.due(rate.stages) == pytest.approx(due[-1], rel=1e-10)
    number = np.arange(1000, 2_000_001, 1000)
    assert np.abs(times_s(rate, due[number]) - grid[number]).max() < 1e-5


def test_on_off_windows() -> None:
    """Nothing is due in an off window; due times count the on windows only."""
    rate = Rate.constant(0.7, [OnOff(10.0, 5.0)])
    due = np.arange(1, 10_001) / 10
    found = times_s(rate, due)
    into = np.mod(found, 15.0)
    # At the end of a window counts as inside it.
    assert ((into <= 10 + 1e-9) | (into > 15 - 1e-9)).all()
    windows = np.ceil(due / 7 - 1e-9) - 1
    assert np.abs(found - (windows * 15 + (due - windows * 7) / 0.7)).max() < 1e-8


def test_the_end_of_a_window_belongs_to_it() -> None:
    """Arrivals at exactly the end of a window are not put off to the next by rounding."""
    rate = Rate.constant(0.7, [OnOff(10.0, 5.0)])
    ends = times_s(rate, [7.0 * number for number in range(1, 501)])
    assert np.abs(ends - (15.0 * np.arange(1, 501) - 5)).max() < 1e-6


def test_spikes_multiply() -> None:
    """Two spikes that overlap multiply the rate and each other."""
    rate = Rate.constant(2.0, [Spike(10, 10, 3.0), Spike(15, 10, 0.0), Spike(30, 5, 2.0)])
    found = times_s(rate, [20, 50, 50.5, 60, 80, 1080])
    assert found == pytest.approx([10, 15, 25.25, 30, 35, 535])


CURVES: list[list[Curve]] = [
    [],
    [Diurnal(0.7, 50.0, 10.0)],
    [OnOff(3.0, 2.0, 0.25)],
    [Spike(5.0, 20.0, 4.0)],
    [Diurnal(1.0, 70.0, 0.0), OnOff(1.0, 4.0), Spike(20.0, 10.0, 0.0)],
]


@given(
    pieces=st.lists(
        st.tuples(st.floats(0, 50), st.floats(0, 50), st.floats(0.01, 200)).map(
            lambda piece: tuple(round(number, 3) for number in piece)
        ),
        min_size=1,
        max_size=5,
    ),
    curves=st.sampled_from(CURVES),
    factor=st.sampled_from([1.0, 0.3]),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_times_never_decrease_and_are_inside(
    pieces: list[Any], curves: list[Curve], factor: float
) -> None:
    """Times are ascending, inside the stages, not in pauses, and end where the rate does."""
    rate = Rate.in_stages(pieces, curves).scaled(factor)
    total = rate.due(rate.stages)
    due = np.linspace(0, total, 301)[1:]
    found = times_s(rate, due)
    if total == 0:
        return
    assert len(found) == len(due)
    assert (np.diff(found) >= -1e-9).all()
    assert found[0] >= 0
    assert found[-1] <= rate.end_s
    assert len(times_s(rate, [total * 1.001])) == 0
    # The other way round: arrivals due until the times found, stage by stage.
    for time, wanted in zip(found[::60], due[::60], strict=True):
        cut = rate.until(time)
        assert cut.due(cut.stages) == pytest.approx(wanted, rel=1e-6, abs=1e-3)


def test_a_clock_goes_on_where_it_was() -> None:
    """Asking bit by bit gives the same times, to the bit."""
    rate = Rate.in_stages([(2, 12, 500), (3, 3, 50)], CURVES[4])
    due = np.linspace(0, rate.due(rate.stages), 1000)[1:]
    clock = Clock(rate.walk(rate.stages))
    parts = [clock.times_s(due[begin : begin + 7]) for begin in range(0, len(due), 7)]
    assert np.array_equal(np.concatenate(parts), times_s(rate, due))


def test_endless_curves_are_cut_into_cells_as_needed() -> None:
    """A rate without end gives its cells a stretch at a time."""
    rate = Rate.constant(1.0, [Diurnal(), OnOff(60.0, 60.0)])
    stretches = list(islice(rate.cells(rate.stages[0]), 5))
    assert all(len(cells.begin_rate) < 20_000 for cells in stretches)
    edges = [(cells.edges_s[0], cells.edges_s[-1]) for cells in stretches]
    assert [end for _, end in edges[:-1]] == [begin for begin, _ in edges[1:]]


def test_until_cuts_a_ramp() -> None:
    """The rate where a ramp is cut is that of the ramp."""
    cut = Rate.in_stages([(5, 5, 10), (0, 8, 100), (9, 9, 9)]).until(35)
    assert [(s.end_s, s.begin_rate, s.end_rate) for s in cut.stages] == [(10, 5, 5), (35, 0, 2)]
    assert cut.due(cut.stages) == 50 + 25


def test_names() -> None:
    """Rates are named by their stages, long lists with a gap."""
    assert str(Rate.constant(4.0)) == "4 requests/s"
    assert str(Rate.in_stages([(5, 10, 1), (0, 0, 1)])) == "5 to 10, 0 requests/s"
    many = str(Rate.in_stages([(n, n, 1) for n in range(1, 21)]))
    assert many == "1, 2, 3, 4, 5, 6, 7, ..., 20 requests/s"


def test_a_curve_too_fast_for_the_arrivals() -> None:
    """One arrival in a hundred million cycles is refused instead of searched for."""
    rate = Rate.constant(1e-6, [OnOff(0.001, 0.001)])
    with pytest.raises(ConfigError, match=r"rate curve must leave an arrival now and then; got"):
        times_s(rate, [1.0])


def test_arrivals_of_another_age() -> None:
    """With curves, an arrival later than a workload may have is refused."""
    rate = Rate.constant(1e-9, [OnOff(2e6, 2e8)])
    with pytest.raises(ConfigError, match=r"must be within 1,000,000,000 s; got a rate curve"):
        times_s(rate, [1.0])


def curve_of(**given_fields: Any) -> Curve:
    return rate_curve("workload.rate_curve[0]", RateCurveSettings(**given_fields))


def test_curves_from_settings() -> None:
    """Days have defaults; factors outside on windows are 0 unless given."""
    assert curve_of(kind="diurnal") == Diurnal(0.5, 86_400.0, 50_400.0)
    assert curve_of(kind="diurnal", amplitude=0.0, period_s=5) == Diurnal(0.0, 5.0, 50_400.0)
    assert curve_of(kind="spike", start_s=0, duration_s=2, factor=0) == Spike(0.0, 2.0, 0.0)
    assert curve_of(kind="on_off", on_s=1, off_s=2) == OnOff(1.0, 2.0, 0.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"kind": "spike", "start_s": 1, "duration_s": 1},
            r"^workload\.rate_curve\[0\]\.factor must be given with kind spike; got nothing$",
        ),
        (
            {"kind": "spike", "factor": 2, "duration_s": 1},
            r"start_s must be given with kind spike",
        ),
        ({"kind": "on_off", "on_s": 1}, r"off_s must be given with kind on_off"),
        (
            {"kind": "diurnal", "factor": 3},
            r"factor must not be set with kind diurnal; got 3; leave it out$",
        ),
        (
            {"kind": "on_off", "on_s": 1, "off_s": 1, "period_s": 2},
            r"period_s must not be set with kind on_off",
        ),
        (
            {"kind": "on_off", "on_s": 1, "off_s": 1e-4},
            r"off_s must be >= 0\.001 s; got 0\.0001 s$",
        ),
        ({"kind": "diurnal", "period_s": 1e-9}, r"period_s must be >= 0\.001 s; got 1e-09 s$"),
    ],
)
def test_curves_that_do_not_work(fields: dict[str, Any], message: str) -> None:
    """Fields that are missing or have no meaning for the kind are refused."""
    with pytest.raises(ConfigError, match=message):
        curve_of(**fields)
