"""Which combination to try next, by Optuna's tree-structured Parzen estimator.

Optuna sees positions on axes and one number per trial, which it lowers. No combination is
suggested twice: where the estimator keeps coming back to what was tried, the nearest untried
neighbour of the best one is taken, so that a small space is exhausted.
"""

from __future__ import annotations

import importlib
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from blis_sim.errors import MissingExtraError
from blis_sim.rng import named_stream

if TYPE_CHECKING:
    from blis_sim.capacity.tune_space import Choice

_MOST_REPEATS = 8
"""Suggestions that were tried before, in a row, after which a neighbour is taken."""
_NUM_RANDOM = 6
"""Suggestions drawn at random before the estimator knows enough."""
_MOST_SEED = 2**32 - 1


def check_optuna() -> None:
    """Check that Optuna is there; MissingExtraError when it is not."""
    try:
        importlib.import_module("optuna")
    except ImportError:
        raise MissingExtraError("optuna", "tune", "blis tune") from None


class Sampler:
    """Suggests combinations; the same seed and answers give the same suggestions.

    Parameters
    ----------
    sizes : sequence of int
        Values of each axis.
    is_ordered : sequence of bool
        Of each axis whether its values go up or down.
    seed : int
        Of its random draws, >= 0.
    """

    def __init__(self, sizes: Sequence[int], is_ordered: Sequence[bool], seed: int) -> None:
        import optuna

        self._optuna = optuna
        self._sizes = tuple(sizes)
        self._is_ordered = tuple(is_ordered)
        self._names = [f"axis {number}" for number in range(len(sizes))]
        self._axes = {
            name: optuna.distributions.IntDistribution(0, size - 1)
            if ordered
            else optuna.distributions.CategoricalDistribution(tuple(range(size)))
            for name, size, ordered in zip(self._names, sizes, is_ordered, strict=True)
        }
        self._tried: set[Choice] = set()
        self._open: dict[Choice, Any] = {}
        self._best: tuple[float, Choice] | None = None
        drawn = named_stream(seed, "tune").integers(_MOST_SEED)
        with _silent():
            sampler = optuna.samplers.TPESampler(seed=int(drawn), n_startup_trials=_NUM_RANDOM)
            self._study = optuna.create_study(sampler=sampler, direction="minimize")

    @property
    def num_left(self) -> int:
        """Combinations that were not tried."""
        number = 1
        for size in self._sizes:
            number *= size
        return number - len(self._tried)

    def take(self, choice: Choice) -> None:
        """Let a combination count as suggested."""
        self._tried.add(choice)

    def ask(self) -> Choice | None:
        """Return a combination that was not tried yet, None when there is none."""
        if not self.num_left:
            return None
        with _silent():
            for _ in range(_MOST_REPEATS):
                trial = self._study.ask(dict(self._axes))
                choice = tuple(int(trial.params[name]) for name in self._names)
                if choice not in self._tried:
                    self._tried.add(choice)
                    self._open[choice] = trial
                    return choice
                # One that failed has no part in what follows.
                self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        choice = self._neighbour()
        self._tried.add(choice)
        return choice

    def tell(self, choice: Choice, score: float | None) -> None:
        """Say what became of a combination: less is better, None = nothing is known."""
        trial = self._open.pop(choice, None)
        if score is not None and (self._best is None or score < self._best[0]):
            self._best = (score, choice)
        with _silent():
            if trial is not None and score is None:
                self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
            elif trial is not None:
                self._study.tell(trial, score)
            elif score is not None:
                made = self._optuna.trial.create_trial(
                    params=dict(zip(self._names, choice, strict=True)),
                    distributions=dict(self._axes),
                    value=score,
                )
                self._study.add_trial(made)

    def _neighbour(self) -> Choice:
        """Return the untried combination that is the fewest steps away from the best one."""
        begin = self._best[1] if self._best is not None else (0,) * len(self._sizes)
        seen, queue = {begin}, deque([begin])
        while queue:
            choice = queue.popleft()
            if choice not in self._tried:
                return choice
            for step in self._steps(choice):
                if step not in seen:
                    seen.add(step)
                    queue.append(step)
        raise AssertionError("an untried combination is left")

    def _steps(self, choice: Choice) -> Iterator[Choice]:
        """Yield what differs in one axis: by one place, or by any where there is no order."""
        for axis, (size, ordered) in enumerate(zip(self._sizes, self._is_ordered, strict=True)):
            place = choice[axis]
            others = (place - 1, place + 1) if ordered else range(size)
            for other in others:
                if 0 <= other < size and other != place:
                    yield (*choice[:axis], other, *choice[axis + 1 :])


@contextmanager
def _silent() -> Iterator[None]:
    """Keep Optuna from logging what it does; errors are raised."""
    logger = logging.getLogger("optuna")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
