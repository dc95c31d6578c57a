"""One engine instance: a SimPy process that runs one step after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blis_sim.engine.clock import Moment, Priority, order_key
from blis_sim.engine.decode_run import DecodeRun, MeasuredSteps, UniformSteps
from blis_sim.engine.request import Request, State
from blis_sim.engine.scheduler import ScheduledBatch, Scheduler
from blis_sim.errors import InvariantError
from blis_sim.latency.base import Batch
from blis_sim.metrics.records import EngineCounters, Status

if TYPE_CHECKING:
    from collections.abc import Generator

    import simpy

    from blis_sim.latency.base import LatencyModel
    from blis_sim.metrics.recorder import Recorder


class Instance:
    """A serving engine on the clock.

    Parameters
    ----------
    env : simpy.Environment
        The clock, integer microseconds.
    index : int
        Number of the instance, from 0.
    scheduler : Scheduler
        Forms its batches; owned by the instance.
    latency : LatencyModel
        Says how long steps take.
    recorder : Recorder
        Receives what happens; never asked anything.
    async_scheduling : bool
        Fix the next batch at the start of the running step.
    coalesce : bool
        Take decode steps in runs; False = one event per step, same results.
    """

    def __init__(
        self,
        env: simpy.Environment,
        index: int,
        scheduler: Scheduler,
        latency: LatencyModel,
        recorder: Recorder,
        *,
        async_scheduling: bool = False,
        coalesce: bool = True,
    ) -> None:
        self.env = env
        self.index = index
        self.scheduler = scheduler
        self.latency = latency
        self.recorder = recorder
        self.counters = EngineCounters(num_kv_blocks=scheduler.kv.num_blocks)
        self._lead = 1 if async_scheduling else 0
        self._coalesce = coalesce
        self._scheduling_us = latency.scheduling_time()
        self._preemption_us = latency.preemption_time()
        self._token_us = latency.output_token_time()
        self._step_end_key = order_key(Priority.STEP_END, index)
        self._scheduling_key = order_key(Priority.SCHEDULING, index)
        self._current: ScheduledBatch | None = None
        """The step in flight (the first one, in a run)."""
        self._pending: ScheduledBatch | None = None
        """With asynchronous scheduling, the batch fixed for the next step."""
        self._run: DecodeRun | None = None
        self._boundary = Moment(env)
        self._idle: Moment | None = None
        self._aborting: list[Request] = []
        self._accounted_us = 0
        self._waiting_accounted_us = 0
        env.process(self._live())

    @property
    def is_empty(self) -> bool:
        """Whether no request is waiting or running."""
        return not self.scheduler.running and not len(self.scheduler.waiting)

    @property
    def last_event_us(self) -> int:
        """When the instance last did something."""
        return self._accounted_us

    # -- the process ----------------------------------------------------------

    def _live(self) -> Generator[simpy.Event, object, None]:
        env = self.env
        while True:
            if self._start_step(env.now):  # type: ignore[arg-type]
                yield self._boundary
                self._boundary.done()
                self._end_step(env.now)  # type: ignore[arg-type]
                if env.peek() == env.now:  # others act at this instant before scheduling
                    yield Moment(env).fire(0, self._scheduling_key)
            else:
                self._idle = Moment(env)
                yield self._idle

    def _start_step(self, now_us: int) -> bool:
        """Begin a step, or a run of steps; False when there is nothing to do."""
        self._account(now_us)
        scheduler, counters = self.scheduler, self.counters
        counters.num_events += 1
        batch = self._pending
        self._pending = None
        if batch is None:
            batch = scheduler.schedule(now_us, None)
            if batch is None:
                if scheduler.running or len(scheduler.waiting):
                    raise InvariantError(
                        f"instance {self.index} at {now_us} us has work and can run none of it"
                    )
                return False
        batch.start_us = now_us
        batch.end_us = now_us + self._duration(batch)
        self._current = batch
        if self._lead:
            self._pending = scheduler.schedule(now_us, batch)
        num_used = scheduler.kv.num_used
        if num_used > counters.peak_kv_blocks:
            counters.peak_kv_blocks = num_used
        num_running = len(scheduler.running)
        if num_running > counters.peak_running:
            counters.peak_running = num_running
        if self._coalesce and batch.is_quiet and not batch.finishing:
            self._start_run(batch)
        run = self._run
        end_us = batch.end_us if run is None else run.steps.end_of(run.wake)
        self._boundary = Moment(self.env).fire(end_us - now_us, self._step_end_key)
        return True

    def _duration(self, batch: ScheduledBatch) -> int:
        return (
            self._with_scheduling(self.latency.step_time(batch.work))
            + self._preemption_us * batch.num_victims
        )

    def _with_scheduling(self, step_us: int) -> int:
        if self._lead:
            return max(1, step_us, self._scheduling_us)
        return max(1, step_us + self._scheduling_us)

    def _end_step(self, now_us: int) -> None:
        """Deliver the tokens of the step that ends now; let go who is done or gone."""
        if self._run is not None:
            self._end_run(self._run)
        self._account(now_us)
        batch = self._current
        assert batch is not None
        self._current = None
        self._count_step(batch, now_us)
        self._deliver(batch, now_us)
        for request in batch.finishing:
            if not request.is_abort_pending and request.state != State.ENDED:
                self._complete(request, now_us)
        if self._aborting:
            self._end_aborted(batch)

    # -- decode runs ----------------------------------------------------------

    def _start_run(self, batch: ScheduledBatch) -> None:
        """Take as many steps at once as are certain to be alike."""
        scheduler = self.scheduler
        decodes = scheduler.decodes
        if self._lead:
            pending = self._pending
            if (
                pending is None
                or not pending.is_quiet
                or pending.finishing
                or pending.num_regular != batch.num_regular
            ):
                return
        finish = decodes.next_finish()
        if finish is None:
            return
        more = finish - decodes.counter
        if scheduler.head_needs_blocks:
            head = scheduler.waiting.head()
            if head is not None and head.content and decodes.is_filling(head.content[-1].key):
                return  # a member may fill a block the head is waiting to find
        more = decodes.steps_within(scheduler.kv.num_free, more)
        num_steps = 1 + self._lead + more
        if num_steps - self._lead < 2:
            return
        uniform = self.latency.uniform_decode_time(batch.work)
        steps: UniformSteps | MeasuredSteps
        if uniform is not None:
            steps = UniformSteps(batch.start_us, self._with_scheduling(uniform))
        else:
            durations = self.latency.decode_run(batch.work, num_steps)
            if self._lead:
                durations = durations.clip(min=self._scheduling_us)
            elif self._scheduling_us:
                durations = durations + self._scheduling_us
            steps = MeasuredSteps(batch.start_us, durations)
        self._run = DecodeRun(steps, num_steps, self._lead, batch.num_regular)

    def _end_run(self, run: DecodeRun) -> None:
        """Turn the last step of a run back into an ordinary batch, and the next one, too."""
        first = self._current
        assert first is not None
        ended = run.wake - 1
        self._advance_run(run, ended, run.num_steps)
        self._run = None
        decodes = self.scheduler.decodes
        sum_context = decodes.sum_context - run.num_decodes
        last_step = first.step + run.num_steps - 1
        finishing = decodes.pop_finished()
        for request in finishing:
            request.last_step = last_step
        last = ScheduledBatch(last_step, Batch(run.num_decodes, sum_context), run.num_decodes)
        last.finishing = finishing
        if run.lead:
            self._pending = last
            last = ScheduledBatch(
                last_step - 1,
                Batch(run.num_decodes, sum_context - run.num_decodes),
                run.num_decodes,
            )
        last.start_us = run.steps.end_of(ended)
        self._current = last

    def _advance_run(self, run: DecodeRun, num_ended: int, num_scheduled: int) -> None:
        """Bring a run to where ``num_ended`` steps have ended, ``num_scheduled`` are planned."""
        counters, scheduler, steps = self.counters, self.scheduler, run.steps
        now_us = steps.end_of(num_ended)
        self._account(now_us)
        planned = num_scheduled - run.num_scheduled
        if planned > 0:
            decodes, kv = scheduler.decodes, scheduler.kv
            needs = decodes.needs(planned)
            num_blocks = sum(needs)
            if num_blocks:
                moments = steps.allocation_moment(needs, run.num_scheduled - run.lead)
                counters.kv_block_us += num_blocks * now_us - moments
                kv.allocate(num_blocks)
                if kv.num_used > counters.peak_kv_blocks:
                    counters.peak_kv_blocks = kv.num_used
            decodes.counter += planned
            scheduler.next_step += planned
            scheduler.publish_filled(planned)
            run.num_scheduled = num_scheduled
        count = num_ended - run.num_ended
        if count > 0:
            num_decodes = run.num_decodes
            counters.num_steps += count
            counters.busy_us += now_us - steps.end_of(run.num_ended)
            num_tokens = count * num_decodes
            counters.num_decode_tokens += num_tokens
            counters.num_generated_tokens += num_tokens
            counters.batch_tokens += num_tokens
            counters.batch_requests += num_tokens
            self.recorder.add_run(
                steps, run.num_ended, num_ended, num_decodes, self._token_us
            )
            run.num_ended = num_ended

    def _cut_run(self, now_us: int) -> None:
        """End the run in progress, if any, at the first boundary from now on."""
        run = self._run
        if run is not None and run.cut(now_us):
            self._boundary.fire(run.steps.end_of(run.wake) - now_us, self._step_end_key)

    def sync(self, now_us: int) -> None:
        """Bring the instance to what the plain loop would show at the end of this instant."""
        run = self._run
        if run is not None:
            ended = run.steps.ended_by(now_us)
            self._advance_run(run, ended, min(run.num_steps, ended + 1 + run.lead))

    # -- tokens ---------------------------------------------------------------

    def _count_step(self, batch: ScheduledBatch, now_us: int) -> None:
        counters, work = self.counters, batch.work
        counters.num_steps += 1
        counters.busy_us += now_us - batch.start_us
        counters.num_decode_tokens += work.num_decodes
        num_tokens = num_requests = work.num_decodes
        if work.prefills:
            num_prefill_tokens = work.num_prefill_tokens
            counters.num_prefill_tokens += num_prefill_tokens
            num_tokens += num_prefill_tokens
            num_requests += len(work.prefills)
        counters.batch_tokens += num_tokens
        counters.batch_requests += num_requests

    def _deliver(self, batch: ScheduledBatch, now_us: int) -> None:
        """Record the tokens a step yields; tokens of requests being aborted are dropped."""
        recorder, token_us = self.recorder, self._token_us
        num_regular = batch.num_regular
        for request in self._aborting:
            if (
                request.output_limit
                and request.yields_in(batch.step)
                and request not in batch.irregular
                and request not in batch.completing
            ):
                num_regular -= 1
        num_tokens = num_regular
        if num_regular:
            recorder.add_gaps(now_us - batch.start_us + token_us, num_regular)
        for request in batch.irregular:
            if not request.is_abort_pending:
                recorder.add_gaps(now_us - request.last_token_us + token_us, 1)
                num_tokens += 1
        for request in batch.completing:
            if request.is_abort_pending:
                continue
            num_tokens += 1
            if request.first_token_us is None:
                request.first_token_us = now_us
            else:
                recorder.add_gaps(now_us - request.last_token_us + token_us, 1)
            request.last_token_us = now_us
        for request in batch.pausing:
            request.last_token_us = now_us
        if num_tokens:
            self.counters.num_generated_tokens += num_tokens
            recorder.add_tokens(now_us, num_tokens)

    # -- comings and goings ---------------------------------------------------

    def enqueue(self, request: Request, now_us: int) -> None:
        """Put a request into the waiting queue."""
        self._account_waiting(now_us)
        scheduler = self.scheduler
        request.state = State.WAITING
        request.enqueued_us = now_us
        waiting = scheduler.waiting
        waiting.push(request)
        if len(waiting) > self.counters.peak_waiting:
            self.counters.peak_waiting = len(waiting)
        if self._idle is not None:
            self._idle.fire(0, self._scheduling_key)
            self._idle = None
        elif (
            self._run is not None
            and len(scheduler.running) < scheduler.settings.max_num_seqs
            and waiting.head() is request
        ):
            # Anyone else stands behind a head that stays refused for as long as the run.
            self._cut_run(now_us)

    def abort(self, request: Request, now_us: int) -> None:
        """Let a waiting or running request go: the latter at the next step boundary."""
        if request.state == State.WAITING:
            self._account_waiting(now_us)
            # A victim's last token may still be in flight.
            self._terminate(request, _drop_token(self._current, request))
            self._cut_run(now_us)
        elif self._current is not None:
            request.is_abort_pending = True
            self._aborting.append(request)
            self._cut_run(now_us)
        else:
            self._account(now_us)
            self._terminate(request, _drop_token(self._pending, request))

    def _step_in_flight(self, now_us: int) -> int | None:
        if self._current is None:
            return None
        run = self._run
        return self._current.step + (run.steps.ended_by(now_us) if run is not None else 0)

    def _end_aborted(self, batch: ScheduledBatch) -> None:
        aborting = sorted(self._aborting, key=lambda r: r.request_id)
        self._aborting = []
        for request in aborting:
            dropped = int(request.output_limit > 0 and request.yields_in(batch.step))
            self._terminate(request, dropped + _drop_token(self._pending, request))

    def _terminate(self, request: Request, num_dropped_tokens: int) -> None:
        """End a request whose client has gone."""
        self.scheduler.remove(request)
        status = Status.TIMED_OUT if request.is_timeout else Status.ABORTED
        num_tokens = request.num_generated - num_dropped_tokens
        self.recorder.end(request, status, self.index, num_tokens, None, self._token_us)

    def _complete(self, request: Request, now_us: int) -> None:
        """End a request whose last token is out."""
        self.scheduler.remove(request)
        if request.first_token_us is None:
            request.first_token_us = now_us
        num_tokens = request.output_limit
        client_us = now_us + num_tokens * self._token_us
        status = Status.COMPLETED
        deadline_us = request.abort_deadline_us
        if deadline_us is not None and client_us > deadline_us:
            status = Status.TIMED_OUT if request.is_timeout else Status.ABORTED
        last_us = client_us if status == Status.COMPLETED else None
        self.recorder.end(request, status, self.index, num_tokens, last_us, self._token_us)

    # -- accounts -------------------------------------------------------------

    def _account(self, now_us: int) -> None:
        """Bring the time integrals to now."""
        elapsed = now_us - self._accounted_us
        if elapsed > 0:
            counters, scheduler = self.counters, self.scheduler
            counters.kv_block_us += scheduler.kv.num_used * elapsed
            counters.running_us += len(scheduler.running) * elapsed
            self._accounted_us = now_us
        self._account_waiting(now_us)

    def _account_waiting(self, now_us: int) -> None:
        elapsed = now_us - self._waiting_accounted_us
        if elapsed > 0:
            self.counters.waiting_us += len(self.scheduler.waiting) * elapsed
            self._waiting_accounted_us = now_us

    def finalize(self, now_us: int) -> None:
        """Close the books at the end of the simulation and record who is still here."""
        self.sync(now_us)
        self._account(now_us)
        scheduler, counters = self.scheduler, self.counters
        counters.num_preemptions = scheduler.num_preemptions
        counters.prefix_queries_tokens = scheduler.prefix_queries_tokens
        counters.prefix_hits_tokens = scheduler.prefix_hits_tokens
        counters.recached_tokens = scheduler.recached_tokens
        in_flight = self._step_in_flight(now_us)
        steps = [] if in_flight is None else [in_flight, in_flight + 1][: 1 + self._lead]
        for request in list(scheduler.running.values()):
            if request.state == State.DECODING:
                scheduler.decodes.leave(request)
            self._record_unfinished(request, Status.RUNNING, steps)
        for request in scheduler.waiting.members():
            self._record_unfinished(request, Status.WAITING, steps)
        if not scheduler.running and not len(scheduler.waiting):
            scheduler.check_integrity()
            if scheduler.kv.num_used:
                raise InvariantError(
                    f"{scheduler.kv.num_used} KV blocks are still held on an empty instance"
                )

    def _record_unfinished(self, request: Request, status: Status, in_flight: list[int]) -> None:
        num_tokens = request.num_generated
        if request.output_limit:
            num_tokens -= sum(request.yields_in(step) for step in in_flight)
        self.recorder.end(request, status, self.index, num_tokens, None, self._token_us)


def _drop_token(batch: ScheduledBatch | None, request: Request) -> int:
    """Take a request's token out of a batch; its work stays in it. Return how many: 0 or 1."""
    if batch is None or request.output_limit == 0 or not request.yields_in(batch.step):
        return 0
    if request in batch.completing:
        batch.completing.remove(request)
    elif request in batch.irregular:
        batch.irregular.remove(request)
    else:
        batch.num_regular -= 1
    return 1
