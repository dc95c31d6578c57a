"""Runs of KV blocks, and the free list they lie on in LRU order."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable


class Extent:
    """Blocks [lo, hi) of one chain that are held, freed and evicted alike.

    ``key`` is the content they hold; None means anonymous: nobody can find them.
    ``successor`` leads to the part that was split off its end, if any.
    """

    __slots__ = ("hi", "key", "lo", "next", "prev", "refs", "successor")

    def __init__(self, key: Hashable | None, lo: int, hi: int) -> None:
        self.key = key
        self.lo = lo
        self.hi = hi
        self.refs = 0
        self.successor: Extent | None = None
        self.prev: Extent = self
        self.next: Extent = self

    def __repr__(self) -> str:
        return f"Extent({self.key!r}, {self.lo}, {self.hi}, refs={self.refs})"


class FreeList:
    """Free blocks in LRU order: a ring of extents around a sentinel."""

    __slots__ = ("end",)

    def __init__(self) -> None:
        self.end = Extent(None, 0, 0)
        """The sentinel: ``end.next`` is the head, evicted first, ``end.prev`` the tail."""

    def append(self, extent: Extent) -> None:
        """Put an extent at the tail; its last block is its first to be evicted."""
        self.insert_before(self.end, extent)

    def append_anonymous(self, num_blocks: int) -> None:
        """Put blocks nobody can find at the tail."""
        tail = self.end.prev
        if tail.key is None and tail is not self.end:
            tail.hi += num_blocks
        else:
            self.insert_before(self.end, Extent(None, 0, num_blocks))

    def insert_before(self, place: Extent, extent: Extent) -> None:
        """Put an extent directly ahead of another one."""
        before = place.prev
        extent.prev = before
        extent.next = place
        before.next = extent
        place.prev = extent

    def remove(self, extent: Extent) -> None:
        """Take an extent out of the list."""
        extent.prev.next = extent.next
        extent.next.prev = extent.prev
        extent.prev = extent.next = extent

    def take(self, num_blocks: int) -> list[Extent]:
        """Take blocks from the head; return the extents that are used up."""
        emptied: list[Extent] = []
        head = self.end.next
        while num_blocks:
            size = head.hi - head.lo
            if size > num_blocks:
                head.hi -= num_blocks
                break
            num_blocks -= size
            head.hi = head.lo
            emptied.append(head)
            following = head.next
            self.remove(head)
            head = following
        return emptied

    def count_blocks(self) -> int:
        """Return the blocks on the list."""
        total = 0
        extent = self.end.next
        while extent is not self.end:
            total += extent.hi - extent.lo
            extent = extent.next
        return total
