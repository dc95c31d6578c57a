"""The timing loop: warm-up, calls over rotating buffers, CUDA graph, median of repetitions.

Where several kernels compute a point, each is timed and the fastest counts. A repetition first
sweeps the L2 cache, then makes several calls between two events on the GPU. Kernels of less than
a millisecond are captured into a CUDA graph of these calls: launched one by one they would wait
for the host (5 to 20 us a launch through PyTorch, more than many of them take). Engines replay
graphs too when they decode, and the latency model counts the host's share of a step by itself.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from .memory import num_copies, outlasts_cache
from .points import Point

Call = Callable[[int], object]
"""Enqueue one call of the kernel on the copy of that number."""
Kernels = Mapping[str, Call]
"""By name, the kernels that may compute a point; one that cannot fails when it is called."""


class Backend(Protocol):
    """What the loop needs of a GPU library."""

    def prepare(self, point: Point, copies: int) -> Kernels:
        """Allocate and fill the buffers of ``point``; return the calls of its kernels."""

    def capture(self, enqueue: Callable[[], None]) -> Callable[[], None]:
        """Record what ``enqueue`` launches; return what launches all of it at once."""

    def time_us(self, enqueue: Callable[[], None], repetitions: int) -> list[float]:
        """Return the duration on the GPU of each repetition, behind a sweep of the L2 cache."""

    def agree(self, value: float) -> float:
        """Return the largest ``value`` of all processes that measure together."""

    def release(self) -> None:
        """Free what ``prepare`` and ``capture`` allocated."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long a point is measured.

    A repetition makes as many calls as last ``repetition_us``; there are ``repetitions`` of
    them, fewer (but ``least_repetitions``) when they would exceed ``budget_us`` together.
    """

    repetitions: int = 20
    least_repetitions: int = 5
    repetition_us: float = 1000.0
    budget_us: float = 150_000.0
    warm_up_calls: int = 3
    capture_below_us: float = 1000.0

    def repetitions_of(self, duration_us: float) -> int:
        affordable = int(self.budget_us / max(duration_us, 1e-3))
        return max(self.least_repetitions, min(self.repetitions, affordable))


THOROUGH = Effort()
QUICK = Effort(repetitions=7, least_repetitions=3, repetition_us=500.0, budget_us=50_000.0)
MAX_CALLS = 512
_MAX_RECAPTURES = 3


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a point is timed."""

    calls: int
    repetitions: int
    captured: bool


def schedule(call_us: float, copies: int, *, outlasts: bool, effort: Effort) -> Schedule:
    """Return the calls per repetition and the repetitions for calls of ``call_us``.

    Copies that do not outlast the cache (``outlasts`` False) are used once per repetition at
    most; the sweep in front of it has thrown them out.
    """
    calls = min(MAX_CALLS, max(1, -int(-effort.repetition_us // call_us)))
    if not outlasts:
        calls = min(calls, copies)
    repetitions = effort.repetitions_of(calls * call_us)
    return Schedule(calls, repetitions, call_us < effort.capture_below_us)


@dataclass(frozen=True, slots=True)
class Measurement:
    """Median latency of one call; ``spread`` is (p90 - p10) / median over the repetitions."""

    kernel: str
    latency_us: float
    spread: float
    schedule: Schedule


def measure(backend: Backend, point: Point, l2_bytes: int, effort: Effort) -> Measurement:
    """Return the latency of the fastest kernel of ``point``. Buffers are freed in any case.

    Raises
    ------
    RuntimeError
        No kernel can compute the point; the error of the last one.
    """
    copies = num_copies(point.rotating_bytes, l2_bytes)
    outlasts = outlasts_cache(point.rotating_bytes, copies, l2_bytes)
    measured: list[Measurement] = []
    failure: RuntimeError | None = None
    try:
        for name, call in backend.prepare(point, copies).items():
            loop = _Loop(backend, call, copies, outlasts, effort)
            try:
                measured.append(loop.measure(name))
            except RuntimeError as error:
                failure = error
    finally:
        backend.release()
    if not measured:
        raise failure or RuntimeError("no kernel computes it")
    return min(measured, key=lambda one: one.latency_us)


@dataclass(frozen=True, slots=True)
class _Loop:
    """Times one kernel."""

    backend: Backend
    call: Call
    copies: int
    outlasts: bool
    effort: Effort

    def measure(self, name: str) -> Measurement:
        few = self.effort.warm_up_calls
        self.backend.time_us(self._enqueue(few), 1)
        plan = self._schedule(self._rough_us(self._enqueue(few), few))
        launch = self._enqueue(plan.calls)
        if plan.captured:
            launch, plan = self._captured(plan)
        times = sorted(self.backend.time_us(launch, plan.repetitions))
        median = statistics.median(times)
        low, high = times[len(times) // 10], times[-1 - len(times) // 10]
        return Measurement(name, median / plan.calls, (high - low) / median, plan)

    def _captured(self, plan: Schedule) -> tuple[Callable[[], None], Schedule]:
        """Return the graph and its schedule.

        Calls launched one by one wait for the host, so that what they lasted says too few
        calls: a graph is captured anew with as many as the first one shows to be needed. In a
        short graph the start of it, and a host that falls behind the GPU, would count.
        """
        launch = self._capture(plan.calls)
        for _ in range(_MAX_RECAPTURES):
            wanted = self._schedule(self._rough_us(launch, plan.calls))
            if wanted.calls < 2 * plan.calls:
                break
            plan = replace(wanted, captured=True)
            launch = self._capture(plan.calls)
        return launch, plan

    def _capture(self, calls: int) -> Callable[[], None]:
        launch = self.backend.capture(self._enqueue(calls))
        self.backend.time_us(launch, 1)  # The first replay also loads the graph.
        return launch

    def _enqueue(self, calls: int) -> Callable[[], None]:
        def run() -> None:
            for i in range(calls):
                self.call(i % self.copies)

        return run

    def _rough_us(self, launch: Callable[[], None], calls: int) -> float:
        return self.backend.agree(min(self.backend.time_us(launch, 2)) / calls)

    def _schedule(self, call_us: float) -> Schedule:
        return schedule(call_us, self.copies, outlasts=self.outlasts, effort=self.effort)
