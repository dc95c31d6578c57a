"""The part of a run's page that says how well it used its GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from blis_sim.metrics.roofline import PHASES, ROOFLINE_DEFINITIONS
from blis_sim.report.html.answer import mapping
from blis_sim.report.html.page import Cell, Chart, Column, Table
from blis_sim.report.number_words import ABSENT, as_float, number, percent
from blis_sim.report.plots.bound_shares import bound_shares_plot

_BOUND = "Share of the time: "
_SHARES = (
    ("compute", "compute", "kernels that the peak of their format bounds"),
    ("bandwidth", "bandwidth", "kernels that the bandwidth of the memory bounds"),
    ("communication", "communication", "messages between the GPUs of an instance"),
    ("overhead", "overhead", "launches, and kernels that take more than twice their bound"),
    ("host", "host", "what the host does between kernels and steps"),
)
_FIGURES = (("flops", "FLOPs", "1e12"), ("bytes", "moved", "GB"))
_SCALES = {"flops": 1e12, "bytes": 1e9}
_RATIOS = (("intensity", "intensity"), ("ridge", "ridge"))
_FRACTIONS = (("mfu", "MFU"), ("mbu", "MBU"), ("time_frac", "step time"))


def roofline_chart(roofline: Mapping[str, Any]) -> Chart | None:
    """Return what time is spent on; None where steps were not counted, or there are none."""
    plot = bound_shares_plot(roofline)
    if plot is None:
        return None
    return Chart(
        "bounds",
        "What bounds the time",
        "All time of the instances, then the time of their steps by phase. In a step with prompts "
        "and decodes, tokens share the weights in proportion.",
        {"": plot},
    )


def roofline_table(roofline: Mapping[str, Any]) -> Table | None:
    """Return a row for each phase, of the run and of each pool where there are several."""
    if not roofline:
        return None
    columns = (
        Column("phase", is_number=False),
        *(Column(name, unit, ROOFLINE_DEFINITIONS[key]) for key, name, unit in _FIGURES),
        *(Column(name, "FLOP/byte", ROOFLINE_DEFINITIONS[key]) for key, name in _RATIOS),
        *(Column(name, "%", ROOFLINE_DEFINITIONS[key]) for key, name in _FRACTIONS),
        *(Column(name, "%", _BOUND + about) for _, name, about in _SHARES),
    )
    parts = [("", roofline)]
    pools = mapping(roofline.get("per_pool"))
    if len(pools) > 1:
        parts += [(f", pool {name}", mapping(pool)) for name, pool in pools.items()]
    rows = [
        (Cell(phase + of_pool, phase + of_pool), *_cells(mapping(values.get(phase))))
        for of_pool, values in parts
        for phase in PHASES
        if not of_pool or mapping(values.get(phase)).get("gpu_s")
    ]
    idle = as_float(roofline.get("idle_frac"))
    note = "" if idle is None else f"Shares are of the time of steps; {percent(idle)} was idle."
    return Table("Roofline", columns, tuple(rows), note=note)


def _cells(phase: Mapping[str, Any]) -> Iterator[Cell]:
    for key, scale in _SCALES.items():
        value = as_float(phase.get(key))
        yield _cell(None if value is None else value / scale)
    for key, _ in _RATIOS:
        yield _cell(as_float(phase.get(key)))
    shares = mapping(phase.get("bound_frac"))
    fractions = [phase.get(key) for key, _ in _FRACTIONS]
    for value in (*fractions, *(shares.get(key) for key, _, _ in _SHARES)):
        fraction = as_float(value)
        yield _cell(None if fraction is None else 100 * fraction)


def _cell(value: float | None) -> Cell:
    return Cell(ABSENT) if value is None else Cell(number(value), value)
