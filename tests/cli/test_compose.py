"""``blis compose`` and ``blis workload import`` as a user calls them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from blis_sim.cli.main import main
from blis_sim.config.workload import WorkloadSettings
from tests.workload.import_samples import (
    blis_client,
    blis_spec,
    inference_perf,
    write_chunk,
    write_yaml,
)

LENGTHS = {"0": {"input_tokens": "{100: 0.5, 200: 0.5}", "output_tokens": "{50: 1.0}"}}


def run(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


def written(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(path.read_text())
    WorkloadSettings.model_validate(values)
    return values


def failure(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


def test_import_of_inference_perf(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file says where it is from; notices are on stderr, nothing on stdout."""
    source = write_yaml(tmp_path / "load.yml", inference_perf({"num_workers": 2}))
    out = tmp_path / "spec.yaml"
    assert run("workload", "import", source, "--out", out) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "blis: note: load.interval 1" in captured.err
    assert out.read_text().startswith(f"# From: inference-perf configuration {source}\n")
    assert written(out)["max_outstanding"] == 200


def test_import_of_a_servegen_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A part of it, with long tables in files that the spec names relative to itself."""
    folder, out = tmp_path / "m", tmp_path / "spec.yaml"
    lengths = {str(tokens): 1.0 for tokens in range(1, 200)}
    write_chunk(
        folder,
        3,
        "0,1,1,,0,0\n600,2,1,,0,0\n",
        {"0": {"input_tokens": lengths, "output_tokens": "{50: 1.0}"}},
    )
    assert run("workload", "import", folder, "-o", out, "--start", "10m", "--duration", "30s") == 0
    (client,) = written(out)["clients"]
    assert client["stages"] == [{"rate": 2, "duration_s": 30}]
    assert client["prompt"] == {"kind": "empirical", "file": "spec-lengths/chunk-3-prompt.txt"}
    assert len((tmp_path / client["prompt"]["file"]).read_text().splitlines()) == 199
    assert "1 tables of lengths are in" in capsys.readouterr().err


def test_import_refuses_what_is_not_foreign(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_yaml(tmp_path / "ours.yaml", {"preset": "chatbot"})
    out = tmp_path / "spec.yaml"
    line = failure(capsys, "workload", "import", source, "--out", out)
    assert "say which with --from blis|inference-perf|servegen" in line
    line = failure(capsys, "workload", "import", source, "--out", out, "--from", "bliss")
    assert "nearest: blis" in line
    assert not out.exists()


def test_import_refuses_flags_of_folders_with_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_yaml(tmp_path / "spec.yaml", blis_spec(blis_client()))
    line = failure(capsys, "workload", "import", source, "-o", tmp_path / "o", "--start", "5s")
    assert "--start must be used with a ServeGen folder" in line


def test_the_source_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_yaml(tmp_path / "spec.yaml", blis_spec(blis_client()))
    before = source.read_text()
    for command in (("workload", "import"), ("compose",)):
        assert "--out must be another file" in failure(capsys, *command, source, "-o", source)
    assert source.read_text() == before


def test_compose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A BLIS spec, a trace of ours beside its spec and a ServeGen folder, at the same time."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,5,5\n")
    parts = [
        write_yaml(tmp_path / "blis.yaml", blis_spec(blis_client(id="chat"), horizon=60_000_000)),
        write_yaml(folder / "old.yaml", {"trace": "t.csv"}),
        tmp_path / "day",
    ]
    write_chunk(parts[2], 1, "0,4,1,,0,0\n", LENGTHS)
    out = tmp_path / "all.yaml"
    assert run("compose", *parts, "--out", out, "--scale", "day=0.5") == 0
    chat, old, day = written(out)["clients"]
    assert (chat["name"], chat["request_rate"], chat["duration_s"]) == ("chat", 10, 60)
    assert old == {"name": "old", "trace": "in/t.csv"}
    assert day["stages"] == [{"rate": 2, "duration_s": 600}]
    assert "blis: note: blis: horizon: the last arrival" in capsys.readouterr().err


@pytest.mark.parametrize("scale", ["a", "a=", "=2", "a=0", "a=x", "a=nan"])
def test_malformed_scales(tmp_path: Path, capsys: pytest.CaptureFixture[str], scale: str) -> None:
    source = write_yaml(tmp_path / "a.yaml", {"preset": "chatbot"})
    line = failure(capsys, "compose", source, source, "-o", tmp_path / "o", "--scale", scale)
    assert "--scale must be NAME=FACTOR with a factor > 0" in line


def test_compose_tells_what_it_cannot_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    staged = write_yaml(tmp_path / "a.yml", inference_perf())
    other = write_yaml(tmp_path / "b.yaml", {"preset": "chatbot"})
    out = tmp_path / "o.yaml"
    line = failure(capsys, "compose", staged, other, "--out", out)
    assert "a: stage_gap_s must not be given in a load to compose" in line
    assert not out.exists()
