"""``SOURCE.md`` of one GPU's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blis_sim.catalog.gpus import GpuSpec

from .context import TableReport
from .thin import Limits
from .wheel import PACKAGE, VERSION, Wheel

_COLUMNS = (
    "table", "shapes", "points measured", "kept", "error of the others: median", "p95", "max",
    "changed by cleaning", "their median change", "max", "faster than the roofline",
)  # fmt: skip


def report_row(report: TableReport) -> tuple[str, ...]:
    """Return the figures of one kind of table, in the order of the columns."""
    clean, thin = report.cleaned, report.thinned
    above = "-" if report.num_above_roof is None else str(report.num_above_roof)
    return (
        report.name,
        str(report.num_shapes),
        str(thin.num_points),
        str(thin.num_kept),
        f"{thin.median:.2%}",
        f"{thin.p95:.2%}",
        f"{thin.max:.1%}",
        f"{clean.changed_frac:.1%}",
        f"{clean.median_change:.1%}",
        f"{clean.max_change:.0%}",
        above,
    )


def write_note(
    path: Path,
    gpu: GpuSpec,
    device: str,
    wheel: Wheel,
    limits: Limits,
    reports: Sequence[TableReport],
) -> None:
    """Write where the tables come from and what was done to them."""
    lines = [*_origin(gpu, device, wheel, reports), *_costs(limits, reports)]
    remarks = [(r.name, remark) for r in reports for remark in r.remarks]
    if remarks:
        lines += ["", "## Remarks", ""]
        lines += [f"- `{name}`: {remark}." for name, remark in remarks]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _origin(gpu: GpuSpec, device: str, wheel: Wheel, reports: Sequence[TableReport]) -> list[str]:
    lines = [
        f"# {gpu.name}: measured kernels",
        "",
        f"Measured by the AIConfigurator project (NVIDIA, Apache-2.0) on: {device}.",
        f"Taken from the wheel `{PACKAGE}` {VERSION} (`{wheel.path.name}`, sha256",
        f"`{wheel.sha256}`) with `scripts/import_aiconfigurator.py`;",
        "`../README.md` says what the columns mean and how the tables were made. The files in the",
        "wheel carry no date of measurement; the version of the engine is in their path.",
        "",
        f"MFU is relative to {gpu.bf16_tflops_dense:g} TFLOP/s (bf16, and int4 or mxfp4 weights)"
        + (f" and {gpu.fp8_tflops_dense:g} TFLOP/s (fp8)." if gpu.fp8_tflops_dense else "."),
        "",
        "| table | file in the wheel, below `systems/data` | kernels (share of its rows) |",
        "|---|---|---|",
    ]
    for report in reports:
        source = report.source.split("systems/data/")[-1]
        lines.append(f"| `{report.name}` | `{source}` | {report.kernels} |")
    return lines


def _costs(limits: Limits, reports: Sequence[TableReport]) -> list[str]:
    return [
        "",
        "## What thinning and cleaning cost",
        "",
        "Grid lines were left out as long as linear interpolation gives the cleaned points back",
        f"with a median error of at most {limits.median:.0%} and a p95 of at most "
        f"{limits.p95:.0%}.",
        "Cleaning: single spikes taken out, then the nearest monotone table (share of all points",
        "that changed, and by how much). Points faster than the roofline bound (small problems",
        "that stay in the cache) are left as they are.",
        "",
        "| " + " | ".join(_COLUMNS) + " |",
        "|---" * len(_COLUMNS) + "|",
        *("| " + " | ".join(report_row(report)) + " |" for report in reports),
    ]
