"""What lines and axes of plots are called, whatever they show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from blis_sim.report.averaged import AveragedPoint
from blis_sim.report.metric_words import named
from blis_sim.report.setting_words import (
    GPU,
    MODEL,
    RATE,
    TP,
    header,
    number_of,
    point_words,
    setting_words,
    varying,
)

_LEAST_FOR_A_LINE = 3
_NO_AXES = (MODEL, GPU, TP)
"""What names a deployment is no axis."""
_WIDE_RANGE = 20.0
"""From this ratio of the largest to the smallest value on, an axis is logarithmic."""


@dataclass(frozen=True, slots=True)
class Axis:
    """What points are drawn over.

    Attributes
    ----------
    key : str
        Path of a setting, or a figure.
    title : str
        What stands along it.
    is_setting : bool
        Whether it is a setting: points of a line then differ in nothing else.
    """

    key: str
    title: str
    is_setting: bool

    def words(self, place: float) -> str:
        """Return a place on it in words: ``8 requests/s``."""
        return setting_words(self.key, place) if self.is_setting else f"{place:,.4g} {self.title}"

    def short_words(self, place: float) -> str:
        """Return a place on it where there is little room: ``8/s``."""
        shown = f"{place:,.6g}"
        return f"{shown}/s" if self.key == RATE else f"{self.title} {shown}"


def setting_axis(points: Sequence[AveragedPoint]) -> Axis | None:
    """Return the setting that points are best drawn over: the rate, else another number.

    None where neither has enough values for a line.
    """
    paths = varying([point.labels for point in points])
    for path in sorted(paths, key=lambda path: path != RATE):
        places = {number_of(point.labels.get(path)) for point in points} - {None, float("inf")}
        enough = 2 if path == RATE else _LEAST_FOR_A_LINE
        if path not in _NO_AXES and len(places) >= enough:
            return Axis(path, header(path, paths), is_setting=True)
    return None


def figure_axis(key: str) -> Axis:
    """Return an axis over a figure."""
    known = named(key)
    words = {"output_throughput": "output tokens/s", "output_throughput_per_gpu": "tok/s per GPU"}
    return Axis(key, words.get(key, known.title), is_setting=False)


@dataclass(frozen=True, slots=True)
class Line:
    """Points that belong together, with what they are called.

    Attributes
    ----------
    name : str
        What they have in common and others have not.
    points : tuple of AveragedPoint
        In the order of the axis.
    """

    name: str
    points: tuple[AveragedPoint, ...]


def lines_of(points: Sequence[AveragedPoint], axis: Axis | None) -> list[Line]:
    """Return points with figures, those that differ in the axis alone as one line.

    An axis that is a figure is taken as the one over the rate would be.
    """
    done = [point for point in points if point.is_done]
    over = axis.key if axis is not None and axis.is_setting else None
    if over is None:
        along = setting_axis(done)
        over = None if along is None else along.key
    without = {over} if over is not None else set()
    paths = [p for p in varying([point.labels for point in points]) if p not in without]
    grouped: dict[str, list[AveragedPoint]] = {}
    for point in done:
        labels = {path: point.labels[path] for path in paths if path in point.labels}
        grouped.setdefault(point_words(labels) or deployment_words(point), []).append(point)

    def place(point: AveragedPoint) -> float:
        found = point.place(over) if over is not None else None
        return float("inf") if found is None else found

    return [Line(name, tuple(sorted(group, key=place))) for name, group in grouped.items()]


def deployment_words(point: AveragedPoint) -> str:
    """Return what a point runs on: all that can name the only one there is."""
    facts = point.deployment
    labels = {MODEL: facts.get("model"), GPU: facts.get("gpu")}
    if (facts.get("tensor_parallel_size") or 1) != 1:
        labels[TP] = facts["tensor_parallel_size"]
    return point_words({path: value for path, value in labels.items() if value}) or "all points"


def is_wide(values: Iterable[float]) -> bool:
    """Return whether positive values lie so far apart that small ones would not be seen."""
    shown = [value for value in values if value > 0]
    return bool(shown) and max(shown) > _WIDE_RANGE * min(shown)
