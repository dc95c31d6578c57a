"""From the settings of lengths to their distribution: one function per kind."""

from __future__ import annotations

import math
from collections.abc import Mapping

from blis_sim.config.lengths import LengthKind, LengthSettings
from blis_sim.errors import ConfigError
from blis_sim.workload.base import MAX_TOKENS
from blis_sim.workload.distributions import Constant, Part, Rounded, SingleDistribution
from blis_sim.workload.empirical import open_empirical
from blis_sim.workload.setting_checks import (
    check_bounds,
    checked_mean,
    checked_spread,
    is_given,
    needed,
    refuse_unused,
)
from blis_sim.workload.variates import Exponential, Lognormal, Normal, Pareto, Shape, Uniform


def _users() -> Mapping[str, tuple[str, ...]]:
    """Return which kinds use a setting."""
    pareto = ("pareto_lognormal",)
    logarithmic = ("lognormal", "pareto_lognormal")
    return {
        "mean": ("constant", "normal", "lognormal", "exponential"),
        "stdev": ("normal", "lognormal"),
        "mu": logarithmic,
        "sigma": logarithmic,
        "pareto_alpha": pareto,
        "pareto_min": pareto,
        "pareto_share": pareto,
        "values": ("empirical",),
        "weights": ("empirical",),
        "file": ("empirical",),
        "parts": ("mixture",),
    }


def length_parts(where: str, settings: LengthSettings, unit: str) -> list[Part]:
    """Return the distributions that lengths come from, with their weights.

    Parameters
    ----------
    where : str
        Name of the settings in error messages.
    settings : LengthSettings
        The distribution; mixtures of mixtures become one flat list.
    unit : str
        What is counted, for messages.

    Returns
    -------
    list of Part
        At least one; the weights add up to 1.

    Raises
    ------
    ConfigError
        If the settings are incomplete or contradict each other.
    """
    refuse_unused(where, settings, _users())
    if settings.max > MAX_TOKENS:
        raise ConfigError(f"{where}.max must be <= {MAX_TOKENS} {unit}; got {settings.max}")
    check_bounds(where, settings, unit)
    match settings.kind:
        case LengthKind.PARETO_LOGNORMAL:
            return _pareto_lognormal(where, settings, unit)
        case LengthKind.MIXTURE:
            return _mixture(where, settings, unit)
        case LengthKind.EMPIRICAL:
            return [Part(1.0, open_empirical(where, settings, unit))]
        case LengthKind.UNIFORM:
            last = int(needed(where, settings, "max", unit))
            return [Part(1.0, _rounded(Uniform(settings.min, last), settings))]
    return [Part(1.0, _simple(where, settings, unit))]


def _rounded(shape: Shape, settings: LengthSettings) -> Rounded:
    return Rounded(shape, settings.min, settings.max)


def _simple(where: str, settings: LengthSettings, unit: str) -> SingleDistribution:
    """Return a constant, normal, lognormal or exponential."""
    if settings.kind == LengthKind.LOGNORMAL:
        return _lognormal(where, settings, unit)
    mean, stdev = checked_mean(where, settings, unit), settings.stdev
    if settings.kind == LengthKind.EXPONENTIAL and mean > 0:
        return _rounded(Exponential(mean), settings)
    if settings.kind == LengthKind.NORMAL and stdev:
        return _rounded(Normal(mean, stdev), settings)
    return Constant(round(mean))


def _lognormal(where: str, settings: LengthSettings, unit: str) -> SingleDistribution:
    by_log = [field for field in ("mu", "sigma") if is_given(settings, field)]
    by_mean = [field for field in ("mean", "stdev") if is_given(settings, field)]
    if by_log and by_mean:
        raise ConfigError(
            f"{where}.{by_log[0]} must not be set together with {where}.{by_mean[0]}; got "
            f"{getattr(settings, by_log[0]):g}; give mean and stdev of the lengths or mu and "
            "sigma of their logarithms"
        )
    if not by_log and not by_mean:
        raise ConfigError(
            f"{where}.mean and {where}.stdev must be set with kind lognormal, or {where}.mu and "
            f"{where}.sigma; got nothing"
        )
    if by_log:
        return _of_logarithm(where, settings, unit)
    mean, stdev = checked_spread(where, settings, unit)
    return _rounded(Lognormal.of_mean(mean, stdev), settings) if stdev else Constant(round(mean))


def _of_logarithm(where: str, settings: LengthSettings, unit: str) -> SingleDistribution:
    mu, sigma = (needed(where, settings, field) for field in ("mu", "sigma"))
    largest = math.log(settings.max) if settings.max else -math.inf
    if mu > largest:
        raise ConfigError(
            f"{where}.mu must be <= log({where}.max) ({largest:.4g}); got {mu:g}: more than "
            f"half of the lengths would be {settings.max} {unit}"
        )
    shape = Lognormal(mu, sigma)
    if sigma == 0:
        return Constant(max(round(shape.median), settings.min))
    return _rounded(shape, settings)


def _pareto_lognormal(where: str, settings: LengthSettings, unit: str) -> list[Part]:
    share = needed(where, settings, "pareto_share")
    alpha = needed(where, settings, "pareto_alpha")
    minimum = needed(where, settings, "pareto_min", unit)
    lognormal = _of_logarithm(where, settings, unit)
    if minimum > settings.max:
        raise ConfigError(
            f"{where}.pareto_min must be <= {where}.max ({settings.max} {unit}); got {minimum:g}"
        )
    pareto = _rounded(Pareto(alpha, minimum), settings)
    return [part for part in (Part(share, pareto), Part(1 - share, lognormal)) if part.weight]


def _mixture(where: str, settings: LengthSettings, unit: str) -> list[Part]:
    if not settings.parts:
        got = "nothing" if settings.parts is None else "an empty list"
        raise ConfigError(f"{where}.parts must have at least one distribution; got {got}")
    largest = max(part.weight for part in settings.parts)  # the sum of huge ones overflows
    total = sum(part.weight / largest for part in settings.parts)
    parts = []
    for number, part in enumerate(settings.parts):
        name = f"{where}.parts[{number}]"
        inner = length_parts(name, part, unit)
        if part.min < settings.min and part.min != LengthSettings.model_fields["min"].default:
            raise ConfigError(
                f"{name}.min must be >= {where}.min ({settings.min} {unit}); got {part.min}; "
                f"lower {where}.min"
            )
        share = part.weight / largest / total
        parts += [
            Part(share * p.weight, p.distribution.clamped(settings.min, settings.max))
            for p in inner
        ]
    return [part for part in parts if part.weight]
