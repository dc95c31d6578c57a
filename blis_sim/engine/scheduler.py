"""Batch formation: which tokens of which requests run in the next step.

The rules are vLLM V1's. Running requests come first, in list order, then waiting requests
from the head. Decodes are handled as a whole (:class:`DecodeSet`); the list is walked only
when its order decides something: the budget does not reach everybody, or the block pool is
dry and somebody must be preempted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from blis_sim.config.scenario import SchedulingPolicy
from blis_sim.engine.decode_set import DecodeSet
from blis_sim.engine.request import NEVER, Request, State
from blis_sim.engine.waiting import make_waiting_queue
from blis_sim.latency.base import Batch, PrefillChunk

if TYPE_CHECKING:
    from blis_sim.engine.kv_cache import KVCache


@dataclass(frozen=True, slots=True)
class SchedulerSettings:
    """Limits of one instance; see the scenario's engine section for the meanings."""

    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    long_prefill_token_threshold: int = 0
    policy: SchedulingPolicy = SchedulingPolicy.FCFS
    enable_chunked_prefill: bool = True
    reserve_full_sequence: bool = False


@dataclass(slots=True)
class ScheduledBatch:
    """One step's work and who gets a token from it."""

    step: int
    work: Batch = field(default_factory=Batch)
    num_regular: int = 0
    """Decodes whose previous token came with the step before: their gap is this step."""
    irregular: list[Request] = field(default_factory=list)
    """Decodes that were left out of the step before."""
    completing: list[Request] = field(default_factory=list)
    """Requests whose prompt (or recomputation) completes: they yield a token, too."""
    finishing: list[Request] = field(default_factory=list)
    """Requests that end with this step, in running order."""
    pausing: list[Request] = field(default_factory=list)
    """Requests whose token of this step is their last for a while."""
    num_admitted: int = 0
    num_victims: int = 0
    num_skipped: int = 0
    start_us: int = 0
    end_us: int = 0

    @property
    def is_quiet(self) -> bool:
        """Whether the step only advances decodes, all of them in every step."""
        return not (
            self.work.prefills
            or self.completing
            or self.irregular
            or self.num_admitted
            or self.num_victims
            or self.num_skipped
        )


class _Plan:
    """What a walk over the running list has decided so far."""

    __slots__ = ("budget", "chunks", "num_victims", "skipped", "tokens")

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.tokens: dict[int, int] = {}
        """Seat -> tokens given."""
        self.chunks: list[Request] = []
        self.skipped: list[Request] = []
        self.num_victims = 0


class Scheduler:
    """Forms the batches of one instance and owns its queues and blocks."""

    def __init__(self, settings: SchedulerSettings, kv: KVCache) -> None:
        self.settings = settings
        self.kv = kv
        self.decodes = DecodeSet(kv.block_size)
        self.running: dict[int, Request] = {}
        """The running list by seat; seats grow, so the order is that of admission."""
        self.waiting = make_waiting_queue(settings.policy)
        self.next_step = 0
        self.head_needs_blocks = False
        """Whether the latest pass refused the head of the queue for want of blocks."""
        self.num_preemptions = 0
        self.prefix_queries_tokens = 0
        self.prefix_hits_tokens = 0
        self.recached_tokens = 0
        self._prefilling: list[Request] = []
        self._returning: list[Request] = []
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
        batch = ScheduledBatch(self.next_step)
        budget = self._schedule_all_running(batch)
        if budget is None:
            budget = self._walk_running(batch, in_flight, now_us)
        self.head_needs_blocks = False
        if not batch.num_victims:
            self._admit(batch, budget, now_us)
        if batch.num_regular == 0 and not batch.completing and not self._has_work(batch):
            self._unpaid_victims += batch.num_victims
            return None
        self._finish_batch(batch)
        return batch

    @staticmethod
    def _has_work(batch: ScheduledBatch) -> bool:
        return bool(batch.work.prefills or batch.work.num_decodes)

    def _finish_batch(self, batch: ScheduledBatch) -> None:
        """Close a batch: find who ends with it and give it its number."""
        step = batch.step
        popped = self.decodes.pop_finished()
        if popped:
            for request in popped:
                request.last_step = step
            batch.finishing.extend(popped)
            if len(batch.finishing) > len(popped):
                batch.finishing.sort(key=lambda r: r.seat)
        batch.num_victims += self._unpaid_victims
        self._unpaid_victims = 0
        self.next_step = step + 1

    # -- running requests -----------------------------------------------------

    def _schedule_all_running(self, batch: ScheduledBatch) -> int | None:
        """Give every running request its tokens and return the budget left.

        None when that is not possible, or depends on the order of the list.
        """
        decodes, kv = self.decodes, self.kv
        budget = self.settings.max_num_batched_tokens - decodes.count
        need = decodes.buckets[decodes.counter % decodes.block_size]
        chunks: list[int] = []
        if self._prefilling:
            fitting = self._plan_chunks(budget)
            if fitting is None:
                return None
            chunks = fitting
            size = kv.block_size
            for request, tokens in zip(self._prefilling, chunks, strict=True):
                computed = request.num_computed_tokens
                need += -(-(computed + tokens) // size) + -computed // size
        if need > kv.num_free:
            return None
        if need:
            kv.allocate(need)
        self._advance_decodes(batch)
        if chunks:
            for request, tokens in zip(list(self._prefilling), chunks, strict=True):
                if tokens:
                    self._compute(batch, request, tokens)
                    budget -= tokens
        return budget

    def _plan_chunks(self, budget: int) -> list[int] | None:
        """Return the tokens of each prefilling request, or None if order matters."""
        threshold = self.settings.long_prefill_token_threshold
        wants = [r.num_tokens - r.num_computed_tokens for r in self._prefilling]
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
        missing = len(self._prefilling)
        for request in reversed(self.running.values()):
            if request.state == State.DECODING:
                return False
            if request.state == State.PREFILLING:
                missing -= 1
                if not missing:
                    break
        return True

    def _advance_decodes(self, batch: ScheduledBatch) -> None:
        """Give every decode its token; the blocks are allocated."""
        decodes, work = self.decodes, batch.work
        work.num_decodes = batch.num_regular = decodes.count
        work.sum_decode_context = decodes.sum_context
        decodes.counter += 1
        if self._returning:
            batch.irregular = [r for r in self._returning if r.state == State.DECODING]
            batch.num_regular -= len(batch.irregular)
            self._returning = []
        self.publish_filled(1)

    def publish_filled(self, num_steps: int) -> None:
        """Make the shareable blocks findable that decodes filled in the latest steps."""
        for member in self.decodes.filled_by_last(num_steps):
            self.kv.publish(member, self.decodes.context(member))

    def _walk_running(
        self, batch: ScheduledBatch, in_flight: ScheduledBatch | None, now_us: int
    ) -> int:
        """Schedule the running list one by one, preempting when the pool is dry."""
        plan = _Plan(self.settings.max_num_batched_tokens)
        is_open = True
        for request in list(self.running.values()):
            if request.state == State.LAST_TOKEN or request.seat not in self.running:
                continue
            if is_open and plan.budget > 0:
                is_open = self._place(request, plan, batch, in_flight, now_us)
                if not is_open:
                    continue
            elif request.state == State.DECODING:
                plan.skipped.append(request)
        batch.num_victims = plan.num_victims
        self._carry_out(plan, batch, in_flight, now_us)
        return plan.budget

    def _place(
        self,
        request: Request,
        plan: _Plan,
        batch: ScheduledBatch,
        in_flight: ScheduledBatch | None,
        now_us: int,
    ) -> bool:
        """Find blocks for one running request; False when it had to give up itself."""
        size = self.kv.block_size
        if request.state == State.DECODING:
            computed, tokens = self.decodes.context(request), 1
        else:
            computed = request.num_computed_tokens
            tokens = min(request.num_tokens - computed, plan.budget)
            if self.settings.long_prefill_token_threshold:
                tokens = min(tokens, self.settings.long_prefill_token_threshold)
        need = -(-(computed + tokens) // size) + -computed // size
        while need > self.kv.num_free:
            victim = self._choose_victim()
            self._preempt(victim, plan, batch, in_flight, now_us)
            if victim is request:
                return False
        self.kv.allocate(need)
        plan.tokens[request.seat] = tokens
        plan.budget -= tokens
        if request.state == State.PREFILLING:
            plan.chunks.append(request)
        return True

    def _choose_victim(self) -> Request:
        if self.settings.policy == SchedulingPolicy.PRIORITY:
            return max(
                self.running.values(), key=lambda r: (r.spec.priority, r.spec.arrival_us)
            )
        return next(reversed(self.running.values()))

    def _preempt(
        self,
        victim: Request,
        plan: _Plan,
        batch: ScheduledBatch,
        in_flight: ScheduledBatch | None,
        now_us: int,
    ) -> None:
        """Take a running request's seat and blocks away; it will be recomputed."""
        self._pause(victim, batch, in_flight, now_us)
        if victim.state == State.DECODING:
            self.decodes.leave(victim)
        elif victim.state == State.PREFILLING:
            self._prefilling.remove(victim)
        given = plan.tokens.pop(victim.seat, 0)
        plan.budget += given
        if given and victim in plan.chunks:
            plan.chunks.remove(victim)
        if victim in plan.skipped:
            plan.skipped.remove(victim)
        computed = victim.num_computed_tokens
        held = -(-(computed + given) // self.kv.block_size)
        # Blocks given in this pass were never computed: they leave nothing to be found.
        self.kv.release(victim, held, computed, keep=True)
        del self.running[victim.seat]
        victim.num_computed_tokens = 0
        victim.num_preemptions += 1
        if in_flight is not None and victim.yields_in(in_flight.step):
            victim.last_step = in_flight.step
        else:
            victim.join_step = NEVER
        victim.state = State.WAITING
        self.waiting.push_preempted(victim)
        plan.num_victims += 1
        self.num_preemptions += 1

    def _pause(
        self,
        request: Request,
        batch: ScheduledBatch,
        in_flight: ScheduledBatch | None,
        now_us: int,
    ) -> None:
        """Note when a request that gets no token in this step had its latest one."""
        if request.yields_in(batch.step - 1):
            if in_flight is None:
                request.last_token_us = now_us
            else:
                in_flight.pausing.append(request)

    def _carry_out(
        self, plan: _Plan, batch: ScheduledBatch, in_flight: ScheduledBatch | None, now_us: int
    ) -> None:
        """Compute what a walk has planned; who was passed over stays where it is."""
        if plan.num_victims and not plan.tokens:
            return  # nobody could be served: there is no step anybody was left out of
        decodes = self.decodes
        for request in plan.skipped:
            self._pause(request, batch, in_flight, now_us)
        skipped_context = sum(decodes.context(r) for r in plan.skipped)
        for request in plan.skipped:
            request.skipped_step = batch.step
        self._advance_decodes_but(plan.skipped, skipped_context, batch)
        for request in plan.chunks:
            self._compute(batch, request, plan.tokens[request.seat])

    def _advance_decodes_but(
        self, skipped: list[Request], skipped_context: int, batch: ScheduledBatch
    ) -> None:
        if not skipped:
            self._advance_decodes(batch)
            return
        decodes, work = self.decodes, batch.work
        work.num_decodes = decodes.count - len(skipped)
        work.sum_decode_context = decodes.sum_context - skipped_context
        decodes.counter += 1
        for request in skipped:
            decodes.postpone(request)
        left_out = {r.seat for r in skipped}
        batch.irregular = [
            r for r in self._returning if r.state == State.DECODING and r.seat not in left_out
        ]
        batch.num_regular = work.num_decodes - len(batch.irregular)
        batch.num_skipped = len(skipped)
        self._returning = skipped
        self.publish_filled(1)

    # -- waiting requests -----------------------------------------------------

    def _admit(self, batch: ScheduledBatch, budget: int, now_us: int) -> None:
        """Admit waiting requests from the head while seats, budget and blocks last."""
        settings, kv = self.settings, self.kv
        threshold = settings.long_prefill_token_threshold
        size = kv.block_size
        while budget > 0 and len(self.running) < settings.max_num_seqs:
            request = self.waiting.head()
            if request is None:
                return
            hit = kv.lookup(request)
            cached = hit.num_blocks * size
            tokens = request.num_tokens - cached
            if threshold and tokens > threshold:
                tokens = threshold
            if tokens > budget:
                if not settings.enable_chunked_prefill:
                    return
                tokens = budget
            need = -(-(cached + tokens) // size) - hit.num_blocks
            room = kv.num_free - hit.num_on_free_list
            whole = -(-request.num_tokens // size) - hit.num_blocks
            if need > room or (settings.reserve_full_sequence and whole > room):
                self.head_needs_blocks = True
                return
            self.waiting.remove(request)
            kv.pin(request, hit)
            kv.allocate(need)
            self._seat(request, cached, now_us)
            self._compute(batch, request, tokens)
            budget -= tokens
            batch.num_admitted += 1

    def _seat(self, request: Request, cached_tokens: int, now_us: int) -> None:
        """Put an admitted request at the end of the running list."""
        request.seat = self._next_seat
        self._next_seat += 1
        self.running[request.seat] = request
        request.state = State.PREFILLING
        request.join_step = request.last_step = NEVER
        request.num_computed_tokens = cached_tokens
        self._prefilling.append(request)
        if request.scheduled_us is None:
            request.scheduled_us = now_us
            request.cached_tokens = cached_tokens
            if self.kv.enable_prefix_caching:
                self.prefix_queries_tokens += request.prompt_tokens
                self.prefix_hits_tokens += cached_tokens
        else:
            request.recached_tokens += cached_tokens
            self.recached_tokens += cached_tokens

    def _compute(self, batch: ScheduledBatch, request: Request, tokens: int) -> None:
        """Schedule tokens of a prefilling request whose blocks are allocated."""
        computed = request.num_computed_tokens
        wanted = request.num_tokens - computed
        if wanted == 1 and request.num_generated:
            batch.work.num_decodes += 1
            batch.work.sum_decode_context += computed
        else:
            batch.work.prefills.append(PrefillChunk(computed, tokens))
        request.num_computed_tokens = computed + tokens
        if request.content:
            self.kv.publish(request, request.num_computed_tokens)
        if tokens == wanted:
            self._complete_prefill(batch, request)

    def _complete_prefill(self, batch: ScheduledBatch, request: Request) -> None:
        self._prefilling.remove(request)
        request.join_step = batch.step
        if request.output_limit:
            request.num_generated += 1
            batch.completing.append(request)
        if request.num_generated == request.output_limit:
            request.state = State.LAST_TOKEN
            request.last_step = batch.step
            batch.finishing.append(request)
        else:
            self.decodes.join(request)

    # -- departures -----------------------------------------------------------

    def remove(self, request: Request) -> None:
        """Take a request that ends out of the running list or the waiting queue."""
        if request.state == State.WAITING:
            self.waiting.remove(request)
        else:
            if request.state == State.DECODING:
                self.decodes.leave(request)
            elif request.state == State.PREFILLING:
                self._prefilling.remove(request)
            del self.running[request.seat]
            held = -(-request.num_computed_tokens // self.kv.block_size)
            self.kv.release(request, held, request.num_computed_tokens, keep=False)
        self.kv.forget(request)
        request.state = State.ENDED

    def computed_tokens(self, request: Request) -> int:
        """Return a running request's scheduled tokens."""
        if request.state == State.DECODING:
            return self.decodes.context(request)
        return request.num_computed_tokens

    def check_integrity(self) -> None:
        """Check the block accounting; raises InvariantError."""
        self.kv.check_integrity(
            {r.request_id: (r, self.computed_tokens(r)) for r in self.running.values()}
        )
