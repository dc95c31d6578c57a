"""A request as a gateway sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blis_sim.engine.kv_cache import content_of, is_shareable

if TYPE_CHECKING:
    from blis_sim.engine.kv_cache import ContentSegment
    from blis_sim.workload.request import RequestSpec


class Asked:
    """What a gateway can know of a request: all but how long the answer will be.

    Attributes
    ----------
    request_id : int
        Number of the request.
    arrival_us : int
        When it arrived.
    prompt_tokens : int
        Length of the prompt.
    max_output_tokens : int or None
        The client's limit on the answer.
    priority : int
        Lower is more urgent.
    slo_class, tenant, session_id : str or None
        Labels the client sent with it.
    """

    __slots__ = (
        "_contents",
        "_spec",
        "arrival_us",
        "max_output_tokens",
        "priority",
        "prompt_tokens",
        "request_id",
        "session_id",
        "slo_class",
        "tenant",
    )

    def __init__(self, spec: RequestSpec) -> None:
        self.request_id = spec.request_id
        self.arrival_us = spec.arrival_us
        self.prompt_tokens = spec.prompt_tokens
        self.max_output_tokens = spec.max_output_tokens
        self.priority = spec.priority
        self.slo_class = spec.slo_class
        self.tenant = spec.tenant
        self.session_id = spec.session_id
        self._spec = spec if is_shareable(spec) else None
        self._contents: dict[int, tuple[ContentSegment, ...]] = {}

    @property
    def is_shareable(self) -> bool:
        """Whether another prompt can begin like this one."""
        return self._spec is not None

    def content(self, block_size: int) -> tuple[ContentSegment, ...]:
        """Return what identifies the prompt's leading blocks, empty when it is private.

        A segment names the blocks up to its end. The end may lie beyond the prompt.
        """
        if self._spec is None:
            return ()
        known = self._contents.get(block_size)
        if known is None:
            known = self._contents[block_size] = content_of(self._spec, block_size)
        return known
