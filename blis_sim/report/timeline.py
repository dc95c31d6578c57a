"""A run as events of the Trace Event Format, which ui.perfetto.dev and chrome://tracing show.

One process per instance, with a track of its engine steps and counters of its KV blocks and
requests; one for all requests, each in a lane of its own while it lasts; of a cluster, one for
the gateway and the autoscalers. Times are microseconds of simulated time.

What overlaps the timeline is shown whole; counters begin with what they were at its start.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from blis_sim.errors import SimulationError
from blis_sim.metrics.records import RunData, Status
from blis_sim.metrics.result import Result
from blis_sim.metrics.timeline import STEP_KINDS, InstanceLog, Timeline, rows
from blis_sim.report.request_lanes import Labels, Lanes
from blis_sim.report.request_stories import TURNED_AWAY, Stories, Story

Event = dict[str, Any]


def timeline_events(result: Result) -> Iterator[Event]:
    """Yield the events of a run: names first, then instance by instance, then the requests.

    Raises
    ------
    SimulationError
        The run was not recorded for a timeline.
    ConfigError
        There are more events than a timeline may have.
    """
    timeline = result.run.timeline
    if timeline is None:
        raise SimulationError(
            "--timeline-out must follow a run that was recorded for a timeline; got one that was "
            "not; run again with record_timeline"
        )
    settings = timeline.settings
    events = _Drawing(result, timeline).events()
    yield from islice(events, settings.max_events)
    num_more = sum(1 for _ in events)
    end_us = min(settings.until_us, result.run.end_us)
    settings.check_events(num_more and settings.max_events + num_more, end_us)


def other_data(result: Result) -> dict[str, Any]:
    """Return what was simulated, for the head of the file."""
    context, manifest = result.context, result.manifest
    about = {
        "model": context.model,
        "gpu": context.gpu,
        "tensor_parallel_size": context.tensor_parallel_size,
        "num_instances": context.num_instances,
        "latency_model": context.latency_model,
        "seed": context.seed,
        "scenario_sha256": manifest["scenario_sha256"],
        "blis_sim_version": context.package_version,
    }
    timeline = result.run.timeline
    if timeline is not None:
        settings = timeline.settings
        about |= {"timeline_from_s": settings.from_s, "timeline_duration_s": settings.duration_s}
    return about


class _Level(NamedTuple):
    """A counter's value from an instant on."""

    time_us: int
    values: tuple[int, ...]


class _Drawing:
    """The events of one run.

    Parameters
    ----------
    result : Result
        The run.
    timeline : Timeline
        Its own.
    """

    def __init__(self, result: Result, timeline: Timeline) -> None:
        self._run: RunData = result.run
        self._context = result.context
        self._timeline = timeline
        self._from_us = timeline.settings.from_us
        self._until_us = timeline.settings.until_us
        self._num_instances = len(timeline.instances)
        self._requests_pid = self._num_instances + 1
        self._gateway_pid = self._num_instances + 2
        # Numbers of tracks are those of nothing else: viewers name them by it. The steps of an
        # instance are the main track of its process.
        self._first_tid = self._gateway_pid + 1
        self._turned_away_tid = self._first_tid + len(self._run.pools)
        self._stories: list[Story] = []

    def _overlaps(self, start_us: int, end_us: int) -> bool:
        return start_us < self._until_us and (end_us > self._from_us or start_us >= self._from_us)

    def events(self) -> Iterator[Event]:
        """Yield all events."""
        stories = Stories(self._run, self._timeline)
        num_events = 0
        for story in stories.tell():
            if self._overlaps(story.start_us, story.end_us):
                self._stories.append(story)
                num_events += 1 + len(story.phases) + len(story.preemptions)
                self._timeline.settings.check_events(num_events, story.start_us)
        self._stories.sort(key=lambda story: story.start_us)
        if self._run.pools:
            yield from self._cluster()
        for number, log in enumerate(self._timeline.instances):
            if not self._exists(number):
                continue
            yield from self._names(number + 1, self._instance_name(number), number + 1)
            yield _name("thread_name", (number + 1, number + 1), "engine steps")
            yield from self._life(number)
            yield from self._steps(number + 1, log)
            yield from self._blocks(number, log)
            moves = ((m.time_us, (m.num_running, m.num_waiting)) for m in stories.moves[number])
            changes = [(0, (0, 0)), *moves]
            yield from self._counter(number + 1, "requests", ("running", "waiting"), changes)
        yield from self._requests()

    # -- instances ------------------------------------------------------------

    def _names(self, pid: int, name: str, place: int) -> Iterator[Event]:
        yield {"name": "process_name", "ph": "M", "pid": pid, "args": {"name": name}}
        index = {"sort_index": place}
        yield {"name": "process_sort_index", "ph": "M", "pid": pid, "args": index}

    def _instance_name(self, number: int) -> str:
        context, run = self._context, self._run
        if not run.pools:
            return f"instance {number} ({context.gpu} TP {context.tensor_parallel_size})"
        pool = run.pools[run.instances[number].pool]
        role = "" if pool.role == "mixed" else f"{pool.role}, "
        return (
            f"instance {number} (pool {pool.name}, {role}{pool.gpu} TP {pool.gpus_per_instance})"
        )

    def _exists(self, number: int) -> bool:
        """Return whether an instance exists at any time of the timeline."""
        if not self._run.pools:
            return True
        record = self._run.instances[number]
        end_us = self._run.end_us if record.stopped_us is None else record.stopped_us
        return self._overlaps(record.started_us, max(record.started_us, end_us))

    def _life(self, number: int) -> Iterator[Event]:
        """Yield when an instance came and went that has not always been there."""
        if not self._run.pools:
            return
        record = self._run.instances[number]
        moments = [("drained", record.drained_us), ("stopped", record.stopped_us)]
        if record.ready_us:
            moments = [("started", record.started_us), ("ready", record.ready_us), *moments]
        for name, at_us in moments:
            if at_us is not None and at_us <= self._run.end_us:
                yield from self._instant(name, at_us, (number + 1, number + 1))

    def _steps(self, pid: int, log: InstanceLog) -> Iterator[Event]:
        for start_us, end_us, prompt, decodes, requests, context in rows(log.steps, 6).tolist():
            kind = (2 if decodes else 0) if prompt else 1
            yield {
                "name": STEP_KINDS[kind],
                "cat": "step",
                "ph": "X",
                "ts": start_us,
                "dur": end_us - start_us,
                "pid": pid,
                "tid": pid,
                "args": {
                    "prefill_tokens": prompt,
                    "decode_tokens": decodes,
                    "requests": requests,
                    "context_tokens": context,
                },
            }

    def _blocks(self, number: int, log: InstanceLog) -> Iterator[Event]:
        total = self._run.counters[number].num_kv_blocks
        changes = [(0, (log.num_blocks_before,))]
        changes += [(time_us, (more,)) for time_us, more in rows(log.blocks, 2).tolist()]
        for time_us, (used,) in self._levels(changes):
            percent = round(100 * used / total, 2)
            yield _count(number + 1, "KV cache", time_us, {"blocks": used, "%": percent})

    # -- counters -------------------------------------------------------------

    def _levels(self, changes: Iterable[tuple[int, tuple[int, ...]]]) -> Iterator[_Level]:
        """Yield a counter at the start of the timeline and from there on whenever it changes.

        ``changes`` are (when, by how much) in any order, of one value or several.
        """
        by_time: dict[int, tuple[int, ...]] = {}
        for time_us, more in changes:
            at_us = max(time_us, self._from_us)
            if at_us < self._until_us:
                known = by_time.get(at_us)
                by_time[at_us] = (
                    more if known is None else tuple(map(sum, zip(known, more, strict=True)))
                )
        now: tuple[int, ...] | None = None
        for time_us, more in sorted(by_time.items()):
            if now is None:
                if time_us > self._from_us:
                    yield _Level(self._from_us, (0,) * len(more))
                now = more
            elif any(more):
                now = tuple(map(sum, zip(now, more, strict=True)))
            else:
                continue
            yield _Level(time_us, now)

    def _counter(
        self,
        pid: int,
        name: str,
        parts: Sequence[str],
        changes: Iterable[tuple[int, tuple[int, ...]]],
    ) -> Iterator[Event]:
        for time_us, values in self._levels(changes):
            yield _count(pid, name, time_us, dict(zip(parts, values, strict=True)))

    def _instant(
        self, name: str, at_us: int, track: tuple[int, int], args: dict[str, Any] | None = None
    ) -> Iterator[Event]:
        if self._from_us <= at_us < self._until_us:
            yield {
                "name": name,
                "ph": "i",
                "ts": at_us,
                "pid": track[0],
                "tid": track[1],
                "s": "t",
                "args": args or {},
            }

    # -- gateway and autoscalers ----------------------------------------------

    def _cluster(self) -> Iterator[Event]:
        run, pid = self._run, self._gateway_pid
        waits = [
            wait
            for story in self._stories_with_gateway()
            for wait in ((story.phases[0].start_us, (1,)), (story.phases[0].end_us, (-1,)))
        ]
        if waits or run.scaling:
            yield from self._names(pid, "gateway", 0)
        yield from self._counter(pid, "gateway queue", ("requests",), waits)
        if not run.scaling:
            return
        for number, pool in enumerate(run.pools):
            events = [event for event in run.scaling if event.pool == number]
            if not events:
                continue
            track = (pid, self._first_tid + number)
            yield _name("thread_name", track, f"autoscaler of {pool.name}")
            for event in events:
                args = {"before": event.before, "after": event.after, "measured": event.measured}
                name = f"{pool.name}: {event.before} to {event.after} instances"
                yield from self._instant(name, event.time_us, track, args)
            name = f"instances of {pool.name}"
            yield from self._counter(pid, name, ("ready",), self._ready(number))

    def _stories_with_gateway(self) -> Iterator[Story]:
        for story in self._stories:
            if story.phases and story.phases[0].name == "gateway":
                yield story

    def _ready(self, pool: int) -> Iterator[tuple[int, tuple[int]]]:
        """Yield when the instances of a pool began and ceased to take requests."""
        for record in self._run.instances:
            if record.pool == pool and record.ready_us <= self._run.end_us:
                gone_us = record.drained_us
                if gone_us is None or gone_us > record.ready_us:
                    yield record.ready_us, (1,)
                    if gone_us is not None:
                        yield gone_us, (-1,)

    # -- requests -------------------------------------------------------------

    def _requests(self) -> Iterator[Event]:
        pid = self._requests_pid
        yield from self._names(pid, "requests", pid)
        shown = Labels(self._run)
        lanes = Lanes()
        for story in self._stories:
            lane = lanes.take(story.start_us, story.end_us)
            track = (pid, self._turned_away_tid + lane)
            span_us = (story.start_us, story.end_us)
            request_id = int(self._run.requests.request_id[story.row])
            yield _slice(f"request {request_id}", span_us, track, shown.of(story.row))
            for name, start_us, end_us, where in story.phases:
                args = {} if where is None else {"instance": where}
                yield _slice(name, (start_us, end_us), track, args)
            for at_us, instance in story.preemptions:
                yield from self._instant("preempted", at_us, track, {"instance": instance})
        yield from self._turned_away(shown)
        for lane in range(1, lanes.num_lanes + 1):
            yield _name("thread_name", (pid, self._turned_away_tid + lane), f"lane {lane}")

    def _turned_away(self, shown: Labels) -> Iterator[Event]:
        """Yield who was rejected or dropped, at their arrival."""
        columns = self._run.requests
        track = (self._requests_pid, self._turned_away_tid)
        is_first = True
        for row, status in enumerate(columns.status.tolist()):
            arrival_us = int(columns.arrival_us[row])
            if status in TURNED_AWAY and self._overlaps(arrival_us, arrival_us):
                if is_first:
                    yield _name("thread_name", track, "turned away")
                    is_first = False
                name = f"request {int(columns.request_id[row])}: {Status(status).name.lower()}"
                yield from self._instant(name, arrival_us, track, shown.of(row))


def _name(kind: str, track: tuple[int, int], name: str) -> Event:
    return {"name": kind, "ph": "M", "pid": track[0], "tid": track[1], "args": {"name": name}}


def _count(pid: int, name: str, time_us: int, values: dict[str, Any]) -> Event:
    return {"name": name, "ph": "C", "ts": time_us, "pid": pid, "args": values}


def _slice(
    name: str, span_us: tuple[int, int], track: tuple[int, int], args: dict[str, Any]
) -> Event:
    start_us, end_us = span_us
    return {
        "name": name,
        "cat": "request",
        "ph": "X",
        "ts": start_us,
        "dur": end_us - start_us,
        "pid": track[0],
        "tid": track[1],
        "args": args,
    }
