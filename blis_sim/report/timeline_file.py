"""``--timeline-out``: a run for ui.perfetto.dev or chrome://tracing, as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from blis_sim.atomic import atomic_write, check_output_path, open_text
from blis_sim.errors import ConfigError
from blis_sim.metrics.timeline import TimelineSettings
from blis_sim.report.timeline import other_data, timeline_events

if TYPE_CHECKING:
    from blis_sim.metrics.result import Result

FLAG = "--timeline-out"
SUFFIXES = (".json", ".json.gz")


def check_timeline_path(path: str | Path) -> None:
    """Check, before a run, that a timeline can be written to ``path``.

    Raises
    ------
    ConfigError
        The suffix is unknown or the path cannot be written.
    """
    if not Path(path).name.lower().endswith(SUFFIXES):
        raise ConfigError(
            f"{FLAG} must be a file ending in {', '.join(SUFFIXES)}; got {path}; viewers go by "
            "the ending"
        )
    check_output_path(path, FLAG)


def check_timeline_start(settings: TimelineSettings, end_s: float, words: str) -> None:
    """Check that a timeline begins before a run ends; ``words`` say that it is over then.

    Raises
    ------
    ConfigError
        It does not.
    """
    if settings.from_s and settings.from_s >= end_s:
        raise ConfigError(
            f"--timeline-from must be before the end of the run; got {settings.from_s:g} s, and "
            f"{words} {end_s:g} s; lower it"
        )


def write_timeline(result: Result, path: str | Path) -> None:
    """Write a run as JSON in the Trace Event Format, whole or not at all.

    Parameters
    ----------
    result : Result
        Of a run that was recorded for a timeline.
    path : str or Path
        ``.json`` or ``.json.gz``.

    Raises
    ------
    ConfigError
        The file cannot be written, the run was over before the timeline begins, or there are
        more events than a timeline may have.
    SimulationError
        The run was not recorded for a timeline.
    """
    check_timeline_path(path)
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
    timeline = result.run.timeline
    if timeline is not None:
        end_s = result.run.end_us / 1e6
        check_timeline_start(timeline.settings, end_s, "the run was over after")
    with (
        atomic_write(path) as temporary,
        open_text(temporary, compressed=Path(path).name.lower().endswith(".gz")) as stream,
    ):
        head = {"displayTimeUnit": "ms", "otherData": other_data(result)}
        stream.write(encode(head)[:-1] + ',"traceEvents":[')
        separator = "\n"
        for event in timeline_events(result):
            stream.write(separator + encode(event))
            separator = ",\n"
        stream.write("\n]}\n")
