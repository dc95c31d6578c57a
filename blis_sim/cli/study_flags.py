"""Flags of all commands that simulate many points: where, how many at a time, what is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blis_sim.cli.common import note
from blis_sim.cli.flags import Flag
from blis_sim.cli.run_flags import run_flags
from blis_sim.cli.values import at_least_one
from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    from blis_sim.capacity.executor import Backend
    from blis_sim.capacity.store import ResultStore

PANEL = "Study"


def study_flags() -> tuple[Flag, ...]:
    """Return the flags."""
    return (
        Flag(
            names=("--store",),
            metavar="FILE",
            panel=PANEL,
            help="SQLite file that keeps every result; what is in it is not simulated again "
            "(blis_study.db).",
        ),
        Flag(names=("--no-store",), panel=PANEL, help="Keep nothing."),
        Flag(
            names=("--jobs", "-j"),
            metavar="N",
            panel=PANEL,
            parse=at_least_one,
            help="Simulations at a time (one per processor).",
        ),
        Flag(
            names=("--backend",),
            metavar="WHERE",
            panel=PANEL,
            help="loky = this machine; dask://HOST:PORT or ray://HOST:PORT = a cluster (loky).",
        ),
    )


def shared_flags(*, without: tuple[str, ...] = ()) -> Iterator[Flag]:
    """Yield the flags of ``blis run`` that hold for all points of a study."""
    for flag in run_flags():
        is_of_result = flag.panel == "Results" and flag.names[0] != "--goodput"
        if not is_of_result and flag.names[0] not in (*without, "--dry-run"):
            yield flag


def run_switches() -> Iterator[Flag]:
    """Yield what every command has: --quiet, --debug, --help."""
    yield from (flag for flag in run_flags() if flag.names[0] in {"--quiet", "--debug", "--help"})


def dry_run_flag(text: str) -> Flag:
    """Return --dry-run with what it shows."""
    flag = next(flag for flag in run_flags() if flag.names[0] == "--dry-run")
    return replace(flag, panel=PANEL, help=text)


def store_path(options: Mapping[str, Any]) -> Path | None:
    """Return where results are kept; None = nowhere."""
    from blis_sim.capacity.store import DEFAULT_PATH

    if "--no-store" not in options:
        return Path(options.get("--store", DEFAULT_PATH))
    if "--store" in options:
        raise ConfigError("--no-store must not be given together with --store; leave one out")
    return None


def backend_of(options: Mapping[str, Any]) -> Backend:
    """Return where simulations run."""
    from blis_sim.capacity.executor import default_jobs, parse_backend

    num_jobs = options["--jobs"] if "--jobs" in options else default_jobs()
    backend = parse_backend(options.get("--backend", "loky"), num_jobs)
    if "--jobs" in options and backend.kind != "loky":
        raise ConfigError(
            f"--jobs must not be given with --backend {backend.kind}://; got {num_jobs}: the "
            "workers of the cluster count; leave it out"
        )
    return backend


@contextmanager
def opened_store(path: Path | None, *, is_quiet: bool) -> Iterator[ResultStore]:
    """Open the store of a study, and say what an interruption leaves."""
    from blis_sim.capacity.store import ResultStore

    with ResultStore(path) as store:
        others = store.num_other_versions()
        if others and not is_quiet:
            note(
                f"{path} holds {others} results of other versions of the code or its data: they "
                "are kept, and not used"
            )
        try:
            yield store
        except KeyboardInterrupt:
            if path is not None:
                note(f"interrupted; what is finished is kept in {path}: the same command goes on")
            raise
