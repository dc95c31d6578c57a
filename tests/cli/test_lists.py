from __future__ import annotations

import json
from typing import Any

import pytest

from blis_sim.catalog.gpus import list_gpus
from blis_sim.catalog.models import list_models
from blis_sim.cli.main import main


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(list(arguments)) == 0
    return capsys.readouterr().out.splitlines()


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads("\n".join(listed(capsys, *arguments, "--json")))
    return rows


def test_all_models_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """One line per model under two of header, readable beside a prompt of 100 columns."""
    lines = listed(capsys, "models")
    assert [line.split()[0] for line in lines[2:]] == [entry.folder for entry in list_models()]
    assert max(map(len, lines)) <= 100


def test_models_are_filtered_by_any_name(capsys: pytest.CaptureFixture[str]) -> None:
    """Case does not matter, and the organisation counts, too."""
    names = {row["model"] for row in as_json(capsys, "models", "QWEN3-14")}
    assert names == {"qwen3-14b"}
    assert all(
        row["name"].startswith("Qwen/") for row in as_json(capsys, "models", "qwen/qwen2.5")
    )


def test_a_model_in_json_has_plain_units(capsys: pytest.CaptureFixture[str]) -> None:
    """Llama-3.1-8B: 8.03e9 parameters of two bytes, 128 KiB of KV cache per token."""
    (row,) = as_json(capsys, "models", "llama-3.1-8b")
    assert row["num_parameters"] == 8_030_261_248
    assert row["weight_bytes"] == 2 * row["num_parameters"]
    assert row["kv_bytes_per_token"] == 128 * 1024
    assert row["max_position_embeddings"] == 131072


def test_all_gpus_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """One line per GPU within 80 columns; what a GPU has not is a dash."""
    lines = listed(capsys, "gpus")
    assert [line.split()[0] for line in lines[2:]] == [gpu.name for gpu in list_gpus()]
    assert max(map(len, lines)) <= 80
    (t4,) = listed(capsys, "gpus", "T4")[2:]
    assert t4.split() == ["T4", "14.6", "65", "-", "320", "-", "70"]


def test_gpus_are_filtered_by_aliases(capsys: pytest.CaptureFixture[str]) -> None:
    """The names the driver shows are known."""
    (row,) = as_json(capsys, "gpus", "h100-sxm5-80gb")
    assert row["name"] == "H100"
    assert row["roofline_v1"]["mfu_prefill"] == 0.65
