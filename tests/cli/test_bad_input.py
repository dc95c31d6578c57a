"""One case per kind of input and class of failure: one clear line, exit 2, nothing written."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import pytest

from blis_sim.catalog.paths import configs_dir
from blis_sim.cli.main import main

KINDS = ("scenario", "flags", "trace", "model", "hardware", "coefficients", "output")
CLASSES = ("missing", "malformed", "type", "range", "inconsistent", "duplicate", "empty")

MEANINGLESS = {
    ("output", "type"): "a path is text, and any text may be a path",
    ("output", "range"): "a path has no range; its ending is malformed",
}

MODEL = json.loads((configs_dir() / "models/llama-3.1-8b-instruct/config.json").read_text())
TRACE = "arrival_s,prompt_tokens,output_tokens\n0,10,2\n"
HEADER = (
    "model,gpu,tp,vllm_version,alpha0_us,alpha1_us_per_in_tok,alpha2_us_per_out_tok,"
    "beta0_us,beta1_us_per_prefill_tok,beta2_us_per_decode_tok\n"
)
ROW = "meta-llama/llama-3.1-8b-instruct,H100,1,v0.8.4,1,1,1,1,1,1\n"


@dataclass(frozen=True)
class Case:
    """A wrong input, and what the line about it must say."""

    kind: str
    failure: str
    arguments: str
    message: str
    files: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind}-{self.failure}"


def scenario(failure: str, text: str, message: str, more: str = "") -> Case:
    return Case("scenario", failure, f"--scenario s.yaml {more}", message, {"s.yaml": text})


def flags(failure: str, arguments: str, message: str) -> Case:
    return Case("flags", failure, arguments, message)


def trace(failure: str, text: str, message: str, more: str = "") -> Case:
    return Case("trace", failure, f"--trace t.csv {more}", message, {"t.csv": text})


def model(failure: str, message: str, more: str = "", **changes: object) -> Case:
    config = {key: value for key, value in {**MODEL, **changes}.items() if value is not None}
    files = {"m/config.json": json.dumps(config, indent=1)}
    return Case("model", failure, f"--model-config-folder m {more}", message, files)


def hardware(failure: str, text: str, message: str, more: str = "") -> Case:
    return Case("hardware", failure, f"--hardware-config h.json {more}", message, {"h.json": text})


def coefficients(failure: str, text: str, message: str, more: str = "") -> Case:
    files = {"c.csv": text}
    return Case("coefficients", failure, f"--coefficients-file c.csv {more}", message, files)


def output(failure: str, arguments: str, message: str, **files: str) -> Case:
    return Case("output", failure, arguments, message, files)


CASES = [
    # -- scenario file --------------------------------------------------------
    Case("scenario", "missing", "--scenario s.yaml", r"readable file; got s\.yaml: No such file"),
    scenario("malformed", "engine: [", r"s\.yaml:1:10 must be valid YAML; got: expected"),
    scenario("malformed", "- a\n", r"s\.yaml:1:1: scenario must be a mapping; got a list"),
    scenario("malformed", "enginee: {}\n", r"s\.yaml:1:1: enginee must be a known .*: engine"),
    scenario("type", "seed: x\n", r"s\.yaml:1:1: seed must be a whole number; got 'x'"),
    scenario("type", "engine:\n  version: 0.15\n", r"s\.yaml:2:3: engine\.version must be text"),
    scenario("range", "a: 1\nseed: -1\n", r"s\.yaml:2:1: seed must be >= 0; got -1"),
    scenario(
        "inconsistent",
        "engine: {max_num_seqs: 9, max_num_batched_tokens: 8}\n",
        r"engine\.max_num_batched_tokens must be >= engine\.max_num_seqs \(9\); got 8",
    ),
    scenario(
        "inconsistent",
        "workload: {trace: t.csv, preset: chatbot}\n",
        r"workload\.preset must not be set when a trace is replayed",
    ),
    scenario("duplicate", "seed: 1\nseed: 1\n", r"s\.yaml:2:1: seed must be there once"),
    scenario("empty", "", r"s\.yaml: scenario must hold at least one setting; got an empty file"),
    # -- flags ----------------------------------------------------------------
    flags("missing", "--workload traces", r"--workload traces must come with the trace; got none"),
    flags("missing", "--alpha-coeffs 1,2,3", r"latency\.beta must be given together with --alpha"),
    flags("missing", "--seed", r"--seed must have a value; got none before --json"),
    flags("malformed", "--rat 5", r"--rat must be a known flag; nearest: --rate"),
    flags("malformed", "--trust-remote-code", r"--trust-remote-code must be left out: .* changes"),
    flags("malformed", "--enforce_eager", r"--enforce-eager must be left out: .* not simulated"),
    flags("malformed", "5", r"Got unexpected extra argument"),
    flags("malformed", "--set seed", r"--set must have the form a\.b=value"),
    flags("malformed", "--goodput 500", r"--goodput must be limits in ms such as ttft:500"),
    flags("malformed", "--goodput ttfft:500", r"--goodput must be a known name; .*nearest: ttft"),
    flags("malformed", "--horizon 5parsec", r"the unit of --horizon must be a known name"),
    flags("type", "--max-num-running-reqs x", r"--max-num-running-reqs must be a whole number"),
    flags("type", "--rate fast", r"--rate must be a number; got 'fast'"),
    flags("type", "--max-model-len long", r"--max-model-len must be a number of tokens such as"),
    flags("type", "--scheduler lifo", r"--scheduler must be one of fcfs, priority"),
    flags("type", "--workload chat", r"--workload must be a known name; .*nearest: chatbot"),
    flags("type", "--set seed=x", r"--set seed must be a whole number; got 'x'"),
    flags("range", "--rate -3", r"--rate must be > 0; got '-3'"),
    flags("range", "--rate nan", r"--rate must be > 0; got 'nan'"),
    flags("range", "--num-requests 0", r"--num-requests must be >= 1; got '0'"),
    flags("range", "--gpu-memory-utilization 1.2", r"--gpu-memory-utilization must be <= 1"),
    flags("range", "--beta-coeffs 1,-2,3", r"--beta-coeffs must be three finite numbers >= 0"),
    flags("range", "--goodput ttft:-1", r"--goodput ttft must be > 0 ms; got '-1'"),
    flags(
        "range", "--metric-percentiles 101", r"--metric-percentiles must be .*0\.\.100; got 101"
    ),
    flags("range", "--max-model-len 200k", r"--max-model-len must be <= 131072 tokens, the limit"),
    flags("range", "--num-instances 0", r"--num-instances must be >= 1; got '0'"),
    flags("type", "--routing-policy rnd", r"--routing-policy must be a known .*nearest: random"),
    flags("range", "-pp 2", r"-pp must be 1 in this version; got 2"),
    flags("range", "--max-concurrency 0", r"--max-concurrency must be >= 1; got '0'"),
    flags("range", "--random-range-ratio 1", r"--random-range-ratio must be >= 0 and < 1; got 1"),
    flags("missing", "--random-range-ratio 0.5", r"--random-range-ratio must come with constant"),
    flags(
        "missing", "--arrivals closed_loop", r"arrivals\.num_users must be set with closed_loop"
    ),
    flags(
        "missing", "--dataset-name sharegpt", r"--dataset-name sharegpt must come with the trac"
    ),
    flags("type", "--dataset-name sonnet", r"--dataset-name must be random or one of sharegpt"),
    flags(
        "type", "--ramp-up-strategy linear", r"--ramp-up-strategy must not be given in this ver"
    ),
    flags("inconsistent", "--num-users 3", r"--num-users must not be set with poisson arrivals"),
    flags(
        "missing",
        "--workload-spec nowhere.yaml",
        r"workload spec must be a readable file; got nowhere\.yaml: No such file",
    ),
    flags("range", "--enable-expert-parallel", r"--enable-expert-parallel must not be given in"),
    flags(
        "inconsistent",
        "--max-num-seqs 9 --max-num-batched-tokens 8",
        r"--max-num-batched-tokens must be >= --max-num-seqs \(9\); got 8",
    ),
    flags(
        "inconsistent",
        "--prompt-tokens 9000",
        r"--prompt-tokens must be between workload\.prompt\.min and .*\(2 and 7000 tok.*got 9000",
    ),
    flags(
        "inconsistent",
        "--latency-model roofline-v1 --alpha-coeffs 1,1,1 --beta-coeffs 1,1,1",
        r"--alpha-coeffs must not be set with --latency-model roofline-v1",
    ),
    flags(
        "inconsistent",
        "--total-kv-blocks 10 --max-model-len 161",
        r"--max-model-len must be <= 160 tokens, all that 10 KV blocks of 16 tokens hold",
    ),
    flags(
        "inconsistent",
        "--no-enable-chunked-prefill --long-prefill-token-threshold 8",
        r"--long-prefill-token-threshold must be 0 with chunked prefill off",
    ),
    flags("inconsistent", "--rate-scale 2", r"--rate-scale must not be set without a trace"),
    flags("inconsistent", "--tp 3", r"--tp must split the 32 attention heads"),
    flags(
        "inconsistent", "--bench-data-path x", r"--bench-data-path must be a folder of meas.*got x"
    ),
    flags("inconsistent", "--result-dir .", r"--result-dir must be given with --save-result"),
    flags(
        "inconsistent",
        "--timeseries-interval 1s",
        r"--timeseries-interval must be given with --timeseries-out",
    ),
    flags(
        "inconsistent",
        "--async-scheduling --no-async-scheduling",
        r"--async-scheduling must not be given together with --no-async-scheduling",
    ),
    flags("duplicate", "--seed 1 --seed 2", r"--seed must be given once; got 1 and 2"),
    flags("duplicate", "--tp 1 --tp=2", r"--tp must be given once; got 1 and 2"),
    flags("duplicate", "--rate 1 --request-rate 2", r"--request-rate must agree with --rate"),
    flags("duplicate", "--seed 1 --set seed=2", r"--seed must agree with --set seed"),
    flags(
        "duplicate", "--goodput ttft:1 ttft:2", r"--goodput ttft must be given once; got 1 and 2"
    ),
    flags(
        "duplicate",
        "--prompt-tokens 5 --random-input-len 6",
        r"--random-input-len must agree with --prompt-tokens",
    ),
    flags("empty", "--model=", r"--model must have a value; got an empty one"),
    flags("empty", "--goodput=", r"--goodput must be limits in ms"),
    flags("empty", "--percentile-metrics=,", r"--percentile-metrics must be a known name; got ''"),
    # -- trace ----------------------------------------------------------------
    Case("trace", "missing", "--trace t.csv", r"t\.csv: trace must be a readable file; got: No s"),
    trace("missing", "arrival_s,prompt_tokens\n0,5\n", r"t\.csv:1: header must have the column o"),
    trace("malformed", TRACE + "1,2\n", r"t\.csv:3: row must have 3 cells"),
    trace(
        "malformed", "\0\1", r"t\.csv: trace must be a UTF-8 text file or Parquet; got binary data"
    ),
    trace("type", TRACE + "1,x,2\n", r"t\.csv:3: column prompt_tokens must be .*; got 'x'"),
    trace("range", TRACE + "1,-2,2\n", r"t\.csv:3: column prompt_tokens must be .*; got '-2'"),
    trace("inconsistent", TRACE, r"--workload must not be set when", "--workload chatbot"),
    trace(
        "inconsistent", TRACE, r"--rate-scale must not be set together", "--rate 1 --rate-scale 2"
    ),
    trace(
        "inconsistent",
        "arrival_s,prompt_tokens,output_tokens,prefix_group,prefix_tokens\n0,5,2,a,6\n",
        r"t\.csv:2: column prefix_tokens must be .*; got '6'",
    ),
    trace(
        "duplicate",
        "arrival_s,arrival_s,prompt_tokens,output_tokens\n0,0,5,2\n",
        r"t\.csv:1: column 'arrival_s' must be there once",
    ),
    trace("empty", "", r"t\.csv: trace must have at least one request; got no text"),
    trace("empty", TRACE.splitlines()[0], r"t\.csv: trace must have at least one request"),
    # -- model ----------------------------------------------------------------
    Case("model", "missing", "--model llama-9", r"--model must be a known name; .*nearest: "),
    Case("model", "missing", "--model-config-folder m", r"must be an existing folder .*got m"),
    model("missing", r"config\.json: hidden_size must be .*; it is missing", hidden_size=None),
    Case(
        "model",
        "malformed",
        "--model-config-folder m",
        r"config\.json:1:2 must be valid JSON",
        {"m/config.json": "{"},
    ),
    model("type", r"hidden_size must be a positive integer; got 'x'", hidden_size="x"),
    model("range", r"num_hidden_layers must be a positive integer; got 0", num_hidden_layers=0),
    model("inconsistent", r"num_key_value_heads must be a divisor of", num_attention_heads=30),
    Case("model", "duplicate", "--model a --model b", r"--model must be given once; got a and b"),
    Case(
        "model",
        "empty",
        "--model-config-folder m",
        r"config\.json:1:1 must be valid JSON",
        {"m/config.json": ""},
    ),
    # -- hardware -------------------------------------------------------------
    Case("hardware", "missing", "--hardware H1000", r"--hardware must be a known name; .*: H100"),
    Case(
        "hardware", "missing", "--hardware-config h.json", r"h\.json must be a readable hardware"
    ),
    hardware("missing", '{"X": {}}', r"hardware must be a GPU of h\.json; got 'H100'"),
    hardware(
        "missing",
        '{"X": {"TFlopsPeak": 1}}',
        r"h\.json:1: X must give TFlopsPeak and BwPeakTBs.*missing: BwPeakTBs",
        "--hardware X",
    ),
    hardware("malformed", '{"H100": ', r"h\.json:1:\d+ must be valid JSON"),
    hardware(
        "malformed", '{"H100": {"TFlops": 1}}', r"h\.json:1: H100\.TFlops must be a known key"
    ),
    hardware(
        "type", '{"H100": {"TFlopsPeak": "x"}}', r"h\.json:1: H100\.TFlopsPeak must be a fin"
    ),
    hardware("type", '{"H100": 5}', r"h\.json:1: H100 must be a JSON object of constants"),
    hardware("range", '{"H100": {"mfuDecode": 2}}', r"h\.json:1: H100\.mfuDecode must be .*<= 1"),
    hardware(
        "inconsistent",
        '{"H100": {"TFlopsPeak": 1, "MemoryGiB": 9}}',
        r"hardware must hold the weights of|tensor_parallel_size must be >= \d+",
    ),
    hardware("duplicate", '{"H100": {}, "H100": {}}', r"h\.json:1 must name each GPU once"),
    hardware(
        "duplicate",
        '{"H100": {"mfuDecode": 0.1, "MFUDECODE": 0.2}}',
        r"h\.json:1: H100 must hold each key once",
    ),
    hardware("empty", "", r"h\.json:1:1 must be valid JSON"),
    hardware("empty", "{}", r"h\.json must be a JSON object of GPU name .* at least one GPU"),
    # -- coefficients ---------------------------------------------------------
    Case("coefficients", "missing", "--coefficients-file c.csv", r"c\.csv"),
    coefficients("missing", HEADER + ROW, r"c\.csv must have a row for .*nearest: ", "--tp 2"),
    Case(
        "coefficients",
        "missing",
        "--latency-model blackbox --model qwen3-14b",
        r"the shipped coefficients must have a row for .*nearest: ",
    ),
    coefficients("malformed", "a,b\n1,2\n", r"c\.csv"),
    coefficients("type", HEADER + ROW.replace("1,1\n", "1,x\n"), r"c\.csv:2.*got 'x'"),
    coefficients("range", HEADER + ROW.replace("1,1\n", "1,-1\n"), r"c\.csv:2.*got '?-1"),
    coefficients(
        "inconsistent",
        HEADER + ROW,
        r"--coefficients-file must not be set together with --alpha-coeffs and --beta-coeffs",
        "--alpha-coeffs 1,1,1 --beta-coeffs 1,1,1",
    ),
    coefficients("duplicate", HEADER.replace("\n", ",tp\n") + ROW, r"c\.csv"),
    coefficients("empty", "", r"c\.csv"),
    coefficients("empty", HEADER, r"c\.csv"),
    # -- output ---------------------------------------------------------------
    output("missing", "--results-path no/r.json", r"--results-path must be a file in an existing"),
    output(
        "missing", "--save-result --result-dir no", r"--save-result must be a file in an exist"
    ),
    output(
        "malformed", "--timeseries-out x.txt", r"--timeseries-out must be a file ending in \.cs"
    ),
    output("malformed", "--results-path .", r"--results-path must be a file; got the folder \."),
    output(
        "inconsistent",
        "--trace t.csv --timeseries-out t.csv",
        r"--timeseries-out must be another file than the input t\.csv",
        **{"t.csv": TRACE},
    ),
    output(
        "duplicate", "--results-path out.json", r"--results-path must be another file than that"
    ),
    output("empty", "--results-path=", r"--results-path must have a value; got an empty one"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_line_and_nothing_written(
    case: Case,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit 2, one line that names what to fix, no traceback, no file made or changed."""
    monkeypatch.chdir(tmp_path)
    for name, text in {"out.json": "old", **case.files}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    outputs = ["--json", "out.json", "--requests-out", "out.csv"]
    code = main(["run", *case.arguments.split(), *outputs])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith("blis: error: ")
    assert re.search(case.message, captured.err), captured.err
    assert code == 2
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert (tmp_path / "out.json").read_text() == "old"


def test_every_kind_and_class_is_there() -> None:
    """The table has a case, or a reason why there can be none."""
    covered = {(case.kind, case.failure) for case in CASES}
    assert covered.isdisjoint(MEANINGLESS)
    assert covered | set(MEANINGLESS) == set(product(KINDS, CLASSES))
