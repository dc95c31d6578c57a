"""Length distributions of ServeGen (``chunk-<i>-dataset.json``)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from blis_sim.errors import ConfigError

_PAIR = re.compile(r"\s*['\"]?([0-9.eE+-]+)['\"]?\s*:\s*([0-9.eE+-]+)\s*")
_MAX_BYTES = 256 * 1024**2
_NOT_TEXT = ("image", "audio", "video")


class Lengths(NamedTuple):
    """Shares of prompt and answer lengths; tokens -> share."""

    prompt: dict[int, float]
    output: dict[int, float]


@dataclass(slots=True)
class LengthTable:
    """A mixture of tables of lengths."""

    shares: dict[int, float] = field(default_factory=dict)

    def add(self, table: Mapping[int, float], weight: float) -> None:
        """Add a table that has ``weight`` in the mixture, whatever its shares add up to."""
        total = sum(table.values())
        for tokens, share in table.items():
            self.shares[tokens] = self.shares.get(tokens, 0.0) + weight * share / total

    def settings(self) -> dict[str, Any]:
        """Return the length setting; a single length is a constant."""
        values = sorted(self.shares)
        if len(values) == 1:
            return {"kind": "constant", "mean": values[0]}
        total = sum(self.shares.values())
        weights = [float(f"{self.shares[tokens] / total:.9g}") for tokens in values]
        return {"kind": "empirical", "values": values, "weights": weights}


def read_lengths(path: Path) -> dict[float, Lengths]:
    """Return the distributions of a chunk by the second from which they hold.

    Raises
    ------
    ConfigError
        The file is missing or malformed, has no distribution, or is not about text.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path} must be at most {_MAX_BYTES // 1024**2} MiB")
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path}:{error.lineno}:{error.colno} must be valid JSON; got: {error.msg}"
        ) from None
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{path} must be a readable JSON file; got: {reason}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a mapping of seconds to distributions")
    tables: dict[float, Lengths] = {}
    for key, window in content.items():
        lengths = _window(path, key, window)
        if lengths is not None:
            tables[_second(path, key)] = lengths
    if not tables:
        raise ConfigError(f"{path} must hold at least one distribution of lengths; got none")
    return tables


def _second(path: Path, key: str) -> float:
    try:
        return float(key)
    except ValueError:
        raise ConfigError(f"{path}: a key must be a number of seconds; got {key!r}") from None


def _window(path: Path, key: str, window: object) -> Lengths | None:
    """Return the distributions of one window, None when it is empty."""
    if not isinstance(window, dict):
        raise ConfigError(f"{path}: {key} must be a mapping of distributions")
    for name in window:
        if any(part in name.lower() for part in _NOT_TEXT):
            raise ConfigError(
                f"{path}: {key}.{name} must not be there: only text is simulated; take a folder "
                "of language or reason"
            )
    prompt, output = (
        _table(f"{path}: {key}.{name}", window.get(name))
        for name in ("input_tokens", "output_tokens")
    )
    return Lengths(prompt, output) if prompt and output else None


def _table(where: str, value: object) -> dict[int, float]:
    """Return a distribution; it is a mapping, or a mapping written as text."""
    if value is None:
        return {}
    pairs: list[tuple[str, str]]
    if isinstance(value, dict):
        pairs = [(str(tokens), str(share)) for tokens, share in value.items()]
    elif isinstance(value, str):
        pairs = _pairs(where, value)
    else:
        raise ConfigError(f"{where} must be a mapping of tokens to shares; got {value!r:.60}")
    table: dict[int, float] = {}
    for tokens, share in pairs:
        try:
            length, weight = int(float(tokens)), float(share)
        except (ValueError, OverflowError):
            length, weight = -1, -1.0
        if length < 0 or not 0 <= weight < float("inf"):
            raise ConfigError(
                f"{where} must have tokens >= 0 with shares >= 0; got {tokens}: {share}"
            )
        if weight:
            # A request has at least one token each way.
            table[max(length, 1)] = table.get(max(length, 1), 0.0) + weight
    return table


def _pairs(where: str, text: str) -> list[tuple[str, str]]:
    inner = text.strip()
    if not (inner.startswith("{") and inner.endswith("}")):
        raise ConfigError(f"{where} must be written as {{tokens: share, ...}}; got {text!r:.60}")
    pairs = []
    for part in inner[1:-1].split(","):
        if not part.strip():
            continue
        match = _PAIR.fullmatch(part)
        if match is None:
            raise ConfigError(f"{where} must have entries tokens: share; got {part.strip()!r:.60}")
        pairs.append((match[1], match[2]))
    return pairs
