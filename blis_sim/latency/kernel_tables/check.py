"""Coverage of a folder of measured tables, and what is odd about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from blis_sim.catalog.gpus import list_gpus, load_gpu
from blis_sim.catalog.locate import shown_path
from blis_sim.errors import CatalogError
from blis_sim.latency.kernel_tables.borrow import open_source
from blis_sim.latency.kernel_tables.layout import is_flat, named_gpu
from blis_sim.latency.kernel_tables.lines import make_cells
from blis_sim.latency.kernel_tables.roofs import LinearRoof
from blis_sim.latency.kernel_tables.source import (
    Source,
    measured_roof,
    mfu_mismatch,
    mismatch_text,
    times_us,
)

if TYPE_CHECKING:
    from pathlib import Path

    from blis_sim.catalog.gpus import GpuSpec
    from blis_sim.latency.kernel_tables.layout import Folder, TableFile
    from blis_sim.latency.kernel_tables.points import Points
    from blis_sim.latency.kernel_tables.source import Series

_TOLERATED = 0.02
_NO_BOUND = LinearRoof(0.0, 0.0, 1e-12)
"""In proportion to the work, and far below any time."""


class Finding(NamedTuple):
    """Something odd about a file."""

    severity: str
    """error: the file cannot be used; warning: it is used."""
    kind: str
    """unreadable, unknown-file, same-shape, missing-cells, unused-rows, mfu-mismatch,
    non-monotone or above-roof."""
    text: str


class Coverage(NamedTuple):
    """What there is of one operation in one format."""

    operation: str
    table_format: str
    num_files: int
    num_shapes: int
    num_points: int
    ranges: str
    """Smallest and largest value of each column that identifies a point."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Coverage and findings of the tables of one GPU.

    Attributes
    ----------
    path : Path
        The folder.
    gpu : str
        GPU whose roofs were used.
    coverage : tuple of Coverage
        One entry per operation and format.
    findings : tuple of Finding
        Errors first.
    """

    path: Path
    gpu: str
    coverage: tuple[Coverage, ...]
    findings: tuple[Finding, ...]

    @property
    def num_errors(self) -> int:
        """Files that cannot be used."""
        return sum(finding.severity == "error" for finding in self.findings)


@dataclass(slots=True)
class _Tally:
    num_files: int = 0
    num_shapes: int = 0
    num_points: int = 0
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(self, points: Points, num_shapes: int) -> None:
        self.num_files += 1
        self.num_shapes += num_shapes
        self.num_points += len(points)
        for name, column in points.values.items():
            low, high = self.ranges.get(name, (np.inf, -np.inf))
            self.ranges[name] = (min(low, float(column.min())), max(high, float(column.max())))

    def shown_ranges(self) -> str:
        return ", ".join(f"{name} {low:g}-{high:g}" for name, (low, high) in self.ranges.items())


def check_source(source: Source) -> CheckReport:
    """Read all tables of a GPU and report coverage and findings.

    Notes
    -----
    Non-monotone: more work took less time, by more than 2 %; the lookup takes the least of
    what as much or more work took. Above the roof: faster than ``max(FLOPs / peak, bytes /
    bandwidth)`` by more than 2 %, as small kernels can be whose data stay in the L2 cache; the
    lookup takes the bound.
    """
    tallies: dict[tuple[str, str], _Tally] = {}
    findings = list(_about_names(source.folder))
    for file in source.folder.files:
        try:
            points = file.read()
            series = source.series(file)
        except CatalogError as error:
            findings.append(Finding("error", "unreadable", str(error)))
            continue
        findings += _about_rows(file, points, source.gpu)
        findings += _about_times(file, series, source.gpu)
        formats = file.dtype if file.kv_dtype == file.dtype else f"{file.dtype}/{file.kv_dtype}"
        tallies.setdefault((file.operation, formats), _Tally()).add(points, len(series))
    findings.sort(key=lambda finding: (finding.severity != "error", finding.kind, finding.text))
    coverage = tuple(
        Coverage(*key, tally.num_files, tally.num_shapes, tally.num_points, tally.shown_ranges())
        for key, tally in sorted(tallies.items())
    )
    return CheckReport(source.folder.path, source.gpu.name, coverage, tuple(findings))


def _about_names(folder: Folder) -> Iterator[Finding]:
    for path in folder.unknown:
        text = f"{shown_path(path)}: neither place nor name says what it is; it is left out"
        yield Finding("warning", "unknown-file", text)
    keys = Counter((f.operation, f.shape, f.dtype, f.kv_dtype) for f in folder.files)
    for key, count in keys.items():
        if count > 1:
            same = [f for f in folder.files if (f.operation, f.shape, f.dtype, f.kv_dtype) == key]
            text = (
                f"{shown_path(same[0].path)}: {count - 1} more files for the same shape, the "
                f"first of which is {shown_path(same[1].path)}; only this one is used"
            )
            yield Finding("warning", "same-shape", text)


def _about_rows(file: TableFile, points: Points, gpu: GpuSpec) -> Iterator[Finding]:
    path = shown_path(file.path)
    num_missing = int(np.count_nonzero(~np.isfinite(times_us(file, points, gpu))))
    if num_missing:
        text = f"{path}: {num_missing} rows give no time; they count as not measured"
        yield Finding("warning", "missing-cells", text)
    num_chunks = int(np.count_nonzero(points.values["kv_len"])) if _is_prefill(file) else 0
    if num_chunks:
        text = f"{path}: {num_chunks} rows have kv_len > 0; only whole prompts are looked up"
        yield Finding("warning", "unused-rows", text)
    mismatch = mfu_mismatch(file, points, gpu)
    if mismatch is not None:
        yield Finding("warning", "mfu-mismatch", mismatch_text(path, mismatch, gpu, file.dtype))


def _is_prefill(file: TableFile) -> bool:
    return file.operation.endswith("prefill")


def _about_times(
    file: TableFile, series: dict[tuple[int, ...], Series], gpu: GpuSpec
) -> Iterator[Finding]:
    num_points = num_lowered = num_above = 0
    most_lowered = most_above = 0.0
    for shape, of_shape in series.items():
        cells = make_cells(of_shape.batch, of_shape.x, of_shape.us, _NO_BOUND)
        row = np.searchsorted(cells.batch, of_shape.batch)
        column = np.searchsorted(cells.x, of_shape.x)
        monotone = cells.us[row, column]
        bound = of_shape.batch * measured_roof(gpu, file, shape).us(of_shape.x)
        lowered, above = of_shape.us / monotone - 1, bound / of_shape.us - 1
        num_points += len(of_shape.us)
        num_lowered += int(np.count_nonzero(lowered > _TOLERATED))
        num_above += int(np.count_nonzero(above > _TOLERATED))
        most_lowered = max(most_lowered, float(lowered.max()))
        most_above = max(most_above, float(above.max()))
    path = shown_path(file.path)
    if num_lowered:
        text = (
            f"{path}: {num_lowered} of {num_points} points take longer than points with more "
            f"work, by up to {100 * most_lowered:.0f} %"
        )
        yield Finding("warning", "non-monotone", text)
    if num_above:
        text = (
            f"{path}: {num_above} of {num_points} points are faster than peak or bandwidth of "
            f"{gpu.name} allow, by up to {100 * most_above:.0f} %"
        )
        yield Finding("warning", "above-roof", text)


def check_folder(root: Path, gpu_name: str | None = None) -> list[CheckReport]:
    """Check the tables of one GPU, or of all GPUs, below a folder of any layout.

    Parameters
    ----------
    root : Path
        See ``layout.find_folder``.
    gpu_name : str, optional
        The GPU; all that ``root`` has tables of by default.

    Raises
    ------
    CatalogError
        The GPU is unknown, the folder has no tables, or nothing says of which GPU.
    """
    gpus = list_gpus()
    chosen = gpus if gpu_name is None else (load_gpu(gpu_name),)
    if gpu_name is None and root.is_dir() and is_flat(root):
        chosen = tuple(gpu for gpu in gpus if named_gpu(root, gpus) == gpu.name)
        if not chosen:
            raise CatalogError(
                f"--gpu must name the GPU of {shown_path(root)}, whose own name is none; got none"
            )
    found = (open_source(root, gpu, gpus) for gpu in chosen)
    sources = [source for source in found if source is not None]
    if not sources:
        whose = "of a known GPU" if gpu_name is None else f"of {chosen[0].name}"
        raise CatalogError(
            f"{shown_path(root)} must be a folder with kernel tables {whose}; got none"
        )
    return [check_source(source) for source in sources]
