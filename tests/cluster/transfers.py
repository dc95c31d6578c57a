"""Carry KV transfers out as a simulation would."""

from __future__ import annotations

from typing import NamedTuple

from blis_sim.cluster.links import FAR_US, Links


class Planned(NamedTuple):
    """A transfer to be started, and when it is given up."""

    source: int
    destination: int
    num_bytes: int
    start_us: int = 0
    cancel_us: int = FAR_US


def make_links(*bytes_per_us: float, latency_us: int = 0) -> Links:
    """Return links between instances 0, 1, ... with these bandwidths."""
    links = Links(latency_us)
    for instance, bandwidth in enumerate(bytes_per_us):
        links.add_card(instance, bandwidth)
    return links


def ends(links: Links, *transfers: Planned, late: bool = False) -> list[int | None]:
    """Carry transfers out, and return when each ended.

    Parameters
    ----------
    late : bool
        What happens at one instant is done in the reverse order.
    """
    found: list[int | None] = [None] * len(transfers)
    calls = [(transfer.start_us, number, "start") for number, transfer in enumerate(transfers)] + [
        (transfer.cancel_us, number, "cancel") for number, transfer in enumerate(transfers)
    ]
    calls = sorted(calls, key=lambda call: (call[0], -call[1] if late else call[1]))
    while True:
        next_call_us = calls[0][0] if calls else FAR_US
        now_us = min(next_call_us, links.next_end_us())
        if now_us == FAR_US:
            return found
        if now_us == next_call_us and late:
            call(links, transfers, calls.pop(0), found)
            continue
        for number in links.pop_ended(now_us):
            assert found[number] is None
            found[number] = now_us
        while calls and calls[0][0] == now_us:
            call(links, transfers, calls.pop(0), found)


def call(
    links: Links,
    transfers: tuple[Planned, ...],
    what: tuple[int, int, str],
    found: list[int | None],
) -> None:
    now_us, number, name = what
    transfer = transfers[number]
    if name == "start":
        links.start(number, transfer.source, transfer.destination, transfer.num_bytes, now_us)
    elif found[number] is None:
        links.cancel(number, now_us)
