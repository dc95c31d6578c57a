"""The points of every table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from .points import (
    AllReducePoint,
    CopyPoint,
    DecodePoint,
    GemmPoint,
    Point,
    PrefillPoint,
    Table,
)
from .shapes import Shapes

OPERATIONS = ("copy", "decode", "prefill", "gemm")
"""In the order they are measured: the short ones first."""

FP8_MULTIPLE = 16
"""fp8 products of PyTorch need k and n in multiples of this."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Values along the axes. Batches end where their tokens together exceed the limits."""

    m: Sequence[int]
    seq_len: Sequence[int]
    prefill_batch: Sequence[int]
    max_prefill_tokens: int
    decode_batch: Sequence[int]
    kv_len: Sequence[int]
    max_kv_tokens: int
    copy_bytes: Sequence[int]


# Prompts: their work grows with the square, so the lengths lie closer than powers of two.
FULL = Grid(
    m=(1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072,
       4096, 8192, 16384),
    seq_len=(1, 16, 32, 64, 128, 256, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288,
             16384, 32768),
    prefill_batch=(1, 2, 4, 8),
    max_prefill_tokens=32768,
    decode_batch=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
    kv_len=(1, 32, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072),
    max_kv_tokens=524288,
    copy_bytes=tuple(2**i for i in range(12, 33)),
)  # fmt: skip
QUICK = Grid(
    m=(1, 8, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192),
    seq_len=(128, 512, 1024, 2048, 4096, 8192, 16384),
    prefill_batch=(1,),
    max_prefill_tokens=16384,
    decode_batch=(1, 8, 32, 128, 256),
    kv_len=(32, 512, 1024, 4096, 16384, 65536),
    max_kv_tokens=262144,
    copy_bytes=tuple(2**i for i in range(12, 33, 2)),
)
ALL_REDUCE_BYTES = tuple(2**i for i in range(10, 31))


@dataclass(frozen=True, slots=True)
class TablePlan:
    table: Table
    points: tuple[Point, ...]


def plan_tables(
    shapes: Shapes, operations: Iterable[str], dtypes: Sequence[str], grid: Grid
) -> list[TablePlan]:
    """Return every table with its points, in the order they are measured.

    Attention and the copy kernel are measured in the first 16-bit type of ``dtypes``.
    """
    wanted = set(operations)
    half = next((dtype for dtype in dtypes if dtype != "fp8"), None)
    points: list[Point] = []
    if half is not None and "copy" in wanted:
        points += [CopyPoint(size, half) for size in grid.copy_bytes]
    if half is not None and "decode" in wanted:
        points += _decode(shapes, half, grid)
    if half is not None and "prefill" in wanted:
        points += _prefill(shapes, half, grid)
    if "gemm" in wanted:
        for dtype in dtypes:
            points += _gemm(shapes, dtype, grid)
    return [TablePlan(table, tuple(rows)) for table, rows in groupby(points, lambda p: p.table)]


def plan_all_reduce(tp: int, dtype: str) -> TablePlan:
    points = tuple(AllReducePoint(size, tp, dtype) for size in ALL_REDUCE_BYTES)
    return TablePlan(points[0].table, points)


def _gemm(shapes: Shapes, dtype: str, grid: Grid) -> Iterator[Point]:
    """Yield shape by shape, so that a run cut short leaves whole shapes."""
    if dtype == "fp8":
        chosen = {s for s in shapes.quantised if not (s[0] % FP8_MULTIPLE or s[1] % FP8_MULTIPLE)}
    else:
        chosen = shapes.gemm
    for k, n in sorted(chosen, key=lambda shape: (shape[1], shape[0])):
        for m in grid.m:
            yield GemmPoint(dtype, m, k, n)


def _prefill(shapes: Shapes, dtype: str, grid: Grid) -> Iterator[Point]:
    for heads in sorted(shapes.heads):
        for seq_len in grid.seq_len:
            for batch in grid.prefill_batch:
                if batch == 1 or batch * seq_len <= grid.max_prefill_tokens:
                    yield PrefillPoint(heads, dtype, seq_len, batch)


def _decode(shapes: Shapes, dtype: str, grid: Grid) -> Iterator[Point]:
    for heads in sorted(shapes.heads):
        for batch in grid.decode_batch:
            for kv_len in grid.kv_len:
                if batch * kv_len <= grid.max_kv_tokens:
                    yield DecodePoint(heads, dtype, batch, kv_len)
