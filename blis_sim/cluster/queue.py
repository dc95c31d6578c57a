"""The gateway's queue: requests that no instance has a place for yet."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Protocol

from blis_sim.cluster.fair_queue import FairQueue
from blis_sim.cluster.sorted_queue import SortedQueue, by_arrival, by_deadline, by_priority
from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    from blis_sim.cluster.asked import Asked
    from blis_sim.cluster.sorted_queue import Order
    from blis_sim.config.cluster import GatewaySettings

_WHERE = "cluster.gateway"


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


def check_gateway(settings: GatewaySettings, ttft_limit_ms: float | None) -> None:
    """Raise where a setting of the queue would decide nothing.

    Settings that are as without them (``queue_order: fcfs``, ``fair_share: false``) are true of
    every gateway and always accepted.

    Parameters
    ----------
    settings : GatewaySettings
        What the user wrote.
    ttft_limit_ms : float or None
        ``slo.ttft_ms``.

    Raises
    ------
    ConfigError
        A setting is given that nothing uses, or ``slo-deadline`` has no deadlines.
    """
    if settings.max_outstanding_per_instance is None:
        for name, value, absent in (
            ("fair_share", settings.fair_share, False),
            ("queue_order", settings.queue_order, "fcfs"),
            ("queue_limit", settings.queue_limit, None),
        ):
            if value != absent:
                shown = str(value).lower()
                raise ConfigError(
                    f"{_WHERE}.{name} must be set together with "
                    f"{_WHERE}.max_outstanding_per_instance; got {shown} alone: nothing ever "
                    "waits in the gateway; set a limit of requests per instance, or leave it out"
                )
    if settings.tenant_weights is not None and not settings.fair_share:
        raise ConfigError(
            f"{_WHERE}.tenant_weights must be set together with {_WHERE}.fair_share; got "
            f"{settings.tenant_weights} alone; set fair_share: true, or leave it out"
        )
    is_deadline = settings.queue_order == "slo-deadline"
    if settings.ttft_limits_ms is not None and not is_deadline:
        raise ConfigError(
            f"{_WHERE}.ttft_limits_ms must be set together with {_WHERE}.queue_order: "
            f"slo-deadline; got {settings.ttft_limits_ms} with queue_order: "
            f"{settings.queue_order}; set that order, or leave it out"
        )
    has_default = ttft_limit_ms is not None and isfinite(ttft_limit_ms)
    if is_deadline and not settings.ttft_limits_ms and not has_default:
        raise ConfigError(
            f"{_WHERE}.queue_order must have TTFT limits in ms with slo-deadline; got none; set "
            f"{_WHERE}.ttft_limits_ms or slo.ttft_ms"
        )


def make_queue(settings: GatewaySettings, ttft_limit_ms: float | None) -> GatewayQueue:
    """Return an empty queue.

    Parameters
    ----------
    settings : GatewaySettings
        What the user wrote.
    ttft_limit_ms : float or None
        ``slo.ttft_ms``: the limit of classes that ``ttft_limits_ms`` does not name.

    Raises
    ------
    ConfigError
        As :func:`check_gateway`.
    """
    check_gateway(settings, ttft_limit_ms)
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
