"""How latencies are distributed: the share of requests within a time, a line each.

:func:`distribution_plot` works out what is shown, :func:`draw_distributions` draws it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blis_sim.metrics.definitions import LATENCIES
from blis_sim.metrics.metric import Group
from blis_sim.report.number_words import counted
from blis_sim.report.plots.series import is_wide
from blis_sim.units import US_PER_MS

if TYPE_CHECKING:
    from blis_sim.capacity.slo import Limit
    from blis_sim.metrics.result import Result

TAGS = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2el": "E2E"}
RANKS = tuple(float(rank) for rank in range(101))
"""Percentiles that distributions are made of."""
_OF = {"itl": "gaps between tokens", "tpot": "requests"}


@dataclass(frozen=True, slots=True)
class Distribution:
    """How one of the samples is distributed.

    Attributes
    ----------
    name : str
        Which sample.
    shares : tuple of float
        Percent of the sample, ascending.
    times_ms : tuple of float
        What so many percent stay within.
    """

    name: str
    shares: tuple[float, ...]
    times_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """A limit.

    Attributes
    ----------
    time_ms : float
    words : str
        ``limit: p99 TTFT <= 500 ms``.
    share : float or None
        Percent that must stay within it; None = that is not what it limits.
    """

    time_ms: float
    words: str
    share: float | None = None


@dataclass(frozen=True, slots=True)
class DistributionPlot:
    """What the figure shows.

    Attributes
    ----------
    x_title, y_title : str
        What stands along the axes, with units.
    lines : tuple of Distribution
    marks : tuple of Mark
        The limits of this time.
    is_logarithmic : bool
        Whether the times need a logarithmic axis.
    note : str
        What was left out; empty = nothing.
    """

    x_title: str
    y_title: str
    lines: tuple[Distribution, ...]
    marks: tuple[Mark, ...] = ()
    is_logarithmic: bool = False
    note: str = ""


def result_quantiles(result: Result) -> dict[str, list[float]]:
    """Return the percentiles 0, 1, ..., 100 in ms of each time a result has data of."""
    found: dict[str, list[float]] = {}
    for latency in LATENCIES:
        sample = latency.compute(result.measured) if latency.group is Group.SERVING else None
        if sample is not None and latency.tag in TAGS:
            found[latency.tag] = [us / US_PER_MS for us in sample.percentiles(RANKS)]
    return found


def distribution_plot(
    quantiles: Mapping[str, Sequence[float]],
    tag: str,
    limits: Sequence[Limit] = (),
    *,
    each_ms: Mapping[str, float] | None = None,
    most: int = 12,
) -> DistributionPlot:
    """Return what the figure of some samples shows.

    Parameters
    ----------
    quantiles : mapping of str to sequence of float
        By the names of the samples: times in ms at equally spaced shares from 0 to 1; empty
        ones are left out.
    tag : str
        Which time it is: ``ttft``.
    limits : sequence of Limit
        Those of other times are left out.
    each_ms : mapping of str to float
        What every request must stay within, by the time that is limited.
    most : int
        More lines than this are not drawn.
    """
    named = {name: values for name, values in quantiles.items() if len(values) > 1}
    lines = tuple(
        Distribution(
            name,
            tuple(100 * place / (len(values) - 1) for place in range(len(values))),
            tuple(values),
        )
        for name, values in list(named.items())[:most]
    )
    marks = [
        Mark(limit.value, f"limit: {limit.words()}", limit.rank)
        for limit in limits
        if limit.tag == tag
    ]
    own = (each_ms or {}).get(tag)
    if own is not None:
        marks.append(Mark(own, f"limit of each request: {TAGS[tag]} <= {own:g} ms"))
    # The extremes of a sample do not decide.
    shown = [time for line in lines for time in line.times_ms[1:-1] or line.times_ms]
    shown += [mark.time_ms for mark in marks]
    more = len(named) - most
    return DistributionPlot(
        x_title=f"{TAGS[tag]} (ms)",
        y_title=f"{_OF.get(tag, 'requests')} within it (%)",
        lines=lines,
        marks=tuple(marks),
        is_logarithmic=is_wide(shown),
        note=f"{counted(more, 'line')} more are not drawn" if more > 0 else "",
    )


def draw_distributions(plot: DistributionPlot, title: str, path: str | Path) -> None:
    """Draw the figure to a PNG or SVG file, whole or not at all.

    Raises
    ------
    ConfigError
        The file cannot be written.
    MissingExtraError
        matplotlib is not installed.
    """
    from blis_sim.report.plots.canvas import canvas, plain_logarithm
    from blis_sim.report.plots.palette import LIMIT, style_of

    with canvas(path, title, plot.note) as (axes,):
        for number, line in enumerate(plot.lines):
            style = style_of(number)
            axes.plot(
                line.times_ms,
                line.shares,
                color=style.colour,
                linestyle=style.dashes,
                label=line.name,
            )
        for mark in plot.marks:
            axes.axvline(mark.time_ms, color=LIMIT, linestyle=":", linewidth=1.5, label=mark.words)
            if mark.share is not None:
                axes.plot([mark.time_ms], [mark.share], color=LIMIT, marker="x")
        axes.set(xlabel=plot.x_title, ylabel=plot.y_title, ylim=(0, 101))
        if plot.is_logarithmic:
            plain_logarithm(axes, "x")
