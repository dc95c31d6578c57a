"""What a newcomer meets: the commands of the README, and what is installed."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

import blis_sim
from blis_sim.catalog import paths
from blis_sim.catalog.coefficients import load_coefficients
from blis_sim.catalog.gpus import list_gpus
from blis_sim.catalog.models import list_models
from blis_sim.cli.main import main

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = (README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DATA_FOLDERS = ("configs", "bench_data", "workloads")


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    fenced = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return fenced.findall(page.read_text(encoding="utf-8"))


def console(page: Path) -> list[tuple[str, str]]:
    """Return the commands of the console blocks with the output shown below them."""
    shown = []
    for block in blocks(page, "console"):
        for part in block.split("$ ")[1:]:
            command, _, output = part.partition("\n")
            shown.append((command, output))
    return shown


TUTORIALS = [page for page in PAGES if page.parent.name == "tutorials"]
SHOWN = [(command, output) for page in PAGES for command, output in console(page)]
BLIS = [(command, output) for command, output in SHOWN if command.startswith("blis ")]


def quotes(page: Path) -> list[str]:
    """Return the quoted paragraphs of a tutorial, each on one line."""
    if page not in TUTORIALS:
        return []
    found = re.findall(r"^(?:> .*\n)+", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [" ".join(line.removeprefix("> ") for line in text.splitlines()) for text in found]


def typed(page: Path) -> list[str]:
    """Return the commands of a page whose output is not shown, in blocks and in the text."""
    text = page.read_text(encoding="utf-8")
    in_blocks = [c for c, output in console(page) if c.startswith("blis ") and not output]
    in_text = re.findall(r"`(blis [^`\n]+)`", text)
    # Names of commands that need flags, patterns and long runs are not meant to be typed.
    no_command = re.compile(r"\[|\.\.\.|bench|^blis (plan|sweep|tune|report|validate)$")
    return [*in_blocks, *(c for c in in_text if not no_command.search(c))]


def test_readme_is_short() -> None:
    """Nobody reads more than 200 lines."""
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200


@pytest.mark.parametrize(
    ("command", "output"), [pair for pair in BLIS if pair[1]], ids=lambda text: text[:40]
)
def test_shown_output_is_that_of_the_command(
    command: str,
    output: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Run in a checkout, the command prints what the page shows, and nothing else."""
    monkeypatch.chdir(ROOT)
    assert main(shlex.split(command)[1:]) == 0
    captured = capsys.readouterr()
    assert captured.out == output
    assert captured.err == ""


def test_there_is_a_command_with_its_output() -> None:
    """The main job is among them: the test above would pass without any."""
    assert any(
        command.startswith("blis run --trace") and "Mean TTFT" in output
        for command, output in console(README)
    )


@pytest.mark.parametrize("page", [p for p in PAGES if typed(p)], ids=lambda page: page.stem)
def test_commands_work_in_any_folder(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever a page tells to type can be typed, one after the other in one folder.

    What a tutorial quotes (``> ...``) is what they print.
    """
    monkeypatch.chdir(tmp_path)
    for command in typed(page):
        assert main(shlex.split(command, comments=True)[1:]) == 0, command
    printed = " ".join(capsys.readouterr().out.split())
    for quoted in quotes(page):
        assert quoted in printed


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_tutorials_quote_what_is_printed(page: Path) -> None:
    """Else nothing of what they say is compared with it."""
    assert quotes(page)


def test_make_run_is_the_command_shown() -> None:
    """``make run`` ends with the first example of the README."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    done = subprocess.run(
        [make, "--no-print-directory", "--dry-run", "run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    command = shlex.split(done.stdout.splitlines()[-1])
    assert command[0] == ".venv/bin/blis"
    shown = next(command for command, output in BLIS if output)
    assert ["blis", *command[1:]] == shlex.split(shown)


def test_python_example_prints_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lines below the example are its output."""
    (example,), (output,) = blocks(README, "python"), blocks(README, "text")
    script = tmp_path / "example.py"
    script.write_text(example, encoding="utf-8")
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(script))
    assert capsys.readouterr().out == output


def test_counts_are_those_of_the_catalogs() -> None:
    """The README counts what is shipped."""
    text = " ".join(README.read_text(encoding="utf-8").split())
    assert f"{len(list_models())} models and {len(list_gpus())} GPUs" in text
    keys = {(row.model, row.gpu, row.tp, row.engine_version) for row in load_coefficients()}
    assert f"{len(keys)} sets of regression coefficients" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """A link to a file of the repository names one that is there."""
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert missing == []


def test_a_checkout_has_the_data_beside_the_package() -> None:
    """Configs and workloads are found without installing a wheel."""
    for folder in DATA_FOLDERS:
        assert (paths.data_root() / folder).is_dir()
    assert paths.configs_dir() == paths.data_root() / "configs"
    assert (paths.workloads_dir() / "chat_small.csv").is_file()


def test_a_wheel_carries_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The build puts every data folder where an installed package looks for it."""
    targets = PROJECT["tool"]["hatch"]["build"]["targets"]
    (tmp_path / "_data").mkdir()
    monkeypatch.setattr(paths, "_PACKAGE", tmp_path)
    inside = paths.data_root().relative_to(tmp_path)
    expected = {folder: f"blis_sim/{inside.as_posix()}/{folder}" for folder in DATA_FOLDERS}
    assert targets["wheel"]["force-include"] == expected
    assert {f"/{folder}" for folder in DATA_FOLDERS} <= set(targets["sdist"]["include"])


def test_everything_packed_is_there() -> None:
    """A source distribution leaves nothing out silently, and the licence goes with it."""
    packed = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert [name for name in packed if not (ROOT / name.lstrip("/")).exists()] == []
    assert {f"/{name}" for name in PROJECT["project"]["license-files"]} <= set(packed)


def test_changelog_begins_with_this_version() -> None:
    """The newest entry is that of the package."""
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[([^\]]+)\]", changes, re.MULTILINE)
    assert newest is not None
    assert newest[1] == PROJECT["project"]["version"] == blis_sim.__version__
