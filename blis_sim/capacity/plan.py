"""Capacity planning: which GPUs, how many of them, and what they cost.

For each candidate the highest rate of one replica is searched on the simulator; how many
replicas carry the target follows, and the cheapest plan is simulated once as a whole cluster.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from blis_sim.capacity.bound import what_runs_out
from blis_sim.capacity.candidate import CandidatePlan, PlanCandidate, Verification
from blis_sim.capacity.executor import Backend, Executor, OnOutcome
from blis_sim.capacity.plan_load import PlanLoad, check_scenario
from blis_sim.capacity.ranking import ranked
from blis_sim.capacity.rate_probe import CandidateSearch, verdict_of
from blis_sim.capacity.search import SURE, Probe, Verdict
from blis_sim.capacity.slo import Limit, slo_words
from blis_sim.capacity.study import Outcome, Point, StudyKind
from blis_sim.errors import BlisError, ConfigError

if TYPE_CHECKING:
    from blis_sim.capacity.store import ResultStore
    from blis_sim.config.scenario import Scenario

_MOST_TRIES = 4
_MORE_REPLICAS = 0.05
"""Share of the replicas that a cluster which misses a limit gets more, at least one."""
_LONGEST_VERIFICATION, _LONGEST_STEADY = 60_000, 120_000
"""Requests of the verification at most, and where it takes more to last long enough."""
_LONG_ENOUGH = 0.5
"""Part of the time that a probe lasts which a verification must last to be one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSettings:
    """How carefully to search.

    Attributes
    ----------
    tolerance : float
        Relative width of the bracket at which a search ends, in 0..1.
    max_simulations : int
        Simulations per candidate at most, 4 or more.
    most_requests : int or None
        Requests of a full simulation, >= 1000; more where a replica has so many at a time that
        these would be too short. None = 16,000, and more where a limit is on very few requests,
        as above p99.
    """

    tolerance: float = 0.03
    max_simulations: int = 12
    most_requests: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0.001 <= self.tolerance <= 0.5:
            raise ConfigError(f"tolerance must be from 0.001 to 0.5; got {self.tolerance:g}")
        if not 4 <= self.max_simulations <= 50:
            raise ConfigError(f"max_simulations must be from 4 to 50; got {self.max_simulations}")
        if self.most_requests is not None and not 1000 <= self.most_requests <= 10_000_000:
            raise ConfigError(
                f"max_requests must be from 1000 to 10,000,000; got {self.most_requests}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The answer of a plan.

    Attributes
    ----------
    limits : tuple of Limit
        The objective.
    target_rate : float or None
        Requests per second to carry; None = only the highest rates were asked for.
    load : str
        The load in words.
    unit : str
        What rates count: ``requests`` or ``conversations``, per second.
    candidates : tuple of CandidatePlan
        Ranked: the cheapest first, those without a price after them, the infeasible last.
    verifications : tuple of Verification
        Of the best candidate of each model.
    num_simulations, num_requests : int
        How much was simulated for it, results from the store included.
    num_pruned : int
        Candidates dismissed without a simulation.
    prices : tuple of mappings
        ``gpu``, ``usd_per_gpu_hour`` (median), ``num_offers``, ``sources`` with dates.
    wall_s : float
        Seconds it took.
    """

    limits: tuple[Limit, ...]
    target_rate: float | None
    load: str
    candidates: tuple[CandidatePlan, ...]
    verifications: tuple[Verification, ...] = ()
    num_simulations: int = 0
    num_requests: int = 0
    num_pruned: int = 0
    prices: tuple[Mapping[str, Any], ...] = ()
    unit: str = "requests"
    wall_s: float = 0.0

    @property
    def winners(self) -> tuple[CandidatePlan, ...]:
        """The best candidate of each model."""
        found: dict[str, CandidatePlan] = {}
        for each in self.candidates:
            if each.rank == 1:
                found.setdefault(each.candidate.model, each)
        return tuple(found.values())

    @property
    def is_carried(self) -> bool:
        """Whether a candidate keeps the limits, and none was simulated as a whole and missed."""
        is_missed = any(each.verdict is Verdict.MISSED for each in self.verifications)
        return bool(self.winners) and not is_missed

    def sentences(self) -> list[str]:
        """Return the answer, a sentence for each model."""
        models = dict.fromkeys(each.candidate.model for each in self.candidates)
        return [self._sentence(model) for model in models]

    def _sentence(self, model: str) -> str:
        name = model.rpartition("/")[2]
        best = next((w for w in self.winners if w.candidate.model == model), None)
        if best is None:
            return f"{name}: no candidate was found to keep {slo_words(self.limits)} at any rate."
        where = best.candidate.words()
        is_bound = best.found is not None and best.found.at_upper is not None
        binds = f"{best.binds} binds first" if is_bound else "no limit was reached"
        if self.target_rate is None or best.num_replicas is None:
            return (
                f"{name}: {where} carries {best.rate:.3g} {self.unit}/s within "
                f"{slo_words(self.limits)} ({binds})."
            )
        cost = "price not known"
        if best.usd_per_hour is not None:
            cost = f"{best.usd_per_hour:,.2f} USD/h"
            if best.usd_per_million_output_tokens is not None:
                cost += f", {best.usd_per_million_output_tokens:.3g} USD per million output tokens"
        checked = next((v for v in self.verifications if v.model == model), None)
        headroom = 100 * (best.headroom_frac or 0)
        return (
            f"{name} at {self.target_rate:g} {self.unit}/s: {best.num_replicas} x {where} "
            f"({best.num_gpus} GPU{'s' * (best.num_gpus != 1)}, {cost}) with {headroom:.0f} % "
            f"headroom; {binds}" + (f"; {checked.words()}" if checked is not None else "") + "."
        )

    def to_json_dict(self) -> dict[str, Any]:
        """Return the answer as plain values: what the store keeps and reports show."""
        winner = self.winners[0] if self.winners else None
        return {
            "sentence": " ".join(self.sentences()),
            "sentences": self.sentences(),
            "load": self.load,
            "unit": f"{self.unit}/s",
            "target_rate": self.target_rate,
            "limits": [{"metric": each.metric, "value": each.value} for each in self.limits],
            "candidates": [each.to_json_dict() for each in self.candidates],
            "winner": None if winner is None else self.candidates.index(winner),
            "verification": (self.verifications[0].to_json_dict() if self.verifications else None),
            "verifications": [each.to_json_dict() for each in self.verifications],
            "num_simulations": self.num_simulations,
            "num_requests": self.num_requests,
            "num_pruned": self.num_pruned,
            "prices": [dict(each) for each in self.prices],
        }


@dataclass(slots=True)
class Planner:
    """Works a plan out.

    Parameters
    ----------
    limits : tuple of Limit
        The objective, at least one limit.
    store : ResultStore
        Keeps every simulation.
    backend : Backend
        Where simulations run.
    settings : PlanSettings
        How carefully to search.
    on_outcome : callable, optional
        Told of each simulation.
    """

    limits: tuple[Limit, ...]
    store: ResultStore
    backend: Backend
    settings: PlanSettings = field(default_factory=PlanSettings)
    on_outcome: OnOutcome | None = None
    _executor: Executor = field(init=False)
    _study: int = field(init=False, default=0)
    _num_simulations: int = field(init=False, default=0)
    _num_requests: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        """Check the objective."""
        if not self.limits:
            raise ConfigError("a plan must have limits; got none; give --slo")
        self._executor = Executor(self.store, self.backend, self.on_outcome)

    def run(
        self,
        candidates: Sequence[PlanCandidate],
        target_rate: float | None,
        *,
        asked: Mapping[str, Any] | None = None,
        verify: bool = True,
    ) -> Plan:
        """Return the plan.

        Parameters
        ----------
        candidates : sequence of PlanCandidate
            What may be deployed, at least one.
        target_rate : float or None
            Requests per second to carry; None = only look for the highest rates.
        asked : mapping, optional
            The question as plain values, for the store.
        verify : bool
            Simulate the winner of each model as a whole cluster.

        Raises
        ------
        ConfigError
            No candidate can be simulated, all for the same reason, or the load has no rate.
        TraceError
            The trace is wrong.
        """
        begin_s = time.perf_counter()
        if not candidates:
            raise ConfigError("a plan must have candidates; got none")
        for candidate in candidates:
            check_scenario(candidate.scenario)
            self._check_goodput(candidate.scenario)
        name = f"plan for {slo_words(self.limits)}" + (
            "" if target_rate is None else f" at {target_rate:g}/s"
        )
        question = {
            "limits": [{"metric": each.metric, "value": each.value} for each in self.limits],
            "target_rate": target_rate,
            **(asked or {}),
        }
        self._study = self.store.begin(StudyKind.PLAN, name, question)
        searches = [
            CandidateSearch(candidate, self.limits, self.settings) for candidate in candidates
        ]
        self._check_any(searches)
        self._search(searches)
        plans = [_planned(search, target_rate, self.limits) for search in searches]
        load = next((search.load for search in searches if search.load.words), PlanLoad(words=""))
        plan = Plan(
            limits=self.limits,
            target_rate=target_rate,
            load=load.words + _part(load, searches),
            unit=load.unit,
            candidates=tuple(ranked(plans)),
            num_pruned=sum(search.is_pruned for search in searches),
            prices=tuple(_prices(searches)),
        )
        if target_rate is not None and verify:
            plan = self._verified(plan, {s.candidate: s for s in searches}, target_rate)
        plan = replace(
            plan,
            num_simulations=self._num_simulations,
            num_requests=self._num_requests,
            wall_s=time.perf_counter() - begin_s,
        )
        self.store.answer(self._study, plan.to_json_dict())
        return plan

    # -- simulations ----------------------------------------------------------

    def _simulate(self, points: Sequence[Point]) -> list[Outcome]:
        keys = self._executor.keys(points)
        self.store.add_members(self._study, keys, points)
        outcomes = self._executor.run(points, keys)
        self._num_simulations += len(outcomes)
        self._num_requests += sum(outcome.num_requests for outcome in outcomes)
        return outcomes

    def _search(self, searches: Sequence[CandidateSearch]) -> None:
        """Let all candidates ask, in rounds, until none has a question."""
        while True:
            asked = [(search, point) for search in searches if (point := search.ask())]
            if not asked:
                return
            # Those that take longest first, so that no worker is left alone with one at the end.
            asked.sort(key=lambda pair: -(pair[1].scenario.workload.num_requests or 0))
            outcomes = self._simulate([point for _, point in asked])
            for (search, _), outcome in zip(asked, outcomes, strict=True):
                search.tell(outcome)

    def _check_goodput(self, scenario: Scenario) -> None:
        """Check that good requests are defined, and that chance may make some of them bad."""
        for limit in self.limits:
            if not limit.is_goodput:
                continue
            if not any(value for value in scenario.slo.model_dump().values()):
                raise ConfigError(
                    f"a limit on goodput must come with limits of a request; got {limit.words()} "
                    "alone; give --goodput ttft:500 tpot:50, or slo in the scenario"
                )
            if limit.value >= 1:
                raise ConfigError(
                    "a limit on goodput must be below 100 %: no finite simulation tells that "
                    "every request will be good; got 100 %; write goodput:99.9%"
                )

    def _check_any(self, searches: Sequence[CandidateSearch]) -> None:
        """Raise where every candidate was dismissed for the same reason."""
        reasons = {search.reason for search in searches}
        if len(reasons) == 1 and all(search.is_pruned for search in searches):
            raise ConfigError(reasons.pop())

    # -- the whole cluster ----------------------------------------------------

    def _verified(
        self, plan: Plan, searches: Mapping[PlanCandidate, CandidateSearch], target_rate: float
    ) -> Plan:
        """Simulate the winners at the target rate; one that misses gets more replicas.

        Where another candidate is cheaper then, that one is the winner, and simulated, too.
        """
        done: dict[PlanCandidate, Verification] = {}
        while left := [each for each in plan.winners if each.candidate not in done]:
            candidates = list(plan.candidates)
            for winner in left:
                search = searches[winner.candidate]
                checked = done[winner.candidate] = self._verify(winner, search, target_rate)
                if checked.num_replicas != winner.num_replicas:
                    more = winner.with_replicas(checked.num_replicas, target_rate)
                    candidates[candidates.index(winner)] = more
            plan = replace(plan, candidates=tuple(ranked(candidates)))
        shown = tuple(done[winner.candidate] for winner in plan.winners)
        return replace(plan, verifications=shown)

    def _verify(
        self, winner: CandidatePlan, search: CandidateSearch, target_rate: float
    ) -> Verification:
        assert winner.num_replicas is not None
        planned = number = winner.num_replicas
        for _ in range(_MOST_TRIES):
            wanted = min(
                max(4 * search.least_requests, search.least_requests * number),
                _LONGEST_VERIFICATION,
            )
            steady = target_rate * search.least_duration_s
            most = min(math.ceil(_LONGEST_STEADY / search.load.rounds), search.load.available)
            num_requests = min(max(wanted, math.ceil(steady)), most)
            (outcome,) = self._simulate([search.point(Probe(target_rate, num_requests), number)])
            verdict, values = verdict_of(outcome, self.limits)
            if verdict is not Verdict.MISSED:
                break
            tried, number = number, number + math.ceil(_MORE_REPLICAS * number)
        else:
            number = tried
        is_short = num_requests < _LONG_ENOUGH * steady
        if is_short and verdict is Verdict.KEPT:
            verdict = Verdict.UNCLEAR
        return Verification(
            model=winner.candidate.model,
            num_replicas=number,
            num_planned=planned,
            num_requests=outcome.num_requests,
            duration_s=num_requests / target_rate,
            is_short=is_short,
            values=values,
            limits=self.limits,
            verdict=verdict,
            metrics=dict(outcome.metrics),
        )


def _part(load: PlanLoad, searches: Sequence[CandidateSearch]) -> str:
    """Return in words how much of a trace was simulated, empty when it was all of it."""
    probes = [probe.num_requests for search in searches for probe in search.outcomes]
    longest = max(probes, default=0)
    if not probes or load.num_rows is None or longest >= load.num_rows:
        return ""
    return (
        f"; a simulation takes the first {longest:,}, with --max-requests {load.num_rows} it "
        "would take all"
    )


def _prices(searches: Sequence[CandidateSearch]) -> Iterator[Mapping[str, Any]]:
    """Yield what the GPUs cost, and who says so."""
    found = {search.price.gpu: search.price for search in searches if search.price is not None}
    for _, price in sorted(found.items()):
        yield {
            "gpu": price.gpu,
            "usd_per_gpu_hour": price.median_usd_per_gpu_hour,
            "num_offers": len(price.offers),
            "sources": [f"{each.source}, {each.as_of}".lstrip(", ") for each in price.offers],
        }


def _planned(
    search: CandidateSearch, target_rate: float | None, limits: tuple[Limit, ...]
) -> CandidatePlan:
    """Return what a search means for the target."""
    plan = search.plan(_binding(search, limits))
    if plan.rate <= 0 or target_rate is None:
        return plan
    return plan.with_replicas(math.ceil(target_rate / plan.rate * (1 - 1e-9)), target_rate)


def _binding(search: CandidateSearch, limits: tuple[Limit, ...]) -> str:
    """Return which limit binds, and what the engine runs out of, in words."""
    beyond = search.found.at_upper
    if beyond is None or search.deployed is None:
        return "no limit reached"
    outcome = search.outcomes.get(beyond.probe)
    metrics = {} if outcome is None else outcome.metrics
    named = {limit.metric: limit for limit in limits}
    worst = named.get(beyond.worst)
    if beyond.is_saturated and (worst is None or beyond.margins[worst.metric] > -SURE):
        worst = None
    what = "throughput" if worst is None else worst.short()
    is_late = worst is not None and worst.tag in {"ttft", "e2el", ""}
    runs_out = ""
    flow = search.flow
    if flow is not None and metrics:
        context = flow.prompt_tokens + flow.output_tokens / 2
        with contextlib.suppress(BlisError):
            runs_out = what_runs_out(search.deployed, metrics, context, is_late=is_late)
    return f"{what} ({runs_out})" if runs_out else what
