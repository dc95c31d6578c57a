"""KV transfers over the network cards of instances.

The transfers at a card share it equally, each direction for itself: with n_s transfers sent by
the source and n_d received by the destination, a transfer has the rate

    min(bandwidth of source / n_s, bandwidth of destination / n_d).

A transfer that cannot use its share of one card leaves it unused: the others do not get it.

    start       start + latency_us                    end
      |--- latency ---|------- bytes flow, shared ------|
       takes no share            n counts it

Bytes are counted in integer parts of 2**-40, and rates are quotients of integers. Rates change
at whole microseconds only; what has flowed by then is rounded to a part, so after any number of
changes a transfer is off by less than a part for each. One that has less than 2**-20 byte left
has ended: an end that falls on a whole microsecond is not missed by a rounded third of a byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import isinf
from typing import TYPE_CHECKING

from blis_sim.cluster.exact import as_written

if TYPE_CHECKING:
    from collections.abc import Iterable

FAR_US = 1 << 62
"""A time no run reaches."""

_PARTS_PER_BYTE = 1 << 40
_NEGLIGIBLE_PARTS = 1 << 20

_MAX_STALE = 64
"""Former ends that are kept beside four for each transfer."""


@dataclass(slots=True)
class _Transfer:
    """One transfer; ``left`` parts were to be sent at ``since_us``.

    The rate is ``parts / per_us`` parts per microsecond.
    """

    source: int
    destination: int
    left: int
    since_us: int
    parts: int = 0
    per_us: int = 1
    end_us: int = FAR_US

    def set_rate(self, now_us: int, parts: int, per_us: int) -> None:
        """Take off what has flowed, and go on at another rate."""
        if now_us > self.since_us:
            self.left -= self.parts * (now_us - self.since_us) // self.per_us
            self.since_us = now_us
        self.parts, self.per_us = parts, per_us
        to_send = max(0, self.left - _NEGLIGIBLE_PARTS + 1)
        self.end_us = now_us - (-to_send * per_us // parts)  # rounded up


class _Direction:
    """One direction of a network card: a bandwidth, and who shares it.

    Attributes
    ----------
    parts, per_us : int
        Its bandwidth is ``parts / per_us`` parts per microsecond; 0 parts = no limit.
    transfers : dict
        What flows here, by number.
    """

    __slots__ = ("parts", "per_us", "transfers")

    def __init__(self, bytes_per_us: float) -> None:
        self.parts, self.per_us = 0, 1
        if not isinf(bytes_per_us):
            exact = as_written(bytes_per_us) * _PARTS_PER_BYTE
            self.parts, self.per_us = exact.numerator, exact.denominator
        self.transfers: dict[int, _Transfer] = {}


class Links:
    """All transfers of a cluster.

    Every method that takes the time first does what was due until then, so calls may skip any
    number of ends; the order of calls at one instant changes nothing. Times never decrease.

    Parameters
    ----------
    latency_us : int
        Time from the start of a transfer until its bytes flow, >= 0.
    """

    def __init__(self, latency_us: int) -> None:
        self._latency_us = latency_us
        self._sending: dict[int, _Direction] = {}
        self._receiving: dict[int, _Direction] = {}
        # Where a transfer is: in its latency, flowing, or at its end, by the time of that.
        self._coming: dict[int, _Transfer] = {}
        self._flowing: dict[int, _Transfer] = {}
        self._ended: dict[int, int] = {}
        # (time, transfer); entries that the dictionaries do not confirm are former ones.
        self._flows: list[tuple[int, int]] = []
        self._ends: list[tuple[int, int]] = []

    def add_card(self, instance: int, bytes_per_us: float) -> None:
        """Give an instance its card, once, before its first transfer.

        Parameters
        ----------
        instance : int
            Number of the instance.
        bytes_per_us : float
            Bandwidth of each direction, > 0; infinite = no limit.
        """
        self._sending[instance] = _Direction(bytes_per_us)
        self._receiving[instance] = _Direction(bytes_per_us)

    def start(
        self, transfer_id: int, source: int, destination: int, num_bytes: int, now_us: int
    ) -> None:
        """Start a transfer.

        Without bytes, or between two cards without limit, it ends after the latency exactly.

        Parameters
        ----------
        transfer_id : int
            Its number; no other transfer that has not been reported or cancelled has it.
        source, destination : int
            Numbers of instances that have cards.
        num_bytes : int
            What is sent, >= 0.
        now_us : int
            The time.
        """
        self._advance(now_us)
        flows_us = now_us + self._latency_us
        parts = num_bytes * _PARTS_PER_BYTE
        self._coming[transfer_id] = _Transfer(source, destination, parts, flows_us)
        heappush(self._flows, (flows_us, transfer_id))
        self._advance(now_us)

    def cancel(self, transfer_id: int, now_us: int) -> None:
        """Forget a transfer that has not been reported as ended: it never is.

        Raises
        ------
        KeyError
            There is no such transfer.
        """
        self._advance(now_us)
        if transfer_id in self._flowing:
            self._share(self._leave(transfer_id), now_us)
        elif transfer_id in self._coming:
            del self._coming[transfer_id]
        else:
            del self._ended[transfer_id]

    def next_end_us(self) -> int:
        """Return when to call ``pop_ended`` next, ``FAR_US`` when nothing is on its way.

        Nothing ends before. Where a transfer is in its latency this may be the moment at which
        its bytes begin to flow and the rates of others change; perhaps nothing ends then.
        """
        next_us = min(self._ended.values(), default=FAR_US)
        return min(next_us, self._next_flow_us(), self._next_flow_end_us())

    def pop_ended(self, now_us: int) -> list[int]:
        """Return the transfers that have ended since the last call, in order of number."""
        self._advance(now_us)
        ended = sorted(self._ended)
        self._ended.clear()
        return ended

    def _next_flow_us(self) -> int:
        flows, coming = self._flows, self._coming
        while flows and not (
            flows[0][1] in coming and coming[flows[0][1]].since_us == flows[0][0]
        ):
            heappop(flows)
        return flows[0][0] if flows else FAR_US

    def _next_flow_end_us(self) -> int:
        ends, flowing = self._ends, self._flowing
        while ends and not (ends[0][1] in flowing and flowing[ends[0][1]].end_us == ends[0][0]):
            heappop(ends)
        return ends[0][0] if ends else FAR_US

    def _advance(self, now_us: int) -> None:
        """Let flows begin and end in the order of time, until now inclusive.

        Rates are set anew when all that happens at an instant has happened.
        """
        while True:
            instant_us = min(self._next_flow_us(), self._next_flow_end_us())
            if instant_us > now_us:
                return
            touched: list[_Direction] = []
            while self._next_flow_end_us() == instant_us:
                _, transfer_id = heappop(self._ends)
                touched += self._leave(transfer_id)
                self._ended[transfer_id] = instant_us
            while self._next_flow_us() == instant_us:
                _, transfer_id = heappop(self._flows)
                touched += self._join(transfer_id, instant_us)
            self._share(touched, instant_us)

    def _join(self, transfer_id: int, now_us: int) -> tuple[_Direction, ...]:
        """Let bytes flow; return the directions that have another number of sharers now."""
        transfer = self._coming.pop(transfer_id)
        source, destination = self._directions(transfer)
        if not source.parts and not destination.parts:
            self._ended[transfer_id] = now_us
            return ()
        self._flowing[transfer_id] = transfer
        source.transfers[transfer_id] = transfer
        destination.transfers[transfer_id] = transfer
        return source, destination

    def _leave(self, transfer_id: int) -> tuple[_Direction, ...]:
        """Let no more bytes flow; return the directions that have fewer sharers now."""
        source, destination = self._directions(self._flowing.pop(transfer_id))
        del source.transfers[transfer_id]
        del destination.transfers[transfer_id]
        return source, destination

    def _share(self, touched: Iterable[_Direction], now_us: int) -> None:
        """Set the rates of all that flow in these directions."""
        changed: dict[int, _Transfer] = {}
        for direction in dict.fromkeys(touched):
            changed |= direction.transfers
        for transfer_id, transfer in changed.items():
            former_end_us = transfer.end_us
            self._set_rate(transfer, now_us)
            if transfer.end_us != former_end_us:
                heappush(self._ends, (transfer.end_us, transfer_id))
        if len(self._ends) > 4 * len(self._flowing) + _MAX_STALE:
            self._ends = [(flow.end_us, number) for number, flow in self._flowing.items()]
            heapify(self._ends)

    def _set_rate(self, transfer: _Transfer, now_us: int) -> None:
        source, destination = self._directions(transfer)
        parts, per_us = source.parts, source.per_us * len(source.transfers)
        other, other_per_us = destination.parts, destination.per_us * len(destination.transfers)
        if not parts or (other and other * per_us < parts * other_per_us):
            parts, per_us = other, other_per_us
        transfer.set_rate(now_us, parts, per_us)

    def _directions(self, transfer: _Transfer) -> tuple[_Direction, _Direction]:
        return self._sending[transfer.source], self._receiving[transfer.destination]
