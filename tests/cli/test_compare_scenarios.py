"""Whole scenarios side by side: ``blis compare`` with scenarios, ``--vary``, ``--colocated``."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from blis_sim.cli.main import main
from tests.cli.calls import compared, refusal

FAST = "latency: {alpha: [0, 0, 0], beta: [5000, 10, 100]}\n"
LOAD = "workload: {num_requests: 20, request_rate: 8, preset: chatbot}\n"
FILES = {
    "one.yaml": FAST + LOAD,
    "four.yaml": f"{FAST}{LOAD}cluster: {{num_instances: 4}}\n",
    "pd.yaml": f"{FAST}{LOAD}cluster:\n  pools:\n"
    "    - {name: p, role: prefill}\n    - {name: d, role: decode, num_instances: 2}\n",
}


@pytest.fixture(autouse=True)
def _scenarios(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)


def of_files(*names: str) -> list[str]:
    return [argument for name in names for argument in ("--scenario", name)]


def names_of(rows: list[dict[str, Any]]) -> list[str]:
    return [row["name"] for row in rows]


def test_each_scenario_is_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    """Named by its file, each once, with what flags say of all."""
    files = of_files("one.yaml", "four.yaml", "pd.yaml", "one.yaml")
    rows = compared(capsys, *files, "--set", "engine.max_num_seqs=8", "--rate", "4")
    assert names_of(rows) == ["one", "four", "pd"]
    assert [row["num_instances"] for row in rows] == [1, 4, 3]
    assert [row["mean_gpus"] for row in rows] == [1, 4, 3]
    assert [row["deployment"] for row in rows] == [
        "H100",
        "4 x H100",
        "1 x H100 (prefill) + 2 x H100 (decode)",
    ]
    assert {row["request_rate"] for row in rows} == {4}
    assert len({row["total_output_tokens"] for row in rows}) == 1


def test_a_row_is_what_blis_run_says(capsys: pytest.CaptureFixture[str]) -> None:
    """Also of a cluster, for every metric both have."""
    flags = ["--set", "seed=5", "--num-requests", "15"]
    rows = compared(capsys, *of_files("one.yaml", "pd.yaml"), *flags)
    assert main(["run", "--scenario", "pd.yaml", *flags, "--json", "-"]) == 0
    document = json.loads(capsys.readouterr().out)
    run = document | document["cluster"]
    shared = set(rows[1]) & set(run)
    assert {"mean_ttft_ms", "gpu_hours", "num_transfers"} <= shared
    assert {key: rows[1][key] for key in shared} == {key: run[key] for key in shared}


def test_files_of_one_name_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    """By their paths."""
    Path("other").mkdir()
    Path("other/one.yaml").write_text(FILES["one.yaml"])
    rows = compared(capsys, *of_files("one.yaml", "other/one.yaml", "four.yaml"))
    assert names_of(rows) == ["one.yaml", "other/one.yaml", "four"]


def test_routers_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each value, each once; the load is the same."""
    values = "cluster.routing.policy=round-robin, least-loaded,weighted,round-robin"
    rows = compared(capsys, "--scenario", "four.yaml", "--vary", values)
    assert names_of(rows) == ["policy=round-robin", "policy=least-loaded", "policy=weighted"]
    assert len({row["total_output_tokens"] for row in rows}) == 1
    assert len({row["load_imbalance"] for row in rows}) > 1


def test_each_scenario_with_each_value(capsys: pytest.CaptureFixture[str]) -> None:
    """The scenarios outermost; without any the flags are one."""
    files = of_files("one.yaml", "four.yaml")
    rows = compared(capsys, *files, "--vary", "engine.max_num_seqs=4,8")
    assert names_of(rows) == [
        "one, max_num_seqs=4",
        "one, max_num_seqs=8",
        "four, max_num_seqs=4",
        "four, max_num_seqs=8",
    ]
    rows = compared(capsys, "--num-requests", "5", "--vary", "seed=1,2")
    assert [(row["name"], row["seed"]) for row in rows] == [("seed=1", 1), ("seed=2", 2)]


def test_values_that_are_lists_keep_their_commas(capsys: pytest.CaptureFixture[str]) -> None:
    """They are named by their number; quotes hold a value together, too."""
    pools = "[{name: 'a, [b', num_instances: 2}],[{name: c}, {name: d, num_instances: 3}]"
    rows = compared(capsys, "--scenario", "one.yaml", "--vary", f"cluster.pools={pools}")
    assert [(row["name"], row["num_instances"]) for row in rows] == [
        ("pools 1", 2),
        ("pools 2", 4),
    ]
    scorers = "'queue-depth:1,kv-utilization:2','queue-depth:1'"
    rows = compared(
        capsys, "--scenario", "four.yaml", "--vary", f"cluster.routing.scorers={scorers}"
    )
    assert names_of(rows) == [
        "scorers='queue-depth:1,kv-utilization:2'",
        "scorers='queue-depth:1'",
    ]


def test_disaggregation_beside_the_colocated_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    """The same GPUs, requests and answers; a scenario without pools stands alone."""
    rows = compared(capsys, *of_files("pd.yaml", "one.yaml"), "--colocated")
    assert names_of(rows) == ["pd", "pd, co-located", "one"]
    assert [row["deployment"] for row in rows[:2]] == [
        "1 x H100 (prefill) + 2 x H100 (decode)",
        "3 x H100",
    ]
    assert [row["num_transfers"] for row in rows[:2]] == [20, 0]
    for key in ("mean_gpus", "total_input_tokens", "total_output_tokens", "seed"):
        assert rows[0][key] == rows[1][key]


def test_flags_that_split_instances_have_a_twin(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a file the row is what was given."""
    split = ["--prefill-instances", "1", "--decode-instances", "1", "--num-requests", "5"]
    rows = compared(capsys, *split, "--colocated")
    assert names_of(rows) == ["as given", "as given, co-located"]
    assert [row["num_instances"] for row in rows] == [2, 2]


def test_a_twin_that_values_share_is_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    """The speed of links is nothing to it."""
    speeds = ["--vary", "cluster.disaggregation.link_gb_per_s=1,50"]
    rows = compared(capsys, "--scenario", "pd.yaml", *speeds, "--colocated")
    assert names_of(rows) == ["link_gb_per_s=1", "link_gb_per_s=50", "co-located"]
    assert rows[0]["mean_ttft_ms"] > rows[1]["mean_ttft_ms"]


def test_the_table_and_all_files(capsys: pytest.CaptureFixture[str]) -> None:
    """Goodput and GPU-hours are shown; a setting that some cannot have is a row with a reason."""
    pytest.importorskip("matplotlib", reason="plots need the plots extra")
    values = ["--vary", "cluster.routing.snapshot_interval_s=0,1", "--goodput", "ttft:50"]
    files = ["--csv", "c.csv", "--plot", "c.svg"]
    assert main(["compare", "--scenario", "four.yaml", *values, *files]) == 0
    out = capsys.readouterr().out
    header = next(line.split() for line in out.splitlines() if line.startswith("scenario"))
    assert header[:2] == ["scenario", "GPUs"]
    assert header[-2:] == ["goodput", "GPU-h"]
    assert "note: snapshot_interval_s=1: not simulated: cluster.routing.snapshot_interval_s" in out
    with Path("c.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [bool(line["not_simulated"]) for line in lines] == [False, True]
    assert "snapshot_interval_s=0" in Path("c.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [*of_files("one.yaml", "pd.yaml"), "--gpus", "H100,L40S"],
            "--gpus must be one value with several --scenario; got H100,L40S; leave one of them "
            "out, or use --vary hardware=H100,L40S",
        ),
        (["--colocated", "--rate", "1,2"], "--rate must be one value with --colocated; got 1,2"),
        (["--vary", "seed=1,2", "--tp", "1,2"], "--tp must be one value with --vary; got 1,2"),
        (["--vary", "seed"], "--vary must have the form a.b=v1,v2"),
        (["--vary", "seed=1,,2"], "--vary must have the form a.b=v1,v2"),
        (["--vary", "seed=1", "--vary", "seed=2"], "--vary must be given once; got seed=1 and"),
        (["--vary", "engine..a=1"], "--vary must have the form a.b=value"),
        (["--vary", "engine.a={b"], "--vary engine.a must have a YAML value; got '{b'"),
        (["--vary", "engine.max_seqs=1"], "--vary engine.max_seqs must be a known name"),
        (["--vary", "engine.max_num_seqs=1,x"], "--vary engine.max_num_seqs must be a whole"),
        (
            ["--vary", "cluster.num_instances=1,2", "--num-instances", "3"],
            "--vary must name a setting that nothing else sets; got one of --num-instances",
        ),
        (["--colocated"], "--colocated must be given with a scenario that has prefill and decode"),
        (of_files("one.yaml", "no.yaml"), "scenario must be a readable file; got no.yaml"),
        (
            [*of_files("one.yaml", "pd.yaml"), "--csv", "pd.yaml"],
            "--csv must be another file than an input; got pd.yaml",
        ),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, nothing on stdout, the flag by the name that was typed."""
    assert refusal(capsys, "compare", *arguments).startswith(message)


def test_too_many_values(capsys: pytest.CaptureFixture[str]) -> None:
    """A slip must not start a run of days."""
    many = ",".join(map(str, range(10_001)))
    assert main(["compare", "--vary", f"seed={many}"]) == 2
    assert "--vary must have at most 10,000 values; got 10,001" in capsys.readouterr().err
