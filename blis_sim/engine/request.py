"""A request inside the engine."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from blis_sim.metrics.records import ABSENT, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blis_sim.engine.extents import Extent
    from blis_sim.engine.kv_cache import ContentSegment
    from blis_sim.workload.request import RequestSpec

NEVER = -1
"""No step has this number."""


class State(IntEnum):
    """Where a request is."""

    FRONTEND = 0
    """Before the instance's waiting queue."""
    WAITING = 1
    PREFILLING = 2
    """In the running list, with prompt (or recomputed) tokens still to be scheduled."""
    DECODING = 3
    """In the running list and in the decode set."""
    LAST_TOKEN = 4
    """In the running list; its last token is scheduled and not yet out."""
    ENDED = 5
    GATEWAY = 6
    """Not yet sent to an instance."""
    TRANSFER = 7
    """Its prompt is computed; its KV cache is on the way, or waits to be."""


class Request:
    """The mutable state of one request.

    Scheduling is optimistic, as in vLLM: ``num_computed_tokens`` and ``num_generated``
    advance when a pass schedules the tokens; the step's end makes them visible. While a
    request is in the decode set both follow from its offset there and the set's counter.

    Blocks held are always ``ceil(num_computed_tokens / block_size)``; the first
    ``num_hashed_blocks`` of them are the extents of ``chain``, the rest are private and
    only counted.

    Most requests never touch most of these fields: the defaults stand in the class, and an
    instance stores only what differs.
    """

    state = State.FRONTEND
    num_computed_tokens = 0
    num_generated = 0
    seat = NEVER
    """Position key in the running list: grows with every admission."""
    offset = 0
    """In the decode set: computed tokens less the set's counter."""
    finish_key = 0
    """In the decode set: the counter at which the last token is scheduled."""
    join_step = NEVER
    """The step that yields its first token of this residence."""
    last_step = NEVER
    """The step that yields its last scheduled token, once that is known."""
    skipped_step = NEVER
    """The latest step that left it out although it was decoding."""
    skipped_before = NEVER
    """The one before that: with asynchronous scheduling two steps are open at once."""
    enqueued_us = ABSENT
    scheduled_us = ABSENT
    first_token_us = ABSENT
    last_token_us = ABSENT
    """Engine time of its latest token, up to date while it does not decode in every step."""
    cached_tokens = 0
    recached_tokens = 0
    num_preemptions = 0
    aborted_us = 1 << 62
    """When its client left while it was running; its tokens from then on are dropped."""
    is_timeout = False
    abort_deadline_us: int | None = None
    hands_over = False
    """Whether it leaves after its prompt, its blocks kept until they have been sent on."""
    is_placed = False
    """Whether it waits with the blocks of its prompt, computed elsewhere."""
    num_brought = 0
    """Tokens generated elsewhere before it came."""
    successor: Request | None = None
    """The same request on the instance it was handed over to."""
    content: Sequence[ContentSegment] = ()
    hashable_blocks = 0
    num_hashed_blocks = 0
    has_private_extents = False
    """Whether it may find blocks of its own after a preemption."""
    chain: list[Extent]
    """Shared extents held, in chain order; set when the content can be shared."""
    chain_ends: list[int]
    """For each of them, the block index up to which it is held."""

    # How it ended, for the recorder.
    status = Status.RUNNING
    num_received = 0
    """Tokens the client received."""
    first_seen_us = ABSENT
    """Client time of the first token."""
    last_seen_us = ABSENT
    """Client time of the last token, when completed."""
    instance = ABSENT
    dispatched_us = ABSENT
    prefill_instance = ABSENT
    handed_over_us = ABSENT
    transferred_us = ABSENT
    reason: str | None = None

    def __init__(self, spec: RequestSpec, output_limit: int) -> None:
        self.spec = spec
        self.request_id = spec.request_id
        self.prompt_tokens = spec.prompt_tokens
        self.output_limit = output_limit
        """Tokens it will generate: min(output, max_output_tokens, room in the model)."""

    @property
    def num_tokens(self) -> int:
        """Prompt plus generated tokens."""
        return self.prompt_tokens + self.num_generated

    def yields_in(self, step: int) -> bool:
        """Return whether the given scheduled step gives this request a token."""
        return (
            self.join_step != NEVER
            and self.join_step <= step
            and (self.last_step == NEVER or step <= self.last_step)
            and step != self.skipped_step
            and step != self.skipped_before
            and self.output_limit > 0
        )
