"""Plots in the form of plotly: traces and layout as plain values.

Texts are escaped: plotly reads some HTML in them.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from blis_sim.report.html.page import CostView, Plot
from blis_sim.report.number_words import number, usd
from blis_sim.report.plots.bound_shares import PARTS, BoundSharesPlot, colour_number
from blis_sim.report.plots.bound_shares import X_TITLE as SHARES_TITLE
from blis_sim.report.plots.cost_bars import bar_colours
from blis_sim.report.plots.distributions import DistributionPlot
from blis_sim.report.plots.latency_curves import Curve, CurvePoint, LatencyPlot
from blis_sim.report.plots.over_time import OverTimePlot
from blis_sim.report.plots.palette import COLOURS, LIMIT, style_of
from blis_sim.report.plots.pareto import X_TITLE, Y_TITLE, ParetoPlot
from blis_sim.report.plots.roofline import MEASURED, RoofKind, RooflinePlot
from blis_sim.report.plots.roofline import X_TITLE as INTENSITY_TITLE
from blis_sim.report.plots.roofline import Y_TITLE as PERFORMANCE_TITLE
from blis_sim.report.plots.trials import TrialsPlot

Trace = dict[str, Any]


@dataclass(frozen=True, slots=True)
class View:
    """A drawing in the form of plotly.

    Attributes
    ----------
    data : list of mappings
        Traces.
    layout : mapping
    note : str
        Below the drawing.
    """

    data: list[Trace]
    layout: Mapping[str, Any]
    note: str = ""


_DIGITS = 5
_UPRIGHT_STEPS = ((2.2, (1, 2, 5)), (4.0, (1, 3)), (math.inf, (1,)))
_SIDEWAYS_STEPS = ((1.2, (1, 2, 5)), (2.0, (1, 3)), (math.inf, (1,)))
"""(below how many decades, which steps within each have a tick)."""
_WITHOUT_NAME = "<extra></extra>"
_BAR_PX, _AROUND_BARS_PX = 46, 70
_MOST_NAME = 46


def view_of(plot: Plot) -> View:
    """Return a plot in the form of plotly."""
    if isinstance(plot, LatencyPlot):
        return _latency(plot)
    if isinstance(plot, DistributionPlot):
        return _distributions(plot)
    if isinstance(plot, ParetoPlot):
        return _pareto(plot)
    if isinstance(plot, CostView):
        return _cost(plot)
    if isinstance(plot, BoundSharesPlot):
        return _bound_shares(plot)
    if isinstance(plot, RooflinePlot):
        return _roofline(plot)
    return _over_time(plot) if isinstance(plot, OverTimePlot) else _trials(plot)


def text_of(text: str) -> str:
    """Return text that plotly shows as it is."""
    return html.escape(text, quote=False)


def short(values: Iterable[float]) -> list[float]:
    """Return numbers with as many digits as can be seen."""
    return [float(f"{value:.{_DIGITS}g}") for value in values]


def _latency(plot: LatencyPlot) -> View:
    """Return a latency plot."""
    traces = [_curve(curve, number, plot) for number, curve in enumerate(plot.curves)]
    xs = [point.x for curve in plot.curves for point in curve.points]
    traces += [
        _limit(f"limit: {limit.words()}", [min(xs), max(xs)], [limit.value] * 2)
        for limit in plot.limits
        if xs
    ]
    y_axis: dict[str, Any] = {"title": {"text": text_of(plot.y_title)}}
    ys = [point.y for curve in plot.curves for point in curve.points]
    ys += [limit.value for limit in plot.limits]
    y_axis |= _logarithmic(ys, _UPRIGHT_STEPS) if plot.is_logarithmic else {"rangemode": "tozero"}
    layout = {"xaxis": {"title": {"text": text_of(plot.x_title)}}, "yaxis": y_axis}
    return View(traces, layout, plot.note)


def _logarithmic(
    values: Iterable[float], wanted: Sequence[tuple[float, Sequence[int]]]
) -> dict[str, Any]:
    """Return a logarithmic axis whose ticks are numbers as people write them."""
    positive = [value for value in values if value > 0]
    low, high = math.log10(min(positive)), math.log10(max(positive))
    steps = next(steps for most, steps in wanted if high - low < most)
    powers = range(math.floor(low) - 1, math.ceil(high) + 2)
    ticks = [step * 10.0**power for power in powers for step in steps]
    return {
        "type": "log",
        "tickvals": short(ticks),
        "ticktext": [f"{tick:,.6g}" for tick in ticks],
        "tickangle": 0,
    }


def _curve(curve: Curve, number: int, plot: LatencyPlot) -> Trace:
    style = style_of(number)
    symbols = [
        f"{style.plotly_symbol}-open" if point.is_saturated else style.plotly_symbol
        for point in curve.points
    ]
    trace: Trace = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": text_of(curve.name),
        "x": short(point.x for point in curve.points),
        "y": short(point.y for point in curve.points),
        "line": {"color": style.colour, "dash": style.plotly_dash, "width": 2},
        "marker": {"color": style.colour, "size": 7, "symbol": symbols},
        "text": [text_of(_hover(point, plot)) for point in curve.points],
        "hovertemplate": f"<b>{_template(curve.name)}</b><br>%{{text}}{_WITHOUT_NAME}",
    }
    if any(point.half_width is not None for point in curve.points):
        trace["error_y"] = {
            "type": "data",
            "array": short(point.half_width or 0.0 for point in curve.points),
            "thickness": 1,
            "width": 3,
        }
    return trace


def _template(name: str) -> str:
    """Return a name for a template of plotly: a percent sign would begin a variable."""
    return text_of(name).replace("%", "&#37;")


def _hover(point: CurvePoint, plot: LatencyPlot) -> str:
    half = "" if point.half_width is None else f" ± {number(point.half_width)}"
    growing = ", queue growing" if point.is_saturated else ""
    return f"{plot.x_title}: {number(point.x)}, {plot.y_title}: {number(point.y)}{half}{growing}"


def _limit(text: str, x: Sequence[float], y: Sequence[float]) -> Trace:
    words = text_of(text)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": words,
        "x": list(x),
        "y": list(y),
        "line": {"color": LIMIT, "dash": "dot", "width": 2},
        "hovertemplate": f"{words}{_WITHOUT_NAME}",
        "meta": "limit",
    }


def _distributions(plot: DistributionPlot) -> View:
    """Return distributions."""
    traces: list[Trace] = []
    for number_, line in enumerate(plot.lines):
        style = style_of(number_)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": text_of(line.name),
                "x": short(line.times_ms),
                "y": short(line.shares),
                "line": {"color": style.colour, "dash": style.plotly_dash, "width": 2},
                "hovertemplate": f"<b>{_template(line.name)}</b><br>%{{y:.3~g}} % within "
                f"%{{x:,.3~f}} ms{_WITHOUT_NAME}",
            }
        )
    traces += [_limit(mark.words, [mark.time_ms] * 2, [0, 100]) for mark in plot.marks]
    x_axis: dict[str, Any] = {"title": {"text": text_of(plot.x_title)}}
    times = [time for line in plot.lines for time in line.times_ms]
    times += [mark.time_ms for mark in plot.marks]
    x_axis |= (
        _logarithmic(times, _SIDEWAYS_STEPS) if plot.is_logarithmic else {"rangemode": "tozero"}
    )
    y_axis = {"title": {"text": text_of(plot.y_title)}, "range": [0, 101]}
    return View(traces, {"xaxis": x_axis, "yaxis": y_axis}, plot.note)


def _pareto(plot: ParetoPlot) -> View:
    """Return a Pareto plot."""
    front = plot.front
    traces: list[Trace] = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": "nothing beats these in both",
            "x": short(point.per_user for point in front),
            "y": short(point.per_gpu for point in front),
            "line": {"color": "rgba(128,128,128,0.35)", "width": 8},
            "marker": {"color": "rgba(128,128,128,0.35)", "size": 16},
            "hoverinfo": "skip",
        }
    ]
    for number_, line in enumerate(plot.lines):
        style = style_of(number_)
        words = [
            f"{point.label}: {number(point.per_user)} tok/s per user, "
            f"{number(point.per_gpu)} tok/s per GPU".removeprefix(": ")
            for point in line.points
        ]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": text_of(line.name),
                "x": short(point.per_user for point in line.points),
                "y": short(point.per_gpu for point in line.points),
                "line": {"color": style.colour, "dash": style.plotly_dash, "width": 1.5},
                "marker": {"color": style.colour, "size": 8, "symbol": style.plotly_symbol},
                "text": [text_of(each) for each in words],
                "hovertemplate": f"<b>{_template(line.name)}</b><br>%{{text}}{_WITHOUT_NAME}",
            }
        )
    layout = {
        "xaxis": {"title": {"text": X_TITLE}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": Y_TITLE}, "rangemode": "tozero"},
    }
    return View(traces, layout, plot.note)


def _cost(view: CostView) -> View:
    """Return bars with their names above them: also long names fit on a narrow screen."""
    plot = view.plot
    title = "USD per hour" if view.is_per_hour else "USD per million output tokens"
    values = [bar.usd_per_hour if view.is_per_hour else bar.usd_per_million for bar in plot.bars]
    rows = list(range(len(plot.bars)))
    largest = max((value for value in values if value is not None), default=1.0)
    names = [
        bar.name if len(bar.name) <= _MOST_NAME else f"{bar.name[: _MOST_NAME - 1]}…"
        for bar in plot.bars
    ]
    trace: Trace = {
        "type": "bar",
        "orientation": "h",
        "y": rows,
        "x": [value or 0.0 for value in values],
        "width": 0.45,
        "marker": {"color": bar_colours(plot)},
        "text": [usd(value) for value in values],
        "textposition": "outside",
        "cliponaxis": False,
        "hovertext": [text_of(bar.name) for bar in plot.bars],
        "hovertemplate": f"%{{hovertext}}: %{{text}}{_WITHOUT_NAME}",
        "showlegend": False,
    }
    return View([trace], _bar_layout(names, title, 1.2 * largest), plot.note)


def _bar_layout(names: Sequence[str], title: str, largest: float) -> dict[str, Any]:
    """Return the layout of bars that lie, with their names above them."""
    annotations = [
        {
            "xref": "paper",
            "x": 0,
            "xanchor": "left",
            "y": row,
            "yanchor": "bottom",
            "yshift": 9,
            "showarrow": False,
            "text": text_of(name),
        }
        for row, name in enumerate(names)
    ]
    return {
        "xaxis": {"title": {"text": title}, "range": [0, largest]},
        "yaxis": {"visible": False, "range": [len(names) - 0.5, -0.8]},
        "annotations": annotations,
        "height": _AROUND_BARS_PX + _BAR_PX * len(names),
    }


def _bound_shares(plot: BoundSharesPlot) -> View:
    """Return bars of 100 %, each divided into what the time is spent on."""
    names = [
        bar.name if len(bar.name) <= _MOST_NAME else f"{bar.name[: _MOST_NAME - 1]}…"
        for bar in plot.bars
    ]
    traces: list[Trace] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": PARTS[part],
            "y": list(range(len(plot.bars))),
            "x": short(bar.percents.get(part, 0.0) for bar in plot.bars),
            "width": 0.45,
            "marker": {"color": COLOURS[colour_number(part)]},
            "hovertext": [text_of(bar.name) for bar in plot.bars],
            "hovertemplate": f"%{{hovertext}}: {PARTS[part]} %{{x:.3~g}} %{_WITHOUT_NAME}",
        }
        for part in plot.parts
    ]
    layout = _bar_layout(names, SHARES_TITLE, 100.0) | {"barmode": "stack"}
    return View(traces, layout, plot.note)


def _over_time(plot: OverTimePlot) -> View:
    """Return KV cache, requests and tokens over time, above each other."""
    length_s, unit = plot.time_unit
    times = short(plot.time_s / length_s)
    lines: list[tuple[str, Any, int, str]] = [
        ("KV cache in use", 100 * plot.kv_mean_frac, 0, ""),
        ("running requests", plot.num_running, 2, "2"),
        ("waiting requests", plot.num_waiting, 1, "2"),
        ("tokens generated per second", plot.tokens_per_s, 6, "3"),
    ]
    if plot.has_several:
        name = "KV cache in use, fullest instance"
        lines.insert(1, (name, 100 * plot.kv_peak_frac, 5, ""))
    if plot.num_instances is not None:
        lines.append(("instances", plot.num_instances, 7, "4"))
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "x": times,
            "y": short(values),
            "yaxis": f"y{axis}",
            "line": {"color": COLOURS[colour], "width": 1.5},
            "hovertemplate": f"{name}: %{{y:,.4~g}} at %{{x:,.5~g}} {unit}{_WITHOUT_NAME}",
        }
        for name, values, colour, axis in lines
    ]
    rows = ["", "2", "3", "4"][: 3 + (plot.num_instances is not None)]
    titles = ("KV cache (%)", "requests", "tok/s", "instances")
    heights = np.linspace(1, 0, len(rows) + 1)
    layout: dict[str, Any] = {
        f"yaxis{axis}": {
            "title": {"text": title},
            "rangemode": "tozero",
            "domain": [float(low) + (0.04 if low else 0.0), float(high) - 0.04],
        }
        for axis, title, high, low in zip(rows, titles, heights[:-1], heights[1:], strict=False)
    }
    layout["xaxis"] = {"title": {"text": f"simulated time ({unit})"}, "anchor": f"y{rows[-1]}"}
    layout["height"] = 150 * len(rows) + 60
    return View(traces, layout)


def _trials(plot: TrialsPlot) -> View:
    """Return the values of trials, and the best one up to each."""
    traces: list[Trace] = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "trial",
            "x": list(plot.numbers),
            "y": short(plot.values),
            "marker": {"color": COLOURS[0], "size": 7},
            "hovertemplate": f"trial %{{x}}: %{{y:,.4~g}}{_WITHOUT_NAME}",
        },
        {
            "type": "scatter",
            "mode": "lines",
            "name": "best so far",
            "x": list(plot.numbers),
            "y": short(plot.best),
            "line": {"color": COLOURS[1], "shape": "hv", "width": 2},
            "hovertemplate": f"best up to trial %{{x}}: %{{y:,.4~g}}{_WITHOUT_NAME}",
        },
    ]
    layout = {
        "xaxis": {"title": {"text": "trial"}} | ({"dtick": 1} if len(plot.numbers) < 12 else {}),
        "yaxis": {"title": {"text": text_of(plot.y_title)}},
    }
    return View(traces, layout)


def _roofline(plot: RooflinePlot) -> View:
    """Return roofs and what stands below them."""
    dashes = {RoofKind.ROOF: "solid", RoofKind.BANDWIDTH: "dot", RoofKind.PEAK: "dash"}
    traces: list[Trace] = []
    for number_, line in enumerate(plot.lines):
        is_roof = line.kind is RoofKind.ROOF
        colour = style_of(line.machine if is_roof else number_).colour
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": text_of(line.name),
                "x": short(line.xs),
                "y": short(line.ys),
                "line": {
                    "color": colour,
                    "dash": dashes[line.kind],
                    "width": 2.5 if is_roof else 1.2,
                },
                "hovertemplate": f"{_template(line.name)}{_WITHOUT_NAME}",
            }
        )
    shapes = ("circle", "square", "diamond", "triangle-up")
    for group in plot.groups:
        marks = [mark for mark in plot.marks if mark.group == group]
        words = [
            f"{mark.name}: {number(mark.x)} FLOP/byte, {number(mark.y)} TFLOP/s" for mark in marks
        ]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": text_of(group),
                "x": short(mark.x for mark in marks),
                "y": short(mark.y for mark in marks),
                "marker": {
                    "color": style_of(plot.colour_of(group)).colour,
                    "size": short(8 + 14 * mark.weight**0.5 for mark in marks),
                    "symbol": "x" if group.startswith(MEASURED) else shapes[plot.shape_of(group)],
                },
                "text": [text_of(each) for each in words],
                "hovertemplate": f"<b>{_template(group)}</b><br>%{{text}}{_WITHOUT_NAME}",
            }
        )
    layout = {
        "xaxis": {
            "title": {"text": INTENSITY_TITLE},
            **_logarithmic(plot.x_range, _SIDEWAYS_STEPS),
            "range": [math.log10(edge) for edge in plot.x_range],
        },
        "yaxis": {
            "title": {"text": PERFORMANCE_TITLE},
            **_logarithmic(plot.y_range, _UPRIGHT_STEPS),
            "range": [math.log10(edge) for edge in plot.y_range],
        },
    }
    return View(traces, layout, plot.note)
