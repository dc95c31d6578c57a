"""What many errors amount to: in all, and by model, GPU and load."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from blis_sim.catalog.gpus import load_gpu
from blis_sim.errors import CatalogError
from blis_sim.validation.compare import ValidatedRow
from blis_sim.validation.figures import FIGURES

UNNAMED = "unnamed"
_IN_FLIGHT = ((8.0, "under 8"), (16.0, "8 to 16"), (32.0, "16 to 32"), (64.0, "32 to 64"))
_MOST_IN_FLIGHT = "64 and more"


@dataclass(frozen=True, slots=True)
class ErrorSummary:
    """Errors of one figure over some rows, in percent.

    Attributes
    ----------
    mape, median_ape : float
        Mean and median of the errors without their sign.
    bias : float
        Mean of the errors: > 0 = predictions are too high.
    n : int
        Rows; those that could not be simulated are among them, with an error of 100.
    """

    mape: float
    median_ape: float
    bias: float
    n: int


def summarize(rows: Iterable[ValidatedRow]) -> dict[str, ErrorSummary]:
    """Return the summary of each figure that was measured in any of the rows."""
    errors: dict[str, list[float]] = {}
    for row in rows:
        for name, compared in row.metrics.items():
            errors.setdefault(name, []).append(compared.error_pct)
    return {f.name: _summary(errors[f.name]) for f in FIGURES if f.name in errors}


def _summary(errors: Sequence[float]) -> ErrorSummary:
    sizes = [abs(error) for error in errors]
    return ErrorSummary(
        mape=statistics.fmean(sizes),
        median_ape=statistics.median(sizes),
        bias=statistics.fmean(errors),
        n=len(errors),
    )


def _gpu(row: ValidatedRow) -> str:
    try:
        return load_gpu(row.gpu).name
    except CatalogError:
        return row.gpu


def _in_flight(row: ValidatedRow) -> str | None:
    if row.in_flight is None:
        return None
    return next((name for end, name in _IN_FLIGHT if row.in_flight < end), _MOST_IN_FLIGHT)


GROUPINGS: Mapping[str, Callable[[ValidatedRow], str | None]] = {
    "model": lambda row: row.model,
    "gpu": _gpu,
    "model_gpu": lambda row: f"{row.model} on {_gpu(row)}",
    "tp": lambda row: str(row.tp),
    "load": lambda row: row.load or UNNAMED,
    "in_flight": _in_flight,
}
"""How rows are told apart; None = the row belongs to no group."""

_ORDER = [name for _, name in _IN_FLIGHT] + [_MOST_IN_FLIGHT]


def summarize_groups(
    rows: Sequence[ValidatedRow],
) -> dict[str, dict[str, dict[str, ErrorSummary]]]:
    """Return grouping -> group -> figure -> summary; groups in order of their names."""
    found: dict[str, dict[str, dict[str, ErrorSummary]]] = {}
    for grouping, group_of in GROUPINGS.items():
        groups: dict[str, list[ValidatedRow]] = {}
        for row in rows:
            group = group_of(row)
            if group is not None:
                groups.setdefault(group, []).append(row)
        names = sorted(groups, key=lambda n: (_ORDER.index(n) if n in _ORDER else -1, n))
        found[grouping] = {name: summarize(groups[name]) for name in names}
    return found
