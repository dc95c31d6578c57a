"""Latency against load: a line for each deployment, and the limits of an objective.

:func:`latency_plot` works out what is shown, :func:`draw_latency` draws it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blis_sim.report.averaged import AveragedPoint
from blis_sim.report.metric_words import named
from blis_sim.report.number_words import counted
from blis_sim.report.plots.series import Axis, Line, is_wide, lines_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from blis_sim.capacity.slo import Limit

_ABOVE_ZERO = 0.999
"""A logarithmic axis has no zero: intervals end above it."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A point of a curve.

    Attributes
    ----------
    x, y : float
        Where it lies.
    half_width : float or None
        Half the 95 % interval of ``y``.
    is_saturated : bool
        Whether the queue kept growing: the figure depends on how long the run was.
    """

    x: float
    y: float
    half_width: float | None = None
    is_saturated: bool = False


@dataclass(frozen=True, slots=True)
class Curve:
    """A deployment under several loads."""

    name: str
    points: tuple[CurvePoint, ...]


@dataclass(frozen=True, slots=True)
class LatencyPlot:
    """What the figure shows.

    Attributes
    ----------
    x_title, y_title : str
        What stands along the axes, with units.
    curves : tuple of Curve
        Those with any point.
    limits : tuple of Limit
        Those of the figure shown.
    is_logarithmic : bool
        Whether ``y`` needs a logarithmic axis.
    note : str
        What was left out, and what hollow points mean; empty = nothing.
    """

    x_title: str
    y_title: str
    curves: tuple[Curve, ...]
    limits: tuple[Limit, ...] = ()
    is_logarithmic: bool = False
    note: str = ""


def latency_plot(
    points: Sequence[AveragedPoint],
    metric: str,
    axis: Axis,
    limits: Sequence[Limit] = (),
    *,
    most: int = 12,
) -> LatencyPlot:
    """Return what the figure of some points shows.

    Parameters
    ----------
    points : sequence of AveragedPoint
        Those without figures are left out.
    metric : str
        What is drawn: ``p99_ttft_ms``.
    axis : Axis
        What it is drawn over.
    limits : sequence of Limit
        Those of other figures are left out.
    most : int
        More lines than this are not drawn.
    """
    lines = [line for line in lines_of(points, axis) if any(_points(line, metric, axis))]
    curves = tuple(Curve(line.name, tuple(_points(line, metric, axis))) for line in lines[:most])
    shown = [point for curve in curves for point in curve.points]
    own = tuple(limit for limit in limits if limit.metric == metric)
    notes = [f"{counted(len(lines) - most, 'line')} more are not drawn"] * (len(lines) > most)
    if any(point.is_saturated for point in shown):
        notes.append("hollow: the queue kept growing, the figure depends on the length of the run")
    return LatencyPlot(
        x_title=axis.title,
        y_title=named(metric).title,
        curves=curves,
        limits=own,
        is_logarithmic=is_wide([point.y for point in shown] + [limit.value for limit in own]),
        note="; ".join(notes),
    )


def _points(line: Line, metric: str, axis: Axis) -> Iterator[CurvePoint]:
    for point in line.points:
        x, found = point.place(axis.key), point.estimates.get(metric)
        if x is not None and math.isfinite(x) and found is not None:
            yield CurvePoint(x, found.mean, found.half_width, point.is_saturated)


def draw_latency(plot: LatencyPlot, title: str, path: str | Path) -> None:
    """Draw the figure to a PNG or SVG file, whole or not at all.

    Raises
    ------
    ConfigError
        The file cannot be written.
    MissingExtraError
        matplotlib is not installed.
    """
    from blis_sim.report.plots.canvas import canvas, plain_logarithm
    from blis_sim.report.plots.palette import LIMIT

    with canvas(path, title, plot.note) as (axes,):
        for number, curve in enumerate(plot.curves):
            _draw_curve(axes, curve, number)
        for limit in plot.limits:
            label = f"limit: {limit.words()}"
            axes.axhline(limit.value, color=LIMIT, linestyle=":", linewidth=1.5, label=label)
        axes.set(xlabel=plot.x_title, ylabel=plot.y_title)
        if plot.is_logarithmic:
            plain_logarithm(axes, "y")
        else:
            axes.set_ylim(bottom=0)


def _draw_curve(axes: Axes, curve: Curve, number: int) -> None:
    from blis_sim.report.plots.palette import style_of

    style = style_of(number)
    xs, ys = [p.x for p in curve.points], [p.y for p in curve.points]
    half_widths = [point.half_width for point in curve.points]
    axes.plot(
        xs,
        ys,
        color=style.colour,
        linestyle=style.dashes,
        marker=style.marker,
        markersize=4.5,
        label=curve.name,
    )
    hollow = [(p.x, p.y) for p in curve.points if p.is_saturated]
    if hollow:
        axes.plot(
            *zip(*hollow, strict=True),
            color=style.colour,
            linestyle="none",
            marker=style.marker,
            markersize=4.5,
            markerfacecolor="white",
        )
    if any(half is not None for half in half_widths):
        below = [
            min(half or 0.0, _ABOVE_ZERO * y) for y, half in zip(ys, half_widths, strict=True)
        ]
        above = [half or 0.0 for half in half_widths]
        axes.errorbar(
            xs, ys, yerr=[below, above], fmt="none", ecolor=style.colour, elinewidth=0.8, capsize=2
        )
