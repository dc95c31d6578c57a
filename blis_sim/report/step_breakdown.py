"""One engine step of roofline-v2 as the list of what it spends its time on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from blis_sim.latency.base import Batch, PrefillChunk
from blis_sim.latency.kernel_bounds import OVERHEAD_FACTOR, bounds_us
from blis_sim.report.step_evidence import Evidence, evidence_of
from blis_sim.transformer.kernels import (
    AllGather,
    AllReduce,
    BatchedGemm,
    DecodeAttention,
    Elementwise,
    Gemm,
    Kernel,
    MlaDecodeAttention,
    MlaPrefillAttention,
    MoeExperts,
    PrefillAttention,
)

if TYPE_CHECKING:
    from blis_sim.latency.roofline_v2.kernel_time import KernelTimer
    from blis_sim.latency.roofline_v2.model import RooflineV2Model

GROUPS = ("GEMM", "attention", "experts", "elementwise", "communication", "host")


class DecodeSet(NamedTuple):
    """Requests that compute one token each."""

    num_requests: int
    context_tokens: int
    """Tokens in the cache of each before the step, >= 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLine:
    """What one kind of kernel takes in a step.

    Attributes
    ----------
    group : str
        One of `GROUPS`.
    name : str
        What it computes in the model.
    shape : str
        Sizes of one execution on one GPU.
    count : int
        Executions in the step.
    time_us : float
        All of them together, microseconds.
    flops, bytes : float
        Operations and bytes moved through memory of all of them; of communication the bytes
        of the messages.
    compute_us, memory_us : float
        What flops and bytes take at the peak of the format and at the full bandwidth.
    bound_by : str
        ``compute``, ``memory`` or ``link``: which of them decides; ``overhead`` where the time
        is more than twice that bound; ``launch`` and ``host`` for what is no kernel.
    evidence : Evidence
        What the time rests on.
    """

    group: str
    name: str
    shape: str
    count: int
    time_us: float
    flops: float = 0.0
    bytes: float = 0.0
    compute_us: float = 0.0
    memory_us: float = 0.0
    bound_by: str
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Subtotal:
    """The sum of some lines.

    Attributes
    ----------
    time_us, flops, bytes
        As in `StepLine`; bytes without those of messages.
    compute_us, memory_us : float
        As in `StepLine`: over ``time_us`` they are MFU and MBU.
    """

    time_us: float
    flops: float
    bytes: float
    compute_us: float
    memory_us: float

    @classmethod
    def of(cls, lines: Iterable[StepLine]) -> Subtotal:
        """Return the sum of lines."""
        lines = list(lines)
        return cls(
            sum(line.time_us for line in lines),
            sum(line.flops for line in lines),
            sum(line.bytes for line in lines if line.group != "communication"),
            sum(line.compute_us for line in lines),
            sum(line.memory_us for line in lines),
        )


@dataclass(frozen=True, slots=True)
class StepBreakdown:
    """One step.

    Attributes
    ----------
    step_time_us : int
        What the model says the step takes.
    lines : tuple of StepLine
        Ordered by group; in it by time.
    total : Subtotal
        Of all lines; its time is that of the step before it is rounded to whole
        microseconds.
    """

    step_time_us: int
    lines: tuple[StepLine, ...]
    total: Subtotal

    def groups(self) -> dict[str, tuple[StepLine, ...]]:
        """Return the lines of each group that has any."""
        grouped = {
            group: tuple(line for line in self.lines if line.group == group) for group in GROUPS
        }
        return {group: lines for group, lines in grouped.items() if lines}


def break_down(
    model: RooflineV2Model, prefills: Sequence[PrefillChunk], decodes: Sequence[DecodeSet]
) -> StepBreakdown:
    """Return what a step of a model is made of.

    Parameters
    ----------
    model : RooflineV2Model
        The latency model.
    prefills : sequence of PrefillChunk
        Prompt chunks, one per request.
    decodes : sequence of DecodeSet
        Decodes; what counts is how many they are and the sum of their contexts.

    Notes
    -----
    Attention is launched once for the whole batch. A chunk of a prompt counts with what it
    takes beyond its launch, at least with its bound, see `RooflineV2Model`. Launching is a
    line of its own where decode attention does not hide it; so are, in the same line, SMs that
    idle because a launch has too few blocks.
    """
    num_decodes = sum(each.num_requests for each in decodes)
    context = sum(each.num_requests * each.context_tokens for each in decodes)
    num_requests = num_decodes + len(prefills)
    num_tokens = num_decodes + sum(chunk.new_tokens for chunk in prefills)
    forward, timer = model.forward, model.timer
    lines = [
        *_kernel_lines(timer, forward.token_kernels(num_tokens)),
        *_kernel_lines(timer, forward.sampling_kernels(num_requests)),
    ]
    lines += _kernel_lines(timer, forward.decode_attention(num_decodes, context))
    for chunk, times in Counter(prefills).items():
        kernels = forward.prefill_attention(chunk.context_tokens, chunk.new_tokens)
        lines += _kernel_lines(timer, kernels, times)
    batch = Batch(num_decodes, context, tuple(prefills))
    if prefills:
        lines += _launch_line(model, batch)
    if num_requests:
        layers = forward.spec.num_layers
        lines.append(
            StepLine(
                group="host",
                name="host",
                shape=f"{num_requests} requests, {layers} layers",
                count=1,
                time_us=model.host_us(num_requests),
                bound_by="host",
                evidence=Evidence("fitted to measured servers"),
            )
        )
    lines.sort(key=lambda line: (GROUPS.index(line.group), -line.time_us, line.name))
    return StepBreakdown(model.step_time(batch), tuple(lines), Subtotal.of(lines))


def _kernel_lines(
    timer: KernelTimer, kernels: Iterable[Kernel], times: int = 1
) -> Iterator[StepLine]:
    for kernel in kernels:
        time_us, count = timer.time_us(kernel), times * kernel.count
        compute_us, memory_us = bounds_us(timer.gpu, kernel)
        if isinstance(kernel, PrefillAttention | MlaPrefillAttention):
            time_us = timer.beyond_floor_us(kernel)
        evidence = evidence_of(timer.tables, kernel)
        yield StepLine(
            group=_group(kernel),
            name=kernel.name,
            shape=_shape(kernel),
            count=count,
            time_us=count * time_us,
            flops=count * kernel.flops,
            bytes=count * kernel.bytes,
            compute_us=count * compute_us,
            memory_us=count * memory_us,
            bound_by=_bound_by(time_us, compute_us, memory_us, evidence),
            evidence=evidence,
        )


def _launch_line(model: RooflineV2Model, batch: Batch) -> Iterator[StepLine]:
    """Yield what attention takes beyond the kernels shown."""
    time_us = model.launch_us(batch)
    if time_us > 0:
        attention = [
            kernel
            for kernel in model.forward.prefill_attention(0, 1)
            if isinstance(kernel, PrefillAttention | MlaPrefillAttention)
        ]
        yield StepLine(
            group="attention",
            name="attention launch",
            shape="once a layer",
            count=sum(kernel.count for kernel in attention),
            time_us=time_us,
            bound_by="launch",
            evidence=Evidence("smallest measured prompt"),
        )


def _bound_by(time_us: float, compute_us: float, memory_us: float, evidence: Evidence) -> str:
    if evidence.link_us is not None:
        return "overhead" if time_us > OVERHEAD_FACTOR * evidence.link_us else "link"
    if time_us > OVERHEAD_FACTOR * max(compute_us, memory_us):
        return "overhead"
    return "compute" if compute_us >= memory_us else "memory"


def _group(kernel: Kernel) -> str:
    match kernel:
        case Gemm() | BatchedGemm():
            return "GEMM"
        case MoeExperts():
            return "experts"
        case Elementwise():
            return "elementwise"
        case AllReduce() | AllGather():
            return "communication"
    return "attention"


def _shape(kernel: Kernel) -> str:
    match kernel:
        case Gemm(m=m, k=k, n=n):
            return f"{m} x {k} x {n}"
        case BatchedGemm(batch=batch, m=m, k=k, n=n):
            return f"{batch} x ({m} x {k} x {n})"
        case MoeExperts(num_tokens=tokens, top_k=top_k, num_experts=experts):
            return f"{tokens} tokens, {top_k} of {experts}"
        case PrefillAttention() | MlaPrefillAttention():
            return f"{kernel.new_tokens} new @ {kernel.context_tokens}"
        case DecodeAttention() | MlaDecodeAttention():
            return f"{kernel.batch} x {kernel.kv_tokens / kernel.batch:.0f}"
        case AllReduce(tp=tp) | AllGather(tp=tp):
            return f"{tp} GPUs"
    return ""
