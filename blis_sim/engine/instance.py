"""One engine instance: a SimPy process that runs one step after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blis_sim.engine.clock import Moment, Priority, order_key
from blis_sim.engine.decode_run import DecodeRun, MeasuredRun, UniformRun
from blis_sim.engine.request import Request, State
from blis_sim.engine.scheduler import ScheduledBatch, Scheduler
from blis_sim.errors import InvariantError
from blis_sim.latency.base import Batch
from blis_sim.metrics.records import ABSENT, EngineCounters, Status

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
        """The step in flight, unless it is part of a run."""
        self._pending: ScheduledBatch | None = None
        """With asynchronous scheduling, the batch fixed for the next step."""
        self._run: DecodeRun | None = None
        """The run in flight."""
        self._boundary = Moment(env)
        self._boundary_us = 0
        self._idle: Moment | None = None
        self._aborting: list[Request] = []
        self._decodes_probe = Batch()
        self._num_run_tokens = 0
        """Tokens of all runs so far: each is a decode's, in a batch, generated."""
        self.last_event_us = 0
        """When a step last started or ended."""
        env.process(self._live())

    @property
    def is_empty(self) -> bool:
        """Whether no request is waiting or running."""
        return not self.scheduler.running and not self.scheduler.waiting.requests

    # -- the process ----------------------------------------------------------

    def _live(self) -> Generator[simpy.Event, object, None]:
        env = self.env
        now_us = 0
        while True:
            if self._start_step(now_us):
                boundary = self._boundary
                yield boundary
                boundary.callbacks = []  # done: a firing that was overtaken does nothing
                now_us = self._boundary_us
                self._end_step(now_us)
                if env.peek() == now_us:  # others act at this instant before scheduling
                    yield Moment(env).fire(0, self._scheduling_key)
            else:
                self._idle = Moment(env)
                yield self._idle
                now_us = int(env.now)

    def _start_step(self, now_us: int) -> bool:
        """Begin a step, or a run of steps; False when there is nothing to do."""
        self.last_event_us = now_us
        self.counters.num_events += 1
        run = self._run = self._plan_run_at_once(now_us)
        if run is not None:
            end_us = run.end_of(run.wake)
        else:
            batch = self._next_batch(now_us)
            if batch is None:
                return False
            batch.start_us = now_us
            if self._lead:
                self._pending = self.scheduler.schedule(now_us, batch)
                if self._coalesce:
                    run = self._run = self._plan_run_ahead(batch)
            elif self._coalesce and not (batch.was_disturbed or batch.finishing):
                run = self._run = self._plan_run_after(batch)
            if run is not None:
                end_us = run.end_of(run.wake)
            else:
                self._current = batch
                end_us = now_us + self._with_scheduling(self.latency.step_time(batch))
                if batch.num_victims:
                    end_us += self._preemption_us * batch.num_victims
        self._boundary_us = end_us
        self._boundary = Moment(self.env).fire(end_us - now_us, self._step_end_key)
        return True

    def _next_batch(self, now_us: int) -> ScheduledBatch | None:
        """Return the batch to start now, or None if the engine becomes idle."""
        batch = self._pending
        if batch is None:
            batch = self.scheduler.schedule(now_us, None)
            if batch is None and not self.is_empty:
                raise InvariantError(
                    f"instance {self.index} at {now_us} us has work and can run none of it"
                )
        return batch

    def _with_scheduling(self, step_us: int) -> int:
        if self._lead:
            return max(1, step_us, self._scheduling_us)
        return step_us + self._scheduling_us or 1

    def _end_step(self, now_us: int) -> None:
        """Deliver the tokens of the step that ends now; let go who is done or gone."""
        self.last_event_us = now_us
        run = self._run
        if run is not None:
            batch = self._end_run(run)
            self._run = None
            if batch is None:
                return
        else:
            current = self._current
            assert current is not None
            batch = current
            self._current = None
        self._deliver(batch, now_us)
        for request in batch.finishing:
            if not request.is_abort_pending and request.state is not State.ENDED:
                self._complete(request, now_us)
        if self._aborting:
            self._end_aborted(batch, now_us)

    # -- decode runs ----------------------------------------------------------

    def _plan_run_at_once(self, now_us: int) -> DecodeRun | None:
        """Plan a run without asking the scheduler where its pass could only advance decodes.

        That is so while nobody prefills or returns, and nobody waits or all seats are taken.
        """
        scheduler = self.scheduler
        decodes = scheduler.decodes
        if (
            not decodes.count
            or scheduler.prefilling
            or scheduler.returning
            or self._lead
            or not self._coalesce
            or (
                scheduler.waiting.requests
                and len(scheduler.running) < scheduler.settings.max_num_seqs
            )
        ):
            return None
        num_steps = decodes.steps_within(
            scheduler.kv.num_free, decodes.finish_at - decodes.counter
        )
        if num_steps < 1:
            return None
        probe = self._decodes_probe
        probe.num_decodes = decodes.count
        probe.sum_decode_context = decodes.sum_offset + decodes.count * decodes.counter
        return self._make_run(probe, now_us, scheduler.next_step, num_steps, 0)

    def _plan_run_after(self, batch: ScheduledBatch) -> DecodeRun | None:
        """Plan a run that begins with the batch the scheduler has just formed."""
        scheduler = self.scheduler
        decodes = scheduler.decodes
        if scheduler.head_needs_blocks:
            head = scheduler.waiting.head()
            if head is not None and head.content and decodes.is_filling(head.content[-1].key):
                return None  # a member may fill a block the head is waiting to find
        more = decodes.steps_within(scheduler.kv.num_free, decodes.finish_at - decodes.counter)
        if more < 1:
            return None
        lead = self._lead
        num_steps = 1 + lead + more
        return self._make_run(batch, batch.start_us, batch.step, num_steps, 1 + lead)

    def _plan_run_ahead(self, batch: ScheduledBatch) -> DecodeRun | None:
        """Plan a run, with asynchronous scheduling, where two like batches follow each other."""
        pending = self._pending
        if (
            batch.was_disturbed
            or batch.finishing
            or pending is None
            or pending.was_disturbed
            or pending.finishing
            or pending.num_regular != batch.num_regular
        ):
            return None
        return self._plan_run_after(batch)

    def _make_run(
        self, batch: Batch, start_us: int, step: int, num_steps: int, num_scheduled: int
    ) -> DecodeRun:
        lead, num_decodes = self._lead, batch.num_decodes
        uniform_us = self.latency.uniform_decode_time(batch)
        if uniform_us is not None:
            run = UniformRun(start_us, step, num_steps, num_decodes, num_scheduled, lead)
            run.duration_us = self._with_scheduling(uniform_us)
            return run
        durations = self.latency.decode_run(batch, num_steps)
        if lead:
            durations = durations.clip(min=self._scheduling_us)
        elif self._scheduling_us:
            durations = durations + self._scheduling_us
        measured = MeasuredRun(start_us, step, num_steps, num_decodes, num_scheduled, lead)
        measured.set_durations(durations)
        return measured

    def _end_run(self, run: DecodeRun) -> ScheduledBatch | None:
        """Close a run at its wake; return its last ended step if that is still to be told.

        With asynchronous scheduling the run's last step becomes the pending batch.
        """
        num_told = run.wake - 1 if self._aborting else run.wake
        self._advance_run(run, num_told, run.num_steps)
        decodes = self.scheduler.decodes
        step = run.first_step + run.num_steps - 1
        if not run.lead and not self._aborting:
            if decodes.finish_at == decodes.counter:
                for request in decodes.pop_finished(step):
                    self._complete(request, self.last_event_us)
            return None
        num_decodes = run.num_decodes
        context = decodes.sum_context - num_decodes
        last = ScheduledBatch(step, num_decodes, context)
        last.finishing = decodes.pop_finished(step)
        if run.lead:
            self._pending = last
            last = ScheduledBatch(step - 1, num_decodes, context - num_decodes)
        last.start_us = run.end_of(num_told)
        return last if self._aborting else None

    def _advance_run(self, run: DecodeRun, num_ended: int, num_scheduled: int) -> None:
        """Bring a run to where ``num_ended`` steps have ended, ``num_scheduled`` are planned."""
        scheduler = self.scheduler
        planned = num_scheduled - run.num_scheduled
        if planned > 0:
            decodes = scheduler.decodes
            num_blocks, moments_us = run.allocation(
                decodes.needs(planned), run.num_scheduled - run.lead
            )
            if num_blocks:
                scheduler.kv.allocate(num_blocks, moments_us)
            decodes.counter += planned
            scheduler.next_step += planned
            if decodes.has_fillers:
                scheduler.publish_filled(planned)
            run.num_scheduled = num_scheduled
        begin = run.num_ended
        if num_ended > begin:
            counters = self.counters
            counters.num_steps += num_ended - begin
            counters.busy_us += run.end_of(num_ended) - run.end_of(begin)
            self._num_run_tokens += (num_ended - begin) * run.num_decodes
            self.recorder.add_run(run, begin, num_ended, self._token_us)
            run.num_ended = num_ended

    def _cut_run(self, now_us: int) -> None:
        """End the run in progress, if any, at the first boundary from now on."""
        run = self._run
        if run is not None and run.cut(now_us):
            end_us = run.end_of(run.wake)
            self._boundary_us = end_us
            self._boundary.fire(end_us - now_us, self._step_end_key)

    def sync(self, now_us: int) -> None:
        """Bring the instance to what the plain loop would show at the end of this instant."""
        run = self._run
        if run is not None:
            ended = run.ended_by(now_us)
            self._advance_run(run, ended, min(run.num_steps, ended + 1 + run.lead))

    @property
    def num_generated_tokens(self) -> int:
        """Tokens put out so far."""
        return self.counters.num_generated_tokens + self._num_run_tokens

    # -- tokens ---------------------------------------------------------------

    def _deliver(self, batch: ScheduledBatch, now_us: int) -> None:
        """Record the tokens a step yields; tokens of requests being aborted are dropped."""
        counters = self.counters
        counters.num_steps += 1
        counters.busy_us += now_us - batch.start_us
        num_prefill_tokens = batch.num_prefill_tokens
        counters.num_prefill_tokens += num_prefill_tokens
        counters.num_decode_tokens += batch.num_decodes
        counters.batch_tokens += batch.num_decodes + num_prefill_tokens
        counters.batch_requests += batch.num_decodes + len(batch.prefills)
        recorder, token_us = self.recorder, self._token_us
        num_regular = batch.num_regular
        for request in self._aborting:
            if (
                request.yields_in(batch.step)
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
            if request.first_token_us == ABSENT:
                request.first_token_us = now_us
            else:
                recorder.add_gaps(now_us - request.last_token_us + token_us, 1)
            request.last_token_us = now_us
        for request in batch.pausing:
            request.last_token_us = now_us
        if num_tokens:
            counters.num_generated_tokens += num_tokens
            recorder.add_tokens(now_us, num_tokens)

    # -- comings and goings ---------------------------------------------------

    def enqueue(self, request: Request, now_us: int) -> None:
        """Put a request into the waiting queue."""
        scheduler = self.scheduler
        request.state = State.WAITING
        request.enqueued_us = now_us
        waiting = scheduler.waiting
        waiting.push(request)
        scheduler.waiting_us -= now_us
        if len(waiting.requests) > self.counters.peak_waiting:
            self.counters.peak_waiting = len(waiting.requests)
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
            # A victim's last token may still be in flight.
            self._terminate(request, _drop_token(self._current, request), now_us)
            self._cut_run(now_us)
        elif self._current is not None or self._run is not None:
            request.is_abort_pending = True
            self._aborting.append(request)
            self._cut_run(now_us)
        else:
            self._terminate(request, _drop_token(self._pending, request), now_us)

    def _steps_in_flight(self, now_us: int) -> list[int]:
        """Return the numbers of the steps whose tokens are scheduled and not out."""
        run = self._run
        if run is not None:
            first = run.first_step + run.ended_by(now_us)
        elif self._current is not None:
            first = self._current.step
        else:
            return []
        return [first, first + 1][: 1 + self._lead]

    def _end_aborted(self, batch: ScheduledBatch, now_us: int) -> None:
        aborting = sorted(self._aborting, key=lambda r: r.request_id)
        self._aborting = []
        for request in aborting:
            dropped = int(request.yields_in(batch.step))
            self._terminate(request, dropped + _drop_token(self._pending, request), now_us)

    def _terminate(self, request: Request, num_dropped_tokens: int, now_us: int) -> None:
        """End a request whose client has gone."""
        self.scheduler.remove(request, now_us)
        status = Status.TIMED_OUT if request.is_timeout else Status.ABORTED
        num_tokens = request.num_generated - num_dropped_tokens
        self.recorder.end(request, status, self.index, num_tokens, None, self._token_us)

    def _complete(self, request: Request, now_us: int) -> None:
        """End a request whose last token is out."""
        self.scheduler.remove(request, now_us)
        if request.first_token_us == ABSENT:
            request.first_token_us = now_us
        num_tokens = request.output_limit
        client_us = now_us + num_tokens * self._token_us
        status = Status.COMPLETED
        deadline_us = request.abort_deadline_us
        if deadline_us is not None and client_us > deadline_us:
            status = Status.TIMED_OUT if request.is_timeout else Status.ABORTED
        last_us = client_us if status == Status.COMPLETED else None
        self.recorder.end(request, status, self.index, num_tokens, last_us, self._token_us)

    # -- the end --------------------------------------------------------------

    def finalize(self, now_us: int) -> None:
        """Close the books at the end of the simulation and record who is still here."""
        self.sync(now_us)
        scheduler, counters = self.scheduler, self.counters
        kv = scheduler.kv
        counters.kv_block_us = kv.block_us + kv.num_used * now_us
        counters.running_us = scheduler.running_us + len(scheduler.running) * now_us
        counters.waiting_us = scheduler.waiting_us + len(scheduler.waiting.requests) * now_us
        counters.num_preemptions = scheduler.num_preemptions
        counters.prefix_queries_tokens = scheduler.prefix_queries_tokens
        counters.prefix_hits_tokens = scheduler.prefix_hits_tokens
        counters.recached_tokens = scheduler.recached_tokens
        counters.num_decode_tokens += self._num_run_tokens
        counters.num_generated_tokens += self._num_run_tokens
        counters.batch_tokens += self._num_run_tokens
        counters.batch_requests += self._num_run_tokens
        counters.peak_kv_blocks = kv.num_blocks - kv.min_free
        counters.peak_running = scheduler.peak_running
        steps = self._steps_in_flight(now_us)
        scheduler.check_integrity()
        for request in list(scheduler.running.values()):
            if request.state == State.DECODING:
                scheduler.decodes.leave(request)
            self._record_unfinished(request, Status.RUNNING, steps)
        for request in scheduler.waiting.requests.values():
            self._record_unfinished(request, Status.WAITING, steps)
        if self.is_empty and kv.num_used:
            raise InvariantError(f"{kv.num_used} KV blocks are still held on an empty instance")

    def _record_unfinished(self, request: Request, status: Status, in_flight: list[int]) -> None:
        num_tokens = request.num_generated - sum(request.yields_in(s) for s in in_flight)
        self.recorder.end(request, status, self.index, num_tokens, None, self._token_us)


def _drop_token(batch: ScheduledBatch | None, request: Request) -> int:
    """Take a request's token out of a batch; its work stays in it. Return how many: 0 or 1."""
    if batch is None or not request.yields_in(batch.step):
        return 0
    if request in batch.completing:
        batch.completing = [r for r in batch.completing if r is not request]
    elif request in batch.irregular:
        batch.irregular = [r for r in batch.irregular if r is not request]
    else:
        batch.num_regular -= 1
    return 1
