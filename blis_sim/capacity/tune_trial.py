"""The trials of a search, how they rank, and what they say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from blis_sim.capacity.slo import slo_words
from blis_sim.capacity.tune_objective import Reached

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blis_sim.capacity.grid import Axis
    from blis_sim.capacity.slo import Limit
    from blis_sim.capacity.study import Label, Outcome
    from blis_sim.capacity.tune_objective import Objective
    from blis_sim.capacity.tune_rate import TunedRate

_SHORT = {
    "engine.tensor_parallel_size": "TP",
    "hardware": "GPU",
    "pd_ratio": "prefill:decode",
}
_LAST_SCORE = 3.0
_FEW = 3
"""So many trials say something about whether anything makes a difference."""


class TrialStatus(StrEnum):
    """What became of a trial."""

    DONE = "done"
    """It keeps all limits, and has a value."""
    MISSED = "missed"
    """It misses a limit."""
    INFEASIBLE = "infeasible"
    """It cannot be simulated, or its value is not known."""
    FAILED = "failed"
    """The program or its worker died. It is tried again when the search is run again."""


_ORDER = tuple(TrialStatus)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One combination of settings, simulated.

    Attributes
    ----------
    number : int
        In order of suggestion; 0 = the scenario as it was given.
    settings : mapping of str to Label
        What was chosen, by the paths of the settings.
    status : TrialStatus
        What became of it.
    reason : str
        Why it is not done; empty when it is.
    figure : float or None
        The objective, whether limits are kept or not.
    reached : Reached
        How near it comes to its limits.
    outcome : Outcome or None
        Of the run with these figures.
    found : TunedRate or None
        The search for the highest rate, where that is the objective.
    """

    number: int
    settings: Mapping[str, Label]
    status: TrialStatus
    reason: str = ""
    figure: float | None = None
    reached: Reached = field(default_factory=Reached)
    outcome: Outcome | None = None
    found: TunedRate | None = None

    @property
    def is_given(self) -> bool:
        """Whether it is the scenario as it was given."""
        return self.number == 0

    @property
    def value(self) -> float | None:
        """The objective; None where a limit is missed."""
        return self.figure if self.status is TrialStatus.DONE else None

    @property
    def is_quick(self) -> bool:
        """Whether its value is that of short simulations, with a careful search still to come."""
        return self.found is not None and self.found.is_quick

    @property
    def metrics(self) -> Mapping[str, float | int | None]:
        """Figures of the run."""
        return {} if self.outcome is None else self.outcome.metrics

    def score(self, objective: Objective) -> float | None:
        """Return one number for the search, less is better; None = nothing is known.

        Those that keep all limits lie in 0..1 by their value, those that miss one in 1..2 by
        how much they miss it, those that cannot be simulated above.
        """
        if self.status is TrialStatus.FAILED:
            return None
        if self.status is TrialStatus.DONE:
            assert self.figure is not None
            return objective.score(self.figure)
        if self.status is TrialStatus.MISSED:
            return 2 - 1 / (1 + self.reached.excess)
        return _LAST_SCORE

    def to_json_dict(self) -> dict[str, Any]:
        """Return plain values."""
        excess = self.reached.excess
        rates: dict[str, Any] = {}
        if self.found is not None:
            low, high = self.found.low, self.found.high
            rates = {
                "rate": self.found.rate,
                "rate_low": None if low is None else low.probe.rate,
                "rate_high": None if high is None else high.probe.rate,
                "is_quick": self.found.is_quick,
                "num_simulations": self.found.num_simulations,
            }
        return {
            "number": self.number,
            "settings": dict(self.settings),
            "value": self.value,
            "figure": self.figure,
            "status": self.status.value,
            "reason": self.reason,
            "excess": excess if math.isfinite(excess) else None,
            "reached": self.reached.words,
            "scenario_sha256": "" if self.outcome is None else self.outcome.scenario_sha256,
            **rates,
        }


def settings_words(settings: Mapping[str, Label]) -> str:
    """Return settings as people say them: ``max_num_seqs 512, TP 2``."""
    return ", ".join(f"{setting_name(path)} {value}" for path, value in settings.items())


def setting_name(path: str) -> str:
    """Return a short name of a setting."""
    return _SHORT.get(path, path.rpartition(".")[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """The answer of a search.

    Attributes
    ----------
    objective : Objective
        What was looked for.
    limits : tuple of Limit
        What had to be kept.
    axes : tuple of Axis
        What could be chosen.
    trials : tuple of Trial
        In order of suggestion; the first is the scenario as it was given.
    num_combinations : int
        Of the values of all axes.
    load : str
        The load in words.
    num_simulations, num_requests : int
        How much was simulated for it, results from the store included.
    wall_s : float
        Seconds it took.
    """

    objective: Objective
    limits: tuple[Limit, ...]
    axes: tuple[Axis, ...]
    trials: tuple[Trial, ...]
    num_combinations: int
    load: str = ""
    num_simulations: int = 0
    num_requests: int = 0
    wall_s: float = 0.0

    @property
    def given(self) -> Trial:
        """The scenario as it was given."""
        return self.trials[0]

    @property
    def best(self) -> Trial | None:
        """The best trial that keeps all limits, None when there is none.

        Where some were searched carefully the others do not count. Values within the
        objective's ``tie_frac`` of the best one are equal. Among equals
        the one with the fewest changes to the scenario as given is best, then, at one load, the
        one with most room to its limits.
        """

        def order(trial: Trial) -> tuple[int, float]:
            room = 0.0 if self.objective.is_rate else trial.reached.excess
            return len(self.changes(trial)), room

        return min(self._equals(), key=order, default=None)

    def changes(self, trial: Trial) -> dict[str, Label]:
        """Return the settings of a trial that are not as given."""
        given = self.given.settings
        return {path: value for path, value in trial.settings.items() if value != given[path]}

    def ranked(self) -> list[Trial]:
        """Return all trials, the best first, those that cannot be simulated last."""
        best = self.best

        def order(trial: Trial) -> tuple[bool, int, bool, float, int]:
            score = trial.score(self.objective)
            place = _ORDER.index(trial.status)
            number = _LAST_SCORE if score is None else score
            return trial is not best, place, trial.is_quick, number, trial.number

        return sorted(self.trials, key=order)

    def finalists(self, count: int = 3) -> list[Trial]:
        """Return the trials that a careful search should compare: the best, and the given one.

        Of those with nearly the same value the one with the fewest changes counts.
        """
        left = sorted(self._done(), key=self._score)
        chosen: list[Trial] = []
        while left and len(chosen) < count:
            alike = [t for t in left if self._gain(left[0], t) <= self.objective.tie_frac]
            chosen.append(min(alike, key=lambda trial: len(self.changes(trial))))
            left = left[len(alike) :]
        is_known = self.given in chosen or self.given.status is not TrialStatus.DONE
        return chosen if is_known else [*chosen, self.given]

    def _done(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.status is TrialStatus.DONE]

    def _score(self, trial: Trial) -> tuple[float, int]:
        return trial.score(self.objective) or 0.0, trial.number

    def _equals(self) -> list[Trial]:
        """Return the trials that are as good as the best, by value."""
        done = sorted(self._done(), key=self._score)
        done = [trial for trial in done if not trial.is_quick] or done
        return [trial for trial in done if self._gain(done[0], trial) <= self.objective.tie_frac]

    def _gain(self, trial: Trial, other: Trial) -> float:
        assert trial.figure is not None
        assert other.figure is not None
        return self.objective.gain(trial.figure, other.figure)

    # -- in words -------------------------------------------------------------

    def words(self, trial: Trial) -> str:
        """Return what a trial changes: ``max_num_seqs 512, TP 2``."""
        return settings_words(self.changes(trial)) or "as given"

    def sentence(self) -> str:
        """Return the answer in words."""
        return " ".join(self._sentences())

    def _sentences(self) -> Iterator[str]:
        best = self.best
        if best is None:
            yield self._nothing()
            return
        assert best.figure is not None
        figure = self.objective.words(best.figure)
        limits = f"; {best.reached.words}" if best.reached.words else ""
        if best.is_given:
            yield f"As given is the best of {len(self.trials)} trials: {figure}{limits}."
        else:
            yield f"{self.words(best)} gives {figure}, {self._against_given(best)}{limits}."
        hint = self._hint()
        if hint:
            yield hint

    def _against_given(self, best: Trial) -> str:
        given = self.given
        if given.figure is None:
            return "while as given it cannot be simulated"
        figure = self.objective.words(given.figure).removesuffix(f" {self.objective.unit}")
        if given.status is not TrialStatus.DONE:
            return f"while as given a limit is missed ({given.reason}; {figure})"
        gain = self._gain(best, given)
        if self.objective.is_less_better:
            return f"{_percent(gain)} less than as given ({figure})"
        return f"{_percent(gain)} more than as given ({figure})"

    def _nothing(self) -> str:
        nearest = self.ranked()[0]
        if nearest.status is TrialStatus.MISSED:
            return (
                f"None of the {len(self.trials)} trials keeps {slo_words(self.limits)}; nearest: "
                f"{self.words(nearest)}, {nearest.reason}."
            )
        return "No trial could be simulated."

    def _hint(self) -> str:
        """Return what to do where nothing makes a difference."""
        done = self._done()
        if self.objective.is_rate or len(done) < _FEW or len(self._equals()) < len(done):
            return ""
        return (
            "All trials that keep the limits are equally good: this load does not tell these "
            "settings apart; look for the highest rate with --objective max-rate."
        )

    def to_json_dict(self) -> dict[str, Any]:
        """Return the answer as plain values: what the store keeps and reports show."""
        best = self.best
        return {
            "sentence": self.sentence(),
            "objective": self.objective.key,
            "objective_name": self.objective.name.value,
            "is_less_better": self.objective.is_less_better,
            "limits": [{"metric": each.metric, "value": each.value} for each in self.limits],
            "load": self.load,
            "best": None if best is None else best.to_json_dict() | {"metrics": best.metrics},
            "default": self.given.to_json_dict() | {"metrics": self.given.metrics},
            "trials": [trial.to_json_dict() for trial in self.trials],
            "search": {each.path: list(each.names) for each in self.axes},
            "num_combinations": self.num_combinations,
            "num_simulations": self.num_simulations,
            "num_requests": self.num_requests,
        }


def _percent(fraction: float) -> str:
    number = 100 * fraction
    return f"{number:.0f} %" if number >= 10 else f"{number:.2g} %"


def first_reason(trials: Sequence[Trial]) -> str:
    """Return the reason of all trials; empty unless none was simulated, all for the same one."""
    reasons = {trial.reason for trial in trials}
    nothing = all(trial.outcome is None or not trial.outcome.is_done for trial in trials)
    return reasons.pop() if len(reasons) == 1 and nothing else ""
