"""Mean, standard deviation and percentiles of plain and of weighted samples.

A sample of tokens is kept as (value, how often) pairs; its percentiles are those of the
expanded sample, without expanding it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Sample = npt.NDArray[np.int64 | np.float64]

_INT64_MAX = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True)
class Distribution:
    """A non-empty sample, sorted.

    Attributes
    ----------
    values : int64 or float64 array, shape (n,)
        Ascending; the unit is the caller's.
    counts : int64 array, shape (n,), or None
        How often each value occurs, >= 1; None = once each.
    """

    values: Sample
    counts: Int64Array | None = None

    @classmethod
    def from_values(cls, values: Sample) -> Distribution | None:
        """Return the distribution of ``values`` (any order), or None when there are none."""
        return cls(np.sort(values)) if values.size else None

    @classmethod
    def from_histogram(cls, values: Int64Array, counts: Int64Array) -> Distribution | None:
        """Return the distribution of ascending ``values``, each ``counts`` times, or None."""
        return cls(values, counts) if values.size else None

    @property
    def size(self) -> int:
        """Number of observations, repetitions counted."""
        return int(self.values.size if self.counts is None else self.counts.sum())

    def mean(self) -> float:
        """Return the arithmetic mean; of integers it is the exact one, rounded once."""
        if self.values.dtype == np.float64:
            return float(np.average(self.values, weights=self.counts))
        largest = max(abs(int(self.values[0])), abs(int(self.values[-1])))
        exact = largest * self.size <= _INT64_MAX
        values = self.values if exact else self.values.astype(object)
        total = values.sum() if self.counts is None else np.dot(values, self.counts)
        return int(total) / self.size

    def std(self) -> float:
        """Return the population standard deviation (numpy's default, as vLLM uses it)."""
        squares = np.square(self.values - self.mean())
        return float(np.sqrt(np.average(squares, weights=self.counts)))

    def percentiles(self, ranks: Sequence[float]) -> list[float]:
        """Return the percentiles at ``ranks`` (0..100).

        Linear interpolation at position ``p / 100 * (n - 1)`` of the sorted sample, numpy's
        default method.
        """
        last = self.size - 1
        ends = None if self.counts is None else np.cumsum(self.counts)
        result = []
        for rank in ranks:
            position = rank * last / 100
            below = int(position)
            low, high = self._at(below, ends), self._at(min(below + 1, last), ends)
            # The difference comes first: it is 0 between equal neighbours, so a percentile
            # of a constant sample is that constant.
            result.append(low + (high - low) * (position - below))
        return result

    def _at(self, position: int, ends: Int64Array | None) -> float:
        """Return the observation at ``position`` of the sorted, expanded sample."""
        if ends is None:
            return float(self.values[position])
        return float(self.values[int(np.searchsorted(ends, position, side="right"))])


def rank_word(rank: float) -> str:
    """Return a percentile as it is written in keys and labels: ``99``, ``99.9``."""
    return str(int(rank)) if rank == int(rank) else str(rank)
