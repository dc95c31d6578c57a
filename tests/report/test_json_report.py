from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest

from blis_sim.errors import ConfigError
from blis_sim.report.json_report import render_json, write_json
from tests.metrics.builders import dropped, make_result, served


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


@pytest.mark.parametrize("detailed", [False, True])
def test_text_is_strict_json_in_the_documents_order(detailed: bool) -> None:
    """The text parses without NaN or Infinity and keeps the order of the keys."""
    result = make_result([served(gaps_us=[1]), dropped()], request_rate=math.inf, slo={})
    text = render_json(result, detailed=detailed)
    parsed = json.loads(text, parse_constant=refuse)
    assert parsed == result.to_json_dict(detailed=detailed)
    assert list(parsed) == list(result.to_json_dict(detailed=detailed))
    assert parsed["request_rate"] == "inf"
    assert text.endswith("}\n")


def test_empty_run_is_strict_json() -> None:
    """A run without requests has nulls, no NaN."""
    parsed = json.loads(render_json(make_result([]), detailed=True), parse_constant=refuse)
    assert parsed["p99_ttft_ms"] is None
    assert parsed["ttfts"] == []


def test_same_run_same_bytes() -> None:
    """Two results of one run give one text."""
    rows = [served(gaps_us=[1, 2], slo_class="b"), served(slo_class="a")]
    assert render_json(make_result(rows)) == render_json(make_result(rows))


def test_dash_is_a_stream_with_json_alone(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """`-` writes the document to standard output, or to the stream given, and no file."""
    result = make_result()
    stream = io.StringIO()
    write_json(result, "-", stream=stream)
    write_json(result, "-")
    assert capsys.readouterr().out == stream.getvalue() == render_json(result)
    assert list(tmp_path.iterdir()) == []


def test_file_is_utf8(tmp_path: Path) -> None:
    """Names are written as they are."""
    path = tmp_path / "r.json"
    write_json(make_result(model="modèle"), path)
    assert '"model_id": "modèle"' in path.read_text(encoding="utf-8")


def test_unwritable_file(tmp_path: Path) -> None:
    """A missing folder is one clear error."""
    with pytest.raises(ConfigError, match="must be writable"):
        write_json(make_result(), tmp_path / "no" / "r.json")
