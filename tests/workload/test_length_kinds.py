"""What the kinds of lengths promise besides their statistics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blis_sim.config.lengths import LengthSettings
from blis_sim.errors import ConfigError
from blis_sim.rng import named_stream
from blis_sim.workload.lengths import Lengths, open_lengths

HEAVY = {"mu": 4.0, "sigma": 0.7, "pareto_alpha": 1.3, "pareto_min": 150.5, "pareto_share": 0.25}

SHARES = [{"kind": "constant", "mean": m, "weight": w} for m, w in ((10, 2e307), (20, 1e307))]


def make(form: Any = None, **fields: Any) -> Lengths:
    return open_lengths("x", LengthSettings.model_validate(fields if form is None else form))


PAIRS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"mean": 500, "stdev": 50}, {"mean": 2000, "stdev": 400, "max": 3000}),
    ({"kind": "lognormal", "mean": 500, "stdev": 50}, {"kind": "lognormal", "mu": 3, "sigma": 1}),
    ({"kind": "exponential", "mean": 70}, {"kind": "exponential", "mean": 300, "min": 20}),
    ({"kind": "uniform", "max": 70}, {"kind": "uniform", "min": 500, "max": 90_000}),
    (
        {"kind": "empirical", "values": [1, 2, 3]},
        {"kind": "empirical", "values": [900, 100, 400, 500], "weights": [1, 2, 3, 4]},
    ),
]


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=[str(b.get("kind")) for b, _ in PAIRS])
def test_other_figures_move_the_same_lengths(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    """The longest lengths stay the longest when mean, spread or bounds change."""
    old, new = (make(**fields).draw(named_stream(6, "x"), 5000) for fields in (before, after))
    assert (np.diff(new[np.lexsort((new, old))]) >= 0).all()
    assert len(set(new.tolist())) > 2


def test_another_part_leaves_the_other_parts_alone() -> None:
    """A mixture draws the choice and the length apart: one part moves, the rest stays."""
    parts = [{"kind": "uniform", "max": 99, "weight": 2}, {"kind": "normal", "mean": 500}]
    others = [parts[0], {"kind": "normal", "mean": 900, "stdev": 80, "min": 200}]
    old, new = (
        make(kind="mixture", parts=p).draw(named_stream(6, "x"), 5000) for p in (parts, others)
    )
    assert np.array_equal(old < 100, new < 100)
    assert np.array_equal(old[old < 100], new[new < 100])
    assert 500 in old
    assert new[new >= 100].mean() > 500


def test_pareto_and_lognormal_lengths_share_their_requests() -> None:
    """Another Pareto tail moves only the requests that are drawn from it."""
    old, new = (
        make(kind="pareto_lognormal", **{**HEAVY, "pareto_alpha": alpha}).draw(
            named_stream(6, "x"), 20_000
        )
        for alpha in (1.3, 5.0)
    )
    moved = np.mean(old != new)
    assert 0.2 < moved <= 0.25 + 4.5 * math.sqrt(0.25 * 0.75 / 20_000)
    assert old[old != new].min() >= 150


@pytest.mark.parametrize(
    "form",
    [
        {"kind": "empirical", "values": [10, 20, 70], "weights": [1.5e308, 0.75e308, 0.75e308]},
        {"kind": "empirical", "values": [10, 20, 70, 70], "weights": [2e-320, 1e-320, 0, 1e-320]},
        "10:1.5e308|20:0.75e308|70:0.75e308",
        {
            "kind": "mixture",
            "parts": [
                {"kind": "mixture", "parts": SHARES, "weight": 3},
                {"kind": "uniform", "min": 70, "max": 70},
            ],
        },
        {
            "kind": "mixture",
            "parts": [
                {"kind": "uniform", "min": m, "max": m, "weight": w}
                for m, w in ((10, 1.5e308), (20, 0.75e308), (70, 0.75e308))
            ],
        },
    ],
    ids=["empirical", "empirical, tiny", "constants", "nested", "mixture"],
)
def test_only_the_relations_of_weights_matter(form: Any) -> None:
    """Weights near the largest and the smallest number are shares like any others."""
    lengths = make(form)
    assert lengths.cdf(10) == pytest.approx(0.5, rel=1e-3)
    assert lengths.cdf(20) == pytest.approx(0.75, rel=1e-3)
    drawn = lengths.draw(named_stream(2, "x"), 10_000)
    assert abs(np.mean(drawn == 10) - 0.5) < 4.5 * 0.005


POSITIVE = st.floats(0, 1e308, exclude_min=True)
ANY = st.floats(-1e308, 1e308)
BOUNDS = {"min": st.integers(0, 5000), "max": st.integers(0, 2**31 - 1)}
EXTREMES = st.one_of(
    st.fixed_dictionaries(
        {"kind": st.sampled_from(["normal", "lognormal"]), "mean": st.floats(0, 1e10)},
        optional={"stdev": POSITIVE, **BOUNDS},
    ),
    st.fixed_dictionaries({"kind": st.just("uniform"), **BOUNDS}),
    st.fixed_dictionaries(
        {"kind": st.just("exponential"), "mean": st.floats(0, 1e10)}, optional=BOUNDS
    ),
    st.fixed_dictionaries(
        {
            "kind": st.just("pareto_lognormal"),
            "mu": ANY | st.floats(-9, 21),
            "sigma": POSITIVE | st.just(0.0),
            "pareto_alpha": POSITIVE,
            "pareto_min": st.floats(0, 1e10, exclude_min=True),
            "pareto_share": st.floats(0, 1),
        },
        optional=BOUNDS,
    ),
)


@settings(max_examples=200, deadline=None)
@given(fields=EXTREMES)
def test_extreme_figures_give_lengths_within_the_bounds(fields: dict[str, Any]) -> None:
    """Whatever is accepted is drawn without a warning, within the bounds, and has moments."""
    try:
        lengths = make(**fields)
    except ConfigError:
        return
    lowest, highest = fields.get("min", 1), fields.get("max", 2**31 - 1)
    drawn = lengths.draw(named_stream(1, "x"), 500)
    for low, high in ((drawn.min(), drawn.max()), (lengths.min_tokens, lengths.max_tokens)):
        assert lowest <= low <= high <= highest
    assert lowest * (1 - 1e-9) <= lengths.mean <= highest * (1 + 1e-9)
    assert 0 <= lengths.variance <= (highest - lowest) ** 2 / 4 * (1 + 1e-6) + 1e-6
    assert 0 <= lengths.cdf((lowest + highest) / 2) <= 1


@pytest.mark.parametrize(
    ("form", "tokens"),
    [
        (384, 384),
        ("384", 384),
        ({"mean": 384}, 384),
        ({"mean": 2.5}, 2),
        ({"kind": "lognormal", "mean": 384, "stdev": 0}, 384),
        ({"kind": "lognormal", "mu": math.log(384), "sigma": 0}, 384),
        ({"mean": 5000, "stdev": 1e-305}, 5000),
        ({"kind": "lognormal", "mean": 384, "stdev": 1e-200}, 384),
        ({"kind": "exponential", "mean": 0, "min": 0}, 0),
        ({"kind": "exponential", "mean": 1e-308, "min": 0}, 0),
        ({"kind": "uniform", "min": 7, "max": 7}, 7),
        ({"kind": "mixture", "parts": [{"kind": "constant", "mean": 384}]}, 384),
        ({"kind": "empirical", "values": [9, 9]}, 9),
    ],
    ids=str,
)
def test_no_spread_gives_one_length(form: Any, tokens: int) -> None:
    """Every kind without spread is a constant, with variance 0."""
    lengths = make(form)
    assert set(lengths.draw(named_stream(1, "x"), 100).tolist()) == {tokens}
    assert (lengths.mean, lengths.variance) == (tokens, 0)
    assert [lengths.cdf(t) for t in (tokens - 1, tokens)] == [0, 1]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (
            {"mean": 512, "stdev": 256, "min": 2, "max": 7000},
            "normal 512/256 within 2..7000 tokens",
        ),
        (512, "512 tokens"),
        ({"kind": "uniform", "max": 9}, "uniform 1..9 tokens"),
        ({"kind": "exponential", "mean": 9, "max": 99}, "exponential 9 within 1..99 tokens"),
        ({"kind": "exponential", "mean": 9}, "exponential 9 tokens"),
        ({"kind": "exponential", "mean": 9, "min": 0}, "exponential 9 of at least 0 tokens"),
        (
            {"kind": "lognormal", "mean": 9, "stdev": 2, "max": 99},
            "lognormal 9/2 within 1..99 tokens",
        ),
        (
            {"kind": "lognormal", "mu": 3, "sigma": 0.5, "max": 99},
            "lognormal mu 3 sigma 0.5 within 1..99 tokens",
        ),
        ({"kind": "empirical", "values": [4, 2, 70]}, "empirical 2..70 tokens"),
        ("256:0.5|4096:0.5", "mixture (256:0.5|4096:0.5) 256..4096 tokens"),
        (
            {"kind": "mixture", "parts": [*["5:1|7:2"] * 5, {"mean": 3, "stdev": 1, "max": 4}]},
            "mixture (mixture:1|mixture:1|mixture:1|mixture:1|2 more) 1..7 tokens",
        ),
        (
            {"kind": "pareto_lognormal", **HEAVY, "max": 99_999},
            "0.25 pareto 1.3 from 150.5, else lognormal mu 4 sigma 0.7 within 1..99999 tokens",
        ),
    ],
    ids=str,
)
def test_lengths_say_what_they_are(form: Any, text: str) -> None:
    """The description names the kind, its figures and the bounds in tokens."""
    assert str(make(form)) == text
