"""The search of one candidate, on the simulator."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from blis_sim import api
from blis_sim.capacity.candidate import CandidatePlan, PlanCandidate
from blis_sim.capacity.fluid import Flow, highest_fluid_rate, least_step_ms, lone_request_s
from blis_sim.capacity.search import FoundRate, Measurement, Probe, RateSearch, Verdict
from blis_sim.capacity.slo import Limit
from blis_sim.capacity.study import Label, Outcome, Point, Window
from blis_sim.config.scenario import Scenario
from blis_sim.errors import CatalogError, ConfigError, SimulationError

if TYPE_CHECKING:
    from blis_sim.capacity.plan import PlanSettings
    from blis_sim.engine.resolved import Deployed

_WARM_UP, _END = 0.25, 0.97
"""Parts of the time in which requests arrive between which figures count."""
_NUM_SLICES = 20
_LIFETIMES = 10.0
"""A probe lasts so many mean lifetimes of a request."""
_TYPICAL = Flow(512, 512, 256)
"""The load as long as nothing is known about it."""
_FEW = 0.05
"""Requests in flight of the idle probe, on average."""
_BELOW = 0.9
"""Part of what arithmetic gives as the first guess."""
_DIGITS = 4


def probe_point(
    scenario: Scenario,
    rate: float,
    num_requests: int,
    limits: tuple[Limit, ...],
    *,
    labels: Mapping[str, Label],
    num_replicas: int = 1,
    num_rows: int | None = None,
) -> Point:
    """Return the simulation of a scenario at a rate.

    The first quarter of the time is warm-up; arrivals in the last 3 % do not count either.
    A trace of ``num_rows`` requests is replayed as often as the number of requests asks for.

    Raises
    ------
    ConfigError
        The load cannot be brought to a rate.
    """
    written = scenario.model_dump(exclude_unset=True)
    load = written.setdefault("workload", {})
    if num_rows is None:
        load.pop("duration_s", None)
    elif num_requests > num_rows:
        load["repeats"] = math.ceil(num_requests / num_rows)
    load |= {"request_rate": rate, "num_requests": num_requests}
    if num_replicas > 1:
        written.setdefault("cluster", {})["num_instances"] = num_replicas
    duration_s = num_requests / rate
    window = Window(_WARM_UP * duration_s, _END * duration_s, _NUM_SLICES)
    try:
        probed = Scenario.model_validate(written)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"the load must have one rate to be planned for; got: {reason}"
        ) from None
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
    outcomes : dict
        Of each probe.
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
        self.load = ""
        self.outcomes: dict[Probe, Outcome] = {}
        self.available = 10**9
        """Requests the load has, replays included."""
        self.num_rows: int | None = None
        """Requests of a trace; None = the load is drawn."""
        self._usd_per_gpu_hour: float | None = None
        self._num_requests = 0
        self._asked: Probe | None = None
        self._search: RateSearch | None = None
        self._begin(settings)

    def _begin(self, settings: PlanSettings) -> None:
        try:
            resolved = api.resolve(self.candidate.scenario)
        except (ConfigError, CatalogError, SimulationError) as error:
            self._dismiss(" ".join(str(error).split()))
            return
        if resolved.request_rate is None and self.candidate.scenario.workload.trace is None:
            raise ConfigError(
                "the load must have one rate to be planned for; got "
                f"{resolved.workload.description}; give an open load with a request rate, or a "
                "trace"
            )
        self.load = resolved.workload.description
        self.deployed = deployed = resolved.deployed
        load = self.candidate.scenario.workload
        if load.trace is not None:
            self.num_rows = resolved.workload.num_requests
            if load.num_requests is not None:
                self.available = load.num_requests
        least_ms = least_step_ms(deployed)
        for limit in self.limits:
            if limit.tag in {"itl", "tpot"} and least_ms > limit.value:
                self._dismiss(
                    f"one request alone takes at least {least_ms:.3g} ms per token; limit "
                    f"{limit.words()}"
                )
                return
        lone_s = lone_request_s(deployed, _TYPICAL)
        self._search = RateSearch(
            lowest=_rounded(_FEW / lone_s),
            tolerance=settings.tolerance,
            max_simulations=settings.max_simulations,
            least_requests=min(self.least_requests, self.available),
            most_requests=min(settings.most_requests, self.available),
            available=self.available,
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
        self._asked = probe = Probe(_rounded(probe.rate), probe.num_requests)
        return probe_point(
            self.candidate.scenario,
            probe.rate,
            probe.num_requests,
            self.limits,
            labels=self.candidate.labels(),
            num_rows=self.num_rows,
        )

    def tell(self, outcome: Outcome) -> None:
        """Take note of what the simulation asked for last showed."""
        assert self._search is not None
        assert self._asked is not None
        if not outcome.is_done:
            self.reason = outcome.reason
            return
        self._num_requests += outcome.num_requests
        self._usd_per_gpu_hour = outcome.deployment.get("usd_per_gpu_hour")
        measurement = measurement_of(self._asked, outcome)
        self.outcomes[measurement.probe] = outcome
        is_first = not self._search.measurements
        self._search.tell(measurement)
        self._learn(outcome, is_first=is_first)

    def _learn(self, outcome: Outcome, *, is_first: bool) -> None:
        """Find out what the load is like, and from it where to look and how long."""
        assert self._search is not None
        assert self.deployed is not None
        metrics = outcome.metrics
        completed = metrics.get("completed") or 0
        if is_first and completed:
            prompt = (metrics.get("total_input_tokens") or 0) / completed
            hit = metrics.get("prefix_hit_rate") or 0.0
            output = max((metrics.get("total_output_tokens") or 0) / completed, 1.0)
            self.flow = Flow(prompt, max(prompt * (1 - hit), 1.0), output)
            guess = highest_fluid_rate(self.deployed, self.flow, self._itl_limit_ms())
            if guess > 0:
                self._search.guess = max(_BELOW * guess, 2 * self._search.lowest)
        lifetime_s = (metrics.get("mean_e2el_ms") or 0.0) / 1000
        if not outcome.is_saturated:
            # Twice an idle engine's: a busy one takes longer.
            wanted = _LIFETIMES * lifetime_s * (2 if is_first else 1)
            self._search.least_duration_s = max(self._search.least_duration_s, wanted)

    def _itl_limit_ms(self) -> float:
        tags = {"itl", "tpot"}
        return min((each.value for each in self.limits if each.tag in tags), default=math.inf)

    def plan(self, binds: str) -> CandidatePlan:
        """Return what was found, without a target."""
        found = self.found
        at_rate = None if found.at_rate is None else self.outcomes.get(found.at_rate.probe)
        reason = self.reason
        if not reason and found.rate <= 0:
            reason = self._why_nothing(found)
        flow = self.flow
        return CandidatePlan(
            candidate=self.candidate,
            found=found,
            reason=reason,
            binds="" if found.rate <= 0 else binds,
            metrics={} if at_rate is None else dict(at_rate.metrics),
            usd_per_gpu_hour=self._usd_per_gpu_hour,
            output_tokens=0.0 if flow is None else flow.output_tokens,
            num_simulations=len(found.measurements),
            num_requests=self._num_requests,
            is_simulated=bool(found.measurements),
        )

    def _why_nothing(self, found: FoundRate) -> str:
        beyond = found.at_upper
        if beyond is None:
            return "nothing could be told"
        limits = {limit.metric: limit for limit in self.limits}
        worst = limits.get(beyond.worst)
        value = None if worst is None else beyond.values.get(worst.metric)
        if worst is None or value is None:
            return "misses the limits on an idle engine"
        return f"even at {beyond.probe.rate:.3g} requests/s {worst.reached(value)}"


def _rounded(rate: float) -> float:
    """Return a rate with few digits, so that the same search asks for the same points."""
    return float(f"{rate:.{_DIGITS}g}")
