"""What the parts of an engine step compute, move and take, classed by what bounds them."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from blis_sim.latency.kernel_bounds import (
    OVERHEAD_FACTOR,
    bounds_us,
    is_communication,
    link_us,
)
from blis_sim.latency.roofline_v2.kernel_time import QuickLine
from blis_sim.transformer.attention import (
    DecodeAttention,
    MlaDecodeAttention,
    MlaPrefillAttention,
    PrefillAttention,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blis_sim.catalog.gpus import GpuSpec
    from blis_sim.latency.roofline_v2.model import RooflineV2Model
    from blis_sim.transformer.forward_pass import ForwardPass
    from blis_sim.transformer.kernels import Kernel


class Bound(StrEnum):
    """What time is spent on."""

    COMPUTE = "compute"
    """Kernels that the peak of their format bounds."""
    BANDWIDTH = "bandwidth"
    """Kernels that the bandwidth of the memory bounds."""
    COMMUNICATION = "communication"
    """Messages between the GPUs of an instance."""
    OVERHEAD = "overhead"
    """Launches, and kernels that take more than twice their bound."""
    HOST = "host"
    """What the host does between kernels and between steps."""


class Cost:
    """What some part of steps is on one GPU: work, its bounds, and time by what bounds it.

    Attributes
    ----------
    flops : int
        Operations; a multiply-add is two.
    bytes : float
        Moved through memory; messages do not count.
    peak_us, stream_us : float
        What FLOPs take at the peak of their formats, and bytes at the full bandwidth.
    times_us : dict of Bound to float
        Time, microseconds.
    """

    __slots__ = ("bytes", "flops", "peak_us", "stream_us", "times_us")

    def __init__(self) -> None:
        self.flops = 0
        self.bytes = 0.0
        self.peak_us = 0.0
        self.stream_us = 0.0
        self.times_us = dict.fromkeys(Bound, 0.0)

    @property
    def time_us(self) -> float:
        """All time, microseconds."""
        return sum(self.times_us.values())

    def add(self, other: Cost, times: int = 1, out_of: int = 1) -> None:
        """Add ``times / out_of`` of another cost.

        FLOPs stay whole: where they are split, they are a multiple of ``out_of``.
        """
        self.flops += other.flops * times // out_of
        share = times / out_of
        self.bytes += other.bytes * share
        self.peak_us += other.peak_us * share
        self.stream_us += other.stream_us * share
        for bound, time_us in other.times_us.items():
            self.times_us[bound] += time_us * share

    def stretch(self, factor: float) -> None:
        """Multiply all times by a factor."""
        for bound in self.times_us:
            self.times_us[bound] *= factor


class StepCosts:
    """Costs of the parts that a step falls into, each of which depends on little.

    Times are those of the latency model roofline-v2: the sum over the parts of a step, with
    `launch_us`, is the time of the step before it is rounded to whole microseconds. For other
    models, which know no kernels, times are the bounds: the least time the GPU allows.

    Parameters
    ----------
    forward : ForwardPass
        The arithmetic of the model on one GPU of the group.
    gpu : GpuSpec
        The GPU.
    model : RooflineV2Model or None
        What times kernels; None = the bounds.
    """

    def __init__(
        self, forward: ForwardPass, gpu: GpuSpec, model: RooflineV2Model | None = None
    ) -> None:
        self.forward = forward
        self.gpu = gpu
        self.model = model
        self._lines: dict[tuple[str, int], QuickLine] = {}

    @property
    def knows_kernels(self) -> bool:
        """Whether times are those of kernels, not their bounds."""
        return self.model is not None

    def tokens(self, num_tokens: int) -> Cost:
        """Return what depends on the tokens of a step alone: GEMMs, experts, all-reduces."""
        return self._sum(self.forward.token_kernels(num_tokens))

    def rows(self, num_requests: int) -> Cost:
        """Return what depends on the requests of a step: LM head, sampling, the host."""
        cost = self._sum(self.forward.sampling_kernels(num_requests))
        if self.model is not None:
            cost.times_us[Bound.HOST] += self.model.host_us(num_requests)
        return cost

    def decodes(self, num_decodes: int, sum_context: int) -> Cost:
        """Return the attention of decodes, one token each."""
        return self._sum(self.forward.decode_attention(num_decodes, sum_context))

    def chunk(self, context_tokens: int, new_tokens: int) -> Cost:
        """Return the attention of a prompt chunk, without its launch."""
        return self._sum(self.forward.prefill_attention(context_tokens, new_tokens))

    def _sum(self, kernels: Iterable[Kernel]) -> Cost:
        cost = Cost()
        for kernel in kernels:
            self._count(kernel, cost)
        return cost

    def _count(self, kernel: Kernel, cost: Cost) -> None:
        count, model = kernel.count, self.model
        if is_communication(kernel):
            us = link_us(self.gpu, kernel) if model is None else self._time_us(model, kernel)
            cost.times_us[Bound.COMMUNICATION] += count * us
            return
        peak_us, stream_us = bounds_us(self.gpu, kernel)
        cost.flops += count * kernel.flops
        cost.bytes += count * kernel.bytes
        cost.peak_us += count * peak_us
        cost.stream_us += count * stream_us
        least_us = max(peak_us, stream_us)
        time_us = least_us if model is None else self._time_us(model, kernel)
        bound = Bound.COMPUTE if peak_us >= stream_us else Bound.BANDWIDTH
        if time_us > OVERHEAD_FACTOR * least_us:
            bound = Bound.OVERHEAD
        cost.times_us[bound] += count * time_us

    def _time_us(self, model: RooflineV2Model, kernel: Kernel) -> float:
        if isinstance(kernel, PrefillAttention | MlaPrefillAttention):
            return model.timer.beyond_floor_us(kernel)
        if isinstance(kernel, DecodeAttention | MlaDecodeAttention):
            key = (kernel.name, kernel.batch)
            line = self._lines.get(key)
            if line is None:
                line = self._lines[key] = QuickLine(model.timer.decode_line(kernel))
            return line.at(kernel.kv_tokens / kernel.batch)
        return model.timer.time_us(kernel)
