"""The results of studies in one SQLite file that survives being killed at any moment."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from blis_sim.capacity.code_version import code_version
from blis_sim.capacity.point_key import given_settings
from blis_sim.capacity.study import (
    Outcome,
    OutcomeStatus,
    Point,
    StoredPoint,
    Study,
    StudyKind,
)
from blis_sim.errors import ConfigError
from blis_sim.metrics.plain import canonical_sha256, to_plain

APPLICATION_ID = 0x626C6973
"""``blis`` in ASCII: marks the file as ours."""
FORMAT = 1
DEFAULT_PATH = Path("blis_study.db")
_KEYS_PER_QUERY = 500
_PATIENCE_S = 30.0
_SCHEMA = """
CREATE TABLE points (
    key TEXT PRIMARY KEY,
    status TEXT NOT NULL,
    scenario TEXT NOT NULL,
    outcome TEXT NOT NULL,
    digest TEXT NOT NULL,
    wall_s REAL NOT NULL,
    code_version TEXT NOT NULL,
    host TEXT NOT NULL,
    finished_at TEXT NOT NULL
);
CREATE TABLE studies (
    number INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    asked TEXT NOT NULL,
    asked_sha256 TEXT NOT NULL UNIQUE,
    answer TEXT,
    digest TEXT NOT NULL,
    code_version TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE TABLE members (
    study INTEGER NOT NULL REFERENCES studies (number),
    position INTEGER NOT NULL,
    key TEXT NOT NULL,
    labels TEXT NOT NULL,
    scenario TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (study, position),
    UNIQUE (study, key, labels)
);
"""


class ResultStore:
    """One file of results; use it as a context manager.

    Every point is stored in a transaction of its own as soon as it is finished. One process
    writes at a time; any number may read meanwhile.

    Parameters
    ----------
    path : Path, or None
        The file, made when it is absent; None = in memory, lost at the end.
    is_read_only : bool
        Only look. The file must be there.

    Raises
    ------
    ConfigError
        The file is damaged, is something else, was written by a newer version, cannot be
        read or written, or another process is writing to it. It is left as it is.
    """

    def __init__(self, path: Path | None, *, is_read_only: bool = False) -> None:
        self.path = path
        self._lock: Any = None
        if path is None:
            self._db = sqlite3.connect(":memory:", isolation_level=None)
        elif is_read_only:
            self._db = _open_for_reading(path)
        else:
            self._lock = _lock(path)
            try:
                self._db = _open_for_writing(path)
            except BaseException:
                self._lock.release()
                raise
        try:
            with self._explained():
                # Bytes that were overwritten are found by what is in them, not by their code.
                self._db.text_factory = partial(str, encoding="utf-8", errors="replace")
                self._check(is_new=path is None, is_read_only=is_read_only)
                if self._lock is not None:
                    self._db.execute("PRAGMA journal_mode = WAL")
                    # With a log ahead of the file this outlives the death of the process.
                    self._db.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._db.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- points ---------------------------------------------------------------

    def finished(self, keys: Sequence[str]) -> dict[str, Outcome]:
        """Return the outcomes of those points that need not be simulated again, by key."""
        found: dict[str, Outcome] = {}
        with self._explained():
            for begin in range(0, len(keys), _KEYS_PER_QUERY):
                part = list(keys[begin : begin + _KEYS_PER_QUERY])
                marks = ",".join("?" * len(part))
                rows = self._db.execute(
                    "SELECT key, outcome, digest FROM points WHERE status != ? "
                    f"AND key IN ({marks})",
                    [OutcomeStatus.FAILED.value, *part],
                )
                found |= {key: _outcome(key, text, digest) for key, text, digest in rows}
        return found

    def put(self, key: str, point: Point, outcome: Outcome) -> None:
        """Keep the outcome of a point; when this returns it survives being killed."""
        text = _json(outcome.to_json_dict())
        row = (
            key,
            outcome.status.value,
            _text(given_settings(point.scenario)),
            text,
            _digest(key, text),
            outcome.wall_s,
            code_version(),
            platform.node(),
            _now(),
        )
        with self._explained():
            self._db.execute("INSERT OR REPLACE INTO points VALUES (?,?,?,?,?,?,?,?,?)", row)

    def num_other_versions(self) -> int:
        """Return how many points other code has answered: they are kept, and not used."""
        with self._explained():
            (number,) = self._db.execute(
                "SELECT count(*) FROM points WHERE code_version != ?", [code_version()]
            ).fetchone()
        return int(number)

    # -- studies --------------------------------------------------------------

    def begin(self, kind: StudyKind, name: str, asked: Mapping[str, Any]) -> int:
        """Return the number of the study that asks this; a new one unless it was asked before."""
        text, now = _text(asked), _now()
        key = canonical_sha256({"kind": kind.value, "asked": asked})
        with self._explained(), self._transaction():
            self._db.execute(
                "INSERT INTO studies (kind, name, asked, asked_sha256, digest, code_version, "
                "created_at, updated_at) VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (asked_sha256) DO "
                "UPDATE SET name = excluded.name, digest = excluded.digest, "
                "code_version = excluded.code_version, answer = NULL, "
                "updated_at = excluded.updated_at",
                [kind.value, name, text, key, _digest(kind.value, text), code_version(), now, now],
            )
            row = self._db.execute("SELECT number FROM studies WHERE asked_sha256 = ?", [key])
            (number,) = row.fetchone()
            self._db.execute("DELETE FROM members WHERE study = ?", [number])
        return int(number)

    def add_members(self, study: int, keys: Sequence[str], points: Sequence[Point]) -> None:
        """Let points belong to a study, after those that do already.

        The same point counts once, unless it has other labels.
        """
        with self._explained(), self._transaction():
            (begin,) = self._db.execute(
                "SELECT coalesce(max(position) + 1, 0) FROM members WHERE study = ?", [study]
            ).fetchone()
            rows = []
            for position, (key, point) in enumerate(zip(keys, points, strict=True), start=begin):
                texts = (key, _text(point.labels), _text(given_settings(point.scenario)))
                rows.append((study, position, *texts, _digest(*texts)))
            self._db.executemany("INSERT OR IGNORE INTO members VALUES (?,?,?,?,?,?)", rows)

    def answer(self, study: int, answer: Mapping[str, Any]) -> None:
        """Keep what a study found."""
        text = _text(answer)
        with self._explained(), self._transaction():
            kind, asked = self._db.execute(
                "SELECT kind, asked FROM studies WHERE number = ?", [study]
            ).fetchone()
            self._db.execute(
                "UPDATE studies SET answer = ?, digest = ?, updated_at = ? WHERE number = ?",
                [text, _digest(kind, asked, text), _now(), study],
            )

    def studies(self) -> list[Study]:
        """Return all studies without their points, in the order they were begun."""
        with self._explained():
            return [_study(row) for row in self._db.execute(f"{_STUDIES} ORDER BY number")]

    def tallies(self) -> dict[int, dict[str, int]]:
        """Return how many points of each study are in each state, by number of the study.

        The states are those of `OutcomeStatus`, and ``unfinished``.
        """
        rows = (
            "SELECT m.study, coalesce(p.status, 'unfinished'), count(*) FROM members m "
            "LEFT JOIN points p ON p.key = m.key GROUP BY 1, 2"
        )
        found: dict[int, dict[str, int]] = {}
        with self._explained():
            for study, state, number in self._db.execute(rows):
                found.setdefault(study, {})[state] = number
        return found

    def study(self, number: int | None = None) -> Study:
        """Return one study with its points; the one asked last by default.

        Raises
        ------
        ConfigError
            There is no such study.
        """
        with self._explained():
            if number is None:
                row = self._db.execute(
                    f"{_STUDIES} ORDER BY updated_at DESC, number DESC LIMIT 1"
                ).fetchone()
            else:
                row = self._db.execute(f"{_STUDIES} WHERE number = ?", [number]).fetchone()
            if row is None:
                there = ", ".join(str(each.number) for each in self.studies()) or "none"
                asked = "a study" if number is None else f"study {number}"
                raise ConfigError(
                    f"{self.path} must hold {asked}; there: {there}; see blis results list"
                )
            return _study(row, tuple(self._points(int(row[0]))))

    def _points(self, study: int) -> Iterator[StoredPoint]:
        rows = self._db.execute(
            "SELECT m.key, m.labels, m.scenario, m.digest, p.outcome, p.digest, "
            "p.code_version, p.finished_at "
            "FROM members m LEFT JOIN points p ON p.key = m.key WHERE m.study = ? "
            "ORDER BY m.position",
            [study],
        )
        for key, labels, scenario, seal, outcome, digest, version, finished_at in rows:
            _check_digest(seal, key, labels, scenario)
            yield StoredPoint(
                key=key,
                labels=_read(labels),
                scenario=_read(scenario),
                outcome=None if outcome is None else _outcome(key, outcome, digest),
                code_version=version or "",
                finished_at=finished_at or "",
            )

    # -- the file -------------------------------------------------------------

    def _check(self, *, is_new: bool, is_read_only: bool) -> None:
        """Check that the file is a store; lay out an empty one."""
        db = self._db
        tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not tables and not is_read_only:
            with self._transaction():
                for statement in _SCHEMA.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {FORMAT}")
            return
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            what = "an empty database" if not tables else "the database of another program"
            raise ConfigError(
                f"--store must be a result store of blis; got {self.path}: {what}; "
                "choose another path"
            )
        if version != FORMAT:
            raise ConfigError(
                f"--store must have the format {FORMAT} of this version; got {self.path} in "
                f"format {version}: it was written by another version of blis_sim; use that one, "
                "or choose another path"
            )
        if not is_new:
            (state,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if state != "ok":
                raise sqlite3.DatabaseError(state)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:  # SQLite itself takes back what did not fit on the disk
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what SQLite complains about into one line."""
        try:
            yield
        except sqlite3.Error as error:
            raise ConfigError(_explain(self.path, error)) from error


_STUDIES = (
    "SELECT number, kind, name, asked, answer, digest, created_at, updated_at, code_version "
    "FROM studies"
)


def _study(row: Sequence[Any], points: tuple[StoredPoint, ...] = ()) -> Study:
    number, kind, name, asked, answer, digest, created_at, updated_at, version = row
    _check_digest(digest, kind, asked, *([] if answer is None else [answer]))
    return Study(
        number=number,
        kind=StudyKind(kind),
        name=name,
        asked=_read(asked),
        answer=None if answer is None else _read(answer),
        created_at=created_at,
        updated_at=updated_at,
        code_version=version,
        points=points,
    )


def _lock(path: Path) -> Any:
    """Return the lock of who writes; the system lets go of it when its owner dies."""
    from filelock import FileLock, Timeout

    _check_place(path)
    file = path.with_name(f".{path.name}.lock")
    lock = FileLock(file)
    try:
        file.touch()  # for where that cannot be it would say that another process has it
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(
            f"--store must not be in use by another study; got {path}, to which another process "
            "is writing; wait for it, or choose another path"
        ) from None
    except OSError as error:
        raise ConfigError(_explain(path, error)) from error
    return lock


def _check_place(path: Path) -> None:
    folder = path.resolve().parent
    if path.is_dir():
        raise ConfigError(f"--store must be a file; got the folder {path}; add a file name")
    if not folder.is_dir():
        raise ConfigError(
            f"--store must be a file in an existing folder; got {path}; create {folder} first"
        )
    for place in (path, folder):
        if place.exists() and not os.access(place, os.W_OK):
            raise ConfigError(
                f"--store must be writable; got {path}; change the permissions of {place}, choose "
                "another path, or keep nothing with --no-store"
            )


def _open_for_writing(path: Path) -> sqlite3.Connection:
    try:
        return sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None)
    except sqlite3.Error as error:
        raise ConfigError(_explain(path, error)) from error


def _open_for_reading(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise ConfigError(
            f"--store must be a file that is there; got {path}; give the --store of the study"
        )
    # On a disk that cannot be written the log of a store in use cannot be shared.
    for mode in ("mode=ro", "mode=ro&immutable=1"):
        uri = f"{path.resolve().as_uri()}?{mode}"
        db = sqlite3.connect(uri, uri=True, timeout=_PATIENCE_S, isolation_level=None)
        try:
            db.execute("SELECT count(*) FROM sqlite_master")
        except sqlite3.Error as error:
            db.close()
            problem: sqlite3.Error = error
            if not isinstance(error, sqlite3.OperationalError):
                break
        else:
            return db
    raise ConfigError(_explain(path, problem)) from problem


def _explain(path: Path | None, error: Exception) -> str:
    reason = " ".join(str(error).split())
    if isinstance(error, sqlite3.OperationalError | OSError):
        return (
            f"--store must be a file that can be read and written; got {path}: {reason}; what is "
            "stored is kept; mend that and run the same command again, or choose another path"
        )
    return (
        f"--store must be an undamaged result store; got {path}: {reason}; it was left as it is; "
        "restore it from a copy, or choose another path"
    )


def _outcome(key: str, text: str, digest: str) -> Outcome:
    _check_digest(digest, key, text)
    return Outcome.from_json_dict(_read(text))


def _check_digest(digest: str, *texts: str) -> None:
    """Check that a row is what was written: SQLite does not notice a changed digit."""
    if _digest(*texts) != digest:
        raise sqlite3.DatabaseError("a row is not what was written")


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise sqlite3.DatabaseError("a text is not what was written") from None


def _text(value: Any) -> str:
    return _json(to_plain(value))


def _json(plain: Any) -> str:
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
