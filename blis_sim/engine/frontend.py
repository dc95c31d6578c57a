"""The frontend: between a request's arrival and the instance's waiting queue."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from blis_sim.engine.request import Request, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from blis_sim.latency.base import LatencyModel
    from blis_sim.workload.request import RequestSpec

FAR_US = 1 << 62
"""A time that never comes."""


class Frontend:
    """Says who enters the waiting queue when; told of every request as it arrives."""

    __slots__ = ("_entries", "next_arrival_us", "next_entry_us")

    def __init__(self) -> None:
        self._entries: list[tuple[int, int, Request]] = []
        self.next_arrival_us = FAR_US
        """Arrival of the first request not yet read, ``FAR_US`` when there is none."""
        self.next_entry_us = FAR_US
        """When the next request enters the waiting queue, ``FAR_US`` when none will."""

    def start(self) -> None:
        """Get ready for the first question."""

    def read_until(self, now_us: int) -> None:
        """Read every request that arrives by ``now_us``."""

    def push(self, request: Request, enter_us: int) -> None:
        """Take in a request that has arrived and enters at the given time."""
        heappush(self._entries, (enter_us, request.request_id, request))
        self.next_entry_us = self._entries[0][0]

    def pop(self) -> Request:
        """Return the request that enters next, at ``next_entry_us``."""
        entries = self._entries
        request = heappop(entries)[2]
        self.next_entry_us = entries[0][0] if entries else FAR_US
        return request

    def inside(self) -> list[Request]:
        """Return the requests that have been read and not entered."""
        return [r for _, _, r in self._entries if r.state is State.FRONTEND]


class StreamFrontend(Frontend):
    """Reads a stream of requests lazily, where arrivals depend on nothing the engine does.

    The instance asks it at its step boundaries; between them nobody can be admitted, so no
    event is needed for an arrival. The stream is read just far enough to know the next
    entry: a request that arrives later may enter earlier, its frontend time being shorter.

    Parameters
    ----------
    requests : iterable of RequestSpec
        In order of arrival.
    latency : LatencyModel
        Says how long the frontend takes.
    accept : callable
        Makes the engine's request of a spec; None when it was turned away. Not asked about
        requests that are plain: no prefix, session, limit or deadline, and short enough.
    max_model_len : int
        Tokens a sequence may have.
    horizon_us : int or None
        Requests that arrive later are not read.
    """

    __slots__ = (
        "_accept",
        "_last_us",
        "_max_model_len",
        "_next_spec",
        "_queueing_time",
        "_stream",
    )

    def __init__(
        self,
        requests: Iterable[RequestSpec],
        latency: LatencyModel,
        accept: Callable[[RequestSpec], Request | None],
        max_model_len: int,
        horizon_us: int | None = None,
    ) -> None:
        super().__init__()
        self._stream = iter(requests)
        self._queueing_time = latency.queueing_time
        self._accept = accept
        self._max_model_len = max_model_len
        self._last_us = FAR_US if horizon_us is None else horizon_us
        self._next_spec: RequestSpec | None = None
        self.next_arrival_us = 0

    def start(self) -> None:
        """Read up to the first entry."""
        self._next_spec = spec = next(self._stream, None)
        if spec is None or spec.arrival_us > self._last_us:
            self.next_arrival_us = FAR_US
        else:
            self.next_arrival_us = spec.arrival_us
        self._settle()

    def _settle(self) -> None:
        """Read until nobody unread can enter before the next entry."""
        entries = self._entries
        next_us = entries[0][0] if entries else FAR_US
        while self.next_arrival_us <= next_us and self.next_arrival_us < FAR_US:
            self._read_one()
            next_us = entries[0][0] if entries else FAR_US
        self.next_entry_us = next_us

    def _read_one(self) -> None:
        """Take in the next request of the stream and look at the one after it."""
        spec = self._next_spec
        assert spec is not None
        request: Request | None
        if (
            spec.prompt_tokens + spec.output_tokens < self._max_model_len
            and spec.max_output_tokens is None
            and spec.prefix_group is None
            and spec.session_id is None
            and spec.prompt_id is None
            and spec.block_hashes is None
            and spec.timeout_us is None
            and spec.abort_us is None
        ):
            request = Request(spec, spec.output_tokens)  # nothing to check, share or watch
        else:
            request = self._accept(spec)
        if request is not None:
            enter_us = spec.arrival_us + self._queueing_time(spec)
            heappush(self._entries, (enter_us, spec.request_id, request))
        self._next_spec = spec = next(self._stream, None)
        if spec is None or spec.arrival_us > self._last_us:
            self.next_arrival_us = FAR_US
        else:
            self.next_arrival_us = spec.arrival_us

    def read_until(self, now_us: int) -> None:
        """Read every request that arrives by ``now_us``."""
        while self.next_arrival_us <= now_us:
            self._read_one()
        self._settle()

    def pop(self) -> Request:
        """Return the request that enters next, at ``next_entry_us``."""
        entries = self._entries
        request = heappop(entries)[2]
        if entries and entries[0][0] < self.next_arrival_us:
            self.next_entry_us = entries[0][0]
        else:
            self._settle()
        return request
