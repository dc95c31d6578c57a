"""The paged KV cache with prefix caching, kept in extents.

A block is identified by what stands at which place of a chain; blocks that follow each
other and share their fate are one :class:`Extent`. Blocks whose content no other request
can share are only counted while they are held. The free list is in vLLM's LRU order, block
by block: allocation takes its head, a request returns its blocks to the tail last block
first, so an extent on the list is eaten from its end::

    head                                                        tail
    | private 9..6 of r1 | shared g 5..0 | anonymous x 40 | ...
      ^ eaten first

Freed blocks stay findable until they are eaten: shared extents by anybody with
the same content, a preempted request's private ones by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from blis_sim.engine.extents import Extent, FreeList
from blis_sim.errors import InvariantError

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from blis_sim.engine.request import Request
    from blis_sim.workload.request import RequestSpec

UNBOUNDED = 1 << 62
"""End of a segment that goes on for as long as the sequence grows."""


class ContentSegment(NamedTuple):
    """Blocks [.., end) of a chain that other requests can share."""

    key: Hashable
    end: int


class Hit(NamedTuple):
    """What a lookup found: cached blocks [0, num_blocks) of a request's chain."""

    num_blocks: int
    num_on_free_list: int
    pieces: list[tuple[Extent, int]]
    """Extents in chain order, each with the block index up to which it is hit."""


NO_HIT = Hit(0, 0, [])


def content_of(spec: RequestSpec, block_size: int) -> tuple[ContentSegment, ...]:
    """Return the shareable segments of a request's chain, in order.

    Block hashes name the prompt piece by piece: a block is known by the hash of the piece its
    last token is in, which implies all that stands before. Otherwise a prefix group shares
    the full blocks of its prefix; after them, a session shares everything, prompt and answer,
    in all its rounds, and a prompt_id the rest of the prompt. What remains is private.
    """
    if spec.block_hashes is not None:
        return _hashed_segments(spec, spec.block_hashes, block_size)
    segments: list[ContentSegment] = []
    group_blocks = 0
    if spec.prefix_group is not None:
        group_blocks = spec.prefix_tokens // block_size
        if group_blocks:
            segments.append(ContentSegment(("group", spec.prefix_group), group_blocks))
    if spec.session_id is not None:
        key = ("session", spec.session_id, spec.prefix_group, spec.prefix_tokens)
        segments.append(ContentSegment(key, UNBOUNDED))
    elif spec.prompt_id is not None:
        prompt_blocks = spec.prompt_tokens // block_size
        if prompt_blocks > group_blocks:
            prompt_key = ("prompt", spec.prompt_id, spec.prefix_group, spec.prefix_tokens)
            segments.append(ContentSegment(prompt_key, prompt_blocks))
    return tuple(segments)


def _hashed_segments(
    spec: RequestSpec, hashes: tuple[int, ...], block_size: int
) -> tuple[ContentSegment, ...]:
    segments: list[ContentSegment] = []
    piece, last = spec.hash_block_tokens, spec.prompt_tokens // block_size
    begin = end_tokens = 0
    for number in hashes:
        end_tokens += piece
        end = min(end_tokens // block_size, last)
        if end > begin:
            segments.append(ContentSegment(number, end))
            begin = end
    return tuple(segments)


def is_shareable(spec: RequestSpec) -> bool:
    """Return whether other requests may share blocks with this one."""
    return (
        spec.prefix_group is not None
        or spec.session_id is not None
        or spec.prompt_id is not None
        or spec.block_hashes is not None
    )


class CachedBlocks:
    """Which blocks were cached at some moment.

    Parameters
    ----------
    spans : dict
        Content key -> spans [lo, hi) of block positions that are cached.
    """

    def __init__(self, spans: dict[Hashable, list[tuple[int, int]]]) -> None:
        self._spans = spans

    def num_leading(self, content: Sequence[ContentSegment], at_most: int) -> int:
        """Return how many leading blocks of a chain were cached, up to a limit."""
        position = 0
        for key, segment_end in content:
            end = min(segment_end, at_most)
            for low, high in sorted(self._spans.get(key, ())):
                if low <= position < end:
                    position = max(position, min(high, end))
            if position < end:
                break
        return position


class KVCache:
    """The block pool of one instance.

    Parameters
    ----------
    num_blocks : int
        Usable blocks, >= 1.
    block_size : int
        Tokens per block, >= 1.
    enable_prefix_caching : bool
        Whether full blocks can be found again.
    """

    def __init__(self, num_blocks: int, block_size: int, *, enable_prefix_caching: bool) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.enable_prefix_caching = enable_prefix_caching
        self.num_free = num_blocks
        self.min_free = num_blocks
        self.block_us = 0
        """Integral of the held blocks over time, if all held ones were freed at time 0:
        every allocation subtracts its instant, every release adds its own."""
        self._free = FreeList()
        self._free.append_anonymous(num_blocks)
        self._index: dict[Hashable, list[Extent]] = {}
        """Cached extents by content key, oldest first."""

    @property
    def num_used(self) -> int:
        """Blocks held by requests."""
        return self.num_blocks - self.num_free

    def register(self, request: Request) -> None:
        """Work out which blocks of a new request can be shared."""
        spec = request.spec
        if self.enable_prefix_caching and is_shareable(spec):
            request.content = content_of(spec, self.block_size)
            if request.content:
                request.chain = []
                request.chain_ends = []
                request.hashable_blocks = request.content[-1].end

    # -- lookup ---------------------------------------------------------------

    def lookup(self, request: Request) -> Hit:
        """Find the longest cached prefix of a waiting request.

        At most ``floor((num_tokens - 1) / block_size)`` blocks: at least one token is
        always computed.
        """
        cap = (request.num_tokens - 1) // self.block_size
        position = num_free = 0
        pieces: list[tuple[Extent, int]] = []
        segments = request.content
        if request.has_private_extents:
            segments = (*segments, ContentSegment(_own_key(request), UNBOUNDED))
        for key, segment_end in segments:
            end = min(segment_end, cap)
            while position < end:
                found = self._oldest_copy(key, position, end)
                if found is None:
                    return Hit(position, num_free, pieces)
                extent, upto = found
                pieces.append(found)
                if extent.refs == 0:
                    num_free += upto - position
                position = upto
        return Hit(position, num_free, pieces) if pieces else NO_HIT

    def _oldest_copy(self, key: Hashable, position: int, end: int) -> tuple[Extent, int] | None:
        """Return the oldest cached copy of block ``position`` and how far to follow it.

        Copies are in order of age; an older copy that begins further on takes over there.
        """
        upto = end
        for extent in self._index.get(key, ()):
            if extent.lo <= position < extent.hi:
                return extent, min(upto, extent.hi)
            if position < extent.lo < upto:
                upto = extent.lo
        return None

    def num_leading(self, content: Sequence[ContentSegment], at_most: int) -> int:
        """Return how many leading blocks of a chain are cached, up to a limit."""
        position = 0
        for key, segment_end in content:
            end = min(segment_end, at_most)
            while position < end:
                found = self._oldest_copy(key, position, end)
                if found is None:
                    return position
                position = found[1]
        return position

    def cached_blocks(self) -> CachedBlocks:
        """Return what is findable now, as it will look later when it has changed."""
        return CachedBlocks(
            {key: [(e.lo, e.hi) for e in extents] for key, extents in self._index.items()}
        )

    def pin(self, request: Request, hit: Hit, now_us: int) -> None:
        """Give a request the blocks its lookup found."""
        self.num_free -= hit.num_on_free_list
        self.block_us -= hit.num_on_free_list * now_us
        own_key = _own_key(request)
        position = 0
        for found, upto in hit.pieces:
            piece = found
            while piece.hi <= position and piece.successor is not None:
                piece = piece.successor
            if position > piece.lo:
                piece = self._split(piece, position)
            if upto < piece.hi:
                self._split(piece, upto)
            if piece.refs == 0:
                self._free.remove(piece)
            if piece.key == own_key:
                self._forget(piece)  # held blocks that are private are only counted
            else:
                piece.refs += 1
                request.chain.append(piece)
                request.chain_ends.append(upto)
                request.num_hashed_blocks = upto
            position = upto

    def _split(self, extent: Extent, at: int) -> Extent:
        """Split an extent; it keeps [lo, at) and the returned one is [at, hi)."""
        rest = Extent(extent.key, at, extent.hi)
        rest.refs = extent.refs
        rest.successor = extent.successor
        extent.hi = at
        extent.successor = rest
        copies = self._index[extent.key]
        copies.insert(copies.index(extent) + 1, rest)
        if extent.refs == 0:
            self._free.insert_before(extent, rest)
        return rest

    # -- allocation -----------------------------------------------------------

    def allocate(self, num_blocks: int, moments_us: int) -> None:
        """Take blocks from the head of the free list; the caller has made sure they exist.

        ``moments_us`` is the sum over the blocks of the instants they are taken at.
        """
        num_free = self.num_free - num_blocks
        self.num_free = num_free
        self.block_us -= moments_us
        if num_free < self.min_free:
            if num_free < 0:
                raise InvariantError(f"{-num_free} KV blocks more taken than were free")
            self.min_free = num_free
        head = self._free.end.next
        if head.hi - head.lo > num_blocks:
            head.hi -= num_blocks
            return
        for evicted in self._free.take(num_blocks):
            if evicted.key is not None:
                self._forget(evicted)

    def _forget(self, extent: Extent) -> None:
        """Make an extent unfindable."""
        copies = self._index[extent.key]
        copies.remove(extent)
        if not copies:
            del self._index[extent.key]

    def publish(self, request: Request, num_computed_tokens: int) -> None:
        """Make the shareable blocks that are now full findable."""
        begin = request.num_hashed_blocks
        full = min(num_computed_tokens // self.block_size, request.hashable_blocks)
        for key, segment_end in request.content:
            if begin >= full:
                return
            if begin < segment_end:
                end = min(full, segment_end)
                self._publish_extent(request, key, begin, end)
                request.num_hashed_blocks = begin = end

    def _publish_extent(self, request: Request, key: Hashable, begin: int, end: int) -> None:
        copies = self._index.setdefault(key, [])
        if copies and request.chain:
            last = request.chain[-1]
            # Growing keeps the order of age: nothing younger of this content exists.
            if (
                last is copies[-1]
                and last.refs == 1
                and last.successor is None
                and last.hi == begin == request.chain_ends[-1]
            ):
                last.hi = end
                request.chain_ends[-1] = end
                return
        extent = Extent(key, begin, end)
        extent.refs = 1
        copies.append(extent)
        request.chain.append(extent)
        request.chain_ends.append(end)

    # -- release --------------------------------------------------------------

    def release_private(self, num_blocks: int, now_us: int) -> None:
        """Return blocks that nobody will find again."""
        self.num_free += num_blocks
        self.block_us += num_blocks * now_us
        self._free.append_anonymous(num_blocks)

    def release(
        self,
        request: Request,
        num_held_blocks: int,
        num_computed_tokens: int,
        now_us: int,
        *,
        keep: bool,
    ) -> None:
        """Return all blocks of a request, last block first.

        With ``keep`` (preemption) its private blocks that are full of computed tokens stay
        findable for itself.
        """
        hashed = request.num_hashed_blocks
        anonymous = num_held_blocks - hashed
        self.num_free += anonymous
        self.block_us += anonymous * now_us
        private: Extent | None = None
        if keep and self.enable_prefix_caching:
            full = num_computed_tokens // self.block_size
            if full > hashed:
                private = Extent(_own_key(request), hashed, full)
                self._index.setdefault(private.key, []).append(private)
                request.has_private_extents = True
                anonymous = num_held_blocks - full
        if anonymous:
            self._free.append_anonymous(anonymous)
        if private is not None:
            self._free.append(private)
        if request.content:
            self._release_chain(request, now_us)

    def _release_chain(self, request: Request, now_us: int) -> None:
        pieces: list[Extent] = []
        for first, end in zip(request.chain, request.chain_ends, strict=True):
            piece: Extent | None = first
            while piece is not None and piece.lo < end:
                pieces.append(piece)
                piece = piece.successor
        for piece in reversed(pieces):
            piece.refs -= 1
            if piece.refs == 0:
                self._free.append(piece)
                self.num_free += piece.hi - piece.lo
                self.block_us += (piece.hi - piece.lo) * now_us
        request.chain = []
        request.chain_ends = []
        request.num_hashed_blocks = 0

    def forget(self, request: Request) -> None:
        """Forget a request's private blocks on the free list: nobody can hit them now."""
        for extent in self._index.pop(_own_key(request), ()):
            extent.key = None

    def check_integrity(self, holders: dict[int, tuple[Request, int]]) -> None:
        """Check that allocated + free = total and that references equal owners.

        Parameters
        ----------
        holders : dict
            Request number -> (request, computed tokens) for every request holding blocks.

        Raises
        ------
        InvariantError
            When a block is lost, held twice or counted wrongly.
        """
        on_list = self._free.count_blocks()
        private = shared = 0
        owners: dict[int, int] = {}
        for request, num_computed in holders.values():
            private += -(-num_computed // self.block_size) - request.num_hashed_blocks
            if not request.content:
                continue
            for first, end in zip(request.chain, request.chain_ends, strict=True):
                piece: Extent | None = first
                while piece is not None and piece.lo < end:
                    owners[id(piece)] = owners.get(id(piece), 0) + 1
                    piece = piece.successor
        for extents in self._index.values():
            for extent in extents:
                if owners.get(id(extent), 0) != extent.refs:
                    raise InvariantError(f"extent {extent} does not have as many owners as refs")
                if extent.refs:
                    shared += extent.hi - extent.lo
        if on_list != self.num_free or on_list + private + shared != self.num_blocks:
            raise InvariantError(
                f"KV blocks: {on_list} on the free list, {self.num_free} counted free, "
                f"{private} private and {shared} shared do not add up to {self.num_blocks}"
            )


def _own_key(request: Request) -> Hashable:
    """Return the content key of blocks that only the request itself can hit."""
    return "own", request.request_id
