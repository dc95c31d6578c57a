"""The gateway's queue: requests that no instance has a place for yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from blis_sim.cluster.fair_queue import FairQueue
from blis_sim.cluster.sorted_queue import SortedQueue, by_arrival, by_deadline, by_priority

if TYPE_CHECKING:
    from blis_sim.cluster.asked import Asked
    from blis_sim.cluster.sorted_queue import Order
    from blis_sim.config.cluster import GatewaySettings


class GatewayQueue(Protocol):
    """Requests that wait in the gateway; how many may is decided elsewhere.

    Which one comes first depends on the requests alone, never on the order of pushes at one
    instant.
    """

    def __len__(self) -> int:
        """Return how many requests wait."""

    def push(self, asked: Asked, cost_tokens: int | None = None) -> None:
        """Add a request that is not waiting here.

        Parameters
        ----------
        asked : Asked
            The request.
        cost_tokens : int, optional
            What serving it costs its tenant, >= 0; the length of its prompt by default.
        """

    def peek(self) -> Asked:
        """Return the request that comes first; there must be one."""

    def pop(self) -> Asked:
        """Remove and return the request that comes first; there must be one."""

    def remove(self, request_id: int) -> None:
        """Remove a request whose client has left, wherever it stands; it must wait here."""


def make_queue(settings: GatewaySettings, ttft_limit_ms: float | None) -> GatewayQueue:
    """Return an empty queue.

    Parameters
    ----------
    settings : GatewaySettings
        As :func:`~blis_sim.config.cluster_checks.check_cluster` accepts them.
    ttft_limit_ms : float or None
        ``slo.ttft_ms``: the limit of classes that ``ttft_limits_ms`` does not name.
    """
    order = _order(settings, ttft_limit_ms)
    if settings.fair_share:
        return FairQueue(order, settings.tenant_weights or {})
    return SortedQueue(order)


def _order(settings: GatewaySettings, ttft_limit_ms: float | None) -> Order:
    match settings.queue_order:
        case "fcfs":
            return by_arrival
        case "priority":
            return by_priority
        case "slo-deadline":
            return by_deadline(settings.ttft_limits_ms or {}, ttft_limit_ms)
