"""The charts of a page as pictures in a folder."""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path

from blis_sim.errors import ConfigError, MissingExtraError
from blis_sim.report.html.page import Chart, CostView, Page, Plot
from blis_sim.report.plots.bound_shares import BoundSharesPlot, draw_bound_shares
from blis_sim.report.plots.cost_bars import draw_cost
from blis_sim.report.plots.distributions import DistributionPlot, draw_distributions
from blis_sim.report.plots.latency_curves import LatencyPlot, draw_latency
from blis_sim.report.plots.over_time import OverTimePlot, draw_over_time
from blis_sim.report.plots.pareto import ParetoPlot, draw_pareto
from blis_sim.report.plots.roofline import RooflinePlot, draw_roofline
from blis_sim.report.plots.trials import draw_trials


def check_picture_folder(folder: Path, flag: str) -> None:
    """Check, before any work, that pictures can be written; the folder is made if needed.

    Raises
    ------
    ConfigError
        It is a file, or cannot be written.
    MissingExtraError
        matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "plots", flag)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"{flag} must be a folder that can be made; got {folder}: {reason}"
        ) from None
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{flag} must be a writable folder; got {folder}; choose another one")


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture: its file without a folder, its title, and what it shows."""

    name: str
    title: str
    plot: Plot


def pictures(page: Page) -> list[Picture]:
    """Return a picture of each chart, and of each option of its first choice.

    Of further choices, the first option is drawn.
    """
    found = []
    for chart in page.charts:
        for key, words in _first_choices(chart):
            name = "-".join(filter(None, [chart.key, _slug(words[0] if words else "")]))
            title = f"{page.question}\n{', '.join([chart.title, *words])}"
            found.append(Picture(f"{name}.png", title, chart.views[key]))
    return found


def write_pictures(page: Page, folder: Path) -> list[Path]:
    """Draw all pictures of a page into a folder and return the files."""
    paths = []
    for picture in pictures(page):
        paths.append(folder / picture.name)
        _draw(picture.plot, picture.title, paths[-1])
    return paths


def _first_choices(chart: Chart) -> list[tuple[str, list[str]]]:
    """Return the keys of the views to draw, with what is chosen in words."""
    if not chart.selectors:
        return [("", [])]
    first, *others = chart.selectors
    numbers = range(1 if chart.key == "cost" else len(first.options))  # a picture has both costs
    rest = [other.options[0] for other in others if len(other.options) > 1]
    own = [[] if chart.key == "cost" else [option] for option in first.options]
    return [("-".join([f"{n}", *["0" for _ in others]]), [*own[n], *rest]) for n in numbers]


def _slug(words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")


def _draw(plot: Plot, title: str, path: Path) -> None:
    if isinstance(plot, LatencyPlot):
        draw_latency(plot, title, path)
    elif isinstance(plot, DistributionPlot):
        draw_distributions(plot, title, path)
    elif isinstance(plot, ParetoPlot):
        draw_pareto(plot, title, path)
    elif isinstance(plot, CostView):
        draw_cost(plot.plot, title, path)
    elif isinstance(plot, BoundSharesPlot):
        draw_bound_shares(plot, title, path)
    elif isinstance(plot, OverTimePlot):
        draw_over_time(plot, title, path)
    elif isinstance(plot, RooflinePlot):
        draw_roofline(plot, title, path)
    else:
        draw_trials(plot, title, path)
