"""Tuning: which settings of the engines serve best, found with few simulations.

A sampler suggests combinations, the executor simulates them, and what came of them guides the
next suggestions. Everything simulated is kept in the store: the same search, begun again, gives
the same suggestions, finds their outcomes there, and goes on where it was stopped.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blis_sim.capacity.executor import Backend, Executor, OnOutcome, default_jobs
from blis_sim.capacity.grid import axis
from blis_sim.capacity.point_key import given_settings
from blis_sim.capacity.slo import parse_slo, slo_words
from blis_sim.capacity.store import ResultStore
from blis_sim.capacity.study import StudyKind
from blis_sim.capacity.tune_objective import make_objective, objective_named
from blis_sim.capacity.tune_runs import HighestRate, NoRuns, OneRun
from blis_sim.capacity.tune_sampler import Sampler, check_optuna
from blis_sim.capacity.tune_space import PD_RATIO, given_scenario, search_space
from blis_sim.capacity.tune_trial import Trial, TrialStatus, Tuning, first_reason
from blis_sim.config.draft import ScenarioDraft
from blis_sim.config.scenario import Scenario
from blis_sim.errors import ConfigError, SimulationError

if TYPE_CHECKING:
    from blis_sim.capacity.slo import Limit
    from blis_sim.capacity.study import Label, Outcome, Point
    from blis_sim.capacity.tune_objective import Objective
    from blis_sim.capacity.tune_runs import TrialRuns
    from blis_sim.capacity.tune_space import Choice, GivenScenario, SearchSpace

DEFAULT_TRIALS = 40


@dataclass(slots=True)
class Tuner:
    """Searches a space.

    Parameters
    ----------
    space : SearchSpace
        What may be chosen.
    objective : Objective
        What is looked for.
    limits : tuple of Limit
        What must be kept.
    store : ResultStore
        Keeps every simulation.
    backend : Backend
        Where simulations run. As many trials as it has jobs are suggested at a time: with
        another number the search takes another way.
    on_outcome : callable, optional
        Told of each simulation.
    """

    space: SearchSpace
    objective: Objective
    limits: tuple[Limit, ...]
    store: ResultStore
    backend: Backend
    on_outcome: OnOutcome | None = None
    _executor: Executor = field(init=False)
    _study: int = field(init=False, default=0)
    _given: GivenScenario = field(init=False)
    _num_simulations: int = field(init=False, default=0)
    _num_requests: int = field(init=False, default=0)
    _load: str = field(init=False, default="")
    _choices: list[Choice | None] = field(init=False, default_factory=list)
    """Of each trial."""

    def __post_init__(self) -> None:
        """Look the scenario up as it was given."""
        self._executor = Executor(self.store, self.backend, self.on_outcome)
        self._given = given_scenario(self.space)

    def run(self, num_trials: int) -> Tuning:
        """Return the answer.

        The first trial is the scenario as it was given. No combination is tried twice: where
        the space is exhausted the search ends early.

        Parameters
        ----------
        num_trials : int
            Trials at most, >= 1. More than last time go on with the same search.

        Raises
        ------
        ConfigError
            No trial can be simulated, all for the same reason.
        SimulationError
            All trials failed, for the same reason.
        TraceError
            The trace is wrong.
        """
        begin_s = time.perf_counter()
        if num_trials < 1:
            raise ConfigError(f"trials must be at least 1; got {num_trials}")
        self._study = self.store.begin(StudyKind.TUNE, self._name(), self._asked())
        seed = self._given.scenario.seed
        sampler = Sampler(self.space.sizes, self.space.is_ordered, seed)
        if self._given.choice is not None:
            sampler.take(self._given.choice)
        trials: list[Trial] = []
        self._choices = []
        while len(trials) < num_trials:
            batch = self._batch(sampler, len(trials), num_trials)
            if not batch:
                break
            runs = [each for _, each in batch]
            self._simulate(runs)
            self._load = self._load or next((each.load for each in runs if each.load), "")
            for choice, each in batch:
                trial = each.trial()
                trials.append(trial)
                self._choices.append(choice)
                if choice is not None:
                    sampler.tell(choice, trial.score(self.objective))
        reason = first_reason(trials)
        if reason:
            is_failed = trials[0].status is TrialStatus.FAILED
            raise SimulationError(reason) if is_failed else ConfigError(reason)
        tuning = Tuning(
            objective=self.objective,
            limits=self.limits,
            axes=self.space.axes,
            trials=tuple(trials),
            num_combinations=self.space.size,
            load=self._load,
        )
        if self.objective.is_rate:
            tuning = self._with_careful_rates(tuning)
        tuning = replace(
            tuning,
            num_simulations=self._num_simulations,
            num_requests=self._num_requests,
            wall_s=time.perf_counter() - begin_s,
        )
        self.store.answer(self._study, tuning.to_json_dict())
        return tuning

    def _name(self) -> str:
        names = ", ".join(one.path.rpartition(".")[2] for one in self.space.axes)
        limits = f" within {slo_words(self.limits)}" if self.limits else ""
        return f"tune {names} for {self.objective.name}{limits}"

    def _asked(self) -> dict[str, Any]:
        """Return the question: not how long to look for the answer."""
        return {
            "scenario": given_settings(self._given.scenario),
            "search": {one.path: list(one.values) for one in self.space.axes},
            "objective": self.objective.key,
            "limits": [{"metric": each.metric, "value": each.value} for each in self.limits],
        }

    # -- trials ---------------------------------------------------------------

    def _batch(
        self, sampler: Sampler, number: int, num_trials: int
    ) -> list[tuple[Choice | None, TrialRuns]]:
        """Return the next trials with their combinations; the given scenario may have none."""
        batch: list[tuple[Choice | None, TrialRuns]] = []
        end = min(number + self.backend.num_jobs, num_trials)
        while number + len(batch) < end:
            if number + len(batch) == 0:
                given = self._given
                batch.append((given.choice, self._runs(0, given.labels, given.scenario)))
                continue
            choice = sampler.ask()
            if choice is None:
                break
            batch.append((choice, self._chosen(number + len(batch), choice)))
        return batch

    def _chosen(self, number: int, choice: Choice) -> TrialRuns:
        labels = self.space.labels(choice)
        try:
            scenario = self.space.scenario(choice)
        except ConfigError as error:
            return NoRuns(number, labels, str(error))
        return self._runs(number, labels, scenario)

    def _runs(self, number: int, labels: Mapping[str, Label], scenario: Scenario) -> TrialRuns:
        kind = HighestRate if self.objective.is_rate else OneRun
        return kind(number, labels, scenario, self.objective, self.limits)

    def _with_careful_rates(self, tuning: Tuning) -> Tuning:
        """Search again for the rates of the best trials, with more requests."""
        runs = []
        for trial in tuning.finalists():
            choice = None if trial.is_given else self._choices[trial.number]
            scenario = self._given.scenario if choice is None else self.space.scenario(choice)
            near = 0.0 if trial.found is None else trial.found.rate
            what = (trial.number, trial.settings, scenario, self.objective, self.limits)
            runs.append(HighestRate(*what, near=near))
        self._simulate(runs)
        careful = {trial.number: trial for trial in (each.trial() for each in runs)}
        return replace(
            tuning, trials=tuple(careful.get(trial.number, trial) for trial in tuning.trials)
        )

    def _simulate(self, runs: Sequence[TrialRuns]) -> None:
        """Let all trials of a batch ask, in rounds, until none has a question."""
        while True:
            asked = [(each, point) for each in runs if (point := each.ask()) is not None]
            if not asked:
                return
            outcomes = self._outcomes([point for _, point in asked])
            for (each, _), outcome in zip(asked, outcomes, strict=True):
                each.tell(outcome)

    def _outcomes(self, points: Sequence[Point]) -> list[Outcome]:
        keys = self._executor.keys(points)
        self.store.add_members(self._study, keys, points)
        outcomes = self._executor.run(points, keys)
        self._num_simulations += len(outcomes)
        self._num_requests += sum(outcome.num_requests for outcome in outcomes)
        return outcomes


def tune(
    base: Scenario | Mapping[str, Any] | str | Path,
    search: Mapping[str, Sequence[Any]] | None = None,
    *,
    objective: str = "max-rate",
    slo: str | Sequence[Limit] = (),
    num_trials: int = DEFAULT_TRIALS,
    store: str | Path | None = None,
    num_jobs: int | None = None,
) -> Tuning:
    """Find the settings that serve best.

    Parameters
    ----------
    base : Scenario, mapping, or path of a YAML file
        The deployment and its load; its seed is that of the search, too.
    search : mapping of str to sequence, optional
        Values by the paths of settings: ``{"engine.max_num_seqs": [64, 128, 256]}``;
        ``{"pd_ratio": "all"}`` stands for every split of prefill and decode instances. By
        default `search_space` chooses.
    objective : str
        ``max-rate`` (highest rate within ``slo`` per GPU), ``cost``, ``throughput``, or
        ``goodput`` (all three at the load of the scenario).
    slo : str or sequence of Limit
        Limits to keep: ``"p99_ttft_ms:500,p95_itl_ms:50"``.
    num_trials : int
        Trials at most, the scenario as it was given among them.
    store : path, optional
        File that keeps every simulation; None = nothing is kept.
    num_jobs : int, optional
        Trials at a time; one per processor by default. Another number takes another way.

    Returns
    -------
    Tuning
        All trials, ``best`` among them; ``sentence()`` says the answer in words.

    Raises
    ------
    ConfigError
        A setting or a limit is wrong, or no trial can be simulated.
    MissingExtraError
        Optuna is not installed.
    """
    check_optuna()
    limits = _limits(slo)
    paths = dict(search or {})
    splits = paths.pop(PD_RATIO, None) is not None
    axes = [axis(path, list(values)) for path, values in paths.items()]
    space = search_space(_draft(base), axes, splits=splits)
    chosen = make_objective(objective_named(objective), space, limits)
    backend = Backend(num_jobs=num_jobs or default_jobs())
    with ResultStore(None if store is None else Path(store)) as opened:
        return Tuner(space, chosen, limits, opened, backend).run(num_trials)


def _draft(base: Scenario | Mapping[str, Any] | str | Path) -> ScenarioDraft:
    if isinstance(base, str | Path):
        return ScenarioDraft.from_file(Path(base))
    is_built = isinstance(base, Scenario)
    return ScenarioDraft(base.model_dump(exclude_unset=True) if is_built else base)  # type: ignore[union-attr, arg-type]


def _limits(slo: str | Sequence[Limit]) -> tuple[Limit, ...]:
    if isinstance(slo, str):
        return parse_slo(slo, "slo") if slo else ()
    return tuple(slo)
