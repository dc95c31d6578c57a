"""Waiting times drawn from a distribution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from blis_sim.config.lengths import DurationKind, DurationSettings
from blis_sim.units import US_PER_S, seconds_to_us, us_to_seconds
from blis_sim.workload.base import Int64Array
from blis_sim.workload.distributions import Constant, Rounded, SingleDistribution
from blis_sim.workload.setting_checks import (
    check_bounds,
    checked_mean,
    checked_spread,
    needed,
    refuse_unused,
)
from blis_sim.workload.variates import Exponential, Lognormal, Normal, Shape, Uniform


@dataclass(frozen=True)
class Durations:
    """Times in whole microseconds.

    Attributes
    ----------
    distribution : Distribution
        Where they come from, microseconds.
    text : str
        Short description.
    """

    distribution: SingleDistribution
    text: str

    def draw_us(self, rng: np.random.Generator, count: int) -> Int64Array:
        """Return ``count`` times in microseconds, shape ``(count,)``.

        Drawing 10 and then 20 gives the same as drawing 30; another mean or spread moves the
        same times.
        """
        return self.distribution.draw(rng, count)

    @property
    def mean_s(self) -> float:
        """Mean of the times drawn, that is after clamping, seconds."""
        return us_to_seconds(self.distribution.moments.mean)

    def __str__(self) -> str:
        return self.text


def open_durations(where: str, settings: DurationSettings) -> Durations:
    """Return the times that settings describe.

    Parameters
    ----------
    where : str
        Name of the settings in error messages, e.g. ``workload.sessions.think_time_s``.
    settings : DurationSettings
        The distribution, seconds.

    Raises
    ------
    ConfigError
        If a setting is given that the kind of distribution does not use, one is missing that
        it needs, or they contradict each other.
    """
    refuse_unused(where, settings, _users())
    check_bounds(where, settings, "s")
    bounds = _bounds(settings)
    lowest_us, highest_us = seconds_to_us(settings.min), seconds_to_us(settings.max)
    match settings.kind:
        case DurationKind.UNIFORM:
            needed(where, settings, "max", "s")
            shape: Shape | None = Uniform(lowest_us, highest_us)
            text = f"uniform {settings.min:g}..{settings.max:g} s"
        case DurationKind.LOGNORMAL:
            mean_s, stdev_s = checked_spread(where, settings, "s")
            shape = Lognormal.of_mean(mean_s * US_PER_S, stdev_s * US_PER_S) if stdev_s else None
            text = f"lognormal {mean_s:g}/{stdev_s:g} {bounds}"
        case DurationKind.NORMAL:
            mean_s, stdev_s = checked_mean(where, settings, "s"), settings.stdev or 0.0
            shape = Normal(mean_s * US_PER_S, stdev_s * US_PER_S) if stdev_s else None
            text = f"normal {mean_s:g}/{stdev_s:g} {bounds}"
        case DurationKind.EXPONENTIAL:
            mean_s = checked_mean(where, settings, "s")
            shape = Exponential(mean_s * US_PER_S) if mean_s else None
            text = f"exponential {mean_s:g} {bounds}"
        case DurationKind.CONSTANT:
            mean_s, shape, text = checked_mean(where, settings, "s"), None, ""
    if shape is None:
        return Durations(Constant(seconds_to_us(mean_s)), f"{mean_s:g} s")
    return Durations(Rounded(shape, lowest_us, highest_us), text)


def _bounds(settings: DurationSettings) -> str:
    """Return between what times are clamped, with their unit; a default bound goes unsaid."""
    if settings.max < DurationSettings().max:
        return f"within {settings.min:g}..{settings.max:g} s"
    return f"of at least {settings.min:g} s" if settings.min else "s"


def _users() -> Mapping[str, tuple[str, ...]]:
    """Return which kinds use a setting."""
    return {
        "mean": ("constant", "normal", "lognormal", "exponential"),
        "stdev": ("normal", "lognormal"),
    }
