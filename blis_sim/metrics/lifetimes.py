"""When the instances of a run were there, within the run: first arrival to last token.

Without a cluster there is one instance, and it is there all the time.
"""

from __future__ import annotations

from collections.abc import Sequence

from blis_sim.metrics.records import RunData


def serving_us(run: RunData, instance: int) -> int:
    """Return how long an instance took requests or still worked on them, microseconds."""
    if not run.instances:
        return run.end_us - run.start_us
    data = run.instances[instance]
    return _within(run, data.ready_us, data.stopped_us)


def paid_us(run: RunData, instance: int) -> int:
    """Return how long an instance of a cluster was paid for, microseconds."""
    data = run.instances[instance]
    return _within(run, data.started_us, data.stopped_us)


def ready_range(run: RunData, instances: Sequence[int]) -> tuple[int, int]:
    """Return the fewest and the most of some instances that took requests at one time."""
    if not run.instances:
        return len(instances), len(instances)
    changes: dict[int, int] = {run.start_us: 0}
    for instance in instances:
        data = run.instances[instance]
        ready_us = max(data.ready_us, run.start_us)
        drained_us = run.end_us if data.drained_us is None else data.drained_us
        if ready_us < drained_us:
            changes[ready_us] = changes.get(ready_us, 0) + 1
            changes[drained_us] = changes.get(drained_us, 0) - 1
    num_ready = 0
    counts = []
    for time_us in sorted(changes):
        num_ready += changes[time_us]
        if time_us < run.end_us or time_us == run.start_us:
            counts.append(num_ready)
    return min(counts), max(counts)


def _within(run: RunData, begin_us: int, stopped_us: int | None) -> int:
    end_us = run.end_us if stopped_us is None else min(stopped_us, run.end_us)
    return max(end_us - max(begin_us, run.start_us), 0)
