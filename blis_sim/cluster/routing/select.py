"""From the settings of routing to a router."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blis_sim.cluster.routing.affinity import PrefixAffinity, SessionAffinity
from blis_sim.cluster.routing.balancing import (
    LeastLoaded,
    PowerOfTwo,
    RandomChoice,
    RoundRobin,
    ShortestExpectedTTFT,
    VllmDataParallel,
)
from blis_sim.cluster.routing.prefix_index import PrefixIndex
from blis_sim.cluster.routing.scorers import (
    ActiveTokens,
    KVUtilization,
    LoadBalance,
    PrecisePrefixCache,
    PrefixMatch,
    QueueDepth,
    RunningRequests,
    SameSession,
)
from blis_sim.cluster.routing.weighted import Weighted
from blis_sim.config.cluster import DEFAULT_SCORERS, RoutingPolicy, Scorer

if TYPE_CHECKING:
    import numpy as np

    from blis_sim.cluster.routing.base import Router
    from blis_sim.cluster.routing.scorers import ScorerRule
    from blis_sim.config.cluster import RoutingSettings


def make_router(settings: RoutingSettings, rng: np.random.Generator) -> Router:
    """Return the router of a policy, with nothing sent yet.

    Parameters
    ----------
    settings : RoutingSettings
        What the user wrote. Only ``policy``, ``scorers`` and ``prefix_index_blocks`` are read
        here; how old signals are is up to the candidates.
    rng : numpy.random.Generator
        A stream of its own, for ``random`` and ``power-of-two``.
    """
    match settings.policy:
        case RoutingPolicy.ROUND_ROBIN:
            return RoundRobin()
        case RoutingPolicy.RANDOM:
            return RandomChoice(rng)
        case RoutingPolicy.LEAST_LOADED:
            return LeastLoaded()
        case RoutingPolicy.POWER_OF_TWO:
            return PowerOfTwo(rng)
        case RoutingPolicy.SHORTEST_EXPECTED_TTFT:
            return ShortestExpectedTTFT()
        case RoutingPolicy.SESSION_AFFINITY:
            return SessionAffinity()
        case RoutingPolicy.PREFIX_AFFINITY:
            return PrefixAffinity(PrefixIndex(settings.prefix_index_blocks))
        case RoutingPolicy.WEIGHTED:
            return _weighted(settings)
        case RoutingPolicy.VLLM_DP:
            return VllmDataParallel()


def _weighted(settings: RoutingSettings) -> Weighted:
    """Return the weighted policy; the order in which scorers were written changes nothing."""
    weights = settings.scorers or DEFAULT_SCORERS
    return Weighted(
        [
            (make_scorer(scorer, settings.prefix_index_blocks), weights[scorer])
            for scorer in Scorer
            if weights.get(scorer)
        ]
    )


def make_scorer(scorer: Scorer, prefix_index_blocks: int) -> ScorerRule:
    """Return one scorer; ``prefix_index_blocks`` is the capacity of ``prefix-affinity``."""
    match scorer:
        case Scorer.QUEUE_DEPTH:
            return QueueDepth()
        case Scorer.LOAD_BALANCE:
            return LoadBalance()
        case Scorer.KV_UTILIZATION:
            return KVUtilization()
        case Scorer.PREFIX_AFFINITY:
            return PrefixMatch(PrefixIndex(prefix_index_blocks))
        case Scorer.PRECISE_PREFIX_CACHE:
            return PrecisePrefixCache()
        case Scorer.RUNNING_REQUESTS:
            return RunningRequests()
        case Scorer.ACTIVE_TOKENS:
            return ActiveTokens()
        case Scorer.SESSION_AFFINITY:
            return SameSession()
