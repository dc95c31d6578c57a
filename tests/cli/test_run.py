"""The commands people know, run in this process."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from blis_sim.cli.main import main

DEPLOYMENT = ["--hardware", "H100", "--tp", "1", "--vllm-version", "vllm/vllm-openai:v0.8.4"]
MODEL = ["--model", "meta-llama/llama-3.1-8b-instruct"]
FILES = [
    "--model-config-folder",
    "configs/models/llama-3.1-8b-instruct",
    "--hardware-config",
    "configs/hardware_config.json",
]
DISTRIBUTION = [
    *["--workload", "distribution", "--rate", "10", "--num-requests", "300"],
    *["--prompt-tokens", "800", "--prompt-tokens-stdev", "300"],
    *["--output-tokens", "400", "--output-tokens-stdev", "200"],
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every command run in an empty folder."""
    monkeypatch.chdir(tmp_path)


def result_of(*arguments: str) -> dict[str, Any]:
    """Run a command and return its JSON."""
    assert main(["run", *arguments, "--json", "result.json"]) == 0
    result: dict[str, Any] = json.loads(Path("result.json").read_text())
    return result


def rows_of(*arguments: str) -> list[dict[str, str]]:
    """Run a command and return one row per request."""
    assert main(["run", *arguments, "--requests-out", "requests.csv", "--quiet"]) == 0
    with Path("requests.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def dry_run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Return the resolved scenario."""
    assert main(["run", *arguments, "--dry-run"]) == 0
    scenario: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return scenario


@pytest.mark.parametrize(
    ("arguments", "completed", "latency"),
    [
        (MODEL, 100, "roofline-v2"),
        ([*MODEL, "--workload", "chatbot"], 100, "roofline-v2"),
        ([*MODEL, *DEPLOYMENT], 100, "roofline-v2"),
        ([*MODEL, *DISTRIBUTION], 300, "roofline-v2"),
        ([*MODEL, *DISTRIBUTION, "--max-prompts", "300"], 300, "roofline-v2"),
        (
            [*MODEL, "--max-num-running-reqs", "256", "--max-num-scheduled-tokens", "2048"],
            100,
            "roofline-v2",
        ),
        ([*MODEL, *DEPLOYMENT, *FILES], 100, "roofline-v2"),
        ([*MODEL, *DEPLOYMENT, *FILES, "--bench-data-path", "bench_data"], 100, "roofline-v2"),
        ([*MODEL, "--latency-model", "blackbox"], 100, "blackbox"),
        (["--model", "qwen/qwen3-14b"], 100, "roofline-v2"),
    ],
)
def test_commands_of_the_blis_documentation(
    arguments: list[str], completed: int, latency: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """They work as written: the table is printed and every request completes."""
    result = result_of(*arguments)
    assert result["completed"] == completed
    assert result["manifest"]["latency_model"] == latency
    table = capsys.readouterr()
    assert "Serving Benchmark Result" in table.out
    assert f"Latency: {latency} (" in table.out
    assert table.err == ""


def test_a_blis_trace_is_replayed(capsys: pytest.CaptureFixture[str]) -> None:
    """``--workload traces`` with a file of token lists, results in BLIS's layout."""
    Path("traces.csv").write_text(
        "arrival_time,request_id,model,prefill_tokens,decode_tokens\n"
        '0.5,a,m,"[1, 2, 3]","[4, 5]"\n1.5,b,m,"[1]","[2, 3, 4]"\n'
    )
    trace = ["--workload", "traces", "--workload-traces-filepath", "traces.csv"]
    assert main(["run", *MODEL, *trace, "--results-path", "results.json"]) == 0
    result = json.loads(Path("results.json").read_text())
    assert result["completed_requests"] == 2
    assert result["total_input_tokens"] == 4
    assert [request["num_decode_tokens"] for request in result["requests"]] == [2, 3]
    assert "the token lists count by their lengths" in " ".join(capsys.readouterr().out.split())


def test_blis_and_vllm_names_mean_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """Two spellings of one deployment give the same scenario."""
    blis = dry_run(
        capsys,
        *["--hardware", "h100-sxm", "--tp", "2", "--max-num-running-reqs", "64", "--rate", "3"],
        *["--max-num-scheduled-tokens", "512", "--total-kv-blocks", "999", "--num-requests", "7"],
        *["--block-size-in-tokens", "8", "--scheduler", "priority-fcfs", "--horizon", "60s"],
    )
    vllm = dry_run(
        capsys,
        *["--gpu", "h100-sxm", "-tp", "2", "--max_num_seqs", "64", "--request_rate", "3"],
        *["--max-num-batched-tokens=512", "--num-gpu-blocks-override=999", "--num-prompts", "7"],
        *["--block-size", "8", "--scheduling-policy", "priority", "--horizon", "1m"],
    )
    assert blis == vllm
    assert blis["engine"]["max_num_seqs"] == 64


def test_flags_win_over_set_and_file(capsys: pytest.CaptureFixture[str]) -> None:
    """A scenario file, then --set, then flags; what none of them says is the default."""
    Path("s.yaml").write_text(
        "seed: 1\nengine: {max_num_seqs: 5, block_size: 8}\nworkload: {num_requests: 9}\n"
    )
    scenario = dry_run(
        capsys,
        *["--scenario", "s.yaml", "--set", "engine.max_num_seqs=6", "--set", "horizon_s=5"],
        *["--num-requests", "10"],
    )
    assert (scenario["seed"], scenario["horizon_s"]) == (1, 5)
    assert scenario["engine"]["max_num_seqs"] == 6
    assert scenario["engine"]["block_size"] == 8
    assert scenario["workload"]["num_requests"] == 10


def test_length_flags_change_one_figure_of_the_preset(capsys: pytest.CaptureFixture[str]) -> None:
    """The other figures are the preset's, or the file's where it has lengths."""
    chat = dry_run(capsys, "--prompt-tokens", "300", "--workload", "chatbot")["workload"]
    assert chat["prompt"] == {"mean": 300, "stdev": 100, "min": 2, "max": 800}
    assert "output" not in chat
    plain = dry_run(capsys, "--output-tokens-stdev", "5")["workload"]
    assert plain["output"] == {"mean": 512, "stdev": 5, "min": 2, "max": 7000}
    Path("s.yaml").write_text("workload: {prompt: {mean: 40}}\n")
    file = dry_run(capsys, "--scenario", "s.yaml", "--prompt-tokens-max", "50")["workload"]
    assert file["prompt"] == {"mean": 40, "max": 50}


@pytest.mark.parametrize(
    ("arguments", "lengths"),
    [
        (["--random-input-len", "100", "--random-output-len", "7"], {("100", "7")}),
        (["--dataset-name", "random"], {("1024", "128")}),
        (["--dataset-name", "random", "--random-output-len", "7"], {("1024", "7")}),
        (
            ["--random-input-len", "100", "--random-prefix-len", "28", "--random-output-len", "1"],
            {("128", "1")},
        ),
    ],
)
def test_random_lengths_of_vllm_bench_are_constant(
    arguments: list[str], lengths: set[tuple[str, str]]
) -> None:
    """As ``vllm bench serve`` without a range; the prefix comes on top."""
    rows = rows_of(*arguments, "--num-prompts", "20")
    assert {(row["prompt_tokens"], row["output_tokens"]) for row in rows} == lengths


def test_horizon_in_microseconds_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """A bare number is BLIS's unit."""
    result = result_of("--horizon", "2500000")
    assert result["duration"] < 2.5
    assert "note: --horizon 2500000 is read as microseconds: 2.5 s" in capsys.readouterr().out


def test_goodput_in_both_forms(capsys: pytest.CaptureFixture[str]) -> None:
    """Several values, or one quoted, or the flag repeated."""
    limits = {"ttft_ms": 500.0, "tpot_ms": 50.0}
    for form in (
        ["--goodput", "ttft:500", "tpot:50"],
        ["--goodput", "ttft:500 tpot:50"],
        ["--goodput", "ttft:500", "--goodput", "tpot:50"],
    ):
        assert dry_run(capsys, *form)["slo"] == limits
    assert result_of("--goodput", "ttft:500", "tpot:50")["request_goodput"] > 0


def test_json_on_stdout_is_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """Notes go to stderr: the latency model chosen, and why."""
    assert main(["run", "--json", "-", "--num-requests", "3", "--save-detailed"]) == 0
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)["input_lens"]) == 3
    assert captured.err.startswith("blis: note: latency model: roofline-v2 (kernels measured")
    assert main(["run", "--json", "-", "--num-requests", "3", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["completed"] == 3
    assert captured.err == ""


def test_percentiles_and_sections_are_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    """The table shows the latencies and the JSON has the percentiles asked for."""
    result = result_of("--metric-percentiles", "25,99.9", "--percentile-metrics", "ttft,queue")
    assert result["p25_ttft_ms"] <= result["p99.9_ttft_ms"]
    out = capsys.readouterr().out
    assert "P99.9 TTFT" in out
    assert "Queue Time" in out
    assert "Inter-token" not in out


def test_save_result_is_named_after_the_run() -> None:
    """As ``vllm bench serve`` does, or with the name given."""
    Path("out").mkdir()
    arguments = ["--save-result", "--num-requests", "2", "--rate", "inf", "--quiet"]
    assert main(["run", *arguments, "--result-dir", "out"]) == 0
    (path,) = Path("out").iterdir()
    assert path.name.startswith("blis_sim-infqps-Llama-3.1-8B-Instruct-")
    assert main(["run", *arguments, "--result-dir", "out", "--result-filename", "x.json"]) == 0
    assert json.loads(Path("out/x.json").read_text())["completed"] == 2


def test_time_series_has_its_interval() -> None:
    """One row a second unless another interval is asked for."""
    arguments = ["run", "--num-requests", "3", "--rate", "inf", "--quiet"]
    arguments += ["--random-input-len", "10", "--random-output-len", "200"]
    assert main([*arguments, "--timeseries-out", "a.csv"]) == 0
    assert main([*arguments, "--timeseries-out", "b.csv", "--timeseries-interval", "100ms"]) == 0
    rows = [Path(name).read_text().splitlines() for name in ("a.csv", "b.csv")]
    assert rows[0][1].startswith("1.000000,")
    assert rows[1][1].startswith("0.100000,")
    assert len(rows[1]) > 4 * len(rows[0])


def test_values_of_later_flags_that_ask_for_nothing() -> None:
    """What this version does anyway may be said."""
    arguments = ["--routing-policy", "round-robin", "--admission-policy", "always-admit"]
    arguments += ["--priority-policy", "constant", "-pp", "1", "--dp", "1", "--num-instances", "1"]
    arguments += ["--random-range-ratio", "0.0", "--no-enable-expert-parallel"]
    assert main(["run", *arguments, "--num-requests", "2", "--quiet"]) == 0


def test_equal_values_may_be_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    """Two spellings with one value contradict nobody."""
    scenario = dry_run(capsys, "--tp", "2", "--tensor-parallel-size", "2", "--rate=10.0")
    assert scenario["engine"]["tensor_parallel_size"] == 2


def test_dry_run_simulates_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """It prints a scenario file that gives the same requests, and writes nothing."""
    arguments = ["--workload", "chatbot", "--num-requests", "30", "--seed", "5", "--tp", "2"]
    assert main(["run", *arguments, "--dry-run", "--json", "x.json"]) == 0
    Path("again.yaml").write_text(capsys.readouterr().out)
    assert not Path("x.json").exists()
    assert rows_of("--scenario", "again.yaml") == rows_of(*arguments)


def test_dry_run_tells_of_every_pool(capsys: pytest.CaptureFixture[str]) -> None:
    """Latency model and KV blocks by pool where they differ, once where they do not."""
    pools = "[{name: a}, {name: b}, {name: c, hardware: A100-80GB}]"
    assert main(["run", "--set", f"cluster.pools={pools}", "--dry-run"]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("# ")]
    for what in ("latency model", "KV blocks"):
        assert [line.partition(": ")[0] for line in told if f"{what}: " in line] == [
            f"# [a, b] {what}",
            f"# [c] {what}",
        ]
    assert main(["run", "--prefill-instances", "1", "--decode-instances", "1", "--dry-run"]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("# ")]
    assert [line.partition(": ")[0] for line in told[:2]] == ["# latency model", "# KV blocks"]


def test_the_shipped_trace_is_found_from_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    """The command of the documentation works in an empty folder, with a note."""
    assert main(["run", "--trace", "workloads/chat_small.csv", "--num-requests", "5"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "workloads/chat_small.csv is not in the current folder: the shipped one is used" in text


def test_traces_beside_a_scenario_file() -> None:
    """A path in a scenario is relative to it."""
    Path("deep").mkdir()
    Path("deep/t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,5,2\n")
    Path("deep/s.yaml").write_text("workload: {trace: t.csv}\n")
    assert [row["prompt_tokens"] for row in rows_of("--scenario", "deep/s.yaml")] == ["5"]
