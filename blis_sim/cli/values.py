"""Values as they are typed after a flag."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from blis_sim.config.policy_names import Vocabulary
from blis_sim.errors import ConfigError, unknown_name

Parser = Callable[[str, str], Any]
"""(what was typed, the flag as it was typed) -> value; raises ConfigError."""

_SIZES = {"": 1, "k": 1000, "m": 10**6, "g": 10**9, "K": 1024, "M": 1024**2, "G": 1024**3}
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def text(typed: str, flag: str) -> str:
    """Return what was typed; the scenario checks it."""
    if not typed.strip():
        raise ConfigError(f"{flag} must have a value; got an empty one")
    return typed


def token_count(typed: str, flag: str) -> int:
    """Return a number of tokens: ``8192``, ``8k`` (8,000) or, as in vLLM, ``8K`` (8,192)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgKMG]?)", typed.strip())
    if match is None:
        raise ConfigError(
            f"{flag} must be a number of tokens such as 8192, 8k or 8K; got {typed!r}"
        )
    number = float(match[1]) * _SIZES[match[2]]
    if number != int(number):
        raise ConfigError(f"{flag} must be a whole number of tokens; got {typed!r}")
    return int(number)


def count(typed: str, flag: str) -> int:
    """Return a whole number >= 0."""
    if not typed.strip().isdecimal():
        raise ConfigError(f"{flag} must be a whole number >= 0; got {typed!r}")
    return int(typed)


def at_least_one(typed: str, flag: str) -> int:
    """Return a whole number >= 1."""
    number = count(typed, flag)
    if number < 1:
        raise ConfigError(f"{flag} must be at least 1; got {typed}")
    return number


def duration_s(typed: str, flag: str) -> float:
    """Return seconds: ``600s``, ``1500ms``, ``10m``, ``1h``, ``1h30m``; a unit is needed."""
    parts = re.findall(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-z]+)", typed.strip().lower())
    if not parts or "".join(f"{n}{u}" for n, u in parts) != re.sub(r"\s+", "", typed.lower()):
        raise ConfigError(
            f"{flag} must be a time with its unit, such as 600s, 1500ms, 10m or 1h; got {typed!r}"
        )
    for _, unit in parts:
        if unit not in _SECONDS:
            raise ConfigError(unknown_name(f"the unit of {flag}", unit, _SECONDS))
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def numbers(typed: str, flag: str) -> list[float]:
    """Return numbers with commas (or blanks) between them."""
    cells = [cell for cell in re.split(r"[,\s]+", typed.strip("[] \t")) if cell]
    try:
        values = [float(cell) for cell in cells]
    except ValueError:
        values = []
    if not values:
        raise ConfigError(f"{flag} must be numbers with commas between them; got {typed!r}")
    return values


def three_numbers(typed: str, flag: str) -> list[float]:
    """Return three numbers, as the coefficients of the blackbox model are."""
    values = numbers(typed, flag)
    if len(values) != 3 or not all(0 <= value < math.inf for value in values):
        raise ConfigError(
            f"{flag} must be three finite numbers >= 0 (microseconds) such as 1000,0.5,300; "
            f"got {typed!r}"
        )
    return values


def percentiles(typed: str, flag: str) -> tuple[float, ...]:
    """Return percentiles in 0..100."""
    values = numbers(typed, flag)
    for value in values:
        if not 0 <= value <= 100:
            raise ConfigError(f"{flag} must be percentiles in 0..100; got {value:g}")
    return tuple(values)


def one_of(meanings: Mapping[str, str]) -> Parser:
    """Return a parser for a fixed set of words, each with what it means in the scenario."""

    def parse(typed: str, flag: str) -> str:
        word = typed.strip().lower().replace("_", "-")
        if word not in meanings:
            raise ConfigError(f"{flag} must be one of {', '.join(meanings)}; got {typed!r}")
        return meanings[word]

    return parse


def word_of(vocabulary: Vocabulary) -> Parser:
    """Return a parser for the names of a kind of policy."""

    def parse(typed: str, flag: str) -> str:
        return vocabulary.read(typed, flag)

    return parse
