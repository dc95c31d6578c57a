"""Timing that does not flatter: warm-up, several runs, their median, and a longer run as a check.

A rate that is measured for a moment may be one the machine cannot keep: clocks fall, caches were
warm, neighbours were idle. So several runs of a least duration are timed, and then one that is
three times as long. When it differs from the median by more than the runs differ among
themselves, it is the longer run that is reported, and that is said.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from blis_sim.errors import ConfigError

Clock = Callable[[], float]
"""Seconds from any fixed point."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long something is timed.

    Attributes
    ----------
    runs : int
        Timed runs, >= 3.
    run_s : float
        Least duration of each, s, > 0: it makes as many calls as that takes.
    warm_up_s : float
        Least duration of the calls before, s, >= 0; there is at least one.
    check_factor : int
        Length of the check run in runs, >= 2.

    Raises
    ------
    ConfigError
        A number is out of range.
    """

    runs: int = 7
    run_s: float = 0.2
    warm_up_s: float = 0.2
    check_factor: int = 3

    def __post_init__(self) -> None:
        if self.runs < 3 or self.check_factor < 2:
            raise ConfigError(
                "an effort must have >= 3 runs and a check run of >= 2 of them; got "
                f"{self.runs} and {self.check_factor}"
            )
        if not 0 < self.run_s < math.inf or not 0 <= self.warm_up_s < math.inf:
            raise ConfigError(
                "an effort must have runs of > 0 s and a warm-up of >= 0 s; got "
                f"{self.run_s:g} s and {self.warm_up_s:g} s"
            )


Call = Callable[[], object]
"""What is timed; its result is dropped."""
THOROUGH = Effort()
QUICK = Effort(runs=3, run_s=0.01, warm_up_s=0.005)


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one call takes.

    Attributes
    ----------
    call_s : float
        What is reported, s: the median of the runs, or what the longer run says.
    spread_frac : float
        Distance of the quartiles of the runs / their median.
    runs : int
        Timed runs.
    calls : int
        Calls in each.
    median_s : float
        Median over the runs, s per call.
    check_s : float
        The longer run, s per call.
    """

    call_s: float
    spread_frac: float
    runs: int
    calls: int
    median_s: float
    check_s: float

    @property
    def is_longer_run(self) -> bool:
        """Whether the longer run did not confirm the median, and is reported in its place."""
        return self.call_s != self.median_s


Timer = Callable[[Call, Effort], Timing]
"""How one thing is timed: ``time_call``."""
GroupTimer = Callable[[Sequence[Call], Effort], list[Timing]]
"""How things that will be compared are timed: ``time_calls``."""


def time_call(call: Call, effort: Effort = THOROUGH, clock: Clock = time.perf_counter) -> Timing:
    """Time a call that lasts until its work is done; as ``time_calls`` of one."""
    return time_calls([call], effort, clock)[0]


def time_calls(
    calls: Sequence[Call], effort: Effort = THOROUGH, clock: Clock = time.perf_counter
) -> list[Timing]:
    """Time calls, each of which lasts until its work is done, in turn.

    Parameters
    ----------
    calls : sequence of callable
        What is timed.
    effort : Effort
        How long.
    clock : callable
        Seconds.

    Returns
    -------
    list of Timing
        One per call. Its rate is never above that of the check run by more than the spread:
        otherwise it is that of the check run.

    Raises
    ------
    ConfigError
        The clock stands still.
    """
    numbers = [_calls_per_run(call, effort, clock) for call in calls]
    runs: list[list[float]] = [[] for _ in calls]
    for _ in range(effort.runs):
        for call, number, each in zip(calls, numbers, runs, strict=True):
            each.append(_run_s(call, number, clock) / number)
    timings = []
    for call, number, each in zip(calls, numbers, runs, strict=True):
        longer = effort.check_factor * number
        timings.append(_timing(each, number, _run_s(call, longer, clock) / longer))
    return timings


def _timing(each: list[float], calls: int, check_s: float) -> Timing:
    median_s = statistics.median(each)
    lower, _, upper = statistics.quantiles(each, n=4, method="inclusive")
    spread_frac = (upper - lower) / median_s
    # As rates: that of the median may be above that of the longer run by the spread.
    is_confirmed = abs(check_s / median_s - 1) <= spread_frac
    call_s = median_s if is_confirmed else check_s
    return Timing(call_s, spread_frac, len(each), calls, median_s, check_s)


def _calls_per_run(call: Call, effort: Effort, clock: Clock) -> int:
    """Warm up, and return how many calls a run needs."""
    spent_s, calls = _run_s(call, 1, clock), 1
    while spent_s < effort.warm_up_s:
        spent_s += _run_s(call, 1, clock)
        calls += 1
    # The first call of all may be slow; a second one says what calls take now.
    call_s = min(spent_s / calls, _run_s(call, 1, clock))
    return max(1, math.ceil(effort.run_s / call_s))


def _run_s(call: Call, calls: int, clock: Clock) -> float:
    start_s = clock()
    for _ in range(calls):
        call()
    spent_s = clock() - start_s
    if not spent_s > 0:
        raise ConfigError("the clock must go on during a call; got 0 s; time a longer one")
    return spent_s
