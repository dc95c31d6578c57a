"""Points of a roofline from metrics of NVIDIA Nsight Compute.

FLOPs are those the method of Yang et al. counts (arXiv:2009.05257, "Hierarchical Roofline
Performance Analysis for Deep Learning Applications"): additions and multiplications of threads
once, multiply-adds twice, for 32, 16 and 64 bits, and instructions of the tensor pipe times the
FLOPs of one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from blis_sim.errors import ConfigError
from blis_sim.roofline.ceilings import DRAM
from blis_sim.roofline.ncu_csv import Launch, read_launches
from blis_sim.roofline.points import MeasuredPoint

FLOPS_PER_TENSOR_INST = 512
"""FLOPs of one warp-level tensor instruction on Volta: 2 x 8 x 8 x 4 (HMMA.884). In general
2 x M x N x K of the instruction: 4096 for the 16-bit m16n8k16 of Ampere and Ada, twice that in
8 bits; on Hopper it depends on the N of the warp-group instruction."""

DURATION = "gpu__time_duration.sum"
TENSOR = "sm__inst_executed_pipe_tensor.sum"
_BYTES: dict[str, tuple[str, ...]] = {
    DRAM: ("dram__bytes.sum",),
    "L2": ("lts__t_bytes.sum",),
    "L1": ("l1tex__t_bytes.sum",),
}
_DRAM_PARTS = ("dram__bytes_read.sum", "dram__bytes_write.sum")
_PIPES = ("hmma", "imma", "dmma", "gmma", "hgmma")
_TENSOR_PARTS = tuple(f"sm__inst_executed_pipe_tensor_op_{pipe}.sum" for pipe in _PIPES)
_ALIASES = {"Duration": DURATION}
_SINGLE, _HALF, _DOUBLE = (
    tuple(
        f"sm__sass_thread_inst_executed_op_{letter}{operation}_pred_on.sum"
        for operation in ("add", "mul", "fma")
    )
    for letter in "fhd"
)


class Grouping(StrEnum):
    """What becomes one point."""

    KERNEL = "kernel"
    """All launches of a kernel: their FLOPs, bytes and durations are summed."""
    LAUNCH = "launch"
    """Each launch by itself."""
    ALL = "all"
    """The whole file."""


@dataclass(frozen=True, slots=True)
class NcuImport:
    """What an export tells.

    Attributes
    ----------
    points : list of MeasuredPoint
        One per kernel and level, kernels in the order of the file.
    notices : list of str
        What was left out, or assumed.
    """

    points: list[MeasuredPoint]
    notices: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Work:
    """Sums over the launches of one point."""

    name: str
    num_launches: int = 0
    flops: float = 0.0
    duration_s: float = 0.0
    bytes_of: dict[str, float] = field(default_factory=dict)


def known_levels() -> tuple[str, ...]:
    """Return the levels of memory whose bytes can be read."""
    return tuple(_BYTES)


def collect_command(levels: Iterable[str] | None = None) -> str:
    """Return the command that collects all that an import needs.

    Parameters
    ----------
    levels : iterable of str, optional
        Levels of memory; all of them by default.
    """
    wanted = known_levels() if levels is None else levels
    metrics = (DURATION, *(_BYTES[level][0] for level in wanted), *_SINGLE, *_HALF, TENSOR)
    return f"ncu --csv --page raw --metrics {','.join(metrics)} ./program"


def import_ncu(
    path: Path,
    *,
    levels: Sequence[str] | None = None,
    grouping: Grouping = Grouping.KERNEL,
    flops_per_tensor_inst: float = FLOPS_PER_TENSOR_INST,
) -> NcuImport:
    """Read the points of an export of Nsight Compute, long or wide (see ``ncu_csv``).

    Parameters
    ----------
    path : Path
        The CSV file.
    levels : sequence of str, optional
        ``DRAM``, ``L2``, ``L1``; by default DRAM, and the others where their bytes are known.
        Bytes of DRAM are ``dram__bytes.sum``, or the sum of those read and written.
    grouping : Grouping
        What becomes one point.
    flops_per_tensor_inst : float
        FLOPs of one instruction of the tensor pipe, > 0; it depends on architecture and type,
        see ``FLOPS_PER_TENSOR_INST``.

    Raises
    ------
    ConfigError
        The file is no such export, lacks a metric (the message names it and how to collect
        it), or holds no kernel with FLOPs; a level is unknown.
    """
    if not flops_per_tensor_inst > 0:
        raise ConfigError(
            "FLOPs of a tensor instruction must be a number above 0; got "
            f"{flops_per_tensor_inst:g}"
        )
    launches = read_launches(path, _all_metrics(), _ALIASES)
    if not launches:
        raise ConfigError(f"{path} must hold at least one kernel below the header; got none")
    wanted = _levels(path, launches, levels)
    families = _families(path, launches)
    tensor = _tensor_metrics(path, launches)
    if not families and not tensor:
        raise _missing(path, _SINGLE[2], launches)
    notices = [] if tensor else [f"{TENSOR} is not in {path}: tensor cores count for nothing"]
    works: dict[str, _Work] = {}
    for launch in launches:
        name = _point_name(launch, grouping)
        work = works.setdefault(name, _Work(name))
        work.num_launches += 1
        work.duration_s += _need(path, launch, DURATION)
        work.flops += _flops(launch, families, tensor, flops_per_tensor_inst)
        for level in wanted:
            moved = _bytes(path, launch, level)
            work.bytes_of[level] = work.bytes_of.get(level, 0.0) + moved
    points = _points(path, list(works.values()), wanted, notices)
    return NcuImport(points, notices)


def _all_metrics() -> list[str]:
    bytes_metrics = [metric for metrics in _BYTES.values() for metric in metrics]
    tensor = [TENSOR, *_TENSOR_PARTS]
    return [DURATION, *bytes_metrics, *_DRAM_PARTS, *tensor, *_SINGLE, *_HALF, *_DOUBLE]


def _levels(path: Path, launches: list[Launch], levels: Sequence[str] | None) -> list[str]:
    """Return the levels to read, each of which all launches have."""
    if levels is None:
        there = [level for level in _BYTES if _anywhere(launches, _BYTES[level])]
        if DRAM not in there:
            there.insert(0, DRAM)
    else:
        by_key = {level.casefold(): level for level in _BYTES}
        unknown = [level for level in levels if level.casefold() not in by_key]
        if unknown or not levels:
            raise ConfigError(
                f"level must be one of {', '.join(_BYTES)}; got {', '.join(unknown) or 'none'}"
            )
        there = list(dict.fromkeys(by_key[level.casefold()] for level in levels))
    for level in there:
        for launch in launches:
            _bytes(path, launch, level)
    return there


def _anywhere(launches: Iterable[Launch], metrics: Iterable[str]) -> bool:
    wanted = set(metrics)
    return any(wanted & launch.values.keys() for launch in launches)


def _families(path: Path, launches: list[Launch]) -> list[tuple[str, ...]]:
    """Return the (add, mul, fma) metrics of each width in the file; of a width all three."""
    found = [family for family in (_SINGLE, _HALF, _DOUBLE) if _anywhere(launches, family)]
    for family in found:
        for metric in family:
            for launch in launches:
                _need(path, launch, metric)
    return found


def _tensor_metrics(path: Path, launches: list[Launch]) -> list[str]:
    """Return the count of tensor instructions, or the counts of its parts."""
    whole = _anywhere(launches, [TENSOR])
    parts = [metric for metric in _TENSOR_PARTS if _anywhere(launches, [metric])]
    found = [TENSOR] if whole else parts
    for metric in found:
        for launch in launches:
            _need(path, launch, metric)
    return found


def _flops(
    launch: Launch, families: list[tuple[str, ...]], tensor: list[str], per_tensor_inst: float
) -> float:
    values = launch.values
    flops = sum(values[add] + values[mul] + 2 * values[fma] for add, mul, fma in families)
    return flops + per_tensor_inst * sum(values[metric] for metric in tensor)


def _bytes(path: Path, launch: Launch, level: str) -> float:
    metrics = _BYTES[level]
    is_split = level == DRAM and metrics[0] not in launch.values
    if is_split and _DRAM_PARTS[0] in launch.values:
        metrics = _DRAM_PARTS
    return sum(_need(path, launch, metric) for metric in metrics)


def _need(path: Path, launch: Launch, metric: str) -> float:
    value = launch.values.get(metric)
    if value is None:
        raise _missing(path, metric, [launch])
    return value


def _missing(path: Path, metric: str, launches: list[Launch]) -> ConfigError:
    kernel = launches[0].kernel
    return ConfigError(
        f"{path} must have the metric {metric}; it is missing for {_short(kernel)}; collect it "
        f"with: ncu --metrics {metric} (all of them: {collect_command()})"
    )


def _short(kernel: str, most: int = 60) -> str:
    return kernel if len(kernel) <= most else f"{kernel[: most - 3]}..."


def _point_name(launch: Launch, grouping: Grouping) -> str:
    names: dict[Grouping, Callable[[], str]] = {
        Grouping.KERNEL: lambda: launch.kernel,
        Grouping.LAUNCH: lambda: f"{launch.kernel} #{launch.launch_id}",
        Grouping.ALL: lambda: "all kernels",
    }
    return names[grouping]()


def _points(
    path: Path, works: list[_Work], levels: list[str], notices: list[str]
) -> list[MeasuredPoint]:
    """Return the points; what a roofline cannot show is told instead."""
    points = []
    for work in works:
        if not work.duration_s:
            raise ConfigError(
                f"{path}: {DURATION} must be above 0 s; got 0 for {_short(work.name)}"
            )
        if not work.flops:
            notices.append(f"{_short(work.name)} has no FLOPs: it is on no roofline")
            continue
        for level in levels:
            moved = work.bytes_of[level]
            if not moved:
                notices.append(f"{_short(work.name)} moves no bytes of {level}: left out there")
                continue
            tflops = work.flops / work.duration_s / 1e12
            duration_us = 1e6 * work.duration_s
            points.append(MeasuredPoint(work.name, work.flops / moved, tflops, level, duration_us))
    if not points:
        raise ConfigError(f"{path} must hold a kernel with FLOPs and bytes; got none")
    return points
