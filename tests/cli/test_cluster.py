"""Clusters from the command line, run in this process on small loads."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from blis_sim.cli.cluster_flags import cluster_flags
from blis_sim.cli.main import main
from blis_sim.config.cluster import RoutingPolicy, Scorer

# Conversations with shared system prompts, and documents that may wait: two tenants, two classes.
LOAD = """
request_rate: 25
num_requests: 40
prompt: {kind: lognormal, mean: 400, stdev: 500, min: 20, max: 2500}
output: {kind: lognormal, mean: 60, stdev: 60, min: 1, max: 400}
clients:
  - name: chat
    rate_fraction: 0.5
    tenant: web
    slo_class: interactive
    priority: 0
    prefix_tokens: 320
    num_prefix_groups: 4
    sessions: {rounds: 3, think_time_s: {kind: exponential, mean: 0.3}}
  - {name: documents, rate_fraction: 0.5, tenant: archive, slo_class: batch, priority: 5}
"""
LOADED = [
    *("--workload-spec", "load.yaml", "--total-kv-blocks", "1500"),
    *("--alpha-coeffs", "1000,2,10", "--beta-coeffs", "6000,20,40"),
]
POLICIES_FILE = "routing: {policy: least-loaded}\ngateway: {max_outstanding_per_instance: 3}\n"
APART = "--prefill-instances 1 --decode-instances 2"
LIMITED = "--num-instances 2 --max-outstanding-per-instance 2"
OFTEN = "--set cluster.autoscaling.interval_s=0.2 --set cluster.autoscaling.startup_delay_s=0.1"
SCALED = f"{OFTEN} --autoscale concurrency:4:1-4"
BY_CLASS = 'cluster.gateway.ttft_limits_ms={"interactive":500}'


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every command run in a folder with a load and a file of policies."""
    monkeypatch.chdir(tmp_path)
    Path("load.yaml").write_text(LOAD)
    Path("policies.yaml").write_text(POLICIES_FILE)


def simulate(arguments: str, *more: str) -> None:
    """Run a command on the load; nothing is printed."""
    assert main(["run", *LOADED, *arguments.split(), *more, "--quiet"]) == 0


def result_of(arguments: str) -> dict[str, Any]:
    simulate(arguments, "--json", "result.json")
    result: dict[str, Any] = json.loads(Path("result.json").read_text())
    return result


def table(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as stream:
        return list(csv.DictReader(stream))


@cache
def requests_of(arguments: str) -> list[dict[str, str]]:
    simulate(arguments, "--requests-out", "requests.csv")
    return table("requests.csv")


# -- flags ----------------------------------------------------------------

# Flag -> what else is said, and a value that must make a difference to what happens.
CHANGES: dict[str, list[tuple[str, str]]] = {
    "--num-instances": [("", "2"), ("--routing-policy random", "3")],
    "--data-parallel-size": [("", "2")],
    "--autoscale": [
        (OFTEN, "concurrency:4:1-4"),
        (OFTEN, "queue-depth:1:1-4"),
        (OFTEN, "kv-utilization:0.1:1-4"),
        (OFTEN, "predicted-ttft:20:1-4"),
    ],
    "--policy-config": [("--num-instances 3", "policies.yaml")],
    "--routing-policy": [
        ("--num-instances 3", name) for name in RoutingPolicy if name != "round-robin"
    ],
    "--routing-scorers": [
        ("--num-instances 3 --routing-policy weighted", f"{name}:1") for name in Scorer
    ],
    "--snapshot-refresh-interval": [
        ("--num-instances 3 --routing-policy least-loaded", "200ms"),
        ("--num-instances 3 --routing-policy vllm-dp", "0"),
    ],
    "--cache-signal-delay": [
        ("--num-instances 3 --routing-scorers precise-prefix-cache:1,queue-depth:1", "1s")
    ],
    "--admission-policy": [
        ("--num-instances 2", name) for name in ("token-bucket", "tier-shed", "reject-all")
    ],
    "--token-bucket-capacity": [("--admission-policy token-bucket", "3000")],
    "--token-bucket-refill-rate": [("--admission-policy token-bucket", "5000")],
    "--max-outstanding-per-instance": [("--num-instances 2", "2")],
    "--gateway-queue-limit": [(LIMITED, "3")],
    "--gateway-queue-order": [
        (LIMITED, "priority"),
        (f"{LIMITED} --set {BY_CLASS}", "slo-deadline"),
    ],
    "--prefill-instances": [("--decode-instances 2", "1")],
    "--decode-instances": [("--prefill-instances 1", "2")],
    "--pd-decider": [(APART, "never"), (APART, "uncached-prefix")],
    "--pd-prefix-threshold": [(f"{APART} --pd-decider uncached-prefix", "1k")],
    "--pd-transfer-bandwidth": [(APART, "0.5")],
    "--pd-transfer-base-latency": [(APART, "20ms")],
    "--first-token-from": [(APART, "prefill")],
}
SWITCHES = {"--fair-share": LIMITED}
HIDDEN = {"--priority-policy"}
"""It has one value, which is what happens anyway; any other is refused."""
WITHOUT = {
    OFTEN: "",
    f"{LIMITED} --set {BY_CLASS}": LIMITED,
    "--prefill-instances 1": "--num-instances 3",
    "--decode-instances 2": "--num-instances 3",
}
"""What else is said without the flag, where the rest needs it."""
ROWS = [(flag, *row) for flag, rows in CHANGES.items() for row in rows]


def test_every_flag_about_clusters_is_tried() -> None:
    """A new flag must show that it does something."""
    assert {flag.names[0] for flag in cluster_flags()} == {*CHANGES, *SWITCHES, *HIDDEN}


@pytest.mark.parametrize(("flag", "rest", "value"), ROWS)
def test_a_flag_changes_what_is_simulated(flag: str, rest: str, value: str) -> None:
    """With it, requests go elsewhere, at other times, or not at all."""
    assert requests_of(WITHOUT.get(rest, rest)) != requests_of(f"{rest} {flag} {value}")


@pytest.mark.parametrize(("flag", "rest"), SWITCHES.items())
def test_a_switch_changes_what_is_simulated(flag: str, rest: str) -> None:
    """Likewise; its opposite is what happens without it."""
    plain = requests_of(rest)
    assert requests_of(f"{rest} {flag}") != plain
    assert requests_of(f"{rest} --no-{flag[2:]}") == plain


def test_the_one_priority_policy_changes_nothing() -> None:
    """It is accepted because it is true."""
    assert requests_of("--num-instances 2 --priority-policy constant") == requests_of(
        "--num-instances 2"
    )


# -- results --------------------------------------------------------------


def test_a_result_tells_of_pools_instances_and_tenants() -> None:
    """The parts add up to the whole."""
    result = result_of("--num-instances 3 --routing-policy least-loaded")
    assert list(result["per_pool"]) == ["default"]
    assert [each["instance"] for each in result["per_instance"]] == [0, 1, 2]
    assert set(result["per_tenant"]) == {"web", "archive"}
    assert set(result["per_class"]) == {"interactive", "batch"}
    for parts in (
        *(result["per_pool"].values(),),
        result["per_instance"],
        result["per_tenant"].values(),
    ):
        for tag in ("completed", "failed", "total_input_tokens", "total_output_tokens"):
            assert sum(part[tag] for part in parts) == result[tag]
    cluster = result["cluster"]
    assert cluster["mean_gpus"] == cluster["mean_instances"] == 3
    assert cluster["gpu_hours"] == pytest.approx(3 * result["duration"] / 3600)
    assert 1 / 3 <= cluster["jain_instances"] <= 1 <= cluster["load_imbalance"]
    assert cluster["num_transfers"] == 0
    assert result["conservation"]["in_gateway"] == 0


def test_without_a_cluster_there_are_no_instances_to_tell_of() -> None:
    """One engine has no pools and nothing to balance."""
    result = result_of("")
    assert not result["per_pool"]
    assert result["cluster"]["jain_instances"] is None


def test_rows_name_the_instances_of_a_request() -> None:
    """Prompts on instance 0, answers on 1 and 2, KV caches handed over in between."""
    rows = requests_of(f"{APART} --routing-policy least-loaded")
    assert {row["instance"] for row in rows} == {"1", "2"}
    assert {(row["prefill_instance"], row["pool"]) for row in rows} == {("0", "decode")}
    for row in rows:
        times = [
            int(row[f"{name}_us"])
            for name in ("arrival", "dispatched", "scheduled", "handed_over", "transferred")
        ]
        assert times == sorted(times)
        assert int(row["transferred_us"]) < int(row["first_token_us"])
        transfer_ms = (int(row["transferred_us"]) - int(row["handed_over_us"])) / 1000
        assert float(row["transfer_ms"]) == pytest.approx(transfer_ms)


def test_rejected_requests_say_why() -> None:
    """They have no instance."""
    rows = requests_of("--num-instances 2 --admission-policy reject-all")
    assert {row["status"] for row in rows} == {"rejected"}
    assert {(row["instance"], row["dispatched_us"]) for row in rows} == {("", "")}
    assert all("reject-all" in row["reason"] for row in rows)


def test_samples_show_a_pool_growing() -> None:
    """One instance at first, more as the load comes, none before it is ready."""
    simulate(
        SCALED,
        *("--timeseries-out", "samples.csv", "--timeseries-interval", "100ms"),
        *("--json", "result.json"),
    )
    result = json.loads(Path("result.json").read_text())
    samples = table("samples.csv")
    counts = [int(row["num_instances"]) for row in samples]
    assert counts[0] == 1
    assert counts == sorted(counts)  # it may shrink only 300 s after its last change
    assert counts[-1] == max(counts) == result["cluster"]["max_instances"] > 1
    for event in result["cluster"]["scaling"]:
        assert event["time_s"] * 5 == pytest.approx(round(event["time_s"] * 5))
    started = {each["instance"]: each["started_s"] for each in result["per_instance"]}
    for row in samples:
        assert float(row["time_s"]) >= started[int(row["instance"])]
        if float(row["time_s"]) < started[int(row["instance"])] + 0.1 and row["instance"] != "0":
            assert (row["queue_depth"], row["batch_size"]) == ("0", "0")


@pytest.mark.parametrize(
    ("arguments", "candidates"),
    [
        ("--num-instances 4 --routing-policy weighted", {"serve": [0, 1, 2, 3]}),
        ("--num-instances 3 --routing-policy shortest-expected-ttft", {"serve": [0, 1, 2]}),
        (f"{APART} --routing-policy least-loaded", {"decode": [1, 2], "prefill": [0]}),
    ],
)
def test_decisions_show_every_candidate(arguments: str, candidates: dict[str, list[int]]) -> None:
    """One row for each; exactly one was chosen, and it has the highest score."""
    simulate(arguments, "--decisions-out", "decisions.csv", "--requests-out", "requests.csv")
    decisions: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for row in table("decisions.csv"):
        decisions[row["request_id"], row["purpose"]].append(row)
    requests = {row["request_id"]: row for row in table("requests.csv")}
    assert set(decisions) == {(number, purpose) for number in requests for purpose in candidates}
    for (number, purpose), rows in decisions.items():
        assert [int(row["instance"]) for row in rows] == candidates[purpose]
        (chosen,) = [row for row in rows if row["is_chosen"] == "1"]
        column = "prefill_instance" if purpose == "prefill" else "instance"
        assert chosen["instance"] == requests[number][column]
        assert chosen["time_us"] == requests[number]["dispatched_us"]
        scores = [float(row["score"]) for row in rows]
        assert float(chosen["score"]) == max(scores)
        for row, score in zip(rows, scores, strict=True):
            assert float(row["regret"]) == pytest.approx(max(scores) - score, abs=2e-6)


def test_candidates_are_those_with_room() -> None:
    """At most two requests each: fewer rows than decisions times instances, and a queue."""
    limited = "--num-instances 3 --max-outstanding-per-instance 2"
    simulate(limited, "--decisions-out", "decisions.csv", "--requests-out", "requests.csv")
    num_requests = len(table("requests.csv"))
    rows = table("decisions.csv")
    assert sum(row["is_chosen"] == "1" for row in rows) == num_requests
    assert num_requests < len(rows) < 3 * num_requests
    assert any(float(row["gateway_ms"]) > 0 for row in table("requests.csv"))


# -- the same again -------------------------------------------------------

CLUSTERS = [
    "--num-instances 3 --routing-policy power-of-two",
    "--num-instances 3 --routing-policy weighted --snapshot-refresh-interval 50ms "
    "--cache-signal-delay 500ms",
    "-dp 2",
    f"{SCALED} --routing-policy prefix-affinity",
    f"{APART} --routing-policy least-loaded --pd-decider uncached-prefix "
    "--pd-transfer-bandwidth 2",
    "--num-instances 2 --max-outstanding-per-instance 3 --fair-share "
    '--set cluster.gateway.tenant_weights={"web":3} --gateway-queue-order priority',
]
POOLS = """
cluster:
  routing: shortest-expected-ttft
  gateway: {max_outstanding_per_instance: 6, queue_limit: 20}
  pools:
    - {name: fast, num_instances: 1}
    - name: slow
      num_instances: 2
      engine: {max_num_seqs: 8, num_gpu_blocks_override: 800}
      latency: {alpha: [0, 5, 0], beta: [9000, 40, 60]}
"""


def outputs_of(arguments: list[str]) -> dict[str, Any]:
    """Return everything a run writes, less what is not of the simulation."""
    files = ["requests.csv", "samples.csv", "decisions.csv"]
    assert (
        main(
            [
                *("run", *arguments, "--quiet", "--json", "result.json"),
                *("--requests-out", files[0], "--timeseries-out", files[1]),
                *("--timeseries-interval", "300ms", "--decisions-out", files[2]),
            ]
        )
        == 0
    )
    result = json.loads(Path("result.json").read_text())
    written: dict[str, Any] = {name: Path(name).read_bytes() for name in files}
    for part in ("manifest", "run_info", "date"):
        written[part] = result.pop(part)
    return written | {"result": result}


@cache
def asked_for(arguments: str) -> dict[str, Any]:
    """Return everything a first run writes."""
    return outputs_of([*LOADED, *arguments.split()])


def simulated(written: dict[str, Any]) -> dict[str, Any]:
    """Return what must be the same however the run was asked for."""
    return {k: v for k, v in written.items() if k not in {"manifest", "run_info", "date"}}


@pytest.mark.parametrize("arguments", CLUSTERS)
def test_the_same_command_gives_the_same_bytes(arguments: str) -> None:
    """Twice, and step by step."""
    command = [*LOADED, *arguments.split()]
    first, second = asked_for(arguments), outputs_of(command)
    assert first["manifest"] == second["manifest"]
    assert simulated(first) == simulated(second)
    assert simulated(outputs_of([*command, "--no-coalesce"])) == simulated(first)


@pytest.mark.parametrize("arguments", [*CLUSTERS, "--scenario pools.yaml"])
def test_a_resolved_scenario_is_a_scenario(
    arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What ``--dry-run`` prints, and the manifest's, run again to the same results."""
    Path("pools.yaml").write_text(POOLS)
    command = [*LOADED, *arguments.split()]
    asked = asked_for(arguments)
    capsys.readouterr()
    assert main(["run", *command, "--dry-run"]) == 0
    Path("resolved.yaml").write_text(capsys.readouterr().out)
    again = outputs_of(["--scenario", "resolved.yaml"])
    assert simulated(again) == simulated(asked)
    assert again["manifest"]["scenario"] == asked["manifest"]["scenario"]
    assert yaml.safe_load(Path("resolved.yaml").read_text()) == asked["manifest"]["scenario"]


# -- what is wrong --------------------------------------------------------

WRONG_FLAGS = [
    ("--num-instances 0", "--num-instances must be >= 1; got '0'"),
    ("--num-instances 2 --routing-policy lest-loaded", "--routing-policy must be a known name"),
    ("--num-instances 2 --routing-scorers queue:1", "--routing-scorers must be a known name"),
    ("--num-instances 2 --snapshot-refresh-interval 1s", "must be set with a policy that reads"),
    ("--prefill-instances 2", "--decode-instances must be >= 1 with --prefill-instances 2"),
    (f"{APART} --pd-prefix-threshold 9", "--pd-prefix-threshold must be set with decider"),
    ("--first-token-from prefill", "must not be set without prefill and decode pools"),
    ("--num-instances 2 --fair-share", "--fair-share must be set with max_outstanding"),
    ("--num-instances 2 --token-bucket-capacity 9", "must be set with policy token-bucket"),
    ("--autoscale concurrency:4:3-2", "max_instances must be >= min_instances (3); got 2"),
    ("--priority-policy slo-based", "--priority-policy must be a priority policy that is"),
    ("--decisions-out x.csv", "--decisions-out must be given for a cluster; got one"),
    ("--num-instances 2 --decisions-out x.txt", "--decisions-out must be a file ending in .csv"),
    ("--num-instances 2 --policy-config none.yaml", "none.yaml"),
    ("--num-instances 2 -pp 2", "-pp must be 1 in this version; got 2"),
    (
        "--max-outstanding-per-instance 2 --gateway-queue-order slo-deadline",
        "--gateway-queue-order must be fcfs or priority where no TTFT limit is known",
    ),
]
WRONG_CLUSTERS = [
    ("{pools: []}", "cluster.pools must have at least one pool"),
    ("{pools: [{name: a, gpu: H100}]}", "gpu"),
    ("{pools: [{name: a}, {name: a}]}", "name must be another than that of cluster.pools[0]"),
    ("{num_instances: 2, pools: [{name: a}]}", "cluster.num_instances must not be set beside"),
    ("{pools: [{name: a, role: prefill}]}", "must have a decode pool beside the prefill pool"),
    ("{pools: [{name: a, role: both}]}", "role"),
    ("{pools: [{name: a, hardware: H999}]}", "H999"),
    ("{pools: [{name: a, nic_gb_per_s: 9}]}", "nic_gb_per_s must not be set for a mixed pool"),
    (
        "{pools: [{name: a, role: prefill}, {name: b, role: decode}, {name: c}]}",
        "cluster.pools[2].role must be prefill or decode",
    ),
    (
        "{pools: [{name: a, role: prefill}, {name: b, role: decode, engine: {block_size: 32}}]}",
        "engine.block_size of pools a and b must be the same",
    ),
    (
        "{pools: [{name: a}, {name: b, hardware: A100-80}]}",
        "--alpha-coeffs and --beta-coeffs must be given by pool",
    ),
    ("{pools: [{name: a, engine: {tensor_parallel_size: 3}}]}", "pool a: "),
    (
        "{gateway: {fair_share: false, tenant_weights: {web: 2}}}",
        "tenant_weights must be set with fair_share",
    ),
    ("{gateway: {tenant_weights: {web: 0}}}", "must be numbers > 0 by name"),
    ("{routing: {policy: random, prefix_index_blocks: 9}}", "must be set with prefix-affinity"),
    ("{autoscaling: {max_instances: 3}}", "cluster.autoscaling.target"),
    ("{autoscaling: {target: 0.5, max_instances: 3, metric: gpu}}", "metric"),
    ("{num_instances: 5, autoscaling: {target: 9, max_instances: 3}}", "cluster.num_instances"),
    ("{disaggregation: {link_gb_per_s: 9}}", "without prefill and decode pools"),
]


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the error of a command, which is one line, says what to do, and exits 2."""
    capsys.readouterr()
    assert main(["run", *LOADED, *arguments, "--requests-out", "requests.csv"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("blis: error: ")
    assert not Path("requests.csv").exists()
    return line


@pytest.mark.parametrize(("arguments", "message"), WRONG_FLAGS)
def test_wrong_flags(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line that names the flag; nothing is simulated."""
    assert message in error_of(capsys, *arguments.split())


@pytest.mark.parametrize(("cluster", "message"), WRONG_CLUSTERS)
def test_wrong_scenarios(cluster: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line that names the setting or its place in the file."""
    Path("wrong.yaml").write_text(f"cluster: {cluster}\n")
    assert message in error_of(capsys, "--scenario", "wrong.yaml")
