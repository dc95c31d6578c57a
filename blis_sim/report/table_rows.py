"""Rows of the console table, in the form of vLLM's: a label, then a number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blis_sim.metrics.definitions import metric

LABEL_WIDTH = 40
# vLLM prints this count with decimals.
_DECIMAL_COUNTS = frozenset({"max_concurrent_requests"})


def metric_row(summary: Mapping[str, Any], tag: str) -> str:
    """Return the row of a declared metric; a fraction is shown in percent."""
    declared = metric(tag)
    value = summary[tag]
    if value is not None and declared.unit == "fraction":
        value = 100 * value
    if value is not None and tag in _DECIMAL_COUNTS:
        value = float(value)
    return row(declared.header, value)


def row(label: str, value: float | None) -> str:
    """Return a row; a count is shown as it is, any other number with two decimals."""
    return f"{label + ':':<{LABEL_WIDTH}} {_number(value)}"


def _number(value: float | None) -> str:
    if value is None:
        return "n/a"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
