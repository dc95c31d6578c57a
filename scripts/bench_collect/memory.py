"""How many copies of its buffers a point rotates through, and whether they fit."""

from __future__ import annotations

from dataclasses import dataclass

from .points import Point

MAX_COPIES = 512
CACHE_FACTOR = 2
"""Other copies that pass through the L2 cache before one is used again, in sizes of the cache."""
STREAM_FACTOR = 32
"""A buffer this many times the cache leaves at most 3 % of itself there: one copy will do."""
WORKSPACE_BYTES = 512 * 2**20
"""Left for workspaces of the libraries, partial results of split attention and graphs."""
USABLE_FRAC = 0.9


def num_copies(rotating_bytes: int, l2_bytes: int) -> int:
    """Return how many copies of the rotating buffers to make.

    Between two uses of one copy the others pass, together more than twice the L2 cache, so that
    it is gone from there. At most ``MAX_COPIES``: fewer bytes than that can rotate without reuse
    within one repetition, see ``timing.Schedule``.
    """
    if rotating_bytes == 0 or rotating_bytes >= STREAM_FACTOR * l2_bytes:
        return 1
    others = -(-(CACHE_FACTOR * l2_bytes + 1) // rotating_bytes)
    return min(MAX_COPIES, 1 + others)


def outlasts_cache(rotating_bytes: int, copies: int, l2_bytes: int) -> bool:
    """Whether the copies may be gone through more than once without meeting them in the L2."""
    if rotating_bytes == 0 or rotating_bytes >= STREAM_FACTOR * l2_bytes:
        return True
    return (copies - 1) * rotating_bytes > CACHE_FACTOR * l2_bytes


@dataclass(frozen=True, slots=True)
class Memory:
    """What the GPU has: bytes free at the start, and the size of its L2 cache."""

    free_bytes: int
    l2_bytes: int

    @property
    def usable_bytes(self) -> int:
        return int(USABLE_FRAC * self.free_bytes)

    def needed_bytes(self, point: Point) -> int:
        """Return the bytes allocated while ``point`` is measured."""
        rotating = point.rotating_bytes * num_copies(point.rotating_bytes, self.l2_bytes)
        sweep = CACHE_FACTOR * self.l2_bytes
        return rotating + point.shared_bytes + sweep + WORKSPACE_BYTES

    def fits(self, point: Point) -> bool:
        return self.needed_bytes(point) <= self.usable_bytes
