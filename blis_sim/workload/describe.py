"""The figures of a load: how many requests, how fast, how long, how bursty, how much shared."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from blis_sim.errors import ConfigError
from blis_sim.units import US_PER_S
from blis_sim.workload.base import Int64Array
from blis_sim.workload.observed import Int32Array, ObservedLabel, ObservedStream

_DISPERSION_WINDOWS_US = (10**6, 10**7, 10**8, 10**9, 10**10, 10**11)
_SHORT_DISPERSION_WINDOWS_US = (100_000, 10_000, 1_000)
_MIN_WINDOWS = 10


@dataclass(frozen=True, slots=True)
class ArrivalFigures:
    """When requests arrive; None where there is too little to tell.

    Attributes
    ----------
    first_s, span_s : float
        The first arrival, and the time from it to the last, seconds.
    mean_rate_per_s : float or None
        Gaps over the span.
    peak_rate_1s_per_s, peak_rate_60s_per_s : float or None
        Most arrivals in any window of 1 s or 60 s, over its length.
    gap_mean_s, gap_cv : float or None
        Gaps between arrivals: mean, and standard deviation over mean (1 = Poisson).
    dispersion_index : float or None
        Variance over mean of the arrivals in windows of ``dispersion_window_s`` one after the
        other (1 = Poisson, 0 = even). Unlike the gaps' cv it sees that busy gaps come together.
    dispersion_window_s : float or None
        1 s; longer where that holds less than one arrival in the mean, shorter where the load
        has less than ten of them.
    """

    first_s: float
    span_s: float
    mean_rate_per_s: float | None
    peak_rate_1s_per_s: float | None
    peak_rate_60s_per_s: float | None
    gap_mean_s: float | None
    gap_cv: float | None
    dispersion_index: float | None
    dispersion_window_s: float | None


@dataclass(frozen=True, slots=True)
class LengthFigures:
    """Lengths of prompts or of answers, tokens; percentiles interpolate linearly."""

    mean: float
    p50: float
    p90: float
    p99: float
    max: int
    total: int


@dataclass(frozen=True, slots=True)
class SessionFigures:
    """Conversations: how many, and rounds (requests) of each."""

    num_sessions: int
    num_requests: int
    rounds_mean: float
    rounds_max: int


@dataclass(frozen=True, slots=True)
class DeadlineFigures:
    """Requests whose client gives up or disconnects at some time."""

    num_requests: int
    share: float


@dataclass(frozen=True, slots=True)
class PrefixFigures:
    """Prompt tokens that an infinite prefix cache would hold, one request after the other.

    ``num_prefix_groups``, ``num_prompt_ids`` and ``num_block_hashes`` count distinct names.
    Where no request names its content, nobody can tell: None.
    """

    block_tokens: int
    shareable_tokens: int | None
    shareable_share: float | None
    num_prefix_groups: int
    num_prompt_ids: int
    num_block_hashes: int


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """Requests with one label; ``name`` is None for those without."""

    name: str | None
    num_requests: int
    share: float
    mean_rate_per_s: float | None
    """Requests over the span of the whole load."""
    prompt_tokens: LengthFigures
    output_tokens: LengthFigures
    shareable_share: float | None
    """As in PrefixFigures, of the prompt tokens of these requests."""


@dataclass(frozen=True, slots=True)
class WorkloadFigures:
    """All figures of a load.

    Attributes
    ----------
    num_requests : int
        At least 1.
    arrivals : ArrivalFigures
    prompt_tokens, output_tokens : LengthFigures
        The answer as the client limits it.
    prefix_cache : PrefixFigures
    sessions : SessionFigures or None
        None without sessions.
    deadlines : DeadlineFigures
    labels : dict
        ``slo_class``, ``tenant``, ... -> figures of each label, the most requests first;
        fields that no request has are missing.
    """

    num_requests: int
    arrivals: ArrivalFigures
    prompt_tokens: LengthFigures
    output_tokens: LengthFigures
    prefix_cache: PrefixFigures
    sessions: SessionFigures | None
    deadlines: DeadlineFigures
    labels: dict[str, tuple[GroupFigures, ...]]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for JSON: one key ``per_<label>`` for each label."""
        figures = asdict(self)
        labels = figures.pop("labels")
        return figures | {f"per_{label}": list(groups) for label, groups in labels.items()}


def describe(stream: ObservedStream) -> WorkloadFigures:
    """Return the figures of a stream.

    Raises
    ------
    ConfigError
        If there is no request in it.
    """
    count = len(stream.arrival_us)
    if not count:
        raise ConfigError(
            "workload must have at least one request to be described; got none; check its "
            "num_requests, start and duration"
        )
    return WorkloadFigures(
        num_requests=count,
        arrivals=_arrivals(stream.arrival_us),
        prompt_tokens=_lengths(stream.prompt_tokens),
        output_tokens=_lengths(stream.output_tokens),
        prefix_cache=PrefixFigures(
            block_tokens=stream.block_tokens,
            shareable_tokens=_total(stream.hit_tokens) if stream.names_content else None,
            shareable_share=_shareable_share(stream),
            num_prefix_groups=stream.num_prefix_groups,
            num_prompt_ids=stream.num_prompt_ids,
            num_block_hashes=stream.num_block_hashes,
        ),
        sessions=_sessions(stream.rounds),
        deadlines=DeadlineFigures(stream.num_deadlines, stream.num_deadlines / count),
        labels={name: _groups(stream, label) for name, label in stream.labels.items()},
    )


def _arrivals(arrival_us: Int64Array) -> ArrivalFigures:
    gaps_us = np.diff(arrival_us)
    span_us = int(arrival_us[-1] - arrival_us[0])
    window_us = _dispersion_window_us(len(gaps_us), span_us)
    return ArrivalFigures(
        first_s=int(arrival_us[0]) / US_PER_S,
        span_s=span_us / US_PER_S,
        mean_rate_per_s=len(gaps_us) * US_PER_S / span_us if span_us else None,
        peak_rate_1s_per_s=_peak_rate_per_s(arrival_us, US_PER_S),
        peak_rate_60s_per_s=_peak_rate_per_s(arrival_us, 60 * US_PER_S),
        gap_mean_s=span_us / len(gaps_us) / US_PER_S if len(gaps_us) else None,
        gap_cv=float(gaps_us.std() / gaps_us.mean()) if span_us else None,
        dispersion_index=None if window_us is None else _dispersion(arrival_us, window_us),
        dispersion_window_s=None if window_us is None else window_us / US_PER_S,
    )


def _peak_rate_per_s(arrival_us: Int64Array, window_us: int) -> float | None:
    """Return the most arrivals in a window that begins with one of them, over its length."""
    if arrival_us[-1] - arrival_us[0] < window_us:
        return None
    ends = np.searchsorted(arrival_us, arrival_us + window_us, side="left")
    most = int((ends - np.arange(len(arrival_us))).max())
    return most * US_PER_S / window_us


def _dispersion_window_us(num_gaps: int, span_us: int) -> int | None:
    """Return the window nearest to 1 s with an arrival in the mean and ten of it in the span."""
    for window_us in (*_DISPERSION_WINDOWS_US, *_SHORT_DISPERSION_WINDOWS_US):
        if num_gaps * window_us >= span_us >= _MIN_WINDOWS * window_us:
            return window_us
    return None


def _dispersion(arrival_us: Int64Array, window_us: int) -> float | None:
    """Return variance over mean of the arrivals in full windows that follow the first one.

    A window excludes its beginning and includes its end, so that even gaps of one window
    put one arrival into each. None when all of them are empty.
    """
    first, last = int(arrival_us[0]), int(arrival_us[-1])
    num_windows = (last - first) // window_us
    edges = first + window_us * np.arange(num_windows + 1)
    counts = np.diff(np.searchsorted(arrival_us, edges, side="right"))
    return float(counts.var() / counts.mean()) if counts.any() else None


def _lengths(tokens: Int32Array) -> LengthFigures:
    p50, p90, p99 = np.percentile(tokens, (50, 90, 99)).tolist()
    total = _total(tokens)
    return LengthFigures(total / len(tokens), p50, p90, p99, int(tokens.max()), total)


def _total(tokens: Int32Array) -> int:
    return int(tokens.sum(dtype=np.int64))


def _shareable_share(
    stream: ObservedStream, rows: npt.NDArray[np.intp] | slice = slice(None)
) -> float | None:
    if not stream.names_content:
        return None
    return _total(stream.hit_tokens[rows]) / _total(stream.prompt_tokens[rows])


def _sessions(rounds: Int64Array) -> SessionFigures | None:
    if not len(rounds):
        return None
    num_requests = int(rounds.sum())
    return SessionFigures(len(rounds), num_requests, num_requests / len(rounds), int(rounds.max()))


def _groups(stream: ObservedStream, label: ObservedLabel) -> tuple[GroupFigures, ...]:
    span_us = int(stream.arrival_us[-1] - stream.arrival_us[0])
    counts = np.bincount(label.codes, minlength=len(label.names))
    # Sorted by label, each one's requests lie together: no scan of the stream per label.
    order = np.argsort(label.codes, kind="stable")
    rows = np.split(order, np.cumsum(counts)[:-1])
    groups = [_group(stream, name, rows[code], span_us) for code, name in enumerate(label.names)]
    return tuple(sorted(groups, key=lambda group: -group.num_requests))


def _group(
    stream: ObservedStream, name: str | None, rows: npt.NDArray[np.intp], span_us: int
) -> GroupFigures:
    return GroupFigures(
        name=name,
        num_requests=len(rows),
        share=len(rows) / len(stream.arrival_us),
        mean_rate_per_s=len(rows) * US_PER_S / span_us if span_us else None,
        prompt_tokens=_lengths(stream.prompt_tokens[rows]),
        output_tokens=_lengths(stream.output_tokens[rows]),
        shareable_share=_shareable_share(stream, rows),
    )
