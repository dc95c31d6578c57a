"""A file of policies: BLIS's policy bundle, or the ``cluster`` part of a scenario.

The two may be mixed, because they agree where they overlap: ``routing`` is a part of both.
What is wrong within a part is found when the scenario is built; it remembers where each
setting stands in the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blis_sim.config.cluster import AdmissionPolicy, ClusterSettings
from blis_sim.config.explain import shown
from blis_sim.config.policy_names import ADMISSION, PRIORITIES, ROUTING, SCHEDULERS, SCORERS
from blis_sim.config.tree import KeyPath, dotted
from blis_sim.config.yaml_file import YamlDocument, read_yaml
from blis_sim.errors import ConfigError, unknown_name

_CLUSTER = "cluster"
_OF_BLIS: dict[str, KeyPath] = {
    "admission": ("cluster", "gateway", "admission"),
    "priority": (),
    "scheduler": ("engine", "scheduling_policy"),
}
_MISSING = {
    "tenant_budgets": "gateway.fair_share",
    "preemption": "scheduler: priority-fcfs",
    "node_pools": "pools",
    "autoscaler": "autoscaling",
    "instance_lifecycle": "autoscaling.startup_delay_s",
    "hw_config_by_gpu": "latency.hardware_config of a pool",
}
_BLIS_DEFAULTS = {"token_bucket_capacity": 10_000, "token_bucket_refill_rate": 1_000}
_ITEM = ("name", "weight")


@dataclass(slots=True)
class PolicyFile:
    """Parts of a scenario that a file sets.

    Attributes
    ----------
    parts : dict
        Path of a part -> its value, as it would be written in a scenario; a part that lies
        within another follows it.
    where : dict
        Path of a setting in a scenario -> how the file names it, with line and column.
    """

    parts: dict[KeyPath, Any] = field(default_factory=dict)
    where: dict[KeyPath, str] = field(default_factory=dict)


def read_policy_file(path: Path) -> PolicyFile:
    """Read a file of policies.

    Raises
    ------
    ConfigError
        The file cannot be read, a key is unknown, or a policy is not simulated; with line and
        column.
    """
    return _Reader(read_yaml(path, what="policy config")).read()


def _is_absent(value: object) -> bool:
    """Return whether a setting is commented out, or empty as BLIS writes what is not set."""
    return value is None or value == ""


class _Reader:
    """Takes a document apart."""

    def __init__(self, document: YamlDocument) -> None:
        self._document = document
        self._file = PolicyFile()

    def read(self) -> PolicyFile:
        values: Mapping[str, Any] = self._document.values
        prefix: KeyPath = ()
        if _CLUSTER in values:
            values, prefix = self._alone(values), (_CLUSTER,)
        known = (*ClusterSettings.model_fields, *(() if prefix else _OF_BLIS))
        # What may hold another part comes first.
        for key in sorted(values, key=lambda key: key in _OF_BLIS):
            keys = (*prefix, key)
            if key not in known:
                raise ConfigError(self._unknown(keys, known))
            if not _is_absent(values[key]):
                self._take(keys, values[key])
        return self._file

    def _alone(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what is under ``cluster``, which must be all there is."""
        for key in values:
            if key != _CLUSTER:
                raise ConfigError(
                    f"{self._where((key,))} must not stand beside cluster in a file of policies; "
                    f"got {shown(values[key])}; give the file with --scenario"
                )
        inner = values[_CLUSTER]
        if not isinstance(inner, Mapping):
            raise ConfigError(
                f"{self._where((_CLUSTER,))} must be a mapping of settings; got {shown(inner)}"
            )
        return inner

    def _unknown(self, keys: KeyPath, known: Sequence[str]) -> str:
        key = keys[-1]
        if key in _MISSING and len(keys) == 1:
            return (
                f"{self._where(keys)} must be left out; got a setting that is not simulated; "
                f"nearest: {_MISSING[key]}"
            )
        return unknown_name(self._where(keys), key, known)

    def _take(self, keys: KeyPath, value: Any) -> None:
        """Add one part of the file."""
        key = keys[-1]
        part = _OF_BLIS.get(key, (_CLUSTER, key))
        if key == "priority":
            self._check_priority(keys, value)
            return
        if key == "scheduler":
            value = SCHEDULERS.read(str(value), self._where(keys))
        elif key == "routing":
            value = self._routing(keys, value)
        elif key == "gateway" and isinstance(value, Mapping) and "admission" in value:
            value = {**value, "admission": self._admission((*keys, "admission"), value)}
        elif key == "admission":
            self._check_one_admission(keys)
            value = self._admission(keys, {"admission": value})
        self._file.parts[part] = value
        for place in self._document.places:
            if place[: len(keys)] == keys:
                self._file.where[(*part, *place[len(keys) :])] = self._where(place)

    def _check_priority(self, keys: KeyPath, value: Any) -> None:
        """``priority`` sets nothing: the one policy there is needs no setting."""
        policy = value
        if isinstance(value, Mapping):
            for name in value:
                if name != "policy":
                    raise ConfigError(unknown_name(self._where((*keys, name)), name, ["policy"]))
            keys, policy = (*keys, "policy"), value.get("policy")
        if not _is_absent(policy):
            PRIORITIES.read(str(policy), self._where(keys))

    def _check_one_admission(self, keys: KeyPath) -> None:
        gateway = self._file.parts.get(("cluster", "gateway"))
        if isinstance(gateway, Mapping) and gateway.get("admission") is not None:
            raise ConfigError(
                f"{self._where(keys)} must be there once; got it and gateway.admission; leave "
                "one of them out"
            )

    def _admission(self, keys: KeyPath, parent: Mapping[str, Any]) -> Any:
        """Return admission without the figures that BLIS writes beside every policy."""
        admission = self._with_policy(keys, parent["admission"], ADMISSION.read)
        if not isinstance(admission, Mapping):
            return admission
        is_bucket = admission.get("policy") == AdmissionPolicy.TOKEN_BUCKET
        return {
            name: value
            for name, value in admission.items()
            if is_bucket or name not in _BLIS_DEFAULTS or value != _BLIS_DEFAULTS[name]
        }

    def _routing(self, keys: KeyPath, value: Any) -> Any:
        routing = self._with_policy(keys, value, ROUTING.read)
        if isinstance(routing, Mapping) and isinstance(routing.get("scorers"), list):
            scorers = self._weights((*keys, "scorers"), routing["scorers"])
            return {**routing, "scorers": scorers}
        return routing

    def _with_policy(self, keys: KeyPath, value: Any, read: Any) -> Any:
        """Return a part with the name of its policy read; an empty name is none."""
        if isinstance(value, str):
            return read(value, self._where(keys))
        if not isinstance(value, Mapping) or not isinstance(value.get("policy"), str | None):
            return value  # the scenario says what is wrong
        policy = value.get("policy")
        rest = {name: inner for name, inner in value.items() if name != "policy"}
        if not policy:
            return rest
        return {"policy": read(policy, self._where((*keys, "policy"))), **rest}

    def _weights(self, keys: KeyPath, items: Sequence[Any]) -> dict[str, Any]:
        """Return BLIS's list of scorers as weights by name."""
        weights: dict[str, Any] = {}
        for number, item in enumerate(items):
            here = (*keys, str(number))
            if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
                raise ConfigError(
                    f"{self._where(here)} must be a scorer such as {{name: queue-depth, weight: "
                    f"1}}; got {shown(item)}"
                )
            for name in item:
                if name not in _ITEM:
                    raise ConfigError(unknown_name(self._where((*here, name)), name, _ITEM))
            scorer = SCORERS.read(item["name"], self._where((*here, "name")))
            if scorer in weights:
                raise ConfigError(
                    f"{self._where((*here, 'name'))} must name each scorer once; got {scorer} "
                    "twice; leave one of them out"
                )
            weights[scorer] = item.get("weight", 1)
        return weights

    def _where(self, keys: KeyPath) -> str:
        """Return how the file names a setting."""
        place = self._document.places.get(keys)
        return f"{place}: {dotted(keys)}" if place else dotted(keys)
