"""All running requests that decode, kept as sums.

In an ordinary step every decode advances by one token, so nothing is stored per request
that changes with the step. A counter counts the steps; a member's context is
``offset + counter``::

    counter  ...  c      c+1    c+2   ...  finish_key
    context      s      s+1    s+2   ...  last token scheduled

Only ``context mod block_size`` decides when a member needs a block, so members are counted
by the counter residue at which they do.
"""

from __future__ import annotations

from collections import Counter
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from blis_sim.engine.kv_cache import UNBOUNDED
from blis_sim.engine.request import State

if TYPE_CHECKING:
    from collections.abc import Hashable

    from blis_sim.engine.request import Request

FAR = 1 << 62
"""A counter that is never reached."""
DECODING = State.DECODING
LAST_TOKEN = State.LAST_TOKEN


class DecodeSet:
    """The decoding members of one instance.

    Parameters
    ----------
    block_size : int
        Tokens per KV block, >= 1.
    """

    __slots__ = (
        "_filling",
        "_filling_keys",
        "_finish_heap",
        "block_size",
        "buckets",
        "count",
        "counter",
        "finish_at",
        "has_fillers",
        "sum_offset",
    )

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self.counter = 0
        self.count = 0
        self.sum_offset = 0
        self.buckets = [0] * block_size
        """Members that need a new block when ``counter % block_size`` is the index."""
        self.finish_at = FAR
        """The counter at which the next member's last token is scheduled."""
        self.has_fillers = False
        """Whether any member's answer has ever been shareable."""
        self._finish_heap: list[tuple[int, int, Request]] = []
        self._filling: list[dict[int, Request]] = [{} for _ in range(block_size)]
        """Members whose answers others can share, by the counter residue at which a step
        fills one of their blocks."""
        self._filling_keys: Counter[Hashable] = Counter()

    @property
    def sum_context(self) -> int:
        """Sum of the members' computed tokens before the next step."""
        return self.sum_offset + self.count * self.counter

    def join(self, request: Request) -> None:
        """Add a request whose computed tokens are all of its tokens but the newest."""
        offset = request.num_computed_tokens - self.counter
        request.offset = offset
        request.state = DECODING
        key = request.output_limit + request.prompt_tokens - 1 - offset
        request.finish_key = key
        if key < self.finish_at:
            self.finish_at = key
        self.count += 1
        self.sum_offset += offset
        self.buckets[-offset % self.block_size] += 1
        heappush(self._finish_heap, (key, request.seat, request))
        if request.hashable_blocks == UNBOUNDED:
            self.has_fillers = True
            self._filling[(-offset - 1) % self.block_size][request.seat] = request
            self._filling_keys[request.content[-1].key] += 1

    def leave(self, request: Request) -> None:
        """Remove a member; its own counts are made current. The caller sets its state."""
        self._remove(request)
        if request.finish_key == self.finish_at:
            self._find_next_finish()

    def _remove(self, request: Request) -> None:
        offset = request.offset
        self.count -= 1
        self.sum_offset -= offset
        self.buckets[-offset % self.block_size] -= 1
        request.num_computed_tokens = computed = offset + self.counter
        request.num_generated = computed + 1 - request.prompt_tokens
        request.state = LAST_TOKEN
        if request.hashable_blocks == UNBOUNDED:
            del self._filling[(-offset - 1) % self.block_size][request.seat]
            key = request.content[-1].key
            self._filling_keys[key] -= 1
            if not self._filling_keys[key]:
                del self._filling_keys[key]

    def postpone(self, request: Request) -> None:
        """Undo the latest step for one member: it got no token in it."""
        self.leave(request)
        request.num_computed_tokens -= 1
        request.num_generated -= 1
        self.join(request)

    def context(self, request: Request) -> int:
        """Return a member's computed tokens before the next step."""
        return request.offset + self.counter

    def _find_next_finish(self) -> None:
        """Skip heap entries of requests that have left or were postponed."""
        heap = self._finish_heap
        while heap:
            key, seat, request = heap[0]
            if request.state is DECODING and request.finish_key == key and request.seat == seat:
                self.finish_at = key
                return
            heappop(heap)
        self.finish_at = FAR

    def pop_finished(self, step: int) -> list[Request]:
        """Remove and return, in running order, the members whose last token is scheduled.

        ``step`` is the step that yields it.
        """
        finished: list[Request] = []
        heap, counter = self._finish_heap, self.counter
        while heap and heap[0][0] <= counter:
            key, seat, request = heappop(heap)
            if request.state is DECODING and request.finish_key == key and request.seat == seat:
                self._remove(request)
                request.last_step = step
                finished.append(request)
        self._find_next_finish()
        return finished

    def going_on(self) -> tuple[int, int]:
        """Return (number, sum of context) of the members in the next step.

        A run pops those whose last token is scheduled at its end only; they do not count.
        """
        count, context = self.count, self.sum_context
        if self.finish_at <= self.counter:
            for key, seat, request in self._finish_heap:
                if (
                    key <= self.counter
                    and request.state is DECODING
                    and (request.finish_key, request.seat) == (key, seat)
                ):
                    count -= 1
                    context -= self.context(request)
        return count, context

    def is_filling(self, key: Hashable) -> bool:
        """Return whether a member is adding blocks to this shared content."""
        return self._filling_keys[key] > 0

    def filled_by_last(self, num_steps: int) -> list[Request]:
        """Return the members with shareable answers that filled a block in the latest steps.

        Longest context first: of one content, the member that is ahead fills each block
        first.
        """
        if not self.has_fillers:
            return []
        size, counter = self.block_size, self.counter
        residues = range(counter - min(num_steps, size), counter)
        members = [m for r in residues for m in self._filling[r % size].values()]
        members.sort(key=lambda m: (-m.offset, m.seat))
        return members

    def needs(self, num_steps: int) -> list[int]:
        """Return the new blocks of each of the next ``num_steps`` steps."""
        start = self.counter % self.block_size
        window = self.buckets[start : start + num_steps]
        if len(window) == num_steps:
            return window
        cycle = self.buckets[start:] + self.buckets[:start]
        cycles, rest = divmod(num_steps, self.block_size)
        return cycle * cycles + cycle[:rest]

    def steps_within(self, num_free_blocks: int, limit: int) -> int:
        """Return how many of the next ``limit`` steps the free blocks suffice for."""
        if self.count * (limit // self.block_size + 1) <= num_free_blocks:
            return limit
        steps = 0
        if self.count:
            cycles = min(num_free_blocks // self.count, limit // self.block_size)
            num_free_blocks -= cycles * self.count
            steps = cycles * self.block_size
        for need in self.needs(min(self.block_size, limit - steps)):
            if need > num_free_blocks:
                break
            num_free_blocks -= need
            steps += 1
        return steps
