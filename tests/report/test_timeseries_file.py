from __future__ import annotations

from pathlib import Path

import pytest

from blis_sim.errors import ConfigError, SimulationError
from blis_sim.report.timeseries_file import TIMESERIES
from tests.metrics.builders import make_cluster_run, make_run, make_timeseries, served


def test_file_by_hand(tmp_path: Path) -> None:
    """One row per sample with the documented columns."""
    samples = make_timeseries(
        time_us=[1_000_000, 2_000_000],
        num_waiting=[0, 3],
        num_running=[2, 4],
        kv_blocks=[1, 33],
        generated_tokens=[10, 25],
    )
    path = tmp_path / "t.csv"
    TIMESERIES.write(make_run([served()], timeseries=samples), path)
    assert path.read_text().splitlines() == [
        "time_s,instance,queue_depth,batch_size,kv_usage_frac,kv_blocks,tokens_per_s,"
        "pool,num_instances",
        "1.000000,0,0,2,0.010000,1,10.000,,",
        "2.000000,0,3,4,0.330000,33,25.000,,",
    ]


def test_cluster_by_hand(tmp_path: Path) -> None:
    """A cluster's rows say which pool it is, and how many instances of it there are."""
    samples = make_timeseries(time_us=[400_000] * 2, instance=[0, 1], num_ready=[1, 2])
    path = tmp_path / "t.csv"
    TIMESERIES.write(make_cluster_run(timeseries=samples), path)
    assert path.read_text().splitlines()[1:] == [
        "0.400000,0,0,0,0.000000,0,,p,1",
        "0.400000,1,0,0,0.000000,0,,d,2",
    ]


def test_one_sample_is_one_row(tmp_path: Path) -> None:
    """A table whose every column is constant keeps its rows."""
    path = tmp_path / "t.csv"
    TIMESERIES.write(make_run([served()], timeseries=make_timeseries(time_us=[500_000])), path)
    assert path.read_text().splitlines()[1:] == ["0.500000,0,0,0,0.000000,0,,,"]


def test_unsampled_run(tmp_path: Path) -> None:
    """Without samples nothing is written."""
    path = tmp_path / "t.csv"
    with pytest.raises(SimulationError, match="--timeseries-out must follow a run that was"):
        TIMESERIES.write(make_run([served()]), path)
    assert not path.exists()


def test_path_is_checked_under_its_flag() -> None:
    """The message names the flag."""
    with pytest.raises(ConfigError, match="--timeseries-out must be a file ending in"):
        TIMESERIES.check("series.json")
