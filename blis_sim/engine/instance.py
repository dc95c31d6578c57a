"""One engine instance: a SimPy process that runs one step after the other."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING

from blis_sim.engine.batch import ScheduledBatch
from blis_sim.engine.clock import Latch, Moment, Priority, order_key
from blis_sim.engine.delivery import Delivery
from blis_sim.engine.frontend import FAR_US
from blis_sim.engine.request import Request, State
from blis_sim.engine.run_ahead import RunAhead
from blis_sim.engine.run_planner import RunPlanner
from blis_sim.engine.scheduler import Scheduler
from blis_sim.errors import InvariantError
from blis_sim.metrics.records import ABSENT, EngineCounters, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Protocol

    import simpy

    from blis_sim.engine.decode_run import DecodeRun
    from blis_sim.engine.frontend import Frontend
    from blis_sim.latency.base import LatencyModel
    from blis_sim.metrics.recorder import Recorder

    class OnEnd(Protocol):
        """What `Instance` calls when a request's last token is out."""

        def __call__(self, request: Request, seen_us: int, *, is_answered: bool) -> None:
            """Take note of when its client has seen it, or left before."""


WAITING = State.WAITING
ENDED = State.ENDED
TRANSFER = State.TRANSFER
COMPLETED = Status.COMPLETED


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
    frontend : Frontend
        Says who enters the waiting queue when.
    async_scheduling : bool
        Fix the next batch at the start of the running step.
    coalesce : bool
        Take decode steps in runs; False = step by step, same results.
    """

    def __init__(
        self,
        env: simpy.Environment,
        index: int,
        scheduler: Scheduler,
        latency: LatencyModel,
        recorder: Recorder,
        frontend: Frontend,
        *,
        async_scheduling: bool = False,
        coalesce: bool = True,
    ) -> None:
        self.env = env
        self.index = index
        self.scheduler = scheduler
        self.latency = latency
        self.recorder = recorder
        self.frontend = frontend
        self.counters = EngineCounters(num_kv_blocks=scheduler.kv.num_blocks)
        self._lead = 1 if async_scheduling else 0
        self._coalesce = coalesce
        self.on_end: OnEnd | None = None
        """Told of each request whose last token is out."""
        self.on_gone: Callable[[Request, int], None] | None = None
        """Told of each request that has left the instance, and when."""
        self.on_handed_over: Callable[[Request, int], None] | None = None
        """Told of each request whose prompt is computed for another instance, and when."""
        self.on_boundary: Callable[[int], None] | None = None
        """Told of the ends of ordinary steps while ``awaited`` is set."""
        self.awaited: Request | None = None
        """Who waits outside for blocks here; between ordinary steps the answer stays no."""
        self.is_watched = False
        """Whether somebody acts on what it tells, perhaps at once."""
        self._runs_ahead = coalesce and not async_scheduling
        self._scheduling_us = latency.scheduling_time()
        self._preemption_us = latency.preemption_time()
        self._token_us = latency.output_token_time()
        self._step_end_key = order_key(Priority.STEP_END, index)
        self._scheduling_key = order_key(Priority.SCHEDULING, index)
        self._current: ScheduledBatch | None = None
        """The step in flight, unless it is part of a run; beside a run, the step before it."""
        self._pending: ScheduledBatch | None = None
        """With asynchronous scheduling, the batch fixed for the next step."""
        self._run: DecodeRun | None = None
        """The run in flight."""
        self._boundary: Latch | None = None
        """Fires at the end of the step or run the process waits for."""
        self._boundary_us = 0
        self._idle: Latch | None = None
        """Fires when the next request enters, while there is nothing to do."""
        self._aborting: list[Request] = []
        self.num_changes = 0
        """Grows with everything that happens here."""
        self._num_run_tokens = 0
        """Tokens of all runs so far: each is a decode's, in a batch, generated."""
        self._ahead = RunAhead(scheduler, latency, recorder, self._complete)
        self._delivery = Delivery(recorder, self.counters, self._token_us)
        self._planner = RunPlanner(scheduler, latency, frontend, self._lead)
        self._woken_us = 0
        """When the instance was last idle: from then on, one step has followed the other."""
        self.last_step_end_us = 0
        env.process(self._live())

    @property
    def is_empty(self) -> bool:
        """Whether no request is waiting or running."""
        return not self.scheduler.running and not self.scheduler.waiting.requests

    @property
    def is_done(self) -> bool:
        """Whether nobody is here and nobody will come."""
        return self.is_empty and self.frontend.next_entry_us == FAR_US

    @property
    def num_generated_tokens(self) -> int:
        """Tokens put out so far."""
        return (
            self.counters.num_generated_tokens
            + self._num_run_tokens
            + self._ahead.num_run_tokens
            + self._ahead.num_admitted
        )

    @property
    def num_tokens_ahead(self) -> int:
        """Tokens put out on the short way."""
        return self._ahead.num_run_tokens

    # -- the process ----------------------------------------------------------

    def _live(self) -> Generator[simpy.Event, object, None]:
        """Run step after step.

        The process waits for the end of a step only if another event comes first. While
        none does, nobody can look at the instance or change it, and it goes straight on;
        its own time ``now_us`` is then ahead of the clock.
        """
        env, frontend = self.env, self.frontend
        frontend.start()
        now_us = 0
        while True:
            if frontend.next_entry_us <= now_us:
                self._pull(now_us)
            if self._runs_ahead and self.awaited is None:
                now_us = self._run_ahead(now_us)
                if self.is_watched and env.peek() <= now_us:  # someone got an answer
                    yield Moment(env, now_us - int(env.now), self._scheduling_key)
                    if frontend.next_entry_us <= now_us:
                        self._pull(now_us)
            end_us = self._start_step(now_us)
            if end_us is None:
                self.counters.busy_us += now_us - self._woken_us
                self._woken_us = now_us
                now_us = self._woken_us = yield from self._wait_for_work()
                continue
            if frontend.next_arrival_us <= end_us:
                frontend.read_until(end_us)  # a deadline of theirs may be the next event
            if end_us < env.peek():
                now_us = end_us
            else:
                self._boundary_us = end_us
                self._boundary = Moment(env, end_us - int(env.now), self._step_end_key)
                yield self._boundary
                self._boundary = None
                now_us = self._boundary_us
            if self._lead and frontend.next_entry_us < now_us:
                self._pull(now_us - 1)  # a victim whose last token is out leaves after them
            self._end_step(now_us)
            if self.awaited is not None and self.on_boundary is not None:
                self.on_boundary(now_us)
            if env.peek() <= now_us:  # others act at this instant before scheduling
                yield Moment(env, now_us - int(env.now), self._scheduling_key)

    def _wait_for_work(self) -> Generator[simpy.Event, object, int]:
        """Wait, idle, for the next entry; return when it comes."""
        env, entry_us = self.env, self.frontend.next_entry_us
        if entry_us == FAR_US or entry_us >= env.peek():
            latch = self._idle = Latch(env)
            if entry_us < FAR_US:
                latch.fire(entry_us - int(env.now), self._scheduling_key)
            yield latch
            self._idle = None
            return int(env.now)
        return entry_us

    def _start_step(self, now_us: int) -> int | None:
        """Begin a step, or a run of steps, and return its end; None with nothing to do."""
        self.counters.num_events += 1
        self.num_changes += 1
        batch = self._next_batch(now_us)
        if batch is None:
            return None
        batch.start_us = now_us
        if self._coalesce:
            run = self._run = self._planner.run_from(batch, self._pending, self.awaited)
            if run is not None:
                return run.end_of(run.wake)
        self._current = batch
        end_us = now_us + self._with_scheduling(self.latency.step_time(batch))
        if batch.num_victims:
            end_us += self._preemption_us * batch.num_victims
        if batch.completing and self._coalesce and self._may_go_on(end_us):
            run = self._run = self._planner.run_after(batch, end_us)
            if run is not None:
                return run.end_of(run.wake)
        return end_us

    def _may_go_on(self, end_us: int) -> bool:
        """Whether the run after a step may be planned with it: nobody waits for its end."""
        if self._lead or self._aborting or self.awaited is not None:
            return False
        # Where no event comes first, the short way may lead on.
        return not (self._runs_ahead and end_us < self.env.peek())

    def _next_batch(self, now_us: int) -> ScheduledBatch | None:
        """Return the batch to start now, or None if the engine becomes idle.

        With asynchronous scheduling, also fix the one after it.
        """
        batch = self._pending
        if batch is None:
            batch = self.scheduler.schedule(now_us, None)
            while batch is None and self.scheduler.has_preempted:
                batch = self.scheduler.schedule(now_us, None)
            while batch is None and self.scheduler.kept.take_back(now_us):
                batch = self.scheduler.schedule(now_us, None)
            if batch is None:
                # With blocks kept for a transfer, its end will bring work.
                if not self.is_empty and not self.scheduler.kept.requests:
                    raise InvariantError(
                        f"instance {self.index} at {now_us} us has work and can run none of it"
                    )
                return None
        if self._lead:
            self._pending = self.scheduler.schedule(now_us, batch)
        return batch

    def _with_scheduling(self, step_us: int) -> int:
        if self._lead:
            return max(1, step_us, self._scheduling_us)
        return step_us + self._scheduling_us or 1

    def _end_step(self, now_us: int) -> None:
        """Deliver the tokens of the step that ends now; let go who is done or gone."""
        run, batch = self._run, self._current
        if run is not None:
            if batch is not None:
                self._end_first_step(run.start_us)
            batch = self._end_run(run, now_us)
        else:
            self._current = None
        self.last_step_end_us = now_us
        self.num_changes += 1
        if batch is not None:
            self._delivery.deliver(batch, now_us, self._aborting)
            for request in batch.finishing:
                if request.aborted_us >= now_us and request.state is not ENDED:
                    self._complete(request, now_us)
            if self._aborting:
                self._end_aborted(batch, now_us)

    # -- decode runs ----------------------------------------------------------

    def _run_ahead(self, now_us: int) -> int:
        """Take the short way for as long as it leads; return the time reached.

        It leads while nobody prefills or returns, and no event comes before the end of a
        stretch: the scheduler's pass could then only advance the decodes, or admit a lone
        newcomer.
        """
        scheduler, frontend, ahead, env = self.scheduler, self.frontend, self._ahead, self.env
        decodes, waiting = scheduler.decodes, scheduler.waiting.requests
        begin_us = now_us
        step_us = ahead.known_us.get(decodes.count)
        if step_us and now_us + step_us >= env.peek():
            return now_us  # not even one step is over before somebody acts
        while decodes.count and not (scheduler.prefilling or scheduler.returning):
            before_us = now_us
            if waiting:
                end_us = ahead.admit(now_us, frontend, env)
                if end_us is None:
                    break
                now_us = end_us
            else:
                now_us = ahead.decode(now_us, frontend, env)
                if now_us == before_us:
                    break
            if self.is_watched and env.peek() <= now_us:
                break
            if frontend.next_entry_us <= now_us:
                self._pull(now_us)
        if now_us > begin_us:
            self.last_step_end_us = now_us
            self.num_changes += 1
        return now_us

    def _end_first_step(self, end_us: int) -> None:
        """Deliver the tokens of the step before a run, which nobody ends with."""
        batch = self._current
        assert batch is not None
        self._current = None
        self.last_step_end_us = end_us
        self._delivery.deliver(batch, end_us, self._aborting)

    def _end_run(self, run: DecodeRun, now_us: int) -> ScheduledBatch | None:
        """Close a run at its wake; return its last ended step if that is still to be told.

        With asynchronous scheduling the run's last step becomes the pending batch.
        """
        decodes = self.scheduler.decodes
        last_step = run.first_step + run.num_steps - 1
        is_told = not self._aborting
        if is_told:
            self._advance_run(run, run.wake, now_us, run.num_steps)
        else:
            num_ended = run.wake - 1
            self._advance_run(run, num_ended, run.end_of(num_ended), run.num_steps)
        self._run = None
        if is_told and not run.lead:
            if decodes.finish_at == decodes.counter:
                for request in decodes.pop_finished(last_step):
                    self._complete(request, now_us)
            return None
        num_decodes = run.num_decodes
        context = decodes.sum_context - num_decodes
        last = ScheduledBatch(last_step, num_decodes, context)
        last.finishing = decodes.pop_finished(last_step)
        if run.lead:
            self._pending = last
            last = ScheduledBatch(last_step - 1, num_decodes, context - num_decodes)
        last.start_us = run.ended_us
        return None if is_told else last

    def _advance_run(
        self, run: DecodeRun, num_ended: int, ended_us: int, num_scheduled: int
    ) -> None:
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
            if decodes.has_fillers:
                scheduler.publish_filled(planned)
            run.num_scheduled = num_scheduled
        count = num_ended - run.num_ended
        if count > 0:
            self._num_run_tokens += count * run.num_decodes
            self.recorder.add_run(run, num_ended, self._token_us)
            run.num_ended = num_ended
            run.ended_us = self.last_step_end_us = ended_us

    def expect(self, enter_us: int) -> None:
        """Be ready for a request that enters at the given time, from now on."""
        if self._idle is not None:
            self._idle.fire(enter_us - int(self.env.now), self._scheduling_key)
        elif self._run is not None and self.scheduler.admits_newcomers():
            self._cut_run(enter_us)

    def _cut_run(self, now_us: int) -> None:
        """End the run in progress, if any, at the first boundary from now on."""
        run = self._run
        if run is None or self._boundary is None:
            return
        if not run.num_scheduled and now_us <= run.start_us:
            self._run, end_us = None, run.start_us  # its first pass is yet to come
        elif run.cut(now_us):
            end_us = run.end_of(run.wake)
        else:
            return
        if end_us < self._boundary_us:
            self._boundary_us = end_us
            self._boundary.fire(end_us - int(self.env.now), self._step_end_key)

    def sync(self, now_us: int) -> None:
        """Bring the instance to what the plain loop would show at the end of this instant."""
        self.sync_entries(now_us)
        run = self._run
        if run is not None and now_us >= run.start_us:
            if self._current is not None:
                self._end_first_step(run.start_us)
            ended = run.ended_by(now_us)
            num_scheduled = min(run.num_steps, ended + 1 + run.lead)
            self._advance_run(run, ended, run.end_of(ended), num_scheduled)

    def sync_before_pass(self, now_us: int) -> None:
        """Bring the instance to what the plain loop would show before this instant's pass.

        Steps that end now have ended, and none has been scheduled in their place.
        """
        if self.frontend.next_entry_us <= now_us:
            self._pull(now_us)
        run = self._run
        if run is not None and now_us >= run.start_us:
            if self._current is not None:
                self._end_first_step(run.start_us)
            ended = run.ended_by(now_us)
            num_scheduled = run.ended_by(now_us - 1) + 1 + run.lead
            if num_scheduled > run.num_scheduled or ended > run.num_ended:
                num_scheduled = min(run.num_steps, num_scheduled)
                self._advance_run(run, ended, run.end_of(ended), num_scheduled)

    def kv_used_at(self, now_us: int) -> tuple[int, int]:
        """Return (KV blocks used, until when), changing nothing.

        As `sync_before_pass` would show them. They stay so until before the instant in the
        second place, unless ``num_changes`` grows.
        """
        scheduler, run = self.scheduler, self._run
        kv = scheduler.kv
        num_used = kv.num_blocks - kv.num_free
        if run is None:
            return num_used, FAR_US
        if now_us < run.start_us:
            return num_used, run.start_us
        _, begun, until_us = run.progress(now_us)
        planned = begun + run.lead - run.num_scheduled
        if planned > 0:
            if run.sums_from != run.num_scheduled:
                run.sums_from = run.num_scheduled
                needs = scheduler.decodes.needs(run.num_steps - run.num_scheduled)
                run.sums = [0, *accumulate(needs)]
            num_used += run.sums[min(planned, run.num_steps - run.num_scheduled)]
        return num_used, until_us

    def generated_by(self, now_us: int) -> int:
        """Return the tokens put out by now."""
        run = self._run
        if run is None or now_us < run.start_us:
            return self.num_generated_tokens
        if self._current is not None:
            self._end_first_step(run.start_us)
        num_more = max(0, run.ended_by(now_us) - run.num_ended) * run.num_decodes
        return self.num_generated_tokens + num_more

    # -- blocks without a seat ------------------------------------------------

    def reserve(self, request: Request, now_us: int) -> int | None:
        """Take blocks for a request whose KV cache is to come, as `Scheduler.reserve`."""
        self.sync_before_pass(now_us)
        num_blocks = self.scheduler.kept.reserve(request, now_us)
        self.num_changes += 1
        self._cut_run(now_us)
        return num_blocks

    def receive(self, request: Request, now_us: int) -> None:
        """Let a reserved request in whose KV cache has come."""
        self.sync_before_pass(now_us)
        self.counters.num_transfers += 1
        self.scheduler.kept.place(request)
        self.frontend.push(request, now_us)
        self._cut_run(now_us)
        self.expect(now_us)

    def let_go(self, request: Request, now_us: int) -> None:
        """Take back the blocks of a request that kept them without running."""
        self.sync_before_pass(now_us)
        self.num_changes += 1
        self.scheduler.kept.let_go(request, now_us)
        self._cut_run(now_us)
        if self._idle is not None and not self.is_empty:
            self._idle.fire(now_us - int(self.env.now), self._scheduling_key)

    # -- comings and goings ---------------------------------------------------

    def _pull(self, now_us: int) -> None:
        """Let everyone into the waiting queue who has entered by now."""
        frontend, scheduler = self.frontend, self.scheduler
        waiting = scheduler.waiting
        while frontend.next_entry_us <= now_us:
            enter_us = frontend.next_entry_us
            request = frontend.pop()
            if request.state is ENDED:
                continue  # its client has left already
            request.state = WAITING
            if request.enqueued_us == ABSENT:
                request.enqueued_us = enter_us
            waiting.push(request)
            scheduler.waiting_us -= enter_us
        if len(waiting.requests) > scheduler.peak_waiting:
            scheduler.note_waiting()

    def sync_entries(self, now_us: int) -> None:
        """Let everyone in who has entered by now, between two boundaries."""
        self.frontend.read_until(now_us)
        self._pull(now_us)

    def abort(self, request: Request, now_us: int) -> None:
        """Let a waiting or running request go: the latter at the next step boundary."""
        if request.state is WAITING:
            if request.is_placed:
                self.sync_before_pass(now_us)  # steps took blocks before it gives its own back
            # A victim's last token may still be in flight.
            current = self._current
            num_dropped = current.drop_token(request) if current is not None else 0
            self._terminate(request, num_dropped, now_us)
            self._cut_run(now_us)
        elif self._current is not None or self._run is not None:
            request.aborted_us = now_us
            self._aborting.append(request)
            self._cut_run(now_us)
        else:
            self._terminate(request, self._drop_from_pending(request), now_us)

    def _drop_from_pending(self, request: Request) -> int:
        return 0 if self._pending is None else self._pending.drop_token(request)

    def _steps_in_flight(self, now_us: int) -> list[int]:
        """Return the numbers of the steps whose tokens are scheduled and not out."""
        run = self._run
        if self._current is not None:
            first = self._current.step
        elif run is not None:
            first = run.first_step + run.ended_by(now_us)
        else:
            return []
        return [first, first + 1][: 1 + self._lead]

    def _end_aborted(self, batch: ScheduledBatch, now_us: int) -> None:
        aborting = sorted(self._aborting, key=lambda r: r.request_id)
        self._aborting = []
        for request in aborting:
            if request.state is ENDED or request.state is TRANSFER:
                continue  # its last token came at the very instant its client left
            dropped = int(request.aborted_us < now_us and request.yields_in(batch.step))
            self._terminate(request, dropped + self._drop_from_pending(request), now_us)

    def _terminate(self, request: Request, num_dropped_tokens: int, now_us: int) -> None:
        """End a request whose client has gone."""
        self.num_changes += 1
        self.scheduler.remove(request, now_us)
        request.status = Status.TIMED_OUT if request.is_timeout else Status.ABORTED
        self._record(request, request.num_generated - num_dropped_tokens)
        if self.on_gone is not None:
            self.on_gone(request, now_us)

    def _complete(self, request: Request, now_us: int) -> None:
        """End a request whose last token is out."""
        if request.hands_over:
            self._hand_over(request, now_us)
            return
        self.scheduler.finish(request, now_us)
        token_us, num_tokens = self._token_us, request.output_limit
        if not num_tokens:
            request.first_token_us = now_us
        last_seen_us = now_us + num_tokens * token_us
        deadline_us = request.abort_deadline_us
        if deadline_us is not None and last_seen_us > deadline_us:
            request.status = Status.TIMED_OUT if request.is_timeout else Status.ABORTED
        else:
            request.status = COMPLETED
            request.last_seen_us = last_seen_us
            deadline_us = last_seen_us
        if self.on_end is not None:
            self.on_end(request, deadline_us, is_answered=request.status is COMPLETED)
        request.first_seen_us = request.first_token_us + token_us if num_tokens else now_us
        request.num_received = num_tokens
        request.instance = self.index
        self.recorder.end(request)
        if self.on_gone is not None:
            self.on_gone(request, now_us)

    def _hand_over(self, request: Request, now_us: int) -> None:
        """Let a request go on elsewhere: its prompt is computed."""
        self.scheduler.kept.hold(request, now_us)
        assert self.on_handed_over is not None
        self.on_handed_over(request, now_us)

    def _record(self, request: Request, num_tokens: int) -> None:
        """Record a request that did not complete."""
        if request.first_token_us != ABSENT:
            request.first_seen_us = request.first_token_us + self._token_us
        request.num_received = num_tokens
        request.instance = self.index
        self.recorder.end(request)

    # -- the end --------------------------------------------------------------

    def counters_at(self, now_us: int) -> EngineCounters:
        """Return the counters as they stand at the end of this instant."""
        self.sync(now_us)
        counters = replace(self.counters)
        is_busy = self._current is not None or self._run is not None
        self._close_books(counters, now_us, now_us if is_busy else self.last_step_end_us)
        return counters

    def _close_books(self, counters: EngineCounters, now_us: int, busy_until_us: int) -> None:
        """Add to the counters what is kept elsewhere while the simulation runs."""
        scheduler = self.scheduler
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
        counters.batch_requests += self._num_run_tokens
        self._ahead.add_to(counters)
        counters.batch_tokens = counters.num_decode_tokens + counters.num_prefill_tokens
        counters.peak_kv_blocks = kv.num_blocks - kv.min_free
        counters.peak_running = scheduler.peak_running
        counters.peak_waiting = scheduler.peak_waiting
        steps = self._steps_in_flight(now_us)
        counters.num_steps = steps[0] if steps else scheduler.decodes.counter
        counters.busy_us += max(0, busy_until_us - self._woken_us)

    def finalize(self, now_us: int) -> None:
        """Close the books at the end of the simulation and record who is still here."""
        self.sync(now_us)
        self._ahead.close()
        scheduler, kv = self.scheduler, self.scheduler.kv
        self._close_books(self.counters, now_us, self.last_step_end_us)
        steps = self._steps_in_flight(now_us)
        scheduler.check_integrity()
        for request in list(scheduler.running.values()):
            if request.state == State.DECODING:
                scheduler.decodes.leave(request)
            self._record_unfinished(request, Status.RUNNING, steps)
        for request in scheduler.waiting.requests.values():
            self._record_unfinished(request, Status.WAITING, steps)
        if self.is_empty and not scheduler.kept.requests and kv.num_used:
            raise InvariantError(f"{kv.num_used} KV blocks are still held on an empty instance")

    def _record_unfinished(self, request: Request, status: Status, in_flight: list[int]) -> None:
        request.status = status
        self._record(request, request.num_generated - sum(request.yields_in(s) for s in in_flight))
