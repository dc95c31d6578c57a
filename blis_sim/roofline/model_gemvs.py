"""The matrix-vector products of a model's decode, timed on this machine with numpy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from blis_sim.catalog.model_spec import ModelSpec
from blis_sim.errors import ConfigError
from blis_sim.roofline.host_kernels import gemv_kernel
from blis_sim.roofline.repeated_timing import THOROUGH, Effort, Timer, Timing, time_call
from blis_sim.roofline.utilisation import Operation
from blis_sim.transformer.forward_pass import ForwardPass
from blis_sim.transformer.kernels import Gemm

_FP32_BYTES = 4


@dataclass(frozen=True, slots=True)
class GemvShape:
    """A matrix of a model, as it is timed.

    Attributes
    ----------
    name : str
        What it computes in the model: ``lm_head``, ``gate_up``, ``down``, ``qkv``, ``o``.
    n, k : int
        Output and input width.
    timed_n : int
        Rows that are timed: fewer than ``n`` where the matrix would take too much memory.
    copies : int
        Matrices used in turn, so that together they are larger than the caches.
    """

    name: str
    n: int
    k: int
    timed_n: int
    copies: int

    @property
    def is_cut(self) -> bool:
        """Whether only a part of the rows is timed."""
        return self.timed_n < self.n


@dataclass(frozen=True, slots=True)
class TimedGemv:
    """A matrix and how long its product takes."""

    shape: GemvShape
    operation: Operation
    timing: Timing


def gemv_shapes(model: ModelSpec, most_bytes: int, cache_bytes: int) -> list[GemvShape]:
    """Return the dense matrices of a model, the LM head last, as they are timed in fp32.

    Parameters
    ----------
    model : ModelSpec
        The model, on one device.
    most_bytes : int
        Memory for the matrices of one product, > 0; larger ones are cut to fewer rows, which
        read the memory in the same way.
    cache_bytes : int
        Last-level cache; copies of a matrix together are four times as large, as far as
        ``most_bytes`` allows.

    Raises
    ------
    ConfigError
        ``most_bytes`` is not above 0.
    """
    if most_bytes <= 0:
        raise ConfigError(f"memory for a matrix must be above 0 bytes; got {most_bytes}")
    return list(_shapes(model, most_bytes, cache_bytes))


def _shapes(model: ModelSpec, most_bytes: int, cache_bytes: int) -> Iterator[GemvShape]:
    forward = ForwardPass(model, 1)
    for kernel in (*forward.token_kernels(1), *forward.sampling_kernels(1)):
        if not isinstance(kernel, Gemm):
            continue
        row_bytes = _FP32_BYTES * kernel.k
        rows = max(1, min(kernel.n, most_bytes // row_bytes))
        wanted = -(-4 * cache_bytes // (rows * row_bytes))
        copies = max(1, min(wanted, most_bytes // (rows * row_bytes)))
        yield GemvShape(kernel.name, kernel.n, kernel.k, rows, copies)


def time_gemvs(
    shapes: list[GemvShape], effort: Effort = THOROUGH, timer: Timer = time_call
) -> Iterator[TimedGemv]:
    """Time each product by itself; its matrices are freed before the next."""
    for shape in shapes:
        kernel = gemv_kernel(shape.name, shape.timed_n, shape.k, shape.copies)
        timing = timer(kernel.call, effort)
        yield TimedGemv(shape, Operation(shape.name, kernel.bytes, timing.call_s), timing)
