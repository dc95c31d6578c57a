"""Clients who wait for answers: what they send depends on when they see one.

A :class:`Source` knows when its next request is due, as far as that is decided by now, and is
told when an answer has been seen. Sources stand on one another::

    OpenSource   arrivals that depend on nothing
    UserLoop     N users, each with one request open
    Sessions     conversations: a round follows the answer to the one before
    Stages       one source after another, each when the former has drained
    Merged       several sources at once
    Capped       at most N requests of another source open at a time

:class:`Clients` is the whole load: it numbers the requests in the order they are sent. It must
be asked in order of time, and told of an answer before anything later is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from heapq import heapify, heappop, heappush
from typing import NamedTuple, Protocol

from blis_sim.errors import SimulationError
from blis_sim.workload.request import RequestSpec

FAR_US = 1 << 62
"""A time that never comes."""

_MOST_IN_VAIN = 100_000
"""Requests in a row that end the instant they are sent, before it is taken for an endless loop."""

OnEnd = Callable[[int, bool], None]
"""(when the client saw the answer or stopped waiting, whether it got one)."""


class Sent(NamedTuple):
    """A request on its way, and who wants to know when it ends."""

    spec: RequestSpec
    on_end: OnEnd | None = None


class Source(Protocol):
    """Requests, each due at a time that is known no later than then."""

    @property
    def next_arrival_us(self) -> int:
        """When the next request is due, by what is known now; ``FAR_US`` when none is."""
        ...

    def pop(self, now_us: int) -> Sent:
        """Send the request that is due; ``now_us >= next_arrival_us``.

        Its ``arrival_us`` is when it was due, and its ``request_id`` means nothing yet.
        """
        ...

    def notices(self) -> list[str]:
        """Return what a user should know about requests sent late or not at all."""
        ...


class OpenSource:
    """Requests that arrive whatever happens to the others.

    Parameters
    ----------
    requests : iterator of RequestSpec
        In order of arrival; read one ahead.
    """

    def __init__(self, requests: Iterator[RequestSpec]) -> None:
        self._requests = requests
        self._next = next(requests, None)

    @property
    def next_arrival_us(self) -> int:
        """When the next request is due."""
        return FAR_US if self._next is None else self._next.arrival_us

    def pop(self, now_us: int) -> Sent:
        """Send the request that is due."""
        spec = self._next
        assert spec is not None
        self._next = next(self._requests, None)
        return Sent(spec)

    def notices(self) -> list[str]:
        """Return nothing: everything is sent when it is due."""
        return []


class UserLoop:
    """Users who send one request at a time and think before the next.

    Parameters
    ----------
    requests : iterator of RequestSpec
        What they send, in this order, whoever is next; arrivals are not looked at.
    num_users : int
        All of them begin at ``start_us``.
    think_us : iterator of int
        How long a user thinks, one per request.
    start_us : int
        When they begin.
    end_us : int or None
        Nobody sends anything later.
    """

    def __init__(
        self,
        requests: Iterator[RequestSpec],
        num_users: int,
        think_us: Iterator[int],
        *,
        start_us: int = 0,
        end_us: int | None = None,
    ) -> None:
        self._requests = requests
        self._next = next(requests, None)
        self._think_us = think_us
        self._end_us = FAR_US if end_us is None else end_us
        self._free: list[tuple[int, int]] = [(start_us, user) for user in range(num_users)]
        """When a user sends next, and which."""

    @property
    def next_arrival_us(self) -> int:
        """When the next user sends."""
        if not self._free or self._next is None or self._free[0][0] > self._end_us:
            return FAR_US
        return self._free[0][0]

    def pop(self, now_us: int) -> Sent:
        """Send the request that is due."""
        spec = self._next
        assert spec is not None
        due_us, user = heappop(self._free)
        self._next = next(self._requests, None)
        return Sent(spec._replace(arrival_us=due_us), partial(self._ended, user))

    def _ended(self, user: int, seen_us: int, is_answered: bool) -> None:
        heappush(self._free, (seen_us + next(self._think_us), user))

    def notices(self) -> list[str]:
        """Return nothing: users send what they can."""
        return []


@dataclass(frozen=True, slots=True)
class Conversation:
    """What one session will say.

    Attributes
    ----------
    prompts, outputs : tuple of int
        New tokens and answer of each round.
    think_us : tuple of int
        Time between seeing the answer of a round and sending the next: one less than rounds.
    """

    prompts: tuple[int, ...]
    outputs: tuple[int, ...]
    think_us: tuple[int, ...]


class _Round(NamedTuple):
    """A round of a conversation that is due."""

    spec: RequestSpec
    number: int
    conversation: Conversation
    on_end: OnEnd | None


class Sessions:
    """Conversations, each begun by a request of another source.

    A round whose predecessor got no answer is not sent, nor are those after it.

    Parameters
    ----------
    starts : Source
        The first rounds; their ``session_id`` names the conversation, and their lengths are
        those of round 0.
    conversation_of : callable
        What the conversation with this first round will say.
    accumulates : bool
        Whether a prompt holds the prompts and answers before it.
    max_context_tokens : int or None
        A round that would exceed it is not sent, nor are those after it.
    """

    def __init__(
        self,
        starts: Source,
        conversation_of: Callable[[RequestSpec], Conversation],
        *,
        accumulates: bool,
        max_context_tokens: int | None = None,
    ) -> None:
        self._starts = starts
        self._conversation_of = conversation_of
        self._accumulates = accumulates
        self._max_context = max_context_tokens
        self._due: list[tuple[int, int, _Round]] = []
        self._num_queued = 0
        self.num_given_up = 0
        """Rounds that were not sent because one before them got no answer."""
        self.num_too_long = 0
        """Rounds that were not sent because of ``max_context_tokens``."""

    @property
    def next_arrival_us(self) -> int:
        """When the next round, or the next conversation, is due."""
        start_us = self._starts.next_arrival_us
        return min(start_us, self._due[0][0]) if self._due else start_us

    def pop(self, now_us: int) -> Sent:
        """Send the round that is due; at one instant those of earlier conversations first."""
        if self._due and self._due[0][0] <= self._starts.next_arrival_us:
            this = heappop(self._due)[2]
        else:
            spec, on_end = self._starts.pop(now_us)
            this = _Round(spec, 0, self._conversation_of(spec), on_end)
        return Sent(this.spec, partial(self._ended, this))

    def notices(self) -> list[str]:
        """Return how many rounds were not sent, and why."""
        notices = self._starts.notices()
        if self.num_given_up:
            notices.append(
                f"{self.num_given_up:,} further rounds of conversations were not sent: a round "
                "before them got no answer"
            )
        if self.num_too_long:
            notices.append(
                f"{self.num_too_long:,} further rounds of conversations were not sent: they "
                f"would have exceeded max_context_tokens ({self._max_context:,})"
            )
        return notices

    def _ended(self, this: _Round, seen_us: int, is_answered: bool) -> None:
        num_left = len(this.conversation.prompts) - this.number - 1
        if num_left and is_answered:
            due_us = seen_us + this.conversation.think_us[this.number]
            following = self._following(this, due_us)
            if following is not None:
                self._num_queued += 1
                heappush(self._due, (due_us, self._num_queued, following))
                return
            self.num_too_long += num_left
        elif num_left:
            self.num_given_up += num_left
        if this.on_end is not None:
            this.on_end(seen_us, is_answered)

    def _following(self, this: _Round, due_us: int) -> _Round | None:
        """Return the round after one that was answered, None when it would be too long."""
        before, number = this.spec, this.number + 1
        prompt, output = this.conversation.prompts[number], this.conversation.outputs[number]
        if self._accumulates:
            answer = before.output_tokens
            if before.max_output_tokens is not None:
                answer = min(answer, before.max_output_tokens)
            prompt += before.prompt_tokens + answer
        else:
            prompt += before.prefix_tokens
        if self._max_context is not None and prompt + output > self._max_context:
            return None
        spec = before._replace(
            arrival_us=due_us,
            prompt_tokens=prompt,
            output_tokens=output,
            round=number if self._accumulates else 0,
        )
        return this._replace(spec=spec, number=number)


class Stage(NamedTuple):
    """One of several sources, and when its time is over."""

    source: Source
    end_us: int


class Stages:
    """Sources one after the other, each beginning when the one before has drained.

    Parameters
    ----------
    open_stage : callable
        Returns the stage with this number, beginning at a time, or None after the last.
    gap_us : int
        From the end of a stage, or its last answer if that is later, to the next one.
    start_us : int
        When the first stage begins.
    """

    def __init__(
        self, open_stage: Callable[[int, int], Stage | None], gap_us: int, start_us: int = 0
    ) -> None:
        self._open_stage = open_stage
        self._gap_us = gap_us
        self._number = 0
        self._num_open = 0
        self._drained_us = start_us
        self._source: Source | None = None
        self._notices: list[str] = []
        self._open(start_us)
        self._step_on()

    def _open(self, begin_us: int) -> None:
        stage = self._open_stage(self._number, begin_us)
        if self._source is not None:
            self._notices += self._source.notices()
        self._source = None
        if stage is not None:
            self._source, self._drained_us = stage

    def _step_on(self) -> None:
        """Begin the next stage if this one has nothing left and nobody waits."""
        while (
            self._source is not None
            and not self._num_open
            and self._source.next_arrival_us == FAR_US
        ):
            self._number += 1
            self._open(self._drained_us + self._gap_us)

    @property
    def next_arrival_us(self) -> int:
        """When the next request is due."""
        return FAR_US if self._source is None else self._source.next_arrival_us

    def pop(self, now_us: int) -> Sent:
        """Send the request that is due."""
        assert self._source is not None
        spec, on_end = self._source.pop(now_us)
        self._num_open += 1
        return Sent(spec, partial(self._ended, on_end))

    def _ended(self, on_end: OnEnd | None, seen_us: int, is_answered: bool) -> None:
        if on_end is not None:
            on_end(seen_us, is_answered)
        self._num_open -= 1
        self._drained_us = max(self._drained_us, seen_us)
        self._step_on()

    def notices(self) -> list[str]:
        """Return what a user should know, stage by stage."""
        return self._notices + ([] if self._source is None else self._source.notices())


class Merged:
    """Several sources at once; at one instant the first of them sends first."""

    def __init__(self, sources: list[Source]) -> None:
        self._sources = sources

    @property
    def next_arrival_us(self) -> int:
        """When the next request of any of them is due."""
        return min((source.next_arrival_us for source in self._sources), default=FAR_US)

    def pop(self, now_us: int) -> Sent:
        """Send the request that is due."""
        return min(self._sources, key=lambda source: source.next_arrival_us).pop(now_us)

    def notices(self) -> list[str]:
        """Return what a user should know, source by source."""
        return [notice for source in self._sources for notice in source.notices()]


class Capped:
    """At most so many requests open at a time; what is due waits its turn, first come first.

    A request is sent when it is due and a place is free. The place becomes free when the
    client has seen the answer.
    """

    def __init__(self, source: Source, max_outstanding: int) -> None:
        self._source = source
        self._max_outstanding = max_outstanding
        self._free = [0] * max_outstanding
        """When each free place became free."""
        heapify(self._free)
        self.num_held_back = 0
        """Requests that were sent later than they were due."""
        self.longest_wait_us = 0

    @property
    def next_arrival_us(self) -> int:
        """When the next request is due and a place is free."""
        if not self._free:
            return FAR_US
        due_us = self._source.next_arrival_us
        return max(due_us, self._free[0])

    def pop(self, now_us: int) -> Sent:
        """Send the request that is due."""
        send_us = self.next_arrival_us
        free_us = heappop(self._free)
        spec, on_end = self._source.pop(now_us)
        if free_us > spec.arrival_us:
            self.num_held_back += 1
            self.longest_wait_us = max(self.longest_wait_us, send_us - spec.arrival_us)
        return Sent(spec._replace(arrival_us=send_us), partial(self._ended, on_end))

    def notices(self) -> list[str]:
        """Return how many requests were sent late."""
        notices = self._source.notices()
        if self.num_held_back:
            notices.append(
                f"{self.num_held_back:,} requests were due while {self._max_outstanding:,} were "
                "open and were sent when a place became free, up to "
                f"{self.longest_wait_us / 1e6:,.3f} s late"
            )
        return notices

    def _ended(self, on_end: OnEnd | None, seen_us: int, is_answered: bool) -> None:
        heappush(self._free, seen_us)
        if on_end is not None:
            on_end(seen_us, is_answered)


class Clients:
    """A load whose clients wait for answers, sent in order of time and numbered from 0.

    Parameters
    ----------
    source : Source
        What is sent.
    num_requests : int or None
        How many at most.
    """

    def __init__(self, source: Source, num_requests: int | None = None) -> None:
        self._source = source
        self._num_left = FAR_US if num_requests is None else num_requests
        self._waiting: dict[int, OnEnd] = {}
        self._sent_us: int = 0
        self._num_in_vain = 0
        self.num_sent = 0
        self.next_arrival_us = 0
        """When the next request is sent, by what is known now; ``FAR_US`` when none is."""
        self._look()

    def notices(self) -> list[str]:
        """Return what a user should know about requests sent late or not at all."""
        return self._source.notices()

    def _look(self) -> None:
        self.next_arrival_us = self._source.next_arrival_us if self._num_left else FAR_US

    def pop(self) -> RequestSpec:
        """Return the request sent at ``next_arrival_us``; its arrival is the time it is sent."""
        now_us = self.next_arrival_us
        spec, on_end = self._source.pop(now_us)
        number = self.num_sent
        if on_end is not None:
            self._waiting[number] = on_end
        self.num_sent = number + 1
        self._num_left -= 1
        self._sent_us = now_us
        self._look()
        return spec._replace(request_id=number, arrival_us=now_us)

    def ended(self, request_id: int, seen_us: int, *, is_answered: bool) -> None:
        """Take note that a client has seen its answer, or has stopped waiting.

        Raises
        ------
        SimulationError
            Request after request ends in the instant it is sent: time stands still.
        """
        on_end = self._waiting.pop(request_id, None)
        if on_end is None:
            return
        self._num_in_vain = self._num_in_vain + 1 if seen_us <= self._sent_us else 0
        if self._num_in_vain > _MOST_IN_VAIN and not is_answered:
            raise SimulationError(
                f"clients must be able to get an answer; got {_MOST_IN_VAIN:,} requests in a row "
                f"that were turned away when they were sent, at {seen_us / 1e6:g} s; check the "
                "lengths against max_model_len, or set num_requests"
            )
        on_end(seen_us, is_answered)
        self._look()
