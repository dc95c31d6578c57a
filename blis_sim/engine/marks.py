"""Snapshots of the books at given instants: the figures of parts of a run rest on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blis_sim.engine.clock import call_at
from blis_sim.metrics.records import Mark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import simpy

    from blis_sim.engine.instance import Instance
    from blis_sim.metrics.recorder import Recorder


class Marks:
    """Takes the snapshots, last of all at each instant; it changes nothing.

    Parameters
    ----------
    env : simpy.Environment
        The clock, at 0.
    times_us : iterable of int
        When, ascending.
    key : int
        Order of an observer among the events of an instant.
    recorder : Recorder
        Has the gaps between tokens.
    instances : callable
        Gives the instances that exist, in order of their number.
    """

    def __init__(
        self,
        env: simpy.Environment,
        times_us: Iterable[int],
        key: int,
        recorder: Recorder,
        instances: Callable[[], Iterable[Instance]],
    ) -> None:
        self.taken: list[Mark] = []
        self._env = env
        self._recorder = recorder
        self._instances = instances
        for time_us in times_us:
            call_at(env, time_us, key, self._take)

    def _take(self) -> None:
        now_us = int(self._env.now)
        counters = [instance.counters_at(now_us) for instance in self._instances()]
        self.taken.append(Mark(now_us, counters, *self._recorder.gap_histogram()))
