"""What a timeline is drawn from: every engine step, and what changed on the instances when.

The columns of a run say when requests arrived, were first scheduled and ended. Here stands what
they do not say: the steps, who got a seat again and lost it, and how many blocks were held.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from blis_sim.errors import ConfigError
from blis_sim.metrics.columns import Column
from blis_sim.metrics.recorder import Recorder
from blis_sim.metrics.records import Status
from blis_sim.units import seconds_to_us, us_to_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from blis_sim.engine.decode_run import DecodeRun
    from blis_sim.engine.request import Request
    from blis_sim.latency.base import Batch
    from blis_sim.metrics.records import Int64Array, RunData

MAX_EVENTS = 1_000_000
"""Viewers become slow somewhere beyond."""
FAR_US = 1 << 62
"""A time that never comes."""
STEP_KINDS = ("prefill", "decode", "mixed")
_MAX_S = 1e9


class Change(IntEnum):
    """What happens to a request on an instance."""

    SEATED = 0
    """Admitted to the running list."""
    PLACED = 1
    """Admitted with the blocks of its prompt, which were computed elsewhere."""
    COMPUTED = 2
    """A step has ended that computed all its tokens: one more is out."""
    PREEMPTED = 3
    """Back in the waiting queue, without its blocks."""
    TAKEN_BACK = 4
    """Still in the waiting queue, the blocks of its prompt lost."""
    LEFT = 5
    """Gone from the instance, or its prompt is, to another one."""


@dataclass(frozen=True, slots=True)
class TimelineSettings:
    """Which part of a run a timeline shows: whatever overlaps it.

    Attributes
    ----------
    from_s : float
        Its start, simulated seconds, >= 0.
    duration_s : float or None
        Its length, seconds, > 0; None = to the end of the run.
    max_events : int
        A timeline of more events is refused.
    """

    from_s: float = 0.0
    duration_s: float | None = None
    max_events: int = MAX_EVENTS

    def __post_init__(self) -> None:
        if not 0 <= self.from_s <= _MAX_S:
            raise ConfigError(f"a timeline's from_s must be from 0 to 1e9 s; got {self.from_s}")
        if self.duration_s is not None and not 1e-6 <= self.duration_s <= _MAX_S:
            raise ConfigError(
                f"a timeline's duration_s must be from 0.000001 to 1e9 s; got {self.duration_s}"
            )

    @property
    def from_us(self) -> int:
        """Its start in microseconds."""
        return seconds_to_us(self.from_s)

    @property
    def until_us(self) -> int:
        """Its end in microseconds, ``FAR_US`` when it has none."""
        if self.duration_s is None:
            return FAR_US
        return self.from_us + max(1, seconds_to_us(self.duration_s))

    def check_events(self, num_events: int, until_us: int) -> None:
        """Check how many events there are up to an instant.

        Raises
        ------
        ConfigError
            They are too many.
        """
        if num_events > self.max_events:
            raise ConfigError(
                f"a timeline must have at most {self.max_events:,} events; got at least "
                f"{num_events:,} from {self.from_s:g} s to {us_to_seconds(until_us):.6g} s of "
                "simulated time; show less with --timeline-from and --timeline-duration"
            )


class InstanceLog:
    """What happened on one instance, in order of time.

    Parameters
    ----------
    timeline : Timeline
        Whose part it is.
    """

    __slots__ = (
        "_from_us",
        "_timeline",
        "_until_us",
        "blocks",
        "changes",
        "num_blocks_before",
        "steps",
    )

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._from_us = timeline.settings.from_us
        self._until_us = timeline.settings.until_us
        self.steps = array("q")
        """Of each step that overlaps the timeline: start and end in us, prompt tokens, decodes,
        requests, and tokens that had been computed for these requests before."""
        self.num_blocks_before = 0
        """Blocks that were held when the timeline begins."""
        self.blocks = array("q")
        """Blocks taken and given back from then on: when in us, and how many more are held."""
        self.changes = array("q")
        """Of each change: when in us, of which request, and its `Change`."""

    def add_step(self, batch: Batch, start_us: int, end_us: int) -> None:
        """Take note of an ordinary step that has ended."""
        if start_us < self._until_us and end_us > self._from_us:
            prefills = batch.prefills
            self._add_step(
                start_us,
                end_us,
                batch.num_prefill_tokens,
                batch.num_decodes,
                batch.num_decodes + len(prefills),
                batch.sum_decode_context + sum(chunk.context_tokens for chunk in prefills),
            )

    def add_run(self, run: DecodeRun, num_ended: int, context_tokens: int) -> None:
        """Take note of the steps of a run that have ended since the last time.

        ``context_tokens`` are those of the first of them; each step adds one per decode.
        """
        start_us, count = run.ended_us, run.num_decodes
        if start_us >= self._until_us or run.end_of(num_ended) <= self._from_us:
            return
        for number in range(run.num_ended + 1, num_ended + 1):
            end_us = run.end_of(number)
            if start_us < self._until_us and end_us > self._from_us:
                self._add_step(start_us, end_us, 0, count, count, context_tokens)
            context_tokens += count
            start_us = end_us

    def _add_step(self, start_us: int, end_us: int, *work: int) -> None:
        self.steps.extend((start_us, end_us, *work))
        self._timeline.count_step(end_us)

    def add_blocks(self, now_us: int, num_more: int) -> None:
        """Take note of blocks taken, or, below 0, given back."""
        if now_us < self._from_us:
            self.num_blocks_before += num_more
        elif num_more and now_us < self._until_us:
            self.blocks.extend((now_us, num_more))

    def add_change(self, now_us: int, request: Request, change: Change) -> None:
        """Take note of what happened to a request."""
        self.changes.extend((now_us, request.request_id, change))


class Timeline:
    """What a timeline is drawn from, besides the columns of the run.

    Parameters
    ----------
    settings : TimelineSettings
        Which part of the run.
    """

    def __init__(self, settings: TimelineSettings) -> None:
        self.settings = settings
        self.instances: list[InstanceLog] = []
        """In order of their numbers."""
        self.deadlines_us: dict[int, int] = {}
        """When the clients left who did not wait for the end, by the number of the request."""
        self._num_steps = 0

    def add_instance(self) -> InstanceLog:
        """Return the log of the next instance."""
        log = InstanceLog(self)
        self.instances.append(log)
        return log

    def count_step(self, end_us: int) -> None:
        """Count a step, each of which is an event; raises as `TimelineSettings.check_events`."""
        self._num_steps += 1
        if self._num_steps > self.settings.max_events:
            self.settings.check_events(self._num_steps, end_us)


class TimelineRecorder(Recorder):
    """A recorder for a run of which a timeline is wanted.

    Parameters
    ----------
    settings : TimelineSettings
        Which part of the run.
    on_progress
        As for `Recorder`.
    """

    def __init__(
        self,
        settings: TimelineSettings,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        super().__init__(on_progress)
        self.timeline: Timeline = Timeline(settings)

    def end(self, request: Request) -> None:
        """Record a request that ended, and when its client left if that ended it."""
        super().end(request)
        deadline_us = request.abort_deadline_us
        if deadline_us is not None and request.status in {Status.ABORTED, Status.TIMED_OUT}:
            self.timeline.deadlines_us[request.request_id] = deadline_us


def make_recorder(
    timeline: TimelineSettings | None,
    on_progress: Callable[[int, int], None] | None,
    *,
    count_work: bool = False,
) -> Recorder:
    """Return a recorder, one for a timeline or of work done where it is wanted."""
    recorder = (
        Recorder(on_progress) if timeline is None else TimelineRecorder(timeline, on_progress)
    )
    if count_work:
        recorder.work = []
    return recorder


def rows(log: array[int], width: int) -> Int64Array:
    """Return a log as a table, int64[rows, width]."""
    return np.frombuffer(log, dtype=np.int64).reshape(-1, width)


def step_columns(run: RunData) -> list[Column] | None:
    """Return one row per engine step, by instance and time; None when no timeline was kept.

    ``context_tokens`` are those computed, before the step, for the requests in it.
    """
    if run.timeline is None:
        return None
    tables = [rows(log.steps, 6) for log in run.timeline.instances]
    instance = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    steps = np.concatenate([np.empty((0, 6), dtype=np.int64), *tables])
    start_us, end_us, prompt, decodes, num_requests, context = np.ascontiguousarray(steps.T)
    return [
        Column("instance", instance),
        Column("start_us", start_us),
        Column("duration_us", end_us - start_us),
        Column("kind", np.where(prompt > 0, 2 * (decodes > 0), 1), labels=STEP_KINDS),
        Column("prefill_tokens", prompt),
        Column("decode_tokens", decodes),
        Column("num_requests", num_requests),
        Column("context_tokens", context),
    ]
