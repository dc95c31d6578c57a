"""Standard random numbers and the shapes made of them.

A shape is a continuous distribution that turns one standard number per value, with mean 0 or
1 and spread 1, into the value. Changing its parameters therefore moves the same values
instead of drawing others.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_LARGEST_EXPONENT = 700.0
_SMALLEST_SIGMA = 1e-300
_SQRT_2 = math.sqrt(2)


class Variate(Enum):
    """A standard random number: what a distribution consumes for each value."""

    NONE = "none"
    UNIFORM = "uniform"
    EXPONENTIAL = "exponential"
    NORMAL = "normal"

    def draw(self, rng: np.random.Generator, count: int) -> FloatArray:
        """Return ``count`` numbers; drawing 10 and then 20 gives the same as drawing 30."""
        match self:
            case Variate.UNIFORM:
                return rng.random(count)
            case Variate.EXPONENTIAL:
                return rng.standard_exponential(count)
            case Variate.NORMAL:
                return rng.standard_normal(count)
            case Variate.NONE:
                return np.zeros(count)

    def from_uniforms(self, first: FloatArray, second: FloatArray) -> FloatArray:
        """Return one number for each pair of independent uniforms from [0, 1).

        Every kind of number takes the same two, so that rows of uniforms serve distributions
        of different kinds side by side. Normals are those of Box and Muller (1958).
        """
        match self:
            case Variate.UNIFORM:
                return first.copy()
            case Variate.EXPONENTIAL:
                return -np.log1p(-first)
            case Variate.NORMAL:
                radius: FloatArray = np.sqrt(-2 * np.log1p(-first))
                return radius * np.cos(2 * math.pi * second)
            case Variate.NONE:
                return np.zeros(len(first))


class Shape(ABC):
    """A distribution of real numbers.

    Attributes
    ----------
    variate : Variate
        The standard number that :meth:`values` takes.
    """

    variate: ClassVar[Variate]

    @property
    @abstractmethod
    def median(self) -> float:
        """The value that half of the values are below; ``inf`` where it is too large."""

    @property
    def kinks(self) -> tuple[float, ...]:
        """Where the density jumps."""
        return ()

    @abstractmethod
    def values(self, standard: FloatArray) -> FloatArray:
        """Return the values that belong to standard numbers, which may be overwritten."""

    @abstractmethod
    def above(self, value: FloatArray) -> FloatArray:
        """Return the probability of more than each value (> 0)."""


def _normal_above(standard: FloatArray) -> FloatArray:
    scaled = (standard / _SQRT_2).tolist()  # numpy has no erfc
    return 0.5 * np.fromiter(map(math.erfc, scaled), np.float64, len(scaled))


@dataclass(frozen=True, slots=True)
class Normal(Shape):
    """Normal values; ``stdev`` > 0."""

    mean: float
    stdev: float
    variate = Variate.NORMAL

    @property
    def median(self) -> float:
        """The mean."""
        return self.mean

    def values(self, standard: FloatArray) -> FloatArray:
        """Return mean + stdev times the standard normals."""
        standard *= self.stdev
        standard += self.mean
        return standard

    def above(self, value: FloatArray) -> FloatArray:
        """Return the probability of more than each value."""
        return _normal_above((value - self.mean) / self.stdev)


@dataclass(frozen=True, slots=True)
class Lognormal(Shape):
    """Values whose logarithm is normal with mean ``mu`` and spread ``sigma`` > 0."""

    mu: float
    sigma: float
    variate = Variate.NORMAL

    @classmethod
    def of_mean(cls, mean: float, stdev: float) -> Lognormal:
        """Return the one with that mean and standard deviation, both > 0.

        From mean = exp(mu + sigma^2 / 2) and 1 + (stdev / mean)^2 = exp(sigma^2).
        """
        variance = math.log1p((stdev / mean) ** 2)
        return cls(math.log(mean) - variance / 2, max(math.sqrt(variance), _SMALLEST_SIGMA))

    @property
    def median(self) -> float:
        """exp(mu)."""
        return math.exp(min(self.mu, _LARGEST_EXPONENT))

    def values(self, standard: FloatArray) -> FloatArray:
        """Return exp(mu + sigma times the standard normals)."""
        standard *= self.sigma
        standard += self.mu
        return np.exp(standard, out=standard)

    def above(self, value: FloatArray) -> FloatArray:
        """Return the probability of more than each value."""
        return _normal_above((np.log(value) - self.mu) / self.sigma)


@dataclass(frozen=True, slots=True)
class Exponential(Shape):
    """Exponential values; ``mean`` > 0."""

    mean: float
    variate = Variate.EXPONENTIAL

    @property
    def median(self) -> float:
        """Mean times log 2."""
        return self.mean * math.log(2)

    def values(self, standard: FloatArray) -> FloatArray:
        """Return mean times the standard exponentials."""
        standard *= self.mean
        return standard

    def above(self, value: FloatArray) -> FloatArray:
        """Return the probability of more than each value."""
        return np.exp(value / -self.mean)


@dataclass(frozen=True, slots=True)
class Pareto(Shape):
    """Values above ``minimum`` whose tail falls with the power ``alpha``; both > 0."""

    alpha: float
    minimum: float
    variate = Variate.UNIFORM

    @property
    def median(self) -> float:
        """Minimum times the ``alpha``-th root of 2."""
        return self.minimum * math.exp(min(math.log(2) / self.alpha, _LARGEST_EXPONENT))

    @property
    def kinks(self) -> tuple[float, ...]:
        """The minimum."""
        return (self.minimum,)

    def values(self, standard: FloatArray) -> FloatArray:
        """Return minimum / (1 - u)^(1/alpha)."""
        return self.minimum * (1 - standard) ** (-1 / self.alpha)

    def above(self, value: FloatArray) -> FloatArray:
        """Return the probability of more than each value."""
        return np.minimum(self.minimum / value, 1) ** self.alpha


@dataclass(frozen=True, slots=True)
class Uniform(Shape):
    """The whole numbers ``first`` to ``last``, each as likely as the others.

    No clamping bound is outside of them, so that the jumps at the ends are no kinks.
    """

    first: int
    last: int
    variate = Variate.UNIFORM

    @property
    def median(self) -> float:
        """The middle."""
        return (self.first + self.last) / 2

    def values(self, standard: FloatArray) -> FloatArray:
        """Return the whole numbers, as floats."""
        standard *= self.last - self.first + 1
        np.floor(standard, out=standard)
        standard += self.first
        return standard

    def above(self, value: FloatArray) -> FloatArray:
        """Return the probability of more than each value, exact between whole numbers."""
        share = (self.last + 0.5 - value) / (self.last - self.first + 1)
        return np.clip(share, 0, 1)
