"""A scenario in the making: what was written, and where, before it is validated."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from blis_sim.config.explain import KeyPath, explain, section, shown
from blis_sim.config.scenario import Scenario
from blis_sim.config.yaml_file import read_yaml
from blis_sim.errors import ConfigError, unknown_name

PATH_SETTINGS: tuple[KeyPath, ...] = (
    ("workload", "trace"),
    ("latency", "coefficients_file"),
    ("latency", "model_config_folder"),
    ("latency", "hardware_config"),
    ("latency", "bench_data_path"),
)
"""Settings that name a file; in a scenario file they are relative to its folder."""


class ScenarioDraft:
    """Settings by their paths; each remembers how to call it in a message.

    Parameters
    ----------
    values : mapping, optional
        The tree to begin with; it is copied.
    """

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self._values: dict[str, Any] = copy.deepcopy(dict(values or {}))
        self._where: dict[KeyPath, str] = {}
        self._overridden: dict[KeyPath, tuple[str, object]] = {}

    @classmethod
    def from_file(cls, path: Path) -> ScenarioDraft:
        """Return the settings of a YAML file.

        Raises
        ------
        ConfigError
            The file cannot be read or is no mapping; with line and column.
        """
        document = read_yaml(path)
        draft = cls(document.values)
        draft._where = {
            keys: f"{place}: {'.'.join(keys)}" for keys, place in document.places.items()
        }
        for keys in PATH_SETTINGS:
            value = draft.get(".".join(keys))
            if isinstance(value, str) and value:
                parent = draft._values[keys[0]]
                parent[keys[1]] = str(path.parent / Path(value).expanduser())
        return draft

    def get(self, path: str) -> Any:
        """Return the value at ``path`` (``engine.max_num_seqs``), None when there is none."""
        value: Any = self._values
        for key in path.split("."):
            if not isinstance(value, Mapping):
                return None
            value = value.get(key)
        return value

    def set(self, path: str, value: object, where: str) -> None:
        """Set the value at ``path``, over whatever the file says.

        Parameters
        ----------
        path : str
            Path of keys with dots between them.
        value : object
            As the user wrote it; it is checked by `build`.
        where : str
            How the user wrote the setting: ``--rate``.

        Raises
        ------
        ConfigError
            There is no such setting, or it was set before to another value.
        """
        keys = tuple(path.split("."))
        self._check_known(keys, where)
        before = self._overridden.get(keys)
        if before is not None and not _is_same(before[1], value):
            if before[0] == where:
                raise ConfigError(
                    f"{where} must be given once; got {before[1]} and {value}; leave one out"
                )
            raise ConfigError(
                f"{where} must agree with {before[0]}, which means the same; got {value} and "
                f"{before[1]}; leave one of them out"
            )
        self._overridden[keys] = (where, value)
        self._parent(keys)[keys[-1]] = value
        self._where[keys] = where

    def default(self, path: str, value: object) -> None:
        """Set the value at ``path`` unless there is one."""
        if self.get(path) is None:
            keys = tuple(path.split("."))
            self._parent(keys)[keys[-1]] = value

    def _parent(self, keys: KeyPath) -> dict[str, Any]:
        """Return the mapping that holds the last of ``keys``; it is made when it is absent."""
        parent = self._values
        for depth, key in enumerate(keys[:-1], start=1):
            if parent.get(key) is None:
                parent[key] = {}
            parent = parent[key]
            if not isinstance(parent, dict):
                where = self.where(keys[:depth])
                raise ConfigError(f"{where} must be a mapping of settings; got {shown(parent)}")
        return parent

    def _check_known(self, keys: KeyPath, where: str) -> None:
        model: Any = Scenario
        for depth, key in enumerate(keys):
            if model is None:
                raise ConfigError(
                    f"{where} must name a setting; {'.'.join(keys[:depth])} has no parts"
                )
            if key not in model.model_fields:
                known = [".".join((*keys[:depth], name)) for name in model.model_fields]
                raise ConfigError(unknown_name(where, ".".join(keys[: depth + 1]), known))
            model = section(model, key)

    def where(self, keys: KeyPath) -> str:
        """Return how the user wrote a setting, or its path when nobody wrote it."""
        return self._where.get(keys, ".".join(keys))

    def build(self) -> Scenario:
        """Return the scenario.

        Raises
        ------
        ConfigError
            A setting is unknown, of the wrong type or out of range.
        """
        # A section whose settings are all commented out is null in YAML.
        values = {
            key: {} if value is None and section(Scenario, key) else value
            for key, value in self._values.items()
        }
        try:
            return Scenario.model_validate(values)
        except ValidationError as error:
            findings = error.errors(include_url=False)
            message = explain(findings, Scenario, values, self.where)
            raise ConfigError(message) from None


def _is_same(one: object, other: object) -> bool:
    """Return whether two values as written mean the same (``10`` and ``10.0``)."""
    if one == other:
        return True
    try:
        return float(str(one)) == float(str(other))
    except ValueError:
        return False
