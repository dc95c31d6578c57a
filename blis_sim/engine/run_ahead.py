"""The short way through the commonest work: decoding, and lone newcomers.

Everything here could be done by the scheduler, step by step; it is done here because a
simulation spends most of its time on it. The conditions say where the result is certain to
be the same: with asynchronous scheduling, chunks, prefix hits, several newcomers at once or
a dry pool, the ordinary way is taken.
"""

from __future__ import annotations

from operator import mul
from typing import TYPE_CHECKING

from blis_sim.latency.base import Batch, PrefillChunk
from blis_sim.units import US_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable

    import simpy

    from blis_sim.engine.frontend import Frontend
    from blis_sim.engine.request import Request
    from blis_sim.engine.scheduler import Scheduler
    from blis_sim.latency.base import LatencyModel
    from blis_sim.metrics.recorder import Recorder
    from blis_sim.metrics.records import EngineCounters


class RunAhead:
    """Runs steps of one synchronous instance while nobody can look at it.

    Parameters
    ----------
    scheduler, latency, recorder
        The instance's own.
    complete : callable
        Ends a request whose last token is out at the given time.
    num_run_tokens : int
        Tokens put out here so far, each a decode's; kept apart from the counters.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        latency: LatencyModel,
        recorder: Recorder,
        complete: Callable[[Request, int], None],
    ) -> None:
        self._scheduler = scheduler
        self._latency = latency
        self._recorder = recorder
        self._complete = complete
        self._scheduling_us = latency.scheduling_time()
        self._token_us = latency.output_token_time()
        self.known_us: dict[int, int] = {}
        """Step time by number of decodes, where it depends on nothing else."""
        self.num_run_tokens = 0
        self.num_stretches = 0
        self.num_admitted = 0
        """Lone newcomers: each is a step, a request in its batch and a token."""
        self.num_prefill_tokens = 0
        settings = scheduler.settings
        self._max_num_seqs = settings.max_num_seqs
        self._max_num_batched_tokens = settings.max_num_batched_tokens
        self._longest_chunk = (
            settings.long_prefill_token_threshold or settings.max_num_batched_tokens
        )
        self._batch = Batch()
        self._second_end_us = US_PER_S
        """End of the second of simulated time whose tokens are being counted."""
        self._second_tokens = 0

    def uniform_us(self, num_decodes: int) -> int:
        """Return the duration of a step of so many decodes, 0 if that alone does not say."""
        known_us = self.known_us.get(num_decodes)
        if known_us is None:
            step_us = self._latency.uniform_decode_time(Batch(num_decodes, 0))
            known_us = 0 if step_us is None else (step_us + self._scheduling_us or 1)
            self.known_us[num_decodes] = known_us
        return known_us

    # The one hot loop: a call here costs more than the work it would set apart.
    def decode(  # noqa: C901, PLR0912, PLR0915
        self, now_us: int, frontend: Frontend, env: simpy.Environment
    ) -> int:
        """Decode in whole stretches of equal steps; return the time reached.

        A stretch ends with the next finish or at the first boundary from the next entry on;
        it is taken only if it ends before the next event.
        """
        scheduler = self._scheduler
        decodes, kv, recorder = scheduler.decodes, scheduler.kv, self._recorder
        buckets, size, gaps = decodes.buckets, decodes.block_size, recorder.gaps
        known_us, token_us = self.known_us, self._token_us
        num_tokens = num_stretches = 0
        if now_us >= self._second_end_us:
            self._tell_second(now_us)
        second_end_us, second_tokens = self._second_end_us, self._second_tokens
        entry_us, event_us = frontend.next_entry_us, env.peek()
        while entry_us > now_us and decodes.count:
            count, counter = decodes.count, decodes.counter
            num_steps = decodes.finish_at - counter
            step_us = known_us.get(count) or self.uniform_us(count)
            if not step_us or count * (num_steps // size + 1) > kv.num_free:
                break
            end_us = now_us + num_steps * step_us
            if end_us > entry_us:
                num_steps = (entry_us - now_us + step_us - 1) // step_us
                end_us = now_us + num_steps * step_us
            if frontend.next_arrival_us <= end_us:
                frontend.read_until(end_us)  # a deadline of theirs may be the next event
                event_us = env.peek()
            if end_us >= event_us:
                break
            start = counter % size
            needs = buckets[start : start + num_steps]
            if len(needs) < num_steps:
                needs = decodes.needs(num_steps)
            num_blocks = sum(needs)
            if num_blocks:
                weighted = sum(map(mul, needs, range(num_steps)))
                kv.allocate(num_blocks, num_blocks * now_us + weighted * step_us)
            decodes.counter = counter = counter + num_steps
            if decodes.has_fillers:
                scheduler.publish_filled(num_steps)
            tokens = num_steps * count
            num_tokens += tokens
            gaps[step_us + token_us] += tokens
            if end_us < second_end_us:
                second_tokens += tokens
            else:
                self._second_tokens = second_tokens
                self._tell_second(end_us)
                second_end_us, second_tokens = self._second_end_us, 0
                recorder.add_steps(now_us, step_us, num_steps, count)
            now_us = end_us
            num_stretches += 1
            if decodes.finish_at == counter:
                for request in decodes.pop_finished(counter - 1):
                    self._complete(request, now_us)
                event_us = env.peek()  # a client may send the next one
        if num_tokens:
            self.num_run_tokens += num_tokens
            self.num_stretches += num_stretches
            self._second_tokens = second_tokens
        return now_us

    def _tell_second(self, now_us: int) -> None:
        """Record the tokens kept for the second that is over; begin the one of ``now_us``."""
        if self._second_tokens:
            self._recorder.add_tokens(self._second_end_us - 1, self._second_tokens)
        self._second_tokens = 0
        self._second_end_us = now_us - now_us % US_PER_S + US_PER_S

    def admit(self, now_us: int, frontend: Frontend, env: simpy.Environment) -> int | None:
        """Do the step that admits a lone newcomer with its whole prompt; return its end.

        None, with nothing done, where the step is any less simple than that, or an event
        comes before its end.
        """
        scheduler = self._scheduler
        decodes, waiting = scheduler.decodes, scheduler.waiting
        request = waiting.head()
        tokens, count, counter = request.prompt_tokens, decodes.count, decodes.counter
        need = decodes.buckets[counter % decodes.block_size] - -tokens // decodes.block_size
        if (
            len(waiting.requests) > 1
            or need > scheduler.kv.num_free
            or tokens + count > self._max_num_batched_tokens
            or tokens > self._longest_chunk
            or count >= self._max_num_seqs
            or request.content
            or request.num_preemptions
            or request.is_placed
            or request.output_limit < 2
            or decodes.finish_at == counter + 1
            or decodes.has_fillers
        ):
            return None
        batch = self._batch
        batch.num_decodes = count
        batch.sum_decode_context = decodes.sum_offset + count * counter
        batch.prefills = (PrefillChunk(0, tokens),)
        step_us = self._latency.step_time(batch) + self._scheduling_us or 1
        end_us = now_us + step_us
        if frontend.next_arrival_us <= end_us:
            frontend.read_until(end_us)
        if end_us >= env.peek():
            return None
        scheduler.admit_alone(request, need, now_us, end_us)
        self.num_admitted += 1
        self.num_prefill_tokens += tokens
        self.num_run_tokens += count
        recorder = self._recorder
        recorder.gaps[step_us + self._token_us] += count
        recorder.add_tokens(end_us, count + 1)
        return end_us

    def close(self) -> None:
        """Record what is kept, at the end of the simulation."""
        self._tell_second(self._second_end_us)

    def add_to(self, counters: EngineCounters) -> None:
        """Add what was done here to the instance's counters."""
        counters.num_events += self.num_stretches + self.num_admitted
        counters.num_prefill_tokens += self.num_prefill_tokens
        counters.num_decode_tokens += self.num_run_tokens
        counters.num_generated_tokens += self.num_run_tokens + self.num_admitted
        counters.batch_requests += self.num_run_tokens + self.num_admitted
