"""A request inside the engine."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blis_sim.engine.kv_cache import ContentSegment, Extent
    from blis_sim.workload.request import RequestSpec

NEVER = -1
"""No step has this number."""


class State(IntEnum):
    """Where a request is."""

    FRONTEND = 0
    WAITING = 1
    PREFILLING = 2
    """In the running list, with prompt (or recomputed) tokens still to be scheduled."""
    DECODING = 3
    """In the running list and in the decode set."""
    LAST_TOKEN = 4
    """In the running list; its last token is scheduled and not yet out."""
    ENDED = 5


class Request:
    """The mutable state of one request.

    Scheduling is optimistic, as in vLLM: ``num_computed_tokens`` and ``num_generated``
    advance when a pass schedules the tokens; the step's end makes them visible. While a
    request is in the decode set both follow from its offset there and the set's counter.

    Blocks held are always ``ceil(num_computed_tokens / block_size)``; the first
    ``num_hashed_blocks`` of them are the extents of ``chain``, the rest are private and
    only counted.
    """

    __slots__ = (
        "abort_deadline_us",
        "cached_tokens",
        "chain",
        "chain_ends",
        "content",
        "enqueued_us",
        "finish_key",
        "first_token_us",
        "hashable_blocks",
        "is_abort_pending",
        "is_timeout",
        "join_step",
        "last_step",
        "last_token_us",
        "num_computed_tokens",
        "num_generated",
        "num_hashed_blocks",
        "num_preemptions",
        "offset",
        "output_limit",
        "private_extent",
        "prompt_tokens",
        "recached_tokens",
        "request_id",
        "scheduled_us",
        "seat",
        "skipped_step",
        "spec",
        "state",
    )

    def __init__(self, spec: RequestSpec, output_limit: int) -> None:
        self.spec = spec
        self.request_id = spec.request_id
        self.prompt_tokens = spec.prompt_tokens
        self.output_limit = output_limit
        """Tokens it will generate: min(output, max_output_tokens, room in the model)."""
        self.state = State.FRONTEND
        self.num_computed_tokens = 0
        self.num_generated = 0
        self.seat = NEVER
        """Position key in the running list: grows with every admission."""
        self.offset = 0
        self.finish_key = 0
        self.join_step = NEVER
        """The step that yields its first token of this residence."""
        self.last_step = NEVER
        """The step that yields its last scheduled token, once that is known."""
        self.skipped_step = NEVER
        self.enqueued_us: int | None = None
        self.scheduled_us: int | None = None
        self.first_token_us: int | None = None
        self.last_token_us = 0
        """Engine time of its latest token, kept up to date while it is not decoding in
        every step."""
        self.cached_tokens = 0
        self.recached_tokens = 0
        self.num_preemptions = 0
        self.is_abort_pending = False
        self.is_timeout = False
        self.abort_deadline_us: int | None = None
        self.content: tuple[ContentSegment, ...] = ()
        self.hashable_blocks = 0
        self.num_hashed_blocks = 0
        self.chain: list[Extent] = []
        self.chain_ends: list[int] = []
        self.private_extent: Extent | None = None

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
        )
