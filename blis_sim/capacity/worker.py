"""What a worker does with a point: simulate it and keep the figures."""

from __future__ import annotations

import time
import traceback
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from blis_sim import api
from blis_sim.capacity.checks import check_limits, is_saturated
from blis_sim.capacity.study import Outcome, OutcomeStatus, Point, asked_of
from blis_sim.errors import CatalogError, ConfigError, InvariantError, SimulationError, TraceError
from blis_sim.metrics.definitions import LATENCIES
from blis_sim.metrics.metric import Group
from blis_sim.metrics.plain import canonical_sha256, to_plain
from blis_sim.metrics.replications import NOT_FIGURES
from blis_sim.units import US_PER_MS

if TYPE_CHECKING:
    from blis_sim.metrics.context import PoolContext, RunContext
    from blis_sim.metrics.result import Result

_QUANTILES = tuple(float(rank) for rank in range(101))
_OF_A_DEPLOYMENT = (
    *("model", "gpu", "tensor_parallel_size", "num_instances", "num_kv_blocks"),
    *("latency_model", "latency_source"),
)


def simulate_point(point: Point) -> Outcome:
    """Simulate a point and return its figures, or why there are none.

    Raises
    ------
    TraceError
        The trace is wrong: no other point of the study would do better.
    """
    begin_s = time.perf_counter()
    try:
        outcome = _simulated(point)
    except (ConfigError, CatalogError, SimulationError) as error:
        reason = " ".join(str(error).split())
        outcome = Outcome(status=OutcomeStatus.INFEASIBLE, reason=reason, **asked_of(point))
    except TraceError:
        raise
    except InvariantError as error:
        outcome = _failed(point, str(error))
    except Exception as error:  # a defect at one point must not cost the others
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.name} in {last.filename.rpartition('/')[2]}:{last.lineno}"
        outcome = _failed(point, f"{type(error).__name__}: {error}, in {where}; please report it")
    return replace(outcome, wall_s=time.perf_counter() - begin_s)


def _failed(point: Point, reason: str) -> Outcome:
    return Outcome(status=OutcomeStatus.FAILED, reason=" ".join(reason.split()), **asked_of(point))


def _simulated(point: Point) -> Outcome:
    resolved = api.resolve(point.scenario)
    window = point.window
    result = api.run(
        resolved,
        percentiles=_ranks(point),
        marks_s=() if window is None else window.marks_s(),
    )
    num_requests = len(result.run.requests.request_id)
    accuracy = result.accuracy
    checks: list[Any] = []
    saturated = None
    if window is not None:
        checks = to_plain([asdict(check) for check in check_limits(result, point.limits)])
        saturated = is_saturated(result.run)
        result = result.window()
    context = result.context
    return Outcome(
        status=OutcomeStatus.DONE,
        deployment=to_plain(_deployment(context)),
        metrics=to_plain({k: v for k, v in result.summary.items() if k not in NOT_FIGURES}),
        quantiles=_quantiles(result),
        checks=checks,
        is_saturated=saturated,
        seed=context.seed,
        request_rate=to_plain(context.request_rate),
        load=resolved.workload.description,
        notices=list(context.notices),
        accuracy="" if accuracy is None else accuracy.text,
        scenario_sha256=canonical_sha256(context.scenario),
        num_requests=num_requests,
    )


def _ranks(point: Point) -> tuple[float, ...]:
    """Return the percentiles that limits name: they shall be in the summary."""
    return tuple(limit.rank for limit in point.limits if limit.rank is not None)


def _deployment(context: RunContext) -> dict[str, Any]:
    facts: dict[str, Any] = {name: getattr(context, name) for name in _OF_A_DEPLOYMENT}
    price = context.prices.get(context.gpu)
    facts["num_gpus"] = context.num_gpus
    facts["usd_per_gpu_hour"] = None if price is None else price.usd_per_gpu_hour
    facts["pools"] = [_pool(pool) for pool in context.pools]
    return facts


def _pool(pool: PoolContext) -> dict[str, Any]:
    names = ("name", "role", *_OF_A_DEPLOYMENT, "min_instances", "max_instances")
    return {name: getattr(pool, name) for name in names}


def _quantiles(result: Result) -> dict[str, list[float]]:
    measured = result.measured
    found: dict[str, list[float]] = {}
    for latency in LATENCIES:
        sample = latency.compute(measured) if latency.group is Group.SERVING else None
        if sample is not None and latency.tag in {"ttft", "tpot", "itl", "e2el"}:
            found[latency.tag] = [us / US_PER_MS for us in sample.percentiles(_QUANTILES)]
    return found
