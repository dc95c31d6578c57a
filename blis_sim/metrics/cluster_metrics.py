"""How a cluster was used: GPUs, scaling, transfers, and how evenly the load was spread."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from blis_sim.metrics.lifetimes import ready_range
from blis_sim.metrics.measured import Measured, ratio
from blis_sim.metrics.metric import Group, Metric, Scope
from blis_sim.metrics.percentiles import Int64Array
from blis_sim.metrics.records import ABSENT
from blis_sim.units import US_PER_HOUR, us_to_seconds


def jain_index(amounts: Sequence[float]) -> float | None:
    """Return Jain's fairness index, ``(sum x)^2 / (n * sum x^2)``.

    1 = all have the same, 1/n = one has everything; None for fewer than two, or when nobody
    has anything.

    Source: Jain, Chiu, Hawe, "A Quantitative Measure of Fairness and Discrimination for
    Resource Allocation in Shared Computer Systems", DEC-TR-301, 1984.
    """
    if len(amounts) < 2:
        return None
    return ratio(sum(amounts) ** 2, len(amounts) * sum(amount**2 for amount in amounts))


def requests_by_instance(measured: Measured) -> Int64Array:
    """Return how many requests each instance of the run was given; a prefill counts too."""
    columns = measured.columns
    numbers = np.concatenate((columns.instance, columns.prefill_instance))
    return np.bincount(numbers[numbers != ABSENT], minlength=len(measured.run.counters))


def _jain_tenants(measured: Measured) -> float | None:
    columns = measured.columns
    has_tenant = columns.tenant != ABSENT
    served = has_tenant & measured.completed
    tokens = columns.prompt_tokens + columns.output_tokens
    # A tenant of whom no request completed was served 0 tokens.
    by_tenant = np.zeros(len(measured.run.tenants), dtype=np.int64)
    np.add.at(by_tenant, columns.tenant[served], tokens[served])
    return jain_index(by_tenant[np.unique(columns.tenant[has_tenant])].tolist())


def _jain_instances(measured: Measured) -> float | None:
    counts = requests_by_instance(measured)
    amounts = dict(zip(measured.instances, counts[list(measured.instances)].tolist(), strict=True))
    indices = [jain_index(rates) for rates in _rates_by_role(measured, amounts)]
    return min((index for index in indices if index is not None), default=None)


def _load_imbalance(measured: Measured) -> float | None:
    tokens = {
        instance: counters.num_prefill_tokens + counters.num_decode_tokens
        for instance, counters in zip(measured.instances, measured.counters, strict=True)
    }
    ratios = [
        ratio(max(rates), sum(rates) / len(rates)) for rates in _rates_by_role(measured, tokens)
    ]
    return max((value for value in ratios if value is not None), default=None)


def _rates_by_role(measured: Measured, amounts: dict[int, int]) -> Iterator[list[float]]:
    """Yield, for each role with two instances or more, each one's amount per time serving.

    An instance that was never ready has no rate. Roles do different work: comparing them
    would say nothing of the router.
    """
    run = measured.run
    roles: dict[str, list[float]] = defaultdict(list)
    for instance, serving_us in zip(measured.instances, measured.serving_us, strict=True):
        if serving_us > 0:
            role = run.pools[run.instances[instance].pool].role if run.instances else ""
            roles[role].append(amounts[instance] / serving_us)
    yield from (rates for rates in roles.values() if len(rates) >= 2)


def _num_scaling_events(measured: Measured) -> int | None:
    run = measured.run
    if not run.instances:
        return None
    pools = {run.instances[instance].pool for instance in measured.instances}
    return sum(event.pool in pools for event in run.scaling)


def _usd_per_million_tokens(measured: Measured) -> float | None:
    cost_usd = measured.cost_usd
    if cost_usd is None:
        return None
    return ratio(cost_usd * 1e6, measured.total("num_generated_tokens"))


CLUSTER_METRICS: tuple[Metric, ...] = (
    Metric(
        "mean_gpus",
        "GPUs, mean",
        "GPUs",
        "GPUs of each instance * its time from started to stopped within the run, summed / "
        "duration; without a cluster tensor_parallel_size * num_instances",
        lambda m: m.time_mean(m.gpu_us),
        Group.CLUSTER,
        Scope.INSTANCE,
    ),
    Metric(
        "gpu_hours",
        "GPU-hours",
        "GPU-h",
        "mean_gpus * duration",
        lambda m: m.gpu_us / US_PER_HOUR,
        Group.CLUSTER,
        Scope.INSTANCE,
    ),
    Metric(
        "cost_usd",
        "Cost (USD)",
        "USD",
        "gpu_hours of each GPU * its price per GPU and hour, the median of the offers known; null "
        "when a price is not known",
        lambda m: m.cost_usd,
        Group.CLUSTER,
        Scope.INSTANCE,
    ),
    Metric(
        "usd_per_million_output_tokens",
        "Cost per million output tokens (USD)",
        "USD",
        "cost_usd / tokens generated * 1e6; null without a price or a token",
        _usd_per_million_tokens,
        Group.CLUSTER,
        Scope.POOL,
    ),
    Metric(
        "lifetime_s",
        "Time serving, all instances (s)",
        "s",
        "time from ready to stopped within the run, summed over instances",
        lambda m: us_to_seconds(sum(m.serving_us)),
        Group.CLUSTER,
        Scope.INSTANCE,
    ),
    Metric(
        "mean_instances",
        "Instances, mean",
        "instances",
        "lifetime_s / duration",
        lambda m: m.time_mean(sum(m.serving_us)),
        Group.CLUSTER,
        Scope.POOL,
    ),
    Metric(
        "min_instances",
        "Instances ready at once, fewest",
        "instances",
        "fewest instances that took requests at one time within the run",
        lambda m: ready_range(m.run, m.instances)[0],
        Group.CLUSTER,
        Scope.POOL,
    ),
    Metric(
        "max_instances",
        "Instances ready at once, most",
        "instances",
        "most instances that took requests at one time within the run",
        lambda m: ready_range(m.run, m.instances)[1],
        Group.CLUSTER,
        Scope.POOL,
    ),
    Metric(
        "num_scaling_events",
        "Scaling events",
        "events",
        "decisions of autoscalers that changed a number of instances; null without a cluster",
        _num_scaling_events,
        Group.CLUSTER,
        Scope.POOL,
    ),
    Metric(
        "jain_instances",
        "Jain index of instances (requests)",
        "index",
        "(sum x)^2 / (n * sum x^2) over the instances of a role, x = requests given to one / its "
        "lifetime; of several roles the lowest; null with fewer than two instances",
        _jain_instances,
        Group.CLUSTER,
        Scope.POOL,
    ),
    Metric(
        "load_imbalance",
        "Load imbalance of instances (max/mean)",
        "ratio",
        "largest / mean over the instances of a role of tokens processed per lifetime; of several "
        "roles the highest; null with fewer than two instances",
        _load_imbalance,
        Group.CLUSTER,
        Scope.POOL,
    ),
    Metric(
        "jain_tenants",
        "Jain index of tenants (tokens)",
        "index",
        "(sum x)^2 / (n * sum x^2) over tenants, x = prompt and output tokens of its completed "
        "requests; null with fewer than two tenants",
        _jain_tenants,
        Group.CLUSTER,
    ),
    Metric(
        "num_transfers",
        "KV transfers",
        "transfers",
        "KV caches received from a prefill instance",
        lambda m: m.total("num_transfers"),
        Group.CLUSTER,
        Scope.INSTANCE,
    ),
    Metric(
        "transferred_blocks",
        "KV blocks transferred",
        "blocks",
        "blocks received in them; those already cached at the receiver are not sent",
        lambda m: m.total("transferred_blocks"),
        Group.CLUSTER,
        Scope.INSTANCE,
    ),
)
