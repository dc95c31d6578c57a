"""Whether a run keeps its limits, and how sure that is.

Limits on percentiles are checked by the share of requests (or gaps) beyond the limit, which
must not exceed ``1 - rank / 100``. Slices of the run are correlated within and nearly
independent of each other: the scatter of their shares gives the standard error (a ratio
estimator, W. G. Cochran, Sampling Techniques, 3rd ed., section 6.2), from which follows how many
independent requests the sample is worth (its size over the design effect). A run that is lucky
has few beyond the limit, and these scatter little: so the design effect counts at least as much
as that of the times themselves, by which the means of the slices scatter more than those of
independent requests would. Of a mean the scatter at the limit counts: near saturation it grows
with the square of the mean, up to a limit so far away that a looser one would look less sure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from blis_sim.metrics.measured import Measured
from blis_sim.metrics.records import ABSENT, RequestColumns, RunData, Status
from blis_sim.metrics.window import gaps_between
from blis_sim.units import US_PER_MS

if TYPE_CHECKING:
    from blis_sim.capacity.slo import Limit
    from blis_sim.metrics.percentiles import BoolArray, Float64Array, Int64Array
    from blis_sim.metrics.result import Result

_MOST_FAILED = 0.01
"""Limits on means and on gaps are missed where more than this share of requests got no answer."""
_GROWTH = 0.005
"""A queue that takes in more than this share of all arrivals grows without end."""
_SURE = 4.0
_MANY = 0.03
"""A queue in which more than this share of all arrivals wait at the end grew without end."""
_NEAR, _FAR = 0.5, 6.0
"""Where no request took half of the limit, the limit is kept with at least this margin."""
_MOST_GROWTH = 5.0
"""Ratio of a limit to a mean from which on the scatter at the limit grows no more."""
_ENOUGH_SLICES = 5
"""Slices from which on their scatter says something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitCheck:
    """How a limit was kept within a window.

    Attributes
    ----------
    metric : str
        As in `Limit`.
    limit : float
        As in `Limit`.
    value : float or None
        The metric itself; None = no data.
    margin : float
        How surely the limit was kept, in standard normal units; negative = it was missed.
    standard_error : float
        Of the share beyond the limit, or of a mean in ms.
    sample : int
        Requests or gaps it rests on.
    """

    metric: str
    limit: float
    value: float | None
    margin: float
    standard_error: float
    sample: int


def check_limits(result: Result, limits: Sequence[Limit]) -> list[LimitCheck]:
    """Return how each limit was kept between the first and the last mark of a run."""
    window = result.window()
    slices = _slices(result.run)
    return [_check(limit, result.run, window, slices) for limit in limits]


def is_saturated(run: RunData) -> bool:
    """Return whether the number of requests in the system kept growing.

    Either between the marks by more than half a percent of the arrivals and what is still missing
    of the steady state after the warm-up, and steadily: a straight line through the numbers at
    the marks rises by more than four of its standard errors. Or since the start: towards the end
    more than 3 % of all that arrived wait.
    """
    times_us = np.array([mark.time_us for mark in run.marks], dtype=np.float64)
    columns = run.requests
    inside = _arrived_by(columns, times_us) - _ended_by(columns, times_us)
    num_arrived = np.diff(_arrived_by(columns, times_us)[[0, -1]])[0]
    if times_us.size < 3 or num_arrived <= 0:
        return False
    x = (times_us - times_us.mean()) / (times_us[-1] - times_us[0])
    slope = float(x @ (inside - inside.mean()) / (x @ x))
    residuals = inside - inside.mean() - slope * x
    error = math.sqrt(float(residuals @ residuals) / (x.size - 2) / float(x @ x))
    least = _GROWTH * num_arrived + _still_filling(columns, times_us[0]) * float(inside.mean())
    is_growing = slope > least and slope > _SURE * error
    return bool(is_growing or _waiting_frac(columns, times_us) > _MANY)


def _waiting_frac(columns: RequestColumns, times_us: Float64Array) -> float:
    """Return which part of all that arrived waits, mean over the last quarter of the marks."""
    last_us = times_us[-(times_us.size // 4) :]
    begun_us = np.where(columns.scheduled_us == ABSENT, columns.arrival_us, columns.scheduled_us)
    arrived = _arrived_by(columns, last_us)
    waiting = arrived - np.searchsorted(np.sort(begun_us), last_us)
    return float((waiting / np.maximum(arrived, 1)).mean())


def _still_filling(columns: RequestColumns, begin_us: float) -> float:
    """Return which part of the steady number of requests may be missing when a window begins.

    An empty engine fills up as requests live: after t the part exp(-t / lifetime) is missing
    where lifetimes are exponential; twice that allows for longer tails. Only the time on the
    engine counts: waiting is what saturation makes.
    """
    completed = columns.status == Status.COMPLETED
    if not completed.any():
        return 0.0
    served_us = (columns.last_token_us - columns.scheduled_us)[completed]
    since_us = begin_us - float(columns.arrival_us.min())
    return min(1.0, 2 * math.exp(-since_us / max(float(served_us.mean()), 1.0)))


def _arrived_by(columns: RequestColumns, times_us: Float64Array) -> Float64Array:
    return np.searchsorted(np.sort(columns.arrival_us), times_us).astype(np.float64)


def _ended_by(columns: RequestColumns, times_us: Float64Array) -> Float64Array:
    """Return how many had ended; one without an answer counts at its arrival."""
    ended_us = np.where(
        columns.status == Status.COMPLETED,
        columns.last_token_us,
        np.where(columns.first_token_us == ABSENT, columns.arrival_us, columns.first_token_us),
    )
    return np.searchsorted(np.sort(ended_us), times_us).astype(np.float64)


def _slices(run: RunData) -> list[BoolArray]:
    """Return which requests arrived between each mark and the next."""
    arrival_us = run.requests.arrival_us
    return [
        (arrival_us >= first.time_us) & (arrival_us < last.time_us)
        for first, last in pairwise(run.marks)
    ]


def _check(limit: Limit, run: RunData, window: Result, slices: Sequence[BoolArray]) -> LimitCheck:
    is_mean = not limit.is_goodput and limit.rank is None
    check = _check_of(limit, run, window, slices)
    # Means, and gaps between tokens, know nothing of requests without an answer.
    is_blind = is_mean or limit.tag == "itl"
    return replace(check, margin=-math.inf) if is_blind and _are_lost(window) else check


def _check_of(
    limit: Limit, run: RunData, window: Result, slices: Sequence[BoolArray]
) -> LimitCheck:
    value = window.summary.get(limit.metric)
    if not limit.is_goodput and limit.rank is None:
        return _mean_check(limit, run, window, slices, value)
    if limit.tag == "itl":
        assert limit.rank is not None
        pairs = list(_gaps_beyond(run, limit.value * US_PER_MS))
        # All members of a batch share a gap: the slices alone can tell.
        effect = max(1.0, sum(whole for _, whole in pairs) / max(_num_steps(run), 1))
        return _share_check(limit, 1 - limit.rank / 100, pairs, value=value, design_effect=effect)
    tag = limit.tag or "ttft"
    effect = _design_effect([_times(_measured(run, window, chosen), tag) for chosen in slices])
    if limit.rank is None:
        pairs = [(int(one.sum()) - _num_good(run, window, one), int(one.sum())) for one in slices]
        check = _share_check(
            limit, 1 - limit.value, pairs, value_of_share=True, design_effect=effect
        )
        slo = {name: _NEAR * most for name, most in (window.context.slo or {}).items() if most}
        halved = Measured(run, slo=slo, chosen=np.logical_or.reduce(slices))
        is_far = halved.num_good == check.sample >= 1 / max(1 - limit.value, 1e-9)
        return replace(check, margin=max(check.margin, _FAR)) if is_far else check
    pairs = list(_requests_beyond(run, window, slices, limit))
    check = _share_check(limit, 1 - limit.rank / 100, pairs, value=value, design_effect=effect)
    is_enough = check.sample >= 1 / (1 - limit.rank / 100)
    if is_enough and not any(beyond for beyond, _ in pairs):
        longest_us = _times(_measured(run, window, np.logical_or.reduce(slices)), tag).max()
        if longest_us < _NEAR * limit.value * US_PER_MS:
            return replace(check, margin=max(check.margin, _FAR))
    return check


def _are_lost(window: Result) -> bool:
    """Return whether too many requests got no answer for the others to speak for them."""
    status = window.run.requests.status
    return bool(np.count_nonzero(status != Status.COMPLETED) > _MOST_FAILED * status.size)


def _num_steps(run: RunData) -> int:
    first, last = run.marks[0], run.marks[-1]
    return sum(each.num_steps for each in last.counters) - sum(
        each.num_steps for each in first.counters
    )


def _requests_beyond(
    run: RunData, window: Result, slices: Sequence[BoolArray], limit: Limit
) -> Iterator[tuple[int, int]]:
    for chosen in slices:
        measured = _measured(run, window, chosen)
        times_us = _times(measured, limit.tag)
        # One that got no answer is beyond every limit; TPOT is undefined below two tokens.
        num_unanswered = measured.num_injected - int(measured.completed.sum())
        num_beyond = int(np.count_nonzero(times_us > limit.value * US_PER_MS))
        yield num_beyond + num_unanswered, times_us.size + num_unanswered


def _gaps_beyond(run: RunData, limit_us: float) -> Iterator[tuple[int, int]]:
    for first, last in pairwise(run.marks):
        gaps_us, counts = gaps_between(first, last)
        yield int(counts[gaps_us > limit_us].sum()), int(counts.sum())


def _times(measured: Measured, tag: str) -> Float64Array | Int64Array:
    if tag == "ttft":
        return measured.ttft_us
    if tag == "e2el":
        return measured.e2e_us
    tpot_us = measured.tpot_us
    return tpot_us[~np.isnan(tpot_us)]


def _measured(run: RunData, window: Result, chosen: BoolArray) -> Measured:
    return Measured(run, slo=window.context.slo, chosen=chosen)


def _num_good(run: RunData, window: Result, chosen: BoolArray) -> int:
    return _measured(run, window, chosen).num_good or 0


def _share_check(
    limit: Limit,
    allowed: float,
    pairs: Sequence[tuple[int, int]],
    *,
    design_effect: float,
    value: float | None = None,
    value_of_share: bool = False,
) -> LimitCheck:
    beyond, whole = (np.array(each, dtype=np.float64) for each in zip(*pairs, strict=True))
    total = float(whole.sum())
    if not total:
        return _no_data(limit)
    share = float(beyond.sum()) / total
    used = whole.size / max(whole.size - 1, 1)
    scatter = math.sqrt(used * float(np.square(beyond - share * whole).sum())) / total
    if np.count_nonzero(beyond) >= _ENOUGH_SLICES and share < 1:
        design_effect = max(design_effect, scatter**2 * total / (share * (1 - share)))
    return LimitCheck(
        metric=limit.metric,
        limit=limit.value,
        value=1 - share if value_of_share else value,
        margin=_share_margin(share, allowed, total / design_effect),
        standard_error=max(scatter, math.sqrt(allowed * (1 - allowed) * design_effect / total)),
        sample=int(total),
    )


def _share_margin(share: float, allowed: float, size: float) -> float:
    """Return how surely a share of ``size`` independent trials lies below what is allowed.

    The signed root of the likelihood ratio statistic, in standard normal units. Where nothing is
    allowed, less than one of them is.
    """
    allowed = max(allowed, 1 / (size + 1)) if allowed <= 0 else allowed
    deviance = 0.0
    if share > 0:
        deviance += 2 * size * share * math.log(share / allowed)
    if share < 1:
        deviance += 2 * size * (1 - share) * math.log((1 - share) / (1 - allowed))
    return math.copysign(math.sqrt(max(deviance, 0.0)), allowed - share)


def _design_effect(parts: Sequence[Float64Array | Int64Array]) -> float:
    """Return how many times the means of slices scatter as much as independent values would."""
    parts = [part for part in parts if part.size]
    values = np.concatenate(parts) if parts else np.zeros(0)
    variance = float(values.var()) if values.size else 0.0
    if len(parts) < _ENOUGH_SLICES or not variance:
        return 1.0
    size = values.size / len(parts)
    means = np.array([part.mean() for part in parts])
    return float(min(max(means.var(ddof=1) * size / variance, 1.0), size))


def _mean_check(
    limit: Limit, run: RunData, window: Result, slices: Sequence[BoolArray], value: float | None
) -> LimitCheck:
    if limit.tag == "itl":
        between = (gaps_between(first, last) for first, last in pairwise(run.marks))
        pairs = [(float(gaps @ counts), int(counts.sum())) for gaps, counts in between]
    else:
        times = [_times(_measured(run, window, chosen), limit.tag) for chosen in slices]
        pairs = [(float(each.sum()), each.size) for each in times]
    sums, sizes = (np.array(each, dtype=np.float64) for each in zip(*pairs, strict=True))
    total = float(sizes.sum())
    if not total or value is None:
        return _no_data(limit)
    mean_us = float(sums.sum()) / total
    used = sizes.size / max(sizes.size - 1, 1)
    scatter = used * float(np.square(sums - mean_us * sizes).sum())
    error_ms = math.sqrt(scatter) / total / US_PER_MS
    mean_ms = mean_us / US_PER_MS
    margin = _mean_margin(mean_ms, error_ms, limit.value)
    if limit.value > 2 * mean_ms:  # what is kept surely is kept as surely with a looser limit
        margin = max(margin, _mean_margin(mean_ms, error_ms, 2 * mean_ms))
    return LimitCheck(
        metric=limit.metric,
        limit=limit.value,
        value=value,
        margin=margin,
        standard_error=error_ms,
        sample=int(total),
    )


def _mean_margin(mean_ms: float, error_ms: float, limit_ms: float) -> float:
    growth = min(max(limit_ms / mean_ms, 1.0), _MOST_GROWTH) if mean_ms else 0.0
    at_limit_ms = error_ms * growth**2
    margin_ms = limit_ms - mean_ms
    return margin_ms / at_limit_ms if at_limit_ms else math.copysign(math.inf, margin_ms)


def _no_data(limit: Limit) -> LimitCheck:
    """Return the check of a window in which nothing happened: it tells nothing."""
    return LimitCheck(
        metric=limit.metric,
        limit=limit.value,
        value=None,
        margin=0.0,
        standard_error=0.0,
        sample=0,
    )
