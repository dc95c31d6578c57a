"""Autoscaling on the clock: measure, decide, start and drain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blis_sim.cluster.autoscaler import Autoscaler
from blis_sim.engine.clock import Priority, call_at, order_key
from blis_sim.metrics.records import ScalingEvent
from blis_sim.units import seconds_to_us

if TYPE_CHECKING:
    from collections.abc import Callable

    from blis_sim.cluster.fleet import Fleet
    from blis_sim.cluster.replica import Replica

_AFTER_ARRIVALS = (1 << 16) - 1
"""Rank among the events of the gateway: after those of all instances."""


class Scaling:
    """Follows the load of one pool.

    Parameters
    ----------
    fleet : Fleet
        The instances.
    pool : int
        Number of the pool; it has autoscaling settings.
    on_change : callable
        Called with an instance that has become ready, or takes no more requests.
    is_over : callable
        Whether nothing will arrive or happen any more.
    num_held : callable
        How many requests wait in the gateway: they count as waiting.
    """

    def __init__(
        self,
        fleet: Fleet,
        pool: int,
        on_change: Callable[[Replica], None],
        is_over: Callable[[], bool],
        num_held: Callable[[], int],
    ) -> None:
        settings = fleet.pools[pool].autoscaling
        assert settings is not None
        self.events: list[ScalingEvent] = []
        self._fleet = fleet
        self._pool = pool
        self._on_change = on_change
        self._is_over = is_over
        self._num_held = num_held
        self._settings = settings
        self._autoscaler = Autoscaler(settings)
        self._startup_us = seconds_to_us(settings.startup_delay_s)
        self._interval_us = max(1, seconds_to_us(settings.interval_s))
        self._num_prompts = self._prompt_tokens = 0
        self._wait()

    def note_arrival(self, prompt_tokens: int) -> None:
        """Take note of a request that has arrived."""
        self._num_prompts += 1
        self._prompt_tokens += prompt_tokens

    def _wait(self) -> None:
        key = order_key(Priority.GATEWAY, _AFTER_ARRIVALS, self._pool)
        call_at(self._fleet.env, self._interval_us, key, self._decide)

    def _decide(self) -> None:
        if self._is_over():
            return
        now_us = int(self._fleet.env.now)
        members = self._fleet.of_pool(self._pool)
        ready = [r for r in members if r.is_ready]
        starting = [r for r in members if r.is_starting]
        measured = self._measure(ready)
        before = len(ready) + len(starting)
        after = self._autoscaler.decide(now_us, len(ready), len(starting), measured)
        if after != before:
            self._change(ready, starting, after - before)
            value = 0.0 if measured is None else measured
            self.events.append(ScalingEvent(now_us, self._pool, before, after, value))
        self._wait()

    def _measure(self, ready: list[Replica]) -> float | None:
        """Return the metric's mean over the ready instances, None without any."""
        if not ready:
            return None
        metric = self._settings.metric
        if metric == "predicted-ttft":
            if not self._num_prompts:
                return None
            mean_tokens = max(1, self._prompt_tokens // self._num_prompts)
            return sum(r.prefill_time_us(mean_tokens) for r in ready) / len(ready) / 1000
        reports = [r.look() for r in ready]
        if metric == "kv-utilization":
            return sum(r.kv_used_blocks / r.kv_blocks for r in reports) / len(reports)
        waiting = self._num_held() + sum(r.num_waiting for r in reports)
        if metric == "queue-depth":
            return waiting / len(reports)
        return (waiting + sum(r.num_running for r in reports)) / len(reports)

    def _change(self, ready: list[Replica], starting: list[Replica], more: int) -> None:
        """Start instances, or do without the newest starting and then the idlest ready ones."""
        for _ in range(more):
            self._start()
        leaving = sorted(starting, key=lambda r: -r.index)
        leaving += sorted(ready, key=lambda r: (r.num_outstanding, -r.index))
        for replica in leaving[: max(0, -more)]:
            self._fleet.drain(replica)
            self._on_change(replica)

    def _start(self) -> None:
        replica = self._fleet.start(self._pool, self._startup_us)

        def become_ready() -> None:
            if replica.is_starting:
                self._fleet.make_ready(replica)
                self._on_change(replica)

        key = order_key(Priority.ARRIVAL, replica.index)
        call_at(self._fleet.env, self._startup_us, key, become_ready)
