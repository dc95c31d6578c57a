"""Blocks that requests hold without running: a KV cache on its way from one instance to another.

::

    on the instance that sends      hold .................. let_go
    on the one that receives        reserve ... place ..... admitted like anybody who waits
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blis_sim.engine.kv_cache import NO_HIT
from blis_sim.engine.request import Request, State

if TYPE_CHECKING:
    from blis_sim.engine.scheduler import Scheduler


class KeptBlocks:
    """The blocks of an instance that belong to a prompt and to nobody in the running list.

    Parameters
    ----------
    scheduler : Scheduler
        Of the instance.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.requests: dict[int, Request] = {}
        """Whose they are, by number."""

    def hold(self, request: Request, now_us: int) -> bool:
        """Let a request leave the running list and keep its blocks; False if it has none left.

        It has none when it was preempted while its last step was in flight.
        """
        scheduler = self._scheduler
        if request.state is State.WAITING:
            scheduler.finish(request, now_us)
            return False
        del scheduler.running[request.seat]
        scheduler.running_us += now_us
        self.requests[request.request_id] = request
        request.state = State.TRANSFER
        return True

    def reserve(self, request: Request, now_us: int) -> int | None:
        """Take the blocks for a prompt that is computed elsewhere; return how many are not cached.

        None, with nothing taken, when they are not free, or when somebody waits for blocks
        who came before.
        """
        waiting = self._scheduler.waiting.requests.values()
        if any(not one.is_placed for one in waiting):
            return None
        kv = self._scheduler.kv
        hit = kv.lookup(request) if request.content else NO_HIT
        need = -(-request.prompt_tokens // kv.block_size) - hit.num_blocks
        if need > kv.num_free - hit.num_on_free_list:
            return None
        if hit is not NO_HIT:
            kv.pin(request, hit, now_us)
        kv.allocate(need, need * now_us)
        self.requests[request.request_id] = request
        request.num_computed_tokens = request.prompt_tokens
        return need

    def place(self, request: Request) -> None:
        """Make a reserved request ready to run: its KV cache is here.

        With no token generated the last one of the prompt is computed again, to sample.
        """
        if request.content:
            self._scheduler.kv.publish(request, request.prompt_tokens)
        request.num_computed_tokens = request.prompt_tokens - (not request.num_generated)
        request.is_placed = True

    def let_go(self, request: Request, now_us: int) -> None:
        """Return the blocks of a request that kept them without running."""
        self._release(request, now_us, keep=False)
        if request.has_private_extents:
            self._scheduler.kv.forget(request)

    def take_back(self, now_us: int) -> bool:
        """Take the blocks of the last placed request in the queue; it will be recomputed.

        For when nobody runs and the head lacks blocks, and when the only one who could be
        preempted is the one who needs a block: it would come back to where it is, and never get
        on. False when there is no such request.
        """
        scheduler = self._scheduler
        victim = next((r for r in scheduler.waiting.backwards() if r.is_placed), None)
        if victim is None:
            return False
        self._release(victim, now_us, keep=True)
        victim.is_placed = False
        victim.num_computed_tokens = 0
        scheduler.count_preemption(victim, now_us)
        return True

    def _release(self, request: Request, now_us: int, *, keep: bool) -> None:
        del self.requests[request.request_id]
        kv, tokens = self._scheduler.kv, request.prompt_tokens
        kv.release(request, -(-tokens // kv.block_size), tokens, now_us, keep=keep)
