"""The waiting queue, in the order of the scheduling policy."""

from __future__ import annotations

from collections import OrderedDict
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Protocol

from blis_sim.config.engine import SchedulingPolicy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blis_sim.engine.request import Request


class WaitingQueue(Protocol):
    """Requests that wait to be admitted."""

    is_fcfs: bool
    requests: dict[int, Request]
    """All of them by number; the order means nothing."""

    def head(self) -> Request:
        """Return the next request to admit; there must be one."""

    def backwards(self) -> Iterable[Request]:
        """Return all of them, who would be admitted last first."""

    def push(self, request: Request) -> None:
        """Add a request that has just entered."""

    def push_preempted(self, request: Request) -> None:
        """Put back a request that lost its blocks."""

    def remove(self, request: Request) -> None:
        """Remove a request wherever it stands."""


class FcfsQueue:
    """First come, first served; preempted requests return to the front."""

    is_fcfs = True

    def __init__(self) -> None:
        self._ordered: OrderedDict[int, Request] = OrderedDict()
        self.requests: dict[int, Request] = self._ordered

    def head(self) -> Request:
        """Return the request at the front."""
        return next(iter(self._ordered.values()))

    def backwards(self) -> Iterable[Request]:
        """Return all of them from the back."""
        return reversed(self._ordered.values())

    def push(self, request: Request) -> None:
        """Append to the back."""
        self._ordered[request.request_id] = request

    def push_preempted(self, request: Request) -> None:
        """Prepend: victims are taken from the back, so several keep their running order."""
        self._ordered[request.request_id] = request
        self._ordered.move_to_end(request.request_id, last=False)

    def remove(self, request: Request) -> None:
        """Remove a request in constant time."""
        del self._ordered[request.request_id]


class SortedQueue:
    """Ordered by (rank, arrival, number): urgency for ``priority``, prompt length for ``sjf``.

    Removal is lazy: an entry counts while its request is a member.
    """

    is_fcfs = False

    def __init__(self, policy: SchedulingPolicy) -> None:
        self._by_priority = policy == SchedulingPolicy.PRIORITY
        self._heap: list[tuple[int, int, int]] = []
        self.requests: dict[int, Request] = {}

    def head(self) -> Request:
        """Return the request that comes first."""
        heap, requests = self._heap, self.requests
        while heap[0][2] not in requests:
            heappop(heap)
        return requests[heap[0][2]]

    def _key(self, request: Request) -> tuple[int, int, int]:
        spec = request.spec
        rank = spec.priority if self._by_priority else spec.prompt_tokens
        return rank, spec.arrival_us, spec.request_id

    def backwards(self) -> Iterable[Request]:
        """Return all of them in falling order."""
        return sorted(self.requests.values(), key=self._key, reverse=True)

    def push(self, request: Request) -> None:
        """Insert in order."""
        heappush(self._heap, self._key(request))
        self.requests[request.request_id] = request

    push_preempted = push

    def remove(self, request: Request) -> None:
        """Remove a request."""
        del self.requests[request.request_id]


def make_waiting_queue(policy: SchedulingPolicy) -> WaitingQueue:
    """Return an empty queue for a policy."""
    return FcfsQueue() if policy == SchedulingPolicy.FCFS else SortedQueue(policy)
