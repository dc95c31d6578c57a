from __future__ import annotations

import math

import numpy as np
import pytest

from blis_sim.config.scenario import LengthSettings
from blis_sim.errors import ConfigError
from blis_sim.rng import named_stream
from blis_sim.workload.lengths import NormalLengths
from blis_sim.workload.presets import Preset, preset


def exact_moments(lengths: NormalLengths) -> tuple[float, float, float]:
    """Return mean, variance and fourth central moment of the rounded, clamped normal."""
    spread = lengths.stdev_tokens * math.sqrt(2)

    def below(x: float) -> float:
        return 0.5 * (1 + math.erf((x - lengths.mean_tokens) / spread))

    values = np.arange(lengths.min_tokens, lengths.max_tokens + 1)
    edges = np.array([0.0, *(below(v + 0.5) for v in values[:-1].tolist()), 1.0])
    probability = np.diff(edges)
    mean = float(probability @ values)
    variance, fourth = (float(probability @ (values - mean) ** k) for k in (2, 4))
    return mean, variance, fourth


@pytest.mark.parametrize(
    "lengths",
    [
        NormalLengths(256, 100, 2, 800),
        NormalLengths(512, 256, 2, 7000),
        NormalLengths(10, 20, 1, 25),
        NormalLengths(3, 0.7, 0, 9),
    ],
    ids=str,
)
def test_rounded_clamped_normal_has_its_moments(lengths: NormalLengths) -> None:
    """Mean and variance agree with the exact distribution within 4.5 standard errors."""
    count = 200_000
    drawn = lengths.draw(named_stream(3, "lengths"), count)
    mean, variance, fourth = exact_moments(lengths)
    assert drawn.dtype == np.int64
    assert drawn.min() >= lengths.min_tokens
    assert drawn.max() <= lengths.max_tokens
    assert drawn.mean() == pytest.approx(mean, abs=4.5 * math.sqrt(variance / count))
    error = math.sqrt((fourth - variance**2) / count)
    assert drawn.var() == pytest.approx(variance, abs=4.5 * error)


def test_clamping_puts_the_tails_on_the_bounds() -> None:
    """What falls outside counts as the bound; it is not drawn again."""
    lengths = NormalLengths(10, 20, 1, 25)
    drawn = lengths.draw(named_stream(3, "lengths"), 50_000)
    share_low = 0.5 * (1 + math.erf((1.5 - 10) / (20 * math.sqrt(2))))
    error = math.sqrt(share_low * (1 - share_low) / len(drawn))
    assert np.mean(drawn == 1) == pytest.approx(share_low, abs=4.5 * error)


def test_no_spread_gives_the_mean() -> None:
    """A standard deviation of 0 is a constant length."""
    settings = LengthSettings(mean=384)
    lengths = NormalLengths.from_settings("workload.prompt", settings)
    assert set(lengths.draw(named_stream(1, "x"), 100).tolist()) == {384}


def test_huge_draws_stay_within_the_bounds() -> None:
    """A spread far beyond 64-bit integers is clamped before it becomes an integer."""
    lengths = NormalLengths.from_settings("x", LengthSettings(mean=5, stdev=1e300, min=1, max=9))
    assert set(lengths.draw(named_stream(1, "x"), 1000).tolist()) <= {1, 5, 9}


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        (LengthSettings(mean=5, min=9, max=3), r"x\.min must be <= x\.max \(3 tokens\); got 9"),
        (
            LengthSettings(mean=50, max=40),
            r"x\.mean must be between .* \(1 and 40 tokens\); got 50",
        ),
        (LengthSettings(mean=0), r"x\.mean must be between .*; got 0"),
        (
            LengthSettings(mean=5, max=2**31),
            r"x\.max must be <= 2147483647 tokens; got 2147483648",
        ),
    ],
)
def test_contradicting_bounds_are_refused(settings: LengthSettings, match: str) -> None:
    """Bounds that cross or that leave the mean outside are errors."""
    with pytest.raises(ConfigError, match=match):
        NormalLengths.from_settings("x", settings)


@pytest.mark.parametrize(
    ("name", "prompt", "output"),
    [
        ("chatbot", (256, 100, 2, 800), (256, 100, 1, 1024)),
        ("contentgen", (1024, 150, 10, 2048), (1024, 200, 10, 2048)),
        ("summarization", (4096, 500, 100, 8192), (512, 150, 10, 2048)),
        ("multidoc", (10240, 1200, 500, 20480), (1536, 300, 50, 4096)),
        ("distribution", (512, 256, 2, 7000), (512, 256, 2, 7000)),
    ],
)
def test_presets_are_those_of_blis(
    name: str, prompt: tuple[int, ...], output: tuple[int, ...]
) -> None:
    """Mean, standard deviation, minimum and maximum of every preset."""

    def figures(lengths: LengthSettings) -> tuple[float, ...]:
        return lengths.mean, lengths.stdev, lengths.min, lengths.max

    found: Preset = preset(name)
    assert figures(found.prompt) == prompt
    assert figures(found.output) == output


def test_unknown_preset_names_the_nearest() -> None:
    """A preset that does not exist is an error with a suggestion."""
    with pytest.raises(ConfigError, match=r"workload\.preset must be .*got 'chatbott'.*chatbot"):
        preset("chatbott")
