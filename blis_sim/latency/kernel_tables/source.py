"""Measured cells of one GPU, read when they are first asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from blis_sim.catalog.locate import shown_path
from blis_sim.errors import CatalogError
from blis_sim.latency.kernel_tables.arrays import FloatArray, floats
from blis_sim.latency.kernel_tables.precision import BYTES_PER_US, FLOPS_PER_US, peak_flops_per_us
from blis_sim.latency.kernel_tables.roofs import LinearRoof
from blis_sim.latency.kernel_tables.shapes import (
    AttentionShape,
    ExpandedShape,
    ExpertsShape,
    Formats,
    HeadShape,
    LatentShape,
    WeightFormat,
    causal_roof,
    decode_roof,
    experts_roof,
    gemm_roof,
)

if TYPE_CHECKING:
    from blis_sim.catalog.gpus import GpuSpec
    from blis_sim.latency.kernel_tables.layout import Folder, TableFile
    from blis_sim.latency.kernel_tables.points import Points
    from blis_sim.latency.kernel_tables.roofs import Roof

_TOLERATED = 0.02
_ROUNDING = 0.00051
_BEYOND_CACHES_BYTES = 256e6
"""Twice the largest L2 cache, that of B200."""
_GATED = 3
"""Matrices of an expert in the measured models."""


class Series(NamedTuple):
    """Points of one kernel shape."""

    batch: FloatArray
    x: FloatArray
    """Work of one batch entry, in the unit of its roof."""
    us: FloatArray


class MfuMismatch(NamedTuple):
    """Points whose MFU disagrees with their latency."""

    num_points: int
    num_both: int
    """Points that give both."""
    implied_tflops: float
    """The peak that would explain the MFUs."""


def flops_of(file: TableFile, points: Points) -> FloatArray:
    """Return the FLOPs of each point, as the tables' MFU counts them."""
    values = points.values
    match file.operation:
        case "gemm":
            return floats(2 * values["m"] * values["n"] * values["k"])
        case "allreduce":
            return np.zeros(len(points))
        case "moe":
            shape = ExpertsShape(*file.shape)
            per_token = (
                2 * _GATED * shape.hidden * shape.width * shape.top_k / shape.expert_parallel
            )
            return floats(per_token * values["num_tokens"])
    cost = attention_shape(file.operation, file.shape).cost(Formats())
    if file.operation.endswith("decode"):
        return floats(cost.flops_per_pair * values["kv_len"] * values["batch"])
    return floats(cost.flops_per_pair / 2 * _area(values) * values["batch"])


def attention_shape(operation: str, key: tuple[int, ...]) -> AttentionShape:
    """Return the shape a folder's numbers stand for."""
    if operation == "mla_decode":
        return LatentShape(*key)
    if operation == "mla_prefill":
        return ExpandedShape(*key)
    return HeadShape(*key)


def measured_roof(gpu: GpuSpec, file: TableFile, shape: tuple[int, ...]) -> Roof:
    """Return the bound of a measured kernel on the GPU it was measured on.

    ``shape`` is (k, n) of a GEMM, else the file's. All-reduces have none: 0.
    """
    match file.operation:
        case "gemm":
            k, n = shape
            return gemm_roof(gpu, k, n, WeightFormat(file.dtype))
        case "moe":
            return experts_roof(gpu, ExpertsShape(*shape), WeightFormat(file.dtype), _GATED)
        case "allreduce":
            return LinearRoof(0.0, 0.0, 0.0)
    make_roof = decode_roof if file.operation.endswith("decode") else causal_roof
    formats = Formats(file.dtype, file.kv_dtype)
    return make_roof(gpu, attention_shape(file.operation, shape), formats)


def _area(values: dict[str, FloatArray]) -> FloatArray:
    end = values["kv_len"] + values["seq_len"]
    return floats(end**2 - values["kv_len"] ** 2)


def mfu_mismatch(file: TableFile, points: Points, gpu: GpuSpec) -> MfuMismatch | None:
    """Return how far MFU and latency disagree, None when they agree within 2 %.

    Half a unit of the third decimal, to which MFUs are mostly rounded, is allowed on top.
    """
    both = np.isfinite(points.latency_us) & np.isfinite(points.mfu)
    if not both.any() or file.operation == "allreduce":
        return None
    rate = flops_of(file, points)[both] / points.latency_us[both]
    given, computed = points.mfu[both], rate / peak_flops_per_us(gpu, file.dtype)
    off = np.abs(given - computed) > _TOLERATED * computed + _ROUNDING
    if not off.any():
        return None
    implied = float(np.sum(rate[off]) / np.sum(given[off])) if np.any(given[off] > 0) else np.inf
    return MfuMismatch(int(off.sum()), int(both.sum()), implied / FLOPS_PER_US)


def mismatch_text(path: str, mismatch: MfuMismatch, gpu: GpuSpec, dtype: str) -> str:
    """Return what a user should know about a mismatch."""
    peak = peak_flops_per_us(gpu, dtype) / FLOPS_PER_US
    return (
        f"{path}: mfu disagrees with latency_us by more than 2 % in {mismatch.num_points} of "
        f"{mismatch.num_both} rows; a peak of {mismatch.implied_tflops:.4g} TFLOP/s would explain "
        f"it, the {dtype} peak of {gpu.name} is {peak:.4g}; latency_us is used"
    )


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """The tables of one GPU.

    Attributes
    ----------
    folder : Folder
        What there is.
    gpu : GpuSpec
        The GPU it was measured on.
    """

    folder: Folder
    gpu: GpuSpec
    notices: list[str]
    """Filled as files are read."""
    _series: dict[TableFile, dict[tuple[int, ...], Series]]
    _shares: dict[TableFile, float]

    @classmethod
    def of(cls, folder: Folder, gpu: GpuSpec) -> Source:
        """Return a source of which nothing has been read yet."""
        return cls(folder, gpu, [], {}, {})

    def files(self, operation: str) -> list[TableFile]:
        """Return the tables of an operation, of equal ones the preferred first."""
        return [file for file in self.folder.files if file.operation == operation]

    def series(self, file: TableFile) -> dict[tuple[int, ...], Series]:
        """Return the points of a table by kernel shape: (k, n) of a GEMM, else the file's.

        Raises
        ------
        CatalogError
            The file is malformed or has no usable point.
        """
        if file not in self._series:
            self._series[file] = self._read(file)
        return self._series[file]

    def floor(self, file: TableFile, shape: tuple[int, ...]) -> Roof:
        """Return what no time of a measured kernel is taken below.

        Its bound; for GEMMs with no more of the memory bandwidth than those reach whose
        weights are too large for any L2 cache. Benchmarks repeat one call, so that small
        weights stay in the cache; in a model all layers' weights pass in between.
        """
        roof = measured_roof(self.gpu, file, shape)
        if not isinstance(roof, LinearRoof) or file.operation != "gemm":
            return roof
        share = self._memory_share(file)
        return LinearRoof(roof.compute_us, roof.fixed_us / share, roof.memory_us / share)

    def _memory_share(self, file: TableFile) -> float:
        """Return the largest share of the bandwidth that GEMMs with large weights reach."""
        if file not in self._shares:
            shares = []
            for shape, series in self.series(file).items():
                roof = measured_roof(self.gpu, file, shape)
                x = series.x[0]
                bytes_us = float(roof.us(floats(0.0)))
                is_large = bytes_us * self.gpu.hbm_gb_per_s * BYTES_PER_US > _BEYOND_CACHES_BYTES
                if is_large and not roof.is_compute_bound(float(x)):
                    shares.append(float(roof.us(x)) / float(series.us[0]))
            self._shares[file] = min(1.0, max(shares, default=1.0))
        return self._shares[file]

    def _read(self, file: TableFile) -> dict[tuple[int, ...], Series]:
        points = file.read()
        mismatch = mfu_mismatch(file, points, self.gpu)
        if mismatch is not None:
            path = shown_path(file.path)
            self.notices.append(mismatch_text(path, mismatch, self.gpu, file.dtype))
        us = times_us(file, points, self.gpu)
        usable = np.isfinite(us)
        if "seq_len" in points.values:
            usable &= points.values["kv_len"] == 0
        if not usable.any():
            raise CatalogError(f"{file.path} must give at least one usable point; got none")
        values = {name: column[usable] for name, column in points.values.items()}
        us = us[usable]
        one = np.ones(len(us))
        match file.operation:
            case "gemm":
                return _by_gemm_shape(values, us)
            case "allreduce":
                return {file.shape: Series(one, values["bytes"], us)}
            case "moe":
                return {file.shape: Series(one, values["num_tokens"], us)}
            case "prefill" | "mla_prefill":
                return {file.shape: Series(values["batch"], _area(values), us)}
        return {file.shape: Series(values["batch"], values["kv_len"], us)}


def times_us(file: TableFile, points: Points, gpu: GpuSpec) -> FloatArray:
    """Return the time of each point: the latency, else FLOPs / (peak MFU), else NaN."""
    if not np.isfinite(points.mfu).any():
        return points.latency_us
    mfu = np.where(points.mfu > 0, points.mfu, np.nan)
    from_mfu = flops_of(file, points) / (peak_flops_per_us(gpu, file.dtype) * mfu)
    return np.where(np.isfinite(points.latency_us), points.latency_us, from_mfu)


def _by_gemm_shape(values: dict[str, FloatArray], us: FloatArray) -> dict[tuple[int, ...], Series]:
    m, k, n = values["m"], values["k"], values["n"]
    order = np.lexsort((m, n, k))
    m, k, n, us = m[order], k[order], n[order], us[order]
    starts = np.flatnonzero(np.concatenate([[True], (np.diff(k) != 0) | (np.diff(n) != 0)]))
    ends = [*starts[1:].tolist(), len(m)]
    return {
        (int(k[start]), int(n[start])): Series(np.ones(end - start), m[start:end], us[start:end])
        for start, end in zip(starts.tolist(), ends, strict=True)
    }
