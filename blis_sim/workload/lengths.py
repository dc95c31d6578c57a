"""Token lengths drawn from a distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blis_sim.config.scenario import LengthSettings
from blis_sim.errors import ConfigError
from blis_sim.workload.base import MAX_TOKENS, Int64Array


@dataclass(frozen=True, slots=True)
class NormalLengths:
    """Normal lengths, rounded to whole tokens (half to even) and clamped.

    One standard normal is drawn per length and scaled afterwards, so that changing the mean
    or the spread moves the lengths of the same requests instead of drawing others.
    """

    mean_tokens: float
    stdev_tokens: float
    min_tokens: int
    max_tokens: int

    @classmethod
    def from_settings(cls, where: str, settings: LengthSettings) -> NormalLengths:
        """Return the distribution that ``settings`` describe.

        Parameters
        ----------
        where : str
            Name of the settings in error messages, e.g. ``workload.prompt``.
        settings : LengthSettings
            Mean, standard deviation and bounds in tokens.

        Raises
        ------
        ConfigError
            If the bounds cross, exceed ``MAX_TOKENS``, or leave the mean outside: almost
            every length would then be the bound, not what was asked for.
        """
        if settings.max > MAX_TOKENS:
            raise ConfigError(f"{where}.max must be <= {MAX_TOKENS} tokens; got {settings.max}")
        if settings.min > settings.max:
            raise ConfigError(
                f"{where}.min must be <= {where}.max ({settings.max} tokens); got {settings.min}"
            )
        if not settings.min <= settings.mean <= settings.max:
            raise ConfigError(
                f"{where}.mean must be between {where}.min and {where}.max "
                f"({settings.min} and {settings.max} tokens); got {settings.mean:g}; "
                "move the mean or the bound"
            )
        return cls(settings.mean, settings.stdev, settings.min, settings.max)

    def draw(self, rng: np.random.Generator, count: int) -> Int64Array:
        """Return ``count`` lengths in tokens, shape ``(count,)``."""
        tokens = rng.standard_normal(count)
        tokens *= self.stdev_tokens
        tokens += self.mean_tokens
        np.rint(tokens, out=tokens)
        np.clip(tokens, self.min_tokens, self.max_tokens, out=tokens)
        return tokens.astype(np.int64)

    def __str__(self) -> str:
        if self.stdev_tokens == 0:
            return f"{self.mean_tokens:g} tokens"
        return (
            f"normal {self.mean_tokens:g}/{self.stdev_tokens:g} "
            f"within {self.min_tokens}..{self.max_tokens} tokens"
        )
