"""Which tables serve a number format, and which peak it meets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blis_sim.transformer.dtypes import dtype_bits

if TYPE_CHECKING:
    from blis_sim.catalog.gpus import GpuSpec

FLOPS_PER_US = 1e6
"""FLOP/us in one TFLOP/s."""
BYTES_PER_US = 1e3
"""Bytes/us in one GB/s."""

_ALIASES = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "float32": "fp32",
    "float": "fp32",
    "fp8_e4m3": "fp8",
    "fp8_e5m2": "fp8",
    "int4_wo": "int4",
    "w4a16_mxfp4": "mxfp4",
}
_HALF = ("bf16", "fp16")


def normalised_dtype(name: str) -> str:
    """Return a number format under the name this package uses (``bfloat16`` -> ``bf16``)."""
    return _ALIASES.get(name.lower(), name.lower())


def table_dtypes(dtype: str, gpu: GpuSpec) -> tuple[str, ...]:
    """Return the table formats that can serve weights of ``dtype``, the best first.

    fp16 and bf16 serve each other. Formats without tables of their own fall back on the
    16-bit tables: their efficiency over the format's own bound, which knows the true bytes of
    the weights and the peak they are multiplied at.

    Parameters
    ----------
    dtype : str
        Weight format.
    gpu : GpuSpec
        Where the kernel runs: without fp8 units fp8 weights are widened first, as 16-bit
        weights of half the bytes.
    """
    dtype = normalised_dtype(dtype)
    has_fp8 = gpu.fp8_tflops_dense is not None
    chains = {
        "bf16": _HALF,
        "fp16": ("fp16", "bf16"),
        "fp32": ("fp32", *_HALF),
        "fp8": ("fp8", "fp8_block", *_HALF) if has_fp8 else _HALF,
        "fp8_block": ("fp8_block", "fp8", *_HALF) if has_fp8 else _HALF,
        "int8": ("int8", "fp8", *_HALF) if has_fp8 else ("int8", *_HALF),
        "fp8_weight_only": ("fp8_weight_only", "int8_weight_only", *_HALF),
        "int8_weight_only": ("int8_weight_only", "fp8_weight_only", *_HALF),
        "mxfp4": ("mxfp4", "int4", *_HALF),
        "nvfp4": ("nvfp4", "int4", *_HALF),
        "int4": ("int4", *_HALF),
    }
    return chains.get(dtype, (dtype, *_HALF))


def peak_flops_per_us(gpu: GpuSpec, compute_dtype: str) -> float:
    """Return the dense tensor peak of ``gpu`` for products computed in ``compute_dtype``.

    Notes
    -----
    int8 has the peak of fp8. GPUs without fp8 reach in int8 twice their 16-bit peak (NVIDIA
    T4, A10, A40 and A100 data sheets); fp8 weights are widened there and meet the 16-bit
    peak. fp32 products are taken at the 16-bit peak, which no GPU exceeds.
    """
    tflops = gpu.bf16_tflops_dense
    bits = dtype_bits(normalised_dtype(compute_dtype))
    if bits == 8:
        if gpu.fp8_tflops_dense is not None:
            tflops = gpu.fp8_tflops_dense
        elif compute_dtype == "int8":
            tflops = 2 * tflops
    return tflops * FLOPS_PER_US
