"""The number formats kernels compute in and weights are stored in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from blis_sim.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from blis_sim.catalog.model_spec import ModelSpec

_FLOAT_BITS = {
    "fp32": 32,
    "bf16": 16,
    "fp16": 16,
    "fp8": 8,
    "fp8_block": 8,
    "fp8_weight_only": 8,
    "int8_weight_only": 8,
    "mxfp4": 4,
    "nvfp4": 4,
}
_COMPUTES_IN = {"fp8": "fp8", "fp8_block": "fp8", "int8": "int8"}
_ACTIVATIONS = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


def dtype_bits(dtype: str) -> int:
    """Return the bits of one element, scales not counted.

    Parameters
    ----------
    dtype
        ``fp32``, ``bf16``, ``fp16``, ``fp8`` (one scale per channel or tensor),
        ``fp8_block`` (one per block of weights), ``int2`` ... ``int8``, ``mxfp4``, ``nvfp4``;
        ``fp8_weight_only`` and ``int8_weight_only`` are weights that are widened to the type
        of the activations before they are multiplied.

    Raises
    ------
    ConfigError
        When the name is unknown.
    """
    bits = _FLOAT_BITS.get(dtype)
    if bits is not None:
        return bits
    match = re.fullmatch(r"int([2-8])", dtype)
    if match is None:
        known = [*_FLOAT_BITS, *(f"int{bits}" for bits in range(2, 9))]
        raise ConfigError(unknown_name("dtype", dtype, known))
    return int(match.group(1))


def dtype_bytes(dtype: str) -> int:
    """Return the bytes of one element of a type activations or the KV cache have.

    Raises
    ------
    ConfigError
        When the name is unknown, or the type is narrower than a byte.
    """
    bits = dtype_bits(dtype)
    if bits % 8:
        raise ConfigError(f"dtype of activations must have whole bytes; got {dtype!r}")
    return bits // 8


def compute_dtype(weight_dtype: str, activation_dtype: str) -> str:
    """Return the type a matrix product is computed in: it decides which peak applies.

    ``fp8`` and ``int8`` weights meet activations quantised to the same type (W8A8); all other
    weights are widened to the type of the activations.
    """
    return _COMPUTES_IN.get(weight_dtype, activation_dtype)


def activation_dtype(spec: ModelSpec) -> str:
    """Return the type of a model's activations: ``bf16``, ``fp16`` or ``fp32``."""
    return _ACTIVATIONS[spec.dtype]


def cache_dtype(spec: ModelSpec, kv_cache_dtype: str) -> str:
    """Return the type of a model's KV cache.

    Parameters
    ----------
    spec
        The model.
    kv_cache_dtype
        ``auto`` = as the activations, or ``fp8``.

    Raises
    ------
    ConfigError
        When the name is another.
    """
    if kv_cache_dtype == "auto":
        return activation_dtype(spec)
    if kv_cache_dtype != "fp8":
        raise ConfigError(unknown_name("kv_cache_dtype", kv_cache_dtype, ["auto", "fp8"]))
    return kv_cache_dtype


def weight_dtype(spec: ModelSpec, part: str, *, has_fp8: bool = True) -> str:
    """Return the type the weights of one part of a model are stored in.

    Parameters
    ----------
    spec
        The model.
    part
        One of ``quantization.LINEAR_PARTS``, or anything else (router, LM head, ...), which
        stays in the model's type.
    has_fp8
        Whether the GPU multiplies in fp8. Without it vLLM widens fp8 weights (its Marlin
        kernels), which is ``fp8_weight_only``.

    Notes
    -----
    ``ModelSpec`` tells the bits and the method. Where those leave it open whether eight bits
    are fp8 or int8, and whether activations are quantised too, the words of the model's name
    decide (``w8a16`` is weight-only, ``w8a8`` and ``int8`` are integers unless it also says
    ``fp8``), else fp8.
    """
    if spec.quantization is None or part not in spec.quantized_parts or spec.weight_bits > 8:
        return activation_dtype(spec)
    words = {spec.quantization, *re.split(r"[-_./\s]+", spec.name.casefold())}
    if spec.weight_bits < 8:
        return _narrow(spec, words)
    if words & {"gptq", "awq", "bitsandbytes", "w8a16"}:
        return "int8_weight_only"
    if words & {"int8", "w8a8"} and "fp8" not in words:
        return "int8"
    if not has_fp8:
        return "fp8_weight_only"
    return "fp8_block" if spec.scale_bits else "fp8"


def _narrow(spec: ModelSpec, words: set[str]) -> str:
    if spec.weight_bits == 4 and words & {"nvfp4", "modelopt"}:
        return "nvfp4"
    return "mxfp4" if "mxfp4" in words else f"int{spec.weight_bits}"
