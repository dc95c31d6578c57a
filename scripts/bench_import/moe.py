"""Mixture-of-experts tables: routing and both grouped GEMMs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .context import Context, TableReport, kernel_names
from .grid import Floats, Grid, grid_from_frame
from .kernels import moe_work
from .write import measured_points, write_csv

if TYPE_CHECKING:
    import pandas as pd

_SHAPE = ("num_experts", "topk", "hidden_size", "width")
# Per-tensor and block scales count as one: vLLM 0.24 was measured with a kernel for per-tensor
# scales that is slower on Hopper than bf16, and the fastest kernel of a point counts.
_DTYPES = {"bf16": ("bfloat16",), "fp8": ("fp8", "fp8_block"), "mxfp4": ("w4a16_mxfp4",)}
_FEW_TOKENS = 256
_FEWEST_POINTS = 2


def expected_distinct_experts(num_experts: int, top_k: int, num_tokens: Floats) -> Floats:
    """Return how many experts tokens touch that choose uniformly at random."""
    return num_experts * (1 - (1 - top_k / num_experts) ** num_tokens)


def uniform_routing(balanced: Grid) -> Grid:
    """Turn latencies of perfectly spread tokens into those of uniformly random routing.

    Spread tokens touch ``min(E, n k)`` experts, more than random ones do. While experts are few,
    reading their weights is the time: n random tokens cost what as many spread tokens cost as
    touch the same number of experts. Beyond ``E / k`` tokens, where all spread tokens touch all
    experts, the latency is lowered by the same ratio as at ``E / k`` tokens.
    """
    latency_us = balanced.latency_us.copy()
    tokens = balanced.columns
    for i, (num_experts, top_k, *_) in enumerate(balanced.shapes):
        spread = balanced.latency_us[i, 0]
        measured = ~np.isnan(spread)
        full = num_experts / top_k
        alike = expected_distinct_experts(num_experts, top_k, tokens) / top_k
        at_alike = np.interp(alike, tokens[measured], spread[measured])
        at_full = np.interp(full, tokens[measured], spread[measured])
        ratio = at_alike / np.minimum(spread, at_full)
        latency_us[i, 0] = spread * np.minimum(ratio, 1.0)
    return balanced.with_latency(np.maximum.accumulate(latency_us, axis=2))


def _rows(context: Context, dtype: str, distribution: str) -> tuple[str, pd.DataFrame] | None:
    """Return path and rows of the newest vLLM table without expert parallelism."""
    import pandas as pd

    parts, path = [], ""
    for moe_dtype in _DTYPES[dtype]:
        found = context.first(
            "moe",
            "moe_perf.parquet",
            ("vllm",),
            moe_dtype=moe_dtype,
            moe_ep_size=1,
            distribution=distribution,
        )
        if found is not None:
            path = found[0].path
            parts.append(found[1])
    if not parts:
        return None
    frame = pd.concat(parts)
    return path, frame.assign(width=frame["inter_size"] // frame["moe_tp_size"])


def _slower_than_bf16(context: Context, raw: Grid, distribution: str) -> list[tuple[int, ...]]:
    """Return the shapes whose latencies at few tokens are above those of bf16 in the median."""
    reference = _rows(context, "bf16", distribution)
    if reference is None:
        return []
    bf16 = grid_from_frame(reference[1], _SHAPE, "num_tokens")
    slower = []
    for i, shape in enumerate(raw.shapes):
        if shape not in bf16.shapes:
            continue
        other = bf16.latency_us[bf16.shapes.index(shape), 0]
        tokens = np.intersect1d(raw.columns, bf16.columns)
        tokens = tokens[tokens <= _FEW_TOKENS]
        ratio = raw.latency_us[i, 0, np.isin(raw.columns, tokens)]
        ratio = ratio / other[np.isin(bf16.columns, tokens)]
        if np.nanmedian(ratio) > 1:
            slower.append(shape)
    return slower


def import_moe(context: Context, dtype: str) -> TableReport | None:
    """Write ``moe/<E>-<top k>-<d>-<F>/moe_<dtype>.csv``."""
    distribution = "balanced"
    found = _rows(context, dtype, distribution)
    if found is None:
        distribution = "power_law_1.01"
        found = _rows(context, dtype, distribution)
    if found is None:
        return None
    path, frame = found
    raw = grid_from_frame(frame, _SHAPE, "num_tokens")
    needed = context.needs.moe_mxfp4 if dtype == "mxfp4" else context.needs.moe
    raw = raw.select_shapes([shape for shape in raw.shapes if shape in needed])
    slower = [] if dtype == "bf16" else _slower_than_bf16(context, raw, distribution)
    raw = raw.select_shapes([shape for shape in raw.shapes if shape not in slower])
    # From one point nothing is known of the others: another shape's efficiency says more.
    num_points = (~np.isnan(raw.latency_us)).sum(axis=(1, 2))
    single = [shape for shape, n in zip(raw.shapes, num_points, strict=True) if n < _FEWEST_POINTS]
    raw = raw.select_shapes([shape for shape in raw.shapes if shape not in single])
    if not raw.shapes:
        return None
    done = context.finish(
        raw,
        moe_work(dtype),
        dtype,
        prepare=uniform_routing if distribution == "balanced" else None,
    )
    for i, shape in enumerate(done.grid.shapes):
        rows = [point[1:] for point in measured_points(done.grid, i, None)]
        folder = context.out / "moe" / "-".join(map(str, shape))
        write_csv(folder / f"moe_{dtype}.csv", ("num_tokens", "latency_us"), rows)
    remarks = [_DISTRIBUTION_REMARKS[distribution]]
    missing = [shape for shape in sorted(needed) if shape not in raw.shapes + slower + single]
    for what, shapes in (
        ("not measured", missing),
        ("left out, measured at one point only", single),
        ("left out, slower than bf16", slower),
    ):
        if shapes:
            names = ", ".join("-".join(map(str, shape)) for shape in shapes)
            remarks.append(f"shapes of bundled models {what}: {names}")
    return done.report(f"moe/*/moe_{dtype}.csv", path, kernel_names(frame), remarks)


_DISTRIBUTION_REMARKS = {
    "balanced": "measured with tokens spread evenly over the experts, converted to uniformly "
    "random routing (see ../README.md)",
    "power_law_1.01": "tokens fall on experts by the power law 1.01, the mildest measured",
}
