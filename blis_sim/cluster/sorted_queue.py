"""A queue of waiting requests in one total order."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import inf
from typing import TYPE_CHECKING

from blis_sim.units import US_PER_MS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blis_sim.cluster.asked import Asked

Key = tuple[float, int, int]
"""(rank, arrival, number of the request), the smallest first; no two requests have the same."""

Order = Callable[["Asked"], Key]
"""Returns the key of a request, always the same."""

_MAX_STALE = 32
"""Entries of removed requests a heap may hold beside as many as there are requests."""


def by_arrival(asked: Asked) -> Key:
    """Return the key of first come, first served."""
    return 0, asked.arrival_us, asked.request_id


def by_priority(asked: Asked) -> Key:
    """Return the key of the most urgent first; among equals, of the one that came first."""
    return asked.priority, asked.arrival_us, asked.request_id


def by_deadline(limits_ms: Mapping[str, float], default_ms: float | None) -> Order:
    """Return the order in which TTFT limits pass; requests without a limit come last.

    Parameters
    ----------
    limits_ms : mapping
        TTFT limit by SLO class, ms.
    default_ms : float or None
        Limit of the other classes, and of requests without a class, ms.
    """
    default_us = _limit_us(default_ms)
    limits_us = {name: _limit_us(limit_ms) for name, limit_ms in limits_ms.items()}

    def key(asked: Asked) -> Key:
        limit_us = default_us
        if asked.slo_class is not None:
            limit_us = limits_us.get(asked.slo_class, default_us)
        # int + int is exact, and Python compares integers with infinity exactly.
        return asked.arrival_us + limit_us, asked.arrival_us, asked.request_id

    return key


def _limit_us(limit_ms: float | None) -> float:
    """Return a limit as whole microseconds, or infinity."""
    return inf if limit_ms is None or limit_ms == inf else round(limit_ms * US_PER_MS)


class SortedQueue:
    """Requests in the order of their keys.

    Removal is lazy: an entry of the heap counts while its request waits.

    Parameters
    ----------
    order : Order
        Returns the key of a request.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        self._heap: list[Key] = []
        self._waiting: dict[int, Asked] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, asked: Asked, cost_tokens: int | None = None) -> None:
        """Add a request; its cost decides nothing here."""
        heappush(self._heap, self._order(asked))
        self._waiting[asked.request_id] = asked

    def first_key(self) -> Key:
        """Return the key of the request that comes first; there must be one."""
        heap, waiting = self._heap, self._waiting
        while heap[0][-1] not in waiting:
            heappop(heap)
        return heap[0]

    def peek(self) -> Asked:
        """Return the request that comes first; there must be one."""
        return self._waiting[self.first_key()[-1]]

    def pop(self) -> Asked:
        """Remove and return the request that comes first; there must be one."""
        asked = self._waiting.pop(self.first_key()[-1])
        heappop(self._heap)
        return asked

    def remove(self, request_id: int) -> None:
        """Remove a request that waits here, wherever it stands."""
        del self._waiting[request_id]
        if len(self._heap) > 2 * len(self._waiting) + _MAX_STALE:
            self._heap = [self._order(asked) for asked in self._waiting.values()]
            heapify(self._heap)
