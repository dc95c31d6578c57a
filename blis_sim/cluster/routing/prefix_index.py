"""What a gateway remembers of the prompts it has sent to each instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blis_sim.engine.extents import Extent, FreeList
from blis_sim.errors import InvariantError

if TYPE_CHECKING:
    from collections.abc import Hashable

    from blis_sim.cluster.asked import Asked


class PrefixIndex:
    """The full blocks of the prompts sent to each instance, least recently sent ones forgotten.

    The gateway's own guess at what the instances have cached: it knows nothing of answers, of
    the size of their KV caches or of what they evicted. Of one prompt the last blocks are the
    first to be forgotten, so that what is left is a prefix. It is exact block by block, but
    blocks are kept as runs: work is O(segments of the prompt), amortised, and a prompt that no
    other can share is one number.

    Parameters
    ----------
    capacity_blocks : int
        Blocks remembered per instance, >= 1; private ones take up room too.
    """

    def __init__(self, capacity_blocks: int) -> None:
        self.capacity_blocks = capacity_blocks
        self._instances: dict[int, _SentPrompts] = {}

    def matched_blocks(self, asked: Asked, index: int, block_size: int) -> int:
        """Return how many leading blocks of the prompt were sent to an instance before.

        Parameters
        ----------
        asked : Asked
            The request.
        index : int
            Number of the instance.
        block_size : int
            Tokens per block there, always the same for one instance.
        """
        sent = self._instances.get(index)
        if sent is None:
            return 0
        known = sent.known
        prompt_blocks = asked.prompt_tokens // block_size
        position = 0
        for key, segment_end in asked.content(block_size):
            runs = known.get(key)
            if runs is None or not runs[-1].lo <= position < runs[0].hi:
                break
            position = min(runs[0].hi, segment_end, prompt_blocks)
        return position

    def add(self, asked: Asked, index: int, block_size: int) -> None:
        """Remember that the prompt was sent to an instance; parameters as above."""
        sent = self._instances.get(index)
        if sent is None:
            sent = self._instances[index] = _SentPrompts()
        prompt_blocks = asked.prompt_tokens // block_size
        pieces: list[tuple[Hashable, int, int]] = []
        begin = 0
        for key, segment_end in asked.content(block_size):
            end = min(segment_end, prompt_blocks)
            if end <= begin:
                break
            pieces.append((key, begin, end))
            begin = end
        sent.add_private(prompt_blocks - begin)
        for key, lo, hi in reversed(pieces):
            sent.renew(key, lo, hi)
        sent.shrink(self.capacity_blocks)

    def forget(self, index: int) -> None:
        """Forget what was sent to an instance."""
        self._instances.pop(index, None)

    def num_blocks(self, index: int) -> int:
        """Return how many blocks are remembered of an instance."""
        sent = self._instances.get(index)
        return 0 if sent is None else sent.num_blocks

    def check_integrity(self) -> None:
        """Check that blocks are counted rightly and within the capacity.

        Raises
        ------
        InvariantError
            When they are not.
        """
        for index, sent in self._instances.items():
            listed = sent.order.count_blocks()
            findable = sum(run.hi - run.lo for runs in sent.known.values() for run in runs)
            if not findable <= listed == sent.num_blocks <= self.capacity_blocks:
                raise InvariantError(
                    f"prefix index of instance {index}: {listed} blocks listed, {findable} "
                    f"findable, {sent.num_blocks} counted, {self.capacity_blocks} allowed"
                )


class _SentPrompts:
    """Runs of blocks sent to one instance, in the order in which they will be forgotten.

    A prompt renews the blocks it reaches. What an earlier one had further on in the same
    content is older, so the runs of a content lie like this, and lose their end first::

        block    0 ............. 10 ......... 25 .... 40
        runs[-1] | renewed last  |
        runs[0]                  | older      | eaten |
    """

    __slots__ = ("known", "num_blocks", "order")

    def __init__(self) -> None:
        self.known: dict[Hashable, list[Extent]] = {}
        """Runs by content, the furthest and oldest first."""
        self.order = FreeList()
        self.num_blocks = 0

    def add_private(self, num_blocks: int) -> None:
        """Add blocks that no other prompt has."""
        if num_blocks:
            self.order.append_anonymous(num_blocks)
            self.num_blocks += num_blocks

    def renew(self, key: Hashable, lo: int, hi: int) -> None:
        """Make blocks [lo, hi) of a content the last to be forgotten."""
        runs = self.known.setdefault(key, [])
        num_new = hi - lo
        while runs and runs[-1].lo < hi:
            run = runs[-1]
            if run.hi > hi:
                num_new -= hi - run.lo
                run.lo = hi
                break
            num_new -= run.hi - run.lo
            self.order.remove(runs.pop())
        renewed = Extent(key, lo, hi)
        runs.append(renewed)
        self.order.append(renewed)
        self.num_blocks += num_new

    def shrink(self, capacity_blocks: int) -> None:
        """Forget what is over the capacity."""
        excess = self.num_blocks - capacity_blocks
        if excess <= 0:
            return
        for forgotten in self.order.take(excess):
            if forgotten.key is not None:
                runs = self.known[forgotten.key]
                runs.remove(forgotten)
                if not runs:
                    del self.known[forgotten.key]
        self.num_blocks = capacity_blocks
