"""The search of one candidate, on the simulator."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from blis_sim.capacity.candidate import CandidatePlan, PlanCandidate
from blis_sim.capacity.fluid import Flow, busiest, least_step_ms, lone_request_s
from blis_sim.capacity.plan_load import PlanLoad, at_rate, look_at
from blis_sim.capacity.search import FoundRate, Measurement, Probe, RateSearch, Verdict
from blis_sim.capacity.slo import Limit
from blis_sim.capacity.study import Label, Outcome, Point, Window
from blis_sim.catalog.locate import locate
from blis_sim.catalog.prices import gpu_price, load_prices
from blis_sim.errors import CatalogError, ConfigError, SimulationError

if TYPE_CHECKING:
    from blis_sim.capacity.plan import PlanSettings
    from blis_sim.catalog.prices import GpuPrice
    from blis_sim.config.scenario import Scenario
    from blis_sim.engine.resolved import Deployed

_WARM_UP, _END = 0.25, 0.97
"""Parts of the time in which requests arrive between which figures count."""
_NUM_SLICES = 20
_LIFETIMES = 16.0
"""A probe lasts so many mean lifetimes of a request: its warm-up four of them."""
_TYPICAL = Flow(512, 512, 256)
"""The load as long as nothing is known about it."""
_FEW = 0.05
"""Requests in flight of the idle probe, on average."""
_BELOW = 0.9
"""Part of what arithmetic gives as the first guess."""
_DIGITS = 4
_MOST_REQUESTS, _MOST_EVER = 16_000, 256_000
"""Requests of a full probe by default, and where a limit is on very few of them."""
_BEYOND = 64
"""Requests of a full probe that may be beyond a limit, at least."""
_LONGEST = 10
"""How many times as long conversations may make a probe."""
_MOST_LOST = 0.9
"""Where fewer requests are answered that is what is said."""


def probe_point(
    scenario: Scenario,
    rate: float,
    num_requests: int,
    limits: tuple[Limit, ...],
    *,
    labels: Mapping[str, Label],
    num_replicas: int = 1,
    num_rows: int | None = None,
    begin_s: float = 0.0,
) -> Point:
    """Return the simulation of a scenario at a rate.

    The first quarter of the time is warm-up; arrivals in the last 3 % do not count either.
    A trace of ``num_rows`` requests is replayed as often as the number of requests asks for.

    Parameters
    ----------
    scenario : Scenario
        One replica under the load.
    rate : float
        Arrivals per second, > 0.
    num_requests : int
        Arrivals.
    limits : tuple of Limit
        To check.
    labels : mapping of str to Label
        What sets the point apart.
    num_replicas : int
        Instances, >= 1.
    num_rows : int or None
        Requests of a trace.
    begin_s : float
        When the load begins, simulated seconds.
    """
    probed = at_rate(scenario, rate, num_requests, num_rows=num_rows, num_replicas=num_replicas)
    duration_s = num_requests / rate
    window = Window(begin_s + _WARM_UP * duration_s, begin_s + _END * duration_s, _NUM_SLICES)
    return Point(probed, {**labels, "workload.request_rate": rate}, window, limits)


def verdict_of(
    outcome: Outcome, limits: Sequence[Limit]
) -> tuple[Verdict, dict[str, float | None]]:
    """Return whether a simulation kept the limits, and the limited figures."""
    if not outcome.is_done:
        return Verdict.MISSED, {}
    measured = measurement_of(Probe(1.0, 1), outcome)
    return measured.verdict, {limit.metric: measured.values.get(limit.metric) for limit in limits}


def measurement_of(probe: Probe, outcome: Outcome) -> Measurement:
    """Return what a simulation tells the search."""
    margins: dict[str, float] = {}
    ratios: dict[str, float] = {}
    values: dict[str, float | None] = {}
    for check in outcome.checks:
        metric = check["metric"]
        margins[metric] = _number(check["margin"])
        values[metric] = check["value"]
        value, limit = check["value"], check["limit"]
        if value is None:
            continue
        if metric.endswith("_ms"):
            ratios[metric] = value / limit
        else:
            ratios[metric] = (1 - value) / max(1 - limit, 1e-9)
    return Measurement(
        probe=probe,
        margins=margins,
        ratios=ratios,
        values=values,
        is_saturated=bool(outcome.is_saturated),
    )


def _number(value: float | str) -> float:
    return float(value)  # infinity is kept as text


class CandidateSearch:
    """Finds the highest rate of one candidate.

    Parameters
    ----------
    candidate : PlanCandidate
        What to deploy.
    limits : tuple of Limit
        The objective.
    settings : PlanSettings
        How carefully to search.

    Attributes
    ----------
    deployed : Deployed or None
        The replica, looked up; None = it cannot be.
    flow : Flow or None
        The mean load, known after the first probe.
    reason : str
        Why it cannot be deployed or carries nothing; empty when it does.
    is_pruned : bool
        Whether it was dismissed without a simulation.
    load : PlanLoad
        The load.
    outcomes : dict
        Of each probe.
    num_gpus : int
        GPUs of a replica.
    price : GpuPrice or None
        Price of its GPUs; None = not known.
    """

    least_requests = 1000

    def __init__(
        self,
        candidate: PlanCandidate,
        limits: tuple[Limit, ...],
        settings: PlanSettings,
    ) -> None:
        self.candidate = candidate
        self.limits = limits
        self.deployed: Deployed | None = None
        self.flow: Flow | None = None
        self.reason = ""
        self.is_pruned = False
        self.load = PlanLoad(words="")
        self.outcomes: dict[Probe, Outcome] = {}
        self.num_gpus = candidate.tensor_parallel_size
        self.price: GpuPrice | None = None
        self._num_engines = 1
        self._num_requests = 0
        self._most_requests = requests_of(settings, limits)
        self._asked: Probe | None = None
        self._search: RateSearch | None = None
        self._begin(settings)

    def _begin(self, settings: PlanSettings) -> None:
        scenario = self.candidate.scenario
        try:
            resolved, self.load = look_at(scenario)
        except (ConfigError, CatalogError, SimulationError) as error:
            self._dismiss(" ".join(str(error).split()))
            return
        self.deployed = deployed = resolved.deployed
        self._num_engines = resolved.num_instances
        self.num_gpus = resolved.num_instances * self.candidate.tensor_parallel_size
        file = scenario.prices
        prices = load_prices(None if file is None else locate(file).path)
        self.price = gpu_price(resolved.gpu.name, prices)
        least_ms = least_step_ms(deployed)
        for limit in self.limits:
            if limit.tag in {"itl", "tpot"} and least_ms > limit.value:
                self._dismiss(
                    f"one request alone takes at least {least_ms:.3g} ms per token; limit "
                    f"{limit.words()}"
                )
                return
        lone_s = lone_request_s(deployed, _TYPICAL) * self.load.rounds
        self._search = RateSearch(
            lowest=_rounded(_FEW / lone_s),
            tolerance=settings.tolerance,
            max_simulations=settings.max_simulations,
            least_requests=self.least_requests,
            most_requests=math.ceil(self._most_requests / self.load.rounds),
            available=self.load.available,
        )

    def _dismiss(self, reason: str) -> None:
        self.reason = reason
        self.is_pruned = True

    @property
    def least_duration_s(self) -> float:
        """How long a probe lasts at least, simulated seconds."""
        return 0.0 if self._search is None else self._search.least_duration_s

    @property
    def found(self) -> FoundRate:
        """What was found so far."""
        if self._search is None:
            return FoundRate(
                rate=0.0, upper=math.inf, at_rate=None, at_upper=None, measurements=()
            )
        return self._search.result()

    def ask(self) -> Point | None:
        """Return the next simulation, None when the search is over."""
        if self._search is None or self.reason:
            return None
        probe = self._search.ask()
        if probe is None:
            return None
        num_requests = math.ceil(probe.num_requests * self.load.rounds)
        if self.load.has_conversations and num_requests > _LONGEST * self._most_requests:
            life_s = self._search.least_duration_s / _LIFETIMES
            self.reason = (
                f"conversations last {life_s:.0f} s: it would take {num_requests:,} requests to "
                f"see enough of them at {probe.rate:.3g} conversations/s; give "
                f"--max-requests {math.ceil(num_requests / _LONGEST):,} to do that".replace(
                    ",", ""
                )
            )
            return None
        self._asked = probe = Probe(_rounded(probe.rate), probe.num_requests)
        return self.point(probe)

    def point(self, probe: Probe, num_replicas: int | None = None) -> Point:
        """Return a simulation of one replica, or of a cluster of so many."""
        labels = self.candidate.labels()
        if num_replicas is not None:
            labels["replicas"] = num_replicas
        return probe_point(
            self.candidate.scenario,
            probe.rate,
            probe.num_requests,
            self.limits,
            labels=labels,
            num_replicas=num_replicas or 1,
            num_rows=self.load.num_rows,
            begin_s=self.load.begin_s,
        )

    def tell(self, outcome: Outcome) -> None:
        """Take note of what the simulation asked for last showed."""
        assert self._search is not None
        assert self._asked is not None
        if not outcome.is_done:
            self.reason = outcome.reason
            return
        self._num_requests += outcome.num_requests
        measurement = measurement_of(self._asked, outcome)
        self.outcomes[measurement.probe] = outcome
        is_first = not self._search.measurements
        if is_first and (outcome.metrics.get("completed") or 0):
            self._check_data(measurement)
        self._search.tell(measurement)
        self._learn(outcome, is_first=is_first)

    def _check_data(self, measurement: Measurement) -> None:
        for limit in self.limits:
            if measurement.values.get(limit.metric) is None:
                raise ConfigError(
                    f"a limit must be on figures that the load has; got {limit.words()}, and no "
                    "request has one; leave it out"
                    + ("" if not limit.is_goodput else ", or give --goodput ttft:500 tpot:50")
                )

    def _learn(self, outcome: Outcome, *, is_first: bool) -> None:
        """Find out what the load is like, and from it where to look and how long."""
        assert self._search is not None
        assert self.deployed is not None
        metrics = outcome.metrics
        completed = metrics.get("completed") or 0
        rounds = self.load.rounds
        if is_first and completed:
            prompt = (metrics.get("total_input_tokens") or 0) / completed
            hit = metrics.get("prefix_hit_rate") or 0.0
            output = max((metrics.get("total_output_tokens") or 0) / completed, 1.0)
            self.flow = Flow(prompt, max(prompt * (1 - hit), 1.0), output)
            point = busiest(self.deployed, self.flow, self._itl_limit_ms())
            if point is not None:
                guess = _BELOW * self._num_engines * point.rate / rounds
                self._search.guess = max(guess, 2 * self._search.lowest)
                # A busy engine takes longer than the idle one of the first probe.
                self._last_at_least(rounds * output * point.step_ms / 1000)
        # Waiting is no part of a lifetime: that is longest where an engine is nearly saturated.
        served_ms = (metrics.get("mean_e2el_ms") or 0.0) - (metrics.get("mean_queue_ms") or 0.0)
        if not outcome.is_saturated:
            self._last_at_least(rounds * max(served_ms, 0.0) / 1000)

    def _last_at_least(self, lifetime_s: float) -> None:
        """Let probes last many times as long as a request, or a conversation, does."""
        assert self._search is not None
        wanted_s = _LIFETIMES * (self.load.thinking_s + lifetime_s)
        self._search.least_duration_s = max(self._search.least_duration_s, wanted_s)

    def _itl_limit_ms(self) -> float:
        tags = {"itl", "tpot"}
        return min((each.value for each in self.limits if each.tag in tags), default=math.inf)

    def plan(self, binds: str) -> CandidatePlan:
        """Return what was found, without a target."""
        found = self.found
        reason = self.reason
        if reason:
            found = replace(found, rate=0.0, at_rate=None)
        elif found.rate <= 0:
            reason = self._why_nothing(found)
        at_rate = None if found.at_rate is None else self.outcomes.get(found.at_rate.probe)
        return CandidatePlan(
            candidate=self.candidate,
            found=found,
            reason=reason,
            binds="" if found.rate <= 0 else binds,
            metrics={} if at_rate is None else dict(at_rate.metrics),
            accuracy="" if at_rate is None else at_rate.accuracy,
            gpus_per_replica=self.num_gpus,
            usd_per_gpu_hour=None if self.price is None else self.price.median_usd_per_gpu_hour,
            output_tokens=self._output_tokens(),
            num_simulations=len(found.measurements),
            num_requests=self._num_requests,
            is_simulated=bool(found.measurements),
        )

    def _output_tokens(self) -> float:
        """Return the tokens generated for an arrival, mean of the longest simulation; 0 = none.

        Where a queue grew without end the requests answered need not be like all.
        """
        steady = [each for each in self.outcomes.values() if not each.is_saturated]
        longest = max(steady, key=lambda each: each.num_requests, default=None)
        metrics = {} if longest is None else longest.metrics
        tokens, completed = metrics.get("total_output_tokens"), metrics.get("completed")
        return (tokens or 0) / completed * self.load.rounds if completed else 0.0

    def _why_nothing(self, found: FoundRate) -> str:
        beyond = found.at_upper
        if beyond is None or any(m.seems_kept for m in found.measurements):
            upper = ""
            if beyond is not None:
                upper = f" below {beyond.probe.rate:.3g} {self.load.unit}/s"
            number = self._most_requests
            return (
                f"simulations of {number:,} requests are too few to be sure of any rate{upper}; "
                f"give --max-requests {4 * number}"
            )
        limits = {limit.metric: limit for limit in self.limits}
        worst = limits.get(beyond.worst)
        value = None if worst is None else beyond.values.get(worst.metric)
        where = f"even at {beyond.probe.rate:.3g} {self.load.unit}/s"
        metrics = self.outcomes[beyond.probe].metrics
        answered, injected = metrics.get("completed") or 0, metrics.get("num_prompts") or 0
        lost = f"{1 - answered / injected:.0%} of the requests get no answer" if injected else ""
        if worst is None or value is None:
            return f"{where} {lost or 'the limits are missed'}"
        if answered < _MOST_LOST * injected:
            return f"{where} {lost}"
        return f"{where} {worst.reached(value)}"


def requests_of(settings: PlanSettings, limits: Sequence[Limit]) -> int:
    """Return how many requests a full probe has: more where a limit is on very few of them."""
    if settings.most_requests is not None:
        return settings.most_requests
    allowed = [
        1 - (limit.value if limit.is_goodput else (limit.rank or 0.0) / 100) for limit in limits
    ]
    least = min(allowed, default=1.0)
    wanted = math.ceil(_BEYOND / max(least, 1e-9))
    return min(max(_MOST_REQUESTS, wanted), _MOST_EVER)


def _rounded(rate: float) -> float:
    """Return a rate with few digits, so that the same search asks for the same points."""
    return float(f"{rate:.{_DIGITS}g}")
