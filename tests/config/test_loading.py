from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from blis_sim.config.latency import LatencyModelName
from blis_sim.config.loading import load_scenario
from blis_sim.config.scenario import Scenario
from blis_sim.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    path = folder / "scenario.yaml"
    path.write_text(text)
    return path


def test_every_part_can_be_written_in_yaml(tmp_path: Path) -> None:
    """A file sets what it says; everything else keeps its default."""
    scenario = load_scenario(
        write(
            tmp_path,
            """
model: qwen3-14b
engine:
  tensor_parallel_size: 2
  async_scheduling: auto
latency: {model: roofline-v1}
workload:
  request_rate: inf
  num_requests: 5
  prompt: {mean: 100, stdev: 10}
slo:   # all of these are commented out
horizon_s: 1e3
""",
        )
    )
    assert scenario.model == "qwen3-14b"
    assert scenario.hardware == Scenario().hardware
    assert scenario.engine.tensor_parallel_size == 2
    assert scenario.engine.async_scheduling == "auto"
    assert scenario.latency.model is LatencyModelName.ROOFLINE_V1
    assert scenario.workload.request_rate == math.inf
    assert scenario.workload.prompt is not None
    assert scenario.workload.prompt.mean == 100
    assert scenario.slo == Scenario().slo
    assert scenario.horizon_s == 1000
    assert scenario.workload.model_fields_set == {"request_rate", "num_requests", "prompt"}


def test_paths_in_a_file_are_relative_to_it(tmp_path: Path) -> None:
    """A trace beside the scenario is found from everywhere; absolute paths stay."""
    path = write(
        tmp_path, "workload: {trace: my/trace.csv}\nlatency: {hardware_config: /etc/gpus.json}\n"
    )
    scenario = load_scenario(path)
    assert scenario.workload.trace == tmp_path / "my" / "trace.csv"
    assert scenario.latency.hardware_config == Path("/etc/gpus.json")


def test_paths_in_overrides_are_relative_to_the_current_folder(tmp_path: Path) -> None:
    """An override comes from the command line, not from the file."""
    scenario = load_scenario(write(tmp_path, "seed: 1\n"), ["workload.trace=trace.csv"])
    assert scenario.workload.trace == Path("trace.csv")


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    """The values of overrides are YAML; null takes a setting back."""
    path = write(
        tmp_path, "engine: {max_num_seqs: 8}\nworkload: {prompt: {mean: 3}, timeout_s: 9}"
    )
    scenario = load_scenario(
        path,
        [
            "engine.max_num_seqs=64",
            "engine.enable-prefix-caching=off",
            "latency.alpha=[1, 2, 3]",
            "workload.prompt.stdev=2",
            "workload.timeout_s=null",
            "workload.output={mean: 7}",
        ],
    )
    assert scenario.engine.max_num_seqs == 64
    assert scenario.engine.enable_prefix_caching is False
    assert scenario.latency.alpha == (1, 2, 3)
    assert scenario.workload.prompt is not None
    assert (scenario.workload.prompt.mean, scenario.workload.prompt.stdev) == (3, 2)
    assert scenario.workload.timeout_s is None
    assert scenario.workload.output is not None
    assert scenario.workload.output.mean == 7


def test_a_mapping_is_not_changed() -> None:
    """What the caller passes stays his."""
    source: dict[str, Any] = {"engine": {"block_size": 8}}
    assert load_scenario(source, ["engine.block_size=32"]).engine.block_size == 32
    assert source == {"engine": {"block_size": 8}}


def test_an_alias_may_be_used_twice(tmp_path: Path) -> None:
    """Anchors, aliases and merged keys are part of YAML."""
    text = "workload:\n  prompt: &l {mean: 5}\n  output: {<<: *l, stdev: 2}\n"
    scenario = load_scenario(write(tmp_path, text))
    assert scenario.workload.output is not None
    assert (scenario.workload.output.mean, scenario.workload.output.stdev) == (5, 2)


BAD_FILES: list[tuple[str, str]] = [
    ("", r"scenario\.yaml: scenario must hold at least one setting; got an empty file"),
    ("# seed: 1\n", r"got an empty file"),
    ("- seed\n", r"scenario\.yaml:1:1: scenario must be a mapping; got a list"),
    ("engine", r"scenario\.yaml:1:1: scenario must be a mapping; got one value"),
    ("engine:\n  a: [\n", r"scenario\.yaml:3:1 must be valid YAML; got: expected the node"),
    ("engine:\n\tblock_size: 3", r"scenario\.yaml:2:1 must be valid YAML; got: found character"),
    ("seed: 1\n---\nseed: 2\n", r"scenario\.yaml:2:1 must be valid YAML; got: but found another"),
    ("a\x00b", r"scenario\.yaml must be valid YAML; got: unacceptable character #x0000"),
    ("[" * 9000, r"scenario\.yaml must be valid YAML; got: maximum recursion depth"),
    (
        "seed: !!python/object/apply:os.system [x]",
        r"scenario\.yaml:1:7 must be valid YAML; got: could not determine a constructor",
    ),
    (
        "seed: 1\nengine:\n  block_size: 16\n  block_size: 16\n",
        r"scenario\.yaml:4:3: engine\.block_size must be there once; .*scenario\.yaml:3:3",
    ),
    ("seed: 1\nseed: 2\n", r"scenario\.yaml:2:1: seed must be there once"),
    ("1: 2\n", r"scenario\.yaml:1:1: a key must be the name of a setting; got 1"),
    ("? [a]\n: 2\n", r"scenario\.yaml:1:3: a key must be the name of a setting; got a list"),
    (
        "seed: 1\nengine:\n  max_seqs: 1\n",
        r"scenario\.yaml:3:3: engine\.max_seqs must be a known name; got 'max_seqs'; "
        r"nearest: max_num_seqs",
    ),
    ("engin: {}\n", r"scenario\.yaml:1:1: engin must be a known name; .*nearest: engine"),
    (
        "workload: {request_rate: -2}\n",
        r"scenario\.yaml:1:12: workload\.request_rate must be > 0; got -2",
    ),
    ("engine: 5\n", r"scenario\.yaml:1:1: engine must be a mapping of settings; got 5"),
]


@pytest.mark.parametrize(("text", "message"), BAD_FILES)
def test_defects_of_a_file_are_told_with_their_place(
    tmp_path: Path, text: str, message: str
) -> None:
    """Every message names the file, and the line and column where there is one."""
    with pytest.raises(ConfigError, match=message) as caught:
        load_scenario(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_file_must_be_there(tmp_path: Path) -> None:
    """A missing file, a folder and other bytes than text are told apart."""
    with pytest.raises(ConfigError, match=r"readable file; got .*none\.yaml: No such file"):
        load_scenario(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"scenario must be a file; got the folder"):
        load_scenario(tmp_path)
    with pytest.raises(ConfigError, match=r"scenario must be a readable file; got .*null"):
        load_scenario("a\0b")
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.yaml must be UTF-8 text"):
        load_scenario(path)


def test_a_file_must_be_small(tmp_path: Path) -> None:
    """A trace given for a scenario is refused before it is parsed."""
    path = tmp_path / "huge.yaml"
    with path.open("wb") as stream:
        stream.truncate(17 * 1024**2)
    with pytest.raises(ConfigError, match=r"huge\.yaml must be a scenario of at most 16 MiB"):
        load_scenario(path)


def test_aliases_of_aliases_cost_nothing(tmp_path: Path) -> None:
    """A file of aliases that would unfold to 10^9 nodes is refused at once."""
    lines = ["a0: &a0 {x: 1}"]
    lines += [
        f"a{n}: &a{n} {{{', '.join(f'k{i}: *a{n - 1}' for i in range(9))}}}" for n in range(1, 10)
    ]
    with pytest.raises(ConfigError, match=r"scenario\.yaml:1:1: a0 must be a known name"):
        load_scenario(write(tmp_path, "\n".join(lines)))


BAD_VALUES: list[tuple[dict[str, Any], str]] = [
    ({"engine": {"max_num_seqs": "x"}}, r"^engine\.max_num_seqs must be a whole number; got 'x'$"),
    ({"engine": {"max_num_seqs": 1.5}}, r"^engine\.max_num_seqs must be a whole number; got 1\.5"),
    ({"engine": {"max_num_seqs": 0}}, r"^engine\.max_num_seqs must be >= 1; got 0$"),
    ({"engine": {"max_num_seqs": True}}, r"^engine\.max_num_seqs must be another kind .*got True"),
    ({"engine": {"max_model_len": 0}}, r"^engine\.max_model_len must be >= 1 tokens; got 0$"),
    ({"engine": {"version": 0.15}}, r"^engine\.version must be text; got 0\.15; put it in quotes"),
    ({"engine": {"async_scheduling": "maybe"}}, r"must be auto or true or false; got 'maybe'"),
    ({"engine": {"enable_prefix_caching": 3}}, r"must be true or false; got 3"),
    ({"engine": {"scheduling_policy": "lifo"}}, r"must be fcfs, priority or sjf; got 'lifo'"),
    (
        {"engine": {"gpu_memory_utilization": 1.5}},
        r"gpu_memory_utilization must be <= 1; got 1\.5",
    ),
    ({"engine": []}, r"^engine must be a mapping of settings; got \[\]$"),
    ({"latency": {"alpha": [1, 2]}}, r"^latency\.alpha must be a list of 3 numbers; got \[1, 2\]"),
    ({"latency": {"alpha": [1, 2, "x"]}}, r"^latency\.alpha must be a list of 3 numbers; got"),
    ({"latency": {"alpha": "1,2,3"}}, r"^latency\.alpha must be a list of 3 numbers; got '1,2,3'"),
    ({"latency": {"alpha": [1, -2, 3]}}, r"^latency\.alpha must be three finite numbers >= 0"),
    ({"latency": {"beta": [1, 2, math.inf]}}, r"^latency\.beta must be three finite numbers >= 0"),
    (
        {"latency": {"model": None}},
        r"must be auto, blackbox, roofline-v1 or roofline-v2; got None",
    ),
    ({"workload": {"request_rate": math.nan}}, r"^workload\.request_rate must be > 0; got nan"),
    ({"workload": {"timeout_s": math.inf}}, r"^workload\.timeout_s must be finite; got inf"),
    ({"workload": {"prompt": "5;6"}}, r"^workload\.prompt must be a number of tokens, or shares"),
    ({"workload": {"prompt": "5:1|6"}}, r"^workload\.prompt must be lengths with a share behin"),
    (
        {"workload": {"prompt": {"parts": [5, {"mean": -1}]}}},
        r"^workload\.prompt\.parts\[1\]\.mean",
    ),
    ({"workload": {"prompt": [5]}}, r"^workload\.prompt must be a mapping of settings; got \[5\]"),
    ({"workload": {"stages": [{"rate": 1}]}}, r"^workload\.stages\[0\]\.duration_s must be given"),
    ({"workload": {"clients": [{}, {"rte": 1}]}}, r"^workload\.clients\[1\]\.rte must be a known"),
    ({"workload": {"clients": {"a": 1}}}, r"^workload\.clients must be .*got \{'a': 1\}"),
    ({"workload": {"trace": 5}}, r"^workload\.trace must be a path; got 5"),
    ({"slo": {"ttft_ms": math.nan}}, r"^slo\.ttft_ms must be > 0 ms; got nan"),
    ({"seed": -1}, r"^seed must be >= 0; got -1$"),
    ({"seed": 10**30}, r"^seed must be < 9223372036854775808; got 10{30}$"),
    ({"model": None}, r"^model must be text; got None$"),
    ({"model": "x" * 10**6, "seed": -1}, r"^seed must be >= 0"),
    ({"workload": {"preset": "y" * 10**6}}, r"got 'y{59}\.\.\.$"),
    ({1: 2}, r"^1 must be a known name"),
]


@pytest.mark.parametrize(("source", "message"), BAD_VALUES)
def test_bad_values_are_told_in_one_line(source: dict[str, Any], message: str) -> None:
    """A message says which setting, what it must be, and what was written."""
    with pytest.raises(ConfigError, match=message) as caught:
        load_scenario(source)
    assert "\n" not in str(caught.value)


BAD_OVERRIDES: list[tuple[list[str], str]] = [
    (["a"], r"^--set must have the form a\.b=value, such as engine\.max_num_seqs=64; got 'a'"),
    (["=1"], r"^--set must have the form"),
    (["engine..x=1"], r"^--set must have the form"),
    (["engine.x=1"], r"^--set engine\.x must be a known name; .*nearest: engine\."),
    (["engin.x=1"], r"^--set engin\.x must be a known name; got 'engin'; nearest: engine"),
    (["seed.x=1"], r"^--set seed\.x must name a setting; seed has no parts"),
    (["seed=["], r"^--set seed must have a YAML value; got '\['"),
    (["seed=x"], r"^--set seed must be a whole number; got 'x'"),
    (["seed=1", "seed=2"], r"^--set seed must be given once; got 1 and 2"),
    (["workload.prompt=[3]", "workload.prompt.mean=3"], r"--set workload\.prompt must be a mappi"),
    (["workload.clients.0.name=a"], r"workload\.clients is a list: set the whole of it, as in"),
    (
        ["cluster.gateway.tenant_weights.web=3"],
        r"^--set cluster\.gateway\.tenant_weights\.web must name a setting; "
        r"cluster\.gateway\.tenant_weights is a mapping: set the whole of it, as in "
        r"--set 'cluster\.gateway\.tenant_weights=\{web: 3\}'$",
    ),
    (["cluster.routing.scorers.queue-depth=2"], r"--set 'cluster\.routing\.scorers=\{NAME: 2\}'"),
]


@pytest.mark.parametrize(("overrides", "message"), BAD_OVERRIDES)
def test_bad_overrides_name_themselves(overrides: list[str], message: str) -> None:
    """A defect of an override is told in the words of the override."""
    with pytest.raises(ConfigError, match=message):
        load_scenario({}, overrides)


@pytest.mark.parametrize("source", [None, [1], 3])
def test_a_source_is_a_mapping_or_a_path(source: Any) -> None:
    """Everything else is one line that says what would do."""
    with pytest.raises(ConfigError, match="must be a mapping of settings, or the path of a YAML"):
        load_scenario(source)


@pytest.mark.parametrize("overrides", ["engine.max_num_seqs=4", {"engine.max_num_seqs": 4}])
def test_overrides_are_a_list_of_texts(overrides: Any) -> None:
    """A text alone is not taken letter by letter, nor a mapping key by key."""
    with pytest.raises(ConfigError, match=r"overrides must be a list of texts.*got a (str|dict)"):
        load_scenario({}, overrides)
