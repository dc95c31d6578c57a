"""What the ``weighted`` policy can score instances by: 0 to 1, higher is better.

The names are those of BLIS; the formulas are llm-d's where it has the scorer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from blis_sim.cluster.routing.affinity import SessionTable
from blis_sim.cluster.routing.comparing import Stateless

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blis_sim.cluster.asked import Asked
    from blis_sim.cluster.routing.base import Candidate, Report
    from blis_sim.cluster.routing.prefix_index import PrefixIndex


class ScorerRule(Protocol):
    """One scorer."""

    reads_reports: bool
    """Whether it needs the candidates' reports."""

    def score(
        self, asked: Asked, candidates: Sequence[Candidate], reports: Sequence[Report]
    ) -> list[float]:
        """Return a score per candidate; ``reports`` is empty unless ``reads_reports``."""

    def sent(self, asked: Asked, candidate: Candidate) -> None:
        """Take note that the request goes to this candidate."""

    def forget(self, index: int) -> None:
        """Take note that an instance has stopped."""


class QueueDepth(Stateless):
    """``(max - waiting) / (max - min)``, 1 when all are equal; 0..1.

    llm-d: ``queue-scorer``. BLIS: ``queue-depth``.
    """

    reads_reports = True

    def score(
        self, asked: Asked, candidates: Sequence[Candidate], reports: Sequence[Report]
    ) -> list[float]:
        """Score the reported number of waiting requests."""
        return _fewest_first([report.num_waiting for report in reports])


class RunningRequests(Stateless):
    """``(max - running) / (max - min)``, 1 when all are equal; 0..1.

    llm-d: ``running-requests-size-scorer``. BLIS: ``running-requests``.
    """

    reads_reports = True

    def score(
        self, asked: Asked, candidates: Sequence[Candidate], reports: Sequence[Report]
    ) -> list[float]:
        """Score the reported number of running requests."""
        return _fewest_first([report.num_running for report in reports])


class ActiveTokens(Stateless):
    """``(max - tokens) / (max - min)``, 1 when all are equal; 0..1.

    Tokens are the prompts of all requests there and what was generated for them so far.
    llm-d: ``token-load-scorer`` divides a similar count by a fixed number of tokens.
    """

    reads_reports = True

    def score(
        self, asked: Asked, candidates: Sequence[Candidate], reports: Sequence[Report]
    ) -> list[float]:
        """Score the reported number of active tokens."""
        return _fewest_first([report.active_tokens for report in reports])


class KVUtilization(Stateless):
    """``1 - used / total`` blocks of the KV cache; 0..1.

    llm-d: ``kv-cache-utilization-scorer``. BLIS: ``kv-utilization``.
    """

    reads_reports = True

    def score(
        self, asked: Asked, candidates: Sequence[Candidate], reports: Sequence[Report]
    ) -> list[float]:
        """Score the reported share of free blocks."""
        return [1 - report.kv_used_blocks / report.kv_blocks for report in reports]


class LoadBalance(Stateless):
    """``1 / (1 + outstanding)``; above 0, at most 1.

    Outstanding requests were sent by the gateway and have not ended. BLIS: ``load-balance``,
    which adds what instances reported to it.
    """

    reads_reports = False

    def score(
        self, asked: Asked, candidates: Sequence[Candidate], reports: Sequence[Report]
    ) -> list[float]:
        """Score the gateway's own count of requests."""
        return [1 / (1 + candidate.num_outstanding) for candidate in candidates]


class PrecisePrefixCache(Stateless):
    """``(cached - min) / (max - min)``, 1 when all are equal; 0..1.

    Cached is how many leading tokens of the prompt the instance's KV cache holds.
    llm-d: ``precise-prefix-cache-scorer``. BLIS: ``precise-prefix-cache``.
    """

    reads_reports = False

    def score(
        self, asked: Asked, candidates: Sequence[Candidate], reports: Sequence[Report]
    ) -> list[float]:
        """Score what is cached of the prompt; nothing is where it is private."""
        if not asked.is_shareable:
            return [1.0] * len(candidates)
        cached = [candidate.cached_prompt_tokens(asked) for candidate in candidates]
        least, most = min(cached), max(cached)
        if least == most:
            return [1.0] * len(candidates)
        span = most - least
        return [(tokens - least) / span for tokens in cached]


class PrefixMatch:
    """``matched blocks / blocks`` of the prompt that are full, 0 where there are none; 0..1.

    Matched against what the gateway sent the instance before, see :class:`PrefixIndex`.
    llm-d: ``prefix-cache-scorer``. BLIS: ``prefix-affinity``.
    """

    reads_reports = False

    def __init__(self, prefixes: PrefixIndex) -> None:
        self._prefixes = prefixes

    def score(
        self, asked: Asked, candidates: Sequence[Candidate], reports: Sequence[Report]
    ) -> list[float]:
        """Score the leading blocks the gateway has sent there before."""
        scores = [0.0] * len(candidates)
        if not asked.is_shareable:
            return scores
        for position, candidate in enumerate(candidates):
            block_size = candidate.block_size
            matched = self._prefixes.matched_blocks(asked, candidate.index, block_size)
            if matched:
                scores[position] = matched / (asked.prompt_tokens // block_size)
        return scores

    def sent(self, asked: Asked, candidate: Candidate) -> None:
        """Remember the prompt."""
        self._prefixes.add(asked, candidate.index, candidate.block_size)

    def forget(self, index: int) -> None:
        """Forget what was sent to an instance."""
        self._prefixes.forget(index)


class SameSession:
    """1 for the instance the session was last sent to, 0 for the others.

    0 for all when the session is new or absent, or its instance is no candidate: all equal,
    so that the other scorers decide. llm-d: ``session-affinity-scorer``.
    """

    reads_reports = False

    def __init__(self) -> None:
        self._sessions = SessionTable()

    def score(
        self, asked: Asked, candidates: Sequence[Candidate], reports: Sequence[Report]
    ) -> list[float]:
        """Score where the session is."""
        scores = [0.0] * len(candidates)
        position = self._sessions.position(asked, candidates)
        if position is not None:
            scores[position] = 1.0
        return scores

    def sent(self, asked: Asked, candidate: Candidate) -> None:
        """Take note of where the session is now."""
        self._sessions.sent(asked, candidate)

    def forget(self, index: int) -> None:
        """Forget the sessions of an instance."""
        self._sessions.forget(index)


def _fewest_first(numbers: list[int]) -> list[float]:
    """Return 1 for the lowest number, 0 for the highest, 1 for all when they are equal."""
    least, most = min(numbers), max(numbers)
    if least == most:
        return [1.0] * len(numbers)
    span = most - least
    return [(most - number) / span for number in numbers]
