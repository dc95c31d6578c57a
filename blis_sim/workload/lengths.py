"""Token lengths drawn from a distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blis_sim.config.lengths import LengthKind, LengthSettings
from blis_sim.workload.base import Int64Array
from blis_sim.workload.distributions import Constant, Distribution, Mixture, Weighted
from blis_sim.workload.length_kinds import length_parts

_SHOWN_PARTS = 4


@dataclass(frozen=True)
class Lengths:
    """Lengths in whole tokens.

    Attributes
    ----------
    distribution : Distribution
        Where they come from.
    text : str
        Short description.
    """

    distribution: Distribution
    text: str

    def draw(self, rng: np.random.Generator, count: int) -> Int64Array:
        """Return ``count`` lengths in tokens, shape ``(count,)``.

        The stream of ``rng`` is used up evenly: drawing 10 and then 20 lengths gives the same
        as drawing 30. Another mean or spread moves the lengths of the same requests.
        """
        return self.distribution.draw(rng, count)

    @property
    def min_tokens(self) -> int:
        """No length is smaller, tokens."""
        return self.distribution.minimum

    @property
    def max_tokens(self) -> int:
        """No length is larger, tokens."""
        return self.distribution.maximum

    @property
    def mean(self) -> float:
        """Mean of the lengths drawn, that is after rounding and clamping, tokens."""
        return self.distribution.moments.mean

    @property
    def variance(self) -> float:
        """Variance of the lengths drawn, tokens squared."""
        return self.distribution.moments.variance

    def cdf(self, tokens: float) -> float:
        """Return the probability of a length of at most ``tokens``."""
        return self.distribution.cdf(tokens)

    def __str__(self) -> str:
        return self.text


def open_lengths(where: str, settings: LengthSettings, unit: str = "tokens") -> Lengths:
    """Return the lengths that settings describe.

    Parameters
    ----------
    where : str
        Name of the settings in error messages, e.g. ``workload.prompt``.
    settings : LengthSettings
        The distribution; a file is read now.
    unit : str
        What is counted, for messages and the description.

    Raises
    ------
    ConfigError
        If a setting is given that the kind of distribution does not use, one is missing that
        it needs, they contradict each other, or a file is malformed.
    """
    parts = length_parts(where, settings, unit)
    singles = [part.distribution for part in parts]
    distribution: Distribution = Mixture(parts)
    if len(parts) == 1:
        distribution = singles[0]
    elif all(isinstance(single, Constant) for single in singles):
        distribution = Weighted([s.minimum for s in singles], [part.weight for part in parts])
    return Lengths(distribution, _text(settings, distribution, unit))


def _text(settings: LengthSettings, distribution: Distribution, unit: str) -> str:
    span = f"{distribution.minimum}..{distribution.maximum} {unit}"
    match settings.kind:
        case LengthKind.UNIFORM:
            return f"uniform {span}"
        case LengthKind.EMPIRICAL:
            return f"empirical{f' from {settings.file.name}' if settings.file else ''} {span}"
        case LengthKind.MIXTURE:
            return f"mixture ({_part_texts(settings)}) {span}"
    bounds = _bounds(settings, unit)
    if settings.kind == LengthKind.PARETO_LOGNORMAL:
        return (
            f"{settings.pareto_share:g} pareto {settings.pareto_alpha:g} from "
            f"{settings.pareto_min:g}, else lognormal mu {settings.mu:g} sigma "
            f"{settings.sigma:g} {bounds}"
        )
    if isinstance(distribution, Constant):
        return f"{distribution.value if settings.mean is None else settings.mean:g} {unit}"
    if settings.kind == LengthKind.EXPONENTIAL:
        return f"exponential {settings.mean:g} {bounds}"
    if settings.mu is not None:
        return f"lognormal mu {settings.mu:g} sigma {settings.sigma:g} {bounds}"
    return f"{settings.kind.value} {settings.mean:g}/{settings.stdev:g} {bounds}"


def _bounds(settings: LengthSettings, unit: str) -> str:
    """Return between what lengths are clamped, with their unit; a default bound goes unsaid."""
    least = LengthSettings()
    if settings.max < least.max:
        return f"within {settings.min}..{settings.max} {unit}"
    return unit if settings.min == least.min else f"of at least {settings.min} {unit}"


def _part_texts(settings: LengthSettings) -> str:
    """Return the parts as in the short form ``256:0.5|4096:0.5``, as far as that goes."""
    parts = settings.parts or ()
    texts = []
    for part in parts[:_SHOWN_PARTS]:
        kind = "" if part.kind == LengthKind.CONSTANT else f"{part.kind.value} "
        mean = "" if part.mean is None else f"{part.mean:g}"
        texts.append(f"{(kind + mean).strip()}:{part.weight:g}")
    if len(parts) > _SHOWN_PARTS:
        texts.append(f"{len(parts) - _SHOWN_PARTS} more")
    return "|".join(texts)
