"""GEMM and all-reduce tables."""

from __future__ import annotations

import numpy as np

from . import sustained
from .clean import clean_grid
from .context import Context, TableReport, kernel_names
from .grid import Floats, Grid, grid_from_frame, round_to_digits
from .kernels import bound_and_flops, gemm_work, peak_flops_per_s
from .needs import enclosing_shapes
from .thin import ThinStats
from .write import measured_points, write_csv

DECODE_TOKENS = (1, 8, 16, 32, 64, 96, 128, 192, 256, 512)
"""Numbers of tokens of usual decode batches: kept in every GEMM table."""
SMALLEST_GEMM = 128
_EVERY_SHAPE = ("bf16", "fp8")
"""Kept from ``SMALLEST_GEMM`` up, for models that are not bundled; of the other dtypes only the
shapes around those the bundled models need."""
MIN_GEMM_SHAPES = 50
"""A table of fewer shapes is not a grid and is left out."""

_GEMM_DTYPES = {"bf16": "bfloat16", "fp8": "fp8", "fp8_block": "fp8_block", "int4": "int4_wo"}
# vLLM 0.24's fp8_block rows hold the launch by the host (60 to 500 us whatever the size), which a
# CUDA graph does not have: SGLang measured the same DeepGEMM kernels without it. No other
# framework's GEMMs of GPUs with a large cache can be used: theirs were measured in the cache.
_GEMM_FRAMEWORKS = {
    "bf16": ("vllm",),
    "fp8": ("vllm",),
    "fp8_block": ("sglang",),
    "int4": ("trtllm",),
}


def import_gemm(context: Context, dtype: str) -> TableReport | None:
    """Write ``gemm_bench/gemm_<dtype>.csv``."""
    found = context.first(
        "gemm", "gemm_perf.parquet", _GEMM_FRAMEWORKS[dtype], gemm_dtype=_GEMM_DTYPES[dtype]
    )
    if found is None:
        return None
    table, frame = found
    raw = grid_from_frame(frame, ("n", "k"), "m")
    if len(raw.shapes) < MIN_GEMM_SHAPES:
        return None
    if dtype == "bf16" and context.gpu.name in sustained.GPUS:
        raw = sustained.sustained(raw)
    wanted = enclosing_shapes(context.needs.gemm, raw.shapes)
    if dtype in _EVERY_SHAPE:
        wanted |= {shape for shape in raw.shapes if min(shape) >= SMALLEST_GEMM}
    done = context.finish(
        raw,
        gemm_work(dtype),
        dtype,
        DECODE_TOKENS,
        lambda full: full.select_shapes(sorted(wanted)),
    )
    rows = [
        [point[1], str(k), str(n), *point[2:]]
        for i, (n, k) in enumerate(done.grid.shapes)
        for point in measured_points(done.grid, i, done.mfu)
    ]
    rows.sort(key=lambda row: (int(row[2]), int(row[1]), int(row[0])))
    path = context.out / "gemm_bench" / f"gemm_{dtype}.csv"
    write_csv(path, ("m", "k", "n", "latency_us", "mfu"), rows)
    remarks = _gemm_remarks(context, done.cleaned, done.grid.shapes, dtype)
    name = f"gemm_bench/gemm_{dtype}.csv"
    return done.report(name, table.path, kernel_names(frame), remarks)


def _gemm_remarks(
    context: Context, full: Grid, kept: list[tuple[int, ...]], dtype: str
) -> list[str]:
    """Measure what the nearest shape's efficiency says about shapes that have no table."""
    peak, bandwidth = peak_flops_per_s(context.gpu, dtype), context.gpu.hbm_gb_per_s * 1e9
    bound, _ = bound_and_flops(full, gemm_work(dtype), peak, bandwidth)
    efficiency = (bound / full.latency_us)[:, 0]
    index = {shape: i for i, shape in enumerate(full.shapes)}
    there = np.array([index[shape] for shape in kept])
    left_out = sorted(set(index.values()) - set(there.tolist()))
    remarks = []
    if left_out:
        error = _nearest_error(full, bound[:, 0], efficiency, np.array(left_out), there)
        remarks.append(
            f"{len(left_out)} shapes that no bundled model is near to are left out (with bf16 and "
            f"fp8 only those with n or k below {SMALLEST_GEMM}); the nearest kept shape's "
            f"efficiency gives them with an error of: {error}"
        )
    error = _nearest_error(full, bound[:, 0], efficiency, there, there)
    remarks.append(
        "a kept shape predicted from its nearest neighbour's efficiency, as a shape between the "
        f"measured ones is: {error}"
    )
    return remarks


def _nearest_error(
    full: Grid, bound: Floats, efficiency: Floats, targets: np.ndarray, sources: np.ndarray
) -> str:
    """Return median and p95 of the error of the nearest other shape's efficiency, as text."""
    position = np.log(np.array(full.shapes, float))
    errors = []
    for i in targets:
        others = sources[sources != i]
        distance = np.abs(position[others] - position[i]).sum(axis=1)
        nearest = others[np.argmin(distance)]
        predicted = np.maximum(bound[i] / efficiency[nearest], bound[i])
        errors.append(np.abs(predicted / full.latency_us[i, 0] - 1))
    error = np.concatenate(errors)
    error = error[~np.isnan(error)]
    return f"median {np.median(error):.1%}, p95 {np.quantile(error, 0.95):.1%}"


def import_all_reduce(context: Context, tp: int) -> TableReport | None:
    """Write ``allreduce/allreduce_tp<tp>.csv``: vLLM in a CUDA graph, else NCCL."""
    file = "custom_allreduce_perf.parquet"
    found = context.first("comm", file, ("vllm",), num_gpus=tp, backend="vllm_graph")
    if found is None:
        for version in context.wheel.versions(context.system, "comm", "nccl", "nccl_perf.parquet"):
            table = context.wheel.read_version(
                context.system, "comm", "nccl", "nccl_perf.parquet", version
            )
            frame = table.frame.query(
                "num_gpus == @tp and op_name == 'all_reduce' and nccl_dtype == 'half'"
            )
            if len(frame):
                found = table, frame
                break
    if found is None:
        return None
    table, frame = found
    raw = grid_from_frame(frame.assign(bytes=2 * frame["message_size"]), ("num_gpus",), "bytes")
    cleaned, clean_stats = clean_grid(raw)
    cleaned = cleaned.with_latency(round_to_digits(cleaned.latency_us))
    rows = [point[1:] for point in measured_points(cleaned, 0, None)]
    write_csv(context.out / "allreduce" / f"allreduce_tp{tp}.csv", ("bytes", "latency_us"), rows)
    num = len(rows)
    return TableReport(
        name=f"allreduce/allreduce_tp{tp}.csv",
        source=table.path,
        kernels=kernel_names(frame),
        num_shapes=1,
        cleaned=clean_stats,
        thinned=ThinStats(num, num, 0.0, 0.0, 0.0),
        num_above_roof=None,
    )
