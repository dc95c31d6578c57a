"""Measure this machine: bandwidth of its memory, and peaks of its products."""

from __future__ import annotations

import math
import platform
from dataclasses import dataclass
from datetime import UTC, datetime

from blis_sim.errors import ConfigError
from blis_sim.roofline.host_kernels import bandwidth_kernels, gemm_kernel, gemv_kernel
from blis_sim.roofline.host_machine import (
    Blas,
    LastLevelCache,
    blas,
    free_memory_bytes,
    last_level_cache,
    limited_blas,
    machine_name,
    num_processors,
)
from blis_sim.roofline.machine_profile import READ, MachineProfile, MeasuredRate
from blis_sim.roofline.repeated_timing import QUICK, THOROUGH, Effort, GroupTimer, time_calls

_LEAST_ARRAY_BYTES = 64 * 2**20
_MEMORY_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class HostPlan:
    """What is measured, and for how long.

    Attributes
    ----------
    effort : Effort
        How long each kernel is timed.
    cache_factor : int
        Size of an array in last-level caches, >= 2.
    gemm_n : int
        Rows and columns of the matrices of the products, >= 1.
    dtypes : tuple of str
        Types of the products: ``fp32``, ``fp64``.
    is_quick : bool
        Whether figures are rough.
    array_bytes : int or None
        Bytes of an array in place of ``cache_factor``, >= 24 per thread.
    """

    effort: Effort = THOROUGH
    cache_factor: int = 4
    gemm_n: int = 2048
    dtypes: tuple[str, ...] = ("fp32", "fp64")
    is_quick: bool = False
    array_bytes: int | None = None


QUICK_PLAN = HostPlan(QUICK, cache_factor=2, gemm_n=1024, dtypes=("fp32",), is_quick=True)


@dataclass(frozen=True, slots=True)
class ArraySize:
    """Bytes of an array, and whether memory allowed less than was wanted."""

    bytes: int
    is_short: bool


def array_size(cache_bytes: int, factor: int, free_bytes: int | None) -> ArraySize:
    """Return the bytes of each of three arrays.

    ``factor`` last-level caches and at least 64 MiB, but all three together no more than a
    quarter of the free memory.
    """
    wanted = max(_LEAST_ARRAY_BYTES, factor * cache_bytes)
    if free_bytes is None:
        return ArraySize(wanted, False)
    most = int(free_bytes * _MEMORY_SHARE / 3) // 8 * 8
    return ArraySize(max(min(wanted, most), 2**20), most < wanted)


def measure_host(
    plan: HostPlan | None = None, threads: int | None = None, timer: GroupTimer = time_calls
) -> MachineProfile:
    """Measure this machine; with the default plan about half a minute.

    Parameters
    ----------
    plan : HostPlan, optional
        What and how long.
    threads : int, optional
        Threads that share the work, >= 1; one per processor by default. The threads of the
        library that multiplies follow where threadpoolctl is installed.
    timer : callable
        How kernels are timed: all of them in turn.

    Raises
    ------
    ConfigError
        ``threads`` is below 1.
    """
    plan = HostPlan() if plan is None else plan
    workers = num_processors() if threads is None else threads
    if workers < 1:
        raise ConfigError(f"threads must be at least 1; got {workers}")
    cache = last_level_cache()
    size = (
        array_size(cache.bytes, plan.cache_factor, free_memory_bytes())
        if plan.array_bytes is None
        else ArraySize(plan.array_bytes, False)
    )
    side = math.isqrt(size.bytes // 4)
    with limited_blas(workers):
        library = blas()

        with bandwidth_kernels(size.bytes, workers) as kernels:
            products = [gemm_kernel(plan.gemm_n, dtype) for dtype in plan.dtypes]
            products.append(gemv_kernel("gemv fp32", side, side))
            timed = [*kernels, *products]
            timings = timer([kernel.call for kernel in timed], plan.effort)
    rates = [
        MeasuredRate.of(kernel, timing, library.threads if kernel.is_blas else workers)
        for kernel, timing in zip(timed, timings, strict=True)
    ]
    # A matrix-vector product reads too: nothing that is timed here may be above the peak.
    rates.insert(0, rates[-1].model_copy(update={"name": READ, "tflops": None}))
    return MachineProfile(
        machine=machine_name(),
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        software=_software(library),
        threads=workers,
        blas_threads=library.threads,
        blas_threads_from=library.threads_from,
        cache_bytes=cache.bytes,
        array_bytes=size.bytes,
        is_quick=plan.is_quick,
        rates=tuple(_fastest(rates)),
        notes=tuple(_notes(plan, cache, size, library, workers)),
    )


def _fastest(rates: list[MeasuredRate]) -> list[MeasuredRate]:
    """Return the fastest rate of each name."""
    best: dict[str, MeasuredRate] = {}
    for rate in rates:
        known = best.get(rate.name)
        if known is None or (rate.gb_per_s or 0) > (known.gb_per_s or 0):
            best[rate.name] = rate
    return list(best.values())


def _software(library: Blas) -> str:
    import numpy as np

    return f"Python {platform.python_version()}, numpy {np.__version__}, {library.name}"


def _notes(
    plan: HostPlan, cache: LastLevelCache, size: ArraySize, library: Blas, threads: int
) -> list[str]:
    notes = []
    if plan.is_quick:
        notes.append("quick: short runs and small arrays, the figures are rough")
    if cache.is_assumed:
        notes.append(
            "the size of the last-level cache is not known: "
            f"{cache.bytes // 2**20} MiB are assumed"
        )
    if size.is_short:
        notes.append(
            f"memory allows arrays of {size.bytes / 2**20:.0f} MiB only, "
            f"{size.bytes / cache.bytes:.1f} last-level caches: bandwidths may be those of a cache"
        )
    if library.threads_from != "threadpoolctl" and library.threads != threads:
        notes.append(
            f"products use {library.threads} threads, not {threads}: pip install threadpoolctl, "
            "or set OPENBLAS_NUM_THREADS (or that of your library) before the start"
        )
    elif library.threads_from == "assumed":
        notes.append(
            f"products are assumed to use {library.threads} threads, one per processor: pip "
            "install threadpoolctl to know and to set it"
        )
    return notes
