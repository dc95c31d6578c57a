"""The same scenario gives the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ARGUMENTS = [
    *["--workload", "chatbot", "--rate", "30", "--num-requests", "200", "--seed", "11"],
    *["--total-kv-blocks", "400", "--max-num-seqs", "64", "--goodput", "ttft:500", "tpot:50"],
    *["--prefix-tokens", "64", "--prefix-groups", "3", "--timeout", "20s", "--slo-class", "a"],
]


def run(folder: Path, *arguments: str, hash_seed: str = "0") -> tuple[bytes, bytes]:
    """Return the bytes of the requests and of the JSON without its wall-clock facts."""
    folder.mkdir(parents=True, exist_ok=True)
    outputs = ["--requests-out", "requests.csv", "--json", "result.json", "--quiet"]
    subprocess.run(
        [sys.executable, "-m", "blis_sim", "run", *ARGUMENTS, *outputs, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        check=True,
        timeout=120,
    )
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    del result["run_info"], result["date"]
    return (folder / "requests.csv").read_bytes(), json.dumps(result).encode()


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    return run(tmp_path_factory.mktemp("reference"))


def test_the_load_is_worth_the_test(reference: tuple[bytes, bytes]) -> None:
    """Requests are preempted, hit shared prefixes and time out in it."""
    result = json.loads(reference[1])
    assert result["engine"]["num_preemptions"] > 0
    assert result["kv_cache"]["prefix_hit_rate"] > 0
    assert result["conservation"]["timed_out"] > 0
    assert result["completed"] > 100


@pytest.mark.parametrize(
    ("arguments", "hash_seed"),
    [
        ([], "1"),
        (["--timeseries-out", "series.csv"], "0"),
        (["--timeseries-out", "series.csv", "--timeseries-interval", "7ms"], "0"),
        (["--no-coalesce"], "0"),
        (["--no-coalesce", "--timeseries-out", "series.csv"], "random"),
    ],
)
def test_the_same_bytes(
    tmp_path: Path, reference: tuple[bytes, bytes], arguments: list[str], hash_seed: str
) -> None:
    """Hash seeds, observers and coalescing change nothing in requests and JSON."""
    requests, result = run(tmp_path, *arguments, hash_seed=hash_seed)
    assert requests == reference[0]
    assert result == reference[1]


def test_another_horizon_gives_other_bytes(tmp_path: Path, reference: tuple[bytes, bytes]) -> None:
    """The comparison can fail."""
    requests, result = run(tmp_path, "--horizon", "5s")
    assert requests != reference[0]
    assert result != reference[1]
