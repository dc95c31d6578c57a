"""Policies that send what belongs together to the same instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blis_sim.cluster.routing.balancing import LeastLoaded
from blis_sim.cluster.routing.base import Choice
from blis_sim.cluster.routing.comparing import best_position, position_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blis_sim.cluster.asked import Asked
    from blis_sim.cluster.routing.base import Candidate
    from blis_sim.cluster.routing.prefix_index import PrefixIndex

BALANCE_ABS_THRESHOLD = 64
"""Requests between the most and the least loaded instance beyond which load decides; default
of ``--balance-abs-threshold`` in sglang-router and vllm-router."""
BALANCE_REL_THRESHOLD = 1.5
"""And how many times the least load the most must exceed; default of
``--balance-rel-threshold`` there."""


class SessionTable:
    """Which instance each session was last sent to."""

    def __init__(self) -> None:
        self._instances: dict[str, int] = {}

    def position(self, asked: Asked, candidates: Sequence[Candidate]) -> int | None:
        """Return where the request's session was sent to, None if that is no candidate."""
        if asked.session_id is None:
            return None
        index = self._instances.get(asked.session_id)
        return None if index is None else position_of(candidates, index)

    def sent(self, asked: Asked, candidate: Candidate) -> None:
        """Take note of where the session is now."""
        if asked.session_id is not None:
            self._instances[asked.session_id] = candidate.index

    def forget(self, index: int) -> None:
        """Forget the sessions of an instance."""
        self._instances = {
            session: number for session, number in self._instances.items() if number != index
        }


class SessionAffinity:
    """A session stays on its instance for as long as that is a candidate.

    A new session, one whose instance is no candidate, and a request without a session go to
    the least loaded instance.
    """

    def __init__(self) -> None:
        self._sessions = SessionTable()
        self._least_loaded = LeastLoaded()

    def choose(self, asked: Asked, candidates: Sequence[Candidate]) -> Choice:
        """Choose the session's instance, without scores, or the least loaded one."""
        position = self._sessions.position(asked, candidates)
        if position is None:
            return self._least_loaded.choose(asked, candidates)
        return Choice(position)

    def sent(self, asked: Asked, candidate: Candidate) -> None:
        """Take note of where the session is now."""
        self._sessions.sent(asked, candidate)

    def forget(self, index: int) -> None:
        """Forget the sessions of an instance."""
        self._sessions.forget(index)


class PrefixAffinity:
    """The instance that was sent the longest prefix of the prompt, unless load is uneven.

    Load is uneven when ``max - min > 64`` and ``max > 1.5 * min``, where a load is the number
    of requests the gateway has sent an instance that have not ended: the rule and the defaults
    of ``cache_aware`` in sglang-router and vllm-router. Then, and when nothing matches, the
    least loaded instance is chosen; among equal matches too.

    A score is ``matched tokens + 1 / (1 + load)``, or ``1 / (1 + load)`` when load is uneven:
    the fraction is at most 1 and thus only decides between equal matches.
    """

    def __init__(self, prefixes: PrefixIndex) -> None:
        self._prefixes = prefixes

    def choose(self, asked: Asked, candidates: Sequence[Candidate]) -> Choice:
        """Choose by matched prefix, or by load."""
        loads = [candidate.num_outstanding for candidate in candidates]
        scores = [1 / (1 + load) for load in loads]
        least, most = min(loads), max(loads)
        is_uneven = most - least > BALANCE_ABS_THRESHOLD and most > BALANCE_REL_THRESHOLD * least
        if asked.is_shareable and not is_uneven:
            matched_blocks = self._prefixes.matched_blocks
            for position, candidate in enumerate(candidates):
                block_size = candidate.block_size
                matched = matched_blocks(asked, candidate.index, block_size)
                scores[position] += matched * block_size
        return Choice(best_position(candidates, scores), tuple(scores))

    def sent(self, asked: Asked, candidate: Candidate) -> None:
        """Remember the prompt."""
        self._prefixes.add(asked, candidate.index, candidate.block_size)

    def forget(self, index: int) -> None:
        """Forget what was sent to an instance."""
        self._prefixes.forget(index)
