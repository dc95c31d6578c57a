"""What must hold of every timeline, whatever the run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

from blis_sim.latency.base import LatencyModel
from blis_sim.metrics.records import RunData, Status
from blis_sim.report.timeline import Event, timeline_events
from tests.engine.builders import rows
from tests.metrics.builders import make_result

TURNED_AWAY = {Status.REJECTED, Status.DROPPED}


def events_of(run: RunData) -> list[Event]:
    """Return the events of a recorded run."""
    return list(timeline_events(make_result(run=run)))


def end(event: Event) -> int:
    return int(event["ts"] + event["dur"])


def check_timeline(run: RunData, latencies: Sequence[LatencyModel]) -> list[Event]:
    """Check the whole timeline of a run against its columns and counters; return its events.

    ``latencies`` are those of the pools, or of the one instance.
    """
    events = events_of(run)
    for number, counters in enumerate(run.counters):
        mine = [event for event in events if event["pid"] == number + 1]
        check_steps([event for event in mine if event["ph"] == "X"], counters)
        check_counters([event for event in mine if event["ph"] == "C"], counters, run)
    pools = [record.pool for record in run.instances] or [0]
    check_requests(events, run, [latencies[pool].output_token_time() for pool in pools])
    return events


def check_steps(steps: list[Event], counters: Any) -> None:
    """The steps follow each other and add up to the counters."""
    assert all(end(one) <= other["ts"] for one, other in pairwise(steps))
    assert len(steps) == counters.num_steps
    assert sum(step["dur"] for step in steps) == counters.busy_us
    total = {
        name: sum(step["args"][name] for step in steps)
        for name in ("prefill_tokens", "decode_tokens", "requests")
    }
    assert total["prefill_tokens"] == counters.num_prefill_tokens
    assert total["decode_tokens"] == counters.num_decode_tokens
    assert total["requests"] == counters.batch_requests
    for step in steps:
        args = step["args"]
        kinds = [name for name in ("prefill", "decode") if args[f"{name}_tokens"]]
        assert step["name"] == (kinds[0] if len(kinds) == 1 else "mixed")


def check_counters(levels: list[Event], counters: Any, run: RunData) -> None:
    """What the counters show is, over the whole run, what the engine's integrals are."""
    assert {event["name"] for event in levels} <= {"KV cache", "requests"}
    for name, part, integral in (
        ("KV cache", "blocks", counters.kv_block_us),
        ("requests", "running", counters.running_us),
        ("requests", "waiting", counters.waiting_us),
    ):
        series = [(e["ts"], e["args"][part]) for e in levels if e["name"] == name]
        assert all(one[0] < other[0] for one, other in pairwise(series))
        assert all(value >= 0 for _, value in series)
        closed = [*series, (max(run.end_us, series[-1][0] if series else 0), 0)]
        area = sum(value * (after - at) for (at, value), (after, _) in pairwise(closed))
        assert area == integral, name
        if part == "blocks":
            assert max((value for _, value in series), default=0) <= counters.peak_kv_blocks


def lanes_of(events: Iterable[Event], pid: int) -> list[tuple[Event, list[Event], list[Event]]]:
    """Return each request's slice, its phases and its instants, as they lie on the lanes."""
    found: list[tuple[Event, list[Event], list[Event]]] = []
    free_from: defaultdict[int, int] = defaultdict(int)
    for event in events:
        if event["pid"] != pid or event["ph"] not in "Xi" or ":" in event["name"]:
            continue
        if event["name"].startswith("request "):
            assert event["ts"] >= free_from[event["tid"]]
            free_from[event["tid"]] = end(event)
            found.append((event, [], []))
            continue
        whole, phases, instants = found[-1]
        assert event["tid"] == whole["tid"]
        (phases if event["ph"] == "X" else instants).append(event)
    return found


def check_requests(events: list[Event], run: RunData, token_us: list[int]) -> None:
    """The phases of a request fill its time and agree with its columns."""
    wanted = [row for row in rows(run) if row.status not in TURNED_AWAY]
    wanted.sort(key=lambda row: row.arrival_us)
    found = lanes_of(events, len(run.counters) + 1)
    assert len(found) == len(wanted)
    for row, (whole, phases, instants) in zip(wanted, found, strict=True):
        assert whole["name"] == f"request {row.request_id}"
        assert whole["ts"] == row.arrival_us
        if whole["dur"]:
            assert phases[0]["ts"] == whole["ts"]
            assert end(phases[-1]) == end(whole)
        assert all(end(one) == other["ts"] for one, other in pairwise(phases))
        assert len(instants) == row.num_preemptions
        check_phases(row, whole, phases, token_us)
    turned_away = [e for e in events if e["ph"] == "i" and e["name"].startswith("request ")]
    assert len(turned_away) == sum(row.status in TURNED_AWAY for row in rows(run))


def check_phases(
    row: SimpleNamespace, whole: Event, phases: list[Event], token_us: list[int]
) -> None:
    spent: defaultdict[str, int] = defaultdict(int)
    begun: dict[str, int] = {}
    for phase in phases:
        spent[phase["name"]] += phase["dur"]
        begun.setdefault(phase["name"], phase["ts"])
    if row.status is Status.COMPLETED:
        assert round(whole["args"]["e2e_ms"] * 1000) == whole["dur"]
    if row.dispatched_us is not None:
        assert spent["gateway"] == row.dispatched_us - row.arrival_us
    if row.enqueued_us is not None:
        assert spent["frontend"] == row.enqueued_us - (row.dispatched_us or row.arrival_us)
    if row.transferred_us is not None:
        assert spent["transfer"] == row.transferred_us - row.handed_over_us
    assert ("preempted" in spent) <= (row.num_preemptions > 0)
    if row.num_preemptions:
        return
    if row.scheduled_us is not None:
        assert begun.get("prefill", begun.get("output", end(whole))) == row.scheduled_us
    if row.handed_over_us is not None or row.output_tokens:
        computed_us = next(end(phase) for phase in phases if phase["name"] == "prefill")
        first_out_us = (row.first_token_us or 0) - token_us[row.instance]
        assert computed_us == (row.handed_over_us or first_out_us)
