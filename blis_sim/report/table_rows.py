"""Rows of the console table, in the form of vLLM's: a label, then a number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from blis_sim.metrics.definitions import metric

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
        value = 100 * value
    if value is not None and tag in _DECIMAL_COUNTS:
        value = float(value)
    decimals = _MIN_DECIMALS
    if tag in _SIGNIFICANT and value and value < 1:
        decimals -= math.floor(math.log10(value))
    return row(declared.header, value, decimals=decimals)


def row(label: str, value: float | None, *, decimals: int = _MIN_DECIMALS) -> str:
    """Return a row; a count is shown as it is, any other number with so many decimals."""
    return f"{label + ':':<{LABEL_WIDTH}} {_number(value, decimals)}"


def _number(value: float | None, decimals: int) -> str:
    if value is None:
        return "n/a"
    return f"{value:.{decimals}f}" if isinstance(value, float) else str(value)
