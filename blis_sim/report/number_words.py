"""How figures are written for people: three significant digits, and thousands kept apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

ABSENT = "-"
"""Stands where there is no figure."""
_WHOLE_FROM = 100.0
_SECONDS_FROM_MS = 10_000.0
_MOST_DECIMALS = 8


def number(value: float | None) -> str:
    """Return ``1,755``, ``56.6``, ``7.67`` or ``0.0231``; a whole number as it is."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ABSENT
    if isinstance(value, int) or value == 0:
        return f"{value:,.0f}"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if abs(value) >= _WHOLE_FROM:
        return f"{value:,.0f}"
    decimals = 2 - math.floor(math.log10(abs(value)))
    # Rounding may add a digit: 9.999 is 10.0.
    decimals = 2 - math.floor(math.log10(abs(round(value, decimals))))
    return f"{value:.{min(max(decimals, 0), _MOST_DECIMALS)}f}"


def rate(value: float | None) -> str:
    """Return a rate as it was asked for: ``8``, ``2.5``, ``1,200``."""
    if value is None:
        return ABSENT
    return f"{value:,.6g}" if math.isfinite(value) else number(value)


def milliseconds(value: float | None) -> str:
    """Return ``7.67 ms``, and from ten seconds on ``12.3 s``."""
    if value is None:
        return ABSENT
    return f"{number(value / 1e3)} s" if value >= _SECONDS_FROM_MS else f"{number(value)} ms"


def usd(value: float | None) -> str:
    """Return ``$3.99``, ``$1,755`` or ``$0.00231``."""
    if value is None:
        return ABSENT
    if 0.1 <= abs(value) < _WHOLE_FROM:  # cents
        return f"${value:.2f}"
    return f"${number(float(value))}"


def percent(value: float | None) -> str:
    """Return a fraction as ``4.8 %``."""
    if value is None:
        return ABSENT
    return f"{100 * value:.3g} %" if abs(value) < 1 else f"{100 * value:,.0f} %"


def bare_percent(value: float | None) -> str:
    """Return a fraction in percent without the sign: its column has it."""
    return percent(value).removesuffix(" %")


def seconds(value: float | None) -> str:
    """Return ``4.1 s``, ``12.5 min`` or ``3.2 h``."""
    if value is None:
        return ABSENT
    for length, unit in ((7200.0, "h"), (600.0, "min")):
        if value >= length:
            return f"{number(float(value) / (3600 if unit == 'h' else 60))} {unit}"
    return f"{number(float(value))} s"


def size(num_bytes: int) -> str:
    """Return ``4.9 MB`` or ``48 kB``."""
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:.0f} kB"


def as_float(value: Any) -> float | None:
    """Return a number read from a file, ``"inf"`` as infinity; None for anything else."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value)
    return math.inf if value == "inf" else None


def counted(count: int, what: str) -> str:
    """Return ``1 point``, ``12 points``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def joined(words: list[str]) -> str:
    """Return ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1] if words else ""]))


Writer = Callable[[float | None], str]
