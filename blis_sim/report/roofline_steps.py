"""``blis roofline``: phases under the roofs of GPUs as records, JSON and CSV."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from blis_sim.metrics.plain import to_plain
from blis_sim.report.sweep_files import records_csv
from blis_sim.version import package_version

if TYPE_CHECKING:
    from blis_sim.roofline.analysis import Analysis, PhaseAnalysis
    from blis_sim.roofline.analyzer import RooflineAnalyzer
    from blis_sim.roofline.ceilings import Ceilings
    from blis_sim.roofline.points import MeasuredPoint
    from blis_sim.roofline.work import Work

DEFINITIONS = {
    "flops": "operations on one GPU of the group; a multiply-add is two",
    "bytes": "bytes that cross the bus of its memory when every operand moves once",
    "message_bytes": "size of the messages to other GPUs; not part of bytes",
    "intensity": "flops / bytes",
    "peak_tflops": "dense peak of the formats that are computed in, weighted by time",
    "ridge": "peak / bandwidth, FLOP/byte: the intensity from which on arithmetic bounds",
    "bound": "memory-bound below the ridge, compute-bound from it on",
    "attainable_tflops": "min(peak, bandwidth x intensity)",
    "attainable_gb_per_s": "min(bandwidth, peak / intensity)",
    "roof_ms": "the longer of flops / peak and bytes / bandwidth: no step is faster",
    "kernels_ms": "the same when kernels run one after the other: the sum of their roofs",
    "link_ms": "least time of the messages; null = the link is not known",
    "fits": "whether weights and KV cache are within 90 % of the memory; null = not known",
}


@dataclass(frozen=True, slots=True)
class StepRow:
    """One phase of one model on one GPU.

    Attributes
    ----------
    analyzer : RooflineAnalyzer
        What runs on what.
    step : PhaseAnalysis
        The phase.
    """

    analyzer: RooflineAnalyzer
    step: PhaseAnalysis

    @property
    def fits(self) -> bool | None:
        """Whether weights and KV cache fit into the memory; None = it is not known."""
        tokens = self.step.seq_len + (self.step.num_steps if self.step.phase == "decode" else 0)
        return self.analyzer.deployed.fits(tokens, self.step.batch)

    def record(self) -> dict[str, Any]:
        """Return all figures, flat."""
        step, deployed = self.step, self.analyzer.deployed
        return {
            "gpu": deployed.gpu.name,
            "model": deployed.spec.name,
            "tensor_parallel_size": deployed.tp,
            "phase": step.phase.value,
            "seq_len": step.seq_len,
            "batch": step.batch,
            "num_steps": step.num_steps,
            **_figures(step),
            "kernels_ms": 1e3 * step.kernels_s,
            "fits": self.fits,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RooflineReport:
    """Everything that was asked for.

    Attributes
    ----------
    rows : tuple of StepRow
    analyses : tuple of Analysis
        Of requests, with suggestions; the rows are their phases then.
    points : tuple of MeasuredPoint
    ceilings : tuple of Ceilings
        Of the GPUs, each once.
    has_kernels : bool
        Whether kernels are shown.
    notices : tuple of str
        What the reader should know.
    """

    rows: tuple[StepRow, ...]
    analyses: tuple[Analysis, ...] = ()
    points: tuple[MeasuredPoint, ...] = ()
    ceilings: tuple[Ceilings, ...] = ()
    has_kernels: bool = False
    notices: tuple[str, ...] = ()


def _figures(work: Work) -> dict[str, Any]:
    link_s = work.link_s
    figures = {
        "flops": work.flops,
        "bytes": work.bytes,
        "message_bytes": work.message_bytes,
        "intensity": work.intensity,
        "peak_tflops": work.peak_tflops,
        "bandwidth_gb_per_s": work.bandwidth_gb_per_s,
        "ridge": work.ridge,
        "bound": work.bottleneck.value,
        "attainable_tflops": work.attainable_tflops,
        "attainable_gb_per_s": work.attainable_gb_per_s,
        "roof_ms": 1e3 * work.roof_s,
        "link_ms": None if link_s is None else 1e3 * link_s,
    }
    if work.measured_s is not None:
        figures |= {
            "measured_ms": 1e3 * work.measured_s,
            "achieved_tflops": work.achieved_tflops,
            "achieved_gb_per_s": work.achieved_gb_per_s,
            "distance_to_roof": work.distance_to_roof,
        }
    return figures


def kernel_records(row: StepRow) -> list[dict[str, Any]]:
    """Return the kernels of a phase."""
    return [
        {
            "name": kernel.name,
            "dtype": kernel.dtype,
            "count": kernel.count,
            **_figures(kernel),
        }
        for kernel in row.step.kernels
    ]


def roofline_csv(report: RooflineReport) -> str:
    """Return one line per phase, or per kernel of each."""
    if not report.has_kernels:
        return records_csv([row.record() for row in report.rows])
    keys = ("gpu", "model", "tensor_parallel_size", "phase", "seq_len", "batch", "num_steps")
    records = []
    for row in report.rows:
        whole = row.record()
        own = {key: whole[key] for key in keys}
        records += [own | record for record in kernel_records(row)]
    return records_csv(records)


def roofline_json(report: RooflineReport) -> str:
    """Return everything as strict JSON text, ending in a newline."""
    rows = [
        row.record() | ({"kernels": kernel_records(row)} if report.has_kernels else {})
        for row in report.rows
    ]
    document = {
        "blis_sim_version": package_version(),
        "gpus": [_ceilings(each) for each in report.ceilings],
        "rows": rows,
        "requests": [_request(each) for each in report.analyses],
        "points": [
            asdict(point) | {"roofs": point_roofs(point, report.ceilings)}
            for point in report.points
        ],
        "notices": list(report.notices),
        "definitions": DEFINITIONS,
    }
    return json.dumps(to_plain(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _ceilings(ceilings: Ceilings) -> dict[str, Any]:
    return {
        "gpu": ceilings.machine,
        "peaks_tflops": {peak.name: peak.tflops for peak in ceilings.peaks},
        "bandwidths_gb_per_s": {each.level: each.gb_per_s for each in ceilings.bandwidths},
        "ridges": {peak.name: ceilings.ridge(peak.name) for peak in ceilings.peaks},
        "source": ceilings.source,
    }


def _request(analysis: Analysis) -> dict[str, Any]:
    return {
        "gpu": analysis.gpu,
        "prompt_len": analysis.prompt_len,
        "gen_tokens": analysis.gen_tokens,
        "batch": analysis.batch,
        **_figures(analysis),
        "memory_bytes": analysis.memory_bytes,
        "fits": analysis.fits,
        "suggestions": [asdict(each) for each in analysis.suggestions],
    }


def point_roofs(point: MeasuredPoint, ceilings: Sequence[Ceilings]) -> dict[str, float | None]:
    """Return what each machine allows at a point's intensity, TFLOP/s.

    None = the bandwidth of the point's level is not known there.
    """
    roofs: dict[str, float | None] = {}
    for each in ceilings:
        levels = {bandwidth.level for bandwidth in each.bandwidths}
        is_known = point.level in levels
        roofs[each.machine] = (
            each.attainable_tflops(point.oi, level=point.level) if is_known else None
        )
    return roofs
