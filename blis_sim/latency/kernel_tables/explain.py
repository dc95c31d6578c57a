"""What a looked-up time rests on: file, measured points, and what was carried over."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from blis_sim.catalog.locate import shown_path
from blis_sim.latency.kernel_tables.arrays import FloatArray, floats
from blis_sim.latency.kernel_tables.attention import chunk_memory_us, twice_attended
from blis_sim.latency.kernel_tables.shapes import (
    ExpandedShape,
    ExpertsShape,
    Formats,
    HeadShape,
    LatentShape,
    WeightFormat,
    causal_roof,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blis_sim.latency.kernel_tables.fit import Fit, Part
    from blis_sim.latency.kernel_tables.tables import KernelTables

INSIDE = "interpolated"
ON_POINT = "measured point"
BEYOND = "extrapolated at the efficiency of the largest"
BELOW = "extrapolated at the efficiency of the smallest"


class UsedShape(NamedTuple):
    """A measured shape that a time rests on."""

    shape: tuple[int, ...]
    weight: float
    """Its share in the time; all shares add up to 1."""


class UsedPoint(NamedTuple):
    """A cell of the measured grid that a time rests on."""

    shape: tuple[int, ...]
    batch: int
    size: int
    """Rows, context, prompt length, tokens or bytes."""
    measured_us: float
    """As in the file, after making it monotone; NaN where it was not measured and filled in."""
    us: float
    """What the kernel asked for would take there."""
    weight: float
    """Inside the grid the time asked for is the sum of weight times ``us``, and
    ``context_us``, or the bound."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A looked-up time and where it comes from.

    Attributes
    ----------
    operation : str
        gemm, prefill, decode, moe, allreduce, or the mla_ variants.
    request : dict
        Sizes and formats asked for.
    gpu : str
        Where the kernel runs.
    us, bound_us : float
        Time, and the least it could be: ``max(FLOPs / peak, bytes / bandwidth)``; of an
        all-reduce the time of a ring on the links.
    limited_by : str
        compute, memory or link.
    file, measured_on, table_format : str
        Table, GPU and format that answered.
    shapes : tuple of UsedShape
        Measured shapes that answered, the greatest share first.
    is_same_kernel : bool
        Whether shape, format and GPU are those asked for; if not, the efficiency over the
        kernel's own bound is carried over.
    how : str
        Where in the measured grids the request lies; outside one is outside.
    points : tuple of UsedPoint
        The cells used.
    is_at_bound : bool
        Whether the bound decided, because measurement or carried efficiency were faster.
    context_us : float
        Of attention in tiles: what passing the context adds to the points, at the rate of the
        largest measured prompts and with the SMs the last tiles leave idle; else 0.
    """

    operation: str
    request: dict[str, int | str]
    gpu: str
    us: float
    bound_us: float
    limited_by: str
    file: str
    measured_on: str
    table_format: str
    shapes: tuple[UsedShape, ...]
    is_same_kernel: bool
    how: str
    points: tuple[UsedPoint, ...]
    is_at_bound: bool
    context_us: float = 0.0

    @property
    def efficiency(self) -> float:
        """Bound over time."""
        return self.bound_us / self.us


class _Asked(NamedTuple):
    operation: str
    request: dict[str, int | str]
    batch: int
    x: float
    us: float
    bound_us: float
    limited_by: str


def explain_gemm(
    tables: KernelTables, m: int, k: int, n: int, weights: WeightFormat | str = "bf16"
) -> Explanation:
    """Return what ``KernelTables.gemm_us`` rests on."""
    known = WeightFormat(weights) if isinstance(weights, str) else weights
    us = float(tables.gemm_us(floats(m), k, n, known))
    fit = tables.gemm_fit(k, n, known)
    request: dict[str, int | str] = {"m": m, "k": k, "n": n, "dtype": known.dtype}
    return _explained(tables, fit, _asked("gemm", request, fit, m, us))


def explain_decode(
    tables: KernelTables,
    shape: HeadShape | LatentShape,
    batch: int,
    kv_len: int,
    formats: Formats | None = None,
) -> Explanation:
    """Return what ``KernelTables.decode_attention_us`` rests on."""
    formats = Formats() if formats is None else formats
    us = float(tables.decode_attention_us(shape, batch, floats(kv_len), formats))
    fit = tables.decode_fit(shape, formats)
    request = _attention_request(shape, formats) | {"batch": batch, "kv_len": kv_len}
    return _explained(
        tables, fit, _asked(fit.match.file.operation, request, fit, kv_len, us, batch)
    )


def explain_prefill(
    tables: KernelTables,
    shape: HeadShape | ExpandedShape,
    context: int,
    new: int,
    formats: Formats | None = None,
    *,
    window: int | None = None,
) -> Explanation:
    """Return what ``KernelTables.prefill_attention_us`` rests on, for one chunk."""
    formats = Formats() if formats is None else formats
    us = float(
        tables.prefill_attention_us(
            shape, floats(context), floats(new), window=window, formats=formats
        )
    )
    fit = tables.prefill_fit(shape, formats)
    end, start = floats(context + new), floats(context)
    area = float(twice_attended(end, window) - twice_attended(start, window))
    kept = start if window is None else floats(min(context, window))
    memory_us = float(chunk_memory_us(tables.gpu, shape, formats, kept, floats(new)))
    compute_us = causal_roof(tables.gpu, shape, formats).compute_us * area
    request = _attention_request(shape, formats) | {"context": context, "new": new}
    if window is not None:
        request["window"] = window
    tiles = tables.tiles(shape, formats)
    explained = _explained(
        tables,
        fit,
        _Asked(
            fit.match.file.operation,
            request,
            1,
            float(twice_attended(floats(new), window)) if tiles else area,
            us,
            max(compute_us, memory_us),
            "compute" if compute_us >= memory_us else "memory",
        ),
    )
    if tiles is None:
        return explained
    return replace(explained, context_us=tiles.context_us(context, new, window))


def explain_moe(
    tables: KernelTables, tokens: int, shape: ExpertsShape, weights: WeightFormat | str = "bf16"
) -> Explanation:
    """Return what ``KernelTables.moe_us`` rests on, for gated experts."""
    known = WeightFormat(weights) if isinstance(weights, str) else weights
    us = float(tables.moe_us(floats(tokens), shape, known))
    fit = tables.moe_fit(shape, known)
    request: dict[str, int | str] = {"tokens": tokens, **shape._asdict(), "dtype": known.dtype}
    return _explained(tables, fit, _asked("moe", request, fit, tokens, us))


def explain_allreduce(tables: KernelTables, num_bytes: int, tp: int) -> Explanation:
    """Return what ``KernelTables.allreduce_us`` rests on; ``tp`` >= 2."""
    us = float(tables.allreduce_us(floats(num_bytes), tp))
    fit = tables.allreduce_fit(tp)
    asked = _asked("allreduce", {"bytes": num_bytes, "tp": tp}, fit, num_bytes, us)
    return _explained(tables, fit, asked._replace(limited_by="link"))


def _asked(
    operation: str, request: dict[str, int | str], fit: Fit, x: int, us: float, batch: int = 1
) -> _Asked:
    bound_us = batch * float(fit.roof.us(floats(x)))
    limited_by = "compute" if fit.roof.is_compute_bound(x) else "memory"
    return _Asked(operation, request, batch, x, us, bound_us, limited_by)


def _attention_request(
    shape: HeadShape | LatentShape | ExpandedShape, formats: Formats
) -> dict[str, int | str]:
    return {**shape._asdict(), **formats._asdict()}


def _explained(tables: KernelTables, fit: Fit, asked: _Asked) -> Explanation:
    match = fit.match
    hows = {_how(part.cells.batch, asked.batch, part.cells.x, asked.x) for part in fit.parts}
    return Explanation(
        operation=asked.operation,
        request=asked.request,
        gpu=tables.gpu.name,
        us=asked.us,
        bound_us=asked.bound_us,
        limited_by=asked.limited_by,
        file=shown_path(match.file.path),
        measured_on=match.source.gpu.name,
        table_format=_format(match.file.dtype, match.file.kv_dtype),
        shapes=tuple(UsedShape(part.match.shape, part.weight) for part in fit.parts),
        is_same_kernel=_is_same_kernel(fit),
        how=next(how for how in (BEYOND, BELOW, INSIDE, ON_POINT) if how in hows),
        points=tuple(point for part in fit.parts for point in _points(part, asked)),
        is_at_bound=bool(np.isclose(asked.us, asked.bound_us, rtol=1e-9)),
    )


def _is_same_kernel(fit: Fit) -> bool:
    part = fit.parts[0]
    x = part.cells.x
    return len(fit.parts) == 1 and np.array_equal(fit.roof.us(x), part.measured_roof.us(x))


def _points(part: Part, asked: _Asked) -> Iterator[UsedPoint]:
    cells = part.cells
    for row, row_weight in _weights(cells.batch, asked.batch):
        batch = float(cells.batch[row])
        for column, column_weight in _weights(cells.x, asked.x):
            x = float(cells.x[column])
            is_measured = bool(cells.is_measured[row, column])
            yield UsedPoint(
                part.match.shape,
                int(batch),
                _size(asked.operation, x),
                float(cells.us[row, column]) if is_measured else float("nan"),
                float(part.surface.line(batch).at(floats(x))),
                part.weight * row_weight * column_weight,
            )


def _weights(knots: FloatArray, at: float) -> list[tuple[int, float]]:
    """Return the knots next to a place with their weights; the last or first outside."""
    right = int(np.searchsorted(knots, at))
    if right == len(knots):
        return [(right - 1, 1.0)]
    if right == 0 or knots[right] == at:
        return [(right, 1.0)]
    weight = float((at - knots[right - 1]) / (knots[right] - knots[right - 1]))
    return [(right - 1, 1 - weight), (right, weight)]


def _how(batches: FloatArray, batch: float, sizes: FloatArray, size: float) -> str:
    if batch > batches[-1] or size > sizes[-1]:
        return BEYOND
    if batch < batches[0] or size < sizes[0]:
        return BELOW
    return ON_POINT if batch in batches and size in sizes else INSIDE


def _size(operation: str, x: float) -> int:
    return round(x**0.5) if operation.endswith("prefill") else round(x)


def _format(dtype: str, kv_dtype: str) -> str:
    return dtype if kv_dtype == dtype else f"{dtype}, KV {kv_dtype}"
