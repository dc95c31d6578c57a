"""Capacity planning from Python: candidates from lists, and the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blis_sim.capacity.candidate import PlanCandidate
from blis_sim.capacity.executor import Backend, default_jobs
from blis_sim.capacity.grid import axis
from blis_sim.capacity.names import model_and_gpu
from blis_sim.capacity.plan import Plan, Planner, PlanSettings
from blis_sim.capacity.plan_load import check_choice
from blis_sim.capacity.slo import parse_slo
from blis_sim.capacity.store import ResultStore
from blis_sim.config.draft import ScenarioDraft
from blis_sim.config.scenario import Scenario

if TYPE_CHECKING:
    from blis_sim.capacity.slo import Limit

_NAMED = {"model", "hardware", "engine.tensor_parallel_size"}
"""Settings that a candidate is named by anyway."""


def plan(
    base: Scenario | Mapping[str, Any] | str | Path,
    grid: Mapping[str, Sequence[Any]],
    *,
    slo: str | Sequence[Limit],
    target_rate: float | None = None,
    settings: PlanSettings | None = None,
    store: str | Path | None = None,
    num_jobs: int | None = None,
) -> Plan:
    """Find which GPUs carry a load within its limits, how many, and what they cost.

    Parameters
    ----------
    base : Scenario, mapping, or path of a YAML file
        Model, load and engine of one replica; its rate and number of requests are replaced.
    grid : mapping of str to sequence
        What to choose from, by the paths of settings:
        ``{"hardware": ["H100", "L40S"], "engine.tensor_parallel_size": [1, 2]}``.
    slo : str or sequence of Limit
        Limits to keep: ``"p99_ttft_ms:500,p95_itl_ms:50"``.
    target_rate : float, optional
        Requests per second to carry; None = only look for the highest rate of a replica.
    settings : PlanSettings, optional
        How carefully to search.
    store : path, optional
        File that keeps every simulation; None = nothing is kept.
    num_jobs : int, optional
        Simulations at a time; one per processor by default.

    Returns
    -------
    Plan
        Candidates, ranked by cost; ``sentences()`` says the answer in words.

    Raises
    ------
    ConfigError
        A setting or a limit is wrong, or no candidate can be simulated.
    """
    limits = parse_slo(slo, "slo") if isinstance(slo, str) else tuple(slo)
    for path in grid:
        check_choice(path, "grid")
    axes = [axis(path, list(values)) for path, values in grid.items()]
    draft = _draft(base)
    candidates = []
    for values in product(*(each.values for each in axes)):
        chosen = ScenarioDraft(draft)
        for each, value in zip(axes, values, strict=True):
            chosen.set(each.path, value, each.path)
        scenario = chosen.build()
        model, gpu = model_and_gpu(scenario)
        candidates.append(
            PlanCandidate(
                scenario=scenario,
                model=model,
                gpu=gpu,
                settings=_further({a.path: v for a, v in zip(axes, values, strict=True)}),
            )
        )
    backend = Backend(num_jobs=num_jobs or default_jobs())
    with ResultStore(None if store is None else Path(store)) as opened:
        planner = Planner(limits, opened, backend, settings or PlanSettings())
        asked = {"candidates": [each.labels() for each in candidates]}
        return planner.run(candidates, target_rate, asked=asked)


def _further(chosen: Mapping[str, Any]) -> dict[str, Any]:
    return {path: value for path, value in chosen.items() if path not in _NAMED}


def _draft(base: Scenario | Mapping[str, Any] | str | Path) -> Mapping[str, Any]:
    from blis_sim.config.loading import load_scenario

    scenario = base if isinstance(base, Scenario) else load_scenario(base)
    return scenario.model_dump(exclude_unset=True)
