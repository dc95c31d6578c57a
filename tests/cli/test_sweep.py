"""``blis sweep`` as a user calls it."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from blis_sim.capacity.store import ResultStore
from blis_sim.cli.main import main
from blis_sim.cli.sweep_points import read_axes, read_records
from blis_sim.errors import ConfigError
from tests.cli.calls import refusal

SHORT = ["--num-requests", "5", "--latency-model", "blackbox", "--jobs", "1"]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def swept(capsys: Capture, *arguments: str) -> list[dict[str, Any]]:
    """Return the points of a sweep that must succeed, without a store unless one is named."""
    kept = [] if "--store" in arguments else ["--no-store"]
    assert main(["sweep", *SHORT, *kept, *arguments, "--json", "-"]) == 0
    points: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["points"]
    return points


def labels(capsys: Capture, *arguments: str) -> list[dict[str, Any]]:
    return [point["labels"] for point in swept(capsys, *arguments)]


def shown(capsys: Capture, *arguments: str, code: int = 0) -> tuple[str, str]:
    assert main(["sweep", *SHORT, *arguments]) == code
    captured = capsys.readouterr()
    return captured.out, captured.err


# -- grids ----------------------------------------------------------------------


def test_a_point_is_what_blis_run_says(capsys: Capture) -> None:
    """The flags of a run mean the same here, and an axis is as its flag."""
    flags = ["--workload", "chatbot", "--seed", "5", "--goodput", "ttft:20", "--hardware", "H100"]
    points = swept(capsys, *flags, "--grid", "rate=3,6", "--grid", "max-num-seqs=4")
    run_flags = [*SHORT[:-2], *flags, "--rate", "6", "--max-num-seqs", "4"]
    assert main(["run", *run_flags, "--json", "-"]) == 0
    run = json.loads(capsys.readouterr().out)
    metrics = points[1]["metrics"]
    shared = set(metrics) & set(run)
    assert {"mean_ttft_ms", "p99_itl_ms", "request_goodput", "duration"} <= shared
    assert {key: metrics[key] for key in shared} == {key: run[key] for key in shared}
    assert points[1]["scenario_sha256"] == run["manifest"]["scenario_sha256"]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("rate", "workload.request_rate"),
        ("request-rate", "workload.request_rate"),
        ("workload.rate", "workload.request_rate"),
        ("workload.request_rate", "workload.request_rate"),
        ("tp", "engine.tensor_parallel_size"),
        ("engine.tp", "engine.tensor_parallel_size"),
        ("max_num_seqs", "engine.max_num_seqs"),
        ("num-instances", "cluster.num_instances"),
        ("seed", "seed"),
    ],
)
def test_names_of_settings(name: str, path: str) -> None:
    """Paths, flags, and flags below a path."""
    (each,) = read_axes([f"{name}=2"])
    assert (each.path, each.values) == (path, (2,))


def test_two_names_of_one_setting_are_one_axis_too_many(capsys: Capture) -> None:
    message = "--grid must name a setting once; got workload.request_rate 2 times"
    line = refusal(capsys, "sweep", "--grid", "rate=1", "--grid", "workload.request_rate=2")
    assert line.startswith(message)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--grid", "ratee=1"], "--grid ratee must be a known name; got 'ratee'; nearest: "),
        (["--grid", "engine.seqs=1"], "--grid engine.seqs must be a known name"),
        (["--grid", "rate=1", "--rate", "2"], "--grid must name a setting that nothing else sets"),
        (["--grid", "seed=1:1000", "--grid", "rate=1:1000"], "a study must have at most 100,000"),
        (["--grid", "rate=-1,2"], "--grid workload.request_rate must be "),
        ([], "blis sweep must have something to vary; got nothing; give --grid"),
        (["--grid", "rate=1", "--slo", "p99:5"], "--slo metric must be a known name"),
        (["--grid", "rate=1", "--metrics", "ttft"], "--metrics must be a known name; got 'ttft'"),
        (["--grid", "rate=1", "--replications", "0"], "--replications must be at least 1; got 0"),
        (["--grid", "rate=1", "--no-store", "--store", "x"], "--no-store must not be given toge"),
        (["--grid", "rate=1", "--json", "-", "--csv", "-"], "--csv must not be - together with"),
        (["--grid", "rate=1", "--csv", "blis_study.db"], "--csv must be another file than the st"),
        (
            ["--grid", "rate=1", "--json", "a", "--csv", "a"],
            "--csv must be another file than that",
        ),
        (["--grid", "rate=1", "--store", "."], "--store must be a file; got the folder ."),
        (["--grid", "hardware=T4"], "tensor_parallel_size must be >= 2 (the smallest that fits)"),
        (["--grid", "rate=1", "--trace", "no.csv"], "no.csv"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: list[str], line: str, capsys: Capture) -> None:
    """Exit 2; nothing is left but a store where one was made."""
    assert refusal(capsys, "sweep", "--num-requests", "3", *arguments).startswith(line)
    assert {path.name for path in Path().iterdir()} <= {
        "blis_study.db",
        ".blis_study.db.lock",
    }


def test_jobs_are_those_of_the_cluster(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", object())
    line = refusal(capsys, "sweep", "--grid", "rate=1", "--backend", "ray://h:1", "--jobs", "3")
    assert line.startswith("--jobs must not be given with --backend ray://; got 3: the workers")


def test_a_wrong_trace_names_file_and_line(capsys: Capture) -> None:
    Path("bad.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,5,5\n1,x,5\n")
    line = refusal(
        capsys, "sweep", "--trace", "bad.csv", "--grid", "hardware=H100,H200", "-j", "1"
    )
    assert line.startswith("bad.csv:3: column prompt_tokens must be a whole number")


# -- records --------------------------------------------------------------------


def write(name: str, value: Any) -> str:
    Path(name).write_text(
        json.dumps(value) if name.endswith("json") else yaml.safe_dump(value, sort_keys=False)
    )
    return name


@pytest.mark.parametrize("name", ["p.json", "p.yaml"])
def test_a_list_of_records(name: str, capsys: Capture) -> None:
    """As vllm bench sweep takes them: flags of a run, with hyphens or without."""
    file = write(name, [{"max_num_seqs": 4}, {"max-num-seqs": 8, "tp": 2}])
    assert labels(capsys, "--serve-params", file, "--grid", "rate=1,2") == [
        {"engine.max_num_seqs": 4, "workload.request_rate": 1},
        {"engine.max_num_seqs": 4, "workload.request_rate": 2},
        {"engine.max_num_seqs": 8, "engine.tensor_parallel_size": 2, "workload.request_rate": 1},
        {"engine.max_num_seqs": 8, "engine.tensor_parallel_size": 2, "workload.request_rate": 2},
    ]


def test_named_records_of_both_files(capsys: Capture) -> None:
    """Every pair of both; names are labels."""
    serve = write("s.yaml", {"small": {"max_num_seqs": 4}, "large": {"max_num_seqs": 64}})
    bench = write(
        "b.json",
        [
            {"_benchmark_name": "slow", "request_rate": 1, "num_prompts": 4},
            {"_benchmark_name": "fast", "request_rate": 9, "num_prompts": 4},
        ],
    )
    both = ["--serve-params", serve, "--bench-params", bench]
    arguments = ["--latency-model", "blackbox", "--jobs", "1", "--no-store", *both]
    assert main(["sweep", *arguments, "--json", "-"]) == 0
    points = json.loads(capsys.readouterr().out)["points"]
    assert [(point["labels"], point["request_rate"]) for point in points] == [
        ({"serve": "small", "bench": "slow"}, 1),
        ({"serve": "small", "bench": "fast"}, 9),
        ({"serve": "large", "bench": "slow"}, 1),
        ({"serve": "large", "bench": "fast"}, 9),
    ]


def test_switches_of_records(capsys: Capture) -> None:
    """True switches on, false off, and --no-... the other way round."""
    records = {
        "1": {"enable_prefix_caching": True},
        "2": {"enable_prefix_caching": False},
        "3": {"no_enable_prefix_caching": True},
        "4": {"no-enable-prefix-caching": False},
    }
    file = write("p.yaml", records)
    assert main(["sweep", *SHORT, "--serve-params", file, "--store", "a.db", "--quiet"]) == 0
    with ResultStore(Path("a.db"), is_read_only=True) as store:
        scenarios = [point.scenario["engine"] for point in store.study().points]
    assert [each["enable_prefix_caching"] for each in scenarios] == [True, False, False, True]


def test_a_switch_is_called_by_what_it_makes_of_its_setting() -> None:
    """Else what is on and what is off would be runs of the same row."""
    file = write("p.yaml", [{"enable_prefix_caching": True}, {"no_enable_prefix_caching": True}])
    found = [record.labels for record in read_records(file, "--serve-params")]
    path = "engine.enable_prefix_caching"
    assert found == [{path: True}, {path: False}]


@pytest.mark.parametrize(
    ("serve", "bench", "called"),
    [
        (
            [
                {"_benchmark_name": "a", "max_num_seqs": 4},
                {"_benchmark_name": "a", "max_num_seqs": 8},
            ],
            [{}],
            "name=a",
        ),
        ([{"max_num_seqs": 4, "tp": 2}, {"tp": 2, "max-num-seqs": 4}], [{}], "tensor_parallel"),
        ([{}, {"_benchmark_name": "a"}], [{"_benchmark_name": "a"}, {}], "name=a"),
        ([{}, {}], [{}], "the scenario"),
    ],
)
def test_records_that_cannot_be_told_apart(
    serve: Any, bench: Any, called: str, capsys: Capture
) -> None:
    """They would be runs of one row, and its figures means of different settings."""
    files = ["--serve-params", write("s.json", serve), "--bench-params", write("b.json", bench)]
    line = refusal(capsys, "sweep", *SHORT, *files)
    assert line.startswith("records must differ; got two that are called ")
    assert called in line


def test_json_as_other_tools_write_it(capsys: Capture) -> None:
    """Tabs, a byte order mark, and a rate without end are no YAML."""
    text = (
        '\ufeff[\n\t{"request_rate": Infinity, "random_input_len": 64,\t"random_output_len": 8}\n]'
    )
    Path("b.json").write_text(text)
    (point,) = swept(capsys, "--bench-params", "b.json")
    assert point["labels"]["workload.request_rate"] == "inf"
    assert point["request_rate"] == "inf"
    assert main(["sweep", "--bench-params", "b.json", "--dry-run"]) == 0
    words = "request_rate=inf, workload.prompt.mean=64, workload.output.mean=8"
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ([{"max_num_seq": 4}], "--serve-params p.yaml: flag must be a known name; got 'max_num_s"),
        ([{"json": "x"}], "--serve-params p.yaml: flag must be a known name; got 'json'"),
        ([{"quiet": True}], "--serve-params p.yaml: flag must be a known name; got 'quiet'"),
        (
            [{"max_num_seqs": None}],
            "--serve-params p.yaml: max_num_seqs must have a value; got No",
        ),
        ([{"enable_prefix_caching": 1}], "--serve-params p.yaml: enable_prefix_caching must be t"),
        ([3], "--serve-params must be a list of records such as {max_num_seqs: 64}, or such reco"),
        (3, "--serve-params must be a list of records such as"),
        ({"a": 3}, "--serve-params must be a list of records such as"),
        ([], "--serve-params must hold records of flags; got an empty list in p.yaml"),
    ],
)
def test_wrong_records(value: Any, line: str) -> None:
    file = write("p.yaml", value)
    with pytest.raises(ConfigError, match=f"^{re.escape(line)}"):
        read_records(file, "--serve-params")


def test_a_wrong_value_in_a_record(capsys: Capture) -> None:
    """As if it had been typed."""
    line = refusal(capsys, "sweep", "--serve-params", write("p.yaml", [{"max_num_seqs": "many"}]))
    assert line.startswith("--max-num-seqs must be")


def test_records_that_cannot_be_read() -> None:
    Path("bad.yaml").write_text("[{a: ")
    with pytest.raises(
        ConfigError, match=r"^--x must be a readable file; got no\.yaml: No such f"
    ):
        read_records("no.yaml", "--x")
    with pytest.raises(ConfigError, match=r"^--x must be YAML or JSON; got bad\.yaml: "):
        read_records("bad.yaml", "--x")


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("p.json", '[{"max_num_seqs": 1, "max_num_seqs": 2}]', "p.json: max_num_seqs must be"),
        ("p.yaml", "- {rate: 1}\n- {tp: 1, tp: 2}", "p.yaml:2:11: 1.tp must be there once"),
        ("p.yaml", "a: {tp: 1}\na: {tp: 2}", "p.yaml:2:1: a must be there once"),
    ],
)
def test_keys_that_are_there_twice(name: str, text: str, line: str) -> None:
    """The last of them would win without a word."""
    Path(name).write_text(text)
    with pytest.raises(ConfigError, match=f"^{re.escape(line)}"):
        read_records(name, "--x")


# -- what it prints and keeps ---------------------------------------------------


def test_the_table_and_the_answer(capsys: Capture) -> None:
    """A line per combination with its units, the limits kept, reasons, and one sentence."""
    flags = ["--grid", "hardware=H100,T4", "--grid", "rate=2,4", "--slo", "p99_ttft_ms:40"]
    out, err = shown(capsys, *flags, "--no-store")
    lines = out.splitlines()
    assert lines[1].split()[:4] == ["hardware", "request_rate", "mean", "ttft"]
    assert lines[1].split()[-2:] == ["cost", "SLO"]
    assert lines[2].split() == [*["ms"] * 5, "tok/s", "tok/s/GPU", "$/M", "tok"]
    assert [line.split()[:2] for line in lines[4:8]] == [
        ["H100", "2"],
        ["H100", "4"],
        ["T4", "2"],
        ["T4", "4"],
    ]
    assert {line.split()[-1] for line in lines[4:6]} <= {"yes", "no"}
    assert "not simulated: hardware=T4, request_rate=2 and 1 more: " in out
    assert "p99 TTFT <= 40 ms" in lines[-1] + lines[-2]
    assert max(map(len, lines)) <= 130
    assert err.startswith("blis: note: 4 points: 4 simulated (10 requests, ")


def test_wide_tables_are_narrowed(capsys: Capture) -> None:
    """What all rows share stands below; long names are shortened, long headers broken."""
    models = "meta-llama/Llama-3.1-8B-Instruct,mistralai/Mistral-7B-Instruct-v0.3"
    axes = ["max_num_batched_tokens=2048,4096", "long_prefill_token_threshold=64", "rate=1"]
    axes += [f"model={models}", "enable_prefix_caching=true,false", "max_num_seqs=64"]
    flags = [part for each in axes for part in ("--grid", each)]
    arguments = ["--num-requests", "3", "--jobs", "1", "--no-store", *flags]
    assert main(["sweep", *arguments]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert max(map(len, lines)) <= 130
    assert lines[1].split()[:3] == ["max_num_", "model", "enable_"]
    assert lines[2].split()[:2] == ["batched_tokens", "prefix_caching"]
    assert " Mistral-7B-Instruct-v0.3 " in out
    assert "all rows: long_prefill_token_threshold=64, request_rate=1, max_num_seqs=64" in lines
    assert "left out for its width: output_throughput (--metrics shows it)" in lines
    metrics = [f"{what}_{tag}_ms" for what in ("mean", "p99") for tag in ("ttft", "tpot", "e2el")]
    assert main(["sweep", *arguments, "--metrics", ",".join([*metrics, "gpu_busy_frac"])]) == 0
    assert " gpu busy" in capsys.readouterr().out.splitlines()[1]


def test_means_over_replications(capsys: Capture) -> None:
    out, _ = shown(capsys, "--replications", "3", "--grid", "rate=2,4", "--no-store")
    assert "means of 3 runs; 95 % intervals are at most +- mean ttft " in out
    points = swept(capsys, "--num-runs", "3")
    assert [point["labels"] for point in points] == [{"replication": n} for n in range(3)]
    assert [point["seed"] for point in points] == [42, 43, 44]


def test_files_have_everything(capsys: Capture) -> None:
    flags = ["--grid", "hardware=H100,T4", "--no-store", "--csv", "a.csv", "--json", "a.json"]
    shown(capsys, *flags)
    with Path("a.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    document = json.loads(Path("a.json").read_text())
    assert [row["status"] for row in rows] == ["done", "infeasible"]
    assert rows[1]["mean_ttft_ms"] == ""
    assert rows[1]["reason"] == document["points"][1]["reason"]
    metrics = document["points"][0]["metrics"]
    assert float(rows[0]["mean_ttft_ms"]) == metrics["mean_ttft_ms"]
    assert metrics.keys() <= rows[0].keys()
    assert "ttft" in document["metric_definitions"]
    assert swept(capsys, "--grid", "hardware=H100,T4")[1]["status"] == "infeasible"
    assert main(["sweep", *SHORT, "--grid", "rate=1", "--no-store", "--csv", "-"]) == 0
    assert capsys.readouterr().out.startswith("workload.request_rate,status,")


def test_the_second_time_nothing_is_simulated(capsys: Capture) -> None:
    """The same table; only what is new is simulated."""
    first, err = shown(capsys, "--grid", "rate=1:4:1")
    assert err.startswith("blis: note: 4 points: 4 simulated (20 requests")
    assert "kept in blis_study.db" in err
    again, err = shown(capsys, "--grid", "rate=1:4:1")
    assert again == first
    assert err.startswith("blis: note: 4 points: 0 simulated (0 requests, 0.0 s of work), 4 were ")
    _, err = shown(capsys, "--grid", "rate=2:6:2")
    assert err.startswith("blis: note: 3 points: 1 simulated (5 requests, ")


def test_a_dry_run_simulates_nothing(capsys: Capture) -> None:
    """It lists the points, and how many are in the store."""
    out, err = shown(capsys, "--grid", "rate=1:20:1", "--dry-run")
    assert (out.splitlines()[:2], err) == (
        ["20 points, 0 of them in blis_study.db", "  request_rate=1"],
        "",
    )
    assert out.splitlines()[9:11] == ["  ... 9 more ...", "  request_rate=18"]
    assert list(Path().iterdir()) == []
    shown(capsys, "--grid", "rate=2:3:1")
    out, _ = shown(capsys, "--grid", "rate=1:3:1", "--dry-run")
    assert out.splitlines()[0] == "3 points, 2 of them in blis_study.db"


def test_quiet(capsys: Capture) -> None:
    assert shown(capsys, "--grid", "rate=1", "--quiet", "--no-store") == ("", "")


def test_results_of_other_versions_are_not_used(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are kept, and one line says so."""
    first, _ = shown(capsys, "--grid", "rate=1,2")
    for module in ("store", "point_key"):
        path = f"blis_sim.capacity.{module}.code_version"
        monkeypatch.setattr(path, lambda: "9.9.9+0123456789ab")
    out, err = shown(capsys, "--grid", "rate=1,2")
    notes = err.splitlines()
    assert notes[0] == (
        "blis: note: blis_study.db holds 2 results of other versions of the code or its data: "
        "they are kept, and not used"
    )
    assert notes[1].startswith("blis: note: 2 points: 2 simulated (10 requests")
    assert out == first


def test_a_store_in_use(capsys: Capture) -> None:
    with ResultStore(Path("blis_study.db")):
        line = refusal(capsys, "sweep", *SHORT, "--grid", "rate=1")
    assert line.startswith("--store must not be in use by another study; got blis_study.db, to wh")
