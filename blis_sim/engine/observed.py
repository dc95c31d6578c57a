"""An instance that is observed, step by step: the same engine, and a log of what it does.

It goes by ordinary steps and by runs, of which every step is known; only the short way, which
adds up what it does, is not taken. The results are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blis_sim.engine.delivery import Delivery
from blis_sim.engine.instance import Instance
from blis_sim.engine.kv_cache import KVCache
from blis_sim.engine.request import Request, State
from blis_sim.engine.scheduler import Scheduler
from blis_sim.metrics.timeline import Change

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from blis_sim.engine.batch import ScheduledBatch, SchedulerSettings
    from blis_sim.engine.decode_run import DecodeRun
    from blis_sim.engine.kv_cache import Hit
    from blis_sim.metrics.recorder import Recorder
    from blis_sim.metrics.records import EngineCounters
    from blis_sim.metrics.timeline import InstanceLog


class ObservedKVCache(KVCache):
    """Logs every block taken and given back.

    Parameters
    ----------
    log : InstanceLog
        Receives it.
    num_blocks, block_size, enable_prefix_caching
        As for `KVCache`.
    """

    def __init__(
        self, log: InstanceLog, num_blocks: int, block_size: int, *, enable_prefix_caching: bool
    ) -> None:
        super().__init__(num_blocks, block_size, enable_prefix_caching=enable_prefix_caching)
        self._log = log
        self._moments: list[tuple[int, int]] = []

    def announce(self, moments: list[tuple[int, int]]) -> None:
        """Say when, and how many then, the blocks of the next allocation are taken."""
        self._moments = moments

    def allocate(self, num_blocks: int, moments_us: int) -> None:
        """Take blocks: all at one instant, or as announced."""
        super().allocate(num_blocks, moments_us)
        moments, self._moments = self._moments, []
        if num_blocks and not moments:
            moments = [(moments_us // num_blocks, num_blocks)]
        for now_us, need in moments:
            self._log.add_blocks(now_us, need)

    def pin(self, request: Request, hit: Hit, now_us: int) -> None:
        """Give a request the blocks its lookup found."""
        super().pin(request, hit, now_us)
        self._log.add_blocks(now_us, hit.num_on_free_list)

    def release_private(self, num_blocks: int, now_us: int) -> None:
        """Return blocks that nobody will find again."""
        super().release_private(num_blocks, now_us)
        self._log.add_blocks(now_us, -num_blocks)

    def release(
        self,
        request: Request,
        num_held_blocks: int,
        num_computed_tokens: int,
        now_us: int,
        *,
        keep: bool,
    ) -> None:
        """Return all blocks of a request that nobody else holds."""
        before = self.num_used
        super().release(request, num_held_blocks, num_computed_tokens, now_us, keep=keep)
        self._log.add_blocks(now_us, self.num_used - before)


class ObservedScheduler(Scheduler):
    """Logs who gets a seat and who loses it.

    Parameters
    ----------
    log : InstanceLog
        Receives it.
    settings, kv
        As for `Scheduler`.
    """

    def __init__(self, log: InstanceLog, settings: SchedulerSettings, kv: ObservedKVCache) -> None:
        super().__init__(settings, kv)
        self._log = log

    def _take_seat(self, request: Request, now_us: int) -> None:
        change = Change.PLACED if request.is_placed else Change.SEATED
        self._log.add_change(now_us, request, change)
        super()._take_seat(request, now_us)

    def count_preemption(self, victim: Request, now_us: int) -> None:
        """Count a request that has lost its blocks."""
        is_waiting = victim.state is State.WAITING
        change = Change.TAKEN_BACK if is_waiting else Change.PREEMPTED
        self._log.add_change(now_us, victim, change)
        super().count_preemption(victim, now_us)

    def finish(self, request: Request, now_us: int) -> None:
        """Let a request go whose last token is out."""
        self._log.add_change(now_us, request, Change.LEFT)
        super().finish(request, now_us)


class ObservedDelivery(Delivery):
    """Logs ordinary steps at their end.

    Parameters
    ----------
    log : InstanceLog
        Receives them.
    recorder, counters, token_us
        As for `Delivery`.
    """

    def __init__(
        self, log: InstanceLog, recorder: Recorder, counters: EngineCounters, token_us: int
    ) -> None:
        super().__init__(recorder, counters, token_us)
        self._log = log

    def deliver(self, batch: ScheduledBatch, now_us: int, gone: Sequence[Request]) -> None:
        """Record the tokens of the step that ends now, and the step."""
        log = self._log
        log.add_step(batch, batch.start_us, now_us)
        for request in batch.completing:
            if request.aborted_us >= now_us:
                log.add_change(now_us, request, Change.COMPUTED)
        super().deliver(batch, now_us, gone)


class ObservedInstance(Instance):
    """An instance whose every step is logged.

    Parameters
    ----------
    log : InstanceLog
        Receives what happens.
    kv : ObservedKVCache
        Its blocks.
    arguments
        As for `Instance`; its scheduler is an `ObservedScheduler`.
    """

    def __init__(self, log: InstanceLog, kv: ObservedKVCache, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._log = log
        self._kv = kv
        self._runs_ahead = False
        self._delivery = ObservedDelivery(log, self.recorder, self.counters, self._token_us)

    def _advance_run(
        self, run: DecodeRun, num_ended: int, ended_us: int, num_scheduled: int
    ) -> None:
        decodes = self.scheduler.decodes
        planned = num_scheduled - run.num_scheduled
        if planned > 0:
            first = run.num_scheduled - run.lead
            needs = enumerate(decodes.needs(planned), first)
            self._kv.announce([(run.end_of(step), need) for step, need in needs if need])
        if num_ended > run.num_ended:
            step = run.first_step + run.num_ended
            self._log.add_run(run, num_ended, decodes.sum_offset + decodes.count * step)
        super()._advance_run(run, num_ended, ended_us, num_scheduled)

    def _hand_over(self, request: Request, now_us: int) -> None:
        if request.state is not State.WAITING:  # else it leaves like others
            self._log.add_change(now_us, request, Change.LEFT)
        super()._hand_over(request, now_us)
