"""What is simulated for a trial: one run at the given load, or a search for the highest rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from blis_sim.capacity.fluid import Flow, highest_fluid_rate, lone_request_s
from blis_sim.capacity.plan_load import look_at
from blis_sim.capacity.rate_probe import measurement_of, probe_point
from blis_sim.capacity.search import Probe
from blis_sim.capacity.study import Outcome, OutcomeStatus, Point
from blis_sim.capacity.tune_objective import Reached, limits_to_measure, reached
from blis_sim.capacity.tune_rate import CAREFUL, QUICK, RateBracket
from blis_sim.capacity.tune_trial import Trial, TrialStatus
from blis_sim.catalog.locate import locate
from blis_sim.catalog.prices import gpu_price, load_prices
from blis_sim.errors import CatalogError, ConfigError, SimulationError

if TYPE_CHECKING:
    from blis_sim.capacity.search import Measurement
    from blis_sim.capacity.slo import Limit
    from blis_sim.capacity.study import Label
    from blis_sim.capacity.tune_objective import Objective
    from blis_sim.config.scenario import Scenario
    from blis_sim.engine.resolved import Deployed, Resolved

_FEW = 0.05
"""Requests in flight of the idle probe, on average."""
_BELOW = 0.9
"""Part of what arithmetic gives as the first guess."""
_FEWEST = 3.0
"""Lifetimes of a conversation that a probe must last at least."""
_TYPICAL = Flow(512, 512, 256)
"""The load as long as nothing is known about it."""


class TrialRuns(Protocol):
    """Asks for simulations, one after the other, until a trial is decided."""

    @property
    def load(self) -> str:
        """The load in words; empty as long as nothing is known of it."""

    def ask(self) -> Point | None:
        """Return the next simulation, None when there is no more."""

    def tell(self, outcome: Outcome) -> None:
        """Take note of what the simulation asked for last showed."""

    def trial(self) -> Trial:
        """Return what became of the trial."""


class NoRuns:
    """A combination of which no scenario can be made.

    Parameters
    ----------
    number : int
        Of the trial.
    settings : mapping of str to Label
        What was chosen.
    reason : str
        Why it cannot be.
    """

    def __init__(self, number: int, settings: Mapping[str, Label], reason: str) -> None:
        self._trial = Trial(
            number=number, settings=settings, status=TrialStatus.INFEASIBLE, reason=reason
        )

    @property
    def load(self) -> str:
        """Nothing is known."""
        return ""

    def ask(self) -> Point | None:
        """Return no simulation."""
        return None

    def tell(self, outcome: Outcome) -> None:
        """Take note of nothing."""

    def trial(self) -> Trial:
        """Return the trial."""
        return self._trial


class OneRun:
    """One run of the whole load.

    Parameters
    ----------
    number : int
        Of the trial.
    settings : mapping of str to Label
        What was chosen.
    scenario : Scenario
        With what was chosen.
    objective : Objective
        What is looked for.
    limits : sequence of Limit
        What must be kept.
    """

    def __init__(
        self,
        number: int,
        settings: Mapping[str, Label],
        scenario: Scenario,
        objective: Objective,
        limits: Sequence[Limit],
    ) -> None:
        self._number, self._settings = number, settings
        self._scenario = scenario
        self._objective, self._limits = objective, limits
        self._outcome: Outcome | None = None

    @property
    def load(self) -> str:
        """The load in words, after the run."""
        return "" if self._outcome is None else self._outcome.load

    def ask(self) -> Point | None:
        """Return the run, once: the point that a sweep would have, too."""
        if self._outcome is not None:
            return None
        return Point(self._scenario, self._settings, limits=limits_to_measure(self._limits))

    def tell(self, outcome: Outcome) -> None:
        """Take note of the run."""
        self._outcome = outcome

    def trial(self) -> Trial:
        """Return the run as a trial."""
        outcome = self._outcome
        assert outcome is not None
        if not outcome.is_done:
            return _not_done(self._number, self._settings, outcome)
        figure = self._objective.figure(outcome)
        near = reached(outcome, self._limits)
        status, reason = TrialStatus.DONE, ""
        if near.excess > 1:
            status, reason = TrialStatus.MISSED, near.words
        elif figure is None:
            status, reason = TrialStatus.INFEASIBLE, _why_no_figure(outcome, self._objective)
        return Trial(
            number=self._number,
            settings=self._settings,
            status=status,
            reason=reason,
            figure=figure,
            reached=near,
            outcome=outcome,
        )


def _not_done(number: int, settings: Mapping[str, Label], outcome: Outcome) -> Trial:
    is_failed = outcome.status is OutcomeStatus.FAILED
    return Trial(
        number=number,
        settings=settings,
        status=TrialStatus.FAILED if is_failed else TrialStatus.INFEASIBLE,
        reason=outcome.reason,
        outcome=outcome,
    )


def _why_no_figure(outcome: Outcome, objective: Objective) -> str:
    if "usd" in objective.key and (objective.is_rate or outcome.metrics.get("cost_usd") is None):
        return f"no price of {outcome.deployment.get('gpu')} is known; give --prices FILE"
    return "no request was answered"


class HighestRate:
    """A search for the highest rate that keeps all limits.

    Parameters
    ----------
    number, settings, scenario, objective, limits
        As for `OneRun`; rate and number of requests of the scenario are replaced.
    near : float
        A rate found before, arrivals/s: it is looked for again, carefully; 0 = none was.
    """

    def __init__(
        self,
        number: int,
        settings: Mapping[str, Label],
        scenario: Scenario,
        objective: Objective,
        limits: Sequence[Limit],
        *,
        near: float = 0.0,
    ) -> None:
        self._number, self._settings = number, settings
        self._scenario = scenario
        self._objective, self._limits = objective, tuple(limits)
        self._near, self._care = near, CAREFUL if near else QUICK
        self._reason = ""
        self._failure: Outcome | None = None
        self._asked = Probe(1.0, 1)
        self._outcomes: dict[Probe, Outcome] = {}
        self._search: RateBracket | None = None
        try:
            resolved, self._load = look_at(scenario)
        except (ConfigError, CatalogError, SimulationError) as error:
            self._reason = " ".join(str(error).split())
            return
        self._engines = _engines(resolved)
        rounds = self._load.rounds
        lone_s = rounds * max(lone_request_s(each, _TYPICAL) for each, _ in self._engines)
        self._search = RateBracket(_FEW / lone_s, self._care, self._load.available, rounds)

    @property
    def load(self) -> str:
        """The load in words, without its rate."""
        return "" if self._search is None else self._load.words

    def ask(self) -> Point | None:
        """Return the next probe."""
        if self._search is None or self._failure is not None or self._reason:
            return None
        probe = self._search.ask()
        if probe is None:
            return None
        life_s = self._search.least_duration_s / self._care.lifetimes
        if self._load.has_conversations and probe.num_requests < _FEWEST * life_s * probe.rate:
            self._reason = (
                f"conversations last {life_s:.0f} s: at {probe.rate:.3g} of them per second a "
                "short simulation does not see enough; choose another objective"
            )
            return None
        self._asked = probe
        return probe_point(
            self._scenario,
            probe.rate,
            probe.num_requests,
            self._limits,
            labels=self._settings,
            num_rows=self._load.num_rows,
            begin_s=self._load.begin_s,
        )

    def tell(self, outcome: Outcome) -> None:
        """Take note of a probe, and learn from the first one what the load is like."""
        assert self._search is not None
        if not outcome.is_done:
            self._failure = outcome
            return
        is_first = not self._outcomes
        self._outcomes[self._asked] = outcome
        measurement = measurement_of(self._asked, outcome)
        self._search.tell(measurement)
        if is_first:
            for limit in self._limits:
                if measurement.values.get(limit.metric) is None:
                    self._reason = f"no request has what is limited: {limit.words()}"
            self._search.guess = self._near or self._guess(outcome.metrics)
        if not outcome.is_saturated:
            # Twice an idle engine's: a busy one takes longer.
            lifetime_s = (outcome.metrics.get("mean_e2el_ms") or 0.0) / 1000
            life_s = self._load.thinking_s + self._load.rounds * lifetime_s * (1 + is_first)
            wanted_s = self._care.lifetimes * life_s
            self._search.least_duration_s = max(self._search.least_duration_s, wanted_s)

    def _guess(self, metrics: Mapping[str, float | int | None]) -> float:
        """Return the highest rate by arithmetic: of all engines together, as if all were alike."""
        completed = metrics.get("completed") or 0
        if not completed:
            return 0.0
        prompt = (metrics.get("total_input_tokens") or 0) / completed
        hit = metrics.get("prefix_hit_rate") or 0.0
        output = max((metrics.get("total_output_tokens") or 0) / completed, 1.0)
        flow = Flow(prompt, max(prompt * (1 - hit), 1.0), output)
        tags = {"itl", "tpot"}
        limit_ms = min((each.value for each in self._limits if each.tag in tags), default=math.inf)
        rates = (n * highest_fluid_rate(each, flow, limit_ms) for each, n in self._engines)
        return _BELOW * sum(rates) / self._load.rounds

    def trial(self) -> Trial:
        """Return what the search found as a trial; its figures are those at the rate found."""
        if self._failure is not None:
            return _not_done(self._number, self._settings, self._failure)
        if self._search is None or self._reason:
            return NoRuns(self._number, self._settings, self._reason).trial()
        found = self._search.result()
        decided = found.low or found.high
        assert decided is not None
        outcome = self._outcomes[decided.probe]
        near = _reached(decided, self._limits)
        figure = self._figure(found.rate, outcome) if found.rate > 0 else None
        status, reason = TrialStatus.DONE, ""
        if found.rate <= 0:
            near = replace(near, excess=max(near.excess, 1.0))
            status = TrialStatus.MISSED
            reason = f"even at {decided.probe.rate:.3g} {self._load.unit}/s {near.words}"
        elif figure is None:
            status, reason = TrialStatus.INFEASIBLE, _why_no_figure(outcome, self._objective)
        return Trial(
            number=self._number,
            settings=self._settings,
            status=status,
            reason=reason,
            figure=figure,
            reached=near,
            outcome=outcome,
            found=found,
        )

    def _figure(self, rate: float, outcome: Outcome) -> float | None:
        num_gpus = outcome.metrics.get("mean_gpus")
        if not num_gpus:
            return None
        price = _mean_price(self._engines, self._scenario)
        return self._objective.rate_figure(rate * self._load.rounds, num_gpus, price)


def _engines(resolved: Resolved) -> list[tuple[Deployed, int]]:
    pools = [(pool.deployed, pool.num_instances) for pool in resolved.pools]
    return pools or [(resolved.deployed, 1)]


def _mean_price(engines: Sequence[tuple[Deployed, int]], scenario: Scenario) -> float | None:
    """Return what a GPU costs on average, USD per hour; None = that is not known of all."""
    prices = load_prices(None if scenario.prices is None else locate(scenario.prices).path)
    total, num_gpus = 0.0, 0
    for deployed, number in engines:
        price = gpu_price(deployed.gpu.name, prices)
        if price is None:
            return None
        degree = deployed.settings.tensor_parallel_size
        total += number * degree * price.median_usd_per_gpu_hour
        num_gpus += number * degree
    return total / num_gpus


def _reached(measurement: Measurement, limits: Sequence[Limit]) -> Reached:
    """Return the limit that a probe comes nearest to."""
    near = Reached(measurement.ratio, "")
    for limit in limits:
        value = measurement.values.get(limit.metric)
        if value is not None and measurement.ratios.get(limit.metric) == near.excess:
            return replace(near, words=limit.reached(value))
    return near
