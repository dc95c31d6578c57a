"""Where the requests of a timeline are drawn, and what is written on them."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

from blis_sim.metrics.columns import Column, request_columns
from blis_sim.metrics.records import RunData

_SHOWN = (
    *("prompt_tokens", "output_tokens", "cached_tokens", "status", "ttft_ms", "e2e_ms"),
    *("instance", "prefill_instance", "slo_class", "tenant", "reason"),
)
"""Columns of ``--requests-out`` that a request's event carries, where they have a value."""


class Labels:
    """What a request's event says about it: cells of ``--requests-out``.

    Parameters
    ----------
    run : RunData
        Whose requests.
    """

    def __init__(self, run: RunData) -> None:
        columns = {column.name: column for column in request_columns(run)}
        self._columns = [columns[name] for name in _SHOWN]

    def of(self, row: int) -> dict[str, Any]:
        """Return the values that one request has, by name."""
        return {
            column.name: _cell(column, row)
            for column in self._columns
            if column.present is None or column.present[row]
        }


def _cell(column: Column, row: int) -> int | float | str:
    value = int(column.data[row])
    if column.labels is not None:
        return column.labels[value]
    return value / 10**column.decimals if column.decimals else value


class Lanes:
    """Tracks of the requests: each takes the first one that is free."""

    def __init__(self) -> None:
        self.num_lanes = 0
        self._free: list[int] = []
        self._taken: list[tuple[int, int]] = []

    def take(self, start_us: int, end_us: int) -> int:
        """Return the lane of a request; the requests come in order of their arrival."""
        while self._taken and self._taken[0][0] <= start_us:
            heappush(self._free, heappop(self._taken)[1])
        if self._free:
            lane = heappop(self._free)
        else:
            self.num_lanes = lane = self.num_lanes + 1
        heappush(self._taken, (end_us, lane))
        return lane
