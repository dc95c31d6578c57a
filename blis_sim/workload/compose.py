"""Several loads at the same time, as one load.

Each part becomes clients of the composed load, with rates of their own. A client's random
draws depend on its name: clients that have a name of their own in their part keep it where no
other part uses it, and with it their requests; the others get a name made of the part's, and
other draws from the same distributions.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from blis_sim.config.explain import explain
from blis_sim.config.tree import dotted
from blis_sim.config.workload import ClientSettings, WorkloadSettings
from blis_sim.config.yaml_file import read_yaml
from blis_sim.errors import ConfigError, unknown_name
from blis_sim.workload.importing import read_foreign
from blis_sim.workload.importing.source import check_load, plain
from blis_sim.workload.paths_in_settings import resolve_paths

_DEFAULT_RATE = 1
_DEFAULT_COUNT = 100
_CLIENT_FIELDS = frozenset(ClientSettings.model_fields) - {"name", "rate_fraction"}
_RATES = ("request_rate", "stages")
_OF_THE_WHOLE = ("max_outstanding", "num_requests")
"""Common settings that several clients share: each having its own would be another load."""
_END = ("num_requests", "duration_s", "stages", "trace")
_LEAST_SUM, _LARGEST_SUM = 0.999, 1.001


@dataclass(frozen=True, slots=True)
class Part:
    """One of the loads to compose.

    Attributes
    ----------
    name : str
        Unique among the parts; begins the names of its clients.
    settings : dict
        Plain values that `WorkloadSettings` accepts; paths start from the current folder.
    notices : tuple of str
        What an import of the part changed.
    """

    name: str
    settings: dict[str, Any]
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Composed:
    """The composed load and what changed its meaning on the way."""

    settings: dict[str, Any]
    notices: tuple[str, ...]


def read_parts(paths: Sequence[Path]) -> list[Part]:
    """Return the loads of several files, named after them.

    A file holds our settings of a load, a scenario (its ``workload`` is taken), or a load of
    BLIS or inference-perf; a folder is one of ServeGen.

    Raises
    ------
    ConfigError
        A file cannot be read or is malformed; with file, line and column.
    """
    stems = [path.stem if path.suffix else path.name for path in paths]
    counts, seen = Counter(stems), Counter[str]()
    parts = []
    for path, stem in zip(paths, stems, strict=True):
        seen[stem] += 1
        name = f"{stem}-{seen[stem]}" if counts[stem] > 1 else stem
        parts.append(_read_part(path, name))
    return parts


def compose(parts: Sequence[Part], scales: Mapping[str, float] | None = None) -> Composed:
    """Return one load in which all parts send at the same time.

    Parameters
    ----------
    parts : sequence of Part
        At least two.
    scales : mapping, optional
        Name of a part -> factor of all its rates.

    Raises
    ------
    ConfigError
        A part says something that several clients cannot say together, or a scale names no
        part.
    """
    if len(parts) < 2:
        raise ConfigError(f"blis compose must have at least two loads; got {len(parts)}")
    scales = dict(scales or {})
    names = [part.name for part in parts]
    for name in scales:
        if name not in names:
            raise ConfigError(unknown_name("--scale", name, names))
    notices = [f"{part.name}: {notice}" for part in parts for notice in part.notices]
    split = {part.name: _clients_of(part, notices) for part in parts}
    _scale(split, scales)
    clients = _named(split, notices)
    settings = {"clients": clients}
    check_load(settings, "the composed load")
    return Composed(settings, tuple(notices))


def _read_part(path: Path, name: str) -> Part:
    foreign = read_foreign(path)
    if foreign is not None:
        return Part(name, foreign.settings, foreign.notices)
    if path.is_dir():
        raise ConfigError(f"{path} must be a file or a ServeGen folder; got another folder")
    document = read_yaml(path, what="workload spec")
    values: Any = document.values
    notices: list[str] = []
    above: tuple[str, ...] = ()
    if isinstance(values.get("workload"), Mapping):
        others = [key for key in values if key != "workload"]
        if others:
            notices.append(f"only its workload is taken, not {', '.join(others)}")
        values, above = values["workload"], ("workload",)

    def where(keys: tuple[str, ...]) -> str:
        place = document.places.get((*above, *keys), str(path))
        return f"{place}: {dotted(keys)}"

    try:
        WorkloadSettings.model_validate(values)
    except ValidationError as error:
        found = error.errors(include_url=False)
        raise ConfigError(explain(found, WorkloadSettings, values, where)) from None
    return Part(name, resolve_paths(values, path.parent), tuple(notices))


def _clients_of(part: Part, notices: list[str]) -> list[dict[str, Any]]:
    """Return the clients of a part with their own rates; unnamed where they have no name."""
    common = {key: value for key, value in part.settings.items() if value is not None}
    if "stage_gap_s" in common:
        raise _inexpressible(
            part, "stage_gap_s", common, "other clients do not wait for its stages"
        )
    clients = common.pop("clients", None)
    if clients is None:
        return [_with_defaults(part, common, notices)]
    if "trace" in common:
        raise _inexpressible(part, "trace", common, "it has clients too")
    _check_shares(part, common, clients)
    common = {key: value for key, value in common.items() if key in _CLIENT_FIELDS}
    pushed = [_pushed_down(common, client) for client in clients]
    several = len(pushed) > 1 or any("sessions" in client for client in pushed)
    for key in _OF_THE_WHOLE:
        if key in common and several:
            raise _inexpressible(part, key, common, "it counts for all its clients together")
    if several and not all(any(key in client for key in _END) for client in pushed):
        raise ConfigError(
            f"{part.name}: clients must each have an end in a load to compose; got one without; "
            "give it duration_s, num_requests or stages"
        )
    return [_with_defaults(part, client, notices) for client in pushed]


def _check_shares(
    part: Part, common: Mapping[str, Any], clients: Sequence[Mapping[str, Any]]
) -> None:
    """Raise unless the clients' shares of a common rate make up the whole of it."""
    shares = [client["rate_fraction"] for client in clients if client.get("rate_fraction")]
    given = [key for key in _RATES if key in common]
    if not shares and not given:
        return
    if not shares or len(given) != 1:
        raise ConfigError(
            f"{part.name}: clients must have a rate_fraction each of one request_rate or of one "
            f"list of stages; got {len(shares)} fractions of {' and '.join(given) or 'nothing'}"
        )
    if not _LEAST_SUM <= sum(shares) <= _LARGEST_SUM:
        raise ConfigError(
            f"{part.name}: clients must have rate_fractions that add up to 1; got {sum(shares):g}"
        )


def _pushed_down(common: Mapping[str, Any], client: Mapping[str, Any]) -> dict[str, Any]:
    """Return a client with the common settings that it does not have itself."""
    own = {key: copy.deepcopy(value) for key, value in client.items() if value is not None}
    fraction = own.pop("rate_fraction", None)
    inherited = {key: copy.deepcopy(value) for key, value in common.items() if key not in client}
    if fraction is None:
        return {key: value for key, value in inherited.items() if key not in _RATES} | own
    return _times(inherited, fraction) | own


def _has_rate(client: Mapping[str, Any]) -> bool:
    return any(key in client for key in (*_RATES, "trace")) or _is_closed(client)


def _is_closed(client: Mapping[str, Any]) -> bool:
    arrivals = client.get("arrivals")
    if isinstance(arrivals, Mapping):
        arrivals = arrivals.get("process")
    return arrivals == "closed_loop"


def _with_defaults(part: Part, client: dict[str, Any], notices: list[str]) -> dict[str, Any]:
    """Return a client that says what its part left to the defaults of a single load."""
    client = copy.deepcopy(client)
    if not _has_rate(client):
        client["request_rate"] = _DEFAULT_RATE
        notices.append(f"{part.name}: {_DEFAULT_RATE} request/s, the default")
    if not any(key in client for key in _END):
        client["num_requests"] = _DEFAULT_COUNT
        notices.append(f"{part.name}: {_DEFAULT_COUNT} requests, the default")
    return client


def _scale(split: Mapping[str, list[dict[str, Any]]], scales: Mapping[str, float]) -> None:
    for name, factor in scales.items():
        if not 0 < factor < float("inf"):
            raise ConfigError(f"--scale {name} must be > 0 and finite; got {factor:g}")
        for number, client in enumerate(split[name]):
            if _is_closed(client):
                raise ConfigError(
                    f"--scale {name} must be used with rates; got a closed loop; change num_users"
                )
            if "trace" in client and "request_rate" not in client:
                client["rate_scale"] = plain(client.get("rate_scale", 1) * factor)
            split[name][number] = _times(client, factor)


def _times(client: dict[str, Any], factor: float) -> dict[str, Any]:
    """Return a client with its rates multiplied."""
    scaled = dict(client)
    if "request_rate" in scaled:
        scaled["request_rate"] = plain(float(scaled["request_rate"]) * factor)
    if "stages" in scaled:
        scaled["stages"] = [
            stage
            | {
                key: plain(stage[key] * factor)
                for key in ("rate", "end_rate")
                if stage.get(key) is not None
            }
            for stage in scaled["stages"]
        ]
    return scaled


def _named(split: Mapping[str, list[dict[str, Any]]], notices: list[str]) -> list[dict[str, Any]]:
    """Return all clients with names, and prefix groups, that no two parts share."""
    owners = Counter(
        name for clients in split.values() for name in {client.get("name") for client in clients}
    )
    composed, renamed = [], []
    for part, clients in split.items():
        for number, client in enumerate(clients, start=1):
            name = client.get("name")
            if name is None or owners[name] > 1:
                default = part if len(clients) == 1 else f"{part}.client-{number}"
                name = default if name is None else f"{part}.{name}"
                if "trace" not in client:
                    renamed.append(name)
            named = {"name": name} | {k: v for k, v in client.items() if k != "name"}
            if "prefix_group" in named:
                named["prefix_group"] = f"{part}.{named['prefix_group']}"
            composed.append(named)
    _check_unique(client["name"] for client in composed)
    if renamed:
        notices.append(
            f"new names, so other draws of the same distributions: {', '.join(renamed)}"
        )
    return composed


def _check_unique(names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise ConfigError(
                f"clients must have different names; got {name} {count} times; rename one"
            )


def _inexpressible(part: Part, key: str, settings: Mapping[str, Any], why: str) -> ConfigError:
    remedy = "give duration_s in its place" if key == "num_requests" else "take it out"
    return ConfigError(
        f"{part.name}: {key} must not be given in a load to compose; got {settings[key]}: {why}; "
        f"{remedy}"
    )
