from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from blis_sim.api import resolve
from blis_sim.cli.flag_command import own_options, read_settings
from blis_sim.cli.flags import Typed
from blis_sim.cli.main import main
from blis_sim.cli.outputs import plan_outputs
from blis_sim.cli.run_flags import run_flags
from blis_sim.cli.settings import Settings, in_flags
from blis_sim.config.cluster import ClusterSettings, RoutingPolicy
from blis_sim.config.cluster_checks import check_cluster
from blis_sim.config.draft import ScenarioDraft
from blis_sim.config.loading import load_scenario
from blis_sim.config.scenario import Scenario
from blis_sim.errors import BlisError, ConfigError


def typed(arguments: str) -> list[Typed]:
    """Return flags in the order of the table, as the command collects them."""
    table = run_flags()
    found = []
    words: Sequence[str] = arguments.split(" ") if arguments else []
    for flag in table:
        for position, word in enumerate(words):
            if word in flag.off_names or (word in flag.names and flag.is_switch):
                found.append(Typed(flag, word, ""))
            elif word in flag.names:
                found.append(Typed(flag, word, words[position + 1]))
    return found


def settings(arguments: str, scenario: dict[str, Any] | None = None) -> Settings:
    made = Settings(ScenarioDraft(scenario))
    made.apply(typed(arguments))
    return made


def parse(arguments: str, scenario: dict[str, Any] | None = None) -> Scenario:
    """Return the checked scenario; errors speak of flags, as those of the command."""
    try:
        made = settings(arguments, scenario).build()
        check_cluster(made)
    except BlisError as error:
        error.args = (in_flags(str(error), typed(arguments)),)
        raise
    return made


def cluster(part: dict[str, Any]) -> ClusterSettings:
    return load_scenario({"cluster": part}).cluster


SPLIT = [
    {"name": "prefill", "role": "prefill", "num_instances": 2},
    {"name": "decode", "role": "decode", "num_instances": 6},
]
MEANINGS: list[tuple[str, dict[str, Any]]] = [
    ("--num-instances 4", {"num_instances": 4}),
    ("--routing-policy least_loaded", {"routing": "least-loaded"}),
    (
        "--routing-scorers prefix-affinity:3,queue_depth:2,load-balance",
        {"routing": {"scorers": {"prefix-affinity": 3, "queue-depth": 2, "load-balance": 1}}},
    ),
    (
        "--routing-policy weighted --routing-scorers queue-depth:0.5",
        {"routing": {"policy": "weighted", "scorers": {"queue-depth": 0.5}}},
    ),
    (
        "--routing-policy least-loaded --snapshot-refresh-interval 100000",
        {"routing": {"policy": "least-loaded", "snapshot_interval_s": 0.1}},
    ),
    (
        "--routing-policy weighted --cache-signal-delay 50ms",
        {"routing": {"policy": "weighted", "cache_signal_delay_s": 0.05}},
    ),
    ("--snapshot-refresh-interval 0", {"routing": {"snapshot_interval_s": 0}}),
    ("--admission-policy always-admit", {"gateway": {"admission": "always-admit"}}),
    (
        "--admission-policy token-bucket --token-bucket-capacity 5 --token-bucket-refill-rate 2",
        {
            "gateway": {
                "admission": {
                    "policy": "token-bucket",
                    "token_bucket_capacity": 5,
                    "token_bucket_refill_rate": 2,
                }
            }
        },
    ),
    (
        "--max-outstanding-per-instance 8 --gateway-queue-limit 0 --dispatch-order fifo",
        {
            "gateway": {
                "max_outstanding_per_instance": 8,
                "queue_limit": 0,
                "queue_order": "fcfs",
            }
        },
    ),
    (
        "--max-outstanding-per-instance 8 --max-gateway-queue-depth 9 --fair-share",
        {"gateway": {"max_outstanding_per_instance": 8, "queue_limit": 9, "fair_share": True}},
    ),
    ("--max-gateway-queue-depth 0", {"gateway": {"queue_limit": None}}),
    ("--no-fair-share", {"gateway": {"fair_share": False}}),
    (
        "--max-outstanding-per-instance 8 --gateway-queue-order priority",
        {"gateway": {"max_outstanding_per_instance": 8, "queue_order": "priority"}},
    ),
    (
        "--autoscale concurrency:32:1-8",
        {
            "autoscaling": {
                "metric": "concurrency",
                "target": 32,
                "min_instances": 1,
                "max_instances": 8,
            }
        },
    ),
    ("--prefill-instances 2 --decode-instances 6", {"pools": SPLIT, "disaggregation": {}}),
    ("--prefill-instances 0 --decode-instances 0", {}),
    (
        "--num-instances 8 --prefill-instances 2 --decode-instances 6",
        {"pools": SPLIT, "disaggregation": {}},
    ),
    (
        "--prefill-instances 2 --decode-instances 6 --pd-decider prefix-threshold "
        "--pd-prefix-threshold 1k --pd-transfer-bandwidth 25 --pd-transfer-base-latency 0.05 "
        "--first-token-from prefill",
        {
            "pools": SPLIT,
            "disaggregation": {
                "decider": "uncached-prefix",
                "threshold_tokens": 1000,
                "link_gb_per_s": 25,
                "link_latency_us": 50,
                "first_token_from": "prefill",
            },
        },
    ),
    ("--pd-decider never", {"disaggregation": {"decider": "never"}}),
    ("--priority-policy constant", {}),
]


@pytest.mark.parametrize(("arguments", "part"), MEANINGS)
def test_flags_mean_settings(arguments: str, part: dict[str, Any]) -> None:
    """A flag and its setting give the same cluster; what was given is what was given."""
    made = parse(arguments).cluster
    assert made == cluster(part)
    assert made.model_dump(exclude_unset=True) == cluster(part).model_dump(exclude_unset=True)


def test_ranks_are_a_setting_of_the_engine() -> None:
    """``-dp`` in the names of vLLM."""
    for name in ("--data-parallel-size", "--dp", "-dp"):
        assert parse(f"{name} 4").engine.data_parallel_size == 4


@pytest.mark.parametrize(
    ("arguments", "notice"),
    [
        (
            "--snapshot-refresh-interval 50000 --routing-policy vllm-dp",
            "--snapshot-refresh-interval 50000 is read as microseconds: 0.05 s",
        ),
        ("--cache-signal-delay 5", "--cache-signal-delay 5 is read as microseconds: 5e-06 s"),
        (
            "--pd-transfer-base-latency .25",
            "--pd-transfer-base-latency .25 is read as milliseconds: 250 us",
        ),
        ("--max-gateway-queue-depth 0", "--max-gateway-queue-depth 0 is read as no limit, as BL"),
    ],
)
def test_bare_numbers_of_blis_are_told(arguments: str, notice: str) -> None:
    """Its units differ from flag to flag."""
    (told,) = settings(arguments).notices
    assert told.startswith(notice)


@pytest.mark.parametrize("arguments", ["--snapshot-refresh-interval 0", "--cache-signal-delay 1s"])
def test_nothing_is_told_where_the_unit_is_plain(arguments: str) -> None:
    """Zero has no unit."""
    assert settings(arguments).notices == []


def test_a_latency_may_have_a_unit() -> None:
    """Then it means what it says."""
    flags = "--prefill-instances 2 --decode-instances 6 --pd-transfer-base-latency"
    for value in ("70us", "0.07ms", "0.07"):
        split = parse(f"{flags} {value}").cluster.disaggregation
        assert split is not None
        assert split.link_latency_us == 70


def test_flags_win_over_the_file() -> None:
    """What the flag does not say stays the file's."""
    before = {
        "num_instances": 2,
        "routing": "weighted",
        "autoscaling": {"target": 1, "max_instances": 2, "interval_s": 30},
    }
    flags = "--num-instances 3 --routing-policy random --autoscale queue-depth:2:1-4"
    made = parse(flags, {"cluster": before}).cluster
    assert made.num_instances == 3
    assert made.routing.policy is RoutingPolicy.RANDOM
    assert made.autoscaling is not None
    assert (made.autoscaling.interval_s, made.autoscaling.target) == (30, 2)


def test_a_split_takes_the_place_of_a_number_in_the_file() -> None:
    """Other settings of the file stay."""
    before = {"cluster": {"num_instances": 3, "routing": "random", "disaggregation": None}}
    made = parse("--prefill-instances 2 --decode-instances 6", before).cluster
    assert made == cluster({"pools": SPLIT, "routing": "random", "disaggregation": {}})


BAD: list[tuple[str, str]] = [
    ("--num-instances 0", r"^--num-instances must be >= 1; got '0'"),
    ("-dp x", r"^-dp must be a whole number; got 'x'"),
    ("--routing-policy rnd", r"^--routing-policy must be a known name; .*nearest: random"),
    (
        "--routing-policy always-busiest",
        r"^--routing-policy must be a routing policy that is simulated; got always-busiest, whic",
    ),
    (
        "--routing-scorers qeue-depth:1",
        r"^--routing-scorers must be a known name; .*: queue-depth",
    ),
    (
        "--routing-scorers no-hit-lru:1",
        r"^--routing-scorers must be a scorer that is simulated; got no-hit-lru, which only BLIS",
    ),
    ("--routing-scorers active-requests:1", r"nearest: load-balance"),
    ("--routing-scorers load-aware:1", r"nearest: queue-depth"),
    ("--routing-scorers queue-depth:", r"^--routing-scorers must be scorers with their weights"),
    ("--routing-scorers queue-depth,", r"^--routing-scorers must be scorers with their weights"),
    ("--routing-scorers queue-depth:x", r"^--routing-scorers must be a number; got"),
    ("--routing-scorers queue-depth:nan", r"^--routing-scorers must be finite weights >= 0"),
    ("--routing-scorers queue-depth:1,queue-depth:2", r"must name each scorer once; got queue-de"),
    (
        "--routing-policy random --routing-scorers queue-depth:1",
        r"^--routing-scorers must be set with policy weighted; got queue-depth:1 with random; lea",
    ),
    ("--snapshot-refresh-interval 0.1", r"^--snapshot-refresh-interval must be a time with its u"),
    (
        "--snapshot-refresh-interval 100ms",
        r"^--snapshot-refresh-interval must be set with a policy that reads .*got 0\.1 with round",
    ),
    ("--cache-signal-delay 1s", r"^--cache-signal-delay must be set with a policy that reads the"),
    ("--admission-policy tier", r"^--admission-policy must be a known name; .*nearest: tier-shed"),
    ("--admission-policy gaie-legacy", r"^--admission-policy must be .*BLIS has; nearest: tier-s"),
    ("--token-bucket-capacity 0", r"^--token-bucket-capacity must be > 0; got '0'"),
    ("--token-bucket-capacity 5", r"^--token-bucket-capacity must be set with policy token-buck"),
    ("--token-bucket-refill-rate 5", r"^--token-bucket-refill-rate must be set with policy tok"),
    ("--max-outstanding-per-instance 0", r"^--max-outstanding-per-instance must be >= 1"),
    ("--gateway-queue-limit -1", r"^--gateway-queue-limit must be a whole number >= 0; got '-1'"),
    ("--gateway-queue-limit 5", r"^--gateway-queue-limit must be set with max_outstanding_per_in"),
    ("--dispatch-order lifo", r"^--dispatch-order must be a known name; .*nearest: fifo"),
    ("--fair-share", r"^--fair-share must be set with max_outstanding_per_instance"),
    (
        "--prefill-instances 2",
        r"^--decode-instances must be >= 1 with --prefill-instances 2; got n",
    ),
    (
        "--prefill-instances 2 --decode-instances 0",
        r"^--decode-instances must be >= 1 with --prefill-instances 2; got 0; give both or none",
    ),
    (
        "--decode-instances 2",
        r"^--prefill-instances must be >= 1 with --decode-instances 2; got n",
    ),
    ("--prefill-instances x", r"^--prefill-instances must be a whole number >= 0; got 'x'"),
    (
        "--prefill-instances 1 --decode-instances 1 --num-instances 4",
        r"^--num-instances must be the sum of --prefill-instances and --decode-instances \(2\); g",
    ),
    ("--pd-decider adaptive", r"^--pd-decider must be a decider that is simulated; .*: uncached"),
    ("--pd-decider allways", r"^--pd-decider must be a known name; .*nearest: always"),
    ("--pd-decider always", r"^--pd-decider must not be set without prefill and decode pools"),
    (
        "--prefill-instances 1 --decode-instances 1 --pd-prefix-threshold 5",
        r"^--pd-prefix-threshold must be set with decider uncached-prefix; got 5 with always",
    ),
    (
        "--prefill-instances 1 --decode-instances 1 --pd-decider never --pd-transfer-bandwidth 9",
        r"^--pd-transfer-bandwidth must not be set with decider never",
    ),
    ("--pd-transfer-bandwidth 0", r"^--pd-transfer-bandwidth must be > 0 GB/s; got '0'"),
    ("--pd-transfer-base-latency 0.0005", r"must be a whole number of microseconds; got 0\.0005"),
    ("--pd-transfer-base-latency x", r"^--pd-transfer-base-latency must be a time with its unit"),
    ("--first-token-from gpu", r"^--first-token-from must be one of decode, prefill"),
    ("--autoscale concurrency:8", r"^--autoscale must be METRIC:TARGET:MIN-MAX such as concurr"),
    ("--autoscale load:8:1-2", r"^--autoscale must be a known name; got 'load'"),
    ("--autoscale concurrency:x:1-2", r"^the target of --autoscale must be a number; got 'x'"),
    ("--autoscale concurrency:8:0-2", r"^the min of --autoscale must be >= 1; got '0'"),
    ("--autoscale concurrency:8:3-2", r"max_instances must be >= min_instances \(3\); got 2"),
    ("--num-instances 9 --autoscale concurrency:8:1-4", r"^--num-instances must be from min_inst"),
    ("--priority-policy slo-based", r"^--priority-policy must be a priority policy that is simul"),
    ("-pp 2", r"^-pp must be 1 in this version; got 2; leave it out"),
    ("--ramp-up-strategy linear", r"^--ramp-up-strategy must not be given in this version"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_wrong_flags_name_themselves(arguments: str, message: str) -> None:
    """An error is told in the words of the command line."""
    with pytest.raises(ConfigError, match=message) as caught:
        parse(arguments)
    assert "\n" not in str(caught.value)


def test_a_split_does_not_change_pools() -> None:
    """Pools of the scenario are not of two flags to change."""
    before = {"cluster": {"pools": [{"name": "a"}]}}
    with pytest.raises(
        ConfigError, match=r"must not be given with a scenario that has cluster\.p"
    ):
        parse("--prefill-instances 1 --decode-instances 1", before)


# -- files ----------------------------------------------------------------


def test_policies_stand_between_the_scenario_and_flags(tmp_path: Path) -> None:
    """Scenario, then the file of policies, then --set, then flags: the last wins."""
    for name, text in {
        "scenario.yaml": "cluster: {num_instances: 4, routing: {scorers: queue-depth}}\n",
        "policies.yaml": "routing: {policy: random}\nscheduler: sjf\nadmission: reject-all\n",
    }.items():
        (tmp_path / name).write_text(text)

    def read(arguments: str) -> Scenario:
        flags = typed(arguments.replace("FOLDER", str(tmp_path)))
        made = read_settings(own_options(flags))
        made.apply(flags)
        return made.build()

    files = "--scenario FOLDER/scenario.yaml --policy-config FOLDER/policies.yaml"
    scenario = read(files)
    assert scenario.cluster.num_instances == 4
    assert scenario.cluster.routing == cluster({"routing": "random"}).routing
    assert scenario.engine.scheduling_policy == "sjf"
    assert read(f"{files} --scheduler fcfs").engine.scheduling_policy == "fcfs"
    set_over = read(f"{files} --set cluster.routing.policy=vllm-dp")
    assert set_over.cluster.routing.policy is RoutingPolicy.VLLM_DP
    flagged = read(f"{files} --routing-policy least-loaded --admission-policy tier-shed")
    assert flagged.cluster.routing.policy is RoutingPolicy.LEAST_LOADED
    assert flagged.cluster.gateway.admission.policy == "tier-shed"


def test_decisions_are_an_output(tmp_path: Path) -> None:
    """They are recorded where they are asked for; the path is checked before the run."""
    resolved = resolve(load_scenario({"cluster": {"num_instances": 2}}))
    assert not plan_outputs({}, resolved).records_decisions
    path = str(tmp_path / "decisions.csv")
    outputs = plan_outputs(own_options(typed(f"--decisions-out {path}")), resolved)
    assert outputs.records_decisions
    assert [(file.flag, str(file.path)) for file in outputs.files] == [("--decisions-out", path)]
    with pytest.raises(ConfigError, match=r"^--decisions-out must be a file ending in \.csv"):
        plan_outputs({"--decisions-out": str(tmp_path / "x.txt")}, resolved)
    with pytest.raises(
        ConfigError, match=r"^--decisions-out must be given for a cluster; got one"
    ):
        plan_outputs({"--decisions-out": path}, resolve(load_scenario({})))


def test_a_file_of_policies_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor is a file that a pool reads."""
    hardware = tmp_path / "gpus.csv"
    hardware.write_text('{"H100": {"TFlopsPeak": 989.5, "BwPeakTBs": 3.35, "MemoryGiB": 80}}')
    policies = tmp_path / "policies.csv"
    policies.write_text("pools: [{name: a, latency: {hardware_config: gpus.csv}}]\n")
    for path in (policies, hardware):
        before = path.read_text()
        assert main(["run", "--policy-config", str(policies), "--requests-out", str(path)]) == 2
        assert "--requests-out must be another file than the input" in capsys.readouterr().err
        assert path.read_text() == before
