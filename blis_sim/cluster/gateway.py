"""The gateway: who is admitted, who waits, and where each request goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from blis_sim.cluster.admission import make_admission
from blis_sim.cluster.asked import Asked
from blis_sim.cluster.queue import make_queue
from blis_sim.cluster.routing.select import make_router
from blis_sim.engine.request import State
from blis_sim.metrics.records import Decision, Status
from blis_sim.rng import named_stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blis_sim.cluster.config import ClusterConfig
    from blis_sim.cluster.fleet import Fleet
    from blis_sim.cluster.handovers import Handovers
    from blis_sim.cluster.replica import Replica
    from blis_sim.cluster.routing.base import Choice, Router
    from blis_sim.engine.request import Request
    from blis_sim.workload.request import RequestSpec

    class TurnAway(Protocol):
        """Ends a request that no instance has."""

        def __call__(self, request: Request, status: Status, reason: str) -> None:
            """End it now."""


class Gateway:
    """Takes requests in and sends each to an instance, at once or when there is room.

    Parameters
    ----------
    config : ClusterConfig
        Admission, queue, routing.
    fleet : Fleet
        The instances.
    handovers : Handovers or None
        With prefill and decode pools, what happens between them.
    turn_away : callable
        Ends a request that is rejected, or that no instance could ever serve.
    decisions : list of Decision or None
        Where choices are noted; None = nowhere.
    """

    def __init__(
        self,
        config: ClusterConfig,
        fleet: Fleet,
        handovers: Handovers | None,
        turn_away: TurnAway,
        decisions: list[Decision] | None = None,
    ) -> None:
        self._fleet = fleet
        self._handovers = handovers
        self._turn_away = turn_away
        self._decisions = decisions
        gateway = config.gateway
        self._admission = make_admission(gateway.admission)
        self._queue = make_queue(gateway, config.ttft_limit_ms)
        self._queue_limit = gateway.queue_limit
        self._most_outstanding = gateway.max_outstanding_per_instance
        self._waiting: dict[int, Request] = {}
        self._router = make_router(config.routing, named_stream(config.seed, "router"))
        self._decode_router = self._router
        roles = ("prefill", "decode") if config.is_disaggregated else ("mixed",)
        self._roles = roles
        if handovers is not None:
            routing = config.disaggregation.decode_routing or config.routing
            self._decode_router = make_router(routing, named_stream(config.seed, "decode-router"))
        # The longest sequence that some instance of each role takes.
        self._longest = [
            max(p.engine.scheduler.max_model_len for p in config.pools if p.data.role == role)
            for role in roles
        ]
        lengths = {p.engine.scheduler.max_model_len for p in config.pools}
        self._shortest = min(lengths)
        self._is_one_length = len(lengths) == 1

    @property
    def waiting(self) -> Sequence[Request]:
        """Requests that wait in the gateway."""
        return list(self._waiting.values())

    @property
    def num_waiting(self) -> int:
        """Requests that wait in the gateway."""
        return len(self._waiting)

    @property
    def has_queue(self) -> bool:
        """Whether requests may wait here."""
        return self._most_outstanding is not None

    def arrive(self, request: Request, now_us: int) -> None:
        """Take in a request that has just arrived."""
        asked = Asked(request.spec)
        too_long = self._too_long(request.spec)
        if too_long is not None:
            self._turn_away(request, Status.DROPPED, too_long)
            return
        refusal = self._admission.refusal(asked, now_us, self._loads)
        if refusal is not None:
            self._turn_away(request, Status.REJECTED, refusal)
            return
        if not self._waiting and self._dispatch(request, asked, now_us):
            return
        if self._queue_limit is not None and len(self._waiting) >= self._queue_limit:
            self._turn_away(request, Status.REJECTED, "the gateway's queue is full")
            return
        self._waiting[request.request_id] = request
        self._queue.push(asked)

    def send_waiting(self, now_us: int) -> None:
        """Send on who waits, as long as there is room."""
        while self._waiting:
            asked = self._queue.peek()
            if not self._dispatch(self._waiting[asked.request_id], asked, now_us):
                return
            del self._waiting[asked.request_id]
            self._queue.pop()

    def remove(self, request: Request) -> None:
        """Let a waiting request go whose client has left."""
        del self._waiting[request.request_id]
        self._queue.remove(request.request_id)

    def forget(self, replica: Replica) -> None:
        """Take note that an instance takes no more requests."""
        self._router.forget(replica.index)
        self._decode_router.forget(replica.index)

    # -- choosing -------------------------------------------------------------

    def _too_long(self, spec: RequestSpec) -> str | None:
        """Return why no instance could ever serve a request, None when one could."""
        if spec.prompt_tokens + (spec.max_output_tokens or 1) <= self._shortest:
            return None
        first = self._longest[0]
        if spec.prompt_tokens >= min(self._longest):
            return f"prompt_tokens >= max_model_len ({min(self._longest)} tokens)"
        last = self._longest[-1]
        if spec.max_output_tokens is not None and spec.prompt_tokens + spec.max_output_tokens > (
            last if self._handovers is not None else first
        ):
            return f"prompt_tokens + max_output_tokens > max_model_len ({last} tokens)"
        return None

    def _loads(self) -> list[int]:
        """Return the requests waiting and running on each instance that takes requests."""
        return [r.num_outstanding for role in self._roles for r in self._fleet.ready(role)]

    def _candidates(self, role: str, spec: RequestSpec) -> Sequence[Replica]:
        """Return the instances that could take a request now."""
        ready = self._fleet.ready(role)
        most = self._most_outstanding
        if most is not None:
            ready = [r for r in ready if r.num_outstanding < most]
        if not self._is_one_length:
            answer = spec.max_output_tokens if spec.max_output_tokens and role != "prefill" else 1
            needed = spec.prompt_tokens + answer
            ready = [r for r in ready if r.pool.engine.scheduler.max_model_len >= needed]
        return ready

    def _dispatch(self, request: Request, asked: Asked, now_us: int) -> bool:
        """Send a request to an instance; False when none has room."""
        spec = request.spec
        if self._handovers is not None:
            return self._dispatch_apart(self._handovers, request, asked, now_us)
        candidates = self._candidates("mixed", spec)
        if not candidates:
            return False
        replica = self._choose(self._router, "serve", asked, candidates)
        send(request, replica, now_us)
        return True

    def _dispatch_apart(
        self, handovers: Handovers, request: Request, asked: Asked, now_us: int
    ) -> bool:
        """Send a request to a decode instance, by way of a prefill instance where that pays."""
        decodes = self._candidates("decode", request.spec)
        if not decodes:
            return False
        choice = self._decode_router.choose(asked, decodes)
        destination = decodes[choice.position]
        stays = handovers.stays_together(asked, destination)
        prefills = () if stays else self._candidates("prefill", request.spec)
        if not stays and not prefills:
            return False
        self._note(self._decode_router, "decode", asked, decodes, choice)
        if stays:
            send(request, destination, now_us)
        else:
            source = self._choose(self._router, "prefill", asked, prefills)
            handovers.begin(request, asked, source, destination, now_us)
        return True

    def _choose(
        self, router: Router, purpose: str, asked: Asked, candidates: Sequence[Replica]
    ) -> Replica:
        choice = router.choose(asked, candidates)
        return self._note(router, purpose, asked, candidates, choice)

    def _note(
        self,
        router: Router,
        purpose: str,
        asked: Asked,
        candidates: Sequence[Replica],
        choice: Choice,
    ) -> Replica:
        """Tell the router that its choice holds, and note it."""
        replica = candidates[choice.position]
        router.sent(asked, replica)
        if self._decisions is not None:
            self._decisions.append(
                Decision(
                    time_us=int(replica.env.now),
                    request_id=asked.request_id,
                    purpose=purpose,
                    candidates=tuple(c.index for c in candidates),
                    chosen=replica.index,
                    scores=choice.scores,
                )
            )
        return replica


def output_limit(spec: RequestSpec, max_model_len: int) -> int:
    """Return how many tokens a request will generate on an instance that can serve it."""
    limit = min(spec.output_tokens, max_model_len - spec.prompt_tokens)
    return limit if spec.max_output_tokens is None else min(limit, spec.max_output_tokens)


def send(request: Request, replica: Replica, now_us: int) -> None:
    """Send a request to an instance that serves it whole."""
    request.output_limit = output_limit(request.spec, replica.pool.engine.scheduler.max_model_len)
    request.dispatched_us = now_us
    request.state = State.FRONTEND
    replica.send(request, now_us)
