"""Collects what happens in a simulation, compactly: integers in, columns out."""

from __future__ import annotations

from collections import defaultdict
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from blis_sim.metrics.records import ABSENT, RequestColumns, Status
from blis_sim.units import US_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blis_sim.engine.decode_run import DecodeRun
    from blis_sim.engine.request import Request
    from blis_sim.metrics.records import Int64Array
    from blis_sim.metrics.timeline import Timeline
    from blis_sim.metrics.work import WorkLog

_SPEC_COLUMNS = ("request_id", "arrival_us", "prompt_tokens", "priority")
"""Columns that are a field of the request's spec."""
_REQUEST_COLUMNS = {
    "enqueued_us": "enqueued_us",
    "scheduled_us": "scheduled_us",
    "first_token_us": "first_seen_us",
    "last_token_us": "last_seen_us",
    "output_tokens": "num_received",
    "cached_tokens": "cached_tokens",
    "recached_tokens": "recached_tokens",
    "num_preemptions": "num_preemptions",
    "instance": "instance",
    "status": "status",
    "dispatched_us": "dispatched_us",
    "prefill_instance": "prefill_instance",
    "handed_over_us": "handed_over_us",
    "transferred_us": "transferred_us",
}
"""Columns that are an attribute of the request, by the attribute's name."""
_integers_of = attrgetter(*_REQUEST_COLUMNS.values())
_ROWS_PER_BLOCK = 512
_GAPS_PER_BLOCK = 1 << 18


class Labels:
    """Strings stored once, by number."""

    __slots__ = ("_number", "names")

    def __init__(self) -> None:
        self.names: list[str] = []
        self._number: dict[str, int] = {}

    def numbers(self, names: Sequence[str | None]) -> Int64Array:
        """Return the number of each name, ``ABSENT`` for None."""
        numbers = np.full(len(names), ABSENT, dtype=np.int64)
        if names.count(None) == len(names):
            return numbers
        for i, name in enumerate(names):
            if name is not None:
                number = self._number.get(name)
                if number is None:
                    number = self._number[name] = len(self.names)
                    self.names.append(name)
                numbers[i] = number
        return numbers


class Recorder:
    """Observes the engine; the engine never asks it anything.

    Parameters
    ----------
    on_progress : callable or None
        Called now and then with (requests ended, arrival of the latest in us).
    """

    timeline: Timeline | None = None
    """Where instances log what a timeline is drawn from; None = nowhere."""
    work: list[WorkLog] | None = None
    """Where instances count their steps, a log each by their numbers; None = nowhere."""

    def __init__(self, on_progress: Callable[[int, int], None] | None = None) -> None:
        self.num_ended = 0
        self._on_progress = on_progress
        self.slo_classes = Labels()
        self.tenants = Labels()
        self.reasons = Labels()
        self._ended: list[Request] = []
        self._columns: dict[str, list[Int64Array]] = {}
        self.gaps: defaultdict[int, int] = defaultdict(int)
        """How often each gap between two tokens occurred, by its length in microseconds."""
        self._gap_runs: list[tuple[Int64Array, int]] = []
        self._gap_run_length = 0
        self._tokens: defaultdict[int, int] = defaultdict(int)

    # -- requests -------------------------------------------------------------

    def end(self, request: Request) -> None:
        """Record a request that ended, or where it is when the simulation stops.

        Its last fields say how; nothing of it changes from now on.
        """
        self._ended.append(request)
        if len(self._ended) >= _ROWS_PER_BLOCK:
            self._flush()

    def _flush(self) -> None:
        """Turn the requests kept so far into columns."""
        ended = self._ended
        if not ended:
            return
        self._ended = []
        self.num_ended += len(ended)
        specs = [request.spec for request in ended]
        # Field by field, all at once: this is done for every request.
        fields = dict(zip(specs[0]._fields, zip(*specs, strict=True), strict=True))
        block = {name: np.array(fields[name], dtype=np.int64) for name in _SPEC_COLUMNS}
        width = len(_REQUEST_COLUMNS)
        flat = chain.from_iterable(map(_integers_of, ended))
        table = np.fromiter(flat, np.int64, len(ended) * width).reshape(-1, width)
        block |= {name: table[:, i] for i, name in enumerate(_REQUEST_COLUMNS)}
        asked = np.array(fields["output_tokens"], dtype=np.int64)
        is_capped = (block["status"] == Status.COMPLETED) & (block["output_tokens"] < asked)
        block["length_capped"] = is_capped.astype(np.int64)
        block["slo_class"] = self.slo_classes.numbers(fields["slo_class"])
        block["tenant"] = self.tenants.numbers(fields["tenant"])
        block["reason"] = self.reasons.numbers([r.reason for r in ended])
        for name, column in block.items():
            self._columns.setdefault(name, []).append(column)
        if self._on_progress is not None:
            self._on_progress(self.num_ended, ended[-1].spec.arrival_us)

    def request_columns(self) -> RequestColumns:
        """Return all recorded requests in order of their number."""
        self._flush()
        if not self._columns:
            names = RequestColumns.__dataclass_fields__
            return RequestColumns(**{name: np.empty(0, dtype=np.int64) for name in names})
        columns = {name: np.concatenate(parts) for name, parts in self._columns.items()}
        order = np.argsort(columns["request_id"], kind="stable")
        return RequestColumns(**{name: column[order] for name, column in columns.items()})

    # -- tokens ---------------------------------------------------------------

    def add_gaps(self, gap_us: int, count: int) -> None:
        """Record that ``count`` tokens came ``gap_us`` after the one before them."""
        self.gaps[gap_us] += count

    def add_tokens(self, now_us: int, count: int) -> None:
        """Record that the engine put out ``count`` tokens at an instant."""
        self._tokens[now_us // US_PER_S] += count

    def add_steps(self, start_us: int, step_us: int, num_steps: int, count: int) -> None:
        """Record that each of equal steps put out ``count`` tokens at its end."""
        tokens = self._tokens
        second = start_us // US_PER_S
        last_second = (start_us + num_steps * step_us) // US_PER_S
        while second < last_second:
            # Steps that end before the next second begins.
            upto = ((second + 1) * US_PER_S - 1 - start_us) // step_us
            if upto:
                tokens[second] += upto * count
                start_us += upto * step_us
                num_steps -= upto
            second += 1
        tokens[second] += num_steps * count

    def add_run(self, run: DecodeRun, num_ended: int, token_us: int) -> None:
        """Record the tokens of a run's steps since the last call: one per decode and step."""
        begin, num_decodes = run.num_ended, run.num_decodes
        durations = run.durations(begin, num_ended)
        if isinstance(durations, int):
            count = num_ended - begin
            self.gaps[durations + token_us] += count * num_decodes
            self.add_steps(run.ended_us, durations, count, num_decodes)
            return
        if isinstance(durations, list):
            gaps = self.gaps
            for duration_us in durations:
                gaps[duration_us + token_us] += num_decodes
        else:
            self._gap_runs.append((durations + token_us, num_decodes))
            self._gap_run_length += num_ended - begin
            if self._gap_run_length >= _GAPS_PER_BLOCK:
                self._merge_gap_runs()
        second = run.end_of(begin + 1) // US_PER_S
        last_second = run.end_of(num_ended) // US_PER_S
        while second < last_second:
            upto = run.ended_by((second + 1) * US_PER_S - 1)
            self._tokens[second] += (upto - begin) * num_decodes
            begin = upto
            second += 1
        self._tokens[second] += (num_ended - begin) * num_decodes

    def _merge_gap_runs(self) -> None:
        """Fold the kept step times into the histogram."""
        if not self._gap_runs:
            return
        gaps = np.concatenate([run for run, _ in self._gap_runs])
        weights = np.repeat(
            np.array([count for _, count in self._gap_runs], dtype=np.int64),
            [len(run) for run, _ in self._gap_runs],
        )
        self._gap_runs = []
        self._gap_run_length = 0
        order = np.argsort(gaps, kind="stable")
        gaps, weights = gaps[order], weights[order]
        starts = np.flatnonzero(np.r_[True, gaps[1:] != gaps[:-1]])
        for gap, count in zip(
            gaps[starts].tolist(), np.add.reduceat(weights, starts).tolist(), strict=True
        ):
            self.add_gaps(gap, count)

    def gap_histogram(self) -> tuple[Int64Array, Int64Array]:
        """Return the distinct gaps, ascending, and how often each occurred."""
        self._merge_gap_runs()
        return _sorted_items(self.gaps)

    def tokens_per_second(self) -> tuple[Int64Array, Int64Array]:
        """Return the seconds with tokens, ascending, and the tokens in each."""
        return _sorted_items(self._tokens)


def _sorted_items(counts: dict[int, int]) -> tuple[Int64Array, Int64Array]:
    keys = np.array(sorted(k for k, count in counts.items() if count), dtype=np.int64)
    values = np.array([counts[k] for k in keys.tolist()], dtype=np.int64)
    return keys, values
