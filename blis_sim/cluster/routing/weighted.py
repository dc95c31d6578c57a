"""The policy that adds up scores."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from blis_sim.cluster.routing.base import Choice
from blis_sim.cluster.routing.comparing import best_position

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blis_sim.cluster.asked import Asked
    from blis_sim.cluster.routing.base import Candidate, Report
    from blis_sim.cluster.routing.scorers import ScorerRule


class Weighted:
    """The highest ``sum(weight * score) / sum(weight)``; 0..1.

    Parameters
    ----------
    scorers : sequence of (ScorerRule, float)
        At least one scorer with its weight > 0. They are added in this order.
    """

    def __init__(self, scorers: Sequence[tuple[ScorerRule, float]]) -> None:
        total = math.fsum(weight for _, weight in scorers)
        self._parts = [(scorer, weight / total) for scorer, weight in scorers]
        self._reads_reports = any(scorer.reads_reports for scorer, _ in scorers)

    def choose(self, asked: Asked, candidates: Sequence[Candidate]) -> Choice:
        """Choose by the weighted mean of the scores."""
        reports: list[Report] = []
        if self._reads_reports:
            reports = [candidate.report() for candidate in candidates]
        parts = [
            [share * score for score in scorer.score(asked, candidates, reports)]
            for scorer, share in self._parts
        ]
        totals = list(map(sum, zip(*parts, strict=True)))
        return Choice(best_position(candidates, totals), tuple(totals))

    def sent(self, asked: Asked, candidate: Candidate) -> None:
        """Tell the scorers."""
        for scorer, _ in self._parts:
            scorer.sent(asked, candidate)

    def forget(self, index: int) -> None:
        """Tell the scorers."""
        for scorer, _ in self._parts:
            scorer.forget(index)
