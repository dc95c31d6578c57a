"""``--timeline-out`` with the two flags that say which part of the run it shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blis_sim.errors import ConfigError
from blis_sim.units import us_to_seconds

if TYPE_CHECKING:
    from blis_sim.engine.resolved import Resolved
    from blis_sim.metrics.timeline import TimelineSettings

_LONGEST_S = 1e9


def timeline_path(options: Mapping[str, Any]) -> Iterable[Path]:
    """Yield the file of a timeline, checked, if one is wanted."""
    if "--timeline-out" in options:
        from blis_sim.report.timeline_file import check_timeline_path

        check_timeline_path(options["--timeline-out"])
        yield Path(options["--timeline-out"])


def timeline_settings(options: Mapping[str, Any], resolved: Resolved) -> TimelineSettings | None:
    """Return which part of the run to log for a timeline; None = none is wanted.

    Raises
    ------
    ConfigError
        It has no length, or begins after the horizon.
    """
    if "--timeline-out" not in options:
        return None
    from blis_sim.metrics.timeline import TimelineSettings
    from blis_sim.report.timeline_file import check_timeline_start

    from_s, duration_s = options.get("--timeline-from", 0.0), options.get("--timeline-duration")
    for flag, value_s, least in (
        ("--timeline-from", from_s, "0"),
        ("--timeline-duration", duration_s, "0.000001"),
    ):
        if value_s is not None and not float(least) <= value_s <= _LONGEST_S:
            raise ConfigError(f"{flag} must be from {least} to 1e9 s; got {value_s:g} s")
    settings = TimelineSettings(from_s, duration_s)
    if resolved.horizon_us is not None:
        check_timeline_start(settings, us_to_seconds(resolved.horizon_us), "the horizon is")
    return settings
