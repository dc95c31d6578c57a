"""What an engine runs out of first at some load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blis_sim.latency.kernel_tables.precision import BYTES_PER_US, peak_flops_per_us
from blis_sim.transformer.forward_pass import ForwardPass
from blis_sim.transformer.kernels import AllGather, AllReduce

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blis_sim.engine.resolved import Deployed

_PCIE_GB_PER_S = 64.0
"""PCI Express 5.0 x16, one direction: the link of GPUs without NVLink."""
_FULL = 0.98
"""Share of KV blocks, and of seats, from which on they count as used up."""


def what_runs_out(deployed: Deployed, metrics: Mapping[str, Any], mean_context: float) -> str:
    """Return ``KV memory``, ``seats``, ``compute``, ``bandwidth`` or ``interconnect``.

    KV memory where blocks were used up or requests preempted, seats where ``max_num_seqs`` was
    reached on average; else what the kernels of the mean step wait for most, by the roofline
    (max of FLOPs / peak and bytes / bandwidth of each, messages over the links).

    Parameters
    ----------
    deployed : Deployed
        The engine.
    metrics : mapping
        Summary of a run at that load.
    mean_context : float
        Tokens in the cache of a running request, on average.
    """
    if (metrics.get("num_preemptions") or 0) > 0 or (
        metrics.get("kv_usage_peak_frac") or 0
    ) > _FULL:
        return "KV memory"
    seats = deployed.engine.scheduler.max_num_seqs
    if (metrics.get("mean_running_requests") or 0) > _FULL * seats:
        return f"seats (max_num_seqs {seats})"
    requests = max(1, round(metrics.get("mean_batch_requests") or 1))
    new = round((metrics.get("mean_batch_tokens") or requests) - requests)
    times = _times(deployed, requests, max(0, new), round(mean_context))
    return max(times, key=lambda name: times[name])


def _times(deployed: Deployed, num_decodes: int, new: int, context: int) -> dict[str, float]:
    """Return what the kernels of a step wait for, in microseconds."""
    spec, gpu = deployed.spec, deployed.gpu
    settings = deployed.settings
    forward = ForwardPass(
        spec,
        settings.tensor_parallel_size,
        kv_cache_dtype=settings.kv_cache_dtype,
        has_fp8=gpu.fp8_tflops_dense is not None,
    )
    prefills = [(0, new)] if new else []
    times = {"compute": 0.0, "bandwidth": 0.0, "interconnect": 0.0}
    per_us = gpu.hbm_gb_per_s * BYTES_PER_US
    link = (gpu.nvlink_gb_per_s or _PCIE_GB_PER_S) * BYTES_PER_US
    for kernel in forward.kernels(
        prefills=prefills, num_decodes=num_decodes, sum_decode_context=num_decodes * context
    ):
        if isinstance(kernel, AllReduce | AllGather):
            times["interconnect"] += kernel.count * kernel.bytes / link
            continue
        memory_us = kernel.bytes / per_us
        dtype = getattr(kernel, "compute_dtype", None)
        compute_us = 0.0 if dtype is None else kernel.flops / peak_flops_per_us(gpu, dtype)
        name = "compute" if compute_us > memory_us else "bandwidth"
        times[name] += kernel.count * max(compute_us, memory_us)
    return times
