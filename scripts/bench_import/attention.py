"""Attention tables: prefill and decode of ordinary heads, and of latent attention (MLA)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .cold import ColdStats, from_memory
from .context import Context, TableReport, kernel_names
from .grid import Floats, Grid, grid_from_frame
from .kernels import (
    MLA_LATENT,
    MLA_ROPE,
    decode_work,
    dtype_bytes,
    mla_decode_work,
    mla_prefill_work,
    prefill_work,
)
from .needs import nearest_heads
from .write import measured_points, write_csv

_KV_DTYPES = {"bf16": "bfloat16", "fp8": "fp8"}
_HEADS = ("num_heads", "num_key_value_heads", "head_dim")


def _file(kind: str, kv_dtype: str) -> str:
    of_kv = "" if kv_dtype == "bf16" else f"_kv{kv_dtype}"
    return f"{kind}_bf16{of_kv}{'_tp1' if kind == 'mha_decode' else ''}.csv"


def _wanted_heads(context: Context, measured: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Return the measured shapes the bundled models need, or nearest to those they need."""
    nearest = {nearest_heads(shape, measured) for shape in context.needs.heads}
    return sorted(shape for shape in nearest if shape is not None)


def import_prefill(context: Context, kv_dtype: str) -> TableReport | None:
    """Write ``mha_prefill/<H>-<K>-<h>/mha_prefill_bf16[_kvfp8].csv``."""
    found = context.first(
        "attention",
        "context_attention_perf.parquet",
        ("vllm",),
        kv_cache_dtype=_KV_DTYPES[kv_dtype],
        attn_dtype="bfloat16",
        window_size=0,
        step=0,
    )
    if found is None:
        return None
    table, frame = found
    raw = grid_from_frame(frame, _HEADS, "isl", "batch_size")
    raw = raw.select_shapes(_wanted_heads(context, raw.shapes))
    done = context.finish(raw, prefill_work(dtype_bytes(kv_dtype)), "bf16")
    file = _file("mha_prefill", kv_dtype)
    for i, shape in enumerate(done.grid.shapes):
        path = context.out / "mha_prefill" / "-".join(map(str, shape)) / file
        rows = measured_points(done.grid, i, done.mfu, columns_first=True)
        write_csv(path, ("seq_len", "batch", "latency_us", "mfu"), rows)
    return done.report(f"mha_prefill/*/{file}", table.path, kernel_names(frame))


@dataclass(frozen=True, slots=True)
class EqualWork:
    """Decode tables computed from shapes with as many query heads per KV head.

    The kernels split decode attention by request and KV head, so that b requests of K heads are
    the same work as b K / K' requests of K' heads.
    """

    shapes: dict[tuple[int, ...], tuple[int, ...]]
    """Shape computed, and the measured shape it comes from."""

    @classmethod
    def of(cls, needed: set[tuple[int, ...]], measured: list[tuple[int, ...]]) -> EqualWork:
        shapes = {}
        for heads, kv_heads, h in sorted(needed - set(measured)):
            # From fewer KV heads only: more of them would leave the small batches without value.
            alike = [
                s
                for s in measured
                if s[2] == h and s[1] < kv_heads and s[0] * kv_heads == heads * s[1]
            ]
            if alike:
                shapes[heads, kv_heads, h] = max(alike, key=lambda s: (s[1], s))
        return cls(shapes)

    def remarks(self, full: Grid) -> list[str]:
        """Say what is computed and how well the rule does on shapes measured both ways."""
        if not self.shapes:
            return []
        error = equal_work_error(full)
        pairs = ", ".join(f"{_name(new)} from {_name(old)}" for new, old in self.shapes.items())
        return [
            "not measured but computed from equal work (error of that rule where it can be "
            f"checked: {error}): {pairs}"
        ]

    def added_to(self, grid: Grid, full: Grid) -> Grid:
        """Return ``grid`` with the computed shapes, from the measured ones in ``full``."""
        index = {shape: i for i, shape in enumerate(full.shapes)}
        more = [
            _at_rows(full, index[source], full.rows * shape[1] / source[1])
            for shape, source in self.shapes.items()
        ]
        latency_us = np.concatenate([grid.latency_us, np.array(more)]) if more else grid.latency_us
        together = Grid([*grid.shapes, *self.shapes], grid.rows, grid.columns, latency_us)
        return together.select_shapes(sorted(together.shapes))


def _at_rows(grid: Grid, index: int, rows: Floats) -> Floats:
    """Interpolate one surface linearly at other rows; NaN outside and beside holes."""
    surface = grid.latency_us[index]
    right = np.clip(np.searchsorted(grid.rows, rows), 1, len(grid.rows) - 1)
    low, high = grid.rows[right - 1], grid.rows[right]
    weight = ((rows - low) / (high - low))[:, None]
    between = surface[right - 1] * (1 - weight) + surface[right] * weight
    between = np.where(weight == 0, surface[right - 1], between)
    between = np.where(weight == 1, surface[right], between)
    outside = (rows < grid.rows[0]) | (rows > grid.rows[-1])
    return np.where(outside[:, None], np.nan, between)


def equal_work_error(full: Grid) -> str:
    """Return median and p95 error of the rule on shapes that are measured both ways, as text."""
    errors = []
    for i, (heads, kv_heads, h) in enumerate(full.shapes):
        source = (heads * 4, kv_heads * 4, h)
        if source in full.shapes:
            other = full.shapes.index(source)
            predicted = _at_rows(full, i, full.rows * 4)
            errors.append(np.abs(predicted / full.latency_us[other] - 1).ravel())
    error = np.concatenate(errors) if errors else np.array([])
    error = error[~np.isnan(error)]
    if not len(error):
        return "no such pair"
    return f"median {np.median(error):.1%}, p95 {np.quantile(error, 0.95):.1%}"


def import_decode(context: Context, kv_dtype: str) -> TableReport | None:
    """Write ``mha_decode/<H>-<K>-<h>/mha_decode_bf16[_kvfp8]_tp1.csv``.

    A row measures step ``step`` after ``isl`` tokens: ``isl + step`` tokens are attended to.
    """
    found = context.first(
        "attention",
        "generation_attention_perf.parquet",
        ("vllm",),
        kv_cache_dtype=_KV_DTYPES[kv_dtype],
        attn_dtype="bfloat16",
        window_size=0,
    )
    if found is None:
        return None
    table, frame = found
    raw = grid_from_frame(
        frame.assign(kv_len=frame["isl"] + frame["step"]), _HEADS, "kv_len", "batch_size"
    )
    widths = {h for _, _, h in context.needs.heads}
    raw = raw.select_shapes([shape for shape in raw.shapes if shape[2] in widths])
    rule = EqualWork.of(context.needs.heads, raw.shapes)
    measured = _wanted_heads(context, raw.shapes)
    work_of = decode_work(dtype_bytes(kv_dtype))
    remarks: list[str] = []

    def prepare(cleaned: Grid) -> Grid:
        cold, stats = from_memory(cleaned, work_of, context.l2_bytes)
        remarks.append(_cold_remark(stats))
        remarks.extend(rule.remarks(cold))
        return rule.added_to(cold.select_shapes(measured), cold)

    done = context.finish(raw, work_of, "bf16", prepare=prepare)
    file = _file("mha_decode", kv_dtype)
    for i, shape in enumerate(done.grid.shapes):
        path = context.out / "mha_decode" / "-".join(map(str, shape)) / file
        write_csv(
            path,
            ("batch", "kv_len", "latency_us", "mfu"),
            measured_points(done.grid, i, done.mfu),
        )
    return done.report(f"mha_decode/*/{file}", table.path, kernel_names(frame), remarks)


def _cold_remark(stats: ColdStats) -> str:
    return (
        f"{stats.raised_frac:.0%} of the points were raised, by {stats.median_change:.0%} in the "
        "median, because the benchmark had read their KV cache from L2 (see ../README.md)"
    )


def _name(shape: tuple[int, ...]) -> str:
    return "-".join(map(str, shape))


def import_mla(context: Context, kv_dtype: str, *, is_decode: bool) -> TableReport | None:
    """Write ``mla_prefill`` and ``mla_decode`` tables: the attention kernel, no projections."""
    phase = "generation" if is_decode else "context"
    found = context.first(
        "mla",
        f"{phase}_mla_perf.parquet",
        ("trtllm", "sglang"),
        kv_cache_dtype=_KV_DTYPES[kv_dtype],
        mla_dtype="bfloat16",
    )
    if found is None:
        return None
    table, frame = found
    column = "kv_len" if is_decode else "seq_len"
    length = frame["isl"] + frame["step"] if is_decode else frame["isl"]
    raw = grid_from_frame(frame.assign(**{column: length}), ("num_heads",), column, "batch_size")
    raw = raw.select_shapes([(heads,) for heads in sorted(context.needs.mla_heads)])
    work_of = (mla_decode_work if is_decode else mla_prefill_work)(dtype_bytes(kv_dtype))
    remarks: list[str] = []

    def prepare(cleaned: Grid) -> Grid:
        cold, stats = from_memory(cleaned, work_of, context.l2_bytes)
        remarks.append(_cold_remark(stats))
        return cold

    done = context.finish(raw, work_of, "bf16", prepare=prepare if is_decode else None)
    kind = "mla_decode" if is_decode else "mla_prefill"
    header = ("batch", "kv_len") if is_decode else ("seq_len", "batch")
    for i, (heads,) in enumerate(done.grid.shapes):
        folder = context.out / kind / f"{heads}-{MLA_LATENT}-{MLA_ROPE}"
        rows = measured_points(done.grid, i, done.mfu, columns_first=not is_decode)
        write_csv(folder / _file(kind, kv_dtype), (*header, "latency_us", "mfu"), rows)
    return done.report(
        f"{kind}/*/{_file(kind, kv_dtype)}", table.path, kernel_names(frame), remarks
    )
