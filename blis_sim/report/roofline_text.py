"""``blis roofline``: tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from blis_sim.report.number_words import ABSENT, bare_percent, counted, number
from blis_sim.report.roofline_steps import RooflineReport, StepRow, point_roofs
from blis_sim.report.text_columns import text_columns

if TYPE_CHECKING:
    from blis_sim.catalog.gpus import GpuSpec
    from blis_sim.roofline.analysis import Analysis
    from blis_sim.roofline.work import Work

_HEADER = (
    *("GPU", "phase", "tokens", "batch", "work", "moved", "intensity", "ridge", "bound"),
    *("attainable", "at the roof"),
)
_UNITS = ("", "", "", "", "GFLOP", "GB", "FLOP/B", "FLOP/B", "", "TFLOP/s", "ms")
_LEFT = (0, 1, 8)
_LEVELS = ("DRAM", "L2", "L1")
_ABOUT_GPUS = """\
Dense tensor peaks; fp32 is that of the vector units. int8 of GPUs with fp8 is as fast as fp8.
L2 and L1 are measured. - = no such units, or not known. Sources: configs/gpus/roofs.yaml"""
_KERNEL_HEADER = (
    *("kernel", "format", "runs", "work", "moved", "intensity", "bound", "at the roof", "share"),
)
_KERNEL_UNITS = ("", "", "", "GFLOP", "MB", "FLOP/B", "", "us", "%")


def render_roofline(report: RooflineReport) -> str:
    """Return all tables, with what the reader should know below them."""
    blocks = ["\n".join([_title(report), *_steps(report.rows)])]
    if report.has_kernels:
        blocks += ["\n".join(_kernels(row)) for row in report.rows]
    blocks += ["\n".join(_request(each)) for each in report.analyses]
    if report.points:
        blocks.append("\n".join(_points(report)))
    notes = [f"note: {notice}" for notice in report.notices]
    return "\n\n".join([*blocks, *(["\n".join(notes)] if notes else [])])


def _title(report: RooflineReport) -> str:
    deployed, forward = report.rows[0].analyzer.deployed, report.rows[0].analyzer
    formats = [forward.model.dtype]
    if deployed.spec.quantization:
        formats.append(f"weights {deployed.spec.quantization}")
    if deployed.kv_cache_dtype != "auto":
        formats.append(f"KV cache {deployed.kv_cache_dtype}")
    group = "" if deployed.tp == 1 else ", one GPU of the group"
    return f"{deployed.spec.name}, TP {deployed.tp} ({', '.join(formats)}){group}"


def _steps(rows: Sequence[StepRow]) -> list[str]:
    cells = [_HEADER, _UNITS]
    for row in rows:
        step = row.step
        first = (
            row.analyzer.gpu.name,
            step.phase.value,
            f"{step.seq_len:,}" + (f"+{step.num_steps:,}" if step.num_steps > 1 else ""),
            f"{step.batch:,}",
        )
        cells.append((*first, *_work(step, 1e9), *_bound(step), number(1e3 * step.roof_s)))
    return text_columns(cells, _LEFT)


def _work(work: Work, unit_bytes: float) -> tuple[str, str, str]:
    return (
        number(float(work.flops) / 1e9),
        number(work.bytes / unit_bytes),
        number(float(work.intensity)),
    )


def _bound(work: Work) -> tuple[str, str, str]:
    return number(float(work.ridge)), work.bottleneck.value, number(work.attainable_tflops)


def _kernels(row: StepRow) -> Iterator[str]:
    step = row.step
    yield f"{step.phase.value} of {step.seq_len:,} x {step.batch:,} on {row.analyzer.gpu.name}"
    cells = [_KERNEL_HEADER, _KERNEL_UNITS]
    for kernel in sorted(step.kernels, key=lambda each: -each.roof_s):
        is_message = bool(kernel.message_bytes)
        moved = kernel.message_bytes if is_message else kernel.bytes
        time_s = kernel.link_s if is_message else kernel.roof_s
        cells.append(
            (
                kernel.name,
                kernel.dtype or ABSENT,
                f"{kernel.count:,}",
                number(float(kernel.flops) / 1e9),
                number(moved / 1e6),
                ABSENT if is_message else number(float(kernel.intensity)),
                "link" if is_message else kernel.bottleneck.value,
                ABSENT if time_s is None else number(1e6 * time_s),
                ABSENT if is_message else bare_percent(kernel.roof_s / step.kernels_s),
            )
        )
    total = number(1e6 * step.kernels_s)
    cells.append(
        ("one after the other", "", "", *_work(step, 1e6), step.bottleneck.value, total, "100")
    )
    yield from text_columns(cells, (0, 1, 6))


def _request(analysis: Analysis) -> Iterator[str]:
    yield (
        f"{counted(analysis.batch, 'request')} of {analysis.prompt_len:,} + "
        f"{analysis.gen_tokens:,} tokens on {analysis.gpu}: {analysis.bottleneck}, at least "
        f"{number(1e3 * analysis.time_s)} ms, {number(float(analysis.intensity))} FLOP/byte"
    )
    distance = analysis.distance_to_roof
    if distance is not None and analysis.measured_s is not None:
        yield (
            f"measured {number(1e3 * analysis.measured_s)} ms: {number(distance)} times the roof, "
            f"{number(analysis.achieved_tflops)} TFLOP/s, "
            f"{number(analysis.achieved_gb_per_s)} GB/s"
        )
    if not analysis.suggestions:
        yield "nothing that was tried would help"
        return
    cells = [("what would help", "throughput", "per GPU", "speed", "then")]
    cells += [
        (
            each.change + (f" ({each.note})" if each.note else ""),
            f"x {number(each.gain)}",
            f"x {number(each.gain_per_gpu)}",
            f"x {number(each.speedup)}",
            each.bottleneck.value,
        )
        for each in analysis.suggestions
    ]
    yield from text_columns(cells, (0, 4))


def _points(report: RooflineReport) -> Iterator[str]:
    header = ["measured point", "level", "FLOP/B", "TFLOP/s"]
    header += [f"% of {ceilings.machine}'s roof" for ceilings in report.ceilings]
    cells = [header]
    for point in report.points:
        roofs = point_roofs(point, report.ceilings).values()
        shares = [None if roof is None else point.tflops / roof for roof in roofs]
        cells.append(
            [
                point.name,
                point.level,
                number(float(point.oi)),
                number(float(point.tflops)),
                *map(bare_percent, shares),
            ]
        )
    yield from text_columns(cells, (0, 1))


def render_gpus(gpus: Sequence[GpuSpec]) -> str:
    """Return the roofs of GPUs and their ridge points, one line for each."""
    header = (
        *("GPU", "16-bit", "fp8", "int8", "fp32", "memory", "L2", "L1"),
        *("ridge 16-bit", "fp8", "int8", "fp32"),
    )
    units = ("", *["TFLOP/s"] * 4, *["GB/s"] * 3, *["FLOP/B"] * 4)
    table = text_columns([header, units, *map(_gpu, gpus)])
    return "\n".join([*table, "", _ABOUT_GPUS])


def _gpu(gpu: GpuSpec) -> tuple[str, ...]:
    from blis_sim.roofline.ceilings import VECTOR, ceilings_of_gpu

    ceilings = ceilings_of_gpu(gpu)
    peaks = {peak.name: peak for peak in ceilings.peaks}
    kinds = [ceilings.peaks[0], *(peaks.get(name) for name in ("fp8", "int8", VECTOR))]
    levels = {each.level: each.gb_per_s for each in ceilings.bandwidths}
    return (
        gpu.name,
        *(ABSENT if peak is None else f"{peak.tflops:,g}" for peak in kinds),
        *(f"{levels[name]:,g}" if name in levels else ABSENT for name in _LEVELS),
        *(ABSENT if peak is None else f"{ceilings.ridge(peak.name):.0f}" for peak in kinds),
    )
