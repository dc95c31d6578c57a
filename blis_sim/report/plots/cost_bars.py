"""What deployments cost: per hour, and per million output tokens.

:func:`cost_plot` works out what is shown, :func:`draw_cost` draws it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from blis_sim.report.averaged import AveragedPoint
from blis_sim.report.metric_words import USD_PER_HOUR, USD_PER_MILLION
from blis_sim.report.number_words import counted, usd
from blis_sim.report.plots.palette import COLOURS, GREY
from blis_sim.report.plots.series import deployment_words
from blis_sim.report.setting_words import point_words, varying

MOST_BARS = 20


@dataclass(frozen=True, slots=True)
class CostBar:
    """One deployment.

    Attributes
    ----------
    name : str
    usd_per_hour, usd_per_million : float or None
        None = not known.
    is_chosen : bool
        Whether it is the answer.
    """

    name: str
    usd_per_hour: float | None
    usd_per_million: float | None
    is_chosen: bool = False


@dataclass(frozen=True, slots=True)
class CostPlot:
    """What the figure shows.

    Attributes
    ----------
    bars : tuple of CostBar
        The cheapest first.
    note : str
        What was left out; empty = nothing.
    """

    bars: tuple[CostBar, ...]
    note: str = ""


def cost_plot(bars: Sequence[CostBar], *, most: int = MOST_BARS) -> CostPlot:
    """Return what the figure shows: those with a price, the cheapest per token first."""
    priced = [bar for bar in bars if bar.usd_per_hour is not None or bar.usd_per_million]
    far = float("inf")

    def price(bar: CostBar) -> tuple[float, float]:
        return (bar.usd_per_million or far, bar.usd_per_hour or far)

    shown = sorted(priced, key=price)
    notes = []
    if len(shown) > most:
        notes.append(f"{len(shown) - most:,} more are dearer and not drawn")
    if len(priced) < len(bars):
        notes.append(f"no price is known for {counted(len(bars) - len(priced), 'deployment')}")
    return CostPlot(tuple(shown[:most]), "; ".join(notes))


def cost_bars(
    points: Sequence[AveragedPoint], chosen: AveragedPoint | None = None
) -> list[CostBar]:
    """Return a bar for each point with figures."""
    done = [point for point in points if point.is_done]
    paths = varying([point.labels for point in points])
    return [
        CostBar(
            point_words({path: point.labels[path] for path in paths if path in point.labels})
            or deployment_words(point),
            point.mean(USD_PER_HOUR),
            point.mean(USD_PER_MILLION),
            point is chosen,
        )
        for point in done
    ]


def bar_colours(plot: CostPlot) -> list[str]:
    """Return the colour of each bar: where one is the answer, the others are grey.

    No other colour but that of the answer is one that a line of another chart may have.
    """
    others = GREY if any(bar.is_chosen for bar in plot.bars) else COLOURS[0]
    return [COLOURS[0] if bar.is_chosen else others for bar in plot.bars]


def draw_cost(plot: CostPlot, title: str, path: str | Path) -> None:
    """Draw the figure to a PNG or SVG file, whole or not at all.

    Raises
    ------
    ConfigError
        The file cannot be written.
    MissingExtraError
        matplotlib is not installed.
    """
    from blis_sim.report.plots.canvas import canvas, plain

    rows = len(plot.bars)
    with canvas(path, title, plot.note, height=1.8 + 0.62 * rows, rows=2) as every:
        per_hour, per_million = every
        for each, unit, values in (
            (per_hour, "USD per hour", [bar.usd_per_hour for bar in plot.bars]),
            (per_million, "USD per million output tokens", [b.usd_per_million for b in plot.bars]),
        ):
            drawn = each.barh(
                range(rows),
                [value or 0.0 for value in values],
                color=bar_colours(plot),
            )
            each.bar_label(drawn, [plain(usd(v)) for v in values], padding=3, fontsize=8)
            each.set_yticks(range(rows), [plain(bar.name) for bar in plot.bars])
            each.invert_yaxis()
            each.margins(x=0.12)
            each.grid(visible=False)
            each.set_xlabel(unit)
