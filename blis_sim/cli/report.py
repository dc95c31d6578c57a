"""``blis report``: one HTML page about a study or a result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blis_sim.cli.common import note, out
from blis_sim.cli.values import count
from blis_sim.errors import ConfigError

HELP = "Make one HTML page of a study or a result: answer, charts, tables and sources."


def report(
    *,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Result store of a sweep, plan or tune (.db), or the JSON of blis run.",
            show_default=False,
        ),
    ],
    page: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Page to write; .html.")
    ] = Path("report.html"),
    study: Annotated[
        str,
        typer.Option("--study", metavar="N", help="Which study of a store (the one asked last)."),
    ] = "",
    plots: Annotated[
        Path | None,
        typer.Option("--plots", metavar="FOLDER", help="Draw the charts as pictures, too."),
    ] = None,
) -> None:
    """Read, write, and print one line per file."""
    from blis_sim.report.html.pictures import check_picture_folder, write_pictures
    from blis_sim.report.html.render import check_report_path, write_page
    from blis_sim.report.html.source import page_of, read_source
    from blis_sim.report.number_words import size

    check_report_path(page, "--out")
    if page.resolve() == source.resolve():
        raise ConfigError(
            f"--out must be another file than {source}, which is read; it would be overwritten"
        )
    number = count(study, "--study") if study else None
    made = page_of(read_source(source, number), source.name)
    if plots is not None:
        check_picture_folder(plots, "--plots")
    write_page(made, page)
    out(made.answer)
    out(f"{page}: {size(page.stat().st_size)}")
    if plots is None:
        return
    for path in write_pictures(made, plots):
        out(f"{path}")
    if not made.charts:
        note(f"{source} has nothing to draw; --plots wrote no picture")
