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
    from blis_sim.engine.decode_run import DecodeRun
    from blis_sim.engine.request import Request
    from blis_sim.metrics.records import Int64Array

_SPEC_COLUMNS = ("request_id", "arrival_us", "prompt_tokens", "priority")
_REQUEST_COLUMNS = (
    "enqueued_us",
    "scheduled_us",
    "cached_tokens",
    "recached_tokens",
    "num_preemptions",
)
_COLUMNS = (
    *_SPEC_COLUMNS,
    *_REQUEST_COLUMNS,
    "first_token_us",
    "last_token_us",
    "output_tokens",
    "instance",
    "status",
    "length_capped",
    "slo_class",
    "tenant",
    "reason",
)
"""Order of the columns of a row."""
_NUM_COLUMNS = len(_COLUMNS)
_of_spec = attrgetter(*_SPEC_COLUMNS)
_of_request = attrgetter(*_REQUEST_COLUMNS)
_ROWS_PER_BLOCK = 8192
_GAPS_PER_BLOCK = 1 << 18


class Labels:
    """Strings stored once, by number."""

    __slots__ = ("_number", "names")

    def __init__(self) -> None:
        self.names: list[str] = []
        self._number: dict[str, int] = {}

    def number(self, name: str | None) -> int:
        """Return the number of a name, or ``ABSENT`` for None."""
        if name is None:
            return ABSENT
        number = self._number.get(name)
        if number is None:
            number = self._number[name] = len(self.names)
            self.names.append(name)
        return number


class Recorder:
    """Observes the engine; the engine never asks it anything."""

    def __init__(self) -> None:
        self.num_ended = 0
        self.slo_classes = Labels()
        self.tenants = Labels()
        self.reasons = Labels()
        self._rows: list[tuple[int, ...]] = []
        self._blocks: list[Int64Array] = []
        self._gaps: defaultdict[int, int] = defaultdict(int)
        self._gap_runs: list[tuple[Int64Array, int]] = []
        self._gap_run_length = 0
        self._tokens: defaultdict[int, int] = defaultdict(int)

    # -- requests -------------------------------------------------------------

    def end(
        self,
        request: Request,
        status: Status,
        instance: int,
        num_tokens: int,
        last_token_us: int,
        token_us: int,
        reason: str | None = None,
    ) -> None:
        """Record a request that ended, or where it is when the simulation stops.

        Parameters
        ----------
        num_tokens : int
            Tokens the client received.
        last_token_us : int
            Client time of the last of them, for a completed request, else ``ABSENT``.
        token_us : int
            Output processing time per token: the k-th token is seen k times this later.
        """
        spec = request.spec
        first_us = request.first_token_us
        if token_us and request.output_limit and first_us != ABSENT:
            first_us += token_us
        self.num_ended += 1
        self._rows.append(
            (
                *_of_spec(spec),
                *_of_request(request),
                first_us,
                last_token_us,
                num_tokens,
                instance,
                status,
                status == 0 and num_tokens < spec.output_tokens,
                ABSENT if spec.slo_class is None else self.slo_classes.number(spec.slo_class),
                ABSENT if spec.tenant is None else self.tenants.number(spec.tenant),
                ABSENT if reason is None else self.reasons.number(reason),
            )
        )
        if len(self._rows) >= _ROWS_PER_BLOCK:
            self._flush_rows()

    def _flush_rows(self) -> None:
        if self._rows:
            flat = chain.from_iterable(self._rows)
            count = len(self._rows) * _NUM_COLUMNS
            self._blocks.append(np.fromiter(flat, np.int64, count).reshape(-1, _NUM_COLUMNS))
            self._rows = []

    def request_columns(self) -> RequestColumns:
        """Return all recorded requests in order of their number."""
        self._flush_rows()
        if not self._blocks:
            return RequestColumns(**{name: np.empty(0, dtype=np.int64) for name in _COLUMNS})
        table = np.concatenate(self._blocks)
        self._blocks = [table]
        order = np.argsort(table[:, 0], kind="stable")
        return RequestColumns(**{name: table[order, i] for i, name in enumerate(_COLUMNS)})

    # -- tokens ---------------------------------------------------------------

    def add_gaps(self, gap_us: int, count: int) -> None:
        """Record that ``count`` tokens came ``gap_us`` after the one before them."""
        self._gaps[gap_us] += count

    def add_tokens(self, now_us: int, count: int) -> None:
        """Record that the engine put out ``count`` tokens at an instant."""
        self._tokens[now_us // US_PER_S] += count

    def add_steps(
        self, start_us: int, step_us: int, num_steps: int, count: int, token_us: int
    ) -> None:
        """Record that each of equal steps put out ``count`` tokens at its end."""
        self._gaps[step_us + token_us] += num_steps * count
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
            self.add_steps(run.ended_us, durations, count, num_decodes, token_us)
            return
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
        return _sorted_items(self._gaps)

    def tokens_per_second(self) -> tuple[Int64Array, Int64Array]:
        """Return the seconds with tokens, ascending, and the tokens in each."""
        return _sorted_items(self._tokens)


def _sorted_items(counts: dict[int, int]) -> tuple[Int64Array, Int64Array]:
    keys = np.array(sorted(k for k, count in counts.items() if count), dtype=np.int64)
    values = np.array([counts[k] for k in keys.tolist()], dtype=np.int64)
    return keys, values
