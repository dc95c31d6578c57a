"""When two points are the same, so that one result does for both."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import blis_sim
from blis_sim.capacity.code_version import code_version
from blis_sim.capacity.point_key import PointKeys, given_settings
from blis_sim.capacity.slo import Limit
from blis_sim.capacity.study import Window
from blis_sim.config.loading import load_scenario

from .studies import make_point, make_scenario, write_trace


def key(**settings: object) -> str:
    return PointKeys().key(make_point(1, **settings))


def test_a_key_is_a_hash_that_stays() -> None:
    assert re.fullmatch("[0-9a-f]{64}", key())
    assert key() == key()


def test_labels_have_no_part_in_it() -> None:
    point = make_point(1, {"a": 1})
    keys = PointKeys()
    assert keys.key(point) == keys.key(replace(point, labels={"b": "x"}))


@pytest.mark.parametrize(
    "settings",
    [
        {"hardware": "L40S"},
        {"workload": {"request_rate": 5}},
        {"engine": {"max_num_seqs": 8}},
        {"seed": 2},
        {"slo": {"ttft_ms": 5}},
    ],
)
def test_every_setting_counts(settings: dict[str, object]) -> None:
    scenario = make_scenario(**{"seed": 1} | settings)
    keys = PointKeys()
    assert keys.key(replace(make_point(1), scenario=scenario)) != keys.key(make_point(1))


def test_window_and_limits_count() -> None:
    """They decide what of a run is kept."""
    point, keys = make_point(1), PointKeys()
    others = [
        replace(point, window=Window(0, 10)),
        replace(point, window=Window(0, 20)),
        replace(point, window=Window(0, 10, 30)),
        replace(point, window=Window(0, 10), limits=(Limit("p99_ttft_ms", 5),)),
        replace(point, window=Window(0, 10), limits=(Limit("p99_ttft_ms", 6),)),
    ]
    assert len({keys.key(each) for each in [point, *others]}) == 6


def test_how_steps_are_taken_does_not_count() -> None:
    """Coalesced or plain: the results are the same bytes."""
    assert key(coalesce=False) == key(coalesce=True) == key()


def trace_key(path: Path) -> str:
    workload = {"trace": str(path), "num_requests": 3, "request_rate": 2}
    return PointKeys().key(replace(make_point(1), scenario=load_scenario({"workload": workload})))


def test_files_count_by_what_they_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same trace elsewhere, or called otherwise, is the same; a changed one is not."""
    first = write_trace(tmp_path / "a.csv")
    (tmp_path / "sub").mkdir()
    copy = tmp_path / "sub" / "b.csv"
    shutil.copy(first, copy)
    link = tmp_path / "link.csv"
    link.symlink_to(first)
    monkeypatch.chdir(tmp_path)
    keys = {trace_key(path) for path in (first, copy, link, Path("a.csv"), Path("sub/../a.csv"))}
    assert len(keys) == 1
    write_trace(copy, "0,33,5")
    assert trace_key(copy) not in keys
    assert trace_key(tmp_path / "absent.csv") not in keys


def test_shipped_files_are_found() -> None:
    """From any folder, as everywhere."""
    shipped = Path(blis_sim.__file__).parent.parent / "workloads" / "chat_small.csv"
    assert trace_key(Path("workloads/chat_small.csv")) == trace_key(shipped)


def test_a_folder_counts_by_its_files(tmp_path: Path) -> None:
    """Names and content of all that lies in it."""

    def of(folder: Path) -> str:
        return key(latency={"bench_data_path": str(folder)})

    for name in ("one", "two"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "config.json").write_text("{}")
    assert of(tmp_path / "one") == of(tmp_path / "two")
    (tmp_path / "two" / "more").write_text("")
    assert of(tmp_path / "one") != of(tmp_path / "two")


def test_a_model_of_the_users_own_counts_by_its_config(tmp_path: Path) -> None:
    """By name or as a setting; its weights do not count."""
    config = tmp_path / "config.json"
    scenarios = [
        {"model": str(tmp_path)},
        {"model": str(config)},
        {"latency": {"model": "roofline-v1", "model_config_folder": str(tmp_path)}},
        {"cluster": {"pools": [{"name": "a", "model": str(tmp_path), "num_instances": 2}]}},
    ]
    config.write_text("{}")
    before = [key(**each) for each in scenarios]
    (tmp_path / "model.safetensors").write_text("weights")
    assert [key(**each) for each in scenarios] == before
    config.write_text("{ }")
    assert not {key(**each) for each in scenarios} & set(before)


def test_what_was_written_gives_the_same_key_again() -> None:
    """A scenario read back from a store is the same point."""
    point = make_point(3, engine={"max_num_seqs": 8}, workload={"request_rate": float("inf")})
    again = load_scenario(given_settings(point.scenario))
    keys = PointKeys()
    assert keys.key(replace(point, scenario=again)) == keys.key(point)


def test_the_version_is_that_of_code_and_data(tmp_path: Path) -> None:
    """A copy elsewhere is the same version; a changed source or table makes it another.

    Rooms that only show results do not count.
    """
    package = Path(blis_sim.__file__).parent
    copy = tmp_path / "blis_sim"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("configs", "bench_data"):
        (tmp_path / folder).symlink_to(package.parent / folder)
    add_comment(copy / "report" / "table.py")
    add_comment(copy / "cli" / "run.py")
    assert version_of(tmp_path) == code_version()
    add_comment(copy / "engine" / "scheduler.py")
    assert version_of(tmp_path) != code_version()


def add_comment(path: Path) -> None:
    path.write_text(path.read_text() + "# changed\n")


def version_of(folder: Path) -> str:
    """Return the version of the package in a folder, asked in a process of its own."""
    code = "from blis_sim.capacity.code_version import code_version; print(code_version())"
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()
