"""What an importer reads from and what it hands back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from blis_sim.config.explain import explain
from blis_sim.config.tree import KeyPath, dotted
from blis_sim.config.workload import WorkloadSettings
from blis_sim.errors import ConfigError, unknown_name

_SHOWN_CHARS = 60


@dataclass(frozen=True, slots=True)
class Imported:
    """A load of another program, in this package's words.

    Attributes
    ----------
    settings : dict
        Plain nested values that `WorkloadSettings` accepts; paths in it start from the current
        folder or are absolute.
    notices : tuple of str
        Everything whose meaning changed, one sentence each.
    kind : str
        ``blis``, ``inference-perf`` or ``servegen``.
    title : str
        What was read, for a comment: the program and the file.
    """

    settings: dict[str, Any]
    notices: tuple[str, ...]
    kind: str
    title: str


class Source:
    """A mapping of another program's file that knows what has been read of it.

    Every getter remembers its key; `finish` raises for those that nobody asked for, so that
    nothing is dropped silently.

    Parameters
    ----------
    values : mapping
        The mapping.
    file : Path
        Where it was read from, for messages.
    places : mapping
        Path of keys -> ``file:line:column`` (see `YamlDocument`).
    path : tuple of str
        Keys that lead to this mapping; items of a list are ``0``, ``1``, …
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        file: Path,
        places: Mapping[KeyPath, str],
        path: KeyPath = (),
    ) -> None:
        self.values = values
        self.file = file
        self.path = path
        self._places = places
        self._asked: set[str] = set()

    def name(self, key: str = "") -> str:
        """Return how the file calls the setting: ``clients[0].arrival.cv``."""
        return dotted((*self.path, key) if key else self.path)

    def where(self, key: str = "") -> str:
        """Return where the setting stands, as exactly as it is known, and its name."""
        keys = (*self.path, key) if key else self.path
        for depth in range(len(keys), 0, -1):
            if keys[:depth] in self._places:
                return f"{self._places[keys[:depth]]}: {self.name(key)}"
        return f"{self.file}: {self.name(key)}"

    def error(self, key: str, wanted: str, remedy: str = "") -> ConfigError:
        """Return the error for a value that is not what was ``wanted``."""
        value = self.values.get(key)
        got = "nothing" if value is None else _shown(value)
        return ConfigError(f"{self.where(key)} must {wanted}; got {got}{remedy and f'; {remedy}'}")

    def has(self, key: str) -> bool:
        """Return whether there is a value other than null."""
        self._asked.add(key)
        return self.values.get(key) is not None

    def number(
        self,
        key: str,
        default: float | None = None,
        *,
        above: float = -math.inf,
        at_least: float = -math.inf,
        unit: str = "",
    ) -> float | None:
        """Return a finite number, ``default`` when there is none.

        Raises
        ------
        ConfigError
            It is no number, or out of range.
        """
        if not self.has(key):
            return default
        value = self.values[key]
        number = math.nan
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            try:  # YAML 1.1 reads 1e6 as text
                number = float(value)
            except (ValueError, OverflowError):
                number = math.nan
        suffix = f" {unit}" if unit else ""
        if not math.isfinite(number):
            raise self.error(key, f"be a number{unit and f' of {unit}'}")
        if number <= above:
            raise self.error(key, f"be > {above:g}{suffix}")
        if number < at_least:
            raise self.error(key, f"be >= {at_least:g}{suffix}")
        return int(number) if number.is_integer() and not isinstance(value, float) else number

    def need_number(self, key: str, *, above: float = -math.inf, unit: str = "") -> float:
        """Return a number that must be there."""
        value = self.number(key, above=above, unit=unit)
        if value is None:
            raise self.error(key, "be given")
        return value

    def whole(self, key: str, default: int | None = None, *, at_least: int = 0) -> int | None:
        """Return a whole number, ``default`` when there is none."""
        value = self.number(key, default, at_least=at_least)
        if value is None or float(value).is_integer():
            return None if value is None else int(value)
        raise self.error(key, "be a whole number")

    def text(self, key: str) -> str | None:
        """Return text, None when there is none or it is empty."""
        if not self.has(key):
            return None
        value = self.values[key]
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise self.error(key, "be text")
        return str(value) or None

    def choice(self, key: str, known: Iterable[str], default: str | None = None) -> str:
        """Return one of ``known`` names."""
        value = self.text(key)
        if value is None:
            value = default
        names = tuple(known)
        if value is None:
            raise self.error(key, f"be one of {', '.join(names)}")
        if value not in names:
            raise ConfigError(unknown_name(self.where(key), value, names))
        return value

    def flag(self, key: str) -> bool | None:
        """Return true or false, None when it is not given."""
        if not self.has(key):
            return None
        if not isinstance(self.values[key], bool):
            raise self.error(key, "be true or false")
        return bool(self.values[key])

    def section(self, key: str) -> Source | None:
        """Return the mapping at ``key``, None when there is none."""
        if not self.has(key):
            return None
        value = self.values[key]
        if not isinstance(value, Mapping):
            raise self.error(key, "be a mapping of settings")
        return Source(value, self.file, self._places, (*self.path, key))

    def sections(self, key: str) -> list[Source]:
        """Return the mappings of the list at ``key``; none when it is absent."""
        if not self.has(key):
            return []
        value = self.values[key]
        if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
            raise self.error(key, "be a list of mappings")
        return [
            Source(item, self.file, self._places, (*self.path, key, str(number)))
            for number, item in enumerate(value)
        ]

    def refuse(self, key: str, why: str, remedy: str = "take it out") -> None:
        """Raise when ``key`` is given: it says something that cannot be expressed here."""
        if self.has(key) and self.values[key] not in (False, 0, "", [], {}):
            raise self.error(key, f"not be given: {why}", remedy)

    def finish(self) -> None:
        """Raise for the first key that nobody asked for."""
        for key in self.values:
            if key not in self._asked:
                message = unknown_name(self.where(str(key)), str(key), sorted(self._asked))
                raise ConfigError(message)


def check_load(settings: Mapping[str, Any], where: str) -> None:
    """Raise ConfigError where ``settings`` are no `WorkloadSettings`.

    Parameters
    ----------
    settings : mapping
        Plain values.
    where : str
        What they are, for the message.
    """
    try:
        WorkloadSettings.model_validate(settings)
    except ValidationError as error:
        found = error.errors(include_url=False)
        message = explain(found, WorkloadSettings, settings, dotted)
        raise ConfigError(f"{where}: {message}") from None


def plain(number: float) -> float:
    """Return a whole number as an ``int``, so that YAML shows ``5`` and not ``5.0``."""
    return int(number) if float(number).is_integer() and abs(number) < 2**53 else float(number)


def _shown(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."
