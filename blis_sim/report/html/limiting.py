"""What holds a deployment back: memory, seats, or the work itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from blis_sim.report.html.answer import mapping
from blis_sim.report.number_words import as_float, counted, number, percent

if TYPE_CHECKING:
    from blis_sim.report.html.run_document import RunDocument

_FULL = 0.98
_WAITS_FRAC, _WAITS_MS = 0.5, 50.0
"""Requests wait when they spend this share of their TTFT, and at least so long, in the queue."""


def limiting_words(run: RunDocument) -> str:
    """Return what limits a run, as the end of a sentence.

    Requests wait where half of the mean TTFT, and at least 50 ms, is spent in the queue. Then
    the first of these is named: the KV cache where it was full or requests were preempted, the
    seats where all were taken, else the time that steps take.
    """
    preemptions = run.figure("num_preemptions") or 0
    peak = run.figure("kv_usage_peak_frac")
    is_full = preemptions > 0 or (peak or 0) >= _FULL
    queue, ttft = run.figure("mean_queue_ms"), run.figure("mean_ttft_ms")
    is_waiting = queue is not None and queue >= max(_WAITS_MS, _WAITS_FRAC * (ttft or 0))
    if is_waiting:
        wait = f"requests wait {number(queue)} ms on average"
        if is_full:
            return f"the KV cache limits it: it is full, and {wait} for blocks{_lost(preemptions)}"
        seats = _all_seats(run)
        if seats:
            return f"max_num_seqs limits it: all {seats} seats are taken, and {wait} for one"
        return f"the speed of the engine limits it: {wait} for their prompts to be computed"
    if is_full:
        return f"the KV cache is the tightest spot: it was full at times{_lost(preemptions)}"
    if peak is None:
        return ""
    return (
        "nothing is at its limit: requests hardly wait, and at most "
        f"{percent(peak)} of the KV cache was in use"
    )


def _lost(preemptions: float) -> str:
    return f" ({counted(int(preemptions), 'preemption')})" if preemptions else ""


def _all_seats(run: RunDocument) -> str:
    """Return the seats of the pool where all were taken, empty where none was full."""
    for taken, settings in _pools(run):
        seats = as_float(settings.get("max_num_seqs"))
        if seats is not None and taken is not None and taken >= seats:
            return number(int(seats))
    return ""


def _pools(run: RunDocument) -> Iterator[tuple[float | None, Mapping[str, Any]]]:
    pools = run.manifest.get("pools") or []
    if not pools:
        taken = run.figure("peak_running_requests")
        yield taken, mapping(run.manifest.get("engine_settings"))
    for pool in pools:
        part = mapping(run.per_pool.get(str(pool.get("name"))))
        taken = as_float(part.get("peak_running_requests"))
        yield taken, mapping(pool.get("engine_settings"))
