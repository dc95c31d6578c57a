"""``blis report`` and ``blis run --report``."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from blis_sim.cli.main import main
from tests.cli.calls import refusal
from tests.report.html_parts import read_page
from tests.report.studies import make_plan, make_sweep, make_tune, store_of

pytest.importorskip("jinja2")
pytest.importorskip("plotly")

RUN = ["run", "--num-requests", "30", "--rate", "10", "--quiet"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every command run in an empty folder."""
    monkeypatch.chdir(tmp_path)


def test_a_study_becomes_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    """The answer and the file are printed; the page holds the answer and nothing to load."""
    store_of(Path("s.db"), make_sweep(), make_plan())
    assert main(["report", "s.db", "--study", "1"]) == 0
    answer, file = capsys.readouterr().out.splitlines()
    assert file.startswith("report.html: ")
    read = read_page(Path("report.html").read_text(encoding="utf-8"))
    assert read.ids["answer"] == answer
    assert read.loads == ["data:,"]
    assert "sweep 1 of s.db" in read.text
    assert _files() == {".s.db.lock", "report.html", "s.db"}


def test_pictures_beside_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    """They are listed after the page."""
    pytest.importorskip("matplotlib")
    store_of(Path("s.db"), make_tune())
    assert main(["report", "s.db", "-o", "p.html", "--plots", "pictures"]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == ["pictures/trials.png"]
    assert Path("pictures/trials.png").read_bytes().startswith(b"\x89PNG")


def test_a_result_without_charts_is_small(capsys: pytest.CaptureFixture[str]) -> None:
    """Of bare JSON there is nothing to draw; a note says so."""
    assert main([*RUN, "--json", "r.json"]) == 0
    assert main(["report", "r.json", "--out", "r.html", "--plots", "p"]) == 0
    assert "r.json has nothing to draw" in capsys.readouterr().err
    assert Path("r.html").stat().st_size < 100_000


def test_a_run_writes_its_page(capsys: pytest.CaptureFixture[str]) -> None:
    """With timeline and distributions; its JSON is the same as without a page."""
    assert main([*RUN, "--json", "one.json"]) == 0
    assert main([*RUN, "--json", "two.json", "--report", "r.html"]) == 0
    one, two = (json.loads(Path(name).read_text()) for name in ("one.json", "two.json"))
    for result in (one, two):
        for key in ("date", "run_info"):
            del result[key]
    assert one == two
    charts = read_page(Path("r.html").read_text(encoding="utf-8")).charts
    assert sorted(charts) == ["distribution", "over_time"]
    assert len(charts["over_time"][""]["data"][0]["x"]) > 100
    assert capsys.readouterr().out == ""


def test_an_interval_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    """It holds for the page as for the table of samples."""
    assert main([*RUN, "--report", "r.html", "--timeseries-interval", "1s"]) == 0
    charts = read_page(Path("r.html").read_text(encoding="utf-8")).charts
    times = charts["over_time"][""]["data"][0]["x"]
    assert times[:3] == [1, 2, 3]


def _files() -> set[str]:
    """Return what lies here, without what SQLite keeps beside a store."""
    return {path.name for path in Path.cwd().iterdir() if not path.name.startswith("s.db-")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "absent.db"], "SOURCE must be a readable file; got absent.db"),
        (["report", "s.db", "--out", "r.pdf"], "--out must be a file ending in .html; got r.pdf"),
        (["report", "s.db", "--out", "no/r.html"], "--out must be a file in an existing folder"),
        (["report", "s.db", "--out", "f.html"], "--out must be a file; got the folder f.html"),
        (["report", "s.db", "--study", "4"], "s.db must hold study 4; there: 1"),
        (["report", "s.db", "--study", "one"], "--study must be a whole number >= 0; got 'one'"),
        (["report", "r.html", "--out", "r.html"], "--out must be another file than r.html"),
        (["report", "s.db", "--plots", "s.db"], "--plots must be a folder that can be made"),
        ([*RUN, "--report", "x.txt"], "--report must be a file ending in .html; got x.txt"),
        ([*RUN, "--report", "no/x.html"], "--report must be a file in an existing folder"),
    ],
)
def test_refusals(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, exit 2, and no file is written or changed."""
    if "s.db" in arguments:
        store_of(Path("s.db"), make_sweep(points=make_sweep().points[:1]))
    Path("r.html").write_text("mine")
    Path("f.html").mkdir()
    before = _files()
    assert message in refusal(capsys, *arguments)
    assert _files() == before
    assert Path("r.html").read_text() == "mine"


@pytest.mark.parametrize("arguments", [["report", "s.db"], [*RUN, "--report", "r.html"]])
def test_a_missing_extra(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what to install, before anything is simulated."""
    found = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> Any:
        return None if name == "plotly" else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    message = refusal(capsys, *arguments)
    assert "needs the package 'plotly'; install it with: pip install 'blis-sim[report]'" in message


def test_a_disk_that_is_full(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was there stays."""
    store_of(Path("s.db"), make_sweep(points=make_sweep().points[:1]))
    Path("report.html").write_text("mine")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(Path, "write_text", refuse)
        assert "output file report.html must be writable" in refusal(capsys, "report", "s.db")
    assert Path("report.html").read_text() == "mine"
    assert not list(Path.cwd().glob("*.tmp"))


def test_the_page_on_reports_can_be_followed(capsys: pytest.CaptureFixture[str]) -> None:
    """Its commands work one after the other, and so do its lines of Python."""
    pytest.importorskip("matplotlib")
    page = (Path(__file__).parents[2] / "docs" / "reports.md").read_text(encoding="utf-8")
    (commands,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    for command in commands.splitlines():
        # Workers of their own take longer to start than these simulations.
        here = ["--jobs", "1"] if "sweep --" in command else []
        assert main([*shlex.split(command)[1:], *here]) == 0
    assert {"sweep.html", "run.html", "from_json.html"} <= _files()
    (lines,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    capsys.readouterr()
    exec(compile(lines, "reports.md", "exec"), {})
    assert capsys.readouterr().out == "['H100', 'L40S']\n"
    assert Path("latency.png").is_file()
