from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from blis_sim.errors import ConfigError, SimulationError
from blis_sim.metrics.records import Decision
from blis_sim.report.decisions_file import DECISIONS
from tests.metrics.builders import make_cluster_run, make_run, served

HEADER = "time_us,request_id,purpose,instance,is_chosen,score,regret"
LINES = [
    HEADER,
    "10000,0,decode,1,1,,",
    "510000,2,decode,1,1,-1.500000,1.750000",
    "510000,2,decode,2,0,0.250000,0.000000",
    "530000,1,prefill,0,1,2.000000,0.000000",
]


def test_file_by_hand(tmp_path: Path) -> None:
    """A row per candidate: its score, and how far that is from the best one."""
    path = tmp_path / "d.csv"
    DECISIONS.write(make_cluster_run(), path)
    assert path.read_text().splitlines() == LINES


def test_gzip_and_parquet_hold_the_same(tmp_path: Path) -> None:
    """The ending selects the format, as for every table."""
    parquet = pytest.importorskip("pyarrow.parquet")
    for name in ("d.csv.gz", "d.parquet"):
        DECISIONS.write(make_cluster_run(), tmp_path / name)
    assert gzip.decompress((tmp_path / "d.csv.gz").read_bytes()).decode().splitlines() == LINES
    table = parquet.read_table(tmp_path / "d.parquet").to_pydict()
    assert table["purpose"] == ["decode", "decode", "decode", "prefill"]
    assert table["score"] == [None, -1.5, 0.25, 2.0]
    assert table["regret"] == [None, 1.75, 0.0, 0.0]


def test_score_that_is_no_number(tmp_path: Path) -> None:
    """An infinite score is no number to compare with: it is left empty."""
    infinite = Decision(5, 0, "serve", (0, 1, 2), 1, (float("-inf"), 4.0, 1.0))
    path = tmp_path / "d.csv"
    DECISIONS.write(make_cluster_run(decisions=[infinite]), path)
    assert path.read_text().splitlines()[1:] == [
        "5,0,serve,0,0,,",
        "5,0,serve,1,1,4.000000,0.000000",
        "5,0,serve,2,0,1.000000,3.000000",
    ]


def test_no_decision_is_a_header(tmp_path: Path) -> None:
    """A run in which nothing was routed gives the header alone."""
    path = tmp_path / "d.csv"
    DECISIONS.write(make_cluster_run(decisions=[]), path)
    assert path.read_text() == f"{HEADER}\n"


def test_run_without_decisions(tmp_path: Path) -> None:
    """Where decisions were not kept nothing is written."""
    path = tmp_path / "d.csv"
    with pytest.raises(SimulationError, match="--decisions-out must follow a run that kept"):
        DECISIONS.write(make_run([served()]), path)
    assert not path.exists()


def test_path_is_checked_under_its_flag() -> None:
    """The message names the flag."""
    with pytest.raises(ConfigError, match="--decisions-out must be a file ending in"):
        DECISIONS.check("decisions.json")
