"""What bounds a kernel: the peak, the bandwidth of the memory, the links, or neither."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

from blis_sim.latency.kernel_tables.precision import BYTES_PER_US, peak_flops_per_us
from blis_sim.transformer.kernels import AllGather, AllReduce

if TYPE_CHECKING:
    from blis_sim.catalog.gpus import GpuSpec
    from blis_sim.transformer.kernels import Kernel

OVERHEAD_FACTOR = 2.0
"""A kernel slower than this many times its bound is bound by neither peak nor bandwidth."""
_PCIE_GB_PER_S = 64.0
"""PCI Express 5.0 x16, one direction: the link of GPUs without NVLink."""


def is_communication(kernel: Kernel) -> TypeGuard[AllReduce | AllGather]:
    """Return whether a kernel moves messages between GPUs."""
    return isinstance(kernel, AllReduce | AllGather)


def bounds_us(gpu: GpuSpec, kernel: Kernel) -> tuple[float, float]:
    """Return what FLOPs and bytes of one execution take at the GPU's best, microseconds.

    FLOPs at the dense tensor peak of the format they are computed in, bytes at the bandwidth of
    the memory (Williams et al., CACM 52(4), 2009). Both are 0 of communication.
    """
    if is_communication(kernel):
        return 0.0, 0.0
    memory_us = kernel.bytes / (gpu.hbm_gb_per_s * BYTES_PER_US)
    dtype = getattr(kernel, "compute_dtype", None)
    compute_us = 0.0 if dtype is None else kernel.flops / peak_flops_per_us(gpu, dtype)
    return compute_us, memory_us


def link_us(gpu: GpuSpec, kernel: AllReduce | AllGather) -> float:
    """Return what the message of a communication takes over one link, microseconds."""
    link_gb_per_s = gpu.direct_gb_per_s(kernel.tp) or _PCIE_GB_PER_S
    return kernel.bytes / (link_gb_per_s * BYTES_PER_US)
