"""A server with endless places, for tests of what clients send and when."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import NamedTuple

from blis_sim.workload.clients import Clients
from blis_sim.workload.request import RequestSpec


class Served(NamedTuple):
    """A request as it was sent, and when its client saw the answer."""

    spec: RequestSpec
    end_us: int


def service_us(spec: RequestSpec) -> int:
    """Return a time that depends on all lengths: 50 ms and 1 ms a token."""
    return 50_000 + 1000 * (spec.prompt_tokens + spec.output_tokens)


def serve(
    clients: Clients,
    *,
    service_us: Callable[[RequestSpec], int] = service_us,
    is_answered: Callable[[RequestSpec], bool] = lambda spec: True,
    most: int = 10_000,
) -> list[Served]:
    """Answer what the clients send, in order of time; at one instant an answer comes first."""
    served: list[Served] = []
    ends: list[tuple[int, int]] = []
    while len(served) < most:
        due_us = clients.next_arrival_us
        if ends and ends[0][0] <= due_us:
            end_us, number = heappop(ends)
            spec = served[number].spec
            clients.ended(number, end_us, is_answered=is_answered(spec))
        elif due_us < 1 << 61:
            spec = clients.pop()
            assert spec.request_id == len(served)
            assert spec.arrival_us == due_us
            served.append(Served(spec, due_us + service_us(spec)))
            heappush(ends, (served[-1].end_us, spec.request_id))
        else:
            break
    return served


def most_open(served: list[Served]) -> int:
    """Return the largest number of requests open at a time; an end comes before an arrival."""
    changes = [(s.spec.arrival_us, 1) for s in served] + [(s.end_us, -1) for s in served]
    num_open = largest = 0
    for _, change in sorted(changes):
        num_open += change
        largest = max(largest, num_open)
    return largest
