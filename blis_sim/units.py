"""Unit conversions, used at the borders only.

Inside the engine time is an integer of microseconds. Seconds appear in YAML, CSV traces
and the Python API, milliseconds in reports.
"""

from __future__ import annotations

US_PER_S = 1_000_000
US_PER_MS = 1_000
US_PER_HOUR = 3_600 * US_PER_S
GIB = 1024**3
GB = 10**9


def seconds_to_us(seconds: float) -> int:
    """Return ``seconds`` as whole microseconds, rounded half to even."""
    return round(seconds * US_PER_S)


def us_to_seconds(us: float) -> float:
    """Return microseconds as seconds."""
    return us / US_PER_S


def us_to_ms(us: float) -> float:
    """Return microseconds as milliseconds."""
    return us / US_PER_MS
