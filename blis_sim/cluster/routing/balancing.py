"""Policies that look at load, or at nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blis_sim.cluster.routing.base import Choice
from blis_sim.cluster.routing.comparing import (
    Stateless,
    best_position,
    position_from,
    reported_load,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from blis_sim.cluster.asked import Asked
    from blis_sim.cluster.routing.base import Candidate

VLLM_WAITING_WEIGHT = 4
"""What a waiting request counts beside a running one, ``DPLBAsyncMPClient`` of vLLM
(v1/engine/core_client.py)."""


class RoundRobin(Stateless):
    """Each instance in turn: the next number after the last one sent to, then from the start.

    With N instances that stay the same, request i goes to the instance at position i mod N.
    """

    def __init__(self) -> None:
        self._last = -1

    def choose(self, asked: Asked, candidates: Sequence[Candidate]) -> Choice:
        """Choose the next number."""
        position = position_from(candidates, self._last + 1)
        return Choice(position if position < len(candidates) else 0)

    def sent(self, asked: Asked, candidate: Candidate) -> None:
        """Go on from this instance."""
        self._last = candidate.index


class RandomChoice(Stateless):
    """Any instance, all equally likely."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def choose(self, asked: Asked, candidates: Sequence[Candidate]) -> Choice:
        """Draw one."""
        return Choice(int(self._rng.integers(len(candidates))))


class LeastLoaded(Stateless):
    """The instance that reported the fewest requests, waiting and running."""

    def choose(self, asked: Asked, candidates: Sequence[Candidate]) -> Choice:
        """Choose by reported load; a score is the negative load."""
        scores = tuple([-reported_load(candidate) for candidate in candidates])
        return Choice(best_position(candidates, scores), scores)


class PowerOfTwo(Stateless):
    """The less loaded of two different instances drawn at random.

    Only those two are asked for reports. There are no scores: the others were not compared.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def choose(self, asked: Asked, candidates: Sequence[Candidate]) -> Choice:
        """Draw two and compare their reported loads; a lone candidate needs no draw."""
        if len(candidates) == 1:
            return Choice(0)
        one = int(self._rng.integers(len(candidates)))
        other = int(self._rng.integers(len(candidates) - 1))
        if other >= one:
            other += 1
        positions = sorted((one, other))
        drawn = [candidates[position] for position in positions]
        return Choice(positions[best_position(drawn, [-reported_load(each) for each in drawn])])


class ShortestExpectedTTFT(Stateless):
    """The instance whose latency model expects the first token soonest."""

    def choose(self, asked: Asked, candidates: Sequence[Candidate]) -> Choice:
        """Choose by expectation; a score is the negative time, microseconds."""
        scores = tuple([-candidate.expected_ttft_us(asked) for candidate in candidates])
        return Choice(best_position(candidates, scores), scores)


class VllmDataParallel(Stateless):
    """The lowest ``4 * waiting + running``, as vLLM's data-parallel client chooses.

    Requests sent to an instance since its report count as waiting there: vLLM's client adds
    each one to its copy of the counts until the coordinator publishes new ones.
    """

    def choose(self, asked: Asked, candidates: Sequence[Candidate]) -> Choice:
        """Choose by vLLM's formula; a score is its negative value."""
        scores = []
        for candidate in candidates:
            report = candidate.report()
            waiting = report.num_waiting + candidate.num_sent - report.num_sent
            scores.append(-(VLLM_WAITING_WEIGHT * waiting + report.num_running))
        return Choice(best_position(candidates, scores), tuple(scores))
