"""The laws of a cluster: gateway, hand-over from prefill to decode, instances, decisions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from blis_sim.metrics.percentiles import Int64Array
from blis_sim.metrics.records import ABSENT, InstanceData, RunData, Status
from blis_sim.metrics.violations import broken


def cluster_violations(run: RunData) -> Iterator[str]:
    """Yield each law that is broken; without a cluster its columns must be absent."""
    yield from _fleet_violations(run)
    yield from _gateway_violations(run)
    yield from _prefill_violations(run)
    yield from _transfer_violations(run)
    yield from _transfer_count_violations(run)
    yield from _scaling_violations(run)
    yield from _decision_violations(run)


def _fleet_violations(run: RunData) -> Iterator[str]:
    """One entry per instance, in a known pool, with times in order."""
    if run.instances and len(run.instances) != len(run.counters):
        yield f"instances must be as many as counters ({len(run.counters)}); got " + str(
            len(run.instances)
        )
    for number, data in enumerate(run.instances):
        if not 0 <= data.pool < len(run.pools):
            yield f"instance {number}: pool must be < {len(run.pools)}; got {data.pool}"
        if not _is_in_order(data):
            yield (
                f"instance {number}: started <= ready and started <= drained <= stopped must "
                f"hold; got {data}"
            )


def _is_in_order(data: InstanceData) -> bool:
    if data.started_us > data.ready_us:
        return False
    if data.drained_us is None:
        return data.stopped_us is None
    return data.started_us <= data.drained_us and (
        data.stopped_us is None or data.drained_us <= data.stopped_us
    )


def _gateway_violations(run: RunData) -> Iterator[str]:
    """Arrival <= dispatched <= enqueued, to an instance that takes requests then."""
    columns = run.requests
    dispatched = columns.dispatched_us
    was_sent = dispatched != ABSENT
    yield from broken(
        columns,
        was_sent & (dispatched < columns.arrival_us),
        "dispatched_us must be >= arrival_us",
    )
    was_enqueued = columns.enqueued_us != ABSENT
    yield from broken(
        columns,
        was_sent & was_enqueued & (columns.enqueued_us < dispatched),
        "enqueued_us must be >= dispatched_us",
    )
    never_sent = np.isin(columns.status, (Status.IN_GATEWAY, Status.REJECTED))
    yield from broken(
        columns,
        never_sent & (was_sent | was_enqueued),
        "a rejected request, or one in the gateway, must not have been dispatched",
    )
    if not run.instances:
        yield from broken(columns, was_sent, "without a cluster nothing must be dispatched")
        return
    yield from broken(
        columns, was_enqueued & ~was_sent, "an enqueued request must have been dispatched"
    )
    # The instance that a request is sent to first computes its prompt.
    has_prefill = columns.prefill_instance != ABSENT
    first = np.where(has_prefill, columns.prefill_instance, columns.instance)
    yield from broken(
        columns, was_sent & (first == ABSENT), "a dispatched request must have an instance"
    )
    is_known = was_sent & (first >= 0) & (first < len(run.instances))
    ready_us, drained_us = _open_times(run)
    instance = np.where(is_known, first, 0)
    is_open = (ready_us[instance] <= dispatched) & (dispatched <= drained_us[instance])
    yield from broken(
        columns,
        is_known & ~is_open,
        "a request must be dispatched to an instance that is ready and not drained",
    )


def _open_times(run: RunData) -> tuple[Int64Array, Int64Array]:
    """Return from when to when each instance takes requests."""
    never = int(np.iinfo(np.int64).max)
    ends = [never if data.drained_us is None else data.drained_us for data in run.instances]
    ready_us = np.array([data.ready_us for data in run.instances], dtype=np.int64)
    return ready_us, np.array(ends, dtype=np.int64)


def _prefill_violations(run: RunData) -> Iterator[str]:
    """Another instance computes the prompt, and hands it over."""
    columns, num_instances = run.requests, len(run.instances)
    prefill = columns.prefill_instance
    has_prefill = prefill != ABSENT
    yield from broken(
        columns,
        has_prefill & ((prefill < 0) | (prefill >= num_instances)),
        f"prefill_instance must be < {num_instances}",
    )
    yield from broken(
        columns,
        has_prefill & (prefill == columns.instance),
        "prefill_instance must be another than instance",
    )
    yield from broken(
        columns,
        (columns.handed_over_us != ABSENT) & ~has_prefill,
        "a request that was handed over must have prefill_instance",
    )


def _transfer_violations(run: RunData) -> Iterator[str]:
    """Scheduled <= handed over <= transferred <= last token, of two or more."""
    columns = run.requests
    handed_over = columns.handed_over_us
    was_handed_over = handed_over != ABSENT
    was_transferred = columns.transferred_us != ABSENT
    yield from broken(
        columns,
        was_handed_over & (handed_over < columns.scheduled_us),
        "handed_over_us must be >= scheduled_us",
    )
    yield from broken(
        columns,
        was_transferred & (~was_handed_over | (columns.transferred_us < handed_over)),
        "transferred_us must be >= handed_over_us",
    )
    # The first token may be the prefill's; the second comes after the transfer.
    several = columns.output_tokens >= 2
    is_early = (columns.last_token_us != ABSENT) & (columns.last_token_us < columns.transferred_us)
    yield from broken(
        columns,
        several & was_transferred & is_early,
        "last_token_us must be >= transferred_us with two tokens or more",
    )
    yield from broken(
        columns,
        several & (columns.prefill_instance != ABSENT) & ~was_transferred,
        "a request with two tokens or more and prefill_instance must have transferred_us",
    )
    in_transfer = columns.status == Status.IN_TRANSFER
    yield from broken(
        columns,
        in_transfer & (~was_handed_over | was_transferred),
        "a request in transfer must have been handed over and not yet transferred",
    )


def _transfer_count_violations(run: RunData) -> Iterator[str]:
    """Each instance has counted the transfers to it.

    A request whose KV cache was lost before the transfer goes over without one, at once.
    """
    columns = run.requests
    goes_over = (columns.transferred_us != ABSENT) & (columns.instance != ABSENT)
    takes_time = goes_over & (columns.transferred_us > columns.handed_over_us)
    num_instances = len(run.counters)
    fewest = np.bincount(columns.instance[takes_time], minlength=num_instances)
    most = np.bincount(columns.instance[goes_over], minlength=num_instances)
    for number, counters in enumerate(run.counters):
        if not fewest[number] <= counters.num_transfers <= most[number]:
            yield (
                f"instance {number}: num_transfers must be the requests that went over to it "
                f"({fewest[number]} to {most[number]}); got {counters.num_transfers}"
            )


def _scaling_violations(run: RunData) -> Iterator[str]:
    for number, event in enumerate(run.scaling):
        if not 0 <= event.pool < len(run.pools):
            yield f"scaling event {number}: pool must be < {len(run.pools)}; got {event.pool}"
        if event.before == event.after or min(event.before, event.after) < 0:
            yield f"scaling event {number}: it must change a number >= 0; got {event}"
    for earlier, later in itertools.pairwise(run.scaling):
        if later.time_us < earlier.time_us:
            yield f"scaling events must be in order of time; got {later.time_us} us too late"


def _decision_violations(run: RunData) -> Iterator[str]:
    for decision in run.decisions or ():
        if decision.chosen not in decision.candidates:
            yield f"a decision must choose one of its candidates; got {decision}"
        if decision.scores is not None and len(decision.scores) != len(decision.candidates):
            yield f"a decision must have a score for each candidate; got {decision}"
