"""What a search looks for, and how near a run comes to its limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from blis_sim.capacity.candidate import SECONDS_PER_HOUR
from blis_sim.capacity.plan_load import check_scenario
from blis_sim.catalog.locate import locate
from blis_sim.catalog.prices import gpu_price, load_prices
from blis_sim.config.cluster import ClusterSettings
from blis_sim.errors import ConfigError
from blis_sim.metrics.metric import STANDARD_PERCENTILES

if TYPE_CHECKING:
    from blis_sim.capacity.slo import Limit
    from blis_sim.capacity.study import Outcome
    from blis_sim.capacity.tune_space import SearchSpace
    from blis_sim.config.scenario import Scenario

_PER_MILLION = 1e6
_MOST_UNANSWERED = 0.01
"""A limit on a mean is missed where more than this share of the requests got no answer."""


class ObjectiveName(StrEnum):
    """What to look for."""

    GOODPUT = "goodput"
    COST = "cost"
    THROUGHPUT = "throughput"
    MAX_RATE = "max-rate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A figure to raise or to lower.

    Attributes
    ----------
    name : ObjectiveName
        As the user chose it.
    key : str
        The figure: a key of `Result.summary`, or ``request_goodput_per_gpu``,
        ``gpu_hours_per_million_output_tokens``, ``request_rate_per_gpu``, ``requests_per_usd``.
    unit : str
        Its unit as in a sentence.
    header : tuple of str
        Two lines above a column.
    is_less_better : bool
        Whether it is to be lowered.
    tie_frac : float
        Values that differ by no more than this fraction count as equal.
    """

    name: ObjectiveName
    key: str
    unit: str
    header: tuple[str, str]
    is_less_better: bool = False
    tie_frac: float = 0.005

    @property
    def is_rate(self) -> bool:
        """Whether each trial is a search for the highest rate."""
        return self.name is ObjectiveName.MAX_RATE

    def figure(self, outcome: Outcome) -> float | None:
        """Return the figure of a run at the given load, None without data."""
        metrics = outcome.metrics
        if self.key in metrics:
            return metrics[self.key]
        if self.key == "request_goodput_per_gpu":
            return _ratio(metrics.get("request_goodput"), metrics.get("mean_gpus"))
        tokens = (metrics.get("num_generated_tokens") or 0) / _PER_MILLION
        return _ratio(metrics.get("gpu_hours"), tokens)

    def rate_figure(
        self, rate: float, num_gpus: float, usd_per_gpu_hour: float | None
    ) -> float | None:
        """Return the figure of a highest rate.

        Parameters
        ----------
        rate : float
            Requests per second.
        num_gpus : float
            GPUs that carry it, > 0.
        usd_per_gpu_hour : float or None
            What one costs; None = not known.
        """
        per_gpu = rate / num_gpus
        if self.key == "request_rate_per_gpu":
            return per_gpu
        return _ratio(per_gpu * SECONDS_PER_HOUR, usd_per_gpu_hour)

    def words(self, value: float) -> str:
        """Return a value with its unit: ``0.081 USD per million output tokens``."""
        number = f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
        return f"{number} {self.unit}"

    def score(self, figure: float) -> float:
        """Return a number in 0..1 that is less the better the figure is."""
        return figure / (1 + figure) if self.is_less_better else 1 / (1 + figure)

    def gain(self, figure: float, other: float) -> float:
        """Return by which fraction of the other a figure is better; negative = it is worse."""
        if not other:
            return math.inf if figure else 0.0
        return (other - figure if self.is_less_better else figure - other) / other


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


_PER_GPU = {
    ObjectiveName.GOODPUT: Objective(
        name=ObjectiveName.GOODPUT,
        key="request_goodput_per_gpu",
        unit="good requests/s per GPU",
        header=("goodput", "req/s/GPU"),
    ),
    ObjectiveName.THROUGHPUT: Objective(
        name=ObjectiveName.THROUGHPUT,
        key="output_throughput_per_gpu",
        unit="output tokens/s per GPU",
        header=("output", "tok/s/GPU"),
    ),
    ObjectiveName.COST: Objective(
        name=ObjectiveName.COST,
        key="gpu_hours_per_million_output_tokens",
        unit="GPU-hours per million output tokens",
        header=("cost", "GPU-h/M tok"),
        is_less_better=True,
    ),
    ObjectiveName.MAX_RATE: Objective(
        name=ObjectiveName.MAX_RATE,
        key="request_rate_per_gpu",
        unit="requests/s per GPU",
        header=("max. rate", "req/s/GPU"),
        tie_frac=0.02,
    ),
}
_PER_USD = {
    ObjectiveName.COST: Objective(
        name=ObjectiveName.COST,
        key="usd_per_million_output_tokens",
        unit="USD per million output tokens",
        header=("cost", "$/M tok"),
        is_less_better=True,
    ),
    ObjectiveName.MAX_RATE: Objective(
        name=ObjectiveName.MAX_RATE,
        key="requests_per_usd",
        unit="requests per USD",
        header=("max. rate", "req/$"),
        tie_frac=0.02,
    ),
}


def objective_named(text: str, where: str = "objective") -> ObjectiveName:
    """Return the objective of a name; ConfigError when there is none."""
    try:
        return ObjectiveName(text.strip().lower().replace("_", "-"))
    except ValueError:
        names = ", ".join(ObjectiveName)
        raise ConfigError(f"{where} must be one of {names}; got {text!r}") from None


def make_objective(
    name: ObjectiveName, space: SearchSpace, limits: Sequence[Limit], where: str = "objective"
) -> Objective:
    """Return the objective for a search.

    Cost is in USD where the price of a GPU is known, else in GPU-hours. The highest rate counts
    per GPU, and per USD where the search may choose between kinds of GPUs with prices.

    Parameters
    ----------
    name : ObjectiveName
        What to look for.
    space : SearchSpace
        What may be chosen.
    limits : sequence of Limit
        What must be kept.
    where : str
        How the user named the objective.

    Raises
    ------
    ConfigError
        The objective lacks the limits it needs, or a limit those it rests on; or the load has
        no rate that could be raised.
    """
    given = space.draft.build()
    has_goodput = any(value is not None for value in given.slo.model_dump().values())
    if name is ObjectiveName.GOODPUT and not has_goodput:
        raise ConfigError(
            f"{where} {name} must come with limits of a request; got none; add for example "
            "--goodput ttft:500 tpot:50"
        )
    if any(limit.is_goodput for limit in limits) and not has_goodput:
        raise ConfigError(
            "--slo goodput must come with limits of a request; got none; add for example "
            "--goodput ttft:500 tpot:50"
        )
    if name is ObjectiveName.MAX_RATE and not limits:
        raise ConfigError(
            f"{where} {name} must come with --slo; got none; add for example --slo "
            "p99_ttft_ms:500,p95_itl_ms:50, or choose --objective throughput"
        )
    if name is ObjectiveName.MAX_RATE:
        _check_rate(given, f"{where} {name}")
    if name not in _PER_USD or not _has_price(given, space):
        return _PER_GPU[name]
    return _PER_USD[name] if name is ObjectiveName.COST or _mixes(given, space) else _PER_GPU[name]


def _check_rate(given: Scenario, where: str) -> None:
    """Check that one rate says how heavy the load is."""
    try:
        # Any cluster will do: only a plan looks for the number of its instances.
        check_scenario(given.model_copy(update={"cluster": ClusterSettings()}))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}; or choose another objective") from None


def _has_price(given: Scenario, space: SearchSpace) -> bool:
    """Return whether the price of any GPU is known that a trial may have."""
    prices = load_prices(None if given.prices is None else locate(given.prices).path)
    return any(gpu_price(gpu, prices) is not None for gpu in _gpus(given, space))


def _mixes(given: Scenario, space: SearchSpace) -> bool:
    return len(_gpus(given, space)) > 1


def _gpus(given: Scenario, space: SearchSpace) -> set[str]:
    """Return the GPUs that a trial may have."""
    scenarios = [given]
    for one in space.axes:
        if one.path in {"hardware", "cluster.pools"}:
            alone = replace(space, axes=(one,))
            scenarios += [alone.scenario((place,)) for place in range(len(one.values))]
    return {gpu for scenario in scenarios for gpu in _gpus_of(scenario)}


def _gpus_of(scenario: Scenario) -> set[str]:
    pools = scenario.cluster.pools or ()
    return {pool.hardware or scenario.hardware for pool in pools} or {scenario.hardware}


# -- limits -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reached:
    """How near a run comes to its limits.

    Attributes
    ----------
    excess : float
        The largest of value / limit (of a share: what is beyond / what may be), above 1 = a
        limit is missed; 0 without limits, infinite where a limited figure has no data.
    words : str
        That figure beside its limit: ``p99 TTFT 310 of 500 ms``; empty without limits.
    """

    excess: float = 0.0
    words: str = ""


def limits_to_measure(limits: Sequence[Limit]) -> tuple[Limit, ...]:
    """Return the limits on percentiles that a run reports only when it is asked to."""
    return tuple(
        limit
        for limit in limits
        if limit.rank is not None and limit.rank not in STANDARD_PERCENTILES
    )


def reached(outcome: Outcome, limits: Sequence[Limit]) -> Reached:
    """Return how near a run comes to its limits, by the figures of the whole run.

    A request without an answer is beyond every limit: a run that drops requests does not keep
    limits by that.
    """
    worst = Reached()
    metrics = outcome.metrics
    num_asked = metrics.get("num_prompts") or 0
    unanswered = 1 - (metrics.get("completed") or 0) / num_asked if num_asked else 1.0
    for limit in limits:
        value = _value(outcome, limit, unanswered)
        one = Reached(math.inf, f"no data for {limit.short()}")
        if value is not None and limit.is_goodput:
            one = Reached((1 - value) / max(1 - limit.value, 1e-9), limit.reached(value))
        elif value is not None:
            one = Reached(value / limit.value, limit.reached(value))
        allowed = _MOST_UNANSWERED if limit.rank is None else 1 - limit.rank / 100
        if not limit.is_goodput and unanswered > allowed and unanswered / allowed > one.excess:
            words = f"{100 * unanswered:.3g} % of the requests without an answer"
            one = Reached(unanswered / allowed, f"{limit.short()}: {words}")
        if not worst.words or one.excess > worst.excess:
            worst = one
    return worst


def _value(outcome: Outcome, limit: Limit, unanswered: float) -> float | None:
    metrics = outcome.metrics
    if not limit.is_goodput:
        return metrics.get(limit.metric)
    share = _ratio(metrics.get("request_goodput"), metrics.get("request_throughput"))
    return None if share is None else share * (1 - unanswered)
