"""Checks that the settings of lengths and of waiting times have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blis_sim.config.lengths import DurationSettings, LengthSettings
from blis_sim.errors import ConfigError

_MAX_VARIATION = 1e9

Settings = LengthSettings | DurationSettings


def is_given(settings: Settings, field: str) -> bool:
    """Return whether a setting was given, and not as null."""
    return field in settings.model_fields_set and getattr(settings, field) is not None


def refuse_unused(where: str, settings: Settings, kinds: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse settings that have no meaning with the kind of distribution.

    Parameters
    ----------
    where : str
        Name of the settings in messages.
    settings : LengthSettings or DurationSettings
        The settings.
    kinds : mapping
        Field to the kinds that use it; fields that are not named are used by all.

    Raises
    ------
    ConfigError
        If a field is given that the kind does not use.
    """
    for field, users in kinds.items():
        if is_given(settings, field) and settings.kind not in users:
            remedy = "leave it out"
            if not is_given(settings, "kind"):
                remedy += f" or set {where}.kind to {' or '.join(users)}"
            raise ConfigError(
                f"{where}.{field} must not be set with kind {settings.kind.value}; "
                f"got {_brief(getattr(settings, field))}; {remedy}"
            )


def _brief(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{len(value)} entries"
    return str(value) if isinstance(value, Path) else f"{value:g}"


def needed(where: str, settings: Settings, field: str, unit: str = "") -> float:
    """Return a number that the kind cannot do without.

    Raises
    ------
    ConfigError
        If it is not given.
    """
    if not is_given(settings, field):
        what = f"{where}.{field}" + f" ({unit})" * bool(unit)
        raise ConfigError(f"{what} must be set with kind {settings.kind.value}; got nothing")
    return float(getattr(settings, field))


def check_bounds(where: str, settings: Settings, unit: str) -> None:
    """Refuse bounds that cross."""
    if settings.min > settings.max:
        raise ConfigError(
            f"{where}.min must be <= {where}.max ({settings.max} {unit}); got {settings.min}"
        )


def checked_mean(where: str, settings: Settings, unit: str) -> float:
    """Return the mean.

    Raises
    ------
    ConfigError
        If it is missing or outside the bounds: almost every draw would then be the bound, not
        what was asked for.
    """
    mean = needed(where, settings, "mean", unit)
    if not settings.min <= mean <= settings.max:
        raise ConfigError(
            f"{where}.mean must be between {where}.min and {where}.max "
            f"({settings.min} and {settings.max} {unit}); got {mean:g}; "
            "move the mean or the bound"
        )
    return mean


def checked_spread(where: str, settings: Settings, unit: str) -> tuple[float, float]:
    """Return the mean (> 0) and the standard deviation of a lognormal.

    Raises
    ------
    ConfigError
        If one is missing or no lognormal has them.
    """
    mean = checked_mean(where, settings, unit)
    stdev = needed(where, settings, "stdev", unit)
    if mean == 0:
        raise ConfigError(f"{where}.mean must be > 0 {unit} with kind lognormal; got 0")
    if stdev > _MAX_VARIATION * mean:
        raise ConfigError(
            f"{where}.stdev must be <= {_MAX_VARIATION:g} times {where}.mean ({mean:g} {unit}) "
            f"with kind lognormal; got {stdev:g}"
        )
    return mean, stdev
