"""The order of plans: by cost, and which of them nobody beats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blis_sim.capacity.candidate import CandidatePlan
    from blis_sim.capacity.plan import Plan


def ranked(plans: Sequence[CandidatePlan]) -> list[CandidatePlan]:
    """Return plans in order of cost, with ranks within each model and the Pareto set marked."""

    def order(plan: CandidatePlan) -> tuple[bool, bool, float, float]:
        usd = plan.usd_per_hour if plan.num_replicas is not None else plan.usd_per_rate
        gpus = plan.num_gpus if plan.num_gpus is not None else 1 / max(plan.rate, 1e-12)
        return plan.rate <= 0, usd is None, usd or 0.0, gpus

    ranked: list[CandidatePlan] = []
    for model in dict.fromkeys(plan.candidate.model for plan in plans):
        own = sorted((plan for plan in plans if plan.candidate.model == model), key=order)
        for number, plan in enumerate(own, start=1):
            rank = number if plan.rate > 0 else None
            ranked.append(replace(plan, rank=rank, is_pareto=_is_pareto(plan, own, order)))
    return ranked


def _is_pareto(
    plan: CandidatePlan,
    plans: Sequence[CandidatePlan],
    order: Callable[[CandidatePlan], tuple[bool, bool, float, float]],
) -> bool:
    """Return whether no other plan costs no more and gives a user no fewer tokens a second."""
    speed = plan.tokens_per_s_per_user
    if plan.rate <= 0 or speed is None:
        return False
    return not any(_dominates(other, plan, order) for other in plans if other is not plan)


def _dominates(
    other: CandidatePlan,
    plan: CandidatePlan,
    order: Callable[[CandidatePlan], tuple[bool, bool, float, float]],
) -> bool:
    if other.rate <= 0 or other.tokens_per_s_per_user is None:
        return False
    mine, its = order(plan)[1:3], order(other)[1:3]
    speed, its_speed = plan.tokens_per_s_per_user or 0.0, other.tokens_per_s_per_user
    return its <= mine and its_speed >= speed and (its < mine or its_speed > speed)


def plan_rows(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield one flat record per candidate, for CSV and frames."""
    for each in plan.candidates:
        record = each.to_json_dict()
        record.pop("probes", None)
        metrics = record.pop("metrics", {})
        settings = record.pop("settings", {})
        yield {**record, **settings, **metrics}
