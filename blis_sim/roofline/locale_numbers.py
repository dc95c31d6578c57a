"""Numbers as programs print them for people: thousand separators, decimal comma or point."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from blis_sim.errors import ConfigError

POINT, COMMA = ".", ","
_GROUPING = re.compile(r"(?<=\d)[\s'\u2019](?=\d{3}(?:\D|$))")
_PLAIN = re.compile(r"[+-]?\d[\d.,]*(?:[eE][+-]?\d+)?|[+-]?[.,]\d+(?:[eE][+-]?\d+)?")
_SUFFIX = re.compile(r"^(.*?)\s*([kKMGT])$", re.DOTALL)
_SUFFIXES = {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def decimal_mark(texts: Iterable[str]) -> str:
    """Return the decimal mark that a set of numbers was written with: ``.`` or ``,``.

    A number with both marks ends with the decimal one; a mark that stands twice separates
    thousands; a mark that is not followed by exactly three digits is decimal. ``1,234`` alone
    tells nothing: where no number tells, the point is decimal.

    Raises
    ------
    ConfigError
        Numbers contradict each other.
    """
    evidence: dict[str, str] = {}
    for text in texts:
        mark = _evidence(_ungrouped(text)[0])
        if mark:
            evidence.setdefault(mark, text.strip())
    if len(evidence) > 1:
        raise ConfigError(
            "numbers must have one decimal mark; got "
            f"{evidence[POINT]!r} with a point and {evidence[COMMA]!r} with a comma"
        )
    return next(iter(evidence), POINT)


def parse_number(text: str, mark: str = POINT) -> float | None:
    """Return a number written with a decimal mark, or None where it is none.

    Blanks, apostrophes and the other mark separate thousands; a suffix K, M, G or T
    multiplies by a power of 1000.
    """
    digits, factor = _ungrouped(text)
    if not _PLAIN.fullmatch(digits):
        return None
    other = COMMA if mark == POINT else POINT
    try:
        number = float(digits.replace(other, "").replace(mark, ".")) * factor
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _ungrouped(text: str) -> tuple[str, float]:
    """Return a number without blanks between its digits, and the factor of its suffix."""
    match = _SUFFIX.match(text.strip())
    digits, factor = (match[1], _SUFFIXES[match[2]]) if match else (text.strip(), 1.0)
    return _GROUPING.sub("", digits), factor


def _evidence(digits: str) -> str:
    """Return the decimal mark a number proves; empty where it proves none."""
    if not _PLAIN.fullmatch(digits):
        return ""
    mantissa = re.split("[eE]", digits)[0].lstrip("+-")
    points, commas = mantissa.count(POINT), mantissa.count(COMMA)
    if points and commas:
        return max(POINT, COMMA, key=mantissa.rfind)
    if points > 1 or commas > 1:
        return COMMA if points else POINT
    mark = POINT if points else COMMA
    whole, found, fraction = mantissa.partition(mark)
    if not found:
        return ""
    is_ambiguous = len(fraction) == 3 and 1 <= len(whole) <= 3 and not whole.startswith("0")
    return "" if is_ambiguous else mark
