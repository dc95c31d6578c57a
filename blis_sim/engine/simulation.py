"""One simulation: the clock, the arrivals, the instance, and the books at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import simpy

from blis_sim.engine.assembly import make_instance
from blis_sim.engine.batch import SchedulerSettings
from blis_sim.engine.clock import Moment, Priority, call_at, order_key
from blis_sim.engine.frontend import FAR_US, Frontend, StreamFrontend
from blis_sim.engine.marks import Marks
from blis_sim.engine.outcome import run_data, time_series
from blis_sim.engine.request import Request, State
from blis_sim.metrics.records import Status
from blis_sim.metrics.timeline import make_recorder
from blis_sim.workload.clients import Clients

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from blis_sim.latency.base import LatencyModel
    from blis_sim.metrics.records import RunData
    from blis_sim.metrics.timeline import TimelineSettings
    from blis_sim.workload.request import RequestSpec


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Everything the engine needs to know, resolved: no defaults left to find."""

    scheduler: SchedulerSettings
    num_kv_blocks: int
    block_size: int = 16
    enable_prefix_caching: bool = True
    async_scheduling: bool = False
    coalesce: bool = True


class Simulation:
    """A single-use simulation of one instance under a stream of requests.

    Parameters
    ----------
    config : EngineConfig
        The instance.
    latency : LatencyModel
        How long its steps take.
    requests : iterable of RequestSpec, or Clients
        In order of arrival, consumed lazily; or clients who wait for answers.
    horizon_us : int or None
        Stop after the events of this instant.
    sample_interval_us : int or None
        Take time-series samples this often.
    on_progress : callable or None
        Called now and then with (requests ended, simulated us).
    marks_us : sequence of int
        When to take snapshots of the books, ascending; those past a horizon are not taken.
    timeline : TimelineSettings or None
        Log what a timeline is drawn from.
    count_work : bool
        Count steps by what they cost, for a roofline of the run.
    """

    def __init__(  # noqa: PLR0913 (one parameter per thing that may be watched)
        self,
        config: EngineConfig,
        latency: LatencyModel,
        requests: Iterable[RequestSpec] | Clients,
        *,
        horizon_us: int | None = None,
        sample_interval_us: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        marks_us: Sequence[int] = (),
        timeline: TimelineSettings | None = None,
        count_work: bool = False,
    ) -> None:
        self.config = config
        self.latency = latency
        self.env = simpy.Environment(initial_time=0)
        self.recorder = make_recorder(timeline, on_progress, count_work=count_work)
        self.clients = requests if isinstance(requests, Clients) else None
        if isinstance(requests, Clients):
            self.frontend = Frontend()
        else:
            self.frontend = StreamFrontend(
                requests, latency, self._accept, config.scheduler.max_model_len, horizon_us
            )
        self.instance = make_instance(self.env, 0, config, latency, self.recorder, self.frontend)
        if self.clients is not None:
            self.instance.on_end = self._tell
            self.instance.is_watched = True
        self._awaited_us = FAR_US
        """When the clients send next, as far as an event for it has been made."""
        self._horizon_us = horizon_us
        self._max_model_len = config.scheduler.max_model_len
        self._samples: list[tuple[int, int, int, int, int, int]] = []
        self._sample_interval_us = sample_interval_us
        self._generated_at_sample = 0
        observer = order_key(Priority.OBSERVER)
        self._marks = Marks(self.env, marks_us, observer, self.recorder, lambda: (self.instance,))

    def run(self) -> RunData:
        """Run to the end of the load or to the horizon and return what was measured."""
        env = self.env
        if self._sample_interval_us is not None:
            env.process(self._observe(self._sample_interval_us))
        self._await_clients()
        if self._horizon_us is None:
            env.run()
        else:
            env.run(until=Moment(env, self._horizon_us, order_key(Priority.HORIZON)))
        return self._close()

    # -- arrivals -------------------------------------------------------------

    def _await_clients(self) -> None:
        """Make an event for the next request of clients who wait for answers."""
        clients = self.clients
        if clients is not None and clients.next_arrival_us < self._awaited_us:
            at_us = self._awaited_us = clients.next_arrival_us
            key = order_key(Priority.ARRIVAL, 0, clients.num_sent)
            call_at(self.env, at_us - int(self.env.now), key, self._send_due)

    def _send_due(self) -> None:
        """Let everything arrive that clients send by now."""
        clients, now_us = self.clients, int(self.env.now)
        assert clients is not None
        while clients.next_arrival_us <= now_us:
            spec = clients.pop()
            request = self._accept(spec)
            if request is not None:
                enter_us = now_us + self.latency.queueing_time(spec)
                self.frontend.push(request, enter_us)
                self.instance.expect(enter_us)
        self._awaited_us = FAR_US
        self._await_clients()

    def _tell(self, request: Request, seen_us: int, *, is_answered: bool) -> None:
        """Tell the clients that an answer has been seen, or will not be waited for."""
        if self.clients is not None:
            self.clients.ended(request.request_id, seen_us, is_answered=is_answered)
            self._await_clients()

    def _accept(self, spec: RequestSpec) -> Request | None:
        """Make the engine's request, or drop one that this engine could never serve."""
        room = self._max_model_len - spec.prompt_tokens
        limit = spec.output_tokens
        if room <= 0:
            self._drop(spec, "prompt_tokens >= max_model_len")
            return None
        if spec.max_output_tokens is not None:
            if spec.max_output_tokens > room:
                self._drop(spec, "prompt_tokens + max_output_tokens > max_model_len")
                return None
            limit = min(limit, spec.max_output_tokens)
        if limit > room:
            limit = room
        request = Request(spec, limit)
        self.instance.scheduler.kv.register(request)
        if spec.timeout_us is not None or spec.abort_us is not None:
            self._set_deadline(request)
        return request

    def _drop(self, spec: RequestSpec, why: str) -> None:
        reason = f"{why} ({self._max_model_len} tokens)"
        self._end_outside(Request(spec, 0), spec.arrival_us, Status.DROPPED, reason)

    def _end_outside(
        self, request: Request, now_us: int, status: Status, reason: str | None = None
    ) -> None:
        request.state = State.ENDED
        request.status = status
        request.reason = reason
        self.recorder.end(request)
        self._tell(request, now_us, is_answered=False)

    def _set_deadline(self, request: Request) -> None:
        """Let the client leave at its timeout or abort, whichever comes first."""
        spec = request.spec
        delays = [d for d in (spec.timeout_us, spec.abort_us) if d is not None]
        delay_us = min(delays)
        request.is_timeout = delay_us == spec.timeout_us
        request.abort_deadline_us = spec.arrival_us + delay_us

        def leave() -> None:
            now_us = int(self.env.now)
            self.instance.sync_entries(now_us)
            if request.state == State.FRONTEND:
                status = Status.TIMED_OUT if request.is_timeout else Status.ABORTED
                self._end_outside(request, now_us, status)
            elif request.state != State.ENDED:
                self.instance.abort(request, now_us)
                self._tell(request, now_us, is_answered=False)

        key = order_key(Priority.ARRIVAL, 0, spec.request_id)
        call_at(self.env, request.abort_deadline_us - int(self.env.now), key, leave)

    # -- observers ------------------------------------------------------------

    def _observe(self, interval_us: int) -> Generator[simpy.Event, object, None]:
        """Sample the instance at multiples of the interval, last of all at each instant."""
        key = order_key(Priority.OBSERVER)
        while True:
            yield Moment(self.env, interval_us, key)
            now_us = int(self.env.now)
            self._sample(now_us)
            if self.instance.is_done and self._awaited_us == FAR_US:
                return

    def _sample(self, now_us: int) -> None:
        instance = self.instance
        instance.sync(now_us)
        scheduler = instance.scheduler
        generated = instance.num_generated_tokens
        self._samples.append(
            (
                now_us,
                instance.index,
                len(scheduler.waiting.requests),
                len(scheduler.running),
                scheduler.kv.num_used,
                generated - self._generated_at_sample,
            )
        )
        self._generated_at_sample = generated

    # -- the end --------------------------------------------------------------

    def _close(self) -> RunData:
        recorder, instance = self.recorder, self.instance
        now_us = instance.last_step_end_us if self._horizon_us is None else self._horizon_us
        instance.finalize(now_us)
        for request in self.frontend.inside():
            request.status = Status.IN_FRONTEND
            recorder.end(request)
        run = run_data(
            recorder,
            [instance.counters],
            now_us=now_us,
            at_horizon=self._horizon_us is not None,
            output_token_us=self.latency.output_token_time(),
        )
        if self._sample_interval_us is not None:
            run.timeseries = time_series(self._samples)
        run.marks = self._marks.taken
        return run
