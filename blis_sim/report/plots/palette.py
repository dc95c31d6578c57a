"""Colours, dashes and marks that tell many lines apart, also for colour-blind eyes.

The colours are those of Okabe and Ito (Color Universal Design, 2008), the black one and the
yellow one replaced: all can be seen on white and on dark paper.
"""

from __future__ import annotations

from dataclasses import dataclass

COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7"),
    *("#e69f00", "#56b4e9", "#8c6bb1", "#8a8a8a"),
)
GREY = COLOURS[-1]
_DASHES = (("-", "solid"), ("--", "dash"), (":", "dot"), ("-.", "dashdot"))
_MARKS = (("o", "circle"), ("s", "square"), ("^", "triangle-up"), ("D", "diamond"))
LIMIT = "#e5383b"


@dataclass(frozen=True, slots=True)
class Style:
    """How one of many lines looks, in the words of matplotlib and of plotly."""

    colour: str
    dashes: str
    plotly_dash: str
    marker: str
    plotly_symbol: str


def style_of(number: int) -> Style:
    """Return the style of a line, by its number from 0."""
    again = number // len(COLOURS)
    dashes, marks = _DASHES[again % len(_DASHES)], _MARKS[again % len(_MARKS)]
    return Style(COLOURS[number % len(COLOURS)], *dashes, *marks)
