"""What routers have in common: how candidates are compared and found."""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blis_sim.cluster.asked import Asked
    from blis_sim.cluster.routing.base import Candidate

_number = attrgetter("index")


class Stateless:
    """A router or scorer that remembers nothing of what was sent."""

    def sent(self, asked: Asked, candidate: Candidate) -> None:
        """Take no note."""

    def forget(self, index: int) -> None:
        """Take no note."""


def best_position(candidates: Sequence[Candidate], scores: Sequence[float]) -> int:
    """Return the position of the highest score.

    Ties go to the candidate that was sent the fewest requests, then to the first one.
    """
    highest = max(scores)
    best = scores.index(highest)
    if scores.count(highest) == 1:
        return best
    fewest = candidates[best].num_sent
    for position in range(best + 1, len(scores)):
        if scores[position] == highest and candidates[position].num_sent < fewest:
            best = position
            fewest = candidates[position].num_sent
    return best


def position_from(candidates: Sequence[Candidate], index: int) -> int:
    """Return the position of the first candidate whose number is ``index`` or higher.

    The number of candidates when there is none.
    """
    return bisect_left(candidates, index, key=_number)


def position_of(candidates: Sequence[Candidate], index: int) -> int | None:
    """Return the position of an instance, None when it is no candidate."""
    position = position_from(candidates, index)
    if position < len(candidates) and candidates[position].index == index:
        return position
    return None


def reported_load(candidate: Candidate) -> int:
    """Return how many requests an instance reported, waiting and running."""
    report = candidate.report()
    return report.num_waiting + report.num_running
