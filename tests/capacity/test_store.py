"""A store keeps what it was given, or says in one line why it cannot."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from blis_sim.capacity.executor import Backend, Executor
from blis_sim.capacity.store import APPLICATION_ID, FORMAT, ResultStore
from blis_sim.capacity.study import Outcome, OutcomeStatus, Point, StudyKind
from blis_sim.errors import ConfigError

from .studies import figures, make_outcome, make_point, make_points

PAGE = 4096


def fill(path: Path, count: int = 12) -> dict[str, Outcome]:
    """Write a store of one study; return its outcomes by key."""
    points = make_points(count)
    outcomes = {
        f"{number:064x}": make_outcome(metrics={"x": number / 7}, load="words " * 200)
        for number in range(count)
    }
    with ResultStore(path) as store:
        study = store.begin(StudyKind.SWEEP, "sweep over seed", {"number": count})
        store.add_members(study, list(outcomes), points)
        for (key, outcome), point in zip(outcomes.items(), points, strict=True):
            store.put(key, point, outcome)
        store.answer(study, {"sentence": "It is so."})
    return outcomes


# -- what is kept ---------------------------------------------------------------


def test_what_was_put_is_found_again(tmp_path: Path) -> None:
    """Figures, labels, scenario, question and answer, also after the file was closed."""
    path = tmp_path / "a.db"
    point = make_point(3, {"engine.max_num_seqs": 8, "x": None}, engine={"max_num_seqs": 8})
    outcome = make_outcome(
        deployment={"model": "m", "pools": [{"name": "p"}]},
        metrics={"a": 1, "b": 0.1 + 0.2, "c": None},
        quantiles={"ttft": [1.0, 2.5]},
        checks=[{"metric": "p99_ttft_ms", "margin": "inf"}],
        is_saturated=False,
        notices=["größer"],
        wall_s=0.25,
    )
    asked = {"grid": {"engine.max_num_seqs": [8]}, "limits": []}
    with ResultStore(path) as store:
        number = store.begin(StudyKind.PLAN, "a question", asked)
        store.add_members(number, ["k"], [point])
        store.put("k", point, outcome)
        store.answer(number, {"best": 0})
    with ResultStore(path, is_read_only=True) as store:
        assert store.finished(["k", "other"]) == {"k": outcome}
        study = store.study(number)
    assert (study.kind, study.name, study.asked) == (StudyKind.PLAN, "a question", asked)
    assert study.answer == {"best": 0}
    (stored,) = study.points
    assert (stored.key, stored.labels, stored.outcome) == ("k", point.labels, outcome)
    assert stored.scenario["engine"] == {"max_num_seqs": 8}
    assert stored.scenario["seed"] == 3


def test_a_store_in_memory() -> None:
    with ResultStore(None) as store:
        store.put("k", make_point(), make_outcome())
        assert list(store.finished(["k"])) == ["k"]


def test_what_failed_is_tried_again() -> None:
    """Infeasible points are not: the same would come out."""
    with ResultStore(None) as store:
        for status in OutcomeStatus:
            store.put(status.value, make_point(), make_outcome(status.value, reason="why"))
        assert set(store.finished([*OutcomeStatus])) == {"done", "infeasible"}
        store.put("failed", make_point(), make_outcome())
        assert "failed" in store.finished(["failed"])


def test_many_keys_at_once() -> None:
    """More than SQLite takes in one statement."""
    with ResultStore(None) as store:
        for number in range(0, 3000, 7):
            store.put(str(number), make_point(), make_outcome())
        assert len(store.finished([str(number) for number in range(3000)])) == 429


def test_the_same_question_is_the_same_study() -> None:
    """Its points and its answer are new; another question is another study."""
    points = make_points(3)
    with ResultStore(None) as store:
        first = store.begin(StudyKind.SWEEP, "a", {"x": 1})
        store.add_members(first, ["1", "2"], points[:2])
        store.answer(first, {"sentence": "old"})
        assert store.begin(StudyKind.PLAN, "a", {"x": 1}) == 2
        assert store.begin(StudyKind.SWEEP, "a", {"x": 2}) == 3
        assert store.study().number == 3
        assert store.begin(StudyKind.SWEEP, "a", {"x": 1}) == first
        assert (store.study().number, store.study().answer) == (first, None)
        store.add_members(first, ["3"], points[2:])
        assert [point.key for point in store.study(first).points] == ["3"]
        assert [study.number for study in store.studies()] == [1, 2, 3]


def test_points_keep_their_order_and_count_once() -> None:
    """Added in several parts; the same point with other labels is listed again."""
    one, two = make_point(1), make_point(2)
    other = Point(one.scenario, {"name": "other"})
    with ResultStore(None) as store:
        study = store.begin(StudyKind.SWEEP, "a", {})
        store.add_members(study, ["2", "1", "2"], [two, one, two])
        store.add_members(study, ["1", "1", "3"], [one, other, make_point(3)])
        listed = [(point.key, *point.labels.items()) for point in store.study(study).points]
        assert store.tallies() == {study: {"unfinished": 4}}
        store.put("1", one, make_outcome())
        store.put("3", one, make_outcome("failed"))
        assert store.tallies() == {study: {"done": 2, "failed": 1, "unfinished": 1}}
    assert listed == [
        ("2", ("seed", 2)),
        ("1", ("seed", 1)),
        ("1", ("name", "other")),
        ("3", ("seed", 3)),
    ]


def test_a_study_that_is_not_there(tmp_path: Path) -> None:
    fill(tmp_path / "a.db")
    with ResultStore(tmp_path / "a.db", is_read_only=True) as store:
        message = r"a\.db must hold study 7; there: 1; see blis results list"
        with pytest.raises(ConfigError, match=message):
            store.study(7)
    with (
        ResultStore(None) as store,
        pytest.raises(ConfigError, match="must hold a study; there: none"),
    ):
        store.study()


def test_outcomes_of_versions_to_come_are_read() -> None:
    """What they know more is left out."""
    outcome = make_outcome()
    values = outcome.to_json_dict() | {"colour": "red"}
    assert Outcome.from_json_dict(values) == outcome


# -- several processes ----------------------------------------------------------


def test_one_writes_and_many_read(tmp_path: Path) -> None:
    """Readers see what is stored so far; a second writer gets one line."""
    path = tmp_path / "a.db"
    with ResultStore(path) as writer:
        writer.put("1", make_point(), make_outcome())
        message = (
            r"^--store must not be in use by another study; got .*a\.db, to which another "
            r"process is writing; wait for it, or choose another path$"
        )
        with pytest.raises(ConfigError, match=message):
            ResultStore(path)
        with (
            ResultStore(path, is_read_only=True) as one,
            ResultStore(path, is_read_only=True) as other,
        ):
            assert list(one.finished(["1", "2"])) == ["1"]
            writer.put("2", make_point(), make_outcome())
            assert list(one.finished(["1", "2"])) == list(other.finished(["1", "2"])) == ["1", "2"]
    with ResultStore(path) as writer:
        assert len(writer.finished(["1", "2"])) == 2


def test_a_lock_that_nobody_holds_is_in_nobodys_way(tmp_path: Path) -> None:
    """A process that was killed leaves its file."""
    (tmp_path / ".a.db.lock").write_text("")
    with ResultStore(tmp_path / "a.db"):
        pass


def test_what_a_killed_writer_left_is_read(tmp_path: Path) -> None:
    """Its log holds results that are not in the file yet; on a disk that is read-only, too."""
    path, copy = tmp_path / "a.db", tmp_path / "copy"
    copy.mkdir()
    with ResultStore(path) as writer:
        writer.put("1", make_point(), make_outcome())
        for file in tmp_path.glob("a.db*"):  # as they are on the disk at this moment
            shutil.copy(file, copy)
    assert (copy / "a.db-wal").stat().st_size > 0
    for is_read_only in (True, False):
        with ResultStore(copy / "a.db", is_read_only=is_read_only) as store:
            assert list(store.finished(["1"])) == ["1"]


@pytest.mark.parametrize("with_log", [False, True])
def test_a_disk_that_is_read_only(with_log: bool, tmp_path: Path) -> None:
    """Results are shown; a study that would write gets one line."""
    disk = tmp_path / "disk"
    disk.mkdir()
    fill(tmp_path / "a.db", 2)
    if with_log:
        with ResultStore(tmp_path / "a.db") as writer:
            writer.begin(StudyKind.SWEEP, "the second", {})
            for file in tmp_path.glob("a.db*"):
                shutil.copy(file, disk)
    else:
        shutil.copy(tmp_path / "a.db", disk)
    code = (
        "from pathlib import Path; from blis_sim.capacity.store import ResultStore\n"
        "with ResultStore(Path('disk/a.db'), is_read_only=True) as store:\n"
        "    print([study.name for study in store.studies()])\n"
        "try: ResultStore(Path('disk/a.db'))\n"
        "except Exception as error: print(error)\n"
    )
    mount = "mount --bind disk disk && mount -o remount,bind,ro disk"
    root, python = str(Path(__file__).resolve().parents[2]), (sys.executable, code)
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", f'{mount} || exit 77; exec "$0" -c "$1"', *python],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this system does not let a process mount a disk of its own")
    names, refusal = done.stdout.splitlines()
    assert names == str(["sweep over seed", *(["the second"] if with_log else [])]), done.stderr
    assert refusal.startswith("--store must be writable; got disk/a.db; change the permissions")


# -- files that are no stores ---------------------------------------------------


def other_program(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE results (x)")
    db.close()


def newer(path: Path) -> None:
    fill(path)
    change(path, f"PRAGMA user_version = {FORMAT + 1}")


def change(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as db:
        db.execute(statement)
    db.close()


def overwritten(path: Path) -> None:
    """Overwrite the root page of a table."""
    fill(path)
    data = bytearray(path.read_bytes())
    data[PAGE : PAGE + 200] = os.urandom(200)
    path.write_bytes(data)


def truncated(path: Path) -> None:
    fill(path)
    path.write_bytes(path.read_bytes()[: 3 * PAGE + 100])


NO_STORES = {
    "text": (
        lambda path: path.write_text("key,status\n" * 300),
        "undamaged result store; .* not a",
    ),
    "short text": (lambda path: path.write_text("hello"), "undamaged result store; .* not a data"),
    "other program": (other_program, "result store of blis; .* the database of another program"),
    "newer": (newer, rf"the format {FORMAT} of this version; .* in format {FORMAT + 1}: it was w"),
    "overwritten": (overwritten, "undamaged result store; .* it was left as it is; restore it"),
    "truncated": (truncated, "undamaged result store; .* it was left as it is; restore it"),
    "folder": (lambda path: path.mkdir(), r"a file(; got the folder| that is there)"),
}


@pytest.mark.parametrize("what", NO_STORES)
@pytest.mark.parametrize("is_read_only", [False, True])
def test_a_file_that_is_no_store_is_left_as_it_is(
    what: str, is_read_only: bool, tmp_path: Path
) -> None:
    """One line; the bytes stay what they were."""
    path = tmp_path / "a.db"
    make, message = NO_STORES[what]
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(ConfigError, match=rf"^--store must (be|have) (an? )?{message}"):
        ResultStore(path, is_read_only=is_read_only)
    assert (path.read_bytes() if path.is_file() else None) == before


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("absent/a.db", r"a file in an existing folder; got absent/a\.db; create .*absent first$"),
        ("/proc/a.db", r"a file that can be read and written|writable"),
        ("/sys/kernel/a.db", r"a file that can be read and written|writable"),
    ],
)
def test_a_place_where_no_file_can_be(
    path: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for root."""
    monkeypatch.chdir(tmp_path)
    if path.startswith("/") and not Path(path).parent.is_dir():
        pytest.skip(f"{path} is a place of Linux")
    with pytest.raises(ConfigError, match=f"^--store must be ({message})"):
        ResultStore(Path(path))


def test_an_empty_file(tmp_path: Path) -> None:
    """It becomes a store; there is nothing in it to look at."""
    path = tmp_path / "a.db"
    path.touch()
    with pytest.raises(ConfigError, match=r"must be a result store of blis; .* an empty database"):
        ResultStore(path, is_read_only=True)
    with ResultStore(path) as store:
        assert store.studies() == []
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    db.close()


def test_nothing_to_look_at(tmp_path: Path) -> None:
    """Looking makes no file."""
    with pytest.raises(
        ConfigError, match=r"^--store must be a file that is there; got .*; give t"
    ):
        ResultStore(tmp_path / "a.db", is_read_only=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_read_only", [False, True])
def test_damage_never_changes_a_result(is_read_only: bool, tmp_path: Path) -> None:
    """Whichever bytes are overwritten: an error in one line, or the results as they were."""
    good, path = tmp_path / "good.db", tmp_path / "a.db"
    outcomes = fill(good)
    data, rng = good.read_bytes(), np.random.default_rng(1)
    num_found = 0
    for _ in range(60):
        damaged = bytearray(data)
        begin = int(rng.integers(0, len(data) - 40))
        damaged[begin : begin + 40] = rng.bytes(40)
        path.write_bytes(damaged)
        try:
            with ResultStore(path, is_read_only=is_read_only) as store:
                found = store.finished(list(outcomes))
                study = store.study(1)
        except ConfigError:
            num_found += 1
            continue
        assert all(figures(outcomes[key]) == figures(each) for key, each in found.items())
        shown = [figures(point.outcome) for point in study.points if point.outcome]
        assert shown == [*map(figures, outcomes.values())]
        assert [point.labels["seed"] for point in study.points] == [*range(1, 13)]
        assert study.answer == {"sentence": "It is so."}
    assert 10 < num_found < 60


# -- a full disk ----------------------------------------------------------------


def full_disk(store: ResultStore, num_pages: int) -> None:
    """Let the file not grow any more."""
    (used,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {used + num_pages}")


def test_a_full_disk_costs_nothing_that_is_stored(tmp_path: Path) -> None:
    """One line; what was stored stays, and the same question goes on with the rest."""
    path, points = tmp_path / "a.db", make_points(30)
    message = (
        r"^--store must be a file that can be read and written; got .*a\.db: database or disk is "
        r"full; what is stored is kept; mend that and run the same command again, or choose"
    )
    with ResultStore(path) as store:
        full_disk(store, 12)
        executor = Executor(store, Backend())
        with pytest.raises(ConfigError, match=message):
            executor.run(points)
        num_kept = executor.num_simulated
        keys = executor.keys(points)
        kept = store.finished(keys)
        assert 0 < len(kept) == num_kept < len(points)
    with ResultStore(path) as store:
        assert store.finished(keys) == kept
        executor = Executor(store, Backend())
        outcomes = executor.run(points)
        assert executor.num_simulated == len(points) - num_kept
        assert [*map(figures, executor.run(points))] == [*map(figures, outcomes)]


def test_a_full_disk_at_the_beginning(tmp_path: Path) -> None:
    with ResultStore(tmp_path / "a.db") as store:
        full_disk(store, 0)
        keys = [f"{number:064x}" for number in range(500)]
        study = store.begin(StudyKind.SWEEP, "a", {})
        with pytest.raises(ConfigError, match="database or disk is full"):
            store.add_members(study, keys, [make_point()] * 500)
        assert store.study(study).points == ()


@pytest.fixture(autouse=True)
def _no_trace(tmp_path: Path) -> Iterator[None]:
    """Check that no file is left but stores, their logs and their locks."""
    yield
    known = (".db", ".db-wal", ".db-shm", ".db.lock")
    left = [p.name for p in tmp_path.rglob("*") if p.is_file() and not p.name.endswith(known)]
    assert left == []
