"""An engine instance as the gateway sees it, and the counts the gateway keeps of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blis_sim.cluster.routing.base import Snapshot
from blis_sim.engine.assembly import make_instance
from blis_sim.engine.frontend import Frontend
from blis_sim.latency.base import Batch, PrefillChunk

if TYPE_CHECKING:
    from collections.abc import Callable

    import simpy

    from blis_sim.cluster.asked import Asked
    from blis_sim.cluster.config import PoolConfig
    from blis_sim.cluster.routing.base import Report
    from blis_sim.engine.kv_cache import CachedBlocks
    from blis_sim.engine.request import Request
    from blis_sim.metrics.recorder import Recorder
    from blis_sim.metrics.records import InstanceData


class LiveReport:
    """What an instance would report now, before the passes of this instant.

    Nothing is worked out that nobody asks for.

    Parameters
    ----------
    replica : Replica
        The instance.
    """

    __slots__ = ("_changes", "_instance", "_replica", "_until_us", "_used_blocks", "kv_blocks")

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._instance = replica.instance
        self.kv_blocks = replica.instance.scheduler.kv.num_blocks
        self._used_blocks = 0
        self._until_us = 0
        self._changes = 0

    @property
    def num_waiting(self) -> int:
        """Requests it was sent that are not in its running list."""
        replica = self._replica
        return replica.num_outstanding - replica.num_coming - len(self._instance.scheduler.running)

    @property
    def num_running(self) -> int:
        """Requests in its running list."""
        return len(self._instance.scheduler.running)

    @property
    def kv_used_blocks(self) -> int:
        """KV blocks held by requests."""
        instance, now_us = self._instance, self._replica.env.now
        if now_us >= self._until_us or instance.num_changes != self._changes:
            self._used_blocks, self._until_us = instance.kv_used_at(now_us)  # type: ignore[arg-type]
            self._changes = instance.num_changes
        return self._used_blocks

    @property
    def active_tokens(self) -> int:
        """Prompt tokens of all its requests, and the tokens generated for them so far."""
        replica = self._replica
        generated = self._instance.generated_by(int(replica.env.now))
        return replica.prompt_tokens + generated - replica.ended_tokens

    @property
    def num_sent(self) -> int:
        """Requests it has been sent, ever."""
        return self._replica.num_sent


class Replica:
    """One instance of a pool: a candidate of the router.

    Parameters
    ----------
    env : simpy.Environment
        The clock.
    index : int
        Number of the instance in the cluster, from 0.
    pool : PoolConfig
        What it is one of.
    record : InstanceData
        When it exists; owned by the replica from now on.
    recorder : Recorder
        Receives what happens.
    on_gone : callable
        Called with (replica, request, now_us) for each request that has left it.
    """

    def __init__(
        self,
        env: simpy.Environment,
        index: int,
        pool: PoolConfig,
        record: InstanceData,
        recorder: Recorder,
        on_gone: Callable[[Replica, Request, int], None],
    ) -> None:
        engine = pool.engine
        self.env = env
        self.index = index
        self.pool = pool
        self.record = record
        self.block_size = engine.block_size
        self.num_sent = 0
        self.num_outstanding = 0
        self.num_coming = 0
        """Of the outstanding ones, those whose prompt another instance still computes."""
        self.is_ready = False
        self._latency = pool.latency
        self._max_num_batched_tokens = engine.scheduler.max_num_batched_tokens
        self.prompt_tokens = 0
        """Of the requests that are here, with tokens generated for them elsewhere."""
        self.ended_tokens = 0
        """Generated here for requests that have left."""
        self._snapshot: Report | None = None
        self._cache_view: CachedBlocks | None = None
        self.frontend = Frontend()
        self.instance = make_instance(env, index, engine, pool.latency, recorder, self.frontend)
        self._tell_gone = on_gone
        self._live = LiveReport(self)
        self.instance.on_gone = self._gone
        self.instance.is_watched = True

    # -- what the gateway does ------------------------------------------------

    def expect(self, asked: Asked) -> None:
        """Count a request that will come when its prompt has been computed elsewhere."""
        self.num_sent += 1
        self.num_outstanding += 1
        self.num_coming += 1

    def send(self, request: Request, now_us: int) -> None:
        """Take in a request of the gateway."""
        self.num_sent += 1
        self.num_outstanding += 1
        self.prompt_tokens += request.prompt_tokens
        request.instance = self.index
        self.instance.scheduler.kv.register(request)
        enter_us = now_us + self._latency.queueing_time(request.spec)
        self.frontend.push(request, enter_us)
        self.instance.expect(enter_us)

    def welcome(self, request: Request) -> None:
        """Take note that an expected request is here, its KV cache on the way."""
        self.num_coming -= 1
        self.prompt_tokens += request.prompt_tokens + request.num_brought
        request.instance = self.index
        self.instance.scheduler.kv.register(request)

    def give_up(self) -> None:
        """Take note that an expected request will not come."""
        self.num_coming -= 1
        self.num_outstanding -= 1

    def left(self, request: Request, num_tokens: int) -> None:
        """Take note that a request has left, with so many tokens generated here for it."""
        self.num_outstanding -= 1
        self.prompt_tokens -= request.prompt_tokens + request.num_brought
        self.ended_tokens += num_tokens

    def _gone(self, request: Request, now_us: int) -> None:
        self.left(request, request.num_received - request.num_brought)
        self._tell_gone(self, request, now_us)

    # -- what it reports ------------------------------------------------------

    def report(self) -> Report:
        """Return what it has reported."""
        return self._snapshot or self._live

    def look(self) -> Report:
        """Return what it would report now, before the passes of this instant."""
        return self._live

    def take_snapshot(self) -> None:
        """Report as of the end of this instant; that is what is known until the next time."""
        self.instance.sync(int(self.env.now))
        live = self._live
        self._snapshot = Snapshot(
            num_waiting=live.num_waiting,
            num_running=live.num_running,
            kv_used_blocks=self.instance.scheduler.kv.num_used,
            kv_blocks=live.kv_blocks,
            active_tokens=live.active_tokens,
            num_sent=live.num_sent,
        )

    def take_cache_view(self) -> None:
        """Tell which blocks are cached now; that is what is known until the next time."""
        self.instance.sync(int(self.env.now))
        self._cache_view = self.instance.scheduler.kv.cached_blocks()

    def cached_prompt_tokens(self, asked: Asked) -> int:
        """Return how many leading tokens of the prompt its KV cache holds."""
        content = asked.content(self.block_size)
        kv = self.instance.scheduler.kv
        if not content or not kv.enable_prefix_caching:
            return 0
        at_most = (asked.prompt_tokens - 1) // self.block_size
        if self._cache_view is not None:
            return self._cache_view.num_leading(content, at_most) * self.block_size
        self.instance.sync_before_pass(int(self.env.now))
        return kv.num_leading(content, at_most) * self.block_size

    def expected_ttft_us(self, asked: Asked) -> int:
        """Return when its latency model expects the first token of a request, from now."""
        own = asked.prompt_tokens - self.cached_prompt_tokens(asked)
        return self._latency.queueing_time(asked) + self.prefill_time_us(own)

    def prefill_time_us(self, prompt_tokens: int) -> int:
        """Return how long the prompts queued here and another one take to compute.

        Full steps beside the decodes that run now, by the latency model. Cached prefixes of
        queued prompts are not known, seats are taken to be free.
        """
        instance = self.instance
        instance.sync_before_pass(int(self.env.now))
        num_decodes, context = instance.scheduler.decodes.going_on()
        budget = max(1, self._max_num_batched_tokens - num_decodes)
        full, rest = divmod(prompt_tokens + self._queued_prompt_tokens(), budget)
        total_us = 0
        for tokens, num_steps in ((budget, full), (rest, 1)):
            if tokens and num_steps:
                chunks = (PrefillChunk(0, tokens),)
                batch = Batch(num_decodes, context, chunks)
                total_us += num_steps * self._latency.step_time(batch)
        return total_us

    def _queued_prompt_tokens(self) -> int:
        scheduler = self.instance.scheduler
        tokens = 0
        for request in (*scheduler.prefilling, *scheduler.waiting.requests.values()):
            tokens += request.num_tokens - request.num_computed_tokens
        return tokens + sum(request.prompt_tokens for request in self.frontend.inside())

    # -- coming and going -----------------------------------------------------

    @property
    def is_starting(self) -> bool:
        """Whether it will take requests, and does not yet."""
        return not self.is_ready and self.record.drained_us is None

    def drain(self, now_us: int) -> None:
        """Take no more requests; stop when the last one has left."""
        self.is_ready = False
        self.record.drained_us = now_us
        self.stop_if_done(now_us)

    def stop_if_done(self, now_us: int) -> None:
        """Stop a drained instance that has nothing left to do."""
        record = self.record
        if record.drained_us is None or record.stopped_us is not None or self.num_outstanding:
            return
        if not self.instance.scheduler.kept.requests:
            record.stopped_us = now_us

    @property
    def is_stopped(self) -> bool:
        """Whether it exists no more."""
        return self.record.stopped_us is not None
