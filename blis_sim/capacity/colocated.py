"""The cluster without prefill and decode roles that has the same GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from blis_sim.capacity.compare import Candidate
from blis_sim.config.cluster import DEFAULT_SCORERS, RoutingPolicy, Scorer
from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    from blis_sim.config.cluster import RoutingSettings
    from blis_sim.config.scenario import Scenario

_TWIN = "co-located"
_BETWEEN = ", "


def is_disaggregated(scenario: Scenario) -> bool:
    """Return whether a scenario has pools for prompts or for answers alone."""
    return any(pool.role != "mixed" for pool in scenario.cluster.pools or ())


def colocated_twin(scenario: Scenario) -> Scenario:
    """Return a scenario whose instances both compute prompts and generate answers.

    Each prefill or decode pool becomes a mixed one with the same instances; requests are routed
    as ``cluster.routing`` says. Load and seed are the same. What is about the hand-over alone is
    gone: ``cluster.disaggregation``, network cards, and how old the decider's picture of the KV
    caches is.

    Raises
    ------
    ConfigError
        The scenario has no prefill and decode pools.
    """
    if not is_disaggregated(scenario):
        raise ConfigError(
            "cluster.pools must have prefill and decode pools to be put beside a co-located "
            "cluster; got none; give pools these roles"
        )
    written = scenario.model_dump(exclude_unset=True)
    cluster = written["cluster"]
    cluster.pop("disaggregation", None)
    cluster["pools"] = [
        {key: value for key, value in pool.items() if key not in {"role", "nic_gb_per_s"}}
        for pool in cluster["pools"]
    ]
    if not _reads_caches(scenario.cluster.routing):
        cluster.get("routing", {}).pop("cache_signal_delay_s", None)
    return type(scenario).model_validate(written)


def _reads_caches(routing: RoutingSettings) -> bool:
    """Return whether a router asks what the KV caches hold, as a decider may, too."""
    if routing.policy is RoutingPolicy.WEIGHTED:
        return (routing.scorers or DEFAULT_SCORERS).get(Scorer.PRECISE_PREFIX_CACHE, 0) > 0
    return routing.policy is RoutingPolicy.SHORTEST_EXPECTED_TTFT


def with_twins(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return candidates, each with prefill and decode pools followed by its co-located twin.

    Candidates that have the same twin are followed by it once; its name is then what their
    names begin with.

    Raises
    ------
    ConfigError
        No candidate has such pools.
    """
    twins = [
        colocated_twin(each.scenario) if is_disaggregated(each.scenario) else None
        for each in candidates
    ]
    if not any(twins):
        raise ConfigError(
            "--colocated must be given with a scenario that has prefill and decode pools; got "
            "none; give its cluster.pools these roles, or leave --colocated out"
        )
    rows: list[Candidate] = []
    for place, (candidate, twin) in enumerate(zip(candidates, twins, strict=True)):
        rows.append(candidate)
        if twin is None or twin in twins[place + 1 :]:
            continue
        names = [c.name for c, other in zip(candidates, twins, strict=True) if other == twin]
        rows.append(Candidate(_twin_name(names), twin))
    return rows


def _twin_name(names: Sequence[str]) -> str:
    parts = zip(*(name.split(_BETWEEN) for name in names), strict=False)
    common = takewhile(lambda alike: len(set(alike)) == 1, parts)
    return _BETWEEN.join([*(alike[0] for alike in common), _TWIN])
