"""What happened to each request, told from the columns of a run and the log of its instances.

::

    arrival    dispatched     enqueued      seat        first token   last token    client
       |--gateway--|--frontend--|--waiting--|--prefill--|---decode---|---output---|

    preempted:             ..decode--|--preempted--|--recompute--|--decode..
    prompt apart:          ..prefill--|--transfer--|--waiting--|--decode..

All moments are the engine's, but for the last: a client sees a token one output processing later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import NamedTuple

from blis_sim.metrics.records import ABSENT, RunData, Status
from blis_sim.metrics.timeline import Change, Timeline, rows

_COLUMNS = (
    *("request_id", "arrival_us", "dispatched_us", "enqueued_us", "transferred_us"),
    *("last_token_us", "prefill_instance", "instance", "status"),
)
TURNED_AWAY = frozenset({Status.REJECTED, Status.DROPPED})


class Phase(NamedTuple):
    """What a request was doing for a while."""

    name: str
    start_us: int
    end_us: int
    instance: int | None
    """Where; None before an instance was chosen."""


class Move(NamedTuple):
    """One request more or less in a waiting queue and a running list."""

    time_us: int
    num_waiting: int
    num_running: int


@dataclass(slots=True)
class Story:
    """One request from its arrival to its end.

    Attributes
    ----------
    row : int
        Its place in the columns of the run.
    start_us, end_us : int
        Arrival; when its client had the last token or left (or its place was free, if that came
        later), or the end of the run.
    phases : list of Phase
        One after the other, without gaps; those of no length are left out.
    preemptions : list of (int, int)
        When it lost its blocks, and on which instance.
    """

    row: int
    start_us: int
    end_us: int
    phases: list[Phase] = field(default_factory=list)
    preemptions: list[tuple[int, int]] = field(default_factory=list)


class Stories:
    """Tells the stories of all requests.

    Parameters
    ----------
    run : RunData
        Whose requests.
    timeline : Timeline
        What was logged beside it.
    """

    def __init__(self, run: RunData, timeline: Timeline) -> None:
        self.moves: defaultdict[int, list[Move]] = defaultdict(list)
        """Of the requests told so far, by instance, in no order."""
        self._is_cluster = bool(run.pools)
        self._end_us = run.end_us
        self._deadlines_us = timeline.deadlines_us
        self._columns = [getattr(run.requests, name).tolist() for name in _COLUMNS]
        self._changes: defaultdict[int, list[tuple[int, int, Change]]] = defaultdict(list)
        for number, log in enumerate(timeline.instances):
            for time_us, request_id, change in rows(log.changes, 3).tolist():
                self._changes[request_id].append((time_us, number, Change(change)))

    def tell(self) -> Iterator[Story]:
        """Yield the stories, in order of the requests' numbers; who was turned away has none."""
        for row, cells in enumerate(zip(*self._columns, strict=True)):
            request = SimpleNamespace(**dict(zip(_COLUMNS, cells, strict=True)))
            if request.status not in TURNED_AWAY:
                yield self._story(row, request)

    def _story(self, row: int, request: SimpleNamespace) -> Story:
        changes = self._changes.pop(request.request_id, [])
        instance, source = request.instance, request.prefill_instance
        # At one instant the instance of the prompt comes first; each log is in order.
        changes.sort(key=lambda change: (change[0], change[1] != source))
        telling = _Telling(self.moves, row, request.arrival_us, is_cluster=self._is_cluster)
        first = instance if source == ABSENT else source
        if request.dispatched_us != ABSENT:
            telling.go_on(request.dispatched_us, "frontend", first)
        if request.enqueued_us != ABSENT:
            telling.go_on(request.enqueued_us, "waiting", first)
            telling.move(request.enqueued_us, 1, 0)
        for time_us, where, change in changes:
            telling.note(time_us, change)
            if change is Change.LEFT and where == source:
                telling.hand_over(time_us, request.transferred_us, instance)
        return telling.end(self._end_of(request, changes[-1][0] if changes else 0))

    def _end_of(self, request: SimpleNamespace, last_change_us: int) -> int:
        if request.status == Status.COMPLETED:
            return int(request.last_token_us)
        if request.status in {Status.ABORTED, Status.TIMED_OUT}:
            return max(self._deadlines_us[request.request_id], last_change_us)
        return self._end_us


class _Telling:
    """A story in the making."""

    def __init__(
        self, moves: defaultdict[int, list[Move]], row: int, start_us: int, *, is_cluster: bool
    ) -> None:
        self._moves = moves
        self._story = Story(row, start_us, start_us)
        self._name = "gateway" if is_cluster else "frontend"
        self._where: int | None = None if is_cluster else 0
        self._since_us = start_us
        self._is_running = False
        self._was_computed = False

    def go_on(self, time_us: int, name: str, where: int | None = None) -> None:
        """End the present phase, unless it has no length, and begin the next one."""
        if time_us > self._since_us:
            phase = Phase(self._name, self._since_us, time_us, self._where)
            self._story.phases.append(phase)
            self._since_us = time_us
        self._name = name
        if where is not None:
            self._where = where

    def move(self, time_us: int, num_waiting: int, num_running: int) -> None:
        """Change the counts of the instance where the request is."""
        assert self._where is not None
        self._moves[self._where].append(Move(time_us, num_waiting, num_running))

    def note(self, time_us: int, change: Change) -> None:
        """Go on as the log says."""
        if change is Change.SEATED or change is Change.PLACED:
            again = "recompute" if self._was_computed else "prefill"
            self.go_on(time_us, "decode" if change is Change.PLACED else again)
            self.move(time_us, -1, 1)
            self._is_running = True
        elif change is Change.COMPUTED:
            self._was_computed = True
            if self._is_running and self._name != "decode":
                self.go_on(time_us, "decode")
        elif change is Change.LEFT:
            self.go_on(time_us, "output")
            self.move(time_us, -(not self._is_running), -self._is_running)
            self._is_running = False
        else:
            self._lose_blocks(time_us, change)

    def _lose_blocks(self, time_us: int, change: Change) -> None:
        assert self._where is not None
        self._story.preemptions.append((time_us, self._where))
        if change is Change.PREEMPTED:
            self.go_on(time_us, "preempted")
            self.move(time_us, 1, -1)
            self._is_running = False

    def hand_over(self, time_us: int, transferred_us: int, instance: int) -> None:
        """Go over to the instance that generates the answer."""
        self._was_computed = True
        self.go_on(time_us, "transfer", instance)
        if transferred_us != ABSENT:
            self.go_on(transferred_us, "waiting")
            self.move(transferred_us, 1, 0)

    def end(self, time_us: int) -> Story:
        """Return the whole story."""
        self.go_on(time_us, "")
        self._story.end_us = max(time_us, self._since_us)
        return self._story
