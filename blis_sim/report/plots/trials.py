"""A search for the best settings: the value of each trial, and the best one up to it.

:func:`trials_plot` works out what is shown, :func:`draw_trials` draws it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TrialsPlot:
    """What the figure shows.

    Attributes
    ----------
    y_title : str
        What is searched for, with its unit.
    numbers : tuple of float
        The trials, ascending.
    values, best : tuple of float
        The value of each, and the best one so far.
    """

    y_title: str
    numbers: tuple[float, ...]
    values: tuple[float, ...]
    best: tuple[float, ...]


def trials_plot(
    pairs: Sequence[tuple[float, float]], y_title: str, *, is_less_better: bool
) -> TrialsPlot:
    """Return what the figure shows of pairs of a trial's number and its value."""
    better = min if is_less_better else max
    ordered = sorted(pairs)
    best: list[float] = []
    for _, value in ordered:
        best.append(better(best[-1], value) if best else value)
    return TrialsPlot(
        y_title,
        tuple(number for number, _ in ordered),
        tuple(value for _, value in ordered),
        tuple(best),
    )


def draw_trials(plot: TrialsPlot, title: str, path: str | Path) -> None:
    """Draw the figure to a PNG or SVG file, whole or not at all.

    Raises
    ------
    ConfigError
        The file cannot be written.
    MissingExtraError
        matplotlib is not installed.
    """
    from blis_sim.report.plots.canvas import canvas
    from blis_sim.report.plots.palette import COLOURS

    with canvas(path, title) as (axes,):
        axes.plot(
            plot.numbers, plot.values, color=COLOURS[0], marker="o", linestyle="", label="trial"
        )
        axes.step(plot.numbers, plot.best, COLOURS[1], where="post", label="best so far")
        axes.set(xlabel="trial", ylabel=plot.y_title)
