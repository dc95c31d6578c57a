"""All-reduce times: measured by message size and number of GPUs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blis_sim.latency.kernel_tables.arrays import floats
from blis_sim.latency.kernel_tables.fit import Fit, Part, find_match
from blis_sim.latency.kernel_tables.lines import Surface, make_cells
from blis_sim.latency.kernel_tables.precision import BYTES_PER_US
from blis_sim.latency.kernel_tables.roofs import LinearRoof

if TYPE_CHECKING:
    from blis_sim.catalog.gpus import GpuSpec
    from blis_sim.latency.kernel_tables.source import Source

_PCIE_GB_PER_S = 64.0
"""PCIe 4 x16, both directions together; the generation of each GPU is not catalogued."""


def link_roof(gpu: GpuSpec, tp: int) -> LinearRoof:
    """Return the time of a ring all-reduce over the links alone, as a function of the bytes.

    Each GPU sends and receives ``2 (tp - 1) / tp`` times the message (Patarasuk and Yuan,
    JPDC 69(2), 2009). Switches that add on the way need less, so this is a scale, no bound.
    """
    one_way = (gpu.direct_gb_per_s(tp) or _PCIE_GB_PER_S) / 2
    return LinearRoof(0.0, 0.0, 2 * (tp - 1) / tp / (one_way * BYTES_PER_US))


def allreduce_fit(sources: Iterable[Source], gpu: GpuSpec, tp: int) -> Fit:
    """Return the times of all-reduces over ``tp`` GPUs.

    GPUs with links of the same kind answer first: a group larger than an NVLink bridge joins
    crosses PCIe. Of another GPU or another number of GPUs the time of the smallest message is
    kept, and what larger ones take beyond it scales with the time on the links. Beyond the
    largest message time is proportional to size.
    """
    formats = [("bf16", "bf16"), ("fp16", "fp16")]
    match = find_match(_AlikeFirst(sources, gpu, tp), "allreduce", (tp,), formats)
    series = match.source.series(match.file)[match.shape]
    measured_roof, roof = link_roof(match.source.gpu, match.shape[0]), link_roof(gpu, tp)
    cells = make_cells(series.batch, series.x, series.us, LinearRoof(0.0, 0.0, 0.0))
    least = cells.us[0, 0]
    us = least + (cells.us - least) * (roof.memory_us / measured_roof.memory_us)
    surface = Surface(floats([1.0]), cells.x, us, us[:, -1] / cells.x[-1])
    return Fit((Part(match, 1.0, cells, measured_roof, surface),), roof, surface)


@dataclass(frozen=True, slots=True)
class _AlikeFirst:
    """Sources of the GPU itself and of links of its kind, then the others."""

    sources: Iterable[Source]
    gpu: GpuSpec
    tp: int

    def __iter__(self) -> Iterator[Source]:
        is_direct = self.gpu.direct_gb_per_s(self.tp) is not None
        others = []
        for source in self.sources:
            is_alike = (source.gpu.direct_gb_per_s(self.tp) is not None) == is_direct
            if is_alike or source.gpu.name == self.gpu.name:
                yield source
            else:
                others.append(source)
        yield from others
