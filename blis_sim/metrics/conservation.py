"""The laws every finished run must obey, checked before anything is reported."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import fields

import numpy as np

from blis_sim.errors import InvariantError
from blis_sim.metrics.cluster_laws import cluster_violations
from blis_sim.metrics.percentiles import Int64Array
from blis_sim.metrics.records import ABSENT, RunData, Status
from blis_sim.metrics.violations import TIMES, broken

_NEVER_NEGATIVE = ("prompt_tokens", "output_tokens", "num_preemptions", "length_capped")


def conservation(run: RunData) -> dict[str, int]:
    """Return where every injected request ended, each count also when it is 0.

    ``injected`` is the sum of the ten states; ``waiting_preempted`` is part of ``waiting``
    and ``completed_length_capped`` part of ``completed``.
    """
    columns = run.requests
    counts = {
        status.name.lower(): int(np.count_nonzero(columns.status == status)) for status in Status
    }
    waiting = columns.status == Status.WAITING
    completed = columns.status == Status.COMPLETED
    return {
        "injected": int(columns.request_id.size),
        **counts,
        "waiting_preempted": int(np.count_nonzero(waiting & (columns.num_preemptions > 0))),
        "completed_length_capped": int(np.count_nonzero(completed & (columns.length_capped > 0))),
    }


def check_conservation(run: RunData, *, num_injected: int | None = None) -> None:
    """Check the conservation laws of a finished run.

    Parameters
    ----------
    run : RunData
        What the engine recorded.
    num_injected : int or None
        How many requests the workload gave, where it was counted independently.

    Raises
    ------
    InvariantError
        A law is violated; the message names the law and the first request that breaks it.
    """
    for violation in _violations(run, num_injected):
        raise InvariantError(f"{violation}; this is a defect of the simulator, please report it")


def _violations(run: RunData, num_injected: int | None) -> Iterator[str]:
    yield from _shape_violations(run, num_injected)
    yield from _time_violations(run)
    yield from _token_violations(run)
    yield from _gap_violations(run)
    yield from _counter_violations(run)
    yield from cluster_violations(run)


def _shape_violations(run: RunData, num_injected: int | None) -> Iterator[str]:
    columns = run.requests
    num_requests = columns.request_id.size
    if num_injected is not None and num_injected != num_requests:
        yield f"requests recorded must be those injected ({num_injected}); got {num_requests}"
    for field in fields(columns):
        length = getattr(columns, field.name).size
        if length != num_requests:
            yield f"column {field.name} must have {num_requests} entries; got {length}"
    known = np.isin(columns.status, [int(status) for status in Status])
    yield from broken(columns, ~known, "status must be one of the ten states")
    backwards = np.diff(columns.request_id, prepend=-1) <= 0
    yield from broken(columns, backwards, "request_id must ascend")
    for name in _NEVER_NEGATIVE:
        yield from broken(columns, getattr(columns, name) < 0, f"{name} must be >= 0")
    served = columns.instance != ABSENT
    outside = served & ((columns.instance < 0) | (columns.instance >= len(run.counters)))
    yield from broken(columns, outside, f"instance must be < {len(run.counters)}")


def _time_violations(run: RunData) -> Iterator[str]:
    """Arrival <= enqueued <= scheduled <= first token <= last token, where present."""
    columns = run.requests
    latest = columns.arrival_us
    for earlier, name in itertools.pairwise(TIMES):
        times = getattr(columns, name)
        present = times != ABSENT
        yield from broken(
            columns, present & (times < latest), f"{name} must be >= {earlier} and all before"
        )
        # Absent is the smallest integer, so the maximum skips it.
        latest = np.maximum(latest, times)
    completed = columns.status == Status.COMPLETED
    for name in TIMES:
        absent = getattr(columns, name) == ABSENT
        yield from broken(columns, completed & absent, f"a completed request must have {name}")
    # A token the engine put out before a horizon may reach its client after it.
    seen_by_us = run.end_us + run.output_token_us * np.maximum(columns.output_tokens, 1)
    seen_us = np.maximum(columns.first_token_us, columns.last_token_us)
    yield from broken(
        columns, seen_us > seen_by_us, f"tokens must leave the engine by the end ({run.end_us} us)"
    )
    if columns.arrival_us.size and int(columns.arrival_us.min()) != run.start_us:
        yield f"start_us must be the first arrival; got {run.start_us}"


def _token_violations(run: RunData) -> Iterator[str]:
    columns = run.requests
    first, last = columns.first_token_us, columns.last_token_us
    got_tokens = columns.output_tokens > 0
    yield from broken(
        columns, got_tokens & (first == ABSENT), "a request with tokens must have first_token_us"
    )
    at_once = (columns.output_tokens <= 1) & (first != ABSENT) & (last != ABSENT)
    yield from broken(
        columns, at_once & (first != last), "one token must be the first and the last"
    )
    unfinished = columns.status != Status.COMPLETED
    yield from broken(
        columns,
        unfinished & ~got_tokens & (first != ABSENT),
        "an unfinished request without tokens must not have first_token_us",
    )
    never_served = np.isin(columns.status, (Status.REJECTED, Status.DROPPED))
    yield from broken(
        columns,
        never_served & (columns.scheduled_us != ABSENT),
        "a rejected or dropped request must not have been scheduled",
    )


def _gap_violations(run: RunData) -> Iterator[str]:
    """N tokens of one request have N - 1 gaps, whose sum is last - first token."""
    columns = run.requests
    if run.itl_us.size != run.itl_count.size:
        yield "itl_us and itl_count must have one length"
        return
    if np.any(np.diff(run.itl_us) <= 0) or np.any(run.itl_us < 0) or np.any(run.itl_count < 1):
        yield "the ITL histogram must ascend from >= 0 with counts >= 1"
    num_gaps = int(np.maximum(columns.output_tokens - 1, 0).sum())
    recorded = int(run.itl_count.sum())
    if recorded != num_gaps:
        yield f"ITL gaps must be the sum of N - 1 over requests ({num_gaps}); got {recorded}"
    several = columns.output_tokens >= 2
    if np.all(columns.last_token_us[several] != ABSENT):
        spread = int((columns.last_token_us - columns.first_token_us)[several].sum())
        total = int(np.dot(run.itl_us, run.itl_count))
        if total != spread:
            yield f"ITL gaps must add up to last - first token ({spread} us); got {total} us"


def _counter_violations(run: RunData) -> Iterator[str]:
    """Counters of the engines against what the requests say."""
    columns = run.requests
    generated = sum(counters.num_generated_tokens for counters in run.counters)
    received = int(columns.output_tokens.sum())
    if generated < received:
        yield f"tokens generated must be >= tokens received ({received}); got {generated}"
    by_second = int(run.token_counts.sum())
    if by_second != generated:
        yield f"tokens by second must add up to tokens generated ({generated}); got {by_second}"
    for name, counter in (
        ("num_preemptions", "num_preemptions"),
        ("cached_tokens", "prefix_hits_tokens"),
        ("recached_tokens", "recached_tokens"),
    ):
        values: Int64Array = getattr(columns, name)
        by_request = int(values[values != ABSENT].sum())
        by_engine = sum(int(getattr(counters, counter)) for counters in run.counters)
        if by_request != by_engine:
            yield f"{counter} must be the sum over requests ({by_request}); got {by_engine}"
    for number, counters in enumerate(run.counters):
        if counters.peak_kv_blocks > counters.num_kv_blocks:
            yield (
                f"instance {number}: peak_kv_blocks must be <= num_kv_blocks "
                f"({counters.num_kv_blocks}); got {counters.peak_kv_blocks}"
            )
        if counters.prefix_hits_tokens > counters.prefix_queries_tokens:
            yield (
                f"instance {number}: prefix_hits_tokens must be <= prefix_queries_tokens "
                f"({counters.prefix_queries_tokens}); got {counters.prefix_hits_tokens}"
            )
