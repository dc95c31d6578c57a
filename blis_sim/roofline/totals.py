"""What the kernels of a phase add up to, whatever GPU they run on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from blis_sim.transformer.forward_pass import ForwardPass
from blis_sim.transformer.kernels import AllGather, AllReduce, Kernel

if TYPE_CHECKING:
    from blis_sim.catalog.model_spec import ModelSpec


class Phase(StrEnum):
    """The two phases of inference."""

    PREFILL = "prefill"
    """All tokens of the prompt at once, with nothing in the cache."""
    DECODE = "decode"
    """One token of each request, with the context in the cache."""


@dataclass(frozen=True, slots=True)
class KernelTotal:
    """All executions of one kind of kernel in a phase.

    Attributes
    ----------
    name : str
        What it computes in the model.
    dtype : str or None
        Format it is computed in; None = it only moves data.
    count : int
        Executions.
    flops, bytes : float
        Of all of them together; bytes of the memory.
    message_bytes : float
        Bytes of the messages.
    sent_bytes : float
        Bytes each GPU sends: of an all-reduce of M over n GPUs ``2 M (n - 1) / n``, of an
        all-gather ``M (n - 1) / n``, the least there is (Patarasuk and Yuan, JPDC 69, 2009).
    """

    name: str
    dtype: str | None
    count: int
    flops: float
    bytes: float
    message_bytes: float = 0.0
    sent_bytes: float = 0.0


@dataclass(frozen=True, slots=True)
class Shape:
    """A model as it is deployed, and the work of one phase.

    Attributes
    ----------
    spec : ModelSpec
    tp : int
    kv_cache_dtype : str
    has_fp8 : bool
        As in `ForwardPass`.
    phase : Phase
    batch : int
        Requests, >= 1.
    seq_len : int
        Prefill: tokens of each prompt, >= 1. Decode: context of each request before the first
        of the steps, >= 0.
    num_steps : int
        Steps of the decode, one token each; 1 in prefill.
    """

    spec: ModelSpec
    tp: int
    kv_cache_dtype: str
    has_fp8: bool
    phase: Phase
    batch: int
    seq_len: int
    num_steps: int = 1


@lru_cache(maxsize=4096)
def kernel_totals(shape: Shape) -> tuple[KernelTotal, ...]:
    """Return the kernels of a phase, in the order of execution, each kind once.

    Their sums are those of ``ForwardPass.kernels``: FLOPs, and bytes with those of messages.
    """
    forward = ForwardPass(
        shape.spec, shape.tp, kv_cache_dtype=shape.kv_cache_dtype, has_fp8=shape.has_fp8
    )
    if shape.phase is Phase.PREFILL:
        prefills = [(0, shape.seq_len)] * shape.batch
        return _totals(_weighted(forward.kernels(prefills=prefills)))
    batch, steps = shape.batch, shape.num_steps
    parts = [(kernel, steps) for kernel in forward.token_kernels(batch)]
    for step in range(steps):
        context = batch * (shape.seq_len + step)
        parts += _weighted(forward.decode_attention(batch, context))
    parts += [(kernel, steps) for kernel in forward.sampling_kernels(batch)]
    return _totals(parts)


def _weighted(kernels: Iterable[Kernel]) -> list[tuple[Kernel, int]]:
    return [(kernel, 1) for kernel in kernels]


def _totals(parts: Iterable[tuple[Kernel, int]]) -> tuple[KernelTotal, ...]:
    counts: dict[str, int] = {}
    dtypes: dict[str, str | None] = {}
    sums: dict[str, list[float]] = {}
    for kernel, times in parts:
        executions = times * kernel.count
        is_message = isinstance(kernel, AllReduce | AllGather)
        moved = executions * kernel.bytes
        counts[kernel.name] = counts.get(kernel.name, 0) + executions
        dtypes[kernel.name] = getattr(kernel, "compute_dtype", None)
        added = (
            executions * kernel.flops,
            0.0 if is_message else moved,
            moved if is_message else 0.0,
            _sent(kernel) * executions,
        )
        before = sums.get(kernel.name, [0] * len(added))
        sums[kernel.name] = [a + b for a, b in zip(before, added, strict=True)]
    return tuple(KernelTotal(name, dtypes[name], counts[name], *sums[name]) for name in sums)


def _sent(kernel: Kernel) -> float:
    match kernel:
        case AllReduce(bytes=size, tp=tp):
            return 2 * size * (tp - 1) / tp
        case AllGather(bytes=size, tp=tp):
            return size * (tp - 1) / tp
    return 0.0
