"""Attention of steps with prompts on GPUs where it is divided into tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from blis_sim.errors import InvariantError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blis_sim.latency.base import PrefillChunk
    from blis_sim.latency.roofline_v2.kernel_time import ChunkTimes

_MOST_CHUNKS = 200_000
"""Chunks whose times are kept."""


class ChunkNs(NamedTuple):
    """Nanoseconds of a chunk beyond the launch."""

    shared: float
    """Its share of the time of a busy GPU."""
    alone: float
    """With no other blocks on the GPU."""
    keys: int
    """Cached tokens that each of its blocks passes."""


class TiledAttention:
    """Attention of one kind of layer, all its executions in a step.

    The blocks of all requests share a launch, one to an SM. That takes as long as their work
    divided by the SMs, and half of the longest more, as SMs run out of blocks one after the
    other; at least as long as any request by itself. A decode among prompts is a tile of one row:
    it costs as much as one of 64 (see ``kernel_tables.tiles``), at least its measured decode
    attention.

    Parameters
    ----------
    times : ChunkTimes
        Of prompt chunks, with tiles.
    executions : int
        How often the kernel runs in a step, >= 1.
    """

    __slots__ = (
        "_chunks",
        "_launch_ns",
        "_ns",
        "_request_ns",
        "_tile_ns",
        "_tiles",
        "_times",
        "_wave_ns",
        "_window",
    )

    def __init__(self, times: ChunkTimes, executions: int) -> None:
        tiles = times.tiles
        if tiles is None:
            raise InvariantError("attention without tiles has no blocks to share out")
        self._times, self._tiles, self._window = times, tiles, times.window
        self._ns = 1000.0 * executions
        self._launch_ns = self._ns * times.line.least_us
        self._request_ns = self._ns * tiles.request_us
        self._tile_ns = self._ns * tiles.tile_us
        self._wave_ns = self._ns * tiles.wave_us
        self._chunks: dict[tuple[int, int], ChunkNs] = {}

    def step_ns(
        self, prefills: Sequence[PrefillChunk], num_decodes: int, tokens: int, decode_ns: int
    ) -> float:
        """Return the nanoseconds of attention in a step.

        Parameters
        ----------
        prefills : sequence of PrefillChunk
            At least one.
        num_decodes, tokens : int
            Requests that decode, and the tokens all of them attend to.
        decode_ns : int
            What their attention takes in a step without prompts.
        """
        work_ns = alone_ns = keys = 0.0
        for context_tokens, new_tokens in prefills:
            chunk = self._chunk(context_tokens, new_tokens)
            work_ns += chunk.shared
            alone_ns = max(alone_ns, chunk.alone)
            keys = max(keys, chunk.keys)
        if num_decodes:
            if self._window is not None:
                tokens = min(tokens, num_decodes * self._window)
            mean = tokens / num_decodes
            own_ns = num_decodes * self._request_ns + tokens * self._tile_ns
            work_ns += max(own_ns, decode_ns - self._launch_ns)
            alone_ns = max(alone_ns, self._tiles.num_waves(num_decodes) * mean * self._wave_ns)
            keys = max(keys, mean)
        elif len(prefills) == 1:
            return self._launch_ns + alone_ns
        return self._launch_ns + max(alone_ns, work_ns + keys * self._wave_ns / 2)

    def _chunk(self, context_tokens: int, new_tokens: int) -> ChunkNs:
        key = (context_tokens, new_tokens)
        known = self._chunks.get(key)
        if known is None:
            times, ns = self._times, self._ns
            if len(self._chunks) >= _MOST_CHUNKS:
                self._chunks.clear()
            known = self._chunks[key] = ChunkNs(
                ns * times.beyond_floor_us(context_tokens, new_tokens),
                ns * times.beyond_floor_us(context_tokens, new_tokens, is_alone=True),
                context_tokens if self._window is None else min(context_tokens, self._window),
            )
        return known
