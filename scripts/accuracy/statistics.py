"""What errors amount to."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

Summary = dict[str, float]


def summary(errors: Sequence[float]) -> Summary:
    """Return mean and median of the sizes of errors in percent, their mean, and how many."""
    sizes = [abs(error) for error in errors]
    return {
        "mape": round(statistics.fmean(sizes), 2),
        "median": round(statistics.median(sizes), 2),
        "bias": round(statistics.fmean(errors), 2),
        "n": len(errors),
    }


def summaries(rows: Sequence[dict[str, Any]]) -> dict[str, Summary]:
    """Return figure -> summary over rows with ``errors``."""
    names = dict.fromkeys(name for row in rows for name in row["errors"])
    return {
        name: summary([row["errors"][name] for row in rows if name in row["errors"]])
        for name in names
    }
