"""Distributions of whole numbers: rounded shapes, weighted values, and mixtures of them.

The unit is the caller's: tokens for lengths, microseconds for waiting times.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from blis_sim.workload.base import Int64Array
from blis_sim.workload.moments import Moments, rounded_moments
from blis_sim.workload.variates import FloatArray, Shape, Variate


class Distribution(ABC):
    """Whole numbers that are drawn independently of each other.

    Attributes
    ----------
    minimum, maximum : int
        No number is outside of them.
    """

    minimum: int
    maximum: int

    @abstractmethod
    def draw(self, rng: np.random.Generator, count: int) -> Int64Array:
        """Return ``count`` numbers; drawing 10 and then 20 gives the same as drawing 30."""

    @abstractmethod
    def cdf(self, value: float) -> float:
        """Return the probability of at most ``value``."""

    @cached_property
    def moments(self) -> Moments:
        """Mean and variance of the numbers drawn, computed when first asked for."""
        return self._moments()

    @abstractmethod
    def _moments(self) -> Moments: ...


class SingleDistribution(Distribution):
    """A distribution with one standard random number behind each of its numbers.

    Attributes
    ----------
    variate : Variate
        The kind of standard number.
    """

    variate: Variate

    def draw(self, rng: np.random.Generator, count: int) -> Int64Array:
        """Return ``count`` numbers; drawing 10 and then 20 gives the same as drawing 30."""
        return self.numbers(self.variate.draw(rng, count))

    @abstractmethod
    def numbers(self, standard: FloatArray) -> Int64Array:
        """Return the numbers that belong to standard ones, which may be overwritten."""

    @abstractmethod
    def clamped(self, minimum: int, maximum: int) -> SingleDistribution:
        """Return the distribution with its numbers clamped to narrower bounds."""


class Constant(SingleDistribution):
    """Always the same number."""

    variate = Variate.NONE

    def __init__(self, value: int) -> None:
        self.value = self.minimum = self.maximum = value

    def numbers(self, standard: FloatArray) -> Int64Array:
        """Return the number, as often as there are standard ones."""
        return np.full(len(standard), self.value, dtype=np.int64)

    def cdf(self, value: float) -> float:
        """Return 0 below the number and 1 from it on."""
        return float(value >= self.value)

    def clamped(self, minimum: int, maximum: int) -> Constant:
        """Return the number, or the bound that it exceeds."""
        return Constant(min(max(self.value, minimum), maximum))

    def _moments(self) -> Moments:
        return Moments(float(self.value), 0.0)


class Rounded(SingleDistribution):
    """Values of a shape, rounded (half to even) and clamped.

    What falls outside the bounds counts as the bound; it is not drawn again.
    """

    def __init__(self, shape: Shape, minimum: int, maximum: int) -> None:
        self.shape, self.variate = shape, shape.variate
        self.minimum, self.maximum = minimum, maximum

    def numbers(self, standard: FloatArray) -> Int64Array:
        """Return the numbers that belong to standard ones, which may be overwritten."""
        with np.errstate(over="ignore"):  # infinity is clamped like everything else
            values = self.shape.values(standard)
        np.rint(values, out=values)
        np.clip(values, self.minimum, self.maximum, out=values)
        return values.astype(np.int64)

    def cdf(self, value: float) -> float:
        """Return the probability of at most ``value``."""
        if value < self.minimum:
            return 0.0
        if value >= self.maximum:
            return 1.0
        with np.errstate(over="ignore"):
            return 1.0 - float(self.shape.above(np.array([math.floor(value) + 0.5]))[0])

    def clamped(self, minimum: int, maximum: int) -> Rounded:
        """Return the distribution with its numbers clamped to narrower bounds."""
        lowest, highest = (min(max(b, minimum), maximum) for b in (self.minimum, self.maximum))
        return Rounded(self.shape, lowest, highest)

    def _moments(self) -> Moments:
        return rounded_moments(self.shape, self.minimum, self.maximum)


class Weighted(SingleDistribution):
    """Given numbers, each as often as its weight says.

    One uniform is drawn per number, and the numbers are taken in increasing order: exchanging
    some of them by larger ones lengthens the same requests.

    Parameters
    ----------
    values : array_like of int
        The numbers, at least one; the same one may come several times.
    weights : array_like of float, optional
        How often each is drawn, relative to the others: finite, >= 0, at least one > 0.
        Equal when absent.
    """

    variate = Variate.UNIFORM

    def __init__(self, values: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> None:
        numbers = np.asarray(values, dtype=np.int64)
        shares = np.ones(len(numbers)) if weights is None else np.asarray(weights, np.float64)
        shares = shares / shares.max()  # the sum of huge weights would overflow
        # A number of weight 0 at the end would be drawn for the rounding error of the sum.
        self.values, places = np.unique(numbers[shares > 0], return_inverse=True)
        sums = np.bincount(places, weights=shares[shares > 0])
        self.shares: FloatArray = sums / sums.sum()
        self._below = np.cumsum(self.shares)
        self._below[-1] = 1.0
        self.minimum, self.maximum = int(self.values[0]), int(self.values[-1])

    def numbers(self, standard: FloatArray) -> Int64Array:
        """Return the number at each share of the whole."""
        return self.values[np.searchsorted(self._below, standard, side="right")]

    def cdf(self, value: float) -> float:
        """Return the probability of at most ``value``."""
        place = int(np.searchsorted(self.values, value, side="right"))
        return float(self._below[place - 1]) if place else 0.0

    def clamped(self, minimum: int, maximum: int) -> Weighted:
        """Return the distribution with its numbers clamped to narrower bounds."""
        return Weighted(np.clip(self.values, minimum, maximum), self.shares)

    def _moments(self) -> Moments:
        mean = float(self.shares @ self.values)
        return Moments(mean, float(self.shares @ (self.values - mean) ** 2))


@dataclass(frozen=True, slots=True)
class Part:
    """A distribution of a mixture and how often it is chosen, relative to the others."""

    weight: float
    distribution: SingleDistribution


class Mixture(Distribution):
    """Each number comes from one of several distributions, chosen by weight.

    Every number takes a row of three uniforms: one chooses the distribution, two make its
    standard number. So the choice does not depend on the distributions, neither of them on
    how many numbers are drawn at once, and a number keeps its place when a parameter changes.

    Parameters
    ----------
    parts : sequence of Part
        At least one; weights > 0 with a finite sum.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        weights = np.array([part.weight for part in parts])
        self.shares = weights / weights.sum()
        self.distributions = tuple(part.distribution for part in parts)
        self._below = np.cumsum(self.shares)
        self._below[-1] = 1.0
        self.minimum = min(d.minimum for d in self.distributions)
        self.maximum = max(d.maximum for d in self.distributions)

    def draw(self, rng: np.random.Generator, count: int) -> Int64Array:
        """Return ``count`` numbers; drawing 10 and then 20 gives the same as drawing 30."""
        choice, first, second = np.ascontiguousarray(rng.random((count, 3)).T)
        chosen = np.searchsorted(self._below, choice, side="right")
        drawn = np.empty(count, dtype=np.int64)
        for number, distribution in enumerate(self.distributions):
            rows = np.flatnonzero(chosen == number)
            standard = distribution.variate.from_uniforms(first[rows], second[rows])
            drawn[rows] = distribution.numbers(standard)
        return drawn

    def cdf(self, value: float) -> float:
        """Return the probability of at most ``value``."""
        below = [distribution.cdf(value) for distribution in self.distributions]
        return min(float(self.shares @ below), 1.0)

    def _moments(self) -> Moments:
        means = np.array([d.moments.mean for d in self.distributions])
        variances = np.array([d.moments.variance for d in self.distributions])
        mean = float(self.shares @ means)
        return Moments(mean, float(self.shares @ (variances + (means - mean) ** 2)))
