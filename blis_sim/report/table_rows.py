"""Rows of the console table, in the form of vLLM's: a label, then a number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from blis_sim.metrics.definitions import metric
from blis_sim.metrics.replications import Replicated

LABEL_WIDTH = 40
# vLLM prints this count with decimals.
_DECIMAL_COUNTS = frozenset({"max_concurrent_requests"})
# What a short run has little of.
_SIGNIFICANT = frozenset({"gpu_hours", "cost_usd", "usd_per_million_output_tokens"})
_MIN_DECIMALS = 2


def metric_row(summary: Mapping[str, Any], tag: str) -> str:
    """Return the row of a declared metric; a fraction is shown in percent.

    GPU-hours and costs have at least three significant digits.
    """
    declared = metric(tag)
    value = summary[tag]
    if value is not None and declared.unit == "fraction":
        value = value.scaled(100) if isinstance(value, Replicated) else 100 * value
    if tag in _DECIMAL_COUNTS and isinstance(value, int):
        value = float(value)
    size = value.mean if isinstance(value, Replicated) else value
    decimals = _MIN_DECIMALS
    if tag in _SIGNIFICANT and size and size < 1:
        decimals -= math.floor(math.log10(size))
    return row(declared.header, value, decimals=decimals)


def row(label: str, value: float | Replicated | None, *, decimals: int = _MIN_DECIMALS) -> str:
    """Return a row; a count is shown as it is, any other number with so many decimals."""
    return f"{label + ':':<{LABEL_WIDTH}} {_number(value, decimals)}"


def shown(figures: Mapping[str, Replicated]) -> dict[str, Any]:
    """Return figures as rows take them: one that all replications share is a plain number."""
    return {name: each.values[0] if each.is_constant else each for name, each in figures.items()}


def _number(value: float | Replicated | None, decimals: int) -> str:
    if isinstance(value, Replicated):
        return _interval(value, decimals)
    if value is None:
        return "n/a"
    return f"{value:.{decimals}f}" if isinstance(value, float) else str(value)


def _interval(figure: Replicated, decimals: int) -> str:
    """Return the mean and half its interval; where some have no data, how many have."""
    half = figure.half_width_95
    text = _number(figure.mean, decimals)
    if half is not None:
        text += f" ± {half:.{decimals}f}"
    count, total = len(figure.known), len(figure.values)
    return text if count == total else f"{text} ({count} of {total})"
