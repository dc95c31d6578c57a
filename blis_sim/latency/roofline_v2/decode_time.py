"""Decode attention by the sum of contexts, in whole nanoseconds."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from blis_sim.latency.base import Int64Array
    from blis_sim.latency.kernel_tables.lines import Line


class DecodeTimes:
    """Durations for one number of decodes as a function of the tokens attended to.

    One number and an array give the same to the bit: both compute
    ``value[i] + slope[i] * (tokens - knot[i])`` and round half to even.

    Parameters
    ----------
    line : Line
        Microseconds of one execution by the mean tokens of a request.
    batch : int
        Decodes, >= 1.
    executions : int
        How often the kernel runs in a step, >= 1.
    window : int or None
        Most tokens of a request that are attended to.
    """

    __slots__ = ("_knots", "_most_tokens", "_slopes", "_values", "knots", "slopes", "values")

    def __init__(self, line: Line, batch: int, executions: int, window: int | None) -> None:
        ns = 1000.0 * executions
        knots = line.x * batch
        values = line.us * ns
        inner = np.diff(values) / np.diff(knots)
        slopes = np.append(inner, line.slope_us * ns / batch)
        if knots[0] > 0:  # before the first knot the time is that of the first
            knots = np.insert(knots, 0, 0.0)
            values = np.insert(values, 0, values[0])
            slopes = np.insert(slopes, 0, 0.0)
        self.knots, self.values, self.slopes = knots, values, slopes
        self._knots: list[float] = knots.tolist()
        self._values: list[float] = values.tolist()
        self._slopes: list[float] = slopes.tolist()
        self._most_tokens = None if window is None else batch * window

    def at(self, tokens: int) -> int:
        """Return the nanoseconds for so many tokens, >= the first knot."""
        if self._most_tokens is not None:
            tokens = min(tokens, self._most_tokens)
        i = bisect_right(self._knots, tokens) - 1
        return round(self._values[i] + self._slopes[i] * (tokens - self._knots[i]))

    def along(self, tokens: Int64Array) -> Int64Array:
        """Return the nanoseconds for each of several numbers of tokens."""
        if self._most_tokens is not None:
            tokens = np.minimum(tokens, self._most_tokens)
        first = bisect_right(self._knots, int(tokens[0])) - 1
        if first == bisect_right(self._knots, int(tokens[-1])) - 1:  # mostly all in one piece
            times = (tokens - self._knots[first]) * self._slopes[first]
            times += self._values[first]
        else:
            i = self.knots.searchsorted(tokens, side="right") - 1
            times = self.values[i] + self.slopes[i] * (tokens - self.knots[i])
        rounded: Int64Array = np.rint(times).astype(np.int64)
        return rounded
