from __future__ import annotations

from typing import Any

import pytest

from blis_sim.config.cluster import (
    AdmissionPolicy,
    RoutingPolicy,
    Scorer,
    instances_at_start,
    scaled_parts,
)
from blis_sim.config.cluster_checks import check_cluster
from blis_sim.config.engine import SchedulingPolicy
from blis_sim.config.loading import load_scenario
from blis_sim.config.policy_names import ADMISSION, ROUTING, SCHEDULERS, SCORERS
from blis_sim.config.routing_checks import routing_policy
from blis_sim.errors import ConfigError

PREFILL = {"name": "p", "role": "prefill"}
DECODE = {"name": "d", "role": "decode"}
SPLIT = [PREFILL, DECODE]
SCALING = {"target": 4, "max_instances": 8}
BY_DEADLINE = {"max_outstanding_per_instance": 1, "queue_order": "slo-deadline"}


def check(cluster: dict[str, Any], **scenario: Any) -> None:
    check_cluster(load_scenario({"cluster": cluster, **scenario}))


BAD: list[tuple[dict[str, Any], str]] = [
    # -- pools ----------------------------------------------------------------
    ({"pools": []}, r"^cluster\.pools must have at least one pool; got none; leave it out$"),
    (
        {"pools": [{"name": "a"}, {"name": "b"}, {"name": "a"}]},
        r"^cluster\.pools\[2\]\.name must be another than that of cluster\.pools\[0\]; got 'a' tw",
    ),
    (
        {"pools": [{"name": "a"}], "num_instances": 1},
        r"^cluster\.num_instances must not be set beside cluster\.pools; got 1; give num_instanc",
    ),
    (
        {"pools": [{"name": "a"}], "autoscaling": SCALING},
        r"^cluster\.autoscaling must not be set beside cluster\.pools; got \{'target': 4\.0, 'max",
    ),
    # -- roles ----------------------------------------------------------------
    ({"pools": [PREFILL]}, r"^cluster\.pools must have a decode pool .*; got zero decode instanc"),
    ({"pools": [DECODE]}, r"^cluster\.pools must have a prefill pool .*; got zero prefill insta"),
    (
        {"pools": [*SPLIT, {"name": "m"}]},
        r"^cluster\.pools\[2\]\.role must be prefill or decode beside .*; got mixed \(m\); leave",
    ),
    (
        {"pools": [{"name": "m", "nic_gb_per_s": 25}]},
        r"^cluster\.pools\[0\]\.nic_gb_per_s must not be set for a mixed pool.*; got 25; leave it",
    ),
    # -- disaggregation -------------------------------------------------------
    (
        {"disaggregation": {}},
        r"^cluster\.disaggregation must not be set without prefill and decode pools; got decider",
    ),
    (
        {"disaggregation": {}, "pools": [{"name": "m"}]},
        r"^cluster\.disaggregation must not be set without prefill and decode pools",
    ),
    (
        {"disaggregation": {"decider": "never", "overlap": "layerwise"}},
        r"^cluster\.disaggregation must not be set without .*; got decider never; give pools",
    ),
    (
        {"pools": SPLIT, "disaggregation": {"threshold_tokens": 9}},
        r"^cluster\.disaggregation\.threshold_tokens must be set with decider uncached-prefix; "
        r"got 9 with always; leave it out",
    ),
    *(
        (
            {"pools": SPLIT, "disaggregation": {"decider": "never", name: value}},
            rf"^cluster\.disaggregation\.{name} must not be set with decider never.*; got {value}",
        )
        for name, value in (
            ("link_gb_per_s", 25),
            ("link_latency_us", 10),
            ("overlap", "layerwise"),
            ("first_token_from", "prefill"),
        )
    ),
    (
        {
            "pools": [{**PREFILL, "nic_gb_per_s": 9}, {**DECODE, "nic_gb_per_s": 9}],
            "disaggregation": {"link_gb_per_s": 25},
        },
        r"^cluster\.disaggregation\.link_gb_per_s must not be set where every pool.*; got 25;",
    ),
    (
        {
            "pools": [{**PREFILL, "nic_gb_per_s": 9}, DECODE],
            "disaggregation": {"decider": "never"},
        },
        r"^cluster\.pools\[0\]\.nic_gb_per_s must not be set with decider never.*; got 9; leave",
    ),
    # -- autoscaling ----------------------------------------------------------
    (
        {"autoscaling": {"target": 1, "min_instances": 3, "max_instances": 2}},
        r"^cluster\.autoscaling\.max_instances must be >= min_instances \(3\); got 2; raise it, o",
    ),
    (
        {"pools": [{"name": "a", "autoscaling": {**SCALING, "min_instances": 9}}]},
        r"^cluster\.pools\[0\]\.autoscaling\.max_instances must be >= min_instances \(9\); got 8",
    ),
    (
        {"num_instances": 9, "autoscaling": SCALING},
        r"^cluster\.num_instances must be from min_instances to max_instances .*\(1 to 8\); got 9",
    ),
    (
        {"pools": [{"name": "a"}, {"name": "b", "num_instances": 9, "autoscaling": SCALING}]},
        r"^cluster\.pools\[1\]\.num_instances must be from min_inst.*; got 9; leave it out to st",
    ),
    (
        {"num_instances": 1, "autoscaling": {**SCALING, "min_instances": 2}},
        r"^cluster\.num_instances must be .*\(2 to 8\); got 1; leave it out to start with 2, or c",
    ),
    (
        {"autoscaling": {**SCALING, "metric": "kv-utilization", "target": 80}},
        r"^cluster\.autoscaling\.target must be <= 1, a share of the KV blocks, with metric "
        r"kv-utilization; got 80; write 80",
    ),
    (
        {
            "pools": [
                {
                    "name": "a",
                    "autoscaling": {**SCALING, "metric": "kv-utilization", "target": 1.5},
                }
            ]
        },
        r"^cluster\.pools\[0\]\.autoscaling\.target must be <= 1, .*; got 1\.5; write 80",
    ),
    # -- routing --------------------------------------------------------------
    (
        {"routing": {"policy": "random", "scorers": "queue-depth:2,kv-utilization"}},
        r"^cluster\.routing\.scorers must be set with policy weighted; got queue-depth:2,kv-util"
        r"ization:1 with random; leave it out, or set the policy alone as in cluster\.routing=ran",
    ),
    *(
        (
            {"routing": {"policy": policy, "snapshot_interval_s": 0.1}},
            rf"^cluster\.routing\.snapshot_interval_s must be set with a policy that reads .*; "
            rf"got 0\.1 with {policy}",
        )
        for policy in ("round-robin", "random", "prefix-affinity", "shortest-expected-ttft")
    ),
    (
        {"routing": {"scorers": "prefix-affinity,queue-depth:0", "snapshot_interval_s": 1}},
        r"snapshot_interval_s must .*; got 1 with weighted \(prefix-affinity\)",
    ),
    (
        {"routing": {"policy": "least-loaded", "cache_signal_delay_s": 1}},
        r"^cluster\.routing\.cache_signal_delay_s must be set with a policy that reads the KV ca",
    ),
    (
        {"routing": {"scorers": "queue-depth", "cache_signal_delay_s": 0.5}},
        r"cache_signal_delay_s must .*; got 0\.5 with weighted \(queue-depth\)",
    ),
    (
        {"routing": {"policy": "weighted", "prefix_index_blocks": 5}},
        r"^cluster\.routing\.prefix_index_blocks must be set with prefix-affinity.*; got 5 with w",
    ),
    (
        {"pools": SPLIT, "disaggregation": {"decode_routing": {"prefix_index_blocks": 5}}},
        r"^cluster\.disaggregation\.decode_routing\.prefix_index_blocks must be .*got 5 with roun",
    ),
    (
        {
            "pools": SPLIT,
            "routing": {"cache_signal_delay_s": 1},
            "disaggregation": {"decider": "uncached-prefix", "decode_routing": "random"},
        },
        r"^cluster\.routing\.cache_signal_delay_s must be .*; got 1 with round-robin",
    ),
    # -- gateway --------------------------------------------------------------
    *(
        (
            {"gateway": {"admission": {"policy": policy, name: value}}},
            rf"^cluster\.gateway\.admission\.{name} must be set with policy {wanted}; got {got} "
            rf"with {policy}; leave it out or set cluster\.gateway\.admission\.policy to {wanted}",
        )
        for policy, wanted, name, value, got in (
            ("always-admit", "token-bucket", "token_bucket_capacity", 5, "5"),
            ("tier-shed", "token-bucket", "token_bucket_capacity", 100, "100"),
            ("tier-shed", "token-bucket", "token_bucket_refill_rate", 0.5, r"0\.5"),
            ("always-admit", "token-bucket", "token_bucket_refill_rate", 0, "0"),
            ("token-bucket", "tier-shed", "tier_shed_threshold", 5, "5"),
            ("token-bucket", "tier-shed", "tier_shed_threshold", 0, "0"),
            ("always-admit", "tier-shed", "tier_shed_min_priority", 0, "0"),
            ("reject-all", "tier-shed", "tier_shed_min_priority", 3, "3"),
            ("reject-all", "tier-shed", "slo_priorities", {"a": 1}, r"\{'a': 1\}"),
            ("always-admit", "tier-shed", "slo_priorities", {"batch": 1}, r"\{'batch': 1\}"),
        )
    ),
    *(
        (
            {"gateway": {name: value}},
            rf"^cluster\.gateway\.{name} must be set with max_outstanding_per_instance: .* "
            rf"nothing ever waits .*; got {got}; set a limit of requests per instance, or leave",
        )
        for name, value, got in (
            ("queue_limit", 0, "0"),
            ("queue_order", "priority", "priority"),
            ("fair_share", True, "true"),
        )
    ),
    (
        {"gateway": {"tenant_weights": {"a": 2}}},
        r"^cluster\.gateway\.tenant_weights must be set with fair_share; got \{'a': 2\.0\} witho",
    ),
    (
        {"gateway": {"max_outstanding_per_instance": 1, "tenant_weights": {"a": 2}}},
        r"^cluster\.gateway\.tenant_weights must .* without; set fair_share: true, or leave it o",
    ),
    (
        {"gateway": {"ttft_limits_ms": {"a": 2}}},
        r"^cluster\.gateway\.ttft_limits_ms must be set with queue_order slo-deadline; got .* wit",
    ),
    (
        {"gateway": {"max_outstanding_per_instance": 1, "ttft_limits_ms": {"a": 2}}},
        r"ttft_limits_ms must .*; got \{'a': 2\.0\} with fcfs; set that order, or leave it out$",
    ),
    (
        {"gateway": BY_DEADLINE},
        r"^cluster\.gateway\.queue_order must be fcfs or priority where no TTFT limit .*; set slo",
    ),
    (
        {"gateway": {**BY_DEADLINE, "ttft_limits_ms": {}}},
        r"^cluster\.gateway\.queue_order must be .* where no TTFT limit is known; got slo-dead",
    ),
]


@pytest.mark.parametrize(("cluster", "message"), BAD)
def test_settings_that_contradict_each_other_are_told(
    cluster: dict[str, Any], message: str
) -> None:
    """A message names the path of the setting, what it must be, what it is, and a remedy."""
    with pytest.raises(ConfigError, match=message) as caught:
        check(cluster)
    assert "\n" not in str(caught.value)


GOOD: list[dict[str, Any]] = [
    {},
    *({"num_instances": 1, "routing": policy.value} for policy in RoutingPolicy),
    {"routing": {"policy": "weighted", "cache_signal_delay_s": 1, "snapshot_interval_s": 1}},
    {"routing": {"policy": "shortest-expected-ttft", "cache_signal_delay_s": 1}},
    {"routing": {"policy": "session-affinity", "snapshot_interval_s": 1}},
    {"routing": {"policy": "random", "snapshot_interval_s": 0, "cache_signal_delay_s": 0}},
    {"routing": {"policy": "prefix-affinity", "prefix_index_blocks": 5}},
    {"routing": {"scorers": "prefix-affinity", "prefix_index_blocks": 5}},
    {"pools": SPLIT},
    {"pools": [{**PREFILL, "nic_gb_per_s": 25}, DECODE], "disaggregation": {"overlap": "none"}},
    {"pools": SPLIT, "disaggregation": {"decider": "never"}},
    {"disaggregation": {"decider": "never"}},
    {
        "pools": SPLIT,
        "routing": {"cache_signal_delay_s": 1},
        "disaggregation": {"decider": "uncached-prefix", "threshold_tokens": 9},
    },
    {
        "pools": SPLIT,
        "disaggregation": {
            "decider": "uncached-prefix",
            "decode_routing": {"policy": "least-loaded", "cache_signal_delay_s": 1},
        },
    },
    {"num_instances": 3, "autoscaling": SCALING},
    {"autoscaling": {"target": 1, "min_instances": 2, "max_instances": 4}},
    {"autoscaling": {**SCALING, "metric": "kv-utilization", "target": 1}},
    # the limits included; a fixed number is a degenerate case
    *(
        {"num_instances": number, "autoscaling": {**SCALING, "min_instances": low, **high}}
        for number in (2, 3, 4)
        for low, high in ((2, {"max_instances": 4}), (number, {"max_instances": number}))
    ),
    {"gateway": {"admission": {"policy": "token-bucket", "token_bucket_capacity": 5}}},
    {"gateway": {"admission": {"policy": "tier-shed", "slo_priorities": {"a": 1}}}},
    # defaults that are written out
    {"gateway": {"queue_order": "fcfs", "fair_share": False, "queue_limit": None}},
    {"gateway": {"max_outstanding_per_instance": 1, "queue_limit": 0}},
    {
        "gateway": {
            "max_outstanding_per_instance": 4,
            "queue_limit": 100,
            "queue_order": "slo-deadline",
            "ttft_limits_ms": {"a": 100},
            "fair_share": True,
            "tenant_weights": {"t": 2},
        }
    },
]


@pytest.mark.parametrize("cluster", GOOD)
def test_settings_that_agree_are_accepted(cluster: dict[str, Any]) -> None:
    """A policy for one instance is fine: a sweep over their number begins there."""
    check(cluster)


def test_a_deadline_may_be_that_of_the_slo() -> None:
    """``slo.ttft_ms`` is the limit of classes without their own."""
    check({"gateway": BY_DEADLINE}, slo={"ttft_ms": 100})


@pytest.mark.parametrize(
    ("gateway", "ttft_ms", "message"),
    [
        (BY_DEADLINE, float("inf"), r"must be fcfs or priority where no TTFT limit is known"),
        (
            {**BY_DEADLINE, "ttft_limits_ms": {}},
            float("inf"),
            r"must be fcfs or priority where no TTFT limit is known",
        ),
        (
            {"max_outstanding_per_instance": 1, "ttft_limits_ms": {"a": 2}},
            100,
            r"^cluster\.gateway\.ttft_limits_ms must be set with queue_order slo-deadline",
        ),
    ],
)
def test_a_limit_of_the_slo_does_not_excuse(
    gateway: dict[str, Any], ttft_ms: float, message: str
) -> None:
    """An infinite one is no deadline, and none is used by another order."""
    with pytest.raises(ConfigError, match=message):
        check({"gateway": gateway}, slo={"ttft_ms": ttft_ms})


def test_classes_may_have_deadlines_where_the_slo_has_none() -> None:
    """The others come last."""
    gateway = {**BY_DEADLINE, "ttft_limits_ms": {"a": 100}}
    check({"gateway": gateway}, slo={"ttft_ms": float("inf")})


def test_scorers_alone_select_the_weighted_policy() -> None:
    """As a burstiness alone selects gamma arrivals."""
    routing = load_scenario({"cluster": {"routing": {"scorers": "queue-depth"}}}).cluster.routing
    assert routing.policy is RoutingPolicy.WEIGHTED
    assert routing.scorers == {Scorer.QUEUE_DEPTH: 1}


@pytest.mark.parametrize(
    ("scenario", "policy"),
    [
        ({}, "round-robin"),
        ({"engine": {"data_parallel_size": 2}}, "vllm-dp"),
        (
            {"engine": {"data_parallel_size": 2}, "cluster": {"routing": "round-robin"}},
            "round-robin",
        ),
        ({"engine": {"data_parallel_size": 2}, "cluster": {"num_instances": 2}}, "round-robin"),
        ({"engine": {"data_parallel_size": 2}, "cluster": {"pools": [{"name": "a"}]}}, "vllm-dp"),
        (
            {"cluster": {"pools": [{"name": "a", "engine": {"data_parallel_size": 2}}]}},
            "vllm-dp",
        ),
        (
            {
                "engine": {"data_parallel_size": 2},
                "cluster": {"pools": [{"name": "a", "engine": {"data_parallel_size": 1}}]},
            },
            "round-robin",
        ),
        ({"engine": {"data_parallel_size": 2}, "cluster": {"pools": SPLIT}}, "round-robin"),
    ],
)
def test_one_server_balances_its_ranks_itself(scenario: dict[str, Any], policy: str) -> None:
    """Unless a policy is given, or there are several servers."""
    assert routing_policy(load_scenario(scenario)) is RoutingPolicy(policy)


RANKS = {"engine": {"data_parallel_size": 2}}


@pytest.mark.parametrize(
    ("cluster", "scenario", "message"),
    [
        (
            {"autoscaling": SCALING},
            RANKS,
            r"^engine\.data_parallel_size must be 1 with cluster\.autoscaling, .*; got 2; leave i",
        ),
        (
            {"pools": [{"name": "a"}, {"name": "b", "autoscaling": SCALING}]},
            RANKS,
            r"^engine\.data_parallel_size must be 1 with cluster\.pools\[1\]\.autoscaling.*got 2",
        ),
        (
            {"pools": [{"name": "a", "autoscaling": SCALING, **RANKS}]},
            {},
            r"^cluster\.pools\[0\]\.engine\.data_parallel_size must be 1 with cluster\.pools\[0\]",
        ),
    ],
)
def test_servers_of_several_ranks_are_not_scaled(
    cluster: dict[str, Any], scenario: dict[str, Any], message: str
) -> None:
    """An autoscaler would start and stop ranks one by one."""
    with pytest.raises(ConfigError, match=message):
        check(cluster, **scenario)


def test_ranks_beside_an_autoscaled_pool() -> None:
    """A pool of a fixed number of servers may have ranks, also where the others have none."""
    pools = [{"name": "a", **RANKS}, {"name": "b", "autoscaling": SCALING}]
    check({"pools": pools})
    single = {"name": "b", "autoscaling": SCALING, "engine": {"data_parallel_size": 1}}
    check({"pools": [{"name": "a"}, single]}, **RANKS)


def test_ranks_of_a_server_report_at_intervals() -> None:
    """An interval needs no policy where the default reads reports."""
    check({"routing": {"snapshot_interval_s": 0.1}}, engine={"data_parallel_size": 2})


def test_a_pool_starts_with_what_is_given_or_its_least() -> None:
    """Without autoscaling with one instance."""
    pools = [
        {"name": "a"},
        {"name": "b", "autoscaling": {**SCALING, "min_instances": 2}},
        {"name": "c", "num_instances": 3, "autoscaling": SCALING},
    ]
    cluster = load_scenario({"cluster": {"pools": pools}}).cluster
    assert [(where, instances_at_start(part)) for where, part in scaled_parts(cluster)] == [
        ("cluster.pools[0]", 1),
        ("cluster.pools[1]", 2),
        ("cluster.pools[2]", 3),
    ]


def test_the_words_are_those_of_the_settings() -> None:
    """They are written out a second time, so that --help loads no models of settings."""
    assert list(ROUTING.meanings) == list(RoutingPolicy)
    assert list(SCORERS.meanings) == list(Scorer)
    assert list(ADMISSION.meanings) == list(AdmissionPolicy)
    assert set(SCHEDULERS.meanings.values()) == set(SchedulingPolicy)


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        ({"routing": "rnd"}, r"^cluster\.routing must be round-robin, random, .*; got 'rnd'$"),
        (
            {"routing": {"scorers": "qeue-depth:1"}},
            r"^cluster\.routing\.scorers must be weights by scorer \(nearest to qeue-depth: queue",
        ),
        ({"routing": {"scorers": "queue-depth:1,queue-depth:2"}}, r"queue-depth only once; got"),
        ({"routing": {"scorers": {"queue-depth": -1}}}, r"must be finite weights >= 0 by the nam"),
        ({"routing": {"scorers": {"queue-depth": 0}}}, r"must be weights of which one is > 0"),
        ({"routing": {"scorers": [1]}}, r"^cluster\.routing\.scorers must be values by name; got"),
        ({"pools": 3}, r"^cluster\.pools must be a list; got 3$"),
        ({"pools": [{"name": ""}]}, r"^cluster\.pools\[0\]\.name must be text with at least one"),
        (
            {"pools": [{"name": "a", "engine": {"tp": 1}}]},
            r"^cluster\.pools\[0\]\.engine\.tp must",
        ),
        ({"disaggregation": {"link_gb_per_s": 0}}, r"link_gb_per_s must be > 0 GB/s; got 0$"),
        ({"disaggregation": {"link_latency_us": -1}}, r"link_latency_us must be >= 0 us; got -1"),
        ({"autoscaling": {"target": 1}}, r"^cluster\.autoscaling\.max_instances must be given"),
    ],
)
def test_bad_values_are_told(cluster: dict[str, Any], message: str) -> None:
    """Short forms, lists and mappings name the setting and what was written."""
    with pytest.raises(ConfigError, match=message):
        load_scenario({"cluster": cluster})
