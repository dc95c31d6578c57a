"""The example and the notebook run, and print what they are about."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from blis_sim.roofline import RooflineAnalyzer

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def test_basic_roofline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Intensities of two GPUs, suggestions, a picture."""
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "basic_roofline.py"))["main"]("picture.svg")
    text = capsys.readouterr().out
    assert "on T4, ridge at 203 FLOP/byte" in text
    assert "1024 + 256 tokens are memory-bound" in text
    assert "weights in int4" in text
    assert (tmp_path / "picture.svg").stat().st_size > 10_000


def test_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its code cells run one after the other; it is stored without outputs."""
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    notebook: dict[str, Any] = json.loads((EXAMPLES / "roofline.ipynb").read_text("utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    text = capsys.readouterr().out
    assert "ridge 295 FLOP/byte" in text
    assert names["analysis"].bottleneck == "memory-bound"
    assert (tmp_path / "roofline.svg").is_file()


def test_python_of_the_guide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What docs/roofline.md shows runs as it stands."""
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    guide = (ROOT / "docs" / "roofline.md").read_text("utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    exec(compile(block.replace(".png", ".svg"), "guide", "exec"), {})
    assert "memory-bound 1.4" in capsys.readouterr().out
    assert (tmp_path / "roofline.svg").is_file()


def test_figures_worked_out_by_hand() -> None:
    """The guide's Llama-3.1-8B on an H100, from the widths of its layers."""
    linear = 32 * (4096 * 6144 + 4096 * 4096 + 4096 * 28672 + 14336 * 4096)
    head = 4096 * 128256
    analyzer = RooflineAnalyzer("H100", "llama-3.1-8b")
    decode, prefill = analyzer.step("decode", 1024), analyzer.step("prefill", 1024)
    assert linear + head == pytest.approx(7.505e9, rel=1e-4)
    assert decode.flops == 2 * (linear + head) + 1025 * 4 * 32 * 128 * 32
    assert decode.bytes == pytest.approx(2 * (linear + head) + 1025 * 131_072, rel=2e-3)
    assert prefill.flops == 2 * (1024 * linear + head) + 262_144 * 1024**2
    assert 1e3 * decode.roof_s == pytest.approx(4.53, abs=0.005)
    bounds = [analyzer.step("prefill", seq_len).bottleneck for seq_len in (407, 408)]
    assert bounds == ["memory-bound", "compute-bound"]
    assert analyzer.operational_intensity(1024, "decode", 2**16) == pytest.approx(102, abs=1)
