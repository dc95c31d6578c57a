"""A scenario in the making: what was written, and where, before it is validated."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from blis_sim.config.explain import explain, shown
from blis_sim.config.policy_file import read_policy_file
from blis_sim.config.scenario import Scenario
from blis_sim.config.tree import (
    KeyPath,
    dotted,
    is_mapping,
    item_section,
    section,
    written_paths,
)
from blis_sim.config.yaml_file import YamlDocument, read_yaml
from blis_sim.errors import ConfigError, unknown_name


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
        draft = cls()
        draft._take(read_yaml(path), path.parent)
        return draft

    def include_workload(self, path: Path, where: str) -> None:
        """Read the load from a file: the ``workload`` part of a scenario.

        The settings of the load may stand under the key ``workload``.

        Parameters
        ----------
        path : pathlib.Path
            YAML file.
        where : str
            How the user named it: ``--workload-spec``.

        Raises
        ------
        ConfigError
            The file cannot be read, says more than a load, or there is a load already.
        """
        document = read_yaml(path, what="workload spec")
        if "workload" not in document.values:
            document = YamlDocument(
                {"workload": document.values},
                {("workload", *keys): place for keys, place in document.places.items()},
            )
        others = [key for key in document.values if key != "workload"]
        if others:
            raise ConfigError(
                f"{where} must hold a load alone; got {others[0]} in {path}: give the file "
                "with --scenario"
            )
        if self.get("workload"):
            raise ConfigError(
                f"{where} must not be given with a scenario that has a workload; got {path}; "
                "leave one of them out"
            )
        self._take(document, path.parent)

    def include_policies(self, path: Path) -> None:
        """Read policies from a file; each part it names replaces the one that is there.

        Parameters
        ----------
        path : pathlib.Path
            YAML file: a policy bundle of BLIS, or the ``cluster`` part of a scenario.

        Raises
        ------
        ConfigError
            The file cannot be read, or names what is unknown or not simulated.
        """
        policies = read_policy_file(path)
        for keys, value in policies.parts.items():
            self._where = {
                known: place for known, place in self._where.items() if known[: len(keys)] != keys
            }
            self._parent(keys)[keys[-1]] = value
            part: dict[str, Any] = {keys[-1]: value}
            for key in reversed(keys[:-1]):
                part = {key: part}
            self._anchor(part, path.parent)
        self._where |= policies.where

    def _take(self, document: YamlDocument, folder: Path) -> None:
        """Add what a file in ``folder`` says; its paths are relative to the folder."""
        self._values |= document.values
        self._where |= {
            keys: f"{place}: {dotted(keys)}" for keys, place in document.places.items()
        }
        self._anchor(document.values, folder)

    def _anchor(self, values: Mapping[str, Any], folder: Path) -> None:
        """Let the files that settings name be relative to a folder."""
        for keys, written in list(written_paths(values, Scenario)):
            parent: Any = self._values
            for key in keys[:-1]:
                parent = parent[int(key)] if isinstance(parent, list) else parent[key]
            parent[keys[-1]] = str(folder / Path(written).expanduser())

    def overridden(self, path: str) -> tuple[str, object] | None:
        """Return how a setting was set over the files, and to what; None when it was not."""
        return self._overridden.get(tuple(path.split(".")))

    def remove(self, path: str) -> None:
        """Take back a setting that was said in other words."""
        keys = tuple(path.split("."))
        self._parent(keys).pop(keys[-1], None)

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
        self._check_known(keys, value, where)
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

    def replace(self, path: str, value: object) -> None:
        """Set the value at ``path``, over what was set before in other words."""
        keys = tuple(path.split("."))
        self._parent(keys)[keys[-1]] = value

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
            if not isinstance(parent[key], dict):
                parent[key] = self._expanded(keys[:depth], parent[key])
            parent = parent[key]
            if not isinstance(parent, dict):
                where = self.where(keys[:depth])
                raise ConfigError(f"{where} must be a mapping of settings; got {shown(parent)}")
        return parent

    def _expanded(self, keys: KeyPath, value: Any) -> Any:
        """Return what a short form of a part stands for, or the value as it is."""
        model: Any = self._model_of(keys)
        try:
            return value if model is None else model.from_short(value)
        except ValueError:
            return value

    def _model_of(self, keys: KeyPath) -> type[BaseModel] | None:
        model: type[BaseModel] | None = Scenario
        for key in keys:
            model = None if model is None else section(model, key)
        return model

    def _check_known(self, keys: KeyPath, value: object, where: str) -> None:
        model: Any = Scenario
        for depth, key in enumerate(keys):
            if model is None:
                why = self._why_no_parts(keys[:depth], ".".join(keys[depth:]), value)
                raise ConfigError(f"{where} must name a setting; {why}")
            if key not in model.model_fields:
                known = [".".join((*keys[:depth], name)) for name in model.model_fields]
                raise ConfigError(unknown_name(where, ".".join(keys[: depth + 1]), known))
            model = section(model, key)

    def _why_no_parts(self, keys: KeyPath, name: str, value: object) -> str:
        """Return why a setting is set as a whole, and how: not by ``name`` to ``value``."""
        path, parent = ".".join(keys), self._model_of(keys[:-1])
        if parent is not None and item_section(parent, keys[-1]) is not None:
            return f"{path} is a list: set the whole of it, as in {path}=[{{...}}]"
        if parent is not None and is_mapping(parent, keys[-1]):
            known = "NAME" if "_" in name else name  # which may have been written as a hyphen
            whole = f"'{path}={{{known}: {value}}}'"
            return f"{path} is a mapping: set the whole of it, as in --set {whole}"
        return f"{path} has no parts"

    def where(self, keys: KeyPath) -> str:
        """Return how the user wrote a setting, or its path when nobody wrote it."""
        return self._where.get(keys, dotted(keys))

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
