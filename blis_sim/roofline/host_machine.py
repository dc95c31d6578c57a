"""What is known of this machine: processors, caches, memory, and the library behind numpy."""

from __future__ import annotations

import importlib
import os
import platform
import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CPUS = Path("/sys/devices/system/cpu")
_CPU_INFO = Path("/proc/cpuinfo")
_ASSUMED_CACHE_BYTES = 64 * 2**20
_SIZES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_THREAD_VARIABLES = (
    *("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "OMP_NUM_THREADS"),
    "VECLIB_MAXIMUM_THREADS",
)


@dataclass(frozen=True, slots=True)
class LastLevelCache:
    """The last cache before the memory, of all processors this process may use.

    Attributes
    ----------
    bytes : int
        Size; where there are several, their sum.
    is_assumed : bool
        Whether the system does not tell it.
    """

    bytes: int
    is_assumed: bool = False


@dataclass(frozen=True, slots=True)
class Blas:
    """The library that multiplies matrices for numpy.

    Attributes
    ----------
    name : str
        Name and version as numpy or threadpoolctl tell them.
    threads : int
        Threads it uses.
    threads_from : str
        Where that is known from: ``threadpoolctl``, a variable of the environment, or
        ``assumed``: one per processor.
    """

    name: str
    threads: int
    threads_from: str


def machine_name() -> str:
    """Return the model of the processor, or what the platform calls itself."""
    try:
        text = _CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def num_processors() -> int:
    """Return the processors this process may use, >= 1."""
    return len(_usable_cpus())


def _usable_cpus() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def last_level_cache(folder: Path = _CPUS) -> LastLevelCache:
    """Return the last-level cache; 64 MiB are assumed where the system does not tell.

    Parameters
    ----------
    folder : Path
        Where Linux describes processors.
    """
    groups: dict[str, int] = {}
    for cpu in _usable_cpus():
        caches = [_cache(index) for index in (folder / f"cpu{cpu}/cache").glob("index*")]
        known = [cache for cache in caches if cache is not None]
        if known:
            _, size, shared = max(known)
            groups[shared or f"cpu{cpu}"] = size
    total = sum(groups.values())
    return LastLevelCache(total) if total else LastLevelCache(_ASSUMED_CACHE_BYTES, True)


def _cache(index: Path) -> tuple[int, int, str] | None:
    """Return (level, bytes, processors that share it) of a cache for data."""
    try:
        kind, level, size, shared = (
            (index / name).read_text(encoding="ascii").strip()
            for name in ("type", "level", "size", "shared_cpu_list")
        )
    except (OSError, ValueError):
        return None
    match = re.fullmatch(r"(\d+)([KMG]?)", size)
    if kind == "Instruction" or match is None or not level.isdigit():
        return None
    return int(level), int(match[1]) * _SIZES[match[2]], shared


def free_memory_bytes() -> int | None:
    """Return the memory that is free now, None where the system does not tell."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def blas() -> Blas:
    """Return the library behind numpy's products and its threads."""
    import numpy as np

    control = _threadpoolctl()
    if control is not None:
        np.ones((2, 2)) @ np.ones((2, 2))
        for pool in control.threadpool_info():
            if pool.get("user_api") == "blas":
                name = f"{pool.get('internal_api')} {pool.get('version')}"
                return Blas(name, int(pool["num_threads"]), "threadpoolctl")
    config: Any = np.show_config(mode="dicts")
    built = config.get("Build Dependencies", {}).get("blas", {})
    name = f"{built.get('name', 'unknown')} {built.get('version', '')}".strip()
    for variable in _THREAD_VARIABLES:
        text = os.environ.get(variable, "")
        if text.isdigit() and int(text) >= 1:
            return Blas(name, int(text), variable)
    return Blas(name, num_processors(), "assumed")


def limited_blas(threads: int) -> AbstractContextManager[Any]:
    """Return a context in which the library uses this many threads, if threadpoolctl is there."""
    control = _threadpoolctl()
    if control is None:
        return nullcontext()
    import numpy  # noqa: F401 (only a library that is loaded can be limited)

    limits: AbstractContextManager[Any] = control.threadpool_limits(threads, user_api="blas")
    return limits


def _threadpoolctl() -> Any:
    try:
        return importlib.import_module("threadpoolctl")
    except ImportError:
        return None
