"""Attention as thread blocks: what a context costs where few new tokens attend to it.

FlashAttention 2 gives a tile of query rows of one head to a thread block, which passes all keys of
its request by itself. A short chunk on a long context keeps a few SMs busy and leaves the others
idle. Over a paged cache its tiles have 64 rows whatever the heads (``kBlockM`` in
``run_mha_fwd_splitkv_dispatch``), and keys are divided among blocks only where no request has more
than one new token (``seqlenq_ngroups_swapped`` in ``mha_varlen_fwd``). So in a step with prompts
a request that decodes is a tile like any other, with one row in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blis_sim.latency.kernel_tables.precision import normalised_dtype
from blis_sim.latency.kernel_tables.shapes import HeadShape, causal_roof
from blis_sim.transformer.attention import twice_causal_pairs

if TYPE_CHECKING:
    from blis_sim.catalog.gpus import GpuSpec
    from blis_sim.latency.kernel_tables.fit import Fit
    from blis_sim.latency.kernel_tables.shapes import AttentionShape, Formats

TILE_ROWS = 64


@dataclass(frozen=True, slots=True)
class Tiles:
    """How attention with some heads fills a GPU.

    Attributes
    ----------
    num_heads, num_sms : int
        Query heads on the GPU, and its SMs; a block keeps one busy.
    area_us : float
        Time per unit of area (twice the query-key pairs) with every SM busy: that of the
        largest measured prompts.
    request_us : float
        What one more request of a tile adds however few its keys, from measured batches of
        the shortest prompts; 0 where only single prompts were measured.
    """

    num_heads: int
    num_sms: int
    area_us: float
    request_us: float

    @property
    def wave_us(self) -> float:
        """Time in which all SMs, each with a tile, pass one key."""
        return 2 * self._wave_rows * self.area_us

    @property
    def tile_us(self) -> float:
        """Share of a busy GPU's time in which a tile of every head passes one key."""
        return 2 * TILE_ROWS * self.area_us

    @property
    def _wave_rows(self) -> float:
        """Rows of all heads that occupy every SM once."""
        return TILE_ROWS * self.num_sms / self.num_heads

    def num_waves(self, num_tiles: int) -> int:
        """Return how often the SMs are filled by so many tiles of every head."""
        return -(-num_tiles * self.num_heads // self.num_sms)

    def context_us(
        self,
        context_tokens: int,
        new_tokens: int,
        window: int | None,
        *,
        num_chunks: int = 1,
        is_alone: bool = True,
    ) -> float:
        """Return what the context adds to the time of a chunk's new tokens by themselves.

        Parameters
        ----------
        context_tokens, new_tokens : int
            Of a chunk, >= 0 and >= 1.
        window : int or None
            Sliding window in tokens. Rows then differ in how much of the context they see, and
            only the first wave is counted whole.
        num_chunks : int
            Equal chunks in one launch.
        is_alone : bool
            Whether nothing else fills the SMs that the last wave leaves idle.
        """
        if window is None:
            num_tiles = num_chunks * -(-new_tokens // TILE_ROWS)
            if is_alone:
                return self.num_waves(num_tiles) * context_tokens * self.wave_us
            return num_tiles * context_tokens * self.tile_us
        pairs = twice_causal_pairs(context_tokens, new_tokens, window)
        added_us = num_chunks * (pairs - twice_causal_pairs(0, new_tokens, window)) * self.area_us
        if is_alone:
            return max(added_us, min(context_tokens, window) * self.wave_us)
        return added_us


def tiles_of(gpu: GpuSpec, shape: AttentionShape, formats: Formats, fit: Fit) -> Tiles | None:
    """Return how attention fills a GPU; None where its kernels divide the work otherwise.

    Parameters
    ----------
    gpu : GpuSpec
        Where it runs. FlashAttention 3 on Hopper and the kernels of B200, like those for
        8-bit caches, spread the keys of a request over the SMs.
    shape : AttentionShape
        Heads on this GPU.
    formats : Formats
        Of queries and cache.
    fit : Fit
        Times of whole prompts over their area.
    """
    if (
        gpu.flash_attention_version != 2
        or gpu.num_sms is None
        or not isinstance(shape, HeadShape)
        or not _is_16_bits(formats)
    ):
        return None
    area_us = _area_us(gpu, shape, formats, fit)
    return Tiles(shape.num_heads, gpu.num_sms, area_us, _request_us(fit))


def padded_key_us(gpu: GpuSpec, shape: AttentionShape, formats: Formats, fit: Fit) -> float:
    """Return what a cached token of a decode takes beside a prompt of more than a tile, us.

    The kernel's tiles are those of the longest query of the step, so that a decode has
    ``TILE_ROWS`` rows of every head of which one is its own. 0 where ``tiles_of`` says more, or
    the kernels divide the work otherwise.

    Notes
    -----
    FlashAttention 3 on Hopper is taken to be so because of steps measured on a vLLM server
    (Qwen3-14B, H100): beside a prompt of 986 tokens the eighth decode takes 0.2 ms more than it
    does in a step of decodes; and with 240 decodes a server carries 17.2 requests/s, where
    decodes that cost what they do without prompts would let it carry 18.5. The rows of a tile
    are FlashAttention 2's because they agree with that server (17.8); with 128 rows it would
    carry 15.8.
    """
    is_alike = gpu.flash_attention_version == 3 and isinstance(shape, HeadShape)
    if not is_alike or not _is_16_bits(formats):
        return 0.0
    return 2 * TILE_ROWS * _area_us(gpu, shape, formats, fit)


def _is_16_bits(formats: Formats) -> bool:
    return normalised_dtype(formats.kv_dtype) in {"bf16", "fp16"}


def _area_us(gpu: GpuSpec, shape: AttentionShape, formats: Formats, fit: Fit) -> float:
    """Return the time of half a (query, key) pair with every SM busy."""
    return max(causal_roof(gpu, shape, formats).compute_us, fit.surface.line(1).slope_us)


def _request_us(fit: Fit) -> float:
    """Return what a request adds to a batch of the shortest prompts of several tokens.

    Prompts of one token are left out: the kernel takes the heads of a group for rows then.
    """
    cells = fit.parts[0].cells
    shortest = cells.x[cells.x > 1][:1]
    fewest, most = float(cells.batch[0]), float(cells.batch[-1])
    if fewest == most or not shortest.size:
        return 0.0
    of_most, of_fewest = (fit.surface.line(batch).at(shortest) for batch in (most, fewest))
    return max(0.0, float(of_most[0] - of_fewest[0]) / (most - fewest))
