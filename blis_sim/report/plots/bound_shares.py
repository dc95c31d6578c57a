"""What the time of a run is spent on: compute, bandwidth, communication, overhead, the host.

:func:`bound_shares_plot` works out what is shown, :func:`draw_bound_shares` draws it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blis_sim.report.number_words import as_float

MOST_BARS = 24
PARTS = {
    "compute": "compute",
    "bandwidth": "memory bandwidth",
    "communication": "communication",
    "overhead": "launches, overhead",
    "host": "host",
    "idle": "idle",
}
"""What time is spent on, in the order in which it is shown, and in words."""
X_TITLE = "share of time (%)"
_PERCENT = 100
_COLOURS = {
    "compute": 1,
    "bandwidth": 0,
    "communication": 2,
    "overhead": 4,
    "host": 3,
    "idle": 7,
}


@dataclass(frozen=True, slots=True)
class SharesBar:
    """One bar.

    Attributes
    ----------
    name : str
        Of the phase, and of the pool where there are several.
    percents : dict of str to float
        By the keys of `PARTS`; they add up to 100.
    """

    name: str
    percents: dict[str, float]


@dataclass(frozen=True, slots=True)
class BoundSharesPlot:
    """What the figure shows.

    Attributes
    ----------
    bars : tuple of SharesBar
        From above.
    note : str
        What was left out; empty = nothing.
    """

    bars: tuple[SharesBar, ...]
    note: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """The keys of `PARTS` that any bar has."""
        return tuple(key for key in PARTS if any(bar.percents.get(key) for bar in self.bars))


def colour_number(part: str) -> int:
    """Return which colour of the palette a part has."""
    return _COLOURS[part]


def bound_shares_plot(
    roofline: Mapping[str, Any], *, most: int = MOST_BARS
) -> BoundSharesPlot | None:
    """Return what the figure shows; None without steps.

    Parameters
    ----------
    roofline : mapping
        As in the JSON of a run.
    most : int
        Most bars.
    """
    bars = list(_bars(roofline, ""))
    pools = roofline.get("per_pool") or {}
    if len(pools) > 1:
        for name, pool in pools.items():
            bars += _bars(pool, f", pool {name}")
    if not bars:
        return None
    note = f"{len(bars) - most:,} more are not drawn" if len(bars) > most else ""
    return BoundSharesPlot(tuple(bars[:most]), note)


def _bars(roofline: Mapping[str, Any], of_pool: str) -> Iterator[SharesBar]:
    """Yield all time with what was idle, then the steps of each phase."""
    idle = as_float(roofline.get("idle_frac")) or 0.0
    for key, name in (("whole", "all time"), ("prefill", "prefill"), ("decode", "decode")):
        phase = roofline.get(key) or {}
        shares = phase.get("bound_frac") or {}
        known = {part: as_float(shares.get(part)) for part in PARTS}
        if known["compute"] is None:
            continue
        left = _PERCENT * (1.0 - idle) if key == "whole" else _PERCENT
        percents = {part: left * share for part, share in known.items() if share is not None}
        if key == "whole":
            percents["idle"] = _PERCENT * idle
        yield SharesBar(name + of_pool, percents)


def draw_bound_shares(plot: BoundSharesPlot, title: str, path: str | Path) -> None:
    """Draw the figure to a PNG or SVG file, whole or not at all.

    Raises
    ------
    ConfigError
        The file cannot be written.
    MissingExtraError
        matplotlib is not installed.
    """
    from blis_sim.report.plots.canvas import canvas, plain
    from blis_sim.report.plots.palette import COLOURS

    rows = range(len(plot.bars))
    with canvas(path, title, plot.note, height=2.2 + 0.4 * len(plot.bars)) as (axes,):
        left = [0.0] * len(plot.bars)
        for part in plot.parts:
            widths = [bar.percents.get(part, 0.0) for bar in plot.bars]
            axes.barh(rows, widths, left=left, color=COLOURS[_COLOURS[part]], label=PARTS[part])
            left = [start + width for start, width in zip(left, widths, strict=True)]
        axes.set_yticks(rows, [plain(bar.name) for bar in plot.bars])
        axes.invert_yaxis()
        axes.set(xlabel=X_TITLE, xlim=(0, _PERCENT))
