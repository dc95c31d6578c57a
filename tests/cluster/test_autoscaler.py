"""Autoscaling against Kubernetes' rule, its limits, its stabilisation and its cooldowns."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.cluster.autoscaler import Autoscaler
from blis_sim.config.cluster import AutoscalingSettings
from tests.engine.builders import fixed

S = 1_000_000


def make_settings(**settings: Any) -> AutoscalingSettings:
    return AutoscalingSettings.model_validate({"target": 10, "max_instances": 100} | settings)


def at_once(**settings: Any) -> AutoscalingSettings:
    """Return settings under which earlier wishes count for nothing."""
    return make_settings(**{"scale_down_stabilization_s": 0, **settings})


def decide(measured: float | None, *, ready: int = 4, starting: int = 0, **settings: Any) -> int:
    """Return the first decision of an autoscaler that shrinks at once."""
    return Autoscaler(at_once(**settings)).decide(0, ready, starting, measured)


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (10, 4),
        (20, 8),
        (12, 5),  # 4.8
        (12.6, 6),  # 5.04
        (5, 2),
        (6, 3),  # 2.4
        (0, 1),
        (10_000, 100),
        (float("inf"), 100),
        (None, 4),
    ],
)
def test_the_wanted_number_is_the_load_by_the_target_rounded_up(
    measured: float | None, expected: int
) -> None:
    """Four instances, a target of 10, between 1 and 100 instances."""
    assert decide(measured) == expected


@pytest.mark.parametrize(
    ("measured", "expected"), [(11, 10), (11.01, 12), (9, 10), (8.99, 9), (9.5, 10)]
)
def test_small_deviations_change_nothing(measured: float, expected: int) -> None:
    """A tolerance of 0.1 holds up to 11 and down to 9, those included."""
    assert decide(measured, ready=10) == expected


def test_without_tolerance_every_deviation_counts() -> None:
    """As it does without one for the exact target."""
    assert decide(10.01, tolerance=0) == 5
    assert decide(10, tolerance=0) == 4


@pytest.mark.parametrize(("total", "ready"), [(29, 7), (49, 29), (1001, 59)])
def test_a_mean_of_whole_numbers_multiplies_back_exactly(total: int, ready: int) -> None:
    """The last bit of a float starts no instance: total requests at a target of 1."""
    mean = total / ready
    assert decide(mean, ready=ready, target=1, max_instances=2000) == total


@pytest.mark.parametrize(
    ("measured", "starting", "expected"),
    [
        (20, 4, 8),  # wanted 8, and there will be 8
        (20, 3, 8),
        (40, 4, 16),
        (15, 4, 8),  # wanted 6: no more are started, and none of those starting is stopped
        (10, 4, 8),  # within the tolerance
        (5, 4, 2),  # too many even without those starting
    ],
)
def test_instances_that_start_count(measured: float, starting: int, expected: int) -> None:
    """Four are ready; what is needed beside those starting is started, no more."""
    assert decide(measured, starting=starting) == expected


@pytest.mark.parametrize(
    ("measured", "ready", "starting", "expected"),
    [
        (None, 1, 0, 2),
        (None, 9, 0, 5),
        (None, 2, 1, 3),
        (10, 1, 0, 2),
        (10, 9, 0, 5),
        (0, 4, 0, 2),
        (99, 4, 0, 5),
        (99, 0, 3, 3),  # there is no mean without a ready instance
        (0, 0, 3, 3),
        (None, 0, 0, 2),
    ],
)
def test_the_limits_hold_always(
    measured: float | None, ready: int, starting: int, expected: int
) -> None:
    """Between 2 and 5 instances, with data or without."""
    got = decide(measured, ready=ready, starting=starting, min_instances=2, max_instances=5)
    assert got == expected


def test_no_growth_within_the_cooldown_of_growth() -> None:
    """Growing again waits 60 s from the last growth, not from a shrinkage; at 60 s it may."""
    scaler = Autoscaler(at_once(scale_up_cooldown_s=60))
    assert scaler.decide(5 * S, 2, 0, 20) == 4
    assert scaler.decide(65 * S - 1, 4, 0, 20) == 4
    assert scaler.decide(65 * S, 4, 0, 20) == 8
    assert scaler.decide(70 * S, 8, 0, 5) == 4
    assert scaler.decide(125 * S - 1, 4, 0, 20) == 4
    assert scaler.decide(125 * S, 4, 0, 20) == 8


def test_no_shrinkage_within_the_cooldown_of_any_change() -> None:
    """300 s after growth or shrinkage; the first one waits for nothing."""
    scaler = Autoscaler(at_once(scale_down_cooldown_s=300))
    assert scaler.decide(0, 16, 0, 5) == 8
    assert scaler.decide(300 * S - 1, 8, 0, 5) == 8
    assert scaler.decide(300 * S, 8, 0, 5) == 4
    assert scaler.decide(310 * S, 4, 0, 20) == 8
    assert scaler.decide(610 * S - 1, 8, 0, 5) == 8
    assert scaler.decide(610 * S, 8, 0, 5) == 4


def test_decisions_that_change_nothing_start_no_cooldown() -> None:
    """Cooldowns run from changes, not from decisions."""
    scaler = Autoscaler(at_once(scale_up_cooldown_s=60, scale_down_cooldown_s=300))
    assert scaler.decide(0, 4, 0, 10) == 4
    assert scaler.decide(1 * S, 4, 0, 20) == 8
    assert scaler.decide(290 * S, 8, 0, None) == 8
    assert scaler.decide(301 * S, 8, 0, 5) == 4


def test_a_pool_shrinks_to_the_most_that_was_wanted_lately() -> None:
    """Kubernetes' window of 300 s; a wish counts until it is 300 s old, growth waits for none."""
    scaler = Autoscaler(make_settings())
    assert scaler.decide(0, 4, 0, 20) == 8
    assert scaler.decide(10 * S, 4, 4, 15) == 8  # 6 are wanted, and none starting is stopped
    assert scaler.decide(20 * S, 8, 0, 6) == 8  # 5
    assert scaler.decide(300 * S, 8, 0, 3) == 8  # 3: of 10 s ago counts that none was stopped
    assert scaler.decide(310 * S, 8, 0, 3) == 5
    assert scaler.decide(319 * S, 5, 0, 20) == 10
    assert scaler.decide(619 * S - 1, 10, 0, 1) == 10
    assert scaler.decide(619 * S, 10, 0, 1) == 1


def test_the_number_found_at_first_counts_as_wanted() -> None:
    """As in Kubernetes: a pool started large is not stopped before its load has come."""
    scaler = Autoscaler(make_settings())
    assert scaler.decide(15 * S, 6, 0, 0) == 6
    assert scaler.decide(315 * S - 1, 6, 0, 0) == 6
    assert scaler.decide(315 * S, 6, 0, 0) == 1


def test_no_data_is_no_wish() -> None:
    """Where nothing was measured nothing was wanted either; the pool stays as it is."""
    scaler = Autoscaler(make_settings())
    assert scaler.decide(0, 6, 0, 5) == 6
    assert scaler.decide(200 * S, 6, 0, None) == 6
    assert scaler.decide(300 * S, 6, 0, 5) == 3


@fixed
@given(
    window_s=st.sampled_from([0, 1, 60, 300]),
    steps=st.lists(
        st.tuples(
            st.one_of(st.integers(0, 120 * S), st.sampled_from([0, 30 * S, 60 * S, 300 * S])),
            st.one_of(st.none(), st.floats(0, 30), st.sampled_from([0, 9, 10, 11, 20])),
        ),
        max_size=40,
    ),
)
def test_stabilisation_is_that_of_a_list_of_all_wishes(
    window_s: float, steps: list[tuple[int, float | None]]
) -> None:
    """Against the wishes of an autoscaler without a window, all kept and looked through."""
    scaler = Autoscaler(make_settings(scale_down_stabilization_s=window_s))
    now_us, current = 0, 8
    wishes: list[tuple[int, int]] = []
    for gap_us, measured in steps:
        now_us += gap_us
        wishes = wishes or [(now_us, current)]
        wish = decide(measured, ready=current)
        recent = [number for time_us, number in wishes if now_us - time_us < window_s * S]
        expected = wish if wish >= current else min(current, max([wish, *recent]))
        if measured is not None:
            wishes.append((now_us, wish))
        assert scaler.decide(now_us, current, 0, measured) == expected
        current = expected


def test_a_number_outside_the_limits_is_corrected_within_a_cooldown() -> None:
    """Limits win over cooldowns, and the load is heeded when they are over."""
    scaler = Autoscaler(make_settings(min_instances=3, max_instances=6, scale_up_cooldown_s=60))
    assert scaler.decide(0, 3, 0, 20) == 6
    assert scaler.decide(1 * S, 7, 0, 1) == 6
    assert scaler.decide(2 * S, 1, 0, 20) == 3


@fixed
@given(
    least=st.integers(1, 5),
    span=st.integers(0, 10),
    tolerance=st.sampled_from([0, 0.1, 0.5]),
    cooldowns_s=st.tuples(st.sampled_from([0, 30, 100]), st.sampled_from([0, 50, 300])),
    steps=st.lists(
        st.tuples(
            st.integers(0, 60 * S),
            st.one_of(st.none(), st.floats(0, 50), st.sampled_from([9, 11, 10])),
            st.booleans(),
        ),
        max_size=40,
    ),
)
def test_a_pool_stays_within_limits_and_does_not_flap(
    least: int,
    span: int,
    tolerance: float,
    cooldowns_s: tuple[float, float],
    steps: list[tuple[int, float | None, bool]],
) -> None:
    """Whatever is measured: limits, tolerance and cooldowns hold, and growth is needed."""
    up_s, down_s = cooldowns_s
    settings = at_once(
        min_instances=least,
        max_instances=least + span,
        tolerance=tolerance,
        scale_up_cooldown_s=up_s,
        scale_down_cooldown_s=down_s,
    )
    scaler = Autoscaler(settings)
    ready, starting = least + span // 2, 0
    now_us = 0
    grown_us = changed_us = -(10**12)
    for gap_us, measured, have_started in steps:
        now_us += gap_us
        if have_started:
            ready, starting = ready + starting, 0
        current = ready + starting
        wanted = scaler.decide(now_us, ready, starting, measured)
        assert least <= wanted <= least + span
        if measured is None or abs(measured / 10 - 1) < tolerance:
            assert wanted == current
        if wanted > current:
            assert measured is not None
            assert measured > 10
            assert wanted < ready * measured / 10 + 1
            assert now_us - grown_us >= up_s * S
            starting += wanted - current
            grown_us = changed_us = now_us
        elif wanted < current:
            assert measured is not None
            assert measured < 10
            assert wanted >= ready * measured / 10 - 1e-6
            assert now_us - changed_us >= down_s * S
            ready, starting = wanted, 0
            changed_us = now_us
