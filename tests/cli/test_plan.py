"""``blis plan`` as a user calls it."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from blis_sim.capacity.store import ResultStore
from blis_sim.cli.main import main
from tests.cli.calls import refusal

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "planning.md"
ONE_AT_A_TIME = [
    *("--latency-model", "blackbox", "--alpha-coeffs", "0,0,0", "--beta-coeffs", "10000,0,0"),
    *("--max-num-seqs", "1", "--random-input-len", "64", "--random-output-len", "5"),
    *("--max-requests", "1000", "--tolerance", "0.15", "--jobs", "1"),
]
"""A request takes five steps of 10 ms, one request at a time."""
SLO = ["--slo", "mean_ttft_ms:60"]
H100 = ["--gpus", "H100", "--tp", "1"]
QUICK = [*ONE_AT_A_TIME, *SLO, *H100]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def planned(capsys: Capture, *arguments: str, code: int = 0) -> dict[str, Any]:
    """Return what ``--json -`` prints, and nothing else on stdout."""
    kept = [] if "--store" in arguments else ["--no-store"]
    assert main(["plan", *arguments, *kept, "--json", "-"]) == code

    def no_constant(text: str) -> float:
        raise AssertionError(f"{text} is no JSON")

    read: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=no_constant)
    return read


# -- what it prints ---------------------------------------------------------------


def test_the_table_ends_with_the_answer(capsys: Capture) -> None:
    """Load, candidates, legend, work, prices, and a sentence; notes go to stderr."""
    arguments = ["--gpus", "H100,L40S", "--tp", "1", "--rate", "30"]
    assert main(["plan", *ONE_AT_A_TIME, *SLO, *arguments]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0].startswith("load: ")
    assert max(map(len, lines)) <= 120
    text = " ".join(captured.out.split())
    for part in (
        "meta-llama/Llama-3.1-8B-Instruct",
        "GPU TP rate up to repli- GPUs USD",
        "rate: the most requests/s at which a replica surely keeps all limits",
        "2 candidates; ",
        "USD per GPU and hour: H100 3.99 (median of 3, 2026), L40S 1.55 (2026)",
        "Llama-3.1-8B-Instruct at 30 requests/s: 3 x L40S TP 1 (3 GPUs, 4.65 USD/h",
        "simulated as a whole: mean TTFT",
    ):
        assert part in text
    notes = captured.err.splitlines()
    assert all(line.startswith("blis: note: ") for line in notes)
    assert "kept in blis_study.db: blis report blis_study.db --out report.html" in notes[-1]
    assert Path("blis_study.db").is_file()


def test_json_is_everything(capsys: Capture) -> None:
    """Alone on stdout, strict; the figures agree with each other."""
    read = planned(capsys, *QUICK, "--rate", "30")
    (candidate,) = read["candidates"]
    assert read["target_rate"] == 30
    assert read["limits"] == [{"metric": "mean_ttft_ms", "value": 60}]
    assert read["num_simulations"] == candidate["num_simulations"] + 1
    assert candidate["replicas"] == -(-30 // candidate["rate_per_replica"])
    assert candidate["usd_per_hour"] == pytest.approx(candidate["replicas"] * 3.99)
    assert read["verification"]["verdict"] == "kept"
    assert read["prices"][0]["gpu"] == "H100"
    assert read["sentence"] == read["sentences"][0]


def test_csv_has_a_line_per_candidate(capsys: Capture) -> None:
    """With all figures, and what was varied."""
    grid = ["--grid", "max_num_batched_tokens=2048,4096", "--max-rate-only"]
    assert main(["plan", *QUICK, *grid, "--no-store", "--csv", "-", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    rows = list(csv.DictReader(io.StringIO(captured.out)))
    assert {row["engine.max_num_batched_tokens"] for row in rows} == {"2048", "4096"}
    assert all(float(row["rate_low"]) <= float(row["rate_high"]) for row in rows)
    assert all(float(row["mean_ttft_ms"]) < 60 for row in rows)


def test_files_beside_the_table(capsys: Capture) -> None:
    outputs = ["--json", "plan.json", "--csv", "plan.csv", "--no-store", "--no-verify"]
    assert main(["plan", *QUICK, "--rate", "30", *outputs]) == 0
    assert "binds first" in capsys.readouterr().out
    assert json.loads(Path("plan.json").read_text())["verification"] is None
    assert len(Path("plan.csv").read_text().splitlines()) == 2


def test_a_dry_run_shows_the_candidates(capsys: Capture) -> None:
    """Every combination, and nothing is simulated or kept."""
    arguments = ["--gpus", "H100,L40S", "--tp", "1,2", "--grid", "max_num_seqs=8,16"]
    assert main(["plan", *SLO, "--rate", "3", *arguments, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "8 candidates:"
    assert lines[1] == "  meta-llama/Llama-3.1-8B-Instruct on H100 TP 1, max_num_seqs=8"
    assert len(lines) == 9
    assert not Path("blis_study.db").exists()


def test_without_lists_all_measured_gpus_are_candidates(capsys: Capture) -> None:
    """Those with a price, at four TP degrees; one that a scenario names is kept."""
    assert main(["plan", *SLO, "--rate", "3", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert {"H100 TP 8", "L40S TP 1", "A100-80 TP 2"} <= set(re.findall(r" on (.*)", text))
    Path("s.yaml").write_text("hardware: L40S\nengine: {tensor_parallel_size: 2}\n")
    assert main(["plan", "--scenario", "s.yaml", *SLO, "--rate", "3", "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "1 candidate:",
        "  meta-llama/Llama-3.1-8B-Instruct on L40S TP 2",
    ]


def test_quiet_prints_the_answer_alone(capsys: Capture) -> None:
    arguments = ["--max-rate-only", "--no-store", "--quiet", "--json", "p.json"]
    assert main(["plan", *QUICK, *arguments]) == 0
    assert capsys.readouterr() == ("", "")


# -- what a plan is made of -------------------------------------------------------


def test_a_percentage_is_a_tolerance(capsys: Capture) -> None:
    """A wide one ends sooner."""
    flags = [*QUICK, "--max-rate-only"]
    place = flags.index("--tolerance") + 1
    wide, same, narrow = (
        planned(capsys, *flags[:place], text, *flags[place + 1 :]) for text in ("40%", "0.4", "2%")
    )
    assert wide["candidates"] == same["candidates"]
    assert wide["num_simulations"] < narrow["num_simulations"]


def test_simulations_are_counted(capsys: Capture) -> None:
    """No more than that many of a candidate."""
    read = planned(capsys, *QUICK, "--max-rate-only", "--max-simulations", "4")
    assert read["num_simulations"] == 4


def test_a_rate_of_the_scenario_is_the_target(capsys: Capture) -> None:
    """Unless --rate says another one; its number of requests is not asked for."""
    Path("s.yaml").write_text("workload: {request_rate: 21, num_requests: 7, duration_s: 3}\n")
    read = planned(capsys, "--scenario", "s.yaml", *QUICK, "--no-verify")
    assert read["target_rate"] == 21
    read = planned(capsys, "--scenario", "s.yaml", *QUICK, "--no-verify", "--rate", "5")
    assert read["target_rate"] == 5


def test_own_prices_win(capsys: Capture) -> None:
    """And nothing is simulated again for them."""
    Path("p.csv").write_text("gpu,usd_per_gpu_hour,as_of\nH100,1.25,2026-09-01\n")
    arguments = [*QUICK, "--rate", "30", "--store", "s.db"]
    before = planned(capsys, *arguments)["candidates"][0]
    assert main(["plan", *arguments, "--prices", "p.csv"]) == 0
    captured = capsys.readouterr()
    assert "H100 1.25 (2026-09-01)" in captured.out
    assert captured.err.startswith("blis: note: 0 simulated")
    after = planned(capsys, *arguments, "--prices", "p.csv")["candidates"][0]
    assert after["usd_per_hour"] == pytest.approx(before["replicas"] * 1.25)
    with ResultStore(Path("s.db"), is_read_only=True) as store:
        assert store.study().answer is not None


def test_a_price_of_no_gpu_is_said(capsys: Capture) -> None:
    """A slip in a name would leave the shipped price in force."""
    Path("p.csv").write_text("gpu,usd_per_gpu_hour,as_of\nh100-sxm,1,2026\nH1OO,1,2026\n")
    assert main(["plan", *QUICK, "--rate", "3", "--prices", "p.csv", "--dry-run"]) == 0
    said = capsys.readouterr().err
    assert "p.csv: no GPU is known as H1OO, its price counts for none; nearest: H100" in said
    assert "h100-sxm" not in said


# -- exit codes -------------------------------------------------------------------


def test_when_nothing_keeps_the_limits_it_is_1(capsys: Capture) -> None:
    """With the reasons, and a sentence; JSON, too."""
    late = [*ONE_AT_A_TIME, *H100, "--slo", "p99_ttft_ms:9", "--rate", "3"]
    assert main(["plan", *late, "--no-store"]) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert re.search(r"left out: H100 TP 1: even at \S+ requests/s p99 TTFT 10 of 9 ms", text)
    assert text.endswith("no candidate was found to keep p99 TTFT <= 9 ms at any rate.")
    assert "rate:" not in text
    read = planned(capsys, *late, code=1)
    assert (read["winner"], read["candidates"][0]["status"]) == (None, "infeasible")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rate", "3"], "--slo must be given; got none; for example --slo p99_ttft_ms:500"),
        (["--slo", "p99_tftt_ms:5", "--rate", "3"], "--slo metric must be a known name; got"),
        (["--slo", "p99_ttft_ms", "--rate", "3"], "--slo must be metrics and limits"),
        (SLO, "--rate must be given: the requests per second to carry; got none; or look"),
        ([*SLO, "--rate", "0"], "--rate must be above 0 requests/s and finite; got 0"),
        ([*SLO, "--rate", "inf"], "--rate must be above 0 requests/s and finite; got inf"),
        ([*SLO, "--rate", "many"], "--rate must be above 0 requests/s and finite; got many"),
        (
            [*SLO, "--rate", "3", "--max-rate-only"],
            "--rate must not be given with --max-rate-only; got 3; leave one out",
        ),
        (
            [*SLO, "--rate", "3", "--grid", "rate=1,2"],
            "--grid must not name the rate or the number of requests: the search sets them",
        ),
        (
            [*SLO, "--rate", "3", "--grid", "num_requests=1,2"],
            "--grid must not name the rate or the number of requests",
        ),
        (
            [*SLO, "--rate", "3", "--grid", "prompt-tokens=100,200"],
            "--grid must name what is deployed; got workload.prompt.mean, which all candidates",
        ),
        ([*SLO, "--rate", "3", "--grid", "seed=1,2"], "--grid must name what is deployed; got se"),
        (
            [*SLO, "--rate", "3", "--grid", "tp=1,2", "--tp", "4"],
            "--tp must not be given with a --grid over the same setting; got both; leave one out",
        ),
        (
            [*SLO, "--rate", "3", "--tolerance", "2"],
            "--tolerance must be from 0.001 to 0.5; got 2",
        ),
        ([*SLO, "--rate", "3", "--tolerance", "x"], "--tolerance must be a fraction such as 0.03"),
        (
            [*SLO, "--rate", "3", "--max-simulations", "2"],
            "--max-simulations must be from 4 to 50; got 2",
        ),
        (
            [*SLO, "--rate", "3", "--max-requests", "10"],
            "--max-requests must be from 1000 to 10,000,000; got 10",
        ),
        (
            [*SLO, "--rate", "3", "--prefill-instances", "1", "--decode-instances", "1"],
            "cluster.pools must not be given to blis plan",
        ),
        (
            [*SLO, "--rate", "3", "--gpus", "H10O"],
            "--gpus must be a known name; got 'H10O'; nearest: H100, ",
        ),
        ([*SLO, "--rate", "3", "--models", "llama-9"], "got 'llama-9'; nearest: "),
        (
            [*SLO, "--rate", "3", "--arrivals", "closed_loop", "--num-users", "2"],
            "the load must have one rate to be planned for; got --arrivals closed_loop",
        ),
        (
            [*SLO, "--rate", "3", "--max-concurrency", "5"],
            "the load must have one rate to be planned for; got --max-concurrency",
        ),
        ([*SLO, "--rate", "3", "--num-instances", "2"], "--num-instances must not be set for a"),
        ([*SLO, "--rate", "3", "--horizon", "9s"], "--horizon must not be set for a plan"),
        (
            [*SLO, "--rate", "3", "--num-prompts", "50"],
            "--num-prompts must not be given to blis plan without a trace; got 50",
        ),
        (
            [*SLO, "--rate", "3", "--duration", "50s"],
            "--duration must not be given to blis plan without a trace; got 50s",
        ),
        (
            ["--slo", "goodput:99%", "--rate", "3"],
            "a limit on goodput must come with limits of a request",
        ),
        (
            ["--slo", "p95_itl_ms:0.1", "--rate", "3", *H100],
            "one request alone takes at least 6.26 ms per token; limit p95 ITL <= 0.1 ms",
        ),
        ([*SLO, "--rate", "3", "--json", "-", "--csv", "-"], "--csv must not be - together"),
        (
            [*SLO, "--rate", "3", "--json", "blis_study.db"],
            "--json must be another file than the store; got blis_study.db",
        ),
        ([*SLO, "--rate", "3", "--json", "no/where.json"], "--json "),
        (
            [*SLO, "--rate", "3", "--grid", "max_num_batched_tokens=8192:10240"],
            "a plan must have at most 2,000 candidates; got",
        ),
    ],
)
def test_what_cannot_be_is_one_line(capsys: Capture, arguments: list[str], message: str) -> None:
    """Exit code 2, nothing on stdout, and what to do."""
    assert message in refusal(capsys, "plan", *arguments)


def test_a_list_is_called_by_its_flag(capsys: Capture) -> None:
    """Nobody gave a --grid."""
    said = refusal(capsys, "plan", *SLO, "--rate", "3", "--tp", "0")
    assert said.startswith("--tp must be >= 1; got '0'")


def test_a_traces_part_is_no_error(capsys: Capture) -> None:
    """Of a trace the number of requests says which ones."""
    trace = Path("t.csv")
    rows = [f"{number / 10},64,5" for number in range(300)]
    trace.write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *rows]) + "\n")
    flags = [each for each in QUICK if not each.startswith("--random") and each not in {"64", "5"}]
    arguments = ["--trace", "t.csv", "--num-prompts", "200", "--max-rate-only"]
    read = planned(capsys, *flags, *arguments)
    probes = read["candidates"][0]["probes"]
    assert max(each["num_requests"] for each in probes) == 200


# -- the guide --------------------------------------------------------------------


def shown_commands() -> list[str]:
    text = GUIDE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def test_the_guide_has_commands() -> None:
    assert len(shown_commands()) >= 4


@pytest.mark.parametrize("command", shown_commands())
def test_commands_of_the_guide_work(command: str, capsys: Capture) -> None:
    """Small: one job, few simulations, and nothing is kept."""
    Path("workloads").symlink_to(GUIDE.parents[1] / "workloads")
    name, *arguments = shlex.split(command)
    assert name == "blis"
    if arguments[0] != "plan":
        assert arguments[0] in {"report", "results"}
        return
    kept = [] if "--no-store" in arguments else ["--no-store"]
    small = ["--max-requests", "1000", "--max-simulations", "4", "--jobs", "1", *kept]
    if "--max-requests" in arguments:
        place = arguments.index("--max-requests")
        del arguments[place : place + 2]
    assert main([*arguments, *small]) == 0
    assert capsys.readouterr().out
