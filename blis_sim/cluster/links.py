"""KV transfers over the network cards of instances.

The transfers at a card share it equally, each direction for itself: with n_s transfers sent by
the source and n_d received by the destination, a transfer has the rate

    min(bandwidth of source / n_s, bandwidth of destination / n_d).

A transfer that cannot use its share of one card leaves it unused: the others do not get it.

    start       start + latency_us                    end
      |--- latency ---|------- bytes flow, shared ------|
       takes no share            n counts it

Arithmetic is exact. Rates change at whole microseconds only, so what remains of a transfer is
its bytes less whole multiples of ``bandwidth / n``: its denominator divides the bandwidths'
denominators times the least common multiple of the numbers of sharers it met. Where that
exceeds 2**64 (about 40 different numbers) what remains is rounded up to 2**-20 byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush
from math import ceil, isinf

from blis_sim.cluster.exact import as_written

FAR_US = 1 << 62
"""A time no run reaches."""

_MAX_DENOMINATOR = 1 << 64
_ROUNDED_DENOMINATOR = 1 << 20


@dataclass(slots=True)
class _Transfer:
    """One transfer; ``remaining_bytes`` were left at ``since_us``."""

    source: int
    destination: int
    remaining_bytes: Fraction
    since_us: int
    bytes_per_us: Fraction = Fraction(0)
    end_us: int = FAR_US

    def settle(self, now_us: int) -> None:
        """Take off what has flowed since ``since_us``."""
        if now_us == self.since_us:
            return
        left = self.remaining_bytes - self.bytes_per_us * (now_us - self.since_us)
        if left.denominator > _MAX_DENOMINATOR:
            left = Fraction(ceil(left * _ROUNDED_DENOMINATOR), _ROUNDED_DENOMINATOR)
        self.remaining_bytes, self.since_us = left, now_us


@dataclass(slots=True)
class _Card:
    """A network card; ``bytes_per_us`` in each direction, None = no limit."""

    bytes_per_us: Fraction | None
    sent: dict[int, _Transfer]
    received: dict[int, _Transfer]


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
        self._cards: dict[int, _Card] = {}
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
        limit = None if isinf(bytes_per_us) else as_written(bytes_per_us)
        self._cards[instance] = _Card(limit, {}, {})

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
        self._coming[transfer_id] = _Transfer(source, destination, Fraction(num_bytes), flows_us)
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
            self._leave(transfer_id, now_us)
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

        What happens at one instant changes the rates after it, whatever comes first.
        """
        while True:
            flow_us, end_us = self._next_flow_us(), self._next_flow_end_us()
            if min(flow_us, end_us) > now_us:
                return
            if end_us <= flow_us:
                _, transfer_id = heappop(self._ends)
                self._leave(transfer_id, end_us)
                self._ended[transfer_id] = end_us
            else:
                _, transfer_id = heappop(self._flows)
                self._join(transfer_id, flow_us)

    def _join(self, transfer_id: int, now_us: int) -> None:
        transfer = self._coming.pop(transfer_id)
        source, destination = self._cards[transfer.source], self._cards[transfer.destination]
        if source.bytes_per_us is None and destination.bytes_per_us is None:
            self._ended[transfer_id] = now_us
            return
        self._flowing[transfer_id] = transfer
        source.sent[transfer_id] = transfer
        destination.received[transfer_id] = transfer
        self._share(source, destination, now_us)

    def _leave(self, transfer_id: int, now_us: int) -> None:
        transfer = self._flowing.pop(transfer_id)
        source, destination = self._cards[transfer.source], self._cards[transfer.destination]
        del source.sent[transfer_id]
        del destination.received[transfer_id]
        self._share(source, destination, now_us)

    def _share(self, source: _Card, destination: _Card, now_us: int) -> None:
        """Set the rates of all whose number of sharers may have changed."""
        for transfer_id, transfer in (source.sent | destination.received).items():
            transfer.settle(now_us)
            transfer.bytes_per_us = rate = self._rate(transfer)
            end_us = now_us + ceil(transfer.remaining_bytes / rate)
            if end_us != transfer.end_us:
                transfer.end_us = end_us
                heappush(self._ends, (end_us, transfer_id))

    def _rate(self, transfer: _Transfer) -> Fraction:
        source, destination = self._cards[transfer.source], self._cards[transfer.destination]
        shares = [
            card.bytes_per_us / num_sharers
            for card, num_sharers in (
                (source, len(source.sent)),
                (destination, len(destination.received)),
            )
            if card.bytes_per_us is not None
        ]
        return min(shares)
