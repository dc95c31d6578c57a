"""From a kernel asked for to the measured kernel that answers for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from blis_sim.errors import CatalogError
from blis_sim.latency.kernel_tables.lines import Cells, Surface, carry, make_cells
from blis_sim.latency.kernel_tables.source import measured_roof

if TYPE_CHECKING:
    from blis_sim.latency.kernel_tables.layout import TableFile
    from blis_sim.latency.kernel_tables.roofs import Roof
    from blis_sim.latency.kernel_tables.source import Series, Source


class Match(NamedTuple):
    """The table that answers for a kernel."""

    source: Source
    file: TableFile
    shape: tuple[int, ...]
    """The measured shape."""


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Times of a kernel, and what they rest on.

    Attributes
    ----------
    match : Match
        Table and measured shape.
    series : Series
        Its points as measured.
    cells : Cells
        The same, monotone and complete.
    measured_roof, roof : Roof
        Bounds of the kernel measured and of the kernel asked for.
    surface : Surface
        Times of the kernel asked for.
    """

    match: Match
    series: Series
    cells: Cells
    measured_roof: Roof
    roof: Roof
    surface: Surface


def log_distance(shape: Sequence[int], other: Sequence[int]) -> float:
    """Return the Euclidean distance of two shapes in the logarithms of their numbers."""
    return math.dist([math.log(a) for a in shape], [math.log(b) for b in other])


def nearest_shape(wanted: tuple[int, ...], shapes: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the shape at the least log distance; of equally near ones the smallest."""
    return min(shapes, key=lambda shape: (log_distance(wanted, shape), shape))


def find_match(
    sources: Iterable[Source],
    operation: str,
    wanted: tuple[int, ...],
    formats: Sequence[tuple[str, str]],
) -> Match:
    """Return the measured kernel that answers for a kernel.

    The first source that has the operation answers. There the formats count before the
    shape: a kernel of another shape in the same format is the same code.

    Parameters
    ----------
    sources : iterable of Source
        In order of preference.
    operation : str
        One of ``layout.operations()``.
    wanted : tuple of int
        Shape of the kernel; (k, n) of a GEMM.
    formats : sequence of (dtype, kv_dtype)
        That will do, the best first.

    Raises
    ------
    CatalogError
        No source has the operation in any of the formats.
    """
    for source in sources:
        files = source.files(operation)
        for dtype, kv_dtype in formats:
            fitting = [f for f in files if f.dtype == dtype and f.kv_dtype == kv_dtype]
            if not fitting:
                continue
            if operation == "gemm":
                file = fitting[0]
                return Match(source, file, nearest_shape(wanted, source.series(file)))
            shape = nearest_shape(wanted, [file.shape for file in fitting])
            file = next(file for file in fitting if file.shape == shape)
            return Match(source, file, shape)
    names = " or ".join(dict.fromkeys(dtype for dtype, _ in formats))
    where = ", ".join(str(source.folder.path) for source in sources)
    raise CatalogError(
        f"bench_data must hold a table of {operation} in {names}; got none in {where}"
    )


def make_fit(match: Match, roof: Roof) -> Fit:
    """Return the times of a kernel with the bound ``roof``, as efficient as its match."""
    series = match.source.series(match.file)[match.shape]
    its_roof = measured_roof(match.source.gpu, match.file, match.shape)
    floor = match.source.floor(match.file, match.shape)
    cells = make_cells(series.batch, series.x, series.us, floor)
    return Fit(match, series, cells, its_roof, roof, carry(cells, its_roof, roof))
