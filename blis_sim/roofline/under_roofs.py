"""Work put under the roofs of a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from blis_sim.latency.kernel_tables.precision import FLOPS_PER_US, peak_flops_per_us
from blis_sim.roofline.analysis import KernelAnalysis, PhaseAnalysis
from blis_sim.roofline.totals import KernelTotal, Shape, kernel_totals

if TYPE_CHECKING:
    from blis_sim.catalog.gpus import GpuSpec
    from blis_sim.roofline.work import Work


class Sums(NamedTuple):
    """What several pieces of work add up to."""

    flops: float
    bytes: float
    message_bytes: float
    peak_tflops: float
    link_s: float | None


def analyse_phase(shape: Shape, gpu: GpuSpec, measured_s: float | None = None) -> PhaseAnalysis:
    """Return a phase under the roofs of a GPU."""
    kernels = tuple(_kernel(total, gpu, shape.tp) for total in kernel_totals(shape))
    sums = summed(kernels, gpu.bf16_tflops_dense)
    return PhaseAnalysis(
        **sums._asdict(),
        bandwidth_gb_per_s=gpu.hbm_gb_per_s,
        measured_s=measured_s,
        phase=shape.phase,
        batch=shape.batch,
        seq_len=shape.seq_len,
        num_steps=shape.num_steps,
        kernels=kernels,
    )


def summed(parts: Sequence[Work], peak_tflops: float) -> Sums:
    """Return the sums of some work; ``peak_tflops`` counts when none of it computes."""
    flops = sum(part.flops for part in parts)
    compute_s = sum(part.compute_s for part in parts)
    links = [part.link_s for part in parts]
    return Sums(
        flops,
        sum(part.bytes for part in parts),
        sum(part.message_bytes for part in parts),
        flops / compute_s / 1e12 if compute_s else peak_tflops,
        None if None in links else sum(link for link in links if link is not None),
    )


def _kernel(total: KernelTotal, gpu: GpuSpec, tp: int) -> KernelAnalysis:
    peak = gpu.bf16_tflops_dense
    if total.dtype is not None:
        peak = peak_flops_per_us(gpu, total.dtype) / FLOPS_PER_US
    return KernelAnalysis(
        name=total.name,
        count=total.count,
        dtype=total.dtype,
        flops=total.flops,
        bytes=total.bytes,
        message_bytes=total.message_bytes,
        peak_tflops=peak,
        bandwidth_gb_per_s=gpu.hbm_gb_per_s,
        link_s=_link_s(total, gpu.direct_gb_per_s(tp)),
    )


def _link_s(total: KernelTotal, link_gb_per_s: float | None) -> float | None:
    """Return the least time of messages: a link's figure counts both directions together."""
    if not total.sent_bytes:
        return 0.0
    if link_gb_per_s is None:
        return None
    return total.sent_bytes / (link_gb_per_s / 2 * 1e9)
