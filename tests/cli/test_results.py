"""``blis results`` as a user calls it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from blis_sim.capacity.executor import Backend, Executor
from blis_sim.capacity.store import ResultStore
from blis_sim.capacity.study import StudyKind
from blis_sim.cli.main import main
from tests.capacity.studies import make_outcome, make_point
from tests.cli.calls import refusal

FLAGS = ["--num-requests", "5", "--jobs", "1", "--quiet"]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store of two sweeps: three runs per rate, then two GPUs of which one is small."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["sweep", *FLAGS, "--grid", "rate=2,inf", "--replications", "3"]) == 0
        limits = ["--slo", "p99_ttft_ms:500"]
        assert main(["sweep", *FLAGS, "--grid", "hardware=H100,T4", "--rate", "3", *limits]) == 0
    return folder / "blis_study.db"


@pytest.fixture(autouse=True)
def _there(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study.parent)


def results(capsys: Capture, *arguments: str) -> str:
    assert main(["results", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def read_json(capsys: Capture, *arguments: str) -> Any:
    return json.loads(results(capsys, *arguments, "--json", "-"))


# -- list -----------------------------------------------------------------------


def test_studies_are_listed(capsys: Capture) -> None:
    """Number, kind, question, what became of the points, when, and whether code is current."""
    header, first, second = results(capsys, "list").splitlines()
    assert header.split()[:4] == ["no.", "kind", "question", "points"]
    assert first.split()[:4] == ["1", "sweep", "sweep", "over"]
    assert first.split()[5:9] == ["x", "replication", "6", "6"]
    assert second.split()[:9] == ["2", "sweep", "sweep", "over", "hardware", *"2110"]
    assert second.split()[-1] == "current"
    document = read_json(capsys, "list")
    assert [each["points"] for each in document["studies"]] == [
        {"done": 6},
        {"done": 1, "infeasible": 1},
    ]
    assert all(each["is_current"] for each in document["studies"])
    assert document["studies"][1]["answer"]["best"] == 0


def test_other_code_is_said(capsys: Capture, tmp_path: Path) -> None:
    store = tmp_path / "a.db"
    with ResultStore(store) as opened:
        opened.begin(StudyKind.PLAN, "a " * 80, {})
        opened._db.execute("UPDATE studies SET code_version = '0.0.1+x'")
    line = results(capsys, "list", "--store", str(store)).splitlines()[1]
    assert line.endswith("other")
    assert " ... " in line
    assert len(line) <= 130


def test_a_store_without_studies(capsys: Capture, tmp_path: Path) -> None:
    ResultStore(tmp_path / "a.db").close()
    assert results(capsys, "list", "--store", str(tmp_path / "a.db")) == "no studies\n"
    line = refusal(capsys, "results", "show", "--store", str(tmp_path / "a.db"))
    assert line.endswith("must hold a study; there: none; see blis results list")


# -- show -----------------------------------------------------------------------


def test_a_sweep_is_shown_as_it_was(capsys: Capture) -> None:
    """The table that the sweep printed, below a line that says what it is."""
    flags = ["--grid", "hardware=H100,T4", "--rate", "3", "--slo", "p99_ttft_ms:500"]
    assert main(["sweep", "--num-requests", "5", *flags]) == 0
    table = capsys.readouterr().out
    shown = results(capsys, "show")
    head, _, rest = shown.partition("---")
    assert head.startswith("study 2, sweep: sweep over hardware; 2 points (1 done, 1 infeasible)")
    assert f"---{rest}" == table


def test_one_study_and_other_columns(capsys: Capture) -> None:
    shown = results(capsys, "show", "--study", "1", "--metrics", "gpu_busy_frac,duration")
    assert shown.splitlines()[3].split() == ["request_rate", "gpu", "busy", "duration"]
    assert "means of 3 runs" in shown
    document = read_json(capsys, "show", "--study", "1")
    assert [point["labels"]["replication"] for point in document["points"]] == [*range(3)] * 2
    assert document["points"][0]["metrics"]["completed"] == 5
    assert len(document["points"][0]["quantiles"]["ttft"]) == 101


@pytest.mark.parametrize(
    "point",
    [
        "hardware=H100",
        "workload.request_rate=2.0, replication = 1",
    ],
)
def test_a_point_is_a_scenario_that_can_be_run(
    point: str, capsys: Capture, tmp_path: Path
) -> None:
    """All figures are comments above it; running it gives them again."""
    number = "2" if "H100" in point else "1"
    text = results(capsys, "show", "--study", number, "--point", point)
    assert text.startswith(f"# study {number}: ")
    assert "\n# status: done\n" in text
    file = tmp_path / "s.yaml"
    file.write_text(text)
    document = read_json(capsys, "show", "--study", number, "--point", point)
    assert main(["run", "--scenario", str(file), "--json", "-", "--quiet"]) == 0
    run = json.loads(capsys.readouterr().out)
    assert document["scenario_sha256"] == run["manifest"]["scenario_sha256"]
    metrics = document["metrics"]
    shared = set(metrics) & set(run)
    assert {"mean_ttft_ms", "duration"} <= shared
    assert {key: metrics[key] for key in shared} == {key: run[key] for key in shared}


def test_a_rate_without_end(capsys: Capture) -> None:
    """All at once: infinity survives the way through JSON."""
    text = results(capsys, "show", "--study", "1", "--point", "request_rate=inf,replication=0")
    assert "request_rate: .inf" in text or "request_rate: inf" in text


def test_a_point_by_its_key(capsys: Capture) -> None:
    document = read_json(capsys, "show")
    key = document["points"][1]["key"]
    shown = results(capsys, "show", "--point", key[:12])
    assert f"# key: {key}\n" in shown
    assert "# status: infeasible\n# reason: tensor_parallel_size must be" in shown


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--point", "hardware=L4"],
            "--point must be the key or the labels of a point of study 2;",
        ),
        (
            ["--point", "abcdef"],
            "--point must be the key or the labels of a point of study 2; got",
        ),
        (
            ["--study", "1", "--point", "request_rate=2"],
            "--point must mean one point of study 1; got 'request_rate=2', which are 3: request_r",
        ),
        (["--study", "9"], "blis_study.db must hold study 9; there: 1, 2; see blis results list"),
        (["--study", "two"], "--study must be a whole number >= 0; got 'two'"),
        (["--metrics", "ttft"], "--metrics must be a known name; got 'ttft'; nearest: "),
        (["--metrics", "duration", "--point", "x"], "--metrics must not be given with --point; l"),
        (["--metrics", "duration", "--json", "-"], "--metrics must not be given with --json -; l"),
        (["--json", "blis_study.db"], "--json must be another file than the store; got blis_stud"),
        (
            ["--store", "no.db"],
            "--store must be a file that is there; got no.db; give the --store",
        ),
    ],
)
def test_what_is_wrong_is_one_line(arguments: list[str], line: str, capsys: Capture) -> None:
    assert refusal(capsys, "results", "show", *arguments).startswith(line)


def test_what_is_not_finished(capsys: Capture, tmp_path: Path) -> None:
    """Of a study that was stopped: no figures, and its scenario all the same."""
    store = str(tmp_path / "a.db")
    points = [make_point(1), make_point(2)]
    with ResultStore(tmp_path / "a.db") as opened:
        keys = Executor(opened, Backend()).keys(points)
        number = opened.begin(StudyKind.SWEEP, "sweep over seed", {})
        opened.add_members(number, keys, points)
        opened.put(keys[0], points[0], make_outcome())
        shown = results(capsys, "show", "--store", store)  # while it is written to
    assert "2 points (1 done, 1 unfinished)" in shown
    assert "not simulated: seed=2: not finished: run the same command again" in shown
    text = results(capsys, "show", "--store", store, "--point", "seed=2")
    assert "# not finished: run the same command again\n" in text
    assert "\nseed: 2\n" in text
    results(capsys, "export", "--store", store, "--out", str(tmp_path / "a.csv"))
    assert [row["status"] for row in read_csv(tmp_path / "a.csv")] == ["done", "not finished"]


@pytest.mark.parametrize("answer", [None, {}, {"sentence": "Take 3 x H100.", "candidates": 7}])
def test_a_plan_without_candidates(
    answer: dict[str, Any] | None, capsys: Capture, tmp_path: Path
) -> None:
    """Its sentence, and its points."""
    shown = results(capsys, "show", "--store", plan(tmp_path, answer))
    sentence = (answer or {}).get("sentence", "It has not come to its answer.")
    assert sentence in shown.splitlines()
    assert "mean ttft" in shown


def test_a_plan_with_candidates(capsys: Capture, tmp_path: Path) -> None:
    """A column for each figure that one of them has; what is long or deep is left out."""
    candidates = [
        {"gpu": "H100", "replicas": 3, "usd_per_hour": 11.9712, "meets": True, "deep": {"a": 1}},
        {"gpu": "L4", "replicas": None, "reason": "it does " * 20, "meets": False},
    ]
    store = plan(tmp_path, {"sentence": "Take 3 x H100.", "candidates": candidates})
    lines = results(capsys, "show", "--store", store).splitlines()
    assert lines[2].split() == ["gpu", "replicas", "usd_per_hour", "meets"]
    assert [line.split() for line in lines[4:6]] == [
        ["H100", "3", "11.97", "yes"],
        ["L4", "-", "-", "no"],
    ]
    assert lines[-1] == "Take 3 x H100."
    shown = results(capsys, "show", "--store", store, "--metrics", "mean_ttft_ms")
    assert "mean ttft" in shown
    assert "combinations" not in shown


def plan(folder: Path, answer: dict[str, Any] | None) -> str:
    with ResultStore(folder / "a.db") as store:
        number = store.begin(StudyKind.PLAN, "what carries 50/s", {"rate": 50})
        store.add_members(number, ["k"], [make_point(1)])
        store.put("k", make_point(1), make_outcome())
        if answer is not None:
            store.answer(number, answer)
    return str(folder / "a.db")


# -- export ---------------------------------------------------------------------


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_line_per_point(capsys: Capture, tmp_path: Path) -> None:
    """Labels first, then status, reason, deployment, all metrics, and the key."""
    path = tmp_path / "a.csv"
    said = results(capsys, "export", "--out", str(path), "--study", "1")
    assert (
        said == f"{path}: 6 points of study 1 (sweep over workload.request_rate x replication)\n"
    )
    rows = read_csv(path)
    document = read_json(capsys, "show", "--study", "1")
    names = list(rows[0])
    assert names[:5] == ["workload.request_rate", "replication", "status", "reason", "model"]
    for row, point in zip(rows, document["points"], strict=True):
        assert row["key"] == point["key"]
        assert point["metrics"].keys() <= row.keys()
        assert float(row["mean_ttft_ms"]) == point["metrics"]["mean_ttft_ms"]
    assert [row["request_rate"] for row in rows] == [*["2.0"] * 3, *["inf"] * 3]


def test_parquet(capsys: Capture, tmp_path: Path) -> None:
    """The same table; numbers stay numbers, infinity too."""
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    for study, column, values in (
        ("1", "request_rate", [*[2.0] * 3, *[float("inf")] * 3]),
        ("2", "hardware", ["H100", "T4"]),
    ):
        path = tmp_path / f"{study}.parquet"
        results(capsys, "export", "--out", str(path), "--study", study)
        results(capsys, "export", "--out", str(path.with_suffix(".csv")), "--study", study)
        frame = pd.read_parquet(path)
        assert frame[column].tolist() == values
        assert list(frame.columns) == list(read_csv(path.with_suffix(".csv"))[0])
        assert frame.mean_ttft_ms.dtype == float


def test_an_export_that_cannot_be(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, and no file."""
    line = refusal(capsys, "results", "export", "--out", str(tmp_path / "a.xlsx"))
    assert line.startswith("--out must be a file ending in .csv, .csv.gz, .parquet; got ")
    line = refusal(capsys, "results", "export", "--out", str(tmp_path / "no" / "a.csv"))
    assert line.startswith("--out must be a file in an existing folder")
    find_spec = __import__("importlib.util").util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *more: None if name == "pyarrow" else find_spec(name, *more),
    )
    line = refusal(capsys, "results", "export", "--out", str(tmp_path / "a.parquet"))
    assert line == (
        "writing Parquet needs the package 'pyarrow'; install it with: "
        "pip install 'blis-sim[parquet]'"
    )
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_while_looking(
    study: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file, its time and its folder stay as they are."""
    before = study.read_bytes(), study.stat().st_mtime_ns, {*study.parent.iterdir()}
    for arguments in (["list"], ["show"], ["show", "--point", "hardware=T4"]):
        results(capsys, *arguments)
    assert before == (study.read_bytes(), study.stat().st_mtime_ns, {*study.parent.iterdir()})
