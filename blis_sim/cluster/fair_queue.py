"""Fair queueing: tenants are served in proportion to their weights."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from math import lcm
from typing import TYPE_CHECKING

from blis_sim.cluster.exact import as_written
from blis_sim.cluster.sorted_queue import SortedQueue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blis_sim.cluster.asked import Asked
    from blis_sim.cluster.sorted_queue import Key, Order


@dataclass(slots=True)
class _Tenant:
    """A tenant's requests and its account.

    Attributes
    ----------
    queue : SortedQueue
        Its waiting requests.
    virtual_per_token : int
        Virtual time that one token costs it: in inverse proportion to its weight.
    tag : int
        While requests wait: the start tag of the one that is next, whichever that is. Else the
        finish tag of the last one served.
    """

    queue: SortedQueue
    virtual_per_token: int
    tag: int = 0


class FairQueue:
    """Start-time fair queueing: the tenant with the smallest start tag is served next.

    A request of cost l of a tenant of weight w that is served at start tag S has finish tag
    S + l/w. The virtual time v is the start tag last served. The next start tag of a tenant is
    the finish tag of its last request, and at least v at the moment it begins to wait: who was
    idle has saved nothing up. When nobody waits any more all accounts are closed, which is the
    paper's rule for the end of a busy period. Over any time in which two tenants always have
    requests waiting, their services by weight differ by at most l1/w1 + l2/w2, where l is the
    largest request of each.

    Start tags, unlike finish tags, do not depend on the request that is next: whoever comes
    to the front of a tenant's queue or leaves it, tags stand. Tags are integers, in the largest
    part of a virtual token in which a token is whole at every weight. Equal tags go to the
    request that comes first in the order within tenants.

    Parameters
    ----------
    order : Order
        Order within a tenant.
    weights : mapping
        Shares of the tenants, > 0; 1 where absent, and for requests without a tenant, which are
        a tenant of their own.

    References
    ----------
    P. Goyal, H. M. Vin, H. Cheng: Start-time Fair Queuing: A Scheduling Algorithm for Integrated
    Services Packet Switching Networks. SIGCOMM 1996, section 2.
    """

    def __init__(self, order: Order, weights: Mapping[str, float]) -> None:
        self._order = order
        exact = {name: as_written(weight) for name, weight in weights.items()}
        self._virtual_of_weight_1 = lcm(*(weight.numerator for weight in exact.values()))
        self._virtual_per_token = {
            name: int(self._virtual_of_weight_1 / weight) for name, weight in exact.items()
        }
        self._virtual_time = 0
        self._tenants: dict[str | None, _Tenant] = {}
        self._waiting: dict[int, tuple[Asked, int]] = {}
        # (start tag, key) of each tenant's next request; others are remains of former ones,
        # which go when the virtual time passes them. Those of waiting requests with their
        # tenant's present tag stand behind the entry of its next request.
        self._heads: list[tuple[int, Key]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, asked: Asked, cost_tokens: int | None = None) -> None:
        """Add a request that costs its tenant so many tokens (its prompt) when it is served."""
        cost = asked.prompt_tokens if cost_tokens is None else cost_tokens
        self._waiting[asked.request_id] = (asked, cost)
        tenant = self._tenants.get(asked.tenant)
        if tenant is None:
            tenant = self._tenants[asked.tenant] = self._open(asked.tenant)
        if not tenant.queue:
            tenant.tag = max(tenant.tag, self._virtual_time)
        tenant.queue.push(asked)
        key = self._order(asked)
        if tenant.queue.first_key() == key:
            heappush(self._heads, (tenant.tag, key))

    def peek(self) -> Asked:
        """Return the request that comes first; there must be one."""
        return self._next_tenant().queue.peek()

    def pop(self) -> Asked:
        """Remove and return the request that comes first, at its tenant's cost."""
        tenant = self._next_tenant()
        asked = tenant.queue.pop()
        _, cost = self._waiting.pop(asked.request_id)
        self._virtual_time = tenant.tag
        tenant.tag += cost * tenant.virtual_per_token
        self._set_head(tenant)
        return asked

    def remove(self, request_id: int) -> None:
        """Remove a request that waits here, wherever it stands, at no cost."""
        asked, _ = self._waiting.pop(request_id)
        tenant = self._tenants[asked.tenant]
        was_head = tenant.queue.first_key() == self._order(asked)
        tenant.queue.remove(request_id)
        if was_head:
            self._set_head(tenant)

    def _open(self, name: str | None) -> _Tenant:
        per_token = self._virtual_of_weight_1
        if name is not None:
            per_token = self._virtual_per_token.get(name, per_token)
        return _Tenant(SortedQueue(self._order), per_token)

    def _set_head(self, tenant: _Tenant) -> None:
        """Enter the tenant's new next request, or close all accounts when nobody waits."""
        if tenant.queue:
            heappush(self._heads, (tenant.tag, tenant.queue.first_key()))
        elif not self._waiting:
            self._tenants.clear()
            self._heads.clear()

    def _next_tenant(self) -> _Tenant:
        heads = self._heads
        while True:
            tag, key = heads[0]
            entry = self._waiting.get(key[-1])
            if entry is not None:
                tenant = self._tenants[entry[0].tenant]
                if tenant.tag == tag:
                    return tenant
            heappop(heads)
