"""Random small clusters for property tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from blis_sim.cluster.config import ClusterConfig, PoolConfig
from blis_sim.workload.request import RequestSpec
from tests.engine.scenarios import MODELS, engines, loads

from .builders import make_cluster, make_pool

POLICIES = (
    *("round-robin", "random", "least-loaded", "power-of-two", "shortest-expected-ttft"),
    *("session-affinity", "prefix-affinity", "weighted", "vllm-dp"),
)
SCORERS = (
    *("queue-depth", "load-balance", "kv-utilization", "prefix-affinity"),
    *("precise-prefix-cache", "running-requests", "active-tokens", "session-affinity"),
)
_US = 1e-6


@dataclass
class ClusterScenario:
    """A load and the cluster it runs on."""

    requests: list[RequestSpec]
    config: ClusterConfig
    settings: dict[str, Any]


@st.composite
def routings(draw: st.DrawFn) -> dict[str, Any]:
    """Return a routing policy, its reports fresh or stale."""
    policy = draw(st.sampled_from(POLICIES))
    settings: dict[str, Any] = {"policy": policy}
    if policy == "weighted":
        names = draw(st.lists(st.sampled_from(SCORERS), min_size=1, unique=True))
        settings["scorers"] = {name: draw(st.integers(1, 3)) for name in names}
        if "precise-prefix-cache" in names:
            settings["cache_signal_delay_s"] = draw(st.sampled_from([0, 0, 35 * _US]))
    settings["snapshot_interval_s"] = draw(st.sampled_from([0, 0, 10 * _US, 33 * _US]))
    return settings


@st.composite
def gateways(draw: st.DrawFn) -> dict[str, Any]:
    """Return a gateway; in half of the cases requests may wait there."""
    admission = draw(
        st.sampled_from(
            [
                {"policy": "always-admit"},
                {"policy": "always-admit"},
                {
                    "policy": "token-bucket",
                    "token_bucket_capacity": 100,
                    "token_bucket_refill_rate": 1e6,
                },
                {"policy": "tier-shed", "tier_shed_threshold": 2},
            ]
        )
    )
    settings: dict[str, Any] = {"admission": admission}
    if draw(st.booleans()):
        settings["max_outstanding_per_instance"] = draw(st.integers(1, 3))
        settings["queue_limit"] = draw(st.sampled_from([None, None, 0, 2]))
        settings["queue_order"] = draw(st.sampled_from(["fcfs", "priority", "slo-deadline"]))
        settings["fair_share"] = draw(st.booleans())
        if settings["queue_order"] == "slo-deadline":
            settings["ttft_limits_ms"] = {"critical": 0.02}
    return settings


@st.composite
def autoscalings(draw: st.DrawFn) -> dict[str, Any] | None:
    """Return how a pool grows and shrinks, often not at all."""
    if draw(st.sampled_from([True, True, False])):
        return None
    metric = draw(
        st.sampled_from(["queue-depth", "kv-utilization", "concurrency", "predicted-ttft"])
    )
    targets = {"kv-utilization": [0.2, 0.9], "predicted-ttft": [0.03, 0.3]}
    target = draw(st.sampled_from(targets.get(metric, [1.5, 9])))
    return {
        "metric": metric,
        "target": target,
        "min_instances": 1,
        "max_instances": 4,
        "interval_s": draw(st.sampled_from([20, 45])) * _US,
        "startup_delay_s": draw(st.sampled_from([0, 10, 37])) * _US,
        "scale_down_stabilization_s": draw(st.sampled_from([0, 0, 50])) * _US,
        "scale_down_cooldown_s": draw(st.sampled_from([0, 60])) * _US,
    }


@st.composite
def pools(draw: st.DrawFn, name: str, role: str, engine: dict[str, Any]) -> PoolConfig:
    """Return a pool of engines like the given one, some things about it changed."""
    changed = dict(engine)
    if draw(st.booleans()):
        changed["max_num_seqs"] = draw(st.integers(1, engine["max_num_seqs"]))
    if draw(st.sampled_from([True, False, False])):
        changed["max_model_len"] = draw(st.integers(12, engine["max_model_len"]))
    if draw(st.booleans()):
        smallest = -(-engine["max_model_len"] // engine["block_size"])
        changed["num_kv_blocks"] = draw(st.integers(smallest, 3 * smallest))
    return make_pool(
        name,
        role=role,
        num_instances=draw(st.integers(1, 3)),
        latency=MODELS[draw(st.sampled_from(sorted(MODELS)))],
        autoscaling=draw(autoscalings()),
        nic_bytes_per_us=draw(st.sampled_from([float("inf"), 1, 0.1])),
        **changed,
    )


@st.composite
def labelled(draw: st.DrawFn, requests: list[RequestSpec]) -> list[RequestSpec]:
    """Return the requests with classes and tenants."""
    return [
        spec._replace(
            slo_class=draw(st.sampled_from([None, "critical", "batch"])),
            tenant=draw(st.sampled_from([None, "a", "b"])),
        )
        for spec in requests
    ]


@st.composite
def clusters(draw: st.DrawFn, *, apart: bool | None = None) -> ClusterScenario:
    """Return a load and a cluster; ``apart`` = with prefill and decode pools."""
    engine = draw(engines())
    is_apart = draw(st.booleans()) if apart is None else apart
    apart_roles = st.sampled_from([("prefill", "decode"), ("decode", "prefill")])
    roles = draw(apart_roles) if is_apart else ("mixed",) * draw(st.integers(1, 2))
    made = [draw(pools(f"{role}-{n}", role, engine)) for n, role in enumerate(roles)]
    disaggregation: dict[str, Any] = {
        "first_token_from": draw(st.sampled_from(["decode", "prefill"])),
        "decider": draw(st.sampled_from(["always", "always", "uncached-prefix"])),
        "link_latency_us": draw(st.sampled_from([0, 7])),
        "overlap": draw(st.sampled_from(["none", "layerwise"])),
    }
    if disaggregation["decider"] == "uncached-prefix":
        disaggregation["threshold_tokens"] = 10
    config = make_cluster(
        *made,
        routing=draw(routings()),
        gateway=draw(gateways()),
        disaggregation=disaggregation if is_apart else None,
        seed=draw(st.integers(0, 3)),
    )
    longest = draw(st.sampled_from([6, engine["max_model_len"] + 2]))
    requests = draw(labelled(draw(loads(longest=longest))))
    begin_us = max(0, requests[0].arrival_us - 100)  # no days of empty decisions and samples
    requests = [spec._replace(arrival_us=spec.arrival_us - begin_us) for spec in requests]
    settings: dict[str, Any] = {"record_decisions": draw(st.booleans())}
    if draw(st.sampled_from([True, False, False])):
        settings["horizon_us"] = draw(st.integers(1, 400))
    if draw(st.sampled_from([True, False, False])):
        settings["sample_interval_us"] = draw(st.sampled_from([10, 33]))
    return ClusterScenario(requests, config, settings)
