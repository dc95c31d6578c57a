"""Work of the measured kernels: FLOPs for the MFU, and the least time the hardware allows.

Every function takes the shape and the axes of a ``Grid`` (rows down, columns across) and
returns FLOPs and bytes of one call on one rank.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from blis_sim.catalog.gpus import GpuSpec

from .grid import Floats, Grid

Work = tuple[Floats, Floats]
WorkOf = Callable[[tuple[int, ...], Floats, Floats], Work]

MLA_LATENT, MLA_ROPE, MLA_NOPE, MLA_VALUE = 512, 64, 128, 128
"""Widths of DeepSeek-V2 and V3 (arXiv:2405.04434, section 2.1); the tables are of these."""


def dtype_bytes(dtype: str) -> float:
    """Return the bytes of a weight or cached element of ``dtype``."""
    return {"bf16": 2.0, "fp8": 1.0, "fp8_block": 1.0, "int4": 0.5, "mxfp4": 0.53}[dtype]


def peak_flops_per_s(gpu: GpuSpec, dtype: str) -> float:
    """Return the dense peak; four-bit weights are multiplied in bf16."""
    if dtype.startswith("fp8"):
        assert gpu.fp8_tflops_dense is not None
        return gpu.fp8_tflops_dense * 1e12
    return gpu.bf16_tflops_dense * 1e12


def gemm_work(dtype: str) -> WorkOf:
    """Shape (n, k); columns m. Activations are read at the weights' width at best."""
    width = dtype_bytes(dtype)
    read = width if dtype.startswith("fp8") else 2.0

    def work(shape: tuple[int, ...], rows: Floats, columns: Floats) -> Work:
        n, k = shape
        m = columns + 0 * rows
        return 2 * m * n * k, n * k * width + m * k * read + m * n * 2

    return work


def prefill_work(kv_bytes: float) -> WorkOf:
    """Shape (H, K, h); rows batch, columns seq_len; causal, so half of the square."""

    def work(shape: tuple[int, ...], rows: Floats, columns: Floats) -> Work:
        heads, kv_heads, h = shape
        tokens = rows * columns
        moved = tokens * h * (2 * heads * 2 + 2 * kv_heads * kv_bytes)
        return 2 * heads * h * columns * tokens, moved

    return work


def decode_work(kv_bytes: float) -> WorkOf:
    """Shape (H, K, h); rows batch, columns kv_len."""

    def work(shape: tuple[int, ...], rows: Floats, columns: Floats) -> Work:
        heads, kv_heads, h = shape
        moved = rows * columns * 2 * kv_heads * h * kv_bytes + rows * 2 * heads * h * 2
        return 4 * heads * h * columns * rows, moved

    return work


def mla_prefill_work(kv_bytes: float) -> WorkOf:
    """Shape (H,); keys and values expanded: H heads of nope + rope and of value width."""
    del kv_bytes

    def work(shape: tuple[int, ...], rows: Floats, columns: Floats) -> Work:
        heads, qk = shape[0], MLA_NOPE + MLA_ROPE
        tokens = rows * columns
        moved = tokens * heads * (2 * qk + 2 * MLA_VALUE) * 2
        return heads * (qk + MLA_VALUE) * columns * tokens, moved

    return work


def mla_decode_work(kv_bytes: float) -> WorkOf:
    """Shape (H,); absorbed: every head meets the latent vector and the rotary key."""

    def work(shape: tuple[int, ...], rows: Floats, columns: Floats) -> Work:
        heads, latent = shape[0], MLA_LATENT + MLA_ROPE
        flops = 2 * heads * (latent + MLA_LATENT) * columns * rows
        moved = rows * columns * latent * kv_bytes + rows * heads * (latent + MLA_LATENT) * 2
        return flops, moved

    return work


def moe_work(dtype: str) -> WorkOf:
    """Shape (E, top k, d, F); columns tokens. At least min(E, top k) experts are read."""
    width = dtype_bytes(dtype)

    def work(shape: tuple[int, ...], rows: Floats, columns: Floats) -> Work:
        experts, top_k, d, expert_width = shape
        tokens = columns + 0 * rows
        weights = min(experts, top_k) * 3 * d * expert_width * width
        return 6 * tokens * top_k * d * expert_width, weights + 0 * tokens

    return work


def bound_and_flops(
    grid: Grid, work_of: WorkOf, peak: float, bytes_per_s: float
) -> tuple[Floats, Floats]:
    """Return the roofline bound in us and the FLOPs of every point of ``grid``."""
    rows, columns = grid.rows[:, None], grid.columns[None, :]
    bounds, flops = [], []
    for shape in grid.shapes:
        operations, moved = work_of(shape, rows, columns)
        bounds.append(np.maximum(operations / peak, moved / bytes_per_s) * 1e6)
        flops.append(operations)
    return np.array(bounds), np.array(flops)
