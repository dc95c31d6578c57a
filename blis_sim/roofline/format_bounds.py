"""What a model's decode reads in each weight format, and the rate the memory allows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from blis_sim.catalog.model_spec import ModelSpec
from blis_sim.errors import ConfigError
from blis_sim.roofline.block_formats import BlockFormat, block_formats
from blis_sim.transformer.forward_pass import ForwardPass
from blis_sim.transformer.kernels import Gemm, MoeExperts


@dataclass(frozen=True, slots=True)
class FormatBound:
    """A model whose matrices are all stored in one format.

    Attributes
    ----------
    block_format : BlockFormat
        The format.
    weight_bytes : float
        Bytes of the weights that one token reads, > 0.
    tokens_per_s : float or None
        The most tokens per second of one request, bandwidth / bytes; None = no bandwidth was
        given. The KV cache and all else that moves is not counted.
    """

    block_format: BlockFormat
    weight_bytes: float
    tokens_per_s: float | None


def weights_read(model: ModelSpec) -> float:
    """Return the weights that a decode step of one request reads: its layers and the LM head.

    With experts, those that one token passes through.
    """
    forward = ForwardPass(model, 1)
    total = 0.0
    for kernel in (*forward.token_kernels(1), *forward.sampling_kernels(1)):
        if isinstance(kernel, Gemm):
            total += kernel.count * kernel.num_weights
        elif isinstance(kernel, MoeExperts):
            total += kernel.count * kernel.experts_touched * kernel.weights_per_expert
    return total


def format_bounds(
    model: ModelSpec,
    gb_per_s: float | None = None,
    formats: Iterable[BlockFormat] | None = None,
) -> list[FormatBound]:
    """Return what one token reads in each format, all matrices being stored in it.

    Parameters
    ----------
    model : ModelSpec
        The model; its own quantisation does not count. Files of quantised models keep some
        matrices in wider formats, so that theirs are a little larger.
    gb_per_s : float, optional
        Read bandwidth, 1e9 bytes per second, > 0.
    formats : iterable of BlockFormat, optional
        Which; all by default.

    Raises
    ------
    ConfigError
        The bandwidth is not above 0.
    """
    if gb_per_s is not None and not gb_per_s > 0:
        raise ConfigError(f"bandwidth must be above 0 GB/s; got {gb_per_s:g}")
    weights = weights_read(model)
    bounds = []
    for known in block_formats() if formats is None else formats:
        weight_bytes = weights * known.bytes_per_weight
        rate = None if gb_per_s is None else 1e9 * gb_per_s / weight_bytes
        bounds.append(FormatBound(known, weight_bytes, rate))
    return bounds
