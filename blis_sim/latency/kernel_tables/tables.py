"""Times of kernels from measurements: the interface of this room."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from blis_sim.latency.kernel_tables.arrays import FloatArray, floats
from blis_sim.latency.kernel_tables.attention import (
    attention_fit,
    chunk_memory_us,
    twice_attended,
)
from blis_sim.latency.kernel_tables.collective import allreduce_fit
from blis_sim.latency.kernel_tables.precision import BYTES_PER_US
from blis_sim.latency.kernel_tables.products import gemm_fit, moe_fit
from blis_sim.latency.kernel_tables.shapes import (
    ExpandedShape,
    ExpertsShape,
    Formats,
    HeadShape,
    LatentShape,
    WeightFormat,
)
from blis_sim.latency.kernel_tables.tiles import padded_key_us, tiles_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from pathlib import Path

    from blis_sim.catalog.gpus import GpuSpec
    from blis_sim.latency.kernel_tables.fit import Fit
    from blis_sim.latency.kernel_tables.lines import Line
    from blis_sim.latency.kernel_tables.source import Source
    from blis_sim.latency.kernel_tables.tiles import Tiles

ELEMENTWISE_EFFICIENCY = 0.8
"""Share of the memory bandwidth elementwise kernels reach: ``mem_bw_empirical_scaling_factor``
in the system files of AIConfigurator 0.12.0, the same for all GPUs."""
ELEMENTWISE_LEAST_US = 3.0
"""What the smallest kernel takes: ``mem_empirical_constant_latency`` of the same files, the same
for all GPUs. There it is added; here it is a floor, as launch and traffic overlap."""
_PLAIN = WeightFormat()
_FORMATS = Formats()


class KernelTables:
    """Times of kernels on one GPU.

    All times are in us, of one execution, as float64 arrays of the shape of the argument they
    are a function of. They do not decrease when tokens, batch or context grow, and are never
    below the bound ``max(FLOPs / peak, bytes / bandwidth)`` of the kernel on the GPU. Tables are
    read when first needed; lines and surfaces are kept.

    Parameters
    ----------
    gpu : GpuSpec
        Where the kernels run.
    sources : iterable of Source
        Measurements in order of preference; per operation the first that has it answers. It
        is iterated over whenever one is needed.
    link_sources : iterable of Source, optional
        The same for all-reduces; ``sources`` by default.

    Notes
    -----
    Inside the measured grid times are linear in the work (rows of a GEMM, batch and context of
    a decode, area of a causal triangle, tokens of experts, bytes of a message). Outside it,
    and where another shape, format or GPU answers, what is kept is the efficiency over the
    kernel's own bound, see ``lines.carry``. Small measured kernels whose data stayed in the
    L2 cache can be faster than memory allows; they count as fast as memory, see
    ``Source.floor``.
    """

    def __init__(
        self,
        gpu: GpuSpec,
        sources: Iterable[Source],
        link_sources: Iterable[Source] | None = None,
    ) -> None:
        self.gpu = gpu
        self._sources = sources
        self._link_sources = sources if link_sources is None else link_sources
        self._fits: dict[Hashable, Fit] = {}
        self._lines: dict[Hashable, Line] = {}
        self._tiles: dict[Hashable, Tiles | None] = {}

    @classmethod
    def load(cls, folder: Path, gpu: GpuSpec) -> KernelTables:
        """Return the tables of a GPU in a folder of any of the layouts.

        Parameters
        ----------
        folder : Path
            See ``layout.find_folder``.
        gpu : GpuSpec
            The GPU.

        Raises
        ------
        CatalogError
            The folder has no GEMM, prefill and decode tables of this GPU.
        """
        from blis_sim.latency.kernel_tables.borrow import source_in

        return cls(gpu, [source_in(folder, gpu)])

    @property
    def notices(self) -> tuple[str, ...]:
        """What the user should know about the files read so far."""
        sources = dict.fromkeys(fit.match.source for fit in self._fits.values())
        return tuple(notice for source in sources for notice in source.notices)

    def measured_on(self, operation: str) -> str | None:
        """Return the GPU whose measurements answer for an operation, None when none do."""
        sources = self._link_sources if operation == "allreduce" else self._sources
        return next((s.gpu.name for s in sources if s.folder.has(operation)), None)

    def gemm_us(
        self, m: FloatArray, k: int, n: int, weights: WeightFormat | str = _PLAIN
    ) -> FloatArray:
        """Return the times of (m x k) times (k x n) products.

        Parameters
        ----------
        m : float array
            Rows, >= 1.
        k, n : int
            Input and output width on this GPU.
        weights : WeightFormat or str
            Format of the weights, bits of scales per weight, format of the activations; a
            name alone: no scales, bf16 activations.
        """
        return self.gemm_line(k, n, weights).at(floats(m))

    def gemm_line(self, k: int, n: int, weights: WeightFormat | str = _PLAIN) -> Line:
        """Return ``gemm_us`` as a function of m."""
        key = ("gemm", k, n, weights)
        if key not in self._lines:
            self._lines[key] = self.gemm_fit(k, n, weights).surface.line(1)
        return self._lines[key]

    def batched_gemm_us(
        self, m: FloatArray, k: int, n: int, num_products: int, dtype: str = "bf16"
    ) -> FloatArray:
        """Return the times of ``num_products`` independent products of one shape.

        They are as efficient as one product with all their columns.
        """
        return self.gemm_fit(k, n, dtype, num_products).surface.line(1).at(floats(m))

    def gemm_fit(
        self, k: int, n: int, weights: WeightFormat | str = _PLAIN, num_products: int = 1
    ) -> Fit:
        """Return the times of GEMMs with what they rest on."""
        known = WeightFormat(weights) if isinstance(weights, str) else weights
        return self._fit(
            ("gemm", k, n, known, num_products),
            lambda: gemm_fit(self._sources, self.gpu, (k, n), known, num_products),
        )

    def decode_attention_us(
        self,
        shape: HeadShape | LatentShape,
        batch: int,
        mean_kv_len: FloatArray,
        formats: Formats = _FORMATS,
    ) -> FloatArray:
        """Return the times of decode attention.

        Parameters
        ----------
        shape : HeadShape or LatentShape
            Heads on this GPU.
        batch : int
            Requests, >= 1.
        mean_kv_len : float array
            Tokens a request attends to, its new one included, on average, >= 1; with a sliding
            window the mean of what is inside it.
        formats : Formats
            Of queries and cache.
        """
        return self.decode_attention_line(shape, batch, formats).at(floats(mean_kv_len))

    def decode_attention_line(
        self, shape: HeadShape | LatentShape, batch: int, formats: Formats = _FORMATS
    ) -> Line:
        """Return ``decode_attention_us`` as a function of ``mean_kv_len``."""
        key = (type(shape), shape, batch, formats)
        if key not in self._lines:
            self._lines[key] = self.decode_fit(shape, formats).surface.line(batch)
        return self._lines[key]

    def decode_fit(self, shape: HeadShape | LatentShape, formats: Formats = _FORMATS) -> Fit:
        """Return the times of decode attention with what they rest on."""
        return self._fit(
            ("decode", type(shape), shape, formats),
            lambda: attention_fit(self._sources, self.gpu, shape, formats, is_decode=True),
        )

    def prefill_attention_us(
        self,
        shape: HeadShape | ExpandedShape,
        context: FloatArray,
        new: FloatArray,
        *,
        batch: int = 1,
        window: int | None = None,
        formats: Formats = _FORMATS,
    ) -> FloatArray:
        """Return the times of causal attention of chunks of prompts.

        Parameters
        ----------
        shape : HeadShape or ExpandedShape
            Heads on this GPU.
        context, new : float array
            Tokens in the cache before, >= 0, and computed now, >= 1.
        batch : int
            Equal chunks in one kernel.
        window : int, optional
            Sliding window in tokens.
        formats : Formats
            Of queries and cache.

        Notes
        -----
        Measured are whole prompts, without context. A chunk takes the time of the prompt with
        as many (query, key) pairs, or, where attention is divided into tiles, that of its
        new tokens and what passing the context adds, see ``tiles``; at least that of moving
        its bytes.
        """
        context, new = floats(context), floats(new)
        line = self.prefill_fit(shape, formats).surface.line(batch)
        tiles = self.tiles(shape, formats)
        if tiles is None:
            area = twice_attended(context + new, window) - twice_attended(context, window)
            us = line.at(area)
        else:
            added = [
                tiles.context_us(int(s), int(n), window, num_chunks=batch)
                for s, n in np.broadcast(context, new)
            ]
            us = line.at(twice_attended(new, window)) + floats(added).reshape(
                np.broadcast(context, new).shape
            )
        kept = context if window is None else np.minimum(context, window)
        memory_us = chunk_memory_us(self.gpu, shape, formats, kept, new)
        return np.maximum(us, batch * memory_us)

    def tiles(self, shape: HeadShape | ExpandedShape, formats: Formats = _FORMATS) -> Tiles | None:
        """Return how attention fills the GPU; None where its kernels share out keys."""
        key = (shape, formats)
        if key not in self._tiles:
            fit = self.prefill_fit(shape, formats)
            self._tiles[key] = tiles_of(self.gpu, shape, formats, fit)
        return self._tiles[key]

    def padded_key_us(
        self, shape: HeadShape | ExpandedShape, formats: Formats = _FORMATS
    ) -> float:
        """Return what a cached token of a decode takes beside a long prompt, see ``tiles``."""
        return padded_key_us(self.gpu, shape, formats, self.prefill_fit(shape, formats))

    def prefill_fit(self, shape: HeadShape | ExpandedShape, formats: Formats = _FORMATS) -> Fit:
        """Return the times of whole prompts over ``s**2`` with what they rest on."""
        return self._fit(
            ("prefill", type(shape), shape, formats),
            lambda: attention_fit(self._sources, self.gpu, shape, formats, is_decode=False),
        )

    def moe_us(
        self,
        tokens: FloatArray,
        shape: ExpertsShape,
        weights: WeightFormat = _PLAIN,
        *,
        num_matrices: int = 3,
    ) -> FloatArray:
        """Return the times of the routed experts of a layer: routing and both grouped GEMMs.

        Parameters
        ----------
        tokens : float array
            Tokens, >= 1; with expert parallelism those of all its GPUs.
        shape : ExpertsShape
            Experts and their width on this GPU.
        weights : WeightFormat
            Of the experts.
        num_matrices : int
            3 with a gate, else 2.
        """
        tokens = floats(tokens)
        fit = self.moe_fit(shape, weights, num_matrices=num_matrices)
        return np.maximum(fit.surface.line(1).at(tokens), fit.roof.us(tokens))

    def moe_fit(
        self, shape: ExpertsShape, weights: WeightFormat = _PLAIN, *, num_matrices: int = 3
    ) -> Fit:
        """Return the times of routed experts with what they rest on."""
        return self._fit(
            ("moe", shape, weights, num_matrices),
            lambda: moe_fit(self._sources, self.gpu, shape, weights, num_matrices),
        )

    def allreduce_us(self, num_bytes: FloatArray, tp: int) -> FloatArray:
        """Return the times of all-reduces; 0 for ``tp`` 1.

        Parameters
        ----------
        num_bytes : float array
            Size of the buffer that is summed, whole on every GPU, >= 1.
        tp : int
            GPUs, >= 1.
        """
        num_bytes = floats(num_bytes)
        if tp == 1:
            return np.zeros_like(num_bytes)
        return self.allreduce_fit(tp).surface.line(1).at(num_bytes)

    def allreduce_fit(self, tp: int) -> Fit:
        """Return the times of all-reduces with what they rest on."""
        return self._fit(
            ("allreduce", tp), lambda: allreduce_fit(self._link_sources, self.gpu, tp)
        )

    def allgather_us(self, num_bytes: FloatArray, tp: int) -> FloatArray:
        """Return the times of all-gathers into a buffer of ``num_bytes``.

        An all-gather moves what the second half of a ring all-reduce does: it takes the time
        of an all-reduce of half the size.
        """
        return self.allreduce_us(floats(num_bytes) / 2, tp)

    def elementwise_us(self, num_bytes: FloatArray) -> FloatArray:
        """Return the times of moving ``num_bytes`` through an elementwise kernel."""
        rate = self.gpu.hbm_gb_per_s * BYTES_PER_US * ELEMENTWISE_EFFICIENCY
        return np.maximum(ELEMENTWISE_LEAST_US, floats(num_bytes) / rate)

    def _fit(self, key: Hashable, make: Callable[[], Fit]) -> Fit:
        if key not in self._fits:
            self._fits[key] = make()
        return self._fits[key]
