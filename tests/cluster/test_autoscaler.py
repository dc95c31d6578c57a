"""Autoscaling against Kubernetes' rule, its limits and its cooldowns."""

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


def decide(measured: float | None, *, ready: int = 4, starting: int = 0, **settings: Any) -> int:
    """Return the first decision of an autoscaler."""
    return Autoscaler(make_settings(**settings)).decide(0, ready, starting, measured)


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
    scaler = Autoscaler(make_settings(scale_up_cooldown_s=60, scale_down_cooldown_s=0))
    assert scaler.decide(5 * S, 2, 0, 20) == 4
    assert scaler.decide(65 * S - 1, 4, 0, 20) == 4
    assert scaler.decide(65 * S, 4, 0, 20) == 8
    assert scaler.decide(70 * S, 8, 0, 5) == 4
    assert scaler.decide(125 * S - 1, 4, 0, 20) == 4
    assert scaler.decide(125 * S, 4, 0, 20) == 8


def test_no_shrinkage_within_the_cooldown_of_any_change() -> None:
    """300 s after growth or shrinkage; the first one waits for nothing."""
    scaler = Autoscaler(make_settings())
    assert scaler.decide(0, 16, 0, 5) == 8
    assert scaler.decide(300 * S - 1, 8, 0, 5) == 8
    assert scaler.decide(300 * S, 8, 0, 5) == 4
    assert scaler.decide(310 * S, 4, 0, 20) == 8
    assert scaler.decide(610 * S - 1, 8, 0, 5) == 8
    assert scaler.decide(610 * S, 8, 0, 5) == 4


def test_decisions_that_change_nothing_start_no_cooldown() -> None:
    """Cooldowns run from changes, not from decisions."""
    scaler = Autoscaler(make_settings(scale_up_cooldown_s=60))
    assert scaler.decide(0, 4, 0, 10) == 4
    assert scaler.decide(1 * S, 4, 0, 20) == 8
    assert scaler.decide(290 * S, 8, 0, None) == 8
    assert scaler.decide(301 * S, 8, 0, 5) == 4


def test_a_number_outside_the_limits_is_corrected_within_a_cooldown() -> None:
    """Limits win over cooldowns, and the load is heeded when they are over."""
    settings = make_settings(min_instances=3, max_instances=6, scale_up_cooldown_s=60)
    scaler = Autoscaler(settings)
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
    settings = make_settings(
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
