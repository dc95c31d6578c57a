from __future__ import annotations

from typing import Any

import pytest

from blis_sim.capacity.colocated import colocated_twin, with_twins
from blis_sim.capacity.compare import Candidate, compare
from blis_sim.config.loading import load_scenario
from blis_sim.config.scenario import Scenario
from blis_sim.errors import ConfigError

POOLS = (
    {"name": "p", "role": "prefill", "num_instances": 2, "nic_gb_per_s": 25},
    {"name": "d", "role": "decode", "hardware": "H200", "engine": {"max_num_seqs": 64}},
)


def make_scenario(**cluster: Any) -> Scenario:
    return load_scenario(
        {
            "latency": {"alpha": [0, 0, 0], "beta": [5000, 10, 100]},
            "workload": {"num_requests": 40, "request_rate": 8},
            "cluster": {"pools": [*POOLS], **cluster},
            "seed": 7,
        }
    )


def test_pools_keep_all_but_their_roles() -> None:
    """The same instances, in the same order; network cards send no KV cache any more."""
    twin = colocated_twin(make_scenario())
    assert twin.cluster.pools is not None
    assert [pool.model_dump(exclude_unset=True) for pool in twin.cluster.pools] == [
        {"name": "p", "num_instances": 2},
        {"name": "d", "hardware": "H200", "engine": {"max_num_seqs": 64}},
    ]


def test_everything_else_is_the_same() -> None:
    """Load, seed, routing and gateway; how prompts are handed over is gone."""
    scenario = make_scenario(
        routing={"policy": "least-loaded", "snapshot_interval_s": 0.5},
        gateway={"max_outstanding_per_instance": 8},
        disaggregation={"link_gb_per_s": 10, "decode_routing": "random"},
    )
    written, twin = scenario.model_dump(), colocated_twin(scenario).model_dump()
    assert twin["cluster"].pop("disaggregation") is None
    del written["cluster"]["disaggregation"]
    del twin["cluster"]["pools"], written["cluster"]["pools"]
    assert twin == written


def test_what_only_the_decider_read_is_gone() -> None:
    """How old the picture of the caches is, unless the router looks at it, too."""
    asks = {"decider": "uncached-prefix"}

    def delay_s(routing: dict[str, Any]) -> float:
        routing = {"cache_signal_delay_s": 2, **routing}
        twin = colocated_twin(make_scenario(routing=routing, disaggregation=asks))
        return twin.cluster.routing.cache_signal_delay_s

    assert delay_s({"policy": "least-loaded"}) == 0
    assert delay_s({"policy": "weighted", "scorers": {"queue-depth": 1}}) == 0
    assert delay_s({"policy": "weighted"}) == 2
    assert delay_s({"policy": "shortest-expected-ttft"}) == 2


@pytest.mark.parametrize(
    "disaggregation",
    [
        {"decider": "uncached-prefix", "threshold_tokens": 600},
        {"first_token_from": "prefill", "overlap": "layerwise"},
    ],
)
def test_a_twin_runs_and_meets_the_same_requests(disaggregation: dict[str, Any]) -> None:
    """The same prompts and answers; nothing is handed over."""
    pools = [dict(pool) for pool in POOLS]
    del pools[1]["hardware"]  # one set of coefficients is for one kind of instances
    scenario = make_scenario(
        pools=pools,
        disaggregation=disaggregation,
        routing={"policy": "least-loaded", "snapshot_interval_s": 0.1},
    )
    apart, together = compare(with_twins([Candidate("pd", scenario)]))
    assert (apart.name, together.name) == ("pd", "pd, co-located")
    for key in ("completed", "total_input_tokens", "total_output_tokens", "mean_gpus"):
        assert apart.metrics[key] == together.metrics[key]
    assert apart.metrics["num_transfers"]
    assert together.metrics["num_transfers"] == 0
    assert {pool.role for pool in together.pools} == {"mixed"}


def test_no_twin_without_roles() -> None:
    """There is nothing to put together."""
    with pytest.raises(ConfigError, match="must have prefill and decode pools"):
        colocated_twin(make_scenario(pools=[{"name": "a"}]))
    mixed = Candidate("m", make_scenario(pools=[{"name": "a"}]))
    with pytest.raises(ConfigError, match="--colocated must be given with a scenario"):
        with_twins([mixed])


def test_candidates_without_roles_have_no_twin() -> None:
    """They stay where they are."""
    mixed = Candidate("m", make_scenario(pools=[{"name": "a"}]))
    apart = Candidate("pd", make_scenario())
    names = [each.name for each in with_twins([mixed, apart, mixed])]
    assert names == ["m", "pd", "pd, co-located", "m"]


def test_the_same_twin_is_one_row() -> None:
    """It differs in the hand-over alone; its name is what their names have in common."""

    def names(*candidates: tuple[str, float]) -> list[str]:
        chosen = [
            Candidate(name, make_scenario(disaggregation={"link_gb_per_s": speed}))
            for name, speed in candidates
        ]
        return [each.name for each in with_twins(chosen)]

    assert names(("pd, link=1", 1), ("pd, link=2", 2))[2:] == ["pd, co-located"]
    assert names(("link=1", 1), ("link=2", 2))[2:] == ["co-located"]
