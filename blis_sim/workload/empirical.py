"""Lengths that were seen: given values, or a text file of them."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from pathlib import Path

from blis_sim.config.lengths import LengthSettings
from blis_sim.errors import ConfigError
from blis_sim.workload.base import MAX_TOKENS
from blis_sim.workload.distributions import Weighted
from blis_sim.workload.setting_checks import is_given
from blis_sim.workload.trace_file import shown

_MAX_BYTES = 2**26
_LENGTH = re.compile(r"[0-9]{1,19}")
_WEIGHT = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")


def open_empirical(where: str, settings: LengthSettings, unit: str) -> Weighted:
    """Return the distribution of ``values`` or of a ``file``, clamped to the bounds.

    Parameters
    ----------
    where : str
        Name of the settings in error messages.
    settings : LengthSettings
        Of kind empirical.
    unit : str
        What is counted, for messages.

    Raises
    ------
    ConfigError
        If there are no values, a weight or value is out of range, values lie below a bound
        that nobody asked for, or the file is malformed.
    """
    values, weights, file = settings.values, settings.weights, settings.file
    if (values is None) == (file is None):
        got = "neither" if values is None else "both"
        raise ConfigError(
            f"{where} must have either values or file with kind empirical; got {got}"
        )
    if file is not None and weights is not None:
        raise ConfigError(
            f"{where}.weights must not be set with {where}.file; got {len(weights)} entries; "
            "write length,weight on the lines of the file"
        )
    found = _inline(where, values or (), weights, unit) if file is None else read_lengths(file)
    if found.minimum < settings.min and not is_given(settings, "min"):
        raise ConfigError(
            f"{file or f'{where}.values'} must have lengths >= {where}.min ({settings.min} "
            f"{unit}); got {found.minimum}; set {where}.min to 0 to keep it, to "
            f"{settings.min} to raise it"
        )
    return found.clamped(settings.min, settings.max)


def _inline(
    where: str, values: tuple[int, ...], weights: tuple[float, ...] | None, unit: str
) -> Weighted:
    if not values:
        raise ConfigError(f"{where}.values must have at least one length; got an empty list")
    for number, value in enumerate(values):
        if not 0 <= value <= MAX_TOKENS:
            raise ConfigError(
                f"{where}.values[{number}] must be between 0 and {MAX_TOKENS} {unit}; got {value}"
            )
    if weights is None:
        return Weighted(values)
    if len(weights) != len(values):
        raise ConfigError(
            f"{where}.weights must be one weight for each of {where}.values ({len(values)}); "
            f"got {len(weights)}"
        )
    for number, weight in enumerate(weights):
        if not 0 <= weight < math.inf:
            raise ConfigError(f"{where}.weights[{number}] must be >= 0 and finite; got {weight:g}")
    if not max(weights):
        raise ConfigError(f"{where}.weights must have a sum > 0; got 0")
    return Weighted(values, weights)


def read_lengths(path: Path) -> Weighted:
    """Return the lengths of a text file, each as often as it comes or as its weight says.

    Parameters
    ----------
    path : pathlib.Path
        UTF-8 text of at most 64 MiB: one length in tokens per line, or ``length,weight`` on
        every line. Blank lines, and what follows a ``#``, are passed over.

    Returns
    -------
    Weighted
        The distribution.

    Raises
    ------
    ConfigError
        If the file cannot be read or a line is malformed; names the path and the line.
    """
    weights: dict[int, float] = {}
    commas: set[str] = set()
    for line, text in _lines(path):
        length, comma, weight = text.partition(",")
        commas.add(comma)
        if len(commas) > 1:
            expected = "a length alone" if comma else "length,weight"
            raise ConfigError(
                f"{path}:{line}: line must be {expected} like those before it; got {shown(text)}"
            )
        tokens = _tokens(path, line, length.strip())
        share = _weight(path, line, weight.strip()) if comma else 1.0
        weights[tokens] = weights.get(tokens, 0.0) + share
    if not weights:
        raise ConfigError(f"{path}: file must have at least one length; got none")
    largest = max(weights.values())
    if not 0 < largest < math.inf:
        raise ConfigError(f"{path}: weights must have a finite sum > 0; got {largest:g}")
    return Weighted(list(weights), list(weights.values()))


def _tokens(path: Path, line: int, text: str) -> int:
    if not _LENGTH.fullmatch(text) or int(text) > MAX_TOKENS:
        raise ConfigError(
            f"{path}:{line}: length must be a whole number of tokens from 0 to {MAX_TOKENS}; "
            f"got {shown(text)}"
        )
    return int(text)


def _weight(path: Path, line: int, text: str) -> float:
    if not _WEIGHT.fullmatch(text) or math.isinf(float(text)):
        raise ConfigError(f"{path}:{line}: weight must be a finite number >= 0; got {shown(text)}")
    return float(text)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of the lines that say something."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{path}: file of lengths must be readable; got: {error.strerror or error}"
        ) from error
    if len(data) > _MAX_BYTES:
        raise ConfigError(
            f"{path}: file of lengths must have at most {_MAX_BYTES} bytes; got more; "
            "write equal lengths once, as length,weight"
        )
    # Undecodable bytes survive as lone surrogates: their line is refused with its number.
    text = io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", errors="surrogateescape")
    for number, line in enumerate(text, 1):
        content = line.partition("#")[0].strip()
        if content:
            yield number, content
