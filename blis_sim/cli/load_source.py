"""The load that a command names with one path: a trace, a workload spec or a scenario."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blis_sim.cli.flags import Typed
from blis_sim.errors import BlisError, TraceError

if TYPE_CHECKING:
    from blis_sim.cli.settings import Settings
    from blis_sim.config.workload import LoadSettings, WorkloadSettings
    from blis_sim.workload.base import Workload

_YAML_SUFFIXES = (".yaml", ".yml")
_ARGUMENT = "SOURCE"
_TRACE_FLAGS = ("--trace-format", "--tokens-per-word")
_BOUNDS = ("num_requests", "duration_s", "stages", "trace")


@dataclass(frozen=True, slots=True)
class OpenedLoad:
    """A load ready to be walked.

    Attributes
    ----------
    workload : Workload
    seed : int
        Seed it is drawn with.
    notices : tuple of str
        What a user should know about how it was read, and about what it does not show.
    """

    workload: Workload
    seed: int
    notices: tuple[str, ...]


def open_source(
    source: Path, given: Mapping[str, str | bool], *, num_if_endless: int | None = None
) -> OpenedLoad:
    """Return the load that a path and the flags behind it mean.

    Parameters
    ----------
    source : Path
        A trace; or a YAML file: a workload spec of ours, of BLIS or of inference-perf, or a
        scenario, of which the load, ``seed`` and ``horizon_s`` count.
    given : mapping
        Flags of ``blis run`` by their names; empty text and false = not given.
    num_if_endless : int, optional
        Requests of a load without an end; None = as many as ``blis run`` would send.

    Raises
    ------
    ConfigError
        A setting is wrong, contradicts another or cannot be used.
    TraceError
        The trace is not acceptable.
    """
    from blis_sim.cli.run_flags import run_flags

    flags = {name: flag for flag in run_flags() for name in flag.names}
    typed = [
        Typed(flags[name], name, "" if value is True else str(value))
        for name, value in given.items()
        if value
    ]
    try:
        return _open(_read(source, [one.name for one in typed]), typed, num_if_endless)
    except BlisError as error:
        from blis_sim.cli.settings import in_flags

        error.args = (in_flags(str(error), typed),)
        raise


def _read(source: Path, given: Collection[str]) -> Settings:
    """Return the settings of the file alone."""
    from blis_sim.catalog.locate import locate
    from blis_sim.cli.settings import Settings, apply_spec, read_draft
    from blis_sim.config.draft import ScenarioDraft

    path = locate(source).path
    if not _is_trace(path, given) and _is_scenario(path):
        return read_draft(source, ())
    settings = Settings(ScenarioDraft())
    if _is_trace(path, given):
        settings.draft.set("workload.trace", str(source), _ARGUMENT)
    else:
        apply_spec(settings, str(source), _ARGUMENT)
    return settings


def _is_scenario(path: Path) -> bool:
    from blis_sim.config.yaml_file import read_yaml

    return (
        path.is_file()
        and "workload" in read_yaml(path, what="workload spec", number_keys=True).values
    )


def _is_trace(path: Path, given: Collection[str]) -> bool:
    """Return whether a file is to be replayed; YAML is, where it is the header of a trace."""
    if any(flag in given for flag in _TRACE_FLAGS):
        return True
    if path.is_dir():
        return False
    if path.suffix.lower() not in _YAML_SUFFIXES:
        return True

    from blis_sim.workload.trace_sample import look_at

    try:
        return path.is_file() and look_at(path).kind == "yaml"
    except TraceError:  # no trace at all
        return False


def _open(settings: Settings, typed: list[Typed], num_if_endless: int | None) -> OpenedLoad:
    from blis_sim.catalog.locate import locate
    from blis_sim.config.tree import with_paths
    from blis_sim.units import seconds_to_us
    from blis_sim.workload.stream import open_workload

    settings.apply(typed)
    scenario = settings.build()
    notices = list(settings.notices)
    if scenario.horizon_s is None and _is_endless(scenario.workload):
        notices.append(_endless_notice(num_if_endless))
        if num_if_endless is not None:
            settings.draft.default("workload.num_requests", num_if_endless)
            scenario = settings.build()

    def located(path: Path) -> Path:
        found = locate(path)
        notices.extend(filter(None, [found.notice]))
        return found.path

    load = with_paths(scenario.workload, located)
    horizon_us = None if scenario.horizon_s is None else seconds_to_us(scenario.horizon_s)
    workload = open_workload(load, scenario.seed, horizon_us)
    notices += workload.notices
    if not workload.is_open:
        notices.append(
            "when requests are sent depends on the answers; the times here are those of a "
            "server that answers at once"
        )
    return OpenedLoad(workload, scenario.seed, tuple(dict.fromkeys(notices)))


def _is_endless(settings: WorkloadSettings) -> bool:
    """Return whether nothing bounds the load, or one of its clients."""
    if settings.num_requests is not None:
        return False
    loads: Iterable[LoadSettings] = settings.clients or (settings,)
    return any(
        all(getattr(part, bound) is None for part in (load, settings) for bound in _BOUNDS)
        for load in loads
    )


def _endless_notice(num_requests: int | None) -> str:
    count = f"its first {num_requests:,} arrivals" if num_requests else "as many as blis run sends"
    return (
        f"nothing bounds the load: {count} are taken; --num-requests or --duration choose another "
        "part"
    )
