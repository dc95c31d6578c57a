"""Admission policies against their definitions."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blis_sim.cluster.admission import SLO_PRIORITIES, Admission, TokenBucket, make_admission
from blis_sim.config.cluster import AdmissionPolicy, AdmissionSettings
from tests.cluster.fake_candidates import make_asked
from tests.engine.builders import fixed

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scenario.md"
TOO_FEW = "token bucket: not enough tokens"
TOO_LARGE = "token bucket: the prompt is larger than the bucket, it can never be admitted"
SHED = "tier-shed: the class is shed while an instance is busy"
REJECTED = "reject-all: nothing is admitted"


def make_policy(policy: str, **settings: Any) -> Admission:
    return make_admission(AdmissionSettings(policy=AdmissionPolicy(policy), **settings))


def no_loads() -> Sequence[int]:
    raise AssertionError("this answer does not depend on loads")


def answers(policy: Admission, *requests: tuple[int, int]) -> list[str | None]:
    """Return the answers to (time in us, prompt tokens)."""
    return [
        policy.refusal(make_asked(prompt_tokens=tokens), now_us, no_loads)
        for now_us, tokens in requests
    ]


@pytest.mark.parametrize("policy", list(AdmissionPolicy))
@fixed
@given(
    requests=st.lists(
        st.tuples(
            st.integers(0, 10**6),
            st.integers(1, 12_000),
            st.sampled_from([None, "critical", "batch"]),
            st.lists(st.integers(0, 2), max_size=3),
        ),
        max_size=20,
    )
)
def test_equal_histories_have_equal_answers(
    policy: str, requests: list[tuple[int, int, str | None, list[int]]]
) -> None:
    """None or a reason that holds no number, and the same in a second run."""

    def run() -> list[str | None]:
        admission, now_us, got = make_policy(policy), 0, []
        for gap_us, tokens, slo_class, loads in requests:
            now_us += gap_us
            asked = make_asked(prompt_tokens=tokens, slo_class=slo_class)
            got.append(admission.refusal(asked, now_us, lambda loads=loads: loads))
        return got

    first = run()
    assert first == run()
    for reason in first:
        assert reason is None or (reason and not any(letter.isdigit() for letter in reason))


def test_admits_every_request() -> None:
    """Loads are not even looked at."""
    assert answers(make_policy("always-admit"), (0, 1), (0, 10**9)) == [None, None]


def test_admits_no_request() -> None:
    """Whatever it is."""
    assert answers(make_policy("reject-all"), (0, 1), (9, 5)) == [REJECTED] * 2


@pytest.mark.parametrize(
    ("slo_class", "settings", "is_shed"),
    [
        ("critical", {}, False),
        ("standard", {}, False),
        ("batch", {}, True),
        ("sheddable", {}, True),
        ("background", {}, True),
        (None, {}, False),
        ("unheard of", {}, False),
        # the lowest priority that is still admitted
        ("batch", {"tier_shed_min_priority": -1}, False),
        ("sheddable", {"tier_shed_min_priority": -1}, True),
        ("standard", {"tier_shed_min_priority": 4}, True),
        ("critical", {"tier_shed_min_priority": 4}, False),
        # the user's priorities over the others
        ("batch", {"slo_priorities": {"batch": 3}}, False),
        ("sheddable", {"slo_priorities": {"batch": 3}}, True),
        ("gold", {"slo_priorities": {"gold": 2}}, True),
        (None, {"slo_priorities": {"standard": 0}}, True),
        ("unheard of", {"slo_priorities": {"standard": 0}}, True),
    ],
)
def test_classes_below_the_least_priority_are_shed(
    slo_class: str | None, settings: dict[str, Any], is_shed: bool
) -> None:
    """While one instance of several is busy."""
    policy = make_policy("tier-shed", **settings)
    got = policy.refusal(make_asked(slo_class=slo_class), 0, lambda: [0, 1])
    assert got == (SHED if is_shed else None)


def test_the_documents_tell_the_priorities() -> None:
    """Those that are in force, the highest first."""
    told = ", ".join(f"{name} {priority}" for name, priority in SLO_PRIORITIES.items())
    assert f"priority by SLO class, over {told}; any other class" in PAGE.read_text("utf-8")


@pytest.mark.parametrize(
    ("threshold", "loads", "is_shed"),
    [
        (None, [0, 0], False),
        (None, [0, 1], True),
        (None, [], False),
        (2, [2, 2], False),
        (2, [0, 3], True),
    ],
)
def test_one_instance_above_the_threshold_is_enough(
    threshold: int | None, loads: list[int], is_shed: bool
) -> None:
    """The largest load decides, and must be more than the threshold."""
    policy = make_policy("tier-shed", tier_shed_threshold=threshold)
    got = policy.refusal(make_asked(slo_class="batch"), 0, lambda: loads)
    assert got == (SHED if is_shed else None)


def test_loads_are_asked_for_only_where_they_decide() -> None:
    """An important request is admitted whatever the load."""
    policy = make_policy("tier-shed")
    assert policy.refusal(make_asked(slo_class="critical"), 0, no_loads) is None


def test_the_bucket_is_full_at_the_start_and_refilled() -> None:
    """10000 tokens, and 1000 tokens/s: one token every millisecond."""
    policy = make_policy("token-bucket")
    requests = (5_000_000, 10_000), (5_000_999, 1), (5_001_000, 1), (5_002_500, 2)
    assert answers(policy, *requests) == [None, TOO_FEW, None, TOO_FEW]


def test_a_refused_request_takes_nothing() -> None:
    """Tokens it did not find stay for smaller ones."""
    policy = make_policy("token-bucket", token_bucket_capacity=10, token_bucket_refill_rate=0)
    assert answers(policy, (0, 7), (0, 4), (0, 3), (10**9, 1)) == [
        None,
        TOO_FEW,
        None,
        TOO_FEW,
    ]


def test_the_bucket_does_not_overflow() -> None:
    """However long nobody comes."""
    policy = make_policy("token-bucket", token_bucket_capacity=10, token_bucket_refill_rate=1000)
    assert answers(policy, (0, 10), (10**9, 10), (10**9, 1)) == [None, None, TOO_FEW]


def test_a_prompt_larger_than_the_bucket_is_told_so() -> None:
    """It takes nothing, and waiting would not help."""
    policy = make_policy("token-bucket", token_bucket_capacity=10)
    assert answers(policy, (0, 11), (0, 10)) == [TOO_LARGE, None]


def test_rates_are_what_was_written() -> None:
    """Ten seconds at 0.3 tokens/s are three tokens, not almost three as with floats."""
    bucket = TokenBucket(3, 0.3)
    times = [0, *range(1, 10_000_000, 999_983), 9_999_999, 10_000_000]
    assert answers(bucket, *((now_us, 3) for now_us in times)) == [
        None,
        *[TOO_FEW] * (len(times) - 2),
        None,
    ]


@fixed
@given(
    capacity=st.sampled_from([1, 7, 20, 12.5]),
    per_s=st.sampled_from([0, 0.3, 1, 1000, 250_000]),
    steps=st.lists(
        st.tuples(st.integers(0, 3_000_000), st.integers(1, 21)), min_size=1, max_size=25
    ),
)
def test_a_request_is_admitted_unless_a_window_would_have_too_many(
    capacity: float, per_s: float, steps: list[tuple[int, int]]
) -> None:
    """In no window of time are more than capacity + rate * time admitted; refusals obey it."""
    bucket = TokenBucket(capacity, per_s)
    limit, per_us = Fraction(str(capacity)), Fraction(str(per_s)) / 1_000_000
    admitted: list[tuple[int, int]] = []
    now_us = 0
    for gap_us, tokens in steps:
        now_us += gap_us
        got = bucket.refusal(make_asked(prompt_tokens=tokens), now_us, no_loads)
        with_it = [*admitted, (now_us, tokens)]
        fits = all(
            sum(cost for _, cost in with_it[first:]) <= limit + per_us * (now_us - begin_us)
            for first, (begin_us, _) in enumerate(with_it)
        )
        assert (got is None) == fits
        assert (got == TOO_LARGE) == (tokens > capacity)
        if got is None:
            admitted = with_it
