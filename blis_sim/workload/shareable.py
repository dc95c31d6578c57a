"""How much of each prompt a prefix cache that never forgets would already hold."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import NamedTuple

from blis_sim.workload.request import RequestSpec

BLOCK_TOKENS = 16
"""Tokens per KV block of the cache imagined (vLLM's default)."""


class _Segment(NamedTuple):
    """Blocks of a sequence known by one name: from the segment before to ``end``, excluded."""

    key: Hashable
    end: int


class InfinitePrefixCache:
    """An infinite prefix cache that serves one request after the other.

    Only full blocks are cached, and a block is found only when all before it are; at least
    one token of a prompt is always computed, so that at most
    ``floor((prompt_tokens - 1) / block_tokens)`` blocks hit (vLLM V1, ``kv_cache_manager``).
    What a block holds is decided by its last token: a shared prefix, then the history of a
    session or a known prompt; or the block hashes alone. Everything else is private.

    For each name the cache keeps how far its blocks are known, so that a request costs time
    in proportion to the names in it, not to its blocks.

    Parameters
    ----------
    block_tokens : int
        Tokens per block, >= 1.
    """

    def __init__(self, block_tokens: int = BLOCK_TOKENS) -> None:
        self._block_tokens = block_tokens
        self._known: dict[Hashable, int] = {}
        """Name -> blocks from the beginning of the sequence that are cached under it."""

    def serve(self, spec: RequestSpec) -> int:
        """Return the prompt tokens that hit, and remember the request's blocks."""
        if spec.block_hashes is not None:
            segments = self._hashed_segments(spec, spec.block_hashes)
        elif spec.prefix_group is None and spec.session_id is None and spec.prompt_id is None:
            return 0
        else:
            segments = self._named_segments(spec)
        limit = (spec.prompt_tokens - 1) // self._block_tokens
        known = self._known
        num_hit, may_hit = 0, True
        for key, end in segments:
            held = known.get(key, 0)
            if may_hit:
                num_hit = max(num_hit, min(held, end))
                may_hit = num_hit == end
            if end > held:
                known[key] = end
        return min(num_hit, limit) * self._block_tokens

    def _named_segments(self, spec: RequestSpec) -> Iterator[_Segment]:
        size = self._block_tokens
        group, prefix_tokens = spec.prefix_group, spec.prefix_tokens
        if group is not None:
            yield _Segment(("group", group), prefix_tokens // size)
        if spec.session_id is not None:
            # The answer's last token is never computed upon, hence never stored.
            answer_tokens = max(generated_tokens(spec) - 1, 0)
            key = ("session", spec.session_id, group, prefix_tokens)
            yield _Segment(key, (spec.prompt_tokens + answer_tokens) // size)
        elif spec.prompt_id is not None:
            key = ("prompt", spec.prompt_id, group, prefix_tokens)
            yield _Segment(key, spec.prompt_tokens // size)

    def _hashed_segments(self, spec: RequestSpec, hashes: tuple[int, ...]) -> Iterator[_Segment]:
        size, piece_tokens = self._block_tokens, spec.hash_block_tokens
        num_blocks = spec.prompt_tokens // size
        begin = end_tokens = 0
        for number in hashes:
            end_tokens += piece_tokens
            end = min(end_tokens // size, num_blocks)
            if end > begin:
                yield _Segment(number, end)
                begin = end


def generated_tokens(spec: RequestSpec) -> int:
    """Return the length of the answer: what the model would say, up to the client's limit."""
    if spec.max_output_tokens is None:
        return spec.output_tokens
    return min(spec.output_tokens, spec.max_output_tokens)
