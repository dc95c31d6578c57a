"""What a finished simulation hands to the reports: plain columns and integer counters."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from blis_sim.metrics.timeline import Timeline
    from blis_sim.metrics.work import WorkLog

Int64Array = npt.NDArray[np.int64]

ABSENT = int(np.iinfo(np.int64).min)
"""Marks a missing value in an integer column; reports show it as empty or null."""


class Status(IntEnum):
    """How a request ended, or where it is when the run stops at a horizon."""

    COMPLETED = 0
    ABORTED = 1
    TIMED_OUT = 2
    REJECTED = 3
    DROPPED = 4
    IN_FRONTEND = 5
    IN_GATEWAY = 6
    WAITING = 7
    RUNNING = 8
    IN_TRANSFER = 9


@dataclass(slots=True)
class RequestColumns:
    """One entry per injected request, in order of ``request_id``; times in microseconds.

    Client times (``first_token_us``, ``last_token_us``) include output processing.
    ``ABSENT`` marks what never happened.
    """

    request_id: Int64Array
    arrival_us: Int64Array
    enqueued_us: Int64Array
    """Entered the instance's waiting queue (arrival + frontend time)."""
    scheduled_us: Int64Array
    """First scheduling pass that gave it tokens."""
    first_token_us: Int64Array
    last_token_us: Int64Array
    prompt_tokens: Int64Array
    output_tokens: Int64Array
    """Tokens the client received."""
    cached_tokens: Int64Array
    """Prefix-cache hit at first admission."""
    recached_tokens: Int64Array
    """Tokens hit at re-admissions after preemption, summed."""
    num_preemptions: Int64Array
    instance: Int64Array
    status: Int64Array
    """Values of :class:`Status`."""
    length_capped: Int64Array
    """1 when max_output_tokens or max_model_len ended it."""
    priority: Int64Array
    slo_class: Int64Array
    """Index into ``RunData.slo_classes`` or ``ABSENT``."""
    tenant: Int64Array
    """Index into ``RunData.tenants`` or ``ABSENT``."""
    reason: Int64Array
    """Index into ``RunData.reasons`` or ``ABSENT``: why it was dropped or rejected."""
    dispatched_us: Int64Array
    """When the gateway sent it to an instance; ``ABSENT`` without a gateway."""
    prefill_instance: Int64Array
    """The instance that computed its prompt for ``instance``; ``ABSENT`` when that did it."""
    handed_over_us: Int64Array
    """End of its prefill on ``prefill_instance``."""
    transferred_us: Int64Array
    """When its KV cache had reached ``instance``."""


@dataclass(slots=True)
class EngineCounters:
    """Integer counters of one instance."""

    num_steps: int = 0
    busy_us: int = 0
    """Sum of step durations."""
    num_prefill_tokens: int = 0
    """Prompt (and recomputed) tokens processed."""
    num_decode_tokens: int = 0
    """Tokens processed by decodes (one per decode and step)."""
    num_generated_tokens: int = 0
    num_preemptions: int = 0
    num_kv_blocks: int = 0
    peak_kv_blocks: int = 0
    kv_block_us: int = 0
    """Integral of allocated blocks over time."""
    running_us: int = 0
    """Integral of the number of requests in the running list over time."""
    waiting_us: int = 0
    """Integral of the number of requests in the waiting queue over time."""
    peak_running: int = 0
    peak_waiting: int = 0
    batch_tokens: int = 0
    """Sum over steps of the tokens in the batch."""
    batch_requests: int = 0
    """Sum over steps of the requests in the batch."""
    prefix_queries_tokens: int = 0
    """Prompt tokens of requests at first admission (prefix caching on)."""
    prefix_hits_tokens: int = 0
    """Of these, found in the cache."""
    recached_tokens: int = 0
    """Hits at re-admissions after a preemption."""
    num_transfers: int = 0
    """KV transfers received."""
    transferred_blocks: int = 0
    """Blocks received in them."""
    num_events: int = 0
    """Engine events handled (scheduling passes and run ends): a measure of work, not of load.

    The only counter that differs between coalesced and plain runs."""


@dataclass(frozen=True, slots=True)
class PoolData:
    """One kind of instances of a cluster."""

    name: str
    role: str
    """``mixed``, ``prefill`` or ``decode``."""
    model: str
    gpu: str
    gpus_per_instance: int


@dataclass(slots=True)
class InstanceData:
    """One instance of a cluster, and when it existed; times in microseconds."""

    pool: int
    """Index into ``RunData.pools``."""
    started_us: int = 0
    """From then on it is paid for."""
    ready_us: int = 0
    """From then on it takes requests."""
    drained_us: int | None = None
    """From then on it takes no more; None = it always does."""
    stopped_us: int | None = None
    """End of its last request after that; None = it was never stopped."""


@dataclass(slots=True)
class ScalingEvent:
    """One decision of an autoscaler that changed something."""

    time_us: int
    pool: int
    before: int
    """Instances wanted before: ready and starting."""
    after: int
    measured: float
    """What the metric was, in its unit."""


@dataclass(slots=True)
class Decision:
    """One choice of the router."""

    time_us: int
    request_id: int
    purpose: str
    """``serve``, ``prefill`` or ``decode``."""
    candidates: tuple[int, ...]
    """Numbers of the instances that could have taken the request."""
    chosen: int
    """Number of the one that did."""
    scores: tuple[float, ...] | None
    """What each scored, the highest wins; None where nothing was compared."""


@dataclass(slots=True)
class TimeSeries:
    """Samples at whole multiples of the interval; all arrays have one length."""

    time_us: Int64Array
    instance: Int64Array
    num_waiting: Int64Array
    num_running: Int64Array
    kv_blocks: Int64Array
    """Allocated blocks."""
    generated_tokens: Int64Array
    """Tokens generated by the engine since the previous sample."""
    num_ready: Int64Array | None = None
    """Instances of the same pool that took requests at that instant; None without a cluster."""


@dataclass(slots=True)
class Mark:
    """The books as they stood at an instant; what lies between two marks is their difference."""

    time_us: int
    counters: list[EngineCounters]
    """One per instance that existed; peaks and ``num_events`` are those so far."""
    itl_us: Int64Array
    """As in `RunData`, of the gaps that had ended."""
    itl_count: Int64Array


@dataclass(slots=True)
class RunData:
    """Everything one simulation measured."""

    requests: RequestColumns
    counters: list[EngineCounters]
    """One per instance."""
    itl_us: Int64Array
    """Distinct gaps between consecutive tokens of a request, ascending (client time)."""
    itl_count: Int64Array
    """How often each gap occurred."""
    token_seconds: Int64Array
    """Whole seconds of simulated time in which tokens were generated, ascending."""
    token_counts: Int64Array
    """Tokens generated by the engines in each of those seconds."""
    start_us: int
    """First arrival."""
    end_us: int
    """Last event: last token seen by a client, or the horizon."""
    output_token_us: int
    slo_classes: list[str] = field(default_factory=list)
    tenants: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    timeseries: TimeSeries | None = None
    pools: list[PoolData] = field(default_factory=list)
    """Empty without a cluster: one instance, no gateway."""
    instances: list[InstanceData] = field(default_factory=list)
    """One per instance, in the order of ``counters``; empty without a cluster."""
    scaling: list[ScalingEvent] = field(default_factory=list)
    decisions: list[Decision] | None = None
    """None unless they were asked for."""
    marks: list[Mark] = field(default_factory=list)
    """In order of time; empty unless they were asked for."""
    timeline: Timeline | None = None
    """None unless one was asked for."""
    work: list[WorkLog] | None = None
    """Steps of each instance, in the order of ``counters``; None unless they were counted."""
