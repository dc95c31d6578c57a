"""How a broken law is told: the law, and the first request that breaks it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from blis_sim.metrics.percentiles import BoolArray
from blis_sim.metrics.records import ABSENT, RequestColumns

TIMES = ("arrival_us", "enqueued_us", "scheduled_us", "first_token_us", "last_token_us")
"""Moments that every completed request has, in their order."""
_CLUSTER_FACTS = (
    *("instance", "prefill_instance"),
    *("dispatched_us", "handed_over_us", "transferred_us"),
)


def broken(columns: RequestColumns, where: BoolArray, law: str) -> Iterator[str]:
    """Yield ``law`` with the first request that breaks it, when one does."""
    if not where.any():
        return
    row = int(np.argmax(where))
    shown = [f"status {int(columns.status[row])}"]
    shown += [f"{name} {_shown(getattr(columns, name)[row])}" for name in TIMES]
    facts = ((name, getattr(columns, name)[row]) for name in _CLUSTER_FACTS)
    shown += [f"{name} {int(value)}" for name, value in facts if value != ABSENT]
    yield f"request {int(columns.request_id[row])}: {law}; got {', '.join(shown)}"


def _shown(value: np.int64) -> str:
    return "absent" if value == ABSENT else str(int(value))
