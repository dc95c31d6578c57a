"""From a kernel asked for to the measured kernels that answer for it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from blis_sim.errors import CatalogError
from blis_sim.latency.kernel_tables.lines import Cells, Surface, blend, carry, make_cells
from blis_sim.latency.kernel_tables.source import measured_roof

if TYPE_CHECKING:
    from blis_sim.latency.kernel_tables.layout import TableFile
    from blis_sim.latency.kernel_tables.roofs import Roof
    from blis_sim.latency.kernel_tables.source import Source

_DIAGONAL = 1 - 1e-9
"""Shapes on a diagonal are on both sides, whatever the rounding of their logarithms."""


class Match(NamedTuple):
    """The table that answers for a kernel."""

    source: Source
    file: TableFile
    shape: tuple[int, ...]
    """The measured shape."""


class Share(NamedTuple):
    """A measured shape with its share in a time."""

    shape: tuple[int, ...]
    weight: float
    """Of all shapes together 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What one measured kernel says about the kernel asked for.

    Attributes
    ----------
    match : Match
        Table and measured shape.
    weight : float
        Its share in the time, in (0, 1].
    cells : Cells
        Its points, monotone and complete.
    measured_roof : Roof
        Bound of the measured kernel.
    surface : Surface
        Times of the kernel asked for if it is as efficient as this one.
    """

    match: Match
    weight: float
    cells: Cells
    measured_roof: Roof
    surface: Surface


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Times of a kernel, and what they rest on.

    Attributes
    ----------
    parts : tuple of Part
        The measured kernels, the one with the greatest share first.
    roof : Roof
        Bound of the kernel asked for.
    surface : Surface
        Times of the kernel asked for.
    """

    parts: tuple[Part, ...]
    roof: Roof
    surface: Surface

    @property
    def match(self) -> Match:
        """Table and shape of the greatest share."""
        return self.parts[0].match


def log_distance(shape: Sequence[int], other: Sequence[int]) -> float:
    """Return the Euclidean distance of two shapes in the logarithms of their numbers."""
    return math.dist([math.log(a) for a in shape], [math.log(b) for b in other])


def nearest_shape(wanted: tuple[int, ...], shapes: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the shape at the least log distance; of equally near ones the smallest."""
    return min(shapes, key=lambda shape: (log_distance(wanted, shape), shape))


def shares_around(wanted: tuple[int, ...], shapes: Collection[tuple[int, ...]]) -> list[Share]:
    """Return the measured shapes around a shape, with weights.

    The nearest one on each side: with more k, less k, more n, less n. Each counts by the
    inverse square of its log distance, so that the weights go to 1 and 0 where a shape was
    measured. A measured shape is its own answer.

    Parameters
    ----------
    wanted : tuple of int
        The shape asked for.
    shapes : collection of tuple of int
        The measured ones, at least one.

    Returns
    -------
    list of Share
        The greatest first, at most two for each number of the shape.

    Notes
    -----
    ``scripts/leave_one_out.py`` measures how well this and the nearest shape alone predict
    measured shapes that were left out.
    """
    if wanted in shapes:
        return [Share(wanted, 1.0)]
    nearest: dict[tuple[int, bool], tuple[float, tuple[int, ...]]] = {}
    for shape in shapes:
        steps = [math.log(b / a) for a, b in zip(wanted, shape, strict=True)]
        found = (math.hypot(*steps), shape)
        longest = max(map(abs, steps)) * _DIAGONAL
        for axis, step in enumerate(steps):
            side = (axis, step > 0)
            if abs(step) >= longest and (side not in nearest or found < nearest[side]):
                nearest[side] = found
    chosen = sorted(set(nearest.values()))
    total = sum(distance**-2 for distance, _ in chosen)
    return [Share(shape, distance**-2 / total) for distance, shape in chosen]


def find_match(
    sources: Iterable[Source],
    operation: str,
    wanted: tuple[int, ...],
    formats: Sequence[tuple[str, str]],
) -> Match:
    """Return the measured kernel that answers for a kernel; of a GEMM the table alone.

    The first source that has the operation answers. There the formats count before the
    shape: a kernel of another shape in the same format is the same code. A table of GEMMs has
    many shapes, and ``shares_around`` chooses among them.

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
                return Match(source, fitting[0], wanted)
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
    return blended_fit(match, [Share(match.shape, 1.0)], roof)


def blended_fit(match: Match, shares: Iterable[Share], roof: Roof) -> Fit:
    """Return the times of a kernel from those that several shapes of one table imply.

    Each shape says how long the kernel takes at its efficiency, which is monotone and not
    below the bound; so is their mean.
    """
    parts = tuple(_part(match._replace(shape=shape), weight, roof) for shape, weight in shares)
    surface = blend([(part.surface, part.weight) for part in parts])
    return Fit(parts, roof, surface)


def _part(match: Match, weight: float, roof: Roof) -> Part:
    series = match.source.series(match.file)[match.shape]
    its_roof = measured_roof(match.source.gpu, match.file, match.shape)
    floor = match.source.floor(match.file, match.shape)
    cells = make_cells(series.batch, series.x, series.us, floor)
    return Part(match, weight, cells, its_roof, carry(cells, its_roof, roof))
