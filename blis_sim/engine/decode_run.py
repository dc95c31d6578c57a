"""A decode run: many ordinary steps as one event.

While every running request decodes and nobody can be admitted, each step is like the one
before, one token further. A run keeps the times of such steps and how many of them have
ended and how many are scheduled; the instance wakes at the end of step ``wake``::

    start   ends[0]   ends[1]   ends[2]        synchronous: step i is scheduled at its start
      |--0---|---1---|---2---|---3---|         asynchronous (lead 1): at the start of i - 1
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from blis_sim.latency.base import Int64Array


class UniformSteps:
    """Step boundaries of equal steps, by arithmetic."""

    __slots__ = ("duration_us", "start_us")

    def __init__(self, start_us: int, duration_us: int) -> None:
        self.start_us = start_us
        self.duration_us = duration_us

    def end_of(self, num_steps: int) -> int:
        """Return when the first ``num_steps`` steps have ended."""
        return self.start_us + num_steps * self.duration_us

    def ended_by(self, now_us: int) -> int:
        """Return how many steps end at or before ``now_us``."""
        return (now_us - self.start_us) // self.duration_us

    def first_boundary(self, at_us: int) -> int:
        """Return how many steps have ended at the first boundary at or after ``at_us``."""
        return max(1, -((self.start_us - at_us) // self.duration_us))

    def durations(self, begin: int, end: int) -> int | Int64Array:
        """Return the common duration of steps [begin, end)."""
        return self.duration_us

    def allocation_moment(self, needs: list[int], begin: int) -> int:
        """Return sum(need[i] * start of step begin + i)."""
        if len(needs) > 64:
            index = np.arange(len(needs), dtype=np.int64)
            weighted = int(np.dot(np.asarray(needs, dtype=np.int64), index))
        else:
            weighted = sum(i * need for i, need in enumerate(needs))
        return sum(needs) * self.end_of(begin) + weighted * self.duration_us


class MeasuredSteps:
    """Step boundaries of unequal steps."""

    __slots__ = ("_boundaries", "_durations")

    def __init__(self, start_us: int, durations_us: Int64Array) -> None:
        self._durations = durations_us
        boundaries = np.empty(len(durations_us) + 1, dtype=np.int64)
        boundaries[0] = start_us
        np.cumsum(durations_us, out=boundaries[1:])
        boundaries[1:] += start_us
        self._boundaries = boundaries

    def end_of(self, num_steps: int) -> int:
        """Return when the first ``num_steps`` steps have ended."""
        return int(self._boundaries[num_steps])

    def ended_by(self, now_us: int) -> int:
        """Return how many steps end at or before ``now_us``."""
        return bisect_right(self._boundaries, now_us) - 1

    def first_boundary(self, at_us: int) -> int:
        """Return how many steps have ended at the first boundary at or after ``at_us``."""
        return max(1, bisect_left(self._boundaries, at_us))

    def durations(self, begin: int, end: int) -> int | Int64Array:
        """Return the durations of steps [begin, end)."""
        return self._durations[begin:end]

    def allocation_moment(self, needs: list[int], begin: int) -> int:
        """Return sum(need[i] * start of step begin + i)."""
        starts = self._boundaries[begin : begin + len(needs)]
        return int(np.dot(np.asarray(needs, dtype=np.int64), starts))


class DecodeRun:
    """The state of one run.

    Parameters
    ----------
    steps : UniformSteps or MeasuredSteps
        When each step ends.
    num_steps : int
        Steps in the run, >= 2; the pass after the last one is an ordinary one.
    lead : int
        Steps that are scheduled ahead of the running one: 0, or 1 with asynchronous
        scheduling.
    num_decodes : int
        Members, the same in every step.
    """

    __slots__ = ("lead", "num_decodes", "num_ended", "num_scheduled", "num_steps", "steps")

    def __init__(
        self, steps: UniformSteps | MeasuredSteps, num_steps: int, lead: int, num_decodes: int
    ) -> None:
        self.steps = steps
        self.num_steps = num_steps
        self.lead = lead
        self.num_decodes = num_decodes
        self.num_ended = 0
        self.num_scheduled = 1 + lead

    @property
    def wake(self) -> int:
        """How many steps have ended when the next ordinary pass is due."""
        return self.num_steps - self.lead

    def cut(self, at_us: int) -> bool:
        """End the run at the first boundary at or after ``at_us``; False if it ends by then."""
        ended = self.steps.first_boundary(at_us)
        if ended >= self.wake:
            return False
        self.num_steps = ended + self.lead
        return True
