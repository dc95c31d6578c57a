"""``blis validate`` as a user calls it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from blis_sim.catalog.paths import configs_dir
from blis_sim.cli.main import main
from tests.cli.calls import refusal
from tests.validation.tables import FAST, MEASURED, row, served, write_requests, write_table

EXAMPLE = configs_dir() / "validation"
DOCS = Path(__file__).resolve().parents[2] / "docs/validation.md"
SET = [word for text in FAST for word in ("--set", text)]
FIGURES = dict.fromkeys(MEASURED, "40") | {"n_requests": "20", "makespan_s": "4.05"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def table() -> str:
    """Write a table: two stages, an experiment of another role, and one of an unknown GPU."""
    two = {"stage_rates": "5|10", "stage_durations_s": "4|3", "workload": "chat"}
    rows = [
        *(row(stage=stage, **two, **FIGURES) for stage in (-1, 0, 1)),
        row(exp_id="b", role="calib", gpu="H100-80GB-HBM3-SXM", e2e_mean_ms=44, kv_offload=1),
        row(exp_id="c", gpu="X1000", stage=0, ttft_mean_ms=9, e2e_mean_ms=44),
    ]
    return str(write_table(Path("runs.csv"), rows))


def validated(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Return the JSON document of the command."""
    assert main(["validate", *arguments, *SET, "--json", "-"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_every_row_is_in_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    """In the order of the table, as it was written; stages are whole numbers."""
    document = validated(capsys, "--runs", table())
    rows = document["experiments"]
    names = ("dataset", "exp_id", "stage", "role", "model", "gpu", "tp")
    model = "Qwen/Qwen3-14B"
    assert [tuple(each[name] for name in names) for each in rows] == [
        ("made", "a", -1, "dev", model, "H100", 1),
        ("made", "a", 0, "dev", model, "H100", 1),
        ("made", "a", 1, "dev", model, "H100", 1),
        ("made", "b", -1, "calib", model, "H100-80GB-HBM3-SXM", 1),
        ("made", "c", 0, "dev", model, "X1000", 1),
    ]
    assert list(rows[0]["metrics"]) == [*MEASURED, "request_throughput"]
    assert list(rows[3]["metrics"]) == ["e2e_mean_ms"]
    each = rows[3]["metrics"]["e2e_mean_ms"]
    assert list(each) == ["measured", "predicted", "error_pct"]
    assert each["measured"] == 44
    assert each["error_pct"] == pytest.approx(100 * (each["predicted"] / 44 - 1))
    assert "reason" not in rows[3]
    assert "KV offload" in rows[3]["notices"][0]


def test_what_was_not_simulated_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """With 100 % of error, and its reason, in the summary too."""
    document = validated(capsys, "--runs", table())
    bad = document["experiments"][-1]
    assert "hardware must be a known name; got 'X1000'" in bad["reason"]
    none = {"predicted": None, "error_pct": 100}
    assert bad["metrics"] == {
        "ttft_mean_ms": {"measured": 9, **none},
        "e2e_mean_ms": {"measured": 44, **none},
    }
    assert (document["num_rows"], document["num_not_simulated"]) == (5, 1)
    errors = [each["metrics"]["e2e_mean_ms"]["error_pct"] for each in document["experiments"]]
    summary = document["summary"]["e2e_mean_ms"]
    assert list(summary) == ["mape", "median_ape", "bias", "n"]
    assert summary["n"] == 5
    assert summary["bias"] == pytest.approx(sum(errors) / 5)
    assert summary["mape"] == pytest.approx(sum(map(abs, errors)) / 5)
    assert document["summary"]["request_throughput"]["n"] == 3
    groups = document["by"]
    assert set(groups) == {"model", "gpu", "model_gpu", "tp", "load", "in_flight"}
    assert document["summary_simulated"]["e2e_mean_ms"]["n"] == 4
    assert {name: of["e2e_mean_ms"]["n"] for name, of in groups["gpu"].items()} == {
        "H100": 4,
        "X1000": 1,
    }
    assert groups["gpu"]["X1000"]["e2e_mean_ms"] == {
        "mape": 100,
        "median_ape": 100,
        "bias": 100,
        "n": 1,
    }


def test_the_table_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """Measured, predicted, error of each stage; what they amount to; reasons and notes."""
    assert main(["validate", "--runs", table(), *SET]) == 0
    text = capsys.readouterr().out
    assert "made a (dev): Qwen/Qwen3-14B on H100 TP1, chat, blackbox\nall    measured" in text
    assert "made c (dev): Qwen/Qwen3-14B on X1000 TP1, not simulated\n0      measured" in text
    assert re.search(r"^ +error % +[+-]\d+\.\d", text, re.MULTILINE)
    assert "Errors in % over 5 rows" in text
    for title in ("By model", "By tensor parallel size"):
        assert f"\n{title}\n" not in text  # there is only one
    assert "\nBy GPU\n" in text
    assert "note: 1 row could not be simulated: every error of them counts as 100 %" in text
    assert "note: KV offload to CPU memory is not simulated" in text


def test_json_goes_to_a_file_beside_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    """And --quiet leaves it alone."""
    assert main(["validate", "--runs", table(), *SET, "--json", "e.json"]) == 0
    assert "Errors in %" in capsys.readouterr().out
    whole = json.loads(Path("e.json").read_text(encoding="utf-8"))
    assert main(["validate", "--runs", "runs.csv", *SET, "--json", "q.json", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert json.loads(Path("q.json").read_text(encoding="utf-8")) == whole


def test_roles_seeds_and_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    """Only some experiments, simulated several times, all with another setting."""
    runs = table()
    document = validated(capsys, "--runs", runs, "--role", "calib")
    assert [each["exp_id"] for each in document["experiments"]] == ["b"]
    assert len(validated(capsys, "--runs", runs, "--role", "calib,dev")["experiments"]) == 5

    def predicted(*arguments: str) -> float:
        document = validated(capsys, "--runs", runs, "--role", "calib", *arguments)
        value: float = document["experiments"][0]["metrics"]["e2e_mean_ms"]["predicted"]
        return value

    one, two = (predicted("--set", f"seed={seed}") for seed in (42, 43))
    assert one != two
    assert predicted("--seeds", "2") == pytest.approx((one + two) / 2)
    assert predicted("--set", "workload.output=16") > 1.5 * one


def test_the_latency_model_is_chosen_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    """By its flag; it is said which one answered."""
    arguments = ["validate", "--runs", table(), "--latency-model", "roofline-v1", "--json", "-"]
    assert main(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    models = [each["latency_model"] for each in document["experiments"]]
    assert models == ["roofline-v1"] * 4 + [None]
    assert document["asked"]["overrides"] == ["latency.model=roofline-v1"]


def test_nothing_that_could_be_simulated_is_a_failure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """All rows are there, and the exit code is 1."""
    write_table(Path("runs.csv"), [row(gpu="X1", e2e_mean_ms=4)])
    assert main(["validate", "--runs", "runs.csv", "--json", "-"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["summary"]["e2e_mean_ms"]["mape"] == 100
    assert "nothing could be simulated" in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--runs", "x.csv"], "x.csv must be a readable CSV file; got: No such file"),
        (["--runs", "x.json"], "x.json must be a readable UTF-8 JSON file"),
        (["--runs", "runs.csv", "--role", "test"], "--role must be of roles in the table (dev"),
        (["--runs", "runs.csv", "--seeds", "0"], "--seeds must be at least 1; got 0"),
        (["--runs", "runs.csv", "--jobs", "0"], "--jobs must be at least 1; got 0"),
        (["--runs", "runs.csv", "--gpu", "H200"], "--hardware must not be given with a table"),
        (["--runs", "runs.csv", "--set", "engine.seqs=1"], "engine.seqs must be a known name"),
        (["--runs", "runs.csv", "--latency-model", "v3"], "--latency-model must be auto, "),
        (["--runs", "runs.csv", "--json", "runs.csv"], "--json must be another file than that"),
        (["--runs", "runs.csv", "--json", "no/e.json"], "--json must be a file in an existing"),
        (["--runs", "runs.csv", "--rate", "4"], "--rate must be a known flag; nearest: "),
        (
            ["--runs", "runs.csv", "--engine", "sglan"],
            "--engine must be a known name; got 'sglan'",
        ),
        (
            ["--runs", "runs.csv", "--sample", "0"],
            "--sample must be a whole number >= 1, or all; got '0'",
        ),
        (
            ["--runs", "runs.csv", "--sample", "few"],
            "--sample must be a whole number >= 1, or all",
        ),
        (["--runs", "g.json", "--sample", "1"], "--sample must be given with a table of runs"),
        (["--runs", "runs.csv", "--silicon"], "--silicon must not be given with --runs; got both"),
        (["--silicon", "--engine", "tgi"], "--engine must be a known name; got 'tgi'"),
        (["--silicon", "--role", "dev"], "--role must be of roles in the table (none)"),
        (["--requests", "r.jsonl"], "--hardware must be given with --requests that no table"),
        (["--requests", "r.jsonl", "--gpu", "H100"], "r_meta.json must say how the server was"),
        (["--requests", "r.jsonl", "--role", "dev"], "--role must be given with --runs"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """Before anything is simulated."""
    table()
    write_requests(Path("r.jsonl"), [served(0)])
    assert message in refusal(capsys, "validate", *arguments)


def test_a_wrong_cell_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """With file, line and column: nothing is simulated."""
    write_table(Path("runs.csv"), [row(), row(exp_id="b", tp="two")])
    line = refusal(capsys, "validate", "--runs", "runs.csv")
    assert line == "runs.csv:3:tp must be a whole number of GPUs >= 1; got 'two'"


def test_requests_with_the_words_of_their_server(capsys: pytest.CaptureFixture[str]) -> None:
    """Alone, or beside a table that does not name them."""
    meta = {"model": "Qwen/Qwen3-14B", "vllm_version": "0.19.0", "engine_kwargs": {}}
    Path("s_meta.json").write_text(json.dumps(meta), encoding="utf-8")
    write_requests(Path("s_requests.jsonl"), [served(n) for n in range(5)])
    arguments = ["--requests", "s_requests.jsonl", "--hardware", "H100"]
    (requests,) = validated(capsys, *arguments)["requests"]
    assert (requests["file"], requests["num_completed"]) == ("s_requests.jsonl", 5)
    assert list(requests["times"]) == ["ttft_ms", "tpot_ms", "e2e_ms"]
    assert list(requests["times"]["ttft_ms"]) == [
        *("measured", "predicted", "error_pct"),
        *("median_abs_error_pct", "wasserstein_ms"),
    ]
    both = validated(capsys, *arguments, "--runs", table())
    assert (len(both["experiments"]), len(both["requests"])) == (5, 1)
    assert main(["validate", *arguments, *SET]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Requests one by one, s_requests.jsonl: Qwen/Qwen3-14B on H100 TP1, 5")


def test_requests_that_the_table_names(capsys: pytest.CaptureFixture[str]) -> None:
    """Are compared anyway, and need no words of a server."""
    write_requests(Path("r.jsonl"), [served(n) for n in range(5)])
    cells = {"requests_file": "r.jsonl", "stage_rates": "", "stage_durations_s": ""}
    write_table(Path("runs.csv"), [row(**cells, ttft_mean_ms=100)])
    alone = validated(capsys, "--runs", "runs.csv")
    assert len(alone["requests"]) == 1
    both = validated(capsys, "--runs", "runs.csv", "--requests", "r.jsonl")
    assert both["requests"] == alone["requests"]


# -- what is shipped ----------------------------------------------------------


def test_without_arguments_the_shipped_runs_are_compared(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From any folder, rows of licensed sources only; it is said which file."""
    assert main(["validate", *SET, "--json", "-"]) == 0
    captured = capsys.readouterr()
    assert "the shipped measurements are compared, bench_data/serving/runs.csv" in captured.err
    document = json.loads(captured.out)
    assert document["asked"]["runs"] == "bench_data/serving/runs.csv"
    assert document["num_not_simulated"] == 0
    datasets = [each["dataset"] for each in document["experiments"]]
    assert datasets == ["kubecon_h100"] * 3 + ["llmservingsim_bench"]
    (served_requests,) = document["requests"]
    assert served_requests["num_completed"] == 300
    assert "roles in the table (dev)" in refusal(capsys, "validate", "--role", "x", "--quiet")


def test_the_shipped_sample_of_servers_at_fixed_load(capsys: pytest.CaptureFixture[str]) -> None:
    """One of each deployment here; what is not in the table is counted."""
    few = ["--set", "workload.output=4", "--set", "workload.num_requests=3"]
    arguments = ["--silicon", "--sample", "1", "--engine", "sglang", *few]
    assert main(["validate", *arguments, *SET, "--json", "s.json"]) == 0
    captured = capsys.readouterr()
    assert "silicon.csv: 1 of each model, GPU and TP are compared; --sample all" in captured.err
    document = json.loads(Path("s.json").read_text(encoding="utf-8"))
    assert document["asked"]["runs"] == "bench_data/serving/silicon.csv"
    assert (document["asked"]["engine"], document["asked"]["sample"]) == ("sglang", 1)
    rows = document["experiments"]
    assert len(rows) == len({(r["model"], r["gpu"], r["tp"]) for r in rows}) > 5
    assert all(row["requests_in_flight"] >= 1 for row in rows)
    assert {each["engine"] for each in document["left_out"]} == {"SGLang"}
    text = captured.out
    assert text.startswith("Errors in % over ")
    assert "Not in the table: 1,240 published rows, not simulated\n" in text
    assert "the server was SGLang 0.5.9; vLLM is simulated" in text


def test_rows_that_were_simulated_have_a_summary_of_their_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Beside the one in which the others count as 100 %."""
    assert main(["validate", "--runs", table(), *SET]) == 0
    assert re.search(r"^those simulated +4  MAPE", capsys.readouterr().out, re.MULTILINE)


def test_the_shipped_runs_are_the_published_ones() -> None:
    """Cell by cell, but for means of requests that the file has one by one."""
    from blis_sim.validation.read_runs import read_runs
    from blis_sim.validation.shipped import RUNS, shipped

    published = DOCS.parents[2] / "shared/data/measured/serving_runs.csv"
    if not published.is_file():
        pytest.skip(f"{published} is not there")
    named = {(r.dataset, r.exp_id): r for r in read_runs(published)}
    for record in read_runs(shipped(RUNS)):
        other = named[record.dataset, record.exp_id]
        for name in ("model", "gpu", "tp", "engine", "stage_rates", "prompt_tokens"):
            assert getattr(record, name) == getattr(other, name)
        assert [r.measured for r in record.rows] == [r.measured for r in other.rows]


# -- the shipped example --------------------------------------------------


def test_the_example_works_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """From any folder; its figures are made up and say so."""
    document = validated(capsys, "--runs", str(EXAMPLE / "example.csv"))
    assert document["num_not_simulated"] == 0
    assert {each["dataset"] for each in document["experiments"]} == {"example"}
    lines = (EXAMPLE / "example.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert all(",made up," in line for line in lines)


def test_the_python_of_the_page_works(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It prints a line for each figure of the example."""
    monkeypatch.chdir(DOCS.parents[1])
    (code,) = re.findall(
        r"^```python\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    exec(code, {})
    assert capsys.readouterr().out.count("MAPE") == 6


def test_every_column_is_described() -> None:
    """The page has a row for each column of the table, and for no other."""
    from tests.validation.tables import COLUMNS

    text = DOCS.read_text(encoding="utf-8").partition("## The table")[2].partition("## ")[0]
    cells = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| `")]
    described = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert described == {*COLUMNS, "ttft_p90_ms", "e2e_p90_ms"}
