"""The latency model roofline-v2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from blis_sim.latency.kernel_tables.tiles import TILE_ROWS
from blis_sim.latency.roofline_v2.decode_time import DecodeTimes
from blis_sim.latency.roofline_v2.kernel_time import ChunkTimes, KernelTimer
from blis_sim.latency.roofline_v2.tiled_attention import TiledAttention
from blis_sim.transformer.attention import (
    DecodeAttention,
    MlaDecodeAttention,
    MlaPrefillAttention,
    PrefillAttention,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blis_sim.latency.base import Batch, Int64Array, RequestLike
    from blis_sim.latency.kernel_tables.tables import KernelTables
    from blis_sim.latency.roofline_v2.host import HostModel
    from blis_sim.transformer.forward_pass import ForwardPass
    from blis_sim.transformer.kernels import Kernel

_FIRST_BLOCK = 256
_MOST_CHUNKS = 200_000
"""Chunks whose times are kept."""


class RooflineV2Model:
    """A step is the sum of its kernels on one GPU of the group, and the host's share.

    All tokens of a step go through the GEMMs together. Attention is one launch for the whole
    batch, as vLLM's backends do it: what launching costs is counted once, and each prompt chunk
    adds what it takes beyond that, at least what the GPU's peak and bandwidth demand. With
    FlashAttention 2 requests share the SMs tile by tile, see ``TiledAttention``.

    Times are added up in whole nanoseconds and rounded to microseconds, a half up.

    Parameters
    ----------
    forward : ForwardPass
        The arithmetic of the model on one GPU of the group.
    tables : KernelTables
        Measurements.
    host : HostModel
        What a step costs beyond its kernels.
    hides_host : bool
        Whether what the host does between steps is hidden behind a running step.
    """

    def __init__(
        self,
        forward: ForwardPass,
        tables: KernelTables,
        host: HostModel,
        *,
        hides_host: bool = True,
    ) -> None:
        self.forward = forward
        self.host = host
        self.hides_host = hides_host
        self.timer = KernelTimer(tables)
        self._token_ns: list[int] = []
        """By number of tokens: GEMMs, experts, elementwise kernels, all-reduces."""
        self._row_ns: list[int] = []
        """By number of requests: LM head, sampling, and the host's share."""
        self._decode_times: dict[int, tuple[int, int, list[DecodeTimes]]] = {}
        self._chunk_ns: dict[tuple[int, int], int] = {}
        self._floor_ns: int | None = None
        self._attention_of_chunks: list[tuple[int, ChunkTimes]] | None = None
        self._padded: list[tuple[float, int | None]] = []
        """By kind of layer, nanoseconds of a key of a padded decode, and the window."""
        self._tiled: list[TiledAttention] = []
        """By kind of layer, where attention is divided into tiles; filled with the floor."""

    # -- the protocol ---------------------------------------------------------

    def step_time(self, batch: Batch) -> int:
        """Return the duration of one engine step in microseconds, >= 1."""
        num_decodes = batch.num_decodes
        total_ns = 0
        if num_decodes:
            fixed_ns, alone_ns, lines = self._decodes(num_decodes)
            tokens = batch.sum_decode_context + num_decodes
            total_ns = fixed_ns
            for line in lines:
                total_ns += line.at(tokens)
            if not batch.prefills:
                return (total_ns + alone_ns) // 1000
        num_requests = num_tokens = num_decodes
        if batch.prefills:
            total_ns = max(total_ns, self._prefill_floor(), self._padded_ns(batch))
            for chunk in batch.prefills:
                num_tokens += chunk.new_tokens
                total_ns += self._chunk(chunk.context_tokens, chunk.new_tokens)
            if self._tiled:
                total_ns = self._tiled_ns(batch)
            num_requests += len(batch.prefills)
        if not num_requests:
            return 1
        total_ns += self._tokens(num_tokens) + self._rows(num_requests)
        return (total_ns + 500) // 1000

    def decode_run(self, batch: Batch, num_steps: int) -> Int64Array:
        """Return the durations of ``num_steps`` consecutive steps of a decode-only batch."""
        num_decodes = batch.num_decodes
        fixed_ns, alone_ns, lines = self._decodes(num_decodes)
        first = batch.sum_decode_context + num_decodes
        tokens = np.arange(first, first + num_steps * num_decodes, num_decodes, dtype=np.int64)
        total_ns = lines[0].along(tokens)
        for line in lines[1:]:
            total_ns += line.along(tokens)
        total_ns += fixed_ns + alone_ns
        total_ns //= 1000
        return total_ns

    def uniform_decode_time(self, batch: Batch) -> int | None:
        """Return None: a step takes longer with every token of context."""
        return None

    def queueing_time(self, request: RequestLike) -> int:
        """Return the time between arrival and the waiting queue: the host's frontend."""
        host = self.host
        return int(host.frontend_us + host.frontend_per_prompt_token_us * request.prompt_tokens)

    def output_token_time(self) -> int:
        """Return the time from a token to the client: in the frontend's share."""
        return 0

    def scheduling_time(self) -> int:
        """Return the time of a scheduling pass: in the host's share."""
        return 0

    def preemption_time(self) -> int:
        """Return the time of a preemption: none."""
        return 0

    def host_us(self, num_requests: int) -> float:
        """Return the host's share of a step with so many requests, microseconds, >= 0."""
        forward = self.forward
        return self.host.step_us(
            num_requests, forward.spec.num_layers, forward.tp, hides_host=self.hides_host
        )

    def launch_us(self, batch: Batch) -> float:
        """Return what attention takes beyond the kernels of a step with prompts, us, >= 0.

        Launching it, as far as decode attention does not hide that, and SMs that idle because
        blocks are few or of unequal length.
        """
        decode_ns = 0
        if batch.num_decodes:
            decode_ns, _, lines = self._decodes(batch.num_decodes)
            tokens = batch.sum_decode_context + batch.num_decodes
            decode_ns += sum(line.at(tokens) for line in lines)
        floor_ns = self._prefill_floor()
        if not self._tiled:
            return max(0, floor_ns - decode_ns, self._padded_ns(batch) - decode_ns) / 1000
        chunks_ns = sum(self._chunk(*chunk) for chunk in batch.prefills)
        return (self._tiled_ns(batch) - decode_ns - chunks_ns) / 1000

    # -- parts ----------------------------------------------------------------

    def _padded_ns(self, batch: Batch) -> int:
        """Return the nanoseconds of decodes that fill tiles beside a long prompt, else 0."""
        floor_ns = self._prefill_floor()
        num_decodes = batch.num_decodes
        if not self._padded or not num_decodes:
            return 0
        if max(chunk.new_tokens for chunk in batch.prefills) <= TILE_ROWS:
            return 0
        tokens, total_ns = batch.sum_decode_context + num_decodes, 0.0
        for key_ns, window in self._padded:
            kept = tokens if window is None else min(tokens, num_decodes * window)
            total_ns += kept * key_ns
        return floor_ns + round(total_ns)

    def _tiled_ns(self, batch: Batch) -> int:
        """Return the nanoseconds of tiled attention in a step with prompts."""
        num_decodes = batch.num_decodes
        tokens = batch.sum_decode_context + num_decodes
        lines = self._decodes(num_decodes)[2] if num_decodes else [None] * len(self._tiled)
        total_ns = 0.0
        for kind, line in zip(self._tiled, lines, strict=True):
            decode_ns = 0 if line is None else line.at(tokens)
            total_ns += kind.step_ns(batch.prefills, num_decodes, tokens, decode_ns)
        return round(total_ns)

    def _tokens(self, num_tokens: int) -> int:
        """Return the nanoseconds of all that depends on the tokens of the step alone."""
        if num_tokens >= len(self._token_ns):
            self._token_ns = self._by_count(num_tokens, self.forward.token_kernels(1))
        return self._token_ns[num_tokens]

    def _rows(self, num_requests: int) -> int:
        """Return the nanoseconds of sampling for a row per request, and the host's share."""
        if num_requests >= len(self._row_ns):
            times = self._by_count(num_requests, self.forward.sampling_kernels(1))
            self._row_ns = [
                ns + round(1000 * self.host_us(count)) for count, ns in enumerate(times)
            ]
        return self._row_ns[num_requests]

    def _by_count(self, count: int, kernels: Iterable[Kernel]) -> list[int]:
        """Return the nanoseconds of kernels like these, given for 1, by count up to ``count``.

        Rounded up to a power of two, so that this is done a few times only.
        """
        most = max(_FIRST_BLOCK, 1 << count.bit_length())
        counts = np.arange(1, most + 1, dtype=np.float64)
        total = np.zeros(most)
        for kernel in kernels:
            total += kernel.count * self.timer.scaled_us(kernel, counts)
        # Sums of non-decreasing times; the rounding of a sum could still undo that.
        rounded = np.maximum.accumulate(np.rint(1000 * total).astype(np.int64))
        return [0, *rounded.tolist()]

    def _decodes(self, num_decodes: int) -> tuple[int, int, list[DecodeTimes]]:
        """Return what a number of decodes costs.

        Nanoseconds of decode attention whatever the context; of the rest of a step with
        nothing else in it, and 500 for rounding; and of attention by context.
        """
        known = self._decode_times.get(num_decodes)
        if known is None:
            fixed_us, lines = 0.0, []
            for kernel in self.forward.decode_attention(num_decodes, 0):
                if isinstance(kernel, DecodeAttention | MlaDecodeAttention):
                    line = self.timer.decode_line(kernel)
                    window = kernel.window if isinstance(kernel, DecodeAttention) else None
                    lines.append(DecodeTimes(line, num_decodes, kernel.count, window))
                else:
                    fixed_us += kernel.count * self.timer.time_us(kernel)
            alone_ns = self._tokens(num_decodes) + self._rows(num_decodes) + 500
            known = (round(1000 * fixed_us), alone_ns, lines)
            self._decode_times[num_decodes] = known
        return known

    def _chunk(self, context_tokens: int, new_tokens: int) -> int:
        """Return the nanoseconds that a prompt chunk adds to the attention of a step."""
        key = (context_tokens, new_tokens)
        known = self._chunk_ns.get(key)
        if known is None:
            total_us = 0.0
            for count, times in self._chunk_times():
                total_us += count * times.beyond_floor_us(context_tokens, new_tokens)
            if self.forward.spec.mla is not None:
                for kernel in self.forward.prefill_attention(context_tokens, new_tokens):
                    if not isinstance(kernel, MlaPrefillAttention):
                        total_us += kernel.count * self.timer.time_us(kernel)
            if len(self._chunk_ns) >= _MOST_CHUNKS:
                self._chunk_ns.clear()
            known = self._chunk_ns[key] = round(1000 * total_us)
        return known

    def _chunk_times(self) -> list[tuple[int, ChunkTimes]]:
        """Return the attention of prompt chunks, per kind of layer, with their number."""
        if self._attention_of_chunks is None:
            self._attention_of_chunks = [
                (kernel.count, self.timer.chunk_times(kernel))
                for kernel in self.forward.prefill_attention(0, 1)
                if isinstance(kernel, PrefillAttention | MlaPrefillAttention)
            ]
        return self._attention_of_chunks

    def _prefill_floor(self) -> int:
        """Return the nanoseconds that launching attention costs in a step with prompts."""
        if self._floor_ns is None:
            self._tiled = [
                TiledAttention(times, count)
                for count, times in self._chunk_times()
                if times.tiles is not None
            ]
            self._padded = [
                (1000 * count * times.padded_key_us, times.window)
                for count, times in self._chunk_times()
                if times.padded_key_us
            ]
            floor_us = 0.0
            for kernel in self.forward.prefill_attention(0, 1):
                if isinstance(kernel, PrefillAttention | MlaPrefillAttention):
                    floor_us += kernel.count * self.timer.prefill_floor_us(kernel)
            self._floor_ns = round(1000 * floor_us)
        return self._floor_ns
