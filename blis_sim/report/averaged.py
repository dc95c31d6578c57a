"""Points of a study as reports show them: replications together, with 95 % intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from blis_sim.capacity.study import Label, Outcome, OutcomeStatus
from blis_sim.metrics.intervals import half_width_95
from blis_sim.report.metric_words import GOODPUT_FRAC, TOKENS_PER_S_PER_USER, USD_PER_HOUR
from blis_sim.report.number_words import as_float
from blis_sim.report.setting_words import RATE
from blis_sim.units import US_PER_HOUR, US_PER_S

if TYPE_CHECKING:
    from blis_sim.capacity.slo import Limit
    from blis_sim.capacity.study import StoredPoint

REPLICATION = "replication"
"""Label of a point that says which of several seeds it has."""
_HOUR_S = US_PER_HOUR / US_PER_S


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure of a point.

    Attributes
    ----------
    mean : float
        Over the replications.
    half_width : float or None
        Half the 95 % confidence interval of the mean; None with one replication.
    """

    mean: float
    half_width: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AveragedPoint:
    """One combination of settings.

    Attributes
    ----------
    labels : mapping of str to Label
        The settings that set it apart, without the number of the replication.
    estimates : mapping of str to Estimate
        The keys of `Outcome.metrics`, and ``tokens_per_s_per_user``, ``usd_per_hour``,
        ``goodput_frac``; figures without data are absent.
    quantiles : mapping of str to list of float
        As in `Outcome`, means over the replications.
    num_done, num_open : int
        Replications with figures, and those that are not finished.
    status : OutcomeStatus or None
        The worst of the replications; None = not finished.
    reason : str
        Why there are no figures.
    is_saturated : bool
        Whether the queue kept growing.
    deployment : mapping
        As in `Outcome`.
    request_rate : float or None
        As configured.
    accuracy : str
        As in `Outcome`, of the first replication.
    """

    labels: Mapping[str, Label]
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    quantiles: Mapping[str, Sequence[float]] = field(default_factory=dict)
    num_done: int = 1
    num_open: int = 0
    status: OutcomeStatus | None = OutcomeStatus.DONE
    reason: str = ""
    is_saturated: bool = False
    deployment: Mapping[str, Any] = field(default_factory=dict)
    request_rate: float | None = None
    accuracy: str = ""

    @property
    def is_done(self) -> bool:
        """Whether there are figures."""
        return self.num_done > 0

    def mean(self, key: str) -> float | None:
        """Return a figure, None without data."""
        found = self.estimates.get(key)
        return None if found is None else found.mean

    def place(self, path: str) -> float | None:
        """Return where a point lies on an axis: a setting, else a figure; None = nowhere."""
        if path in self.labels:
            return as_float(self.labels[path])
        return self.request_rate if path == RATE else self.mean(path)

    def misses(self, limits: Iterable[Limit]) -> list[Limit]:
        """Return the limits it does not keep; one without data is not kept."""
        return [limit for limit in limits if not keeps(self.mean(limit.metric), limit)]


def keeps(value: float | None, limit: Limit) -> bool:
    """Return whether a figure keeps its limit; no figure keeps none."""
    if value is None:
        return False
    return value >= limit.value if limit.is_goodput else value <= limit.value


def averaged_points(points: Sequence[StoredPoint]) -> list[AveragedPoint]:
    """Return one point for each combination of settings, in order of its first one."""
    grouped: dict[str, list[StoredPoint]] = {}
    for point in points:
        labels = sorted((path, repr(v)) for path, v in point.labels.items() if path != REPLICATION)
        grouped.setdefault(repr(labels), []).append(point)
    return [_averaged(group) for group in grouped.values()]


def _averaged(group: Sequence[StoredPoint]) -> AveragedPoint:
    outcomes = [point.outcome for point in group if point.outcome is not None]
    done = [outcome for outcome in outcomes if outcome.is_done]
    first = next(iter(done or outcomes), None)
    failed = [outcome for outcome in outcomes if not outcome.is_done]
    num_open = len(group) - len(outcomes)
    status = failed[0].status if failed else None if num_open else OutcomeStatus.DONE
    figures = [figures_of(outcome) for outcome in done]
    rate = None if first is None else as_float(first.request_rate)
    return AveragedPoint(
        labels={path: v for path, v in group[0].labels.items() if path != REPLICATION},
        estimates=_estimates(figures),
        quantiles=_quantiles(done),
        num_done=len(done),
        num_open=num_open,
        status=status,
        reason=failed[0].reason if failed else "",
        is_saturated=any(outcome.is_saturated for outcome in done),
        deployment={} if first is None else first.deployment,
        request_rate=rate,
        accuracy="" if first is None else first.accuracy,
    )


def figures_of(outcome: Outcome) -> dict[str, float]:
    """Return the figures of an outcome that have data, derived ones among them."""
    return with_derived(outcome.metrics)


def with_derived(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures that have data, with those that follow from them."""
    found: dict[str, float] = {}
    for key, value in metrics.items():
        plain = as_float(value)
        if plain is not None and math.isfinite(plain):
            found[key] = plain
    tpot, duration = found.get("mean_tpot_ms"), found.get("duration")
    if tpot:
        found[TOKENS_PER_S_PER_USER] = 1000 / tpot
    if duration and "cost_usd" in found:
        found[USD_PER_HOUR] = found["cost_usd"] / duration * _HOUR_S
    if found.get("request_throughput") and "request_goodput" in found:
        found[GOODPUT_FRAC] = found["request_goodput"] / found["request_throughput"]
    return found


def _estimates(figures: Sequence[Mapping[str, float]]) -> dict[str, Estimate]:
    if len(figures) == 1:
        return {key: Estimate(value) for key, value in figures[0].items()}
    keys = dict.fromkeys(key for each in figures for key in each)
    found: dict[str, Estimate] = {}
    for key in keys:
        values = [each[key] for each in figures if key in each]
        found[key] = Estimate(statistics.fmean(values), half_width_95(values))
    return found


def _quantiles(outcomes: Sequence[Outcome]) -> Mapping[str, Sequence[float]]:
    if len(outcomes) == 1:
        return outcomes[0].quantiles
    tags = dict.fromkeys(tag for outcome in outcomes for tag in outcome.quantiles)
    found: dict[str, list[float]] = {}
    for tag in tags:
        each = [outcome.quantiles[tag] for outcome in outcomes if tag in outcome.quantiles]
        found[tag] = [statistics.fmean(values) for values in zip(*each, strict=True)]
    return found
