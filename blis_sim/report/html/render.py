"""Turn a page into one HTML file that needs nothing else."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blis_sim.atomic import atomic_write, check_output_path
from blis_sim.errors import ConfigError, MissingExtraError
from blis_sim.report.html.page import Chart, Page
from blis_sim.report.html.plotly_views import view_of

if TYPE_CHECKING:
    from jinja2 import Template

_TEMPLATES = Path(__file__).parent / "templates"
_SUFFIXES = (".html", ".htm")


def check_report_path(path: str | Path, flag: str) -> None:
    """Check, before any work, that a page can be written.

    Raises
    ------
    ConfigError
        The suffix is no HTML, or the path cannot be written.
    MissingExtraError
        plotly or jinja2 is not installed.
    """
    if Path(path).suffix.lower() not in _SUFFIXES:
        raise ConfigError(
            f"{flag} must be a file ending in .html; got {path}; a browser prints it as PDF"
        )
    check_extra(flag)
    check_output_path(path, flag)


def check_extra(purpose: str) -> None:
    """Check that the packages are installed; MissingExtraError when not."""
    for package in ("jinja2", "plotly"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "report", purpose)


def render_page(page: Page) -> str:
    """Return the page as HTML text.

    Every text of the page is escaped; the only scripts are those of this package and of
    plotly, and a policy in the page forbids the browser to load anything.

    Raises
    ------
    MissingExtraError
        plotly or jinja2 is not installed.
    """
    check_extra("a report")
    text: str = _template().render(
        page=page,
        charts={chart.key: _drawings(chart) for chart in page.charts},
        style=_shipped("style.css"),
        script=_shipped("page.js"),
        plotly=_plotly_js() if page.charts else "",
    )
    return text


@lru_cache(maxsize=1)
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")


def write_page(page: Page, path: str | Path) -> None:
    """Write the page, whole or not at all.

    Raises
    ------
    ConfigError
        The file cannot be written.
    MissingExtraError
        plotly or jinja2 is not installed.
    """
    text = render_page(page)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _drawings(chart: Chart) -> dict[str, Any]:
    views = {name: view_of(plot) for name, plot in chart.views.items()}
    return {
        name: {"data": view.data, "layout": view.layout, "note": view.note}
        for name, view in views.items()
    }


def _shipped(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _plotly_js() -> str:
    from plotly.offline import get_plotlyjs

    text: str = get_plotlyjs()
    return text
