"""Batch formation: which tokens of which requests run in the next step.

The rules are vLLM V1's. Running requests come first, in list order, then waiting requests
from the head. Decodes are handled as a whole (:class:`DecodeSet`); the list is walked only
when its order decides something: the budget does not reach everybody, or the block pool is
dry and somebody must be preempted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blis_sim.engine.batch import ScheduledBatch, SchedulerSettings
from blis_sim.engine.decode_set import DecodeSet
from blis_sim.engine.kept_blocks import KeptBlocks
from blis_sim.engine.kv_cache import NO_HIT
from blis_sim.engine.request import NEVER, Request, State
from blis_sim.engine.waiting import make_waiting_queue
from blis_sim.engine.walk import Walk
from blis_sim.latency.base import PrefillChunk
from blis_sim.metrics.records import ABSENT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blis_sim.engine.kv_cache import KVCache


WAITING = State.WAITING
PREFILLING = State.PREFILLING
DECODING = State.DECODING
LAST_TOKEN = State.LAST_TOKEN
ENDED = State.ENDED


class Scheduler:
    """Forms the batches of one instance and owns its queues and blocks."""

    def __init__(self, settings: SchedulerSettings, kv: KVCache) -> None:
        self.settings = settings
        self.kv = kv
        self.decodes = DecodeSet(kv.block_size)
        self.running: dict[int, Request] = {}
        """The running list by seat; seats grow, so the order is that of admission."""
        self.waiting = make_waiting_queue(settings.policy)
        self.has_preempted = False
        """Whether the latest pass that formed nothing preempted somebody."""
        self.head_needs_blocks = False
        """Whether the latest pass refused the head of the queue for want of blocks."""
        self.running_us = 0
        """Integral of the running list's length, as KVCache.block_us."""
        self.waiting_us = 0
        """Integral of the waiting queue's length, as KVCache.block_us."""
        self.peak_running = 0
        self.peak_waiting = 0
        self.num_preemptions = 0
        self.prefix_queries_tokens = 0
        self.prefix_hits_tokens = 0
        self.recached_tokens = 0
        self.kept = KeptBlocks(self)
        """Blocks of requests that are not in the running list."""
        self.prefilling: list[Request] = []
        self.returning: list[Request] = []
        """Decodes left out of the latest step."""
        self._next_seat = 0
        self._unpaid_victims = 0

    def schedule(self, now_us: int, in_flight: ScheduledBatch | None) -> ScheduledBatch | None:
        """Form the next batch, or return None when there is nothing to run.

        Parameters
        ----------
        now_us : int
            The instant of the pass.
        in_flight : ScheduledBatch or None
            With asynchronous scheduling, the step that is running; its tokens count as
            computed and are not out yet.
        """
        decodes = self.decodes
        count, counter = decodes.count, decodes.counter
        batch = ScheduledBatch(counter, count, decodes.sum_offset + count * counter)
        budget: int | None = self.settings.max_num_batched_tokens - count
        if self.prefilling or self.returning or decodes.has_fillers:
            budget = self._schedule_all_running(batch, now_us)
        else:
            need = decodes.buckets[counter % decodes.block_size]
            if need <= self.kv.num_free:
                if need:
                    self.kv.allocate(need, need * now_us)
                decodes.counter = counter + 1
            else:
                budget = None
        if budget is None:
            budget = Walk(self, batch, in_flight, now_us).go()
        self.head_needs_blocks = False
        if self.waiting.requests and not batch.num_victims:
            self._admit(batch, budget, now_us)
        if not batch.num_decodes and not batch.prefills:
            self._unpaid_victims += batch.num_victims
            self.has_preempted = batch.num_victims > 0
            decodes.counter = counter
            return None
        if decodes.finish_at == decodes.counter:
            popped = decodes.pop_finished(batch.step)
            batch.finishing = sorted([*batch.finishing, *popped], key=lambda r: r.seat)
        if self._unpaid_victims:
            batch.num_victims += self._unpaid_victims
            self._unpaid_victims = 0
        return batch

    # -- running requests -----------------------------------------------------

    def _schedule_all_running(self, batch: ScheduledBatch, now_us: int) -> int | None:
        """Give every running request its tokens and return the budget left.

        None when that is not possible, or depends on the order of the list.
        """
        decodes, kv = self.decodes, self.kv
        size = decodes.block_size
        budget = self.settings.max_num_batched_tokens - decodes.count
        need = decodes.buckets[decodes.counter % size]
        chunks: list[int] | None = None
        if self.prefilling:
            chunks = self._plan_chunks(budget)
            if chunks is None:
                return None
            for request, tokens in zip(self.prefilling, chunks, strict=True):
                computed = request.num_computed_tokens
                need += -(-(computed + tokens) // size) + -computed // size
        if need:
            if need > kv.num_free:
                return None
            kv.allocate(need, need * now_us)
        decodes.counter += 1
        if self.returning:
            self.welcome_back(batch)
        fillers = decodes.filled_by_last(1) if decodes.has_fillers else []
        if chunks is not None:
            batch.was_disturbed = True
            for request, tokens in zip(list(self.prefilling), chunks, strict=True):
                if tokens:
                    if fillers:  # of equal blocks, the one that stands ahead is the older
                        self._publish(m for m in fillers if m.seat < request.seat)
                    self.continue_prefill(batch, request, tokens)
                    budget -= tokens
        if fillers:
            self._publish(fillers)
        return budget

    def _plan_chunks(self, budget: int) -> list[int] | None:
        """Return the tokens of each prefilling request, or None if order matters."""
        threshold = self.settings.long_prefill_token_threshold
        wants = [r.num_tokens - r.num_computed_tokens for r in self.prefilling]
        if threshold:
            wants = [min(want, threshold) for want in wants]
        if sum(wants) <= budget:
            return wants
        if not self._prefills_stand_last():
            return None
        chunks: list[int] = []
        for want in wants:
            tokens = min(want, budget)
            budget -= tokens
            chunks.append(tokens)
        return chunks

    def _prefills_stand_last(self) -> bool:
        missing = len(self.prefilling)
        for request in reversed(self.running.values()):
            if request.state is DECODING:
                return False
            if request.state is PREFILLING:
                missing -= 1
                if not missing:
                    break
        return True

    def welcome_back(self, batch: ScheduledBatch) -> None:
        """Find the decodes of this batch that were left out of the step before."""
        batch.irregular = [
            r for r in self.returning if r.state is DECODING and r.skipped_step == batch.step - 1
        ]
        batch.num_regular -= len(batch.irregular)
        batch.was_disturbed = True
        self.returning = []

    def publish_filled(self, num_steps: int) -> None:
        """Make the shareable blocks findable that decodes filled in the latest steps."""
        self._publish(self.decodes.filled_by_last(num_steps))

    def _publish(self, members: Iterable[Request]) -> None:
        for member in members:
            self.kv.publish(member, self.decodes.context(member))

    # -- waiting requests -----------------------------------------------------

    def _admit(self, batch: ScheduledBatch, budget: int, now_us: int) -> None:
        """Admit waiting requests from the head while seats, budget and blocks last."""
        settings, kv, waiting = self.settings, self.kv, self.waiting
        threshold, size = settings.long_prefill_token_threshold, kv.block_size
        num_seats = settings.max_num_seqs - len(self.running)
        while budget > 0 and num_seats > 0 and waiting.requests:
            request = waiting.head()
            if request.is_placed:
                if not self._admit_placed(batch, request, now_us):
                    return
                budget -= 1
                num_seats -= 1
                continue
            hit = NO_HIT
            if request.content or request.has_private_extents:
                hit = kv.lookup(request)
            cached = hit.num_blocks * size
            wanted = tokens = request.prompt_tokens + request.num_generated - cached
            if threshold and tokens > threshold:
                tokens = threshold
            if tokens > budget:
                if not settings.enable_chunked_prefill:
                    return
                tokens = budget
            need = -(-(cached + tokens) // size) - hit.num_blocks
            room = kv.num_free - hit.num_on_free_list
            if need > room or (
                settings.reserve_full_sequence
                and -(-(cached + wanted) // size) - hit.num_blocks > room
            ):
                self.head_needs_blocks = True
                return
            waiting.remove(request)
            if hit is not NO_HIT:
                kv.pin(request, hit, now_us)
            kv.allocate(need, need * now_us)
            self._seat(request, cached, now_us)
            if tokens < wanted:
                self.prefilling.append(request)
            self._compute(batch, request, tokens, wanted)
            budget -= tokens
            num_seats -= 1
            batch.was_disturbed = True

    def _admit_placed(self, batch: ScheduledBatch, request: Request, now_us: int) -> bool:
        """Admit a request whose prompt's blocks are here; False if it needs one more in vain."""
        kv, size = self.kv, self.kv.block_size
        computed = request.num_computed_tokens
        need = -(-(computed + 1) // size) + -request.prompt_tokens // size
        if need > kv.num_free:
            self.head_needs_blocks = True
            return False
        self.waiting.remove(request)
        del self.kept.requests[request.request_id]
        kv.allocate(need, need * now_us)
        self._take_seat(request, now_us)
        self._compute(batch, request, 1, 1)
        request.is_placed = False
        batch.was_disturbed = True
        return True

    def admit_alone(self, request: Request, need: int, now_us: int, end_us: int) -> None:
        """Carry out a step that advances all decodes and computes one whole new prompt.

        The caller has made sure that this is what a pass would form, and that the ``need``
        blocks for it are free; ``end_us`` is the step's end.
        """
        decodes, tokens = self.decodes, request.prompt_tokens
        self.kv.allocate(need, need * now_us)
        self.waiting.remove(request)
        self._seat(request, 0, now_us)
        request.join_step = counter = decodes.counter
        decodes.counter = counter + 1
        request.num_computed_tokens = tokens
        request.num_generated = 1
        request.first_token_us = request.last_token_us = end_us
        decodes.join(request)

    def _seat(self, request: Request, cached_tokens: int, now_us: int) -> None:
        """Put an admitted request at the end of the running list, with what it found cached."""
        self._take_seat(request, now_us)
        request.num_computed_tokens = cached_tokens
        if request.scheduled_us == ABSENT:
            request.scheduled_us = now_us
            request.cached_tokens = cached_tokens
            if self.kv.enable_prefix_caching:
                self.prefix_queries_tokens += request.prompt_tokens
                self.prefix_hits_tokens += cached_tokens
        else:
            request.join_step = request.last_step = NEVER
            request.recached_tokens += cached_tokens
            self.recached_tokens += cached_tokens

    def _take_seat(self, request: Request, now_us: int) -> None:
        """Move a request from the waiting queue to the end of the running list."""
        seat = request.seat = self._next_seat
        self._next_seat = seat + 1
        running = self.running
        running[seat] = request
        if len(running) > self.peak_running:
            self.peak_running = len(running)
        self.waiting_us += now_us
        self.running_us -= now_us
        request.state = PREFILLING

    def continue_prefill(self, batch: ScheduledBatch, request: Request, tokens: int) -> None:
        """Schedule the next tokens of a prefilling request."""
        wanted = request.num_tokens - request.num_computed_tokens
        if tokens == wanted:
            self.prefilling.remove(request)
        self._compute(batch, request, tokens, wanted)

    def _compute(self, batch: ScheduledBatch, request: Request, tokens: int, wanted: int) -> None:
        """Schedule tokens of a request whose blocks are allocated.

        With all it wanted it leaves the prefill phase: the step yields a token.
        """
        computed = request.num_computed_tokens
        if wanted == 1 and (request.num_generated or request.is_placed):
            batch.num_decodes += 1
            batch.sum_decode_context += computed
        else:
            batch.prefills = [*batch.prefills, PrefillChunk(computed, tokens)]
        request.num_computed_tokens = computed + tokens
        if request.content:
            self.kv.publish(request, request.num_computed_tokens)
        if tokens < wanted:
            return
        request.join_step = batch.step
        if request.output_limit:
            request.num_generated += 1
            batch.completing = [*batch.completing, request]
        if request.num_generated == request.output_limit:
            request.state = LAST_TOKEN
            request.last_step = batch.step
            batch.finishing = [*batch.finishing, request]
        else:
            self.decodes.join(request)

    def admits_newcomers(self) -> bool:
        """Whether someone entering during a run could be admitted at its next boundary.

        Nobody can while all seats are taken. Nor can anyone, first come first served, while
        others wait: the head stays refused for as long as the run.
        """
        if len(self.running) >= self.settings.max_num_seqs:
            return False
        return not (self.waiting.is_fcfs and self.waiting.requests)

    # -- departures -----------------------------------------------------------

    def finish(self, request: Request, now_us: int) -> None:
        """Let a request go whose last token is out."""
        if request.state is WAITING:  # it was preempted while its last token was in flight
            self.waiting.remove(request)
            self.waiting_us += now_us
            if request.is_placed:
                self.kept.let_go(request, now_us)
        else:
            del self.running[request.seat]
            self.running_us += now_us
            computed, kv = request.num_computed_tokens, self.kv
            num_held = -(-computed // kv.block_size)
            if request.content:
                kv.release(request, num_held, computed, now_us, keep=False)
            else:
                kv.release_private(num_held, now_us)
        if request.has_private_extents:
            self.kv.forget(request)
        request.state = ENDED

    def count_preemption(self, victim: Request, now_us: int) -> None:
        """Count a request that has lost its blocks: it ran, or waited with its prompt's."""
        victim.num_preemptions += 1
        self.num_preemptions += 1

    def note_waiting(self) -> None:
        """Note the length of the waiting queue, which has just grown."""
        num_waiting = len(self.waiting.requests)
        if num_waiting > self.peak_waiting:
            self.peak_waiting = num_waiting

    def remove(self, request: Request, now_us: int) -> None:
        """Let a request go, whatever it is doing."""
        state = request.state
        if state is DECODING:
            self.decodes.leave(request)
        elif state is PREFILLING:
            self.prefilling.remove(request)
        self.finish(request, now_us)

    def computed_tokens(self, request: Request) -> int:
        """Return a running request's scheduled tokens."""
        if request.state is DECODING:
            return self.decodes.context(request)
        return request.num_computed_tokens

    def check_integrity(self) -> None:
        """Check the block accounting; raises InvariantError."""
        holders = {r.request_id: (r, self.computed_tokens(r)) for r in self.running.values()}
        holders |= {number: (r, r.prompt_tokens) for number, r in self.kept.requests.items()}
        self.kv.check_integrity(holders)
