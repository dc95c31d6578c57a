"""A roofline as a file: PNG or SVG by matplotlib, one self-contained HTML page by plotly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from blis_sim.atomic import check_output_path
from blis_sim.errors import ConfigError
from blis_sim.report.plots.roofline import (
    Mark,
    RooflinePlot,
    draw_roofline,
    point_marks,
    roofline_plot,
    step_marks,
)

if TYPE_CHECKING:
    from blis_sim.report.html.page import Page
    from blis_sim.roofline.analysis import PhaseAnalysis
    from blis_sim.roofline.ceilings import Ceilings
    from blis_sim.roofline.points import MeasuredPoint

_PICTURES, _PAGES = (".png", ".svg"), (".html", ".htm")


def check_roofline_path(path: str | Path, flag: str) -> None:
    """Check, before any work, that the figure can be drawn to a file.

    Raises
    ------
    ConfigError
        The suffix is another than ``.png``, ``.svg`` and ``.html``, or it cannot be written.
    MissingExtraError
        matplotlib, or plotly for HTML, is not installed.
    """
    suffix = Path(path).suffix.lower()
    if suffix in _PAGES:
        from blis_sim.report.html.render import check_report_path

        check_report_path(path, flag)
        return
    if suffix not in _PICTURES:
        raise ConfigError(f"{flag} must be a file ending in .png, .svg or .html; got {path}")
    from blis_sim.report.workload_plot import check_plot_path

    check_plot_path(path, flag)


def write_roofline_plot(
    ceilings: Sequence[Ceilings],
    points: Sequence[MeasuredPoint],
    path: str | Path,
    *,
    title: str,
    steps: Sequence[PhaseAnalysis] = (),
) -> None:
    """Draw the roofs of machines with kernels of phases of the first and measured points.

    Raises
    ------
    ConfigError, MissingExtraError
        As `check_roofline_path`.
    """
    marks: list[Mark] = []
    for step in steps:
        marks += step_marks(step, has_kernels=True)
    marks += point_marks(points)
    write_plot(roofline_plot(ceilings, marks), title, path)


def write_plot(plot: RooflinePlot, title: str, path: str | Path, flag: str = "save_path") -> None:
    """Draw a figure to a file; its suffix says how. Raises as `check_roofline_path`."""
    check_roofline_path(path, flag)
    if Path(path).suffix.lower() in _PAGES:
        from blis_sim.report.html.render import write_page

        write_page(roofline_page(plot, title), path)
    else:
        check_output_path(path, flag)
        draw_roofline(plot, title, path)


def roofline_page(plot: RooflinePlot, title: str) -> Page:
    """Return the page of a figure, with its points as a table."""
    from blis_sim.report.html.page import Cell, Chart, Column, Fact, Page, Table
    from blis_sim.report.number_words import number
    from blis_sim.version import package_version

    columns = (
        Column("point", is_number=False),
        Column("of", is_number=False),
        Column("intensity", "FLOP/byte", "operations over bytes of the memory"),
        Column("performance", "TFLOP/s", "measured, else what the roof allows"),
    )
    rows = tuple(
        (
            Cell(mark.name, mark.name),
            Cell(mark.group, mark.group),
            Cell(number(mark.x), mark.x),
            Cell(number(mark.y), mark.y),
        )
        for mark in plot.marks
    )
    about = "A point on a line is as fast as this ceiling allows; left of the ridge memory bounds."
    lines = "; ".join(line.name for line in plot.lines)
    return Page(
        kind="roofline",
        question=title,
        answer=lines,
        charts=(Chart("roofline", "Roofline", about, {"": plot}),),
        tables=(Table("Points", columns, rows),) if rows else (),
        facts=(
            Fact("roofs", "configs/gpus/gpus.yaml and roofs.yaml"),
            Fact("bytes", "each operand of a kernel crosses the bus of the memory once"),
        ),
        footer=f"blis_sim {package_version()}",
    )
