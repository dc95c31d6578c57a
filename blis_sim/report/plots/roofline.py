"""Roofs of machines on logarithmic axes, with work below them.

:func:`roofline_plot` works out what is shown, :func:`draw_roofline` draws it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from blis_sim.report.number_words import counted
from blis_sim.roofline.analysis import PhaseAnalysis
from blis_sim.roofline.ceilings import Bandwidth, Ceilings, Peak
from blis_sim.roofline.points import MeasuredPoint

X_TITLE, Y_TITLE = "operational intensity (FLOP/byte)", "performance (TFLOP/s)"
MEASURED, KERNELS = "measured", "kernels of"
_LEAST_X = 0.1
_BEYOND = 4.0
"""How far the axes go beyond what they show."""


class RoofKind(StrEnum):
    """What a line is."""

    ROOF = "roof"
    """The default peak and the memory: what is attainable."""
    BANDWIDTH = "bandwidth"
    """A level of the memory hierarchy, up to the default peak."""
    PEAK = "peak"
    """Another peak, from where the memory reaches it."""


@dataclass(frozen=True, slots=True)
class RoofLine:
    """A ceiling.

    Attributes
    ----------
    name : str
        With its figure.
    machine : int
        Number of the machine, from 0.
    kind : RoofKind
    xs, ys : tuple of float
        Corners, FLOP/byte and TFLOP/s; an open end goes on to the edge of the plot.
    """

    name: str
    machine: int
    kind: RoofKind
    xs: tuple[float, ...]
    ys: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """A point.

    Attributes
    ----------
    name : str
        What it is.
    group : str
        Marks of one group look the same.
    x, y : float
        FLOP/byte and TFLOP/s, > 0.
    weight : float
        Share of the time of its group, 0 to 1: the size of the mark.
    machine : int or None
        Number of the machine whose colour it has when there are several; None = none of them.
    """

    name: str
    group: str
    x: float
    y: float
    weight: float = 0.0
    machine: int | None = None


@dataclass(frozen=True, slots=True)
class RooflinePlot:
    """What the figure shows.

    Attributes
    ----------
    lines : tuple of RoofLine
    marks : tuple of Mark
    x_range, y_range : tuple of float
        Edges of the axes.
    note : str
        What is not drawn; empty = nothing.
    """

    lines: tuple[RoofLine, ...]
    marks: tuple[Mark, ...]
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    note: str = ""

    @property
    def groups(self) -> list[str]:
        """Groups of marks, in their order."""
        return list(dict.fromkeys(mark.group for mark in self.marks))

    @property
    def ridges(self) -> list[tuple[str, float, float]]:
        """Name and place of the corner of each machine's roof."""
        roofs = [line for line in self.lines if line.kind is RoofKind.ROOF]
        return [(f"ridge {line.xs[1]:.0f}", line.xs[1], line.ys[1]) for line in roofs]

    def colour_of(self, group: str) -> int:
        """Return the number of the style of a group: its machine's where there are several."""
        machines = {line.machine for line in self.lines}
        own = next(mark.machine for mark in self.marks if mark.group == group)
        if own is not None and len(machines) > 1:
            return own
        return len(self.lines) + self.groups.index(group)

    def shape_of(self, group: str) -> int:
        """Return which of four shapes the marks of a group have; phases differ."""
        return int("decode" in group) + 2 * int(group.startswith(KERNELS))


def step_marks(
    step: PhaseAnalysis,
    machine: str = "",
    number: int | None = None,
    *,
    has_kernels: bool = False,
) -> list[Mark]:
    """Return marks of a phase, and of its kernels, where their roof is (or was reached).

    Parameters
    ----------
    step : PhaseAnalysis
        A measured one stands where it was measured.
    machine : str
        Before the name of the group; empty = there is only one.
    number : int or None
        Number of the machine, from 0.
    has_kernels : bool
        Whether its kernels are shown, too; those that compute nothing have no place.
    """
    group = f"{machine} {step.phase} (tokens x batch)".strip()
    name = f"{step.seq_len} x {step.batch}"
    height = step.achieved_tflops or step.attainable_tflops
    marks = [Mark(name, group, step.intensity, height, machine=number)]
    if has_kernels:
        total_s = step.kernels_s
        marks += [
            Mark(
                kernel.name,
                f"{KERNELS} {machine} {step.phase} {name}".replace("  ", " "),
                kernel.intensity,
                kernel.attainable_tflops,
                kernel.roof_s / total_s,
                number,
            )
            for kernel in step.kernels
            if kernel.flops and kernel.bytes
        ]
    return marks


def point_marks(points: Sequence[MeasuredPoint]) -> list[Mark]:
    """Return marks of measured points; those of other levels than DRAM are groups of their own."""
    times = [point.duration_us or 0.0 for point in points]
    total_us = sum(times) or 1.0
    return [
        Mark(
            point.name,
            MEASURED if point.level == "DRAM" else f"{MEASURED}, {point.level}",
            point.oi,
            point.tflops,
            time_us / total_us,
        )
        for point, time_us in zip(points, times, strict=True)
    ]


def roofline_plot(ceilings: Sequence[Ceilings], marks: Iterable[Mark] = ()) -> RooflinePlot:
    """Return what the figure of some machines shows.

    Parameters
    ----------
    ceilings : sequence of Ceilings
        At least one. Of a single machine all ceilings are drawn, of several the default ones.
    marks : iterable of Mark
        What stands on it; those without a place on logarithmic axes are left out.
    """
    found = list(marks)
    shown = [mark for mark in found if mark.x > 0 and mark.y > 0]
    lines = [_roof(each, number) for number, each in enumerate(ceilings)]
    notes = []
    if len(ceilings) == 1:
        lines += _others(ceilings[0])
    elif any(len(each.peaks) + len(each.bandwidths) > 2 for each in ceilings):
        notes.append("of several machines only the first peak and the memory are drawn")
    if len(found) > len(shown):
        notes.append(f"{counted(len(found) - len(shown), 'point')} without FLOPs are not drawn")
    xs = [x for line in lines for x in line.xs] + [mark.x for mark in shown]
    x_range = (min(_LEAST_X * _BEYOND, *xs) / _BEYOND, _BEYOND * max(xs))
    lines = [_extended(line, x_range) for line in lines]
    ys = [min(each.attainable_tflops(x_range[0]) for each in ceilings)]
    ys += [mark.y for mark in shown] + [y for line in lines for y in line.ys]
    y_range = (min(ys) / 1.5, 2 * max(ys))
    return RooflinePlot(tuple(lines), tuple(shown), x_range, y_range, "; ".join(notes))


def _roof(ceilings: Ceilings, number: int) -> RoofLine:
    peak, memory = ceilings.peak(), ceilings.bandwidth()
    name = (
        f"{ceilings.machine}: {peak.name} {peak.tflops:,g} TFLOP/s, {memory.level} "
        f"{memory.gb_per_s:,g} GB/s"
    )
    return RoofLine(name, number, RoofKind.ROOF, (ceilings.ridge(),), (peak.tflops,))


def _others(ceilings: Ceilings) -> list[RoofLine]:
    top = max(ceilings.peaks, key=lambda peak: peak.tflops)
    lines = [_diagonal(ceilings, level, top) for level in ceilings.bandwidths[1:]]
    return lines + [_flat(ceilings, peak) for peak in ceilings.peaks[1:]]


def _diagonal(ceilings: Ceilings, level: Bandwidth, top: Peak) -> RoofLine:
    ridge = ceilings.ridge(top.name, level.level)
    name = f"{level.level} {level.gb_per_s:,g} GB/s"
    return RoofLine(name, 0, RoofKind.BANDWIDTH, (ridge,), (top.tflops,))


def _flat(ceilings: Ceilings, peak: Peak) -> RoofLine:
    """Return a peak: from where the fastest level reaches it, above the roof from the memory."""
    name = f"{peak.name} {peak.tflops:,g} TFLOP/s, ridge {ceilings.ridge(peak.name):.0f}"
    if peak.tflops > ceilings.peak().tflops:
        xs = (ceilings.ridge(), ceilings.ridge(peak.name))
        return RoofLine(name, 0, RoofKind.PEAK, xs, (ceilings.peak().tflops, peak.tflops))
    return RoofLine(name, 0, RoofKind.PEAK, (ceilings.ridge(peak.name),), (peak.tflops,))


def _extended(line: RoofLine, x_range: tuple[float, float]) -> RoofLine:
    """Return a line that goes to the edges where it is open."""
    low, high = x_range
    xs, ys = list(line.xs), list(line.ys)
    if line.kind is not RoofKind.PEAK:
        xs, ys = [low, *xs], [ys[0] * low / xs[0], *ys]
    if line.kind is not RoofKind.BANDWIDTH:
        xs, ys = [*xs, high], [*ys, ys[-1]]
    return replace(line, xs=tuple(xs), ys=tuple(ys))


def draw_roofline(plot: RooflinePlot, title: str, path: str | Path) -> None:
    """Draw the figure to a PNG or SVG file, whole or not at all.

    Raises
    ------
    ConfigError
        The file cannot be written.
    MissingExtraError
        matplotlib is not installed.
    """
    from blis_sim.report.plots.canvas import canvas, label_point, plain_logarithm
    from blis_sim.report.plots.palette import style_of

    widths = {RoofKind.ROOF: 2.0, RoofKind.BANDWIDTH: 1.0, RoofKind.PEAK: 1.0}
    dashes = {RoofKind.ROOF: "-", RoofKind.BANDWIDTH: ":", RoofKind.PEAK: "--"}
    with canvas(path, title, plot.note) as (axes,):
        for number, line in enumerate(plot.lines):
            axes.plot(
                line.xs,
                line.ys,
                color=style_of(line.machine if line.kind is RoofKind.ROOF else number).colour,
                linestyle=dashes[line.kind],
                linewidth=widths[line.kind],
                label=line.name,
            )
        for group in plot.groups:
            marks = [mark for mark in plot.marks if mark.group == group]
            is_measured = group.startswith(MEASURED)
            axes.scatter(
                [mark.x for mark in marks],
                [mark.y for mark in marks],
                s=[(45 if is_measured else 30) + 220 * mark.weight for mark in marks],
                marker="X" if is_measured else "osD^"[plot.shape_of(group)],
                facecolor=style_of(plot.colour_of(group)).colour,
                edgecolor="white",
                linewidth=0.5,
                zorder=3,
                label=group,
            )
        axes.set(xlabel=X_TITLE, ylabel=Y_TITLE, xlim=plot.x_range, ylim=plot.y_range)
        plain_logarithm(axes, "x")
        plain_logarithm(axes, "y")
        for name, x, y in [*plot.ridges, *((mark.name, mark.x, mark.y) for mark in plot.marks)]:
            label_point(axes, x, y, name)
