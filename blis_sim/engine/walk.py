"""A walk over the running list: for when its order decides something.

The budget does not reach everybody, or the block pool is dry and somebody must be preempted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blis_sim.config.engine import SchedulingPolicy
from blis_sim.engine.request import NEVER, Request, State

if TYPE_CHECKING:
    from blis_sim.engine.batch import ScheduledBatch
    from blis_sim.engine.scheduler import Scheduler


class Walk:
    """One pass over the running list, request by request.

    Parameters
    ----------
    scheduler : Scheduler
        Whose list it is.
    batch : ScheduledBatch
        What the pass forms.
    in_flight : ScheduledBatch or None
        With asynchronous scheduling, the step that is running.
    now_us : int
        The instant of the pass.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        batch: ScheduledBatch,
        in_flight: ScheduledBatch | None,
        now_us: int,
    ) -> None:
        self._scheduler = scheduler
        self._batch = batch
        self._in_flight = in_flight
        self._now_us = now_us
        self._budget = scheduler.settings.max_num_batched_tokens
        self._tokens: dict[int, int] = {}
        """Seat -> tokens given."""
        self._chunks: list[Request] = []
        self._skipped: list[Request] = []
        self._num_victims = 0

    def go(self) -> int:
        """Schedule the running list one by one; return the budget that is left."""
        scheduler, batch = self._scheduler, self._batch
        kv = scheduler.kv
        min_free = kv.min_free
        is_open = True
        for request in list(scheduler.running.values()):
            if request.state is State.LAST_TOKEN or request.seat not in scheduler.running:
                continue
            if is_open and self._budget > 0:
                is_open = self._place(request)
                if not is_open:
                    continue
            elif request.state is State.DECODING:
                self._skipped.append(request)
        batch.was_disturbed = True
        batch.num_victims = self._num_victims
        kv.min_free = min(min_free, kv.num_free)  # what victims held does not count
        self._carry_out()
        return self._budget

    def _place(self, request: Request) -> bool:
        """Find blocks for one running request; False when it had to give up itself."""
        scheduler, now_us = self._scheduler, self._now_us
        kv, kept = scheduler.kv, scheduler.kept
        size, threshold = kv.block_size, scheduler.settings.long_prefill_token_threshold
        if request.state is State.DECODING:
            computed, tokens = scheduler.decodes.context(request), 1
        else:
            computed = request.num_computed_tokens
            tokens = min(request.num_tokens - computed, self._budget)
            if threshold:
                tokens = min(tokens, threshold)
        need = -(-(computed + tokens) // size) + -computed // size
        while need > kv.num_free:
            victim = self._choose_victim()
            if victim is request and kept.requests and kept.take_back(now_us):
                self._num_victims += 1
                continue
            self._preempt(victim)
            if victim is request:
                return False
        kv.allocate(need, need * now_us)
        if request.content:
            kv.publish(request, computed + tokens)
        self._tokens[request.seat] = tokens
        self._budget -= tokens
        if request.state is State.PREFILLING:
            self._chunks.append(request)
        return True

    def _choose_victim(self) -> Request:
        scheduler = self._scheduler
        if scheduler.settings.policy == SchedulingPolicy.PRIORITY:
            # The number makes the order total: the most urgent request always gets on.
            return max(
                scheduler.running.values(),
                key=lambda r: (r.spec.priority, r.spec.arrival_us, r.request_id),
            )
        return next(reversed(scheduler.running.values()))

    def _preempt(self, victim: Request) -> None:
        """Take a running request's seat and blocks away; it will be recomputed."""
        scheduler, in_flight, now_us = self._scheduler, self._in_flight, self._now_us
        self._pause(victim)
        if victim.state is State.DECODING:
            scheduler.decodes.leave(victim)
        elif victim.state is State.PREFILLING:
            scheduler.prefilling.remove(victim)
        given = self._tokens.pop(victim.seat, 0)
        self._budget += given
        if given and victim in self._chunks:
            self._chunks.remove(victim)
        if victim in self._skipped:
            self._skipped.remove(victim)
        # As in vLLM, blocks given in this very pass are findable like the others.
        computed = victim.num_computed_tokens + given
        held = -(-computed // scheduler.kv.block_size)
        scheduler.kv.release(victim, held, computed, now_us, keep=True)
        del scheduler.running[victim.seat]
        scheduler.running_us += now_us
        scheduler.waiting_us -= now_us
        victim.num_computed_tokens = 0
        scheduler.count_preemption(victim, now_us)
        if in_flight is not None and victim.yields_in(in_flight.step):
            victim.last_step = in_flight.step
        else:
            victim.join_step = NEVER
        victim.state = State.WAITING
        scheduler.waiting.push_preempted(victim)
        scheduler.note_waiting()
        self._num_victims += 1

    def _pause(self, request: Request) -> None:
        """Note when a request that gets no token in this step had its latest one."""
        in_flight = self._in_flight
        if request.yields_in(self._batch.step - 1):
            if in_flight is None:
                request.last_token_us = self._now_us
            else:
                in_flight.pausing = [*in_flight.pausing, request]

    def _carry_out(self) -> None:
        """Compute what the walk has planned; who was passed over stays where it is."""
        scheduler, batch, skipped = self._scheduler, self._batch, self._skipped
        if self._num_victims and not self._tokens:
            # Nobody could be served: there is no step that anybody was left out of.
            batch.num_decodes = batch.num_regular = 0
            return
        decodes = scheduler.decodes
        for request in skipped:
            self._pause(request)
        batch.num_decodes = decodes.count - len(skipped)
        batch.sum_decode_context = decodes.sum_context - sum(decodes.context(r) for r in skipped)
        batch.num_regular = batch.num_decodes
        decodes.counter += 1
        for request in skipped:
            request.skipped_before = request.skipped_step
            request.skipped_step = batch.step
            decodes.postpone(request)
        if scheduler.returning:
            scheduler.welcome_back(batch)
        scheduler.returning = skipped
        scheduler.publish_filled(1)
        for request in self._chunks:
            scheduler.continue_prefill(batch, request, self._tokens[request.seat])
