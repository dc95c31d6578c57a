"""Formats of stored weights with the bytes they truly take, scales and zero points included.

A matrix-vector product reads every weight once and multiplies and adds it once: its intensity
is that of the format. Throughout the toolkit a multiply-add is **two** FLOPs, so Q8_0 (34 bytes
per 32 weights) stands at 2 x 32 / 34 = 1.88 FLOP/byte; counted in multiply-adds (MACs) the same
product is 32 / 34 = 0.94 MAC/byte. Both are given, each under its own name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from blis_sim.errors import ConfigError, unknown_name

FLOPS_PER_MAC = 2
"""A multiply-add counts as a multiplication and an addition."""


@dataclass(frozen=True, slots=True)
class BlockFormat:
    """How a block of weights is stored.

    Attributes
    ----------
    name : str
        As its users write it: ``Q4_K``.
    weights_per_block : int
        Weights that share scales, >= 1.
    bytes_per_block : float
        Bytes of the block with everything that belongs to it, > 0.
    layout : str
        What those bytes are.
    """

    name: str
    weights_per_block: int
    bytes_per_block: float
    layout: str

    @property
    def bytes_per_weight(self) -> float:
        """Bytes one weight takes, its share of the scales included."""
        return self.bytes_per_block / self.weights_per_block

    @property
    def bits_per_weight(self) -> float:
        """Bits one weight takes, its share of the scales included."""
        return 8 * self.bytes_per_weight

    @property
    def gemv_flops_per_byte(self) -> float:
        """Intensity of a matrix-vector product, FLOP/byte; vectors are not counted."""
        return FLOPS_PER_MAC * self.gemv_macs_per_byte

    @property
    def gemv_macs_per_byte(self) -> float:
        """The same in multiply-adds per byte: half the FLOPs."""
        return 1 / self.bytes_per_weight

    def gemm_flops_per_byte(self, m: int, k: int, n: int, activation_bytes: float = 2) -> float:
        """Return the intensity of (m x k) times (k x n), FLOP/byte, each operand moved once.

        Parameters
        ----------
        m, k, n : int
            Shape, >= 1; ``m`` = 1 is a matrix-vector product, here with its vectors.
        activation_bytes : float
            Bytes of an element of input and result, > 0.

        Raises
        ------
        ConfigError
            A size is below 1, or ``activation_bytes`` not above 0.
        """
        if min(m, k, n) < 1 or not activation_bytes > 0:
            raise ConfigError(
                "the shape of a product must have sizes >= 1 and activations of > 0 bytes; got "
                f"{m} x {k} x {n} and {activation_bytes:g} bytes"
            )
        moved_bytes = k * n * self.bytes_per_weight + m * (k + n) * activation_bytes
        return FLOPS_PER_MAC * m * k * n / moved_bytes


def block_formats() -> tuple[BlockFormat, ...]:
    """Return the known formats, the widest first.

    The ``Q`` formats are ggml's (block structures in ``ggml-common.h``): blocks of 32 weights
    with a 16-bit scale (``_0``) or a 16-bit scale and minimum (``_1``), super-blocks of 256
    with quantised scales of their sub-blocks (``_K``). AWQ (arXiv:2306.00978) stores groups of
    128 weights with a 16-bit scale and a 4-bit zero point.
    """
    return (
        BlockFormat("fp32", 1, 4, "4 bytes"),
        BlockFormat("bf16", 1, 2, "2 bytes"),
        BlockFormat("fp16", 1, 2, "2 bytes"),
        BlockFormat("Q8_0", 32, 34, "2 scale + 32 weights"),
        BlockFormat("fp8", 1, 1, "1 byte; scales per tensor or channel are not counted"),
        BlockFormat("Q6_K", 256, 210, "128 low + 64 high bits + 16 scales + 2 scale"),
        BlockFormat("Q5_1", 32, 24, "2 scale + 2 minimum + 4 high bits + 16 low bits"),
        BlockFormat("Q5_K", 256, 176, "4 scale, minimum + 12 scales + 32 high + 128 low bits"),
        BlockFormat("Q5_0", 32, 22, "2 scale + 4 high bits + 16 low bits"),
        BlockFormat("Q4_1", 32, 20, "2 scale + 2 minimum + 16 weights"),
        BlockFormat("Q4_K", 256, 144, "4 scale, minimum + 12 scales + 128 weights"),
        BlockFormat("Q4_0", 32, 18, "2 scale + 16 weights"),
        BlockFormat("int4-awq", 128, 66.5, "64 weights + 2 scale + 0.5 zero point"),
        BlockFormat("Q3_K", 256, 110, "32 high + 64 low bits + 12 scales + 2 scale"),
        BlockFormat("Q2_K", 256, 84, "16 scales, minima + 64 weights + 4 scale, minimum"),
    )


def block_format(name: str) -> BlockFormat:
    """Return the format called ``name``; case and ``-`` or ``_`` do not matter.

    Raises
    ------
    ConfigError
        The name is unknown; the message lists the nearest.
    """
    formats = block_formats()
    wanted = _key(name)
    for known in formats:
        if _key(known.name) == wanted:
            return known
    raise ConfigError(unknown_name("format", name, [known.name for known in formats]))


def _key(name: str) -> str:
    return name.strip().casefold().replace("-", "_")


def format_rows(formats: Iterable[BlockFormat] | None = None) -> list[tuple[str, ...]]:
    """Return a table: a header, then a row per format.

    Parameters
    ----------
    formats : iterable of BlockFormat, optional
        Which; all by default.
    """
    rows: list[tuple[str, ...]] = [
        ("format", "weights/block", "bytes/block", "bits/weight", "FLOP/byte", "MAC/byte")
    ]
    rows += (
        (
            known.name,
            str(known.weights_per_block),
            f"{known.bytes_per_block:g}",
            f"{known.bits_per_weight:.4g}",
            f"{known.gemv_flops_per_byte:.2f}",
            f"{known.gemv_macs_per_byte:.2f}",
        )
        for known in (block_formats() if formats is None else formats)
    )
    return rows
