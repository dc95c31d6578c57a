"""What a page shows, in the order in which it shows it; plain text and numbers only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from blis_sim.report.plots.bound_shares import BoundSharesPlot
from blis_sim.report.plots.cost_bars import CostPlot
from blis_sim.report.plots.distributions import DistributionPlot
from blis_sim.report.plots.latency_curves import LatencyPlot
from blis_sim.report.plots.over_time import OverTimePlot
from blis_sim.report.plots.pareto import ParetoPlot
from blis_sim.report.plots.roofline import RooflinePlot
from blis_sim.report.plots.trials import TrialsPlot


@dataclass(frozen=True, slots=True)
class Tile:
    """A key figure.

    Attributes
    ----------
    label, value : str
    note : str
        Below the value: what it belongs to, or a figure it is to be compared with.
    """

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table.

    Attributes
    ----------
    text : str
    value : float, str or None
        What it is sorted by; None = it comes last.
    note : str
        Behind the text, smaller: ``± 1.2``.
    """

    text: str
    value: float | str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    header, unit : str
    about : str
        Definition of what stands in it.
    is_number : bool
        Whether it is flush right.
    """

    header: str
    unit: str = ""
    about: str = ""
    is_number: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """A table that is sorted by a click on a header.

    Attributes
    ----------
    title : str
    columns : tuple of Column
    rows : tuple of tuples of Cell
    chosen : frozenset of int
        Rows to be marked.
    note : str
        Below the title.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    chosen: frozenset[int] = frozenset()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Selector:
    """A choice between views of a chart."""

    label: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CostView:
    """One of the two prices of a cost plot: per hour, or per million output tokens."""

    plot: CostPlot
    is_per_hour: bool


Plot = (
    BoundSharesPlot
    | CostView
    | DistributionPlot
    | LatencyPlot
    | OverTimePlot
    | ParetoPlot
    | RooflinePlot
    | TrialsPlot
)


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with one view or several.

    Attributes
    ----------
    key : str
        Name within the page, an identifier.
    title, about : str
        Heading, and what is to be seen.
    views : mapping of str to Plot
        By the numbers of the options chosen, ``"0-2"``; of a chart without selectors by ``""``.
    selectors : tuple of Selector
    """

    key: str
    title: str
    about: str
    views: Mapping[str, Plot]
    selectors: tuple[Selector, ...] = ()


@dataclass(frozen=True, slots=True)
class Absent:
    """A part that has no data, and how to get some."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Fact:
    """A line of the manifest."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Document:
    """A text of the manifest that is shown as it is."""

    title: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The whole page.

    Attributes
    ----------
    kind : str
        What it is about: ``sweep``, ``plan``, ``tune``, ``run`` or ``roofline``.
    question : str
        In words; the heading.
    about : str
        What the question leaves open: load, limits.
    answer : str
        One sentence.
    is_good : bool
        Whether the answer is what was hoped for.
    tiles, charts, absent, tables, notices, facts, documents : tuples
    infeasible : Table or None
        What could not be simulated, and why.
    meanings : tuple of Fact
        Definitions of figures.
    footer : str
        What made the page, when.
    """

    kind: str
    question: str
    about: str = ""
    answer: str
    is_good: bool = True
    tiles: tuple[Tile, ...] = ()
    charts: tuple[Chart, ...] = ()
    absent: tuple[Absent, ...] = ()
    tables: tuple[Table, ...] = ()
    infeasible: Table | None = None
    notices: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()
    documents: tuple[Document, ...] = ()
    meanings: tuple[Fact, ...] = ()
    footer: str = ""
