"""Capacity planning: which GPUs, how many of them, and what they cost.

For each candidate the highest rate of one replica is searched on the simulator; how many
replicas carry the target follows, and the cheapest plan is simulated once as a whole cluster.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from blis_sim.capacity.bound import what_runs_out
from blis_sim.capacity.candidate import CandidatePlan, PlanCandidate, Verification
from blis_sim.capacity.executor import Backend, Executor, OnOutcome
from blis_sim.capacity.rate_probe import CandidateSearch, probe_point, verdict_of
from blis_sim.capacity.search import SURE, Verdict
from blis_sim.capacity.slo import Limit, slo_words
from blis_sim.capacity.study import Outcome, Point, StudyKind
from blis_sim.errors import BlisError, ConfigError

if TYPE_CHECKING:
    from blis_sim.capacity.store import ResultStore

_MOST_REPLICAS_ADDED = 3
_LONGEST_VERIFICATION = 60_000
"""Requests of the verification at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSettings:
    """How carefully to search.

    Attributes
    ----------
    tolerance : float
        Relative width of the bracket at which a search ends, in 0..1.
    max_simulations : int
        Simulations per candidate at most, 4 or more.
    most_requests : int
        Requests of the longest simulation, >= 1000.
    """

    tolerance: float = 0.03
    max_simulations: int = 12
    most_requests: int = 16_000

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0.001 <= self.tolerance <= 0.5:
            raise ConfigError(f"tolerance must be from 0.001 to 0.5; got {self.tolerance:g}")
        if not 4 <= self.max_simulations <= 50:
            raise ConfigError(f"max_simulations must be from 4 to 50; got {self.max_simulations}")
        if not 1000 <= self.most_requests <= 10_000_000:
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
    candidates : tuple of CandidatePlan
        Ranked: the cheapest first, those without a price after them, the infeasible last.
    verifications : tuple of Verification
        Of the best candidate of each model.
    num_simulations, num_requests : int
        How much was simulated for it, results from the store included.
    num_pruned : int
        Candidates dismissed without a simulation.
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
    wall_s: float = 0.0

    @property
    def winners(self) -> tuple[CandidatePlan, ...]:
        """The best candidate of each model."""
        found: dict[str, CandidatePlan] = {}
        for each in self.candidates:
            if each.rank == 1:
                found.setdefault(each.candidate.model, each)
        return tuple(found.values())

    def sentences(self) -> list[str]:
        """Return the answer, a sentence for each model."""
        models = dict.fromkeys(each.candidate.model for each in self.candidates)
        return [self._sentence(model) for model in models]

    def _sentence(self, model: str) -> str:
        name = model.rpartition("/")[2]
        best = next((w for w in self.winners if w.candidate.model == model), None)
        if best is None:
            return f"{name}: no candidate keeps {slo_words(self.limits)} at any rate."
        where = best.candidate.words()
        if self.target_rate is None or best.num_replicas is None:
            return (
                f"{name}: {where} carries {best.rate:.3g} requests/s within "
                f"{slo_words(self.limits)} ({best.binds} binds first)."
            )
        cost = "price not known"
        if best.usd_per_hour is not None:
            cost = f"{best.usd_per_hour:,.2f} USD/h"
            if best.usd_per_million_output_tokens is not None:
                cost += f", {best.usd_per_million_output_tokens:.3g} USD per million output tokens"
        checked = next((v for v in self.verifications if v.model == model), None)
        headroom = 100 * (best.headroom_frac or 0)
        return (
            f"{name} at {self.target_rate:g} requests/s: {best.num_replicas} x {where} "
            f"({best.num_gpus} GPU{'s' * (best.num_gpus != 1)}, {cost}) with {headroom:.0f} % "
            f"headroom; {best.binds} binds first"
            + (f"; {checked.words()}" if checked is not None else "")
            + "."
        )

    def to_json_dict(self) -> dict[str, Any]:
        """Return the answer as plain values: what the store keeps and reports show."""
        winner = self.winners[0] if self.winners else None
        return {
            "sentence": " ".join(self.sentences()),
            "sentences": self.sentences(),
            "load": self.load,
            "target_rate": self.target_rate,
            "limits": [{"metric": each.metric, "value": each.value} for each in self.limits],
            "candidates": [each.to_json_dict() for each in self.candidates],
            "winner": None if winner is None else self.candidates.index(winner),
            "verification": (self.verifications[0].to_json_dict() if self.verifications else None),
            "verifications": [each.to_json_dict() for each in self.verifications],
            "num_simulations": self.num_simulations,
            "num_requests": self.num_requests,
            "num_pruned": self.num_pruned,
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
        name = f"plan for {slo_words(self.limits)}" + (
            "" if target_rate is None else f" at {target_rate:g} requests/s"
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
        self._search(searches)
        plans = [_planned(search, target_rate, self.limits) for search in searches]
        self._check_any(plans)
        ranked = _ranked(plans)
        loads = [search.load for search in searches if search.load]
        plan = Plan(
            limits=self.limits,
            target_rate=target_rate,
            load=loads[0] if loads else "",
            candidates=tuple(ranked),
            num_pruned=sum(search.is_pruned for search in searches),
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

    def _check_any(self, plans: Sequence[CandidatePlan]) -> None:
        reasons = {each.reason for each in plans if not each.is_simulated}
        if len(reasons) == 1 and not any(each.is_simulated for each in plans):
            raise ConfigError(reasons.pop())

    # -- the whole cluster ----------------------------------------------------

    def _verified(
        self, plan: Plan, searches: Mapping[PlanCandidate, CandidateSearch], target_rate: float
    ) -> Plan:
        """Simulate the winners at the target rate; one that misses gets more replicas."""
        candidates = list(plan.candidates)
        verifications: list[Verification] = []
        for winner in plan.winners:
            search = searches[winner.candidate]
            verification, num_replicas = self._verify(winner, search, target_rate)
            verifications.append(verification)
            if num_replicas != winner.num_replicas:
                place = candidates.index(winner)
                candidates[place] = winner.with_replicas(num_replicas, target_rate)
        return replace(plan, candidates=tuple(candidates), verifications=tuple(verifications))

    def _verify(
        self, winner: CandidatePlan, search: CandidateSearch, target_rate: float
    ) -> tuple[Verification, int]:
        assert winner.num_replicas is not None
        planned = winner.num_replicas
        for added in range(_MOST_REPLICAS_ADDED + 1):
            number = planned + added
            wanted = max(4 * search.least_requests, target_rate * search.least_duration_s)
            num_requests = min(math.ceil(wanted), _LONGEST_VERIFICATION, search.available)
            point = probe_point(
                winner.candidate.scenario,
                target_rate,
                num_requests,
                self.limits,
                labels={**winner.candidate.labels(), "replicas": number},
                num_replicas=number,
                num_rows=search.num_rows,
            )
            (outcome,) = self._simulate([point])
            verdict, values = verdict_of(outcome, self.limits)
            if verdict is not Verdict.MISSED:
                break
        return (
            Verification(
                model=winner.candidate.model,
                num_replicas=number,
                num_planned=planned,
                num_requests=outcome.num_requests,
                values=values,
                limits=self.limits,
                verdict=verdict,
                metrics=dict(outcome.metrics),
            ),
            number,
        )


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
    found = search.found
    beyond = found.at_upper or found.at_rate
    if beyond is None or search.deployed is None:
        return ""
    outcome = search.outcomes.get(beyond.probe)
    metrics = {} if outcome is None else outcome.metrics
    runs_out = ""
    flow = search.flow
    if flow is not None and metrics:
        context = flow.prompt_tokens + flow.output_tokens / 2
        try:
            runs_out = what_runs_out(search.deployed, metrics, context)
        except BlisError:
            runs_out = ""
    named = {limit.metric: limit for limit in limits}
    worst = named.get(beyond.worst)
    if beyond.is_saturated and (worst is None or beyond.margins[worst.metric] > -SURE):
        what = "throughput"
    else:
        what = worst.short() if worst is not None else "throughput"
    return f"{what} ({runs_out})" if runs_out else what


def _ranked(plans: Sequence[CandidatePlan]) -> list[CandidatePlan]:
    """Return plans in order of cost, with ranks within each model and the Pareto set marked."""

    def order(plan: CandidatePlan) -> tuple[bool, bool, float, float]:
        usd = plan.usd_per_hour if plan.num_replicas is not None else plan.usd_per_rate
        gpus = plan.num_gpus if plan.num_gpus is not None else 1 / max(plan.rate, 1e-12)
        return plan.rate <= 0, usd is None, usd or 0.0, gpus

    ranked: list[CandidatePlan] = []
    for model in dict.fromkeys(plan.candidate.model for plan in plans):
        own = sorted((plan for plan in plans if plan.candidate.model == model), key=order)
        for number, plan in enumerate(own, start=1):
            rank = number if plan.rate > 0 else None
            ranked.append(replace(plan, rank=rank, is_pareto=_is_pareto(plan, own, order)))
    return ranked


def _is_pareto(
    plan: CandidatePlan,
    plans: Sequence[CandidatePlan],
    order: Callable[[CandidatePlan], tuple[bool, bool, float, float]],
) -> bool:
    """Return whether no other plan costs no more and gives a user no fewer tokens a second."""
    speed = plan.tokens_per_s_per_user
    if plan.rate <= 0 or speed is None:
        return False
    return not any(_dominates(other, plan, order) for other in plans if other is not plan)


def _dominates(
    other: CandidatePlan,
    plan: CandidatePlan,
    order: Callable[[CandidatePlan], tuple[bool, bool, float, float]],
) -> bool:
    if other.rate <= 0 or other.tokens_per_s_per_user is None:
        return False
    mine, its = order(plan)[1:3], order(other)[1:3]
    speed, its_speed = plan.tokens_per_s_per_user or 0.0, other.tokens_per_s_per_user
    return its <= mine and its_speed >= speed and (its < mine or its_speed > speed)


def plan_rows(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield one flat record per candidate, for CSV and frames."""
    for each in plan.candidates:
        record = each.to_json_dict()
        record.pop("probes", None)
        metrics = record.pop("metrics", {})
        settings = record.pop("settings", {})
        yield {**record, **settings, **metrics}
