"""A request as a gateway sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blis_sim.engine.kv_cache import content_of, is_shareable

if TYPE_CHECKING:
    from blis_sim.engine.kv_cache import ContentSegment
    from blis_sim.workload.request import RequestSpec


class Asked:
    """What a gateway can know of a request: all but how long the answer will be.

    Parameters
    ----------
    spec : RequestSpec
        The request; not to be read but through this class.
    """

    __slots__ = ("_contents", "_spec", "is_shareable", "prompt_tokens")

    def __init__(self, spec: RequestSpec) -> None:
        self._spec = spec
        self.prompt_tokens = spec.prompt_tokens
        self.is_shareable = is_shareable(spec)
        """Whether another prompt can begin like this one."""
        self._contents: dict[int, tuple[ContentSegment, ...]] | None = None

    @property
    def request_id(self) -> int:
        """Number of the request."""
        return self._spec.request_id

    @property
    def arrival_us(self) -> int:
        """When it arrived."""
        return self._spec.arrival_us

    @property
    def max_output_tokens(self) -> int | None:
        """The client's limit on the answer."""
        return self._spec.max_output_tokens

    @property
    def priority(self) -> int:
        """Lower is more urgent."""
        return self._spec.priority

    @property
    def slo_class(self) -> str | None:
        """The class the client named."""
        return self._spec.slo_class

    @property
    def tenant(self) -> str | None:
        """Who sends it."""
        return self._spec.tenant

    @property
    def session_id(self) -> str | None:
        """The conversation it belongs to."""
        return self._spec.session_id

    def content(self, block_size: int) -> tuple[ContentSegment, ...]:
        """Return what identifies the prompt's leading blocks, empty when it is private.

        A segment names the blocks up to its end. The end may lie beyond the prompt.
        """
        if not self.is_shareable:
            return ()
        if self._contents is None:
            self._contents = {}
        known = self._contents.get(block_size)
        if known is None:
            known = self._contents[block_size] = content_of(self._spec, block_size)
        return known
