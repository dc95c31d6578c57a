"""What an engine runs out of first at some load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blis_sim.engine.limits import truncation_of
from blis_sim.latency.kernel_bounds import bounds_us, is_communication, link_us
from blis_sim.latency.roofline_v2.model import RooflineV2Model
from blis_sim.transformer.forward_pass import ForwardPass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blis_sim.engine.resolved import Deployed
    from blis_sim.transformer.kernels import Kernel

_FULL = 0.98
"""Share of KV blocks from which on they count as used up."""
_BUSY = 0.5
"""Share of seats, on average, from which on they count as used up where all were at times."""


_MOSTLY = 0.5
"""Share of the p99 of TTFT from which on it is waiting in the queue."""


def what_runs_out(
    deployed: Deployed,
    metrics: Mapping[str, Any],
    mean_context: float,
    *,
    is_late: bool = False,
) -> str:
    """Return what an engine lacks.

    ``KV memory`` where blocks were used up or requests preempted; ``max_num_seqs 256`` where all
    seats were taken at times, and half of them on average, or those who come late waited for a
    seat most of their time; else what the kernels of the mean step take most of their time for:
    ``compute``, ``bandwidth`` of the memory, or ``interconnect``.
    Times are those of the latency model where it knows kernels, and their bounds (max of FLOPs /
    peak and bytes / bandwidth, messages over the links) elsewhere.

    Parameters
    ----------
    deployed : Deployed
        The engine.
    metrics : mapping
        Summary of a run at that load.
    mean_context : float
        Tokens in the cache of a running request, on average.
    is_late : bool
        Whether a limit is missed in which waiting counts: one on TTFT, E2E or goodput.
    """
    is_full = (metrics.get("kv_usage_peak_frac") or 0) > _FULL
    if is_full or (metrics.get("num_preemptions") or 0) > 0:
        return "KV memory"
    seats = deployed.engine.scheduler.max_num_seqs
    running = (metrics.get("mean_running_requests") or 0) / (metrics.get("mean_instances") or 1)
    wait_ms, first_ms = (metrics.get(f"p99_{what}_ms") or 0 for what in ("queue", "ttft"))
    is_short = running > _BUSY * seats or (is_late and wait_ms > _MOSTLY * first_ms)
    if is_short and (metrics.get("peak_running_requests") or 0) >= seats:
        return f"max_num_seqs {seats}"
    requests = max(1, round(metrics.get("mean_batch_requests") or 1))
    new = round((metrics.get("mean_batch_tokens") or requests) - requests)
    times = _times(deployed, requests, max(0, new), round(mean_context))
    return max(times, key=lambda name: times[name])


def _times(deployed: Deployed, num_decodes: int, new: int, context: int) -> dict[str, float]:
    """Return what a step takes its time for, in microseconds."""
    settings, model = deployed.settings, deployed.latency.model
    forward = ForwardPass(
        deployed.spec,
        settings.tensor_parallel_size,
        kv_cache_dtype=settings.kv_cache_dtype,
        has_fp8=deployed.gpu.fp8_tflops_dense is not None,
        truncation=truncation_of(deployed.spec, settings),
    )
    timer = model.timer if isinstance(model, RooflineV2Model) else None
    times = {"compute": 0.0, "bandwidth": 0.0, "interconnect": 0.0}
    prefills = [(0, new)] if new else []
    for kernel in forward.kernels(
        prefills=prefills, num_decodes=num_decodes, sum_decode_context=num_decodes * context
    ):
        name, bound_us = _bound(deployed, kernel)
        time_us = bound_us if timer is None else timer.time_us(kernel)
        times[name] += kernel.count * time_us
    return times


def _bound(deployed: Deployed, kernel: Kernel) -> tuple[str, float]:
    """Return what bounds a kernel, and that bound in microseconds."""
    gpu = deployed.gpu
    if is_communication(kernel):
        return "interconnect", link_us(gpu, kernel)
    compute_us, memory_us = bounds_us(gpu, kernel)
    return ("compute", compute_us) if compute_us > memory_us else ("bandwidth", memory_us)
