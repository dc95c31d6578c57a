"""From a file to its page: a result store, or a result of ``blis run``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from blis_sim.capacity.study import Study, StudyKind
from blis_sim.errors import ConfigError
from blis_sim.report.html.page import Page
from blis_sim.report.html.plan_page import plan_page
from blis_sim.report.html.run_document import RunDocument, read_document
from blis_sim.report.html.run_page import run_page
from blis_sim.report.html.sweep_page import sweep_page
from blis_sim.report.html.tune_page import tune_page

_SQLITE = b"SQLite format 3\x00"
_PAGES: dict[StudyKind, Callable[[Study, str], Page]] = {
    StudyKind.SWEEP: sweep_page,
    StudyKind.PLAN: plan_page,
    StudyKind.TUNE: tune_page,
}


def read_source(path: Path, number: int | None = None) -> Study | RunDocument:
    """Return what a file holds: a study of a result store, or a result.

    Parameters
    ----------
    path : Path
    number : int or None
        Which study of a store; None = the one asked last.

    Raises
    ------
    ConfigError
        The file is absent, damaged or something else, or there is no such study.
    """
    if path.is_dir():
        raise ConfigError(
            f"SOURCE must be a result store or a result of blis run; got the folder {path}; add "
            "the name of a file in it"
        )
    try:
        with path.open("rb") as stream:
            begin = stream.read(len(_SQLITE))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"SOURCE must be a readable file; got {path}: {reason}; give the --store of a study "
            "or the JSON of blis run"
        ) from None
    if begin == _SQLITE:
        return _stored(path, number)
    if number is not None:
        raise ConfigError(
            f"--study must be given with a result store; got {number} and {path}, which is none; "
            "leave it out"
        )
    if not begin:
        raise ConfigError(
            f"SOURCE must be a result store or the JSON of blis run; got {path}, which is empty"
        )
    return read_document(path)


def _stored(path: Path, number: int | None) -> Study:
    from blis_sim.capacity.store import ResultStore

    try:
        with ResultStore(path, is_read_only=True) as store:
            return store.study(number)
    except ConfigError as error:
        # The store speaks of the flag that names it elsewhere.
        raise ConfigError(str(error).replace("--store", "SOURCE", 1)) from error
    except (KeyError, ValueError, TypeError) as error:
        raise ConfigError(
            f"SOURCE must be a whole result store; got {path}, damaged: {error}; run the study "
            "again into another one"
        ) from error


def page_of(source: Study | RunDocument, place: str) -> Page:
    """Return the page of a study or a result.

    Parameters
    ----------
    source : Study or RunDocument
        From `read_source`.
    place : str
        What it was read from.
    """
    if isinstance(source, RunDocument):
        return run_page(source)
    return _PAGES[source.kind](source, place)
