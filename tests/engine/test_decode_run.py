"""Runs of equal and of unequal steps against lists of boundaries."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.engine.decode_run import DecodeRun, MeasuredRun, UniformRun

from .builders import fixed

START_US = 100


def make_run(
    durations_us: list[int], *, is_uniform: bool, lead: int = 0, start_us: int = START_US
) -> DecodeRun:
    arguments = (start_us, 7, len(durations_us), 3, lead)
    if is_uniform:
        uniform = UniformRun(*arguments)
        uniform.duration_us = durations_us[0]
        return uniform
    measured = MeasuredRun(*arguments)
    measured.set_durations(np.array(durations_us, dtype=np.int64))
    return measured


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[int], bool, int]:
    """Return (durations, whether they are known to be equal, lead)."""
    lead = draw(st.integers(0, 1))
    num_steps = draw(st.integers(1 + lead, 30))
    is_uniform = draw(st.booleans())
    if is_uniform:
        return [draw(st.integers(1, 50))] * num_steps, True, lead
    durations = draw(st.lists(st.integers(1, 50), min_size=num_steps, max_size=num_steps))
    return durations, False, lead


@fixed
@given(runs(), st.integers(0, 1600))
def test_boundaries_are_the_sums_of_the_steps(
    made: tuple[list[int], bool, int], after_us: int
) -> None:
    """end_of, ended_by and first_boundary are what a list of boundaries says."""
    durations, is_uniform, lead = made
    run = make_run(durations, is_uniform=is_uniform, lead=lead)
    boundaries = list(accumulate(durations, initial=START_US))
    assert [run.end_of(count) for count in range(len(boundaries))] == boundaries
    at_us = min(START_US + after_us, boundaries[-1])
    assert run.ended_by(at_us) == sum(end <= at_us for end in boundaries[1:])
    assert run.first_boundary(at_us) == 1 + sum(end < at_us for end in boundaries[1:])


@fixed
@given(runs(), st.integers(0, 1600))
def test_a_cut_ends_at_the_first_boundary_from_then_on(
    made: tuple[list[int], bool, int], after_us: int
) -> None:
    """What comes between two boundaries is seen at the second, what comes at one, there.

    With asynchronous scheduling the step after it is already fixed: the run has one more.
    """
    durations, is_uniform, lead = made
    run = make_run(durations, is_uniform=is_uniform, lead=lead)
    boundaries = list(accumulate(durations, initial=START_US))[1:]
    wake_us = boundaries[run.wake - 1]
    at_us = START_US + after_us
    is_cut = run.cut(at_us)
    expected_us = min(wake_us, min((end for end in boundaries if end >= at_us), default=wake_us))
    assert boundaries[run.wake - 1] == expected_us
    assert is_cut == (expected_us < wake_us)
    assert run.num_steps == run.wake + lead


@fixed
@given(runs(), st.data())
def test_blocks_are_taken_at_the_start_of_their_steps(
    made: tuple[list[int], bool, int], data: st.DataObject
) -> None:
    """allocation returns the blocks of some steps and the sum of the instants they start."""
    durations, is_uniform, _ = made
    run = make_run(durations, is_uniform=is_uniform)
    starts = list(accumulate(durations, initial=START_US))
    begin = data.draw(st.integers(0, len(durations) - 1))
    needs = data.draw(st.lists(st.integers(0, 5), max_size=len(durations) - begin))
    weighted = sum(need * starts[begin + i] for i, need in enumerate(needs))
    assert run.allocation(needs, begin) == (sum(needs), weighted)


@pytest.mark.parametrize("is_uniform", [True, False])
def test_instants_far_from_the_start_do_not_overflow(is_uniform: bool) -> None:
    """Blocks times microseconds outgrow 64 bits: 30,000 blocks at 9e14 us are 2.7e19."""
    start_us = 9 * 10**14
    run = make_run([10] * 10, is_uniform=is_uniform, start_us=start_us)
    needs = [3000] * 10
    expected = sum(3000 * (start_us + 10 * step) for step in range(10))
    assert run.allocation(needs, 0) == (30_000, expected)


@pytest.mark.parametrize("is_uniform", [True, False])
def test_a_lead_schedules_a_step_ahead(is_uniform: bool) -> None:
    """With a lead of one, two steps are scheduled at the start and the wake is one earlier."""
    run = make_run([10] * 6, is_uniform=is_uniform, lead=1)
    assert (run.num_scheduled, run.wake) == (2, 5)
    assert run.cut(START_US + 11)
    assert (run.wake, run.num_steps) == (2, 3)
    assert not run.cut(START_US + 25)
