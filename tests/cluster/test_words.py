"""What reports say of the way of a request."""

from __future__ import annotations

from typing import Any

import pytest

from blis_sim.cluster.resolve import cluster_config, resolve
from blis_sim.cluster.words import gateway_context
from blis_sim.config.loading import load_scenario
from blis_sim.metrics.context import GatewayContext

SPLIT = [{"name": "p", "role": "prefill"}, {"name": "d", "role": "decode"}]


def words(cluster: dict[str, Any], **scenario: Any) -> GatewayContext:
    resolved = resolve(load_scenario({"cluster": cluster, "hardware": "H100", **scenario}))
    return gateway_context(cluster_config(resolved))


@pytest.mark.parametrize(
    ("routing", "text"),
    [
        ({}, "round-robin"),
        ("weighted", "weighted (precise-prefix-cache 2, queue-depth 1, kv-utilization 1)"),
        ({"scorers": "queue-depth:0.5,load-balance:0"}, "weighted (queue-depth 0.5)"),
        ("vllm-dp", "vllm-dp; reports every 100 ms"),
        ({"policy": "vllm-dp", "snapshot_interval_s": 0}, "vllm-dp"),
        (
            {"policy": "weighted", "snapshot_interval_s": 0.05, "cache_signal_delay_s": 2},
            "weighted (precise-prefix-cache 2, queue-depth 1, kv-utilization 1); reports every "
            "50 ms; caches seen every 2 s",
        ),
    ],
)
def test_the_policy_in_force_with_weights_and_ages(routing: Any, text: str) -> None:
    """Defaults are told as what they are; what is fresh needs no word."""
    assert words({"num_instances": 2, "routing": routing}) == GatewayContext(routing=text)


def test_the_ranks_of_a_server_are_balanced_by_it() -> None:
    """Nobody wrote the policy."""
    assert words({}, engine={"data_parallel_size": 2}).routing == "vllm-dp; reports every 100 ms"


@pytest.mark.parametrize(
    ("gateway", "text"),
    [
        ({"admission": "reject-all"}, "reject-all"),
        (
            {"admission": "token-bucket", "max_outstanding_per_instance": 8},
            "token-bucket, at most 8 requests per instance, queue fcfs",
        ),
        (
            {
                "max_outstanding_per_instance": 1,
                "queue_order": "priority",
                "queue_limit": 0,
                "fair_share": True,
            },
            "at most 1 requests per instance, queue priority, at most 0 waiting, fair shares of "
            "tenants",
        ),
    ],
)
def test_who_is_turned_away_and_who_waits(gateway: dict[str, Any], text: str) -> None:
    """Only what is not default."""
    told = words({"num_instances": 2, "gateway": gateway})
    assert told.queue == text
    assert told.max_outstanding_per_instance == gateway.get("max_outstanding_per_instance")


@pytest.mark.parametrize(
    ("disaggregation", "text"),
    [
        ({}, "always, first token from decode"),
        ({"decider": "never"}, "never"),
        (
            {"overlap": "layerwise", "first_token_from": "prefill"},
            "always, first token from prefill, layerwise overlap",
        ),
        (
            {"decider": "uncached-prefix", "threshold_tokens": 9},
            "uncached-prefix of 9 tokens, first token from decode",
        ),
    ],
)
def test_how_prompts_are_handed_over(disaggregation: dict[str, Any], text: str) -> None:
    """The decider, who shows the first token, and an overlap."""
    told = words({"pools": SPLIT, "disaggregation": disaggregation})
    assert told.disaggregation == text


def test_decode_instances_may_have_a_policy_of_their_own() -> None:
    """With the age of what it sees."""
    told = words({"pools": SPLIT, "disaggregation": {"decode_routing": "vllm-dp"}})
    assert told.routing == "round-robin; decode instances: vllm-dp; reports every 100 ms"
