"""Speed for one user against the yield of a GPU, and the points that nothing beats in both.

:func:`pareto_plot` works out what is shown, :func:`draw_pareto` draws it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from blis_sim.report.averaged import AveragedPoint
from blis_sim.report.metric_words import TOKENS_PER_S_PER_GPU, TOKENS_PER_S_PER_USER
from blis_sim.report.number_words import counted
from blis_sim.report.plots.series import lines_of, setting_axis

X_TITLE, Y_TITLE = "tok/s per user (1000 / mean TPOT in ms)", "output tok/s per GPU"


@dataclass(frozen=True, slots=True)
class ParetoPoint:
    """One point.

    Attributes
    ----------
    per_user, per_gpu : float
        Output tokens per second.
    label : str
        What tells it apart from the others of its line.
    is_front : bool
        Whether no point is better in one and at least as good in the other.
    """

    per_user: float
    per_gpu: float
    label: str = ""
    is_front: bool = False


@dataclass(frozen=True, slots=True)
class ParetoLine:
    """A deployment under several loads."""

    name: str
    points: tuple[ParetoPoint, ...]


@dataclass(frozen=True, slots=True)
class ParetoPlot:
    """What the figure shows.

    Attributes
    ----------
    lines : tuple of ParetoLine
        Those with any point.
    note : str
        What was left out; empty = nothing.
    """

    lines: tuple[ParetoLine, ...]
    note: str = ""

    @property
    def front(self) -> list[ParetoPoint]:
        """The points that nothing beats, by ``per_user`` ascending."""
        found = [point for line in self.lines for point in line.points if point.is_front]
        return sorted(found, key=lambda point: (point.per_user, -point.per_gpu))


def is_beaten(user: float, gpu: float, by: Sequence[tuple[float, float]]) -> bool:
    """Return whether a point is worse in one and no better in the other than another one."""
    return any(u >= user and g >= gpu and (u > user or g > gpu) for u, g in by)


def pareto_plot(points: Sequence[AveragedPoint], *, most: int = 12) -> ParetoPlot:
    """Return what the figure of some points shows; those without figures are left out.

    Points that lines left out hold are part of no front.
    """
    axis = setting_axis([point for point in points if point.is_done])
    lines = [(line.name, [p for p in line.points if _place(p)]) for line in lines_of(points, axis)]
    lines = [(name, shown) for name, shown in lines if shown]
    places = [place for _, shown in lines[:most] for p in shown if (place := _place(p))]
    drawn = []
    for name, shown in lines[:most]:
        each = []
        for point in shown:
            place = _place(point)
            assert place is not None
            along = None if axis is None else point.place(axis.key)
            label = "" if axis is None or along is None else axis.short_words(along)
            each.append(ParetoPoint(*place, label, not is_beaten(*place, places)))
        drawn.append(ParetoLine(name, tuple(each)))
    more = len(lines) - most
    return ParetoPlot(
        tuple(drawn), f"{counted(more, 'line')} more are not drawn" if more > 0 else ""
    )


def _place(point: AveragedPoint) -> tuple[float, float] | None:
    user, gpu = point.mean(TOKENS_PER_S_PER_USER), point.mean(TOKENS_PER_S_PER_GPU)
    return None if user is None or gpu is None else (user, gpu)


def draw_pareto(plot: ParetoPlot, title: str, path: str | Path) -> None:
    """Draw the figure to a PNG or SVG file, whole or not at all.

    Raises
    ------
    ConfigError
        The file cannot be written.
    MissingExtraError
        matplotlib is not installed.
    """
    from blis_sim.report.plots.canvas import canvas, label_point
    from blis_sim.report.plots.palette import style_of

    with canvas(path, title, plot.note) as (axes,):
        front = plot.front
        axes.plot(
            [point.per_user for point in front],
            [point.per_gpu for point in front],
            color="#555555",
            linewidth=6,
            alpha=0.2,
            solid_capstyle="round",
            marker="o",
            markersize=11,
            markeredgewidth=0,
            label="nothing beats these in both",
        )
        for number, line in enumerate(plot.lines):
            style = style_of(number)
            axes.plot(
                [point.per_user for point in line.points],
                [point.per_gpu for point in line.points],
                color=style.colour,
                linestyle=style.dashes,
                linewidth=1,
                marker=style.marker,
                markersize=5,
                label=line.name,
            )
        for point in front:
            label_point(axes, point.per_user, point.per_gpu, point.label)
        axes.set(xlabel=X_TITLE, ylabel=Y_TITLE)
        axes.margins(x=0.08, y=0.08)
        axes.set_ylim(bottom=0)
