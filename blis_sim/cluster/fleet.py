"""All instances of a cluster: who is there, who takes requests, what they reported when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blis_sim.cluster.replica import Replica
from blis_sim.engine.clock import Priority, call_at, order_key
from blis_sim.metrics.records import InstanceData

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import simpy

    from blis_sim.cluster.config import ClusterConfig
    from blis_sim.engine.request import Request
    from blis_sim.metrics.recorder import Recorder


class Fleet:
    """The instances of all pools, in the order in which they were started.

    Parameters
    ----------
    env : simpy.Environment
        The clock.
    config : ClusterConfig
        The pools, and how many instances each starts with: they are ready at once.
    recorder : Recorder
        Receives what happens on the instances.
    on_start : callable
        Called with each new instance, before it gets anything to do.
    on_gone : callable
        Called with (instance, request, now_us) for each request that has left an instance.
    """

    def __init__(
        self,
        env: simpy.Environment,
        config: ClusterConfig,
        recorder: Recorder,
        on_start: Callable[[Replica], None],
        on_gone: Callable[[Replica, Request, int], None],
    ) -> None:
        self.env = env
        self.pools = config.pools
        self.replicas: list[Replica] = []
        self._recorder = recorder
        self._on_start = on_start
        self._on_gone = on_gone
        self._ready: dict[str, list[Replica]] = {}
        for number, pool in enumerate(config.pools):
            for _ in range(pool.num_instances):
                self.make_ready(self.start(number, 0))

    def start(self, pool: int, startup_us: int) -> Replica:
        """Start an instance of a pool; it will be ready after ``startup_us``."""
        now_us = int(self.env.now)
        record = InstanceData(pool, started_us=now_us, ready_us=now_us + startup_us)
        config = self.pools[pool]
        replica = Replica(
            self.env, len(self.replicas), config, record, self._recorder, self._on_gone
        )
        self.replicas.append(replica)
        self._on_start(replica)
        return replica

    def make_ready(self, replica: Replica) -> None:
        """Let an instance take requests."""
        replica.is_ready = True
        self._ready = {}

    def drain(self, replica: Replica) -> None:
        """Let an instance take no more requests."""
        replica.drain(int(self.env.now))
        self._ready = {}

    def ready(self, role: str) -> Sequence[Replica]:
        """Return the instances of a role that take requests, in the order of their numbers."""
        found = self._ready.get(role)
        if found is None:
            found = [r for r in self.replicas if r.is_ready and r.pool.data.role == role]
            self._ready[role] = found
        return found

    def of_pool(self, pool: int) -> list[Replica]:
        """Return the instances of a pool that exist."""
        return [r for r in self.replicas if r.record.pool == pool and not r.is_stopped]


class Reporting:
    """Has the instances report at whole multiples of an interval, while anything happens.

    Parameters
    ----------
    fleet : Fleet
        The instances.
    role : str
        Of those that report.
    interval_us : int
        Time between two reports, >= 1.
    take : callable
        What an instance does to report.
    """

    def __init__(
        self, fleet: Fleet, role: str, interval_us: int, take: Callable[[Replica], None]
    ) -> None:
        self._fleet = fleet
        self._role = role
        self._interval_us = interval_us
        self._take = take
        self._is_armed = False

    def begin(self, replica: Replica) -> None:
        """Let a new instance report for the first time."""
        if replica.pool.data.role == self._role:
            self._take(replica)

    def arm(self) -> None:
        """Make sure of a report at the next multiple of the interval."""
        if not self._is_armed:
            self._is_armed = True
            env, interval_us = self._fleet.env, self._interval_us
            delay_us = interval_us - int(env.now) % interval_us
            call_at(env, delay_us, order_key(Priority.OBSERVER), self._report)

    def _report(self) -> None:
        """Report; an idle cluster reports once more, and then has nothing new to say."""
        self._is_armed = False
        is_busy = False
        for replica in self._fleet.replicas:
            if not replica.is_stopped and replica.pool.data.role == self._role:
                self._take(replica)
                is_busy = is_busy or replica.num_outstanding > 0
        if is_busy:
            self.arm()
