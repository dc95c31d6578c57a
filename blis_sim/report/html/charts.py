"""The charts of a page, with the choices they offer; one without data is None."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from blis_sim.report.html.page import Chart, CostView, Plot, Selector
from blis_sim.report.metric_words import named
from blis_sim.report.plots.cost_bars import CostBar, cost_plot
from blis_sim.report.plots.distributions import TAGS, distribution_plot
from blis_sim.report.plots.latency_curves import latency_plot
from blis_sim.report.plots.pareto import pareto_plot
from blis_sim.report.plots.series import Axis, figure_axis, lines_of, setting_axis

if TYPE_CHECKING:
    from blis_sim.capacity.slo import Limit
    from blis_sim.report.averaged import AveragedPoint
    from blis_sim.report.plots.over_time import OverTimePlot

MOST_LINES = 24
_MOST_PLACES = 12
_LATENCIES = ("p99_ttft_ms", "mean_ttft_ms", "mean_tpot_ms", "p99_itl_ms", "p99_e2el_ms")
_OUTPUT = "output_throughput"


def latency_chart(points: Sequence[AveragedPoint], limits: Sequence[Limit]) -> Chart | None:
    """Return latencies over the load; those that have limits come first."""
    done = [point for point in points if point.is_done]
    wanted = [limit.metric for limit in limits if not limit.is_goodput] + list(_LATENCIES)
    metrics = [key for key in dict.fromkeys(wanted) if any(key in p.estimates for p in done)]
    over = setting_axis(done)
    axes: list[Axis] = [] if over is None else [over]
    if any(_OUTPUT in point.estimates for point in done):
        axes.append(figure_axis(_OUTPUT))
    if not metrics or not axes:
        return None
    views: dict[str, Plot] = {
        f"{row}-{column}": latency_plot(done, metric, axis, limits, most=MOST_LINES)
        for row, metric in enumerate(metrics)
        for column, axis in enumerate(axes)
    }
    return Chart(
        "latency",
        "Latency and load",
        "The lower and the further to the right, the better. A steep rise is where requests begin "
        "to wait for each other.",
        views,
        (
            Selector("Latency", tuple(named(metric).header for metric in metrics)),
            Selector("Over", tuple(axis.title for axis in axes)),
        ),
    )


def distribution_chart(
    points: Sequence[AveragedPoint], limits: Sequence[Limit], at: AveragedPoint | None = None
) -> Chart | None:
    """Return the distributions of deployments at one load at a time, first that of ``at``."""
    done = [point for point in points if point.quantiles]
    axis = setting_axis(done)
    tags = [tag for tag in TAGS if any(tag in point.quantiles for point in done)]
    if not tags:
        return None
    lines = lines_of(done, axis)
    places = _places(done, axis, at)
    views: dict[str, Plot] = {}
    for row, tag in enumerate(tags):
        for column, place in enumerate(places):
            samples = {
                line.name: point.quantiles.get(tag, ())
                for line in lines
                for point in line.points
                if axis is None or point.place(axis.key) == place
            }
            plot = distribution_plot(samples, tag, limits, most=MOST_LINES)
            views[f"{row}-{column}" if axis is not None else f"{row}"] = plot
    selectors = [Selector("Time", tuple(TAGS[tag] for tag in tags))]
    if axis is not None:
        selectors.append(Selector("At", tuple(axis.words(place) for place in places)))
    return Chart(
        "distribution",
        "How latencies are distributed",
        "How many percent stay within a time: 99 % on the curve is the p99.",
        views,
        tuple(selectors),
    )


def _places(
    points: Sequence[AveragedPoint], axis: Axis | None, at: AveragedPoint | None
) -> list[float]:
    """Return at most twelve places on an axis, evenly chosen; that of ``at`` comes first."""
    if axis is None:
        return [0.0]
    found = (point.place(axis.key) for point in points)
    places = sorted({place for place in found if place is not None and math.isfinite(place)})
    if len(places) > _MOST_PLACES:
        step = (len(places) - 1) / (_MOST_PLACES - 1)
        places = [places[round(number * step)] for number in range(_MOST_PLACES)]
    first = None if at is None else at.place(axis.key)
    if first is None or not math.isfinite(first):
        return places
    return [first, *(place for place in places if place != first)]


def quantile_chart(
    quantiles: Mapping[str, Sequence[float]], each_ms: Mapping[str, float], name: str
) -> Chart | None:
    """Return the distributions of one run, with what each request must stay within."""
    tags = [tag for tag in TAGS if len(quantiles.get(tag, ())) > 1]
    if not tags:
        return None
    views: dict[str, Plot] = {
        f"{row}": distribution_plot({name: quantiles[tag]}, tag, each_ms=each_ms)
        for row, tag in enumerate(tags)
    }
    return Chart(
        "distribution",
        "How latencies are distributed",
        "How many percent stay within a time: 99 % on the curve is the p99.",
        views,
        (Selector("Time", tuple(TAGS[tag] for tag in tags)),),
    )


def pareto_chart(points: Sequence[AveragedPoint]) -> Chart | None:
    """Return speed for a user against the yield of a GPU."""
    plot = pareto_plot(points, most=MOST_LINES)
    if sum(len(line.points) for line in plot.lines) < 2:
        return None
    return Chart(
        "pareto",
        "Speed for a user and yield of a GPU",
        "Up and to the right is better. On the grey band lie the points that no other one beats "
        "in both.",
        {"": plot},
    )


def cost_chart(bars: Sequence[CostBar], about: str) -> Chart | None:
    """Return what deployments cost, per token and per hour."""
    plot = cost_plot(bars)
    if not plot.bars:
        return None
    each = (
        ("per million output tokens", False, [bar.usd_per_million for bar in plot.bars]),
        ("per hour", True, [bar.usd_per_hour for bar in plot.bars]),
    )
    known = [(title, is_per_hour) for title, is_per_hour, values in each if any(values)]
    views: dict[str, Plot] = {
        f"{row}": CostView(plot, is_per_hour) for row, (_, is_per_hour) in enumerate(known)
    }
    selector = Selector("Cost", tuple(title for title, _ in known))
    return Chart("cost", "Cost", about, views, (selector,))


def over_time_chart(plot: OverTimePlot) -> Chart:
    """Return what happened on the instances of a run."""
    return Chart(
        "over_time",
        "Over time",
        "KV cache, queue and running requests of all instances; the most within each interval.",
        {"": plot},
    )
