from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from blis_sim.config.cluster import AdmissionPolicy, ClusterSettings, RoutingPolicy, Scorer
from blis_sim.config.cluster_checks import check_cluster
from blis_sim.config.draft import ScenarioDraft
from blis_sim.config.engine import SchedulingPolicy
from blis_sim.config.scenario import Scenario
from blis_sim.errors import ConfigError

BUNDLE = """
admission:
  policy: "tier-shed"
  tier_shed_threshold: 4
  slo_priorities: {batch: 0}
routing:
  policy: weighted
  scorers:
    - {name: prefix-affinity, weight: 3.0}
    - name: queue_depth
      weight: 2
priority:
  policy: constant
scheduler: priority-fcfs
"""


def read(folder: Path, text: str, scenario: dict[str, Any] | None = None) -> Scenario:
    path = folder / "policies.yaml"
    path.write_text(text)
    draft = ScenarioDraft(scenario)
    draft.include_policies(path)
    return draft.build()


def test_a_bundle_of_blis_is_read(tmp_path: Path) -> None:
    """Admission, routing and scheduler are set, and the rest keeps its default."""
    scenario = read(tmp_path, BUNDLE)
    check_cluster(scenario)
    assert scenario.engine.scheduling_policy is SchedulingPolicy.PRIORITY
    admission = scenario.cluster.gateway.admission
    assert admission.policy is AdmissionPolicy.TIER_SHED
    assert (admission.tier_shed_threshold, admission.slo_priorities) == (4, {"batch": 0})
    routing = scenario.cluster.routing
    assert routing.policy is RoutingPolicy.WEIGHTED
    assert routing.scorers == {Scorer.PREFIX_AFFINITY: 3, Scorer.QUEUE_DEPTH: 2}


def test_what_blis_writes_beside_every_policy_asks_for_nothing(tmp_path: Path) -> None:
    """The figures of the token bucket in its documentation are its defaults; "" is not set."""
    text = """
admission: {policy: always-admit, token_bucket_capacity: 10000.0, token_bucket_refill_rate: 1000.0}
routing: {policy: ""}
priority: {policy: ""}
scheduler: ""
"""
    scenario = read(tmp_path, text)
    check_cluster(scenario)
    assert scenario.cluster.gateway.admission.token_bucket_capacity is None
    assert scenario.cluster.routing.policy is RoutingPolicy.ROUND_ROBIN
    other = read(tmp_path, text.replace("10000.0", "500"))
    assert other.cluster.gateway.admission.token_bucket_capacity == 500
    with pytest.raises(ConfigError, match=r"token_bucket_capacity must be set with policy token-"):
        check_cluster(other)
    bucket = read(tmp_path, text.replace("always-admit", "token-bucket"))
    assert bucket.cluster.gateway.admission.token_bucket_capacity == 10_000


@pytest.mark.parametrize("form", ["cluster:\n  {}\n", "{}\n"])
def test_the_cluster_part_of_a_scenario_is_read(tmp_path: Path, form: str) -> None:
    """Under its key or alone."""
    parts = "routing: least-loaded\n  num_instances: 3\n  gateway: {admission: reject-all}"
    text = form.format(parts if form.startswith("cluster") else parts.replace("\n  ", "\n"))
    cluster = read(tmp_path, text).cluster
    assert cluster.routing.policy is RoutingPolicy.LEAST_LOADED
    assert cluster.num_instances == 3
    assert cluster.gateway.admission.policy is AdmissionPolicy.REJECT_ALL


def test_a_part_replaces_that_of_the_scenario(tmp_path: Path) -> None:
    """Scorers do not survive another policy; other parts stay."""
    before = {
        "cluster": {
            "num_instances": 4,
            "routing": {"scorers": "queue-depth"},
            "gateway": {"max_outstanding_per_instance": 5, "admission": "reject-all"},
        },
        "engine": {"block_size": 32, "scheduling_policy": "sjf"},
    }
    text = "routing: {policy: random}\nadmission: {policy: always-admit}\nscheduler: fcfs\n"
    scenario = read(tmp_path, text, before)
    cluster = scenario.cluster
    assert cluster.num_instances == 4
    assert cluster.routing.model_dump(exclude_unset=True) == {"policy": RoutingPolicy.RANDOM}
    assert cluster.gateway.max_outstanding_per_instance == 5
    assert cluster.gateway.admission.policy is AdmissionPolicy.ALWAYS_ADMIT
    assert scenario.engine.block_size == 32
    assert scenario.engine.scheduling_policy is SchedulingPolicy.FCFS


def test_settings_made_afterwards_win(tmp_path: Path) -> None:
    """Flags and overrides are set over a file of policies."""
    path = tmp_path / "policies.yaml"
    path.write_text("routing: {policy: random}\n")
    draft = ScenarioDraft()
    draft.include_policies(path)
    draft.set("cluster.routing.policy", "least-loaded", "--routing-policy")
    assert draft.build().cluster.routing.policy is RoutingPolicy.LEAST_LOADED


def test_files_are_relative_to_the_file(tmp_path: Path) -> None:
    """As in a scenario."""
    text = "pools:\n  - {name: a, latency: {hardware_config: gpus.json}}\n"
    pools = read(tmp_path, text).cluster.pools
    assert pools is not None
    assert pools[0].latency.hardware_config == tmp_path / "gpus.json"


def test_parts_that_are_commented_out_are_absent(tmp_path: Path) -> None:
    """A key without a value sets nothing."""
    scenario = read(tmp_path, "admission:\nrouting:\npriority:\nscheduler:\ngateway:\n")
    assert scenario.cluster == ClusterSettings()


BAD: list[tuple[str, str]] = [
    ("", r"policies\.yaml: policy config must hold at least one setting"),
    ("routng: {}\n", r"policies\.yaml:1:1: routng must be a known name; .*nearest: routing"),
    ("cluster: {routng: {}}\n", r":1:11: cluster\.routng must be a known name; .*: routing"),
    ("cluster: {scheduler: fcfs}\n", r":1:11: cluster\.scheduler must be a known name"),
    ("cluster: 5\n", r":1:1: cluster must be a mapping of settings; got 5"),
    ("cluster: {}\nseed: 1\n", r":2:1: seed must not stand beside cluster .*got 1; give the fil"),
    (
        "tenant_budgets: {a: 0.4}\n",
        r":1:1: tenant_budgets must be left out; got a setting that is not simulated; nearest: g",
    ),
    *(
        (f"{key}: {{}}\n", rf":1:1: {key} must be left out; got .*; nearest: ")
        for key in (
            "preemption",
            "node_pools",
            "autoscaler",
            "instance_lifecycle",
            "hw_config_by_gpu",
        )
    ),
    ("routing: {polcy: x}\n", r":1:11: routing\.polcy must be a known name; .*nearest: policy"),
    ("routing: {policy: rondom}\n", r":1:11: routing\.policy must be a known name; .*: random"),
    ("routing: {policy: 5}\n", r":1:11: routing\.policy must be round-robin, random, .*; got 5"),
    (
        "routing:\n  policy: always-busiest\n",
        r":2:3: routing\.policy must be a routing policy that is simulated; got always-busiest, "
        r"which only BLIS has; nearest: random",
    ),
    (
        "routing:\n  scorers:\n  - {name: no-hit-lru, weight: 1}\n",
        r":3:6: routing\.scorers\[0\]\.name must be a scorer that is simulated; got no-hit-lru",
    ),
    ("routing: {scorers: [{name: x, weight: 1}]}\n", r"scorers\[0\]\.name must be a known name"),
    ("routing: {scorers: [{name: queue-depth, wait: 1}]}\n", r"wait must be a known .*: weight"),
    ("routing: {scorers: [queue-depth]}\n", r":1:21: routing\.scorers\[0\] must be a scorer such"),
    (
        "routing: {scorers: [{name: queue-depth}, {name: queue-depth}]}\n",
        r"scorers\[1\]\.name must name each scorer once; got queue-depth twice; leave one",
    ),
    ("routing: {scorers: [{name: queue-depth, weight: x}]}\n", r"routing\.scorers must be a num"),
    ("admission: {policy: gaie-legacy}\n", r":1:13: admission\.policy must be .*nearest: tier-sh"),
    ("admission: {policy: tiershed}\n", r"admission\.policy must be a known .*nearest: tier-shed"),
    (
        "admission: {tier_shed: 1}\n",
        r":1:13: admission\.tier_shed must be a known name; .*: tier_",
    ),
    (
        "admission: {token_bucket_capacity: -1}\n",
        r":1:13: admission\.token_bucket_capacity must b",
    ),
    ("gateway: {admission: allow}\n", r":1:11: gateway\.admission must be a known name"),
    (
        "admission: reject-all\ngateway: {admission: reject-all}\n",
        r":1:1: admission must be there once; got it and gateway\.admission; leave",
    ),
    ("priority: {policy: slo-based}\n", r":1:12: priority\.policy must be a priority policy that"),
    ("priority: {polcy: constant}\n", r":1:12: priority\.polcy must be a known name; .*: policy"),
    ("scheduler: reverse-priority\n", r":1:1: scheduler must be .*; nearest: priority-fcfs"),
    ("scheduler: lifo\n", r":1:1: scheduler must be a known name; got 'lifo'"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_defects_are_told_with_their_place(tmp_path: Path, text: str, message: str) -> None:
    """Names are those of the file; what only BLIS has names the nearest there is."""
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)
