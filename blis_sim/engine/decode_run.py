"""A decode run: many ordinary steps as one event.

While every running request decodes and nobody can be admitted, each step is like the one
before, one token further. A run keeps the times of such steps and how many of them have
ended and how many are scheduled; the instance wakes when ``wake`` steps have ended::

    start   end 1   end 2   end 3   end 4      synchronous: a step is scheduled at its start
      |--0---|---1---|---2---|---3---|         asynchronous (lead 1): one step earlier
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate
from operator import mul
from typing import TYPE_CHECKING

import numpy as np

from blis_sim.latency.base import Batch

if TYPE_CHECKING:
    from blis_sim.latency.base import Int64Array, LatencyModel

_SHORT = 32
"""Steps up to which a run is kept in lists."""


class DecodeRun:
    """The state of one run; when its steps end is for the subclasses to say.

    Parameters
    ----------
    start_us : int
        Start of the first step.
    first_step : int
        Number of the first step.
    num_steps : int
        Steps in the run, >= 1; the pass after the last one is an ordinary one.
    num_decodes : int
        Members, the same in every step.
    lead : int
        Steps that are scheduled ahead of the running one: 0, or 1 with asynchronous
        scheduling.
    """

    __slots__ = (
        "ended_us",
        "first_step",
        "lead",
        "num_decodes",
        "num_ended",
        "num_scheduled",
        "num_steps",
        "start_us",
        "sums",
        "sums_from",
        "wake",
    )

    def __init__(
        self,
        start_us: int,
        first_step: int,
        num_steps: int,
        num_decodes: int,
        lead: int,
    ) -> None:
        self.start_us = start_us
        self.first_step = first_step
        self.num_steps = num_steps
        self.num_decodes = num_decodes
        self.num_scheduled = 1 + lead
        self.lead = lead
        self.num_ended = 0
        self.ended_us = start_us
        """End of the latest ended step."""
        self.wake = num_steps - lead
        """How many steps have ended when the next ordinary pass is due."""
        self.sums: list[int] = []
        """Blocks that the steps from number ``sums_from`` on need, added up; for who looks."""
        self.sums_from = -1

    def end_of(self, num_steps: int) -> int:
        """Return when the first ``num_steps`` steps have ended."""
        raise NotImplementedError

    def ended_by(self, now_us: int) -> int:
        """Return how many steps end at or before ``now_us``."""
        raise NotImplementedError

    def progress(self, now_us: int) -> tuple[int, int, int]:
        """Return (steps ended by now, steps begun before now, when that changes next)."""
        ended = self.ended_by(now_us)
        if self.end_of(ended) == now_us:
            return ended, ended, now_us + 1
        return ended, ended + 1, self.end_of(min(ended + 1, self.num_steps))

    def first_boundary(self, at_us: int) -> int:
        """Return how many steps, >= 1, have ended at the first boundary from ``at_us`` on."""
        raise NotImplementedError

    def durations(self, begin: int, end: int) -> int | list[int] | Int64Array:
        """Return the durations of steps [begin, end): one for all, or each."""
        raise NotImplementedError

    def allocation(self, needs: list[int], begin: int) -> tuple[int, int]:
        """Return (sum of needs, sum of need[i] * start of step begin + i)."""
        raise NotImplementedError

    def cut(self, at_us: int) -> bool:
        """End the run at the first boundary from ``at_us`` on; False if it ends by then."""
        ended = self.first_boundary(at_us)
        if ended >= self.wake:
            return False
        self.wake = ended
        self.num_steps = ended + self.lead
        return True


class UniformRun(DecodeRun):
    """A run of equal steps: boundaries by arithmetic. ``duration_us`` is set by the maker."""

    __slots__ = ("duration_us",)

    duration_us: int

    def end_of(self, num_steps: int) -> int:
        """Return when the first ``num_steps`` steps have ended."""
        return self.start_us + num_steps * self.duration_us

    def progress(self, now_us: int) -> tuple[int, int, int]:
        """Return (steps ended by now, steps begun before now, when that changes next)."""
        ended, into_us = divmod(now_us - self.start_us, self.duration_us)
        if into_us:
            return ended, ended + 1, now_us - into_us + self.duration_us
        return ended, ended, now_us + 1

    def ended_by(self, now_us: int) -> int:
        """Return how many steps end at or before ``now_us``."""
        return (now_us - self.start_us) // self.duration_us

    def first_boundary(self, at_us: int) -> int:
        """Return how many steps, >= 1, have ended at the first boundary from ``at_us`` on."""
        return -((self.start_us - at_us) // self.duration_us) or 1

    def durations(self, begin: int, end: int) -> int | Int64Array:
        """Return the one duration of all steps."""
        return self.duration_us

    def allocation(self, needs: list[int], begin: int) -> tuple[int, int]:
        """Return (sum of needs, sum of need[i] * start of step begin + i)."""
        total = weighted = 0
        step = begin
        for need in needs:
            if need:
                total += need
                weighted += need * step
            step += 1
        return total, total * self.start_us + weighted * self.duration_us


class MeasuredRun(DecodeRun):
    """A run of unequal steps, from their durations."""

    __slots__ = ("_durations", "_offsets")

    _durations: Int64Array
    _offsets: Int64Array
    """Boundaries since the start of the run: block-microseconds then stay within 64 bits."""

    def set_durations(self, durations_us: Int64Array) -> None:
        """Set the duration of each step, int64[num_steps]."""
        self._durations = durations_us
        offsets = np.empty(len(durations_us) + 1, dtype=np.int64)
        offsets[0] = 0
        np.add.accumulate(durations_us, out=offsets[1:])
        self._offsets = offsets

    def end_of(self, num_steps: int) -> int:
        """Return when the first ``num_steps`` steps have ended."""
        return self.start_us + int(self._offsets[num_steps])

    def ended_by(self, now_us: int) -> int:
        """Return how many steps end at or before ``now_us``."""
        return bisect_right(self._offsets, now_us - self.start_us) - 1

    def first_boundary(self, at_us: int) -> int:
        """Return how many steps, >= 1, have ended at the first boundary from ``at_us`` on."""
        return bisect_left(self._offsets, at_us - self.start_us) or 1

    def durations(self, begin: int, end: int) -> int | Int64Array:
        """Return the duration of each step, int64[end - begin]."""
        return self._durations[begin:end]

    def allocation(self, needs: list[int], begin: int) -> tuple[int, int]:
        """Return (sum of needs, sum of need[i] * start of step begin + i)."""
        total = sum(needs)
        offsets = self._offsets[begin : begin + len(needs)]
        weighted = int(np.dot(np.array(needs, dtype=np.int64), offsets))
        return total, total * self.start_us + weighted


class ListedRun(DecodeRun):
    """A short run of unequal steps, from their durations: lists are quicker than arrays."""

    __slots__ = ("_durations", "_ends")

    _durations: list[int]
    _ends: list[int]
    """Boundaries, the start first."""

    def set_durations(self, durations_us: list[int]) -> None:
        """Set the duration of each step."""
        self._durations = durations_us
        self._ends = list(accumulate(durations_us, initial=self.start_us))

    def end_of(self, num_steps: int) -> int:
        """Return when the first ``num_steps`` steps have ended."""
        return self._ends[num_steps]

    def ended_by(self, now_us: int) -> int:
        """Return how many steps end at or before ``now_us``."""
        return bisect_right(self._ends, now_us) - 1

    def first_boundary(self, at_us: int) -> int:
        """Return how many steps, >= 1, have ended at the first boundary from ``at_us`` on."""
        return bisect_left(self._ends, at_us) or 1

    def durations(self, begin: int, end: int) -> list[int]:
        """Return the duration of each step."""
        return self._durations[begin:end]

    def allocation(self, needs: list[int], begin: int) -> tuple[int, int]:
        """Return (sum of needs, sum of need[i] * start of step begin + i)."""
        total = sum(needs)
        return total, sum(map(mul, needs, self._ends[begin:])) if total else 0


def make_run(
    latency: LatencyModel,
    batch: Batch,
    first: tuple[int, int],
    num_steps: int,
    lead: int,
    until_us: int,
) -> DecodeRun:
    """Return a run of a decode-only batch.

    Parameters
    ----------
    latency : LatencyModel
        Says how long the steps take.
    batch : Batch
        The first step's work.
    first : (int, int)
        Start of the first step in microseconds, and its number.
    num_steps, lead : int
        As for `DecodeRun`.
    until_us : int
        Somebody may come in then: the run may end at the first boundary from there on.
    """
    start_us, step = first
    scheduling_us = latency.scheduling_time()
    uniform_us = latency.uniform_decode_time(batch)
    if uniform_us is not None:
        run = UniformRun(start_us, step, num_steps, batch.num_decodes, lead)
        step_us = max(uniform_us, scheduling_us) if lead else uniform_us + scheduling_us
        run.duration_us = step_us or 1
        return run
    num_decodes, context = batch.num_decodes, batch.sum_decode_context
    step_us = latency.step_time(Batch(num_decodes, context))
    if min(num_steps, (until_us - start_us) // step_us + 1 + lead) <= _SHORT:
        listed = ListedRun(start_us, step, num_steps, num_decodes, lead)
        times = []
        end_us, num_more = start_us, lead
        while True:
            duration_us = max(step_us, scheduling_us) if lead else step_us + scheduling_us
            times.append(duration_us)
            end_us += duration_us
            if len(times) == num_steps:
                break
            if end_us >= until_us:
                if not num_more:
                    break
                num_more -= 1
            context += num_decodes
            step_us = latency.step_time(Batch(num_decodes, context))
        listed.set_durations(times)
        listed.num_steps = len(times)
        listed.wake = len(times) - lead
        return listed
    durations = latency.decode_run(batch, num_steps)
    if scheduling_us:
        durations = np.maximum(durations, scheduling_us) if lead else durations + scheduling_us
    measured = MeasuredRun(start_us, step, num_steps, batch.num_decodes, lead)
    measured.set_durations(durations)
    return measured
