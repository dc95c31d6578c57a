"""How long measuring will take, before anything is measured."""

from __future__ import annotations

from collections.abc import Iterable

from blis_sim.catalog.gpus import GpuSpec
from blis_sim.latency.kernel_tables.precision import BYTES_PER_US, peak_flops_per_us

from .memory import num_copies, outlasts_cache
from .points import Point
from .timing import Effort, schedule

# Rough shares of peak and bandwidth, and of a point's time outside its repetitions: allocation,
# random numbers, capture, sweeps; for attention cuDNN's plans above all. They size a run and are
# no results. On an H100 a quick run took 98 ms a point for attention and 11 to 16 for GEMMs.
_PEAK_SHARE, _BANDWIDTH_SHARE, _LEAST_US = 0.6, 0.75, 4.0
_FIXED_S, _FILL_BYTES_PER_S = 0.006, 5e11
_ATTENTION_FIXED_S, _ATTENTION_KERNELS = 0.075, 3


def call_us(point: Point, gpu: GpuSpec) -> float:
    """Return a guess of the latency of ``point``."""
    compute = point.flops / (_PEAK_SHARE * peak_flops_per_us(gpu, point.table.dtype))
    memory = point.moved_bytes / (_BANDWIDTH_SHARE * gpu.hbm_gb_per_s * BYTES_PER_US)
    return max(compute, memory) + _LEAST_US


def point_s(point: Point, gpu: GpuSpec, l2_bytes: int, effort: Effort) -> float:
    """Return a guess of how long it takes to measure ``point``."""
    rotating = point.rotating_bytes
    copies = num_copies(rotating, l2_bytes)
    latency_us = call_us(point, gpu)
    outlasts = outlasts_cache(rotating, copies, l2_bytes)
    plan = schedule(latency_us, copies, outlasts=outlasts, effort=effort)
    calls = plan.calls * (plan.repetitions + 1) + 3 * effort.warm_up_calls
    filled = (copies * rotating + point.shared_bytes) / _FILL_BYTES_PER_S
    if point.table.operation in {"decode", "prefill"}:
        calls *= _ATTENTION_KERNELS
        filled += _ATTENTION_FIXED_S
    return _FIXED_S + filled + calls * latency_us * 1e-6


def total_minutes(points: Iterable[Point], gpu: GpuSpec, l2_bytes: int, effort: Effort) -> float:
    return sum(point_s(point, gpu, l2_bytes, effort) for point in points) / 60
