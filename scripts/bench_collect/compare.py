"""How far tables are from others of the same GPU: at common points, and through the lookup."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from blis_sim.catalog.gpus import GpuSpec, list_gpus
from blis_sim.errors import CatalogError, ConfigError
from blis_sim.latency.kernel_tables.layout import Folder, TableFile, find_folder
from blis_sim.latency.kernel_tables.points import Points
from blis_sim.latency.kernel_tables.shapes import Formats, HeadShape, WeightFormat
from blis_sim.latency.kernel_tables.source import times_us
from blis_sim.latency.kernel_tables.tables import KernelTables

_OPERATIONS = ("gemm", "prefill", "decode", "allreduce")
_Key = tuple[str, tuple[int, ...], str, str]


@dataclass(slots=True)
class Difference:
    """Ratios ours / theirs - 1 of one operation and format.

    ``common`` at points both have; ``lookup`` at all of ours, theirs interpolated as the latency
    model does.
    """

    name: str
    num_points: int = 0
    common: list[float] = field(default_factory=list)
    lookup: list[float] = field(default_factory=list)


def compare(ours: Path, reference: Path, gpu: GpuSpec) -> list[Difference]:
    """Return the differences of the tables in ``ours`` from those in ``reference``.

    Parameters
    ----------
    ours, reference
        Folder of the GPU, or one with a folder per GPU.
    gpu
        The GPU of both.

    Raises
    ------
    CatalogError
        A folder or a file is not what it should be.
    ConfigError
        One of them has no tables of ``gpu``.
    """
    mine, theirs = _folder(ours, gpu, "--out"), _folder(reference, gpu, "--compare")
    others = {_key(file): file for file in theirs.files}
    try:
        tables = KernelTables.load(reference, gpu)
    except CatalogError:
        tables = None  # They are not enough for a model: only common points are compared.
    found: dict[tuple[str, str, str], Difference] = {}
    for file in mine.files:
        if file.operation not in _OPERATIONS:
            continue
        kind = file.operation, file.dtype, file.kv_dtype
        difference = found.setdefault(kind, Difference(_name(file)))
        points = file.read()
        latency_us = times_us(file, points, gpu)
        difference.num_points += len(points)
        other = others.get(_key(file))
        if other is not None:
            difference.common += _common(file, other, gpu)
        if tables is not None and theirs.has(file.operation):
            for rows, expected_us in _looked_up(tables, file, points):
                difference.lookup += (latency_us[rows] / expected_us - 1).tolist()
    return list(found.values())


def _folder(path: Path, gpu: GpuSpec, flag: str) -> Folder:
    folder = find_folder(path, gpu, list_gpus())
    if folder is None or not folder.files:
        raise ConfigError(f"{flag} must be a folder with tables of {gpu.name}; got {path}")
    return folder


def _key(file: TableFile) -> _Key:
    return file.operation, file.shape, file.dtype, file.kv_dtype


def _name(file: TableFile) -> str:
    cache = "" if file.kv_dtype == file.dtype else f", cache {file.kv_dtype}"
    return f"{file.operation} {file.dtype}{cache}"


def _common(file: TableFile, other: TableFile, gpu: GpuSpec) -> list[float]:
    tables = []
    for each in (file, other):
        points = each.read()
        keys = zip(*(column.tolist() for column in points.values.values()), strict=True)
        tables.append(dict(zip(keys, times_us(each, points, gpu).tolist(), strict=True)))
    mine, theirs = tables
    ratios = np.array([mine[key] / theirs[key] - 1 for key in mine if key in theirs])
    return ratios[np.isfinite(ratios)].tolist() if len(ratios) else []


def _looked_up(
    tables: KernelTables, file: TableFile, points: Points
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows of the file and what the tables say about them."""
    column = points.values
    formats = Formats(file.dtype, file.kv_dtype)
    match file.operation:
        case "gemm":
            for k, n in sorted(set(zip(column["k"], column["n"], strict=True))):
                rows = np.flatnonzero((column["k"] == k) & (column["n"] == n))
                weights = WeightFormat(file.dtype)
                yield rows, tables.gemm_us(column["m"][rows], int(k), int(n), weights)
        case "prefill" | "decode":
            shape = HeadShape(*file.shape)
            for batch in np.unique(column["batch"]):
                rows = np.flatnonzero(column["batch"] == batch)
                if file.operation == "decode":
                    lengths = column["kv_len"][rows]
                    yield rows, tables.decode_attention_us(shape, int(batch), lengths, formats)
                else:
                    new = column["seq_len"][rows]
                    context = column["kv_len"][rows]
                    yield (
                        rows,
                        tables.prefill_attention_us(
                            shape, context, new, batch=int(batch), formats=formats
                        ),
                    )
        case "allreduce":
            rows = np.arange(len(points))
            yield rows, tables.allreduce_us(column["bytes"], file.shape[0])


def report(differences: list[Difference]) -> list[str]:
    """Return the differences as the lines of a table."""
    lines = [
        f"{'':22s} {'points':>7s}   {'at common points':^33s}   {'through the lookup':^33s}",
        f"{'':22s} {'':>7s} " + 2 * f"  {'number':>7s} {'median':>8s} {'p95':>8s} {'bias':>7s}",
    ]
    for d in differences:
        figures = "".join(f"  {_figures(values)}" for values in (d.common, d.lookup))
        lines.append(f"{d.name:22s} {d.num_points:7d} {figures}")
    lines.append("median, p95: of |ours / theirs - 1|; bias: median of ours / theirs - 1")
    return lines


def _figures(values: list[float]) -> str:
    ratios = np.array(values)
    ratios = ratios[np.isfinite(ratios)]
    if not len(ratios):
        return f"{0:7d} {'-':>8s} {'-':>8s} {'-':>7s}"
    off = np.abs(ratios)
    p95 = np.quantile(off, 0.95)
    return f"{len(ratios):7d} {np.median(off):8.1%} {p95:8.1%} {np.median(ratios):+7.1%}"
