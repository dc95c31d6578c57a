"""The block of the console table that says how well a run used its GPUs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from blis_sim.metrics.roofline import PHASES

if TYPE_CHECKING:
    from blis_sim.metrics.roofline import PhaseRoofline, RunRoofline

WIDTH = 50
_LABEL_WIDTH = 23
_COLUMN_WIDTH = 9
_PERCENT = 100
BOUND_LABELS = {
    "compute": "Bound by compute (%)",
    "bandwidth": "Bound by bandwidth (%)",
    "communication": "Communication (%)",
    "overhead": "Launches, overhead (%)",
    "host": "Host (%)",
}
"""What time is spent on, in the order in which it is shown."""
_FIGURES: tuple[tuple[str, Callable[[PhaseRoofline], float | None]], ...] = (
    ("TFLOP", lambda phase: phase.flops / 1e12),
    ("GB moved", lambda phase: phase.bytes / 1e9),
    ("FLOP/byte", lambda phase: phase.intensity),
    ("Ridge (FLOP/byte)", lambda phase: phase.ridge),
    ("MFU (%)", lambda phase: _percent(phase.mfu)),
    ("MBU (%)", lambda phase: _percent(phase.mbu)),
    ("Share of step time (%)", lambda phase: _percent(phase.time_frac)),
)


def roofline_rows(roofline: RunRoofline) -> Iterator[str]:
    """Yield the rows of a run, and those of its pools where there are several."""
    yield from _block("Roofline", roofline)
    if len(roofline.per_pool) > 1:
        for name, pool in roofline.per_pool.items():
            yield from _block(f"Roofline, pool {name}", pool)


def _block(title: str, roofline: RunRoofline) -> Iterator[str]:
    phases = [getattr(roofline, name) for name in PHASES]
    yield f"{title:-^{WIDTH}}"
    yield _row("", [f"{name:>{_COLUMN_WIDTH}}" for name in PHASES])
    for label, figure in _FIGURES:
        yield _row(f"{label}:", [_number(figure(phase)) for phase in phases])
    for key, label in BOUND_LABELS.items():
        shares = [phase.bound_frac[key] for phase in phases]
        yield _row(f"{label}:", [_number(_percent(share)) for share in shares])
    yield _row("Idle (%):", [_number(_percent(roofline.idle_frac))])


def _row(label: str, cells: list[str]) -> str:
    return f"{label:<{_LABEL_WIDTH}}{''.join(cells)}"


def _percent(share: float | None) -> float | None:
    return None if share is None else _PERCENT * share


def _number(value: float | None) -> str:
    """Return a number that fits its column."""
    if value is None:
        text = "n/a"
    elif abs(value) < 10_000:
        text = f"{value:.2f}"
    elif abs(value) < 10**7:
        text = f"{value:.0f}"
    else:
        text = f"{value:.2e}"
    return f"{text:>{_COLUMN_WIDTH}}"
