"""Loads made of other loads: several at once, and clients who wait for answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import count, islice
from operator import itemgetter

from blis_sim.errors import SimulationError
from blis_sim.workload.base import Workload, build_requests
from blis_sim.workload.clients import FAR_US, Clients, Source
from blis_sim.workload.request import RequestSpec

_MOST_AT_ONCE = 1_000_000
"""Requests at one instant, of a server that answers at once, before time stands still."""

arrival_of = itemgetter(RequestSpec._fields.index("arrival_us"))


def merged(streams: list[Iterator[RequestSpec]]) -> Iterator[RequestSpec]:
    """Yield the requests of several streams by arrival, numbered anew.

    At one instant those of the first stream come first.
    """
    rows = zip(count(), merge(*streams, key=arrival_of), strict=False)
    return build_requests((number, *spec[1:]) for number, spec in rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedWorkload(Workload):
    """Several loads at once.

    Attributes
    ----------
    parts : tuple of Workload
        Each in order of arrival.
    limit : int or None
        Requests at most.
    """

    parts: tuple[Workload, ...]
    limit: int | None = None

    def requests(self) -> Iterator[RequestSpec]:
        """Yield the requests of all parts in order of arrival; at one instant by part."""
        stream = merged([part.requests() for part in self.parts])
        return stream if self.limit is None else islice(stream, self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientWorkload(Workload):
    """Clients who wait for answers before they send.

    Attributes
    ----------
    open_source : callable
        Returns the clients at the beginning of the load.
    limit : int or None
        Requests at most.
    last_arrival_us : int or None
        Where `requests` ends when nothing else bounds it.
    """

    open_source: Callable[[], Source]
    limit: int | None = None
    last_arrival_us: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether the arrivals depend on nothing the server does: they do depend on it."""
        return False

    def clients(self) -> Clients:
        """Return clients at the beginning of the load."""
        return Clients(self.open_source(), self.limit)

    def requests(self) -> Iterator[RequestSpec]:
        """Yield what a server that answers at once would get.

        Raises
        ------
        SimulationError
            With such a server time would stand still.
        """
        clients = self.clients()
        last_us = FAR_US - 1 if self.last_arrival_us is None else self.last_arrival_us
        instant_us, num_at_once = -1, 0
        while clients.next_arrival_us <= last_us:
            spec = clients.pop()
            clients.ended(spec.request_id, spec.arrival_us, is_answered=True)
            num_at_once = num_at_once + 1 if spec.arrival_us == instant_us else 0
            instant_us = spec.arrival_us
            if self.limit is None and num_at_once > _MOST_AT_ONCE:
                raise SimulationError(
                    "workload must have a num_requests for its requests to be listed: users who "
                    "need not think would send for ever to a server that answers at once"
                )
            yield spec
