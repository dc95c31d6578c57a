"""``blis compare --plot``: latencies and throughput of deployments.

:func:`compare_plot` works out what is shown, :func:`draw_comparison` draws it.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from blis_sim.atomic import atomic_write
from blis_sim.capacity.compared import ComparedRun, comparability
from blis_sim.errors import MissingExtraError
from blis_sim.report.compare_names import deployment, short_model

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS = (
    ("Time to first token", "ms", (("mean_ttft_ms", "mean"), ("p99_ttft_ms", "p99"))),
    ("Between tokens", "ms", (("mean_tpot_ms", "TPOT mean"), ("p99_itl_ms", "ITL p99"))),
    ("End to end", "ms", (("mean_e2el_ms", "mean"), ("p99_e2el_ms", "p99"))),
    (
        "Output throughput",
        "tokens/s",
        (("output_throughput", "deployment"), ("output_throughput_per_gpu", "per GPU")),
    ),
)
_MAX_NOTE, _TITLE_WIDTH = 220, 110
_MAX_HEIGHT = 60.0
"""Inches."""
_WHOLE_FROM = 100.0
_WIDE_RANGE = 20.0
"""From this ratio of the largest to the smallest value on, an axis is logarithmic."""
_LINE_STYLES = ("-", "--")


@dataclass(frozen=True, slots=True)
class Series:
    """One figure of every deployment.

    Attributes
    ----------
    label : str
        What it is.
    values : tuple of tuples of (float or None), shape (deployments, rates)
        None = not simulated, or no data.
    """

    label: str
    values: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """One of the diagrams.

    Attributes
    ----------
    title, unit : str
    series : tuple of Series
    is_logarithmic : bool
        Whether the values lie so far apart that small ones would not be seen.
    """

    title: str
    unit: str
    series: tuple[Series, ...]
    is_logarithmic: bool


@dataclass(frozen=True, slots=True)
class ComparePlot:
    """What the figure shows.

    Attributes
    ----------
    title : str
        What all deployments have in common.
    note : str
        What was left out, and whether the rest can be compared.
    deployments : tuple of str
        In the order of the rows; those with any numbers.
    rates : tuple of (float or None)
        Requests per second, ascending; with one, bars are drawn, with more, lines.
    panels : tuple of Panel
    """

    title: str
    note: str
    deployments: tuple[str, ...]
    rates: tuple[float | None, ...]
    panels: tuple[Panel, ...]


def compare_plot(rows: Sequence[ComparedRun]) -> ComparePlot:
    """Return what the figure of some rows shows; deployments without numbers are left out.

    Rows with a name are drawn as bars, whatever their rates.
    """
    models = list(dict.fromkeys(row.model for row in rows))
    tps = list(dict.fromkeys(row.tensor_parallel_size for row in rows))
    rates = _ascending({row.request_rate for row in rows if row.is_simulated})
    is_named = any(row.name for row in rows)
    name = partial(_name, with_model=len(models) > 1, with_tp=len(tps) > 1)

    simulated = [row for row in rows if row.is_simulated]
    names = tuple(dict.fromkeys(name(row) for row in simulated))
    absent = [each for each in dict.fromkeys(name(row) for row in rows) if each not in names]
    drawn_rates = (None,) if is_named else rates
    by_place = {(name(row), None if is_named else row.request_rate): row for row in simulated}

    def values(key: str) -> tuple[tuple[float | None, ...], ...]:
        places = (((each, rate) for rate in drawn_rates) for each in names)
        return tuple(
            tuple(
                by_place[place].metrics.get(key) if place in by_place else None for place in line
            )
            for line in places
        )

    panels = tuple(
        _panel(title, unit, tuple(Series(label, values(key)) for key, label in series))
        for title, unit, series in _PANELS
    )
    common = [models[0]] if len(models) == 1 else []
    common += [f"TP {tp}" for tp in tps if len(tps) == 1 and tp is not None]
    common += [f"{rate:g} requests/s" for rate in rates if len(rates) == 1 and rate is not None]
    notes = ["different latency models answered: not comparable"] if comparability(rows) else []
    notes += [f"not simulated: {', '.join(absent)}"] if absent else []
    return ComparePlot(", ".join(common), "; ".join(notes), names, drawn_rates, panels)


def _name(row: ComparedRun, *, with_model: bool, with_tp: bool) -> str:
    """Return the name of a row, or in what its deployment differs from others."""
    if row.name:
        return row.name
    words = [short_model(row.model)] if with_model else []
    words.append(deployment(row, with_tp=False))
    if with_tp and row.tensor_parallel_size is not None:
        words.append(f"TP {row.tensor_parallel_size}")
    return " ".join(words)


def _ascending(rates: set[float | None]) -> tuple[float | None, ...]:
    return tuple(sorted(rates, key=lambda rate: -1.0 if rate is None else rate))


def _panel(title: str, unit: str, series: tuple[Series, ...]) -> Panel:
    if series[0].values == series[1].values:  # throughput per GPU where each has one
        series = series[:1]
    shown = [v for each in series for line in each.values for v in line if v]
    is_wide = bool(shown) and max(shown) > _WIDE_RANGE * min(shown)
    return Panel(title, unit, series, is_wide)


def draw_comparison(plot: ComparePlot, path: str | Path) -> None:
    """Draw the figure to a PNG or SVG file, whole or not at all.

    Parameters
    ----------
    plot : ComparePlot
        What to draw.
    path : str or Path
        Its suffix says the format.

    Raises
    ------
    ConfigError
        The file cannot be written.
    MissingExtraError
        matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "plots", "a plot of a comparison") from None

    suffix = Path(path).suffix.lower().removeprefix(".")
    # No clock and no random names inside: the same comparison gives the same file.
    metadata = {"Date": None} if suffix == "svg" else {"Software": None}
    has_lines = len(plot.rates) > 1
    height = 6.5 if has_lines else min(max(4.5, 2.2 + 0.7 * len(plot.deployments)), _MAX_HEIGHT)
    with mpl.rc_context({"svg.hashsalt": "blis_sim", "font.size": 9}):
        figure = Figure(figsize=(10, height), layout="constrained")
        lines = (line for text in (plot.title, plot.note) for line in _wrapped(text))
        figure.suptitle("\n".join(lines))
        for axes, panel in zip(figure.subplots(2, 2).flat, plot.panels, strict=True):
            axes.set_title(_panel_title(panel) if has_lines else panel.title)
            if has_lines:
                _draw_lines(axes, plot, panel)
            else:
                _draw_bars(axes, plot, panel)
        if has_lines:
            handles, labels = figure.axes[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format=suffix, dpi=120, metadata=metadata)


def _wrapped(text: str) -> list[str]:
    short = textwrap.shorten(text, _MAX_NOTE, placeholder=" ...")
    # A dollar would begin mathematics.
    return textwrap.wrap(short.replace("$", r"\$"), _TITLE_WIDTH)


def _panel_title(panel: Panel) -> str:
    words = zip(panel.series, ("solid", "dashed"), strict=False)
    return f"{panel.title} ({', '.join(f'{series.label} {word}' for series, word in words)})"


def _bar_label(value: float | None) -> str:
    if value is None:
        return "n/a"
    return f"{value:,.0f}" if value >= _WHOLE_FROM else f"{value:.3g}"


def _draw_bars(axes: Axes, plot: ComparePlot, panel: Panel) -> None:
    """Draw a group of bars for each deployment, the first on top."""
    thickness = 0.8 / len(panel.series)
    for number, series in enumerate(panel.series):
        places = [
            row + (number - (len(panel.series) - 1) / 2) * thickness
            for row in range(len(plot.deployments))
        ]
        lengths = [line[0] or 0.0 for line in series.values]
        bars = axes.barh(places, lengths, height=thickness, label=series.label)
        axes.bar_label(
            bars, [_bar_label(line[0]) for line in series.values], padding=2, fontsize=7
        )
    axes.set_yticks(range(len(plot.deployments)), plot.deployments)
    axes.invert_yaxis()
    axes.margins(x=0.18)
    axes.set_xlabel(panel.unit)
    if plot.deployments and len(panel.series) > 1:
        axes.legend(frameon=False, fontsize=8)


def _draw_lines(axes: Axes, plot: ComparePlot, panel: Panel) -> None:
    """Draw a colour for each deployment and a style for each figure over the rate."""
    from matplotlib.ticker import LogLocator

    rates = [math.inf if rate is None else rate for rate in plot.rates]
    is_scaled = all(map(math.isfinite, rates))
    places = rates if is_scaled else list(range(len(rates)))
    for number, series in enumerate(panel.series):
        for colour, (name, line) in enumerate(zip(plot.deployments, series.values, strict=True)):
            heights = [float("nan") if value is None else value for value in line]
            axes.plot(
                places,
                heights,
                color=f"C{colour % 10}",
                linestyle=_LINE_STYLES[number],
                marker="o",
                markersize=3,
                label=name if number == 0 else None,
            )
    axes.set(xlabel="requests/s", ylabel=panel.unit)
    if not is_scaled:
        axes.set_xticks(places, ["as recorded" if r is None else f"{r:g}" for r in plot.rates])
    if panel.is_logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:,g}")
        axes.yaxis.set_minor_formatter("{x:,g}")
    else:
        axes.set_ylim(bottom=0)
