"""A cluster on one clock: arrivals, the gateway, the instances, and the books at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import simpy

from blis_sim.cluster.fleet import Fleet, Reporting
from blis_sim.cluster.gateway import Gateway
from blis_sim.cluster.handovers import Handovers
from blis_sim.cluster.replica import Replica
from blis_sim.cluster.scaling import Scaling
from blis_sim.config.routing_checks import report_interval_s
from blis_sim.engine.clock import Alarm, Moment, Priority, call_at, order_key
from blis_sim.engine.marks import Marks
from blis_sim.engine.outcome import run_data, time_series
from blis_sim.engine.request import Request, State
from blis_sim.errors import InvariantError
from blis_sim.metrics.records import Decision, RunData, Status
from blis_sim.metrics.timeline import make_recorder
from blis_sim.units import seconds_to_us
from blis_sim.workload.clients import FAR_US, Clients

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from blis_sim.cluster.config import ClusterConfig
    from blis_sim.config.cluster import RoutingSettings
    from blis_sim.metrics.timeline import TimelineSettings
    from blis_sim.workload.request import RequestSpec

_GATEWAY_KEY = order_key(Priority.GATEWAY)
_SENDING_KEY = order_key(Priority.GATEWAY, 1)
"""After who arrives, before decisions to scale."""
_LAST = (1 << 16) - 1
"""Rank among observers: samples are taken after reports."""


class OpenLoad:
    """Requests that arrive whatever happens to the others; as `Clients` without ears."""

    def __init__(self, requests: Iterable[RequestSpec]) -> None:
        self._stream = iter(requests)
        self._next = next(self._stream, None)

    @property
    def next_arrival_us(self) -> int:
        """When the next request arrives."""
        return FAR_US if self._next is None else self._next.arrival_us

    def pop(self) -> RequestSpec:
        """Return the next request."""
        spec = self._next
        assert spec is not None
        self._next = next(self._stream, None)
        return spec


class ClusterSimulation:
    """A single-use simulation of a cluster under a stream of requests.

    Parameters
    ----------
    config : ClusterConfig
        Pools, gateway, routing.
    requests : iterable of RequestSpec, or Clients
        In order of arrival, consumed lazily; or clients who wait for answers.
    horizon_us : int or None
        Stop after the events of this instant.
    sample_interval_us : int or None
        Take time-series samples this often.
    on_progress : callable or None
        Called now and then with (requests ended, simulated us).
    record_decisions : bool
        Keep every choice of the router, with what the others scored.
    marks_us : sequence of int
        When to take snapshots of the books, ascending; those past a horizon are not taken.
    timeline : TimelineSettings or None
        Log what a timeline is drawn from.
    count_work : bool
        Count steps by what they cost, for a roofline of the run.
    """

    def __init__(  # noqa: PLR0913 (one parameter per thing that may be watched)
        self,
        config: ClusterConfig,
        requests: Iterable[RequestSpec] | Clients,
        *,
        horizon_us: int | None = None,
        sample_interval_us: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        record_decisions: bool = False,
        marks_us: Sequence[int] = (),
        timeline: TimelineSettings | None = None,
        count_work: bool = False,
    ) -> None:
        self.config = config
        self.env = simpy.Environment(initial_time=0)
        self.recorder = make_recorder(timeline, on_progress, count_work=count_work)
        self.clients = requests if isinstance(requests, Clients) else None
        self._load = requests if isinstance(requests, Clients) else OpenLoad(requests)
        self.decisions: list[Decision] | None = [] if record_decisions else None
        self._reportings: list[Reporting] = []
        self.handovers = (
            Handovers(self.env, config, self._on_room) if config.is_disaggregated else None
        )
        self.fleet = Fleet(self.env, config, self.recorder, self._on_start, self._on_gone)
        self.gateway = Gateway(
            config, self.fleet, self.handovers, self._end_outside, self.decisions
        )
        self._start_reporting()
        self.scalings = [
            Scaling(self.fleet, n, self._on_change, self._is_over, self._num_held)
            for n, pool in enumerate(config.pools)
            if pool.autoscaling is not None
        ]
        self._arrival = Alarm(self.env, self._take_in)
        self._awaited_us = FAR_US
        """When somebody arrives next, as far as an event for it has been made."""
        self._is_sending = False
        self._horizon_us = horizon_us
        self._samples: list[tuple[int, ...]] = []
        self._sample_interval_us = sample_interval_us
        self._generated_at_sample: dict[int, int] = {}
        self._marks = Marks(
            self.env,
            marks_us,
            order_key(Priority.OBSERVER, _LAST),
            self.recorder,
            lambda: (replica.instance for replica in self.fleet.replicas),
        )

    def run(self) -> RunData:
        """Run to the end of the load or to the horizon and return what was measured."""
        env = self.env
        if self._sample_interval_us is not None:
            env.process(self._observe(self._sample_interval_us))
        self._await_arrival()
        if self._horizon_us is None:
            env.run()
        else:
            env.run(until=Moment(env, self._horizon_us, order_key(Priority.HORIZON)))
        return self._close()

    # -- arrivals -------------------------------------------------------------

    def _await_arrival(self) -> None:
        """Make an event for the next request."""
        at_us = self._load.next_arrival_us
        if at_us < self._awaited_us:
            self._awaited_us = at_us
            self._arrival.fire(at_us - int(self.env.now), _GATEWAY_KEY)

    def _take_in(self) -> None:
        """Let everybody arrive who is due by now."""
        load, gateway, now_us = self._load, self.gateway, int(self.env.now)
        while load.next_arrival_us <= now_us:
            spec = load.pop()
            request = Request(spec, 0)
            request.state = State.GATEWAY
            gateway.arrive(request, now_us)
            if request.state is State.ENDED:
                continue
            for scaling in self.scalings:
                scaling.note_arrival(spec.prompt_tokens)
            if spec.timeout_us is not None or spec.abort_us is not None:
                self._set_deadline(request)
        self._arm_reportings()
        self._awaited_us = FAR_US
        self._await_arrival()

    def _tell(self, request: Request, seen_us: int, *, is_answered: bool) -> None:
        """Tell the clients that an answer has been seen, or will not be waited for."""
        if self.clients is not None:
            self.clients.ended(request.request_id, seen_us, is_answered=is_answered)
            self._await_arrival()

    def _end_outside(self, request: Request, status: Status, reason: str | None = None) -> None:
        """End a request that no instance has."""
        request.state = State.ENDED
        request.status = status
        request.reason = reason
        self.recorder.end(request)
        self._tell(request, int(self.env.now), is_answered=False)

    def _set_deadline(self, request: Request) -> None:
        """Let the client leave at its timeout or abort, whichever comes first."""
        spec = request.spec
        delay_us = min(d for d in (spec.timeout_us, spec.abort_us) if d is not None)
        request.is_timeout = delay_us == spec.timeout_us
        request.abort_deadline_us = deadline_us = spec.arrival_us + delay_us
        key = order_key(Priority.ARRIVAL, 0, spec.request_id)
        delay_us = max(0, deadline_us - int(self.env.now))
        call_at(self.env, delay_us, key, lambda: self._leave(request.successor or request))

    def _leave(self, request: Request) -> None:
        """Let a client go who has waited long enough."""
        now_us = int(self.env.now)
        if request.state in {State.FRONTEND, State.WAITING}:
            self.fleet.replicas[request.instance].instance.sync_entries(now_us)
        if request.state is State.ENDED:
            return
        status = Status.TIMED_OUT if request.is_timeout else Status.ABORTED
        if request.state is State.GATEWAY:
            self.gateway.remove(request)
            self._end_outside(request, status)
        elif request.state is State.TRANSFER:
            assert self.handovers is not None
            self.handovers.cancel(request, now_us)
            self._end_in_transfer(request, status)
            self._tell(request, now_us, is_answered=False)
        elif request.state is State.FRONTEND:
            replica = self.fleet.replicas[request.instance]
            request.state = State.ENDED
            request.status = status
            self.recorder.end(request)
            replica.left(request, 0)
            self._on_gone(replica, request, now_us)
            self._tell(request, now_us, is_answered=False)
        else:
            self.fleet.replicas[request.instance].instance.abort(request, now_us)
            self._tell(request, now_us, is_answered=False)

    def _end_in_transfer(self, request: Request, status: Status) -> None:
        request.state = State.ENDED
        request.status = status
        if request.num_generated:
            token_us = self.fleet.replicas[request.instance].pool.latency.output_token_time()
            request.first_seen_us = request.first_token_us + token_us
        request.num_received = request.num_generated
        self.recorder.end(request)

    # -- instances ------------------------------------------------------------

    def _on_start(self, replica: Replica) -> None:
        """Wire a new instance."""
        if self.clients is not None:
            replica.instance.on_end = self._tell
        if self.handovers is not None:
            self.handovers.connect(replica)
        for reporting in self._reportings:
            reporting.begin(replica)

    def _on_gone(self, replica: Replica, request: Request, now_us: int) -> None:
        """Do what becomes possible when a request has left an instance."""
        if self.handovers is not None:
            self.handovers.gone(replica, request, now_us)
        self._on_room(replica, now_us)

    def _on_room(self, replica: Replica, now_us: int) -> None:
        """Do what becomes possible when an instance has one request less."""
        if self.gateway.has_queue:
            self._send_waiting(now_us)
        if not replica.is_ready:
            replica.stop_if_done(now_us)

    def _on_change(self, replica: Replica) -> None:
        """Take note of an instance that has become ready, or takes no more requests."""
        if replica.is_ready:
            self._send_waiting(int(self.env.now))
        else:
            self.gateway.forget(replica)

    def _send_waiting(self, now_us: int) -> None:
        """Send on, at this instant, who waits in the gateway."""
        if self.gateway.num_waiting and not self._is_sending:
            self._is_sending = True
            call_at(self.env, now_us - int(self.env.now), _SENDING_KEY, self._send_now)

    def _send_now(self) -> None:
        self._is_sending = False
        self.gateway.send_waiting(int(self.env.now))
        self._arm_reportings()

    def _num_held(self) -> int:
        return self.gateway.num_waiting

    def _is_over(self) -> bool:
        """Whether nothing will arrive or happen any more."""
        return (
            self._load.next_arrival_us == FAR_US
            and not self.gateway.num_waiting
            and not any(r.num_outstanding for r in self.fleet.replicas)
        )

    def _arm_reportings(self) -> None:
        """Make sure that instances report what requests sent at this instant change."""
        for reporting in self._reportings:
            reporting.arm()

    def _start_reporting(self) -> None:
        """Have the instances report as often as the routing asks for."""
        config = self.config
        if config.is_disaggregated:
            self._start_reporting_of("prefill", config.routing)
            own = config.disaggregation.decode_routing
            self._start_reporting_of("decode", own or config.routing)
        else:
            self._start_reporting_of("mixed", config.routing)

    def _start_reporting_of(self, role: str, routing: RoutingSettings) -> None:
        for seconds, take in (
            (report_interval_s(routing), Replica.take_snapshot),
            (routing.cache_signal_delay_s, Replica.take_cache_view),
        ):
            if seconds:
                interval_us = max(1, seconds_to_us(seconds))
                reporting = Reporting(self.fleet, role, interval_us, take)
                self._reportings.append(reporting)
                for replica in self.fleet.replicas:
                    reporting.begin(replica)

    # -- observers ------------------------------------------------------------

    def _observe(self, interval_us: int) -> Generator[simpy.Event, object, None]:
        """Sample the instances at multiples of the interval, last of all at each instant."""
        key = order_key(Priority.OBSERVER, _LAST)
        while True:
            yield Moment(self.env, interval_us, key)
            for replica in self.fleet.replicas:
                if not replica.is_stopped:
                    self._sample(replica)
            if self._is_over():
                return

    def _sample(self, replica: Replica) -> None:
        now_us = int(self.env.now)
        instance, index = replica.instance, replica.index
        instance.sync(now_us)
        scheduler = instance.scheduler
        generated = instance.num_generated_tokens
        before = self._generated_at_sample.get(index, 0)
        self._generated_at_sample[index] = generated
        members = self.fleet.of_pool(replica.record.pool)
        self._samples.append(
            (
                now_us,
                index,
                len(scheduler.waiting.requests),
                len(scheduler.running),
                scheduler.kv.num_used,
                generated - before,
                sum(r.is_ready for r in members),
            )
        )

    # -- the end --------------------------------------------------------------

    def _check_nobody_left(self) -> None:
        """Raise where a request would have to wait for ever."""
        num_held = self.gateway.num_waiting
        num_inside = sum(replica.num_outstanding for replica in self.fleet.replicas)
        if num_held or num_inside:
            raise InvariantError(
                f"nothing will happen any more, with {num_held} in the gateway and {num_inside} "
                "on or between instances; this is a defect of the simulator, please report it"
            )

    def _close(self) -> RunData:
        replicas, recorder = self.fleet.replicas, self.recorder
        now_us = self._horizon_us
        if now_us is None:
            now_us = max(r.instance.last_step_end_us for r in replicas)
            self._check_nobody_left()
        for request in self.gateway.waiting:
            request.status = Status.IN_GATEWAY
            recorder.end(request)
        for request in self.handovers.inside() if self.handovers is not None else ():
            self._end_in_transfer(request, Status.IN_TRANSFER)
        for replica in replicas:
            replica.instance.finalize(max(now_us, replica.instance.last_step_end_us))
            for request in replica.frontend.inside():
                request.status = Status.IN_FRONTEND
                recorder.end(request)
        run = run_data(
            recorder,
            [replica.instance.counters for replica in replicas],
            now_us=now_us,
            at_horizon=self._horizon_us is not None,
            output_token_us=max(p.latency.output_token_time() for p in self.config.pools),
        )
        if self._sample_interval_us is not None:
            run.timeseries = time_series(self._samples)
        run.pools = [pool.data for pool in self.config.pools]
        run.instances = [replica.record for replica in replicas]
        run.scaling = sorted(
            (event for scaling in self.scalings for event in scaling.events),
            key=lambda event: (event.time_us, event.pool),
        )
        run.decisions = self.decisions
        run.marks = self._marks.taken
        return run
