"""Disaggregation: prompts are computed on one instance, answers generated on another.

A request is two engine requests, one after the other::

    prefill instance   [frontend][wait][ prefill ][ blocks kept until all is sent ]
    decode instance                               [wait for blocks][transfer][wait][ decode ...
                                                  handed over      reserved   placed

The decode instance reserves blocks for the whole prompt before the transfer starts, after
everybody who waits there for blocks; until it can, the prefill instance keeps its own. What
the decode instance has cached is not sent.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blis_sim.cluster.gateway import output_limit
from blis_sim.cluster.links import FAR_US, Links
from blis_sim.engine.clock import Priority, call_at, order_key
from blis_sim.engine.request import Request, State

if TYPE_CHECKING:
    from collections.abc import Callable

    import simpy

    from blis_sim.cluster.asked import Asked
    from blis_sim.cluster.config import ClusterConfig
    from blis_sim.cluster.replica import Replica

_DEFAULT_THRESHOLD_TOKENS = 256
_CARRIED_OVER = (
    *("dispatched_us", "enqueued_us", "scheduled_us", "first_token_us", "last_token_us"),
    *("cached_tokens", "recached_tokens", "num_preemptions", "num_generated"),
    *("abort_deadline_us", "is_timeout"),
)
"""What a request keeps when it is handed over."""


@dataclass(slots=True)
class _Flight:
    """A request on its way from one instance to another."""

    first: Request
    """On the prefill instance."""
    source: Replica
    destination: Replica
    second: Request | None = None
    """On the decode instance, once it is handed over."""
    is_sending: bool = False
    num_blocks: int = 0


class Handovers:
    """Everything between prefill and decode instances.

    Parameters
    ----------
    env : simpy.Environment
        The clock.
    config : ClusterConfig
        Decider, links, and from where the first token comes.
    on_room : callable
        Called with (instance, now_us) when a request has left an instance otherwise than by
        its end there.
    """

    def __init__(
        self,
        env: simpy.Environment,
        config: ClusterConfig,
        on_room: Callable[[Replica, int], None],
    ) -> None:
        self.env = env
        self._on_room = on_room
        settings = config.disaggregation
        self._settings = settings
        self._threshold_tokens = settings.threshold_tokens or _DEFAULT_THRESHOLD_TOKENS
        self._first_from_prefill = settings.first_token_from == "prefill"
        self._flights: dict[int, _Flight] = {}
        self._queues: dict[int, deque[_Flight]] = {}
        """By decode instance: who waits for blocks there, first come first served."""
        self._links = Links(settings.link_latency_us)
        self._awaited_us = FAR_US
        self._retries: set[tuple[int, int]] = set()

    def connect(self, replica: Replica) -> None:
        """Give a new instance its network card, and listen to it."""
        self._links.add_card(replica.index, replica.pool.nic_bytes_per_us)
        if replica.pool.data.role == "decode":
            self._queues[replica.index] = deque()
            replica.instance.on_boundary = lambda now_us: self._retry(replica, now_us)
        else:
            replica.instance.on_handed_over = self._hand_over

    def stays_together(self, asked: Asked, destination: Replica) -> bool:
        """Return whether the decode instance computes the prompt itself."""
        decider = self._settings.decider
        if decider == "uncached-prefix":
            uncached = asked.prompt_tokens - destination.cached_prompt_tokens(asked)
            return uncached < self._threshold_tokens
        return decider == "never"

    def begin(
        self, request: Request, asked: Asked, source: Replica, destination: Replica, now_us: int
    ) -> None:
        """Send a request to its prefill instance."""
        spec = request.spec
        limit = output_limit(spec, destination.pool.engine.scheduler.max_model_len)
        own = 1 if self._first_from_prefill else 0
        request.hands_over = limit > own
        request.output_limit = own if request.hands_over else limit
        request.dispatched_us = now_us
        request.state = State.FRONTEND
        self._flights[request.request_id] = _Flight(request, source, destination)
        destination.expect(asked)
        source.send(request, now_us)

    def gone(self, replica: Replica, request: Request, now_us: int) -> None:
        """Take note that a request has ended on an instance."""
        flight = self._flights.get(request.request_id)
        if flight is not None and flight.second is None:  # it ended with, or before, its prompt
            del self._flights[request.request_id]
            flight.destination.give_up()
            flight.destination.stop_if_done(now_us)
        elif self._queues.get(replica.index):
            self._retry(replica, now_us)  # it may have left blocks

    # -- from one to the other ------------------------------------------------

    def _hand_over(self, request: Request, now_us: int) -> None:
        """Make an event for a request to go over: its prompt is computed."""
        key = order_key(Priority.TRANSFER_END, request.instance, request.request_id)
        flight = self._flights[request.request_id]
        call_at(self.env, now_us - int(self.env.now), key, lambda: self._cross(flight))

    def _cross(self, flight: _Flight) -> None:
        """Let a request go over to its decode instance."""
        now_us = int(self.env.now)
        first, source, destination = flight.first, flight.source, flight.destination
        max_model_len = destination.pool.engine.scheduler.max_model_len
        second = Request(first.spec, output_limit(first.spec, max_model_len))
        for name in _CARRIED_OVER:
            setattr(second, name, getattr(first, name))
        second.num_brought = first.num_generated
        second.prefill_instance = source.index
        second.handed_over_us = now_us
        flight.second = first.successor = second
        source.left(first, first.num_generated)
        self._on_room(source, now_us)
        destination.welcome(second)
        if first.state is not State.TRANSFER:
            # It lost its blocks while its last step was in flight: computed again over there.
            del self._flights[second.request_id]
            second.transferred_us = now_us
            destination.frontend.push(second, now_us)
            destination.instance.expect(now_us)
            return
        second.state = State.TRANSFER
        self._queues[destination.index].append(flight)
        self._start_transfers(destination, now_us)

    def _retry(self, replica: Replica, now_us: int) -> None:
        """See, at this instant before the next pass, whether blocks have become free."""
        if (replica.index, now_us) in self._retries:
            return
        self._retries.add((replica.index, now_us))

        def try_again() -> None:
            self._retries.discard((replica.index, now_us))
            self._start_transfers(replica, now_us)

        key = order_key(Priority.TRANSFER_END, replica.index)
        call_at(self.env, now_us - int(self.env.now), key, try_again)

    def _start_transfers(self, replica: Replica, now_us: int) -> None:
        """Start the transfers to a decode instance whose blocks are free, in order."""
        queue, instance = self._queues[replica.index], replica.instance
        while queue:
            flight = queue[0]
            second = flight.second
            assert second is not None
            num_blocks = instance.reserve(second, now_us)
            if num_blocks is None:
                instance.awaited = second
                return
            queue.popleft()
            flight.is_sending = True
            flight.num_blocks = num_blocks
            num_bytes = self._bytes_to_send(flight, now_us)
            source, number = flight.source.index, second.request_id
            self._links.start(number, source, replica.index, num_bytes, now_us)
            self._await_transfers()
        instance.awaited = None

    def _bytes_to_send(self, flight: _Flight, now_us: int) -> int:
        """Return what of the KV cache is still to be sent after the prefill.

        Layer by layer, all but the last layer can go while later ones are computed: as much
        as the card sends in the time the prompt was being computed. Only where the decode
        instance had blocks at the end of the prefill.
        """
        pool = flight.destination.pool
        num_bytes = flight.num_blocks * pool.engine.block_size * pool.kv_bytes_per_token
        first = flight.first
        second = flight.second
        assert second is not None
        if self._settings.overlap != "layerwise" or second.handed_over_us != now_us:
            return num_bytes
        earlier = num_bytes - -(-num_bytes // pool.num_layers)
        rate = min(pool.nic_bytes_per_us, flight.source.pool.nic_bytes_per_us)
        sendable = rate * (now_us - first.scheduled_us)
        return num_bytes - (earlier if sendable >= earlier else int(sendable))

    def _await_transfers(self) -> None:
        """Make an event for the next end of a transfer."""
        at_us = self._links.next_end_us()
        if at_us < self._awaited_us:
            self._awaited_us = at_us
            key = order_key(Priority.TRANSFER_END)
            call_at(self.env, at_us - int(self.env.now), key, self._end_transfers)

    def _end_transfers(self) -> None:
        """Let in whose KV cache has come by now."""
        now_us = int(self.env.now)
        self._awaited_us = FAR_US
        for number in self._links.pop_ended(now_us):
            flight = self._flights.pop(number)
            second = flight.second
            assert second is not None
            flight.source.instance.let_go(flight.first, now_us)
            flight.first.state = State.ENDED
            flight.source.stop_if_done(now_us)
            second.transferred_us = now_us
            second.state = State.FRONTEND
            instance = flight.destination.instance
            instance.counters.transferred_blocks += flight.num_blocks
            instance.receive(second, now_us)
        self._await_transfers()

    # -- clients who leave ----------------------------------------------------

    def cancel(self, second: Request, now_us: int) -> None:
        """Let a request go whose client left during the transfer or before it."""
        flight = self._flights.pop(second.request_id)
        destination = flight.destination
        flight.source.instance.let_go(flight.first, now_us)
        flight.first.state = State.ENDED
        flight.source.stop_if_done(now_us)
        if flight.is_sending:
            self._links.cancel(second.request_id, now_us)
            destination.instance.let_go(second, now_us)
            self._await_transfers()
        else:
            self._queues[destination.index].remove(flight)
        destination.left(second, 0)
        self._start_transfers(destination, now_us)
        self._on_room(destination, now_us)

    def inside(self) -> list[Request]:
        """Return the requests between two instances."""
        return [f.second for f in self._flights.values() if f.second is not None]
