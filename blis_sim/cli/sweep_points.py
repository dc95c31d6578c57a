"""The points a sweep is asked for: grids over settings, and records of flags."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blis_sim.cli.flags import Flag, Typed
from blis_sim.cli.run_flags import run_flags
from blis_sim.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from blis_sim.capacity.grid import Axis
    from blis_sim.capacity.study import Label, Point
    from blis_sim.cli.settings import Settings

_NAME_KEYS = ("_benchmark_name", "_name")


@dataclass(frozen=True, slots=True)
class Record:
    """Flags that are given together.

    Attributes
    ----------
    labels : mapping of str to Label
        What sets it apart.
    typed : tuple of Typed
        The flags.
    """

    labels: Mapping[str, Label] = field(default_factory=dict)
    typed: tuple[Typed, ...] = ()


def setting_path(name: str) -> str:
    """Return the path of a setting that may be written as a flag of ``blis run`` is called.

    ``rate``, ``workload.rate`` and ``workload.request_rate`` mean the same; a name that is no
    flag is returned as it is.
    """
    from blis_sim.config.scenario import Scenario
    from blis_sim.config.tree import section

    first, _, last = name.rpartition(".")
    if not first and last in Scenario.model_fields:
        return name
    model: Any = Scenario
    for key in filter(None, first.split(".")):
        model = section(model, key) if model is not None and key in model.model_fields else None
    if model is None or last in model.model_fields:
        return name
    flag = _flags_by_key().get(last)
    if flag is None or not flag.path or (first and not flag.path.startswith(f"{first}.")):
        return name
    return flag.path


def _flags_by_key() -> dict[str, Flag]:
    return {
        name.lstrip("-").replace("-", "_"): flag
        for flag in run_flags()
        for name in (*flag.names, *flag.off_names)
    }


def read_axes(texts: Sequence[str]) -> list[Axis]:
    """Return the axes of ``--grid``; those that name the same setting are an error later."""
    from blis_sim.capacity.grid import parse_axis

    return [parse_axis(text, "--grid", setting_path) for text in texts]


def read_records(path: str | None, where: str) -> list[Record]:
    """Return the records of a file in the style of ``vllm bench sweep``; one empty by default.

    YAML or JSON: a list of mappings from flags of ``blis run`` to values, or a mapping from
    names to such mappings.

    Raises
    ------
    ConfigError
        The file cannot be read, has another form, or names an unknown flag.
    """
    if path is None:
        return [Record()]
    named = list(_entries(_load(Path(path), where), path, where))
    if not named:
        raise ConfigError(f"{where} must hold records of flags; got an empty list in {path}")
    return [_record(name, values, f"{where} {path}") for name, values in named]


def _load(path: Path, where: str) -> Any:
    import yaml

    from blis_sim.catalog.locate import locate
    from blis_sim.config.yaml_file import check_keys

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        repeated = [
            name for name, count in Counter(name for name, _ in pairs).items() if count > 1
        ]
        if repeated:
            raise ConfigError(
                f"{path}: {repeated[0]} must be there once in a mapping; got it again"
            )
        return dict(pairs)

    try:
        text = locate(path).path.read_text(encoding="utf-8-sig")
        try:
            return json.loads(text, object_pairs_hook=once)  # not all of it is YAML: tabs
        except ValueError:
            check_keys(text, path)
            return yaml.safe_load(text)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"{where} must be a readable file; got {path}: {reason}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{where} must be YAML or JSON; got {path}: {reason}") from None


def _entries(values: Any, path: str, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    pairs: list[tuple[Any, Any]] = [("", values)]
    if isinstance(values, Mapping):
        pairs = list(values.items())
    elif isinstance(values, list):
        pairs = list(enumerate(values, start=1))
    for name, record in pairs:
        if not isinstance(record, Mapping):
            raise ConfigError(
                f"{where} must be a list of records such as {{max_num_seqs: 64}}, or such "
                f"records by name; got {record!r} in {path}"
            )
        yield (str(name) if isinstance(values, Mapping) else ""), record


def _record(name: str, values: Mapping[str, Any], where: str) -> Record:
    known = _flags_by_key()
    typed: list[Typed] = []
    labels: dict[str, Label] = {}
    for key, value in values.items():
        if key in _NAME_KEYS:
            name = str(value)
            continue
        word = str(key).lstrip("-").replace("-", "_")
        flag = known.get(word)
        if flag is None or not (flag.path or flag.apply):
            settable = [word for word, each in known.items() if each.path or each.apply]
            raise ConfigError(unknown_name(f"{where}: flag", str(key), settable))
        typed += _typed(flag, word, value, where)
        labels[flag.path or word] = _label(flag, word, value)
    if name:
        labels = {_NAME_KEYS[-1].lstrip("_"): name}
    return Record(labels, tuple(typed))


def _label(flag: Flag, word: str, value: Any) -> Label:
    """Return how to call a value: that of the setting, where a flag switches it off."""
    if flag.is_switch and _spelling(word) in flag.off_names:
        return not value
    return value if isinstance(value, str | int | float | bool) else str(value)


def _spelling(word: str) -> str:
    return f"--{word.replace('_', '-')}"


def _typed(flag: Flag, word: str, value: Any, where: str) -> Iterator[Typed]:
    spelling = _spelling(word)
    if not flag.is_switch:
        if value is None or isinstance(value, bool):
            raise ConfigError(f"{where}: {word} must have a value; got {value}")
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        yield Typed(flag, spelling, text)
        return
    if not isinstance(value, bool):
        raise ConfigError(f"{where}: {word} must be true or false; got {value!r}")
    is_off = spelling in flag.off_names
    if value:
        yield Typed(flag, spelling, "")
    elif flag.off_names:
        yield Typed(flag, flag.names[0] if is_off else flag.off_names[0], "")


def sweep_points(
    settings: Settings,
    typed: Sequence[Typed],
    axes: Sequence[Axis],
    records: tuple[Sequence[Record], Sequence[Record]],
    num_replications: int,
) -> tuple[list[Point], list[str]]:
    """Return every point, and how flags were read.

    Parameters
    ----------
    settings : Settings
        Those of the scenario file; it is not changed.
    typed : sequence of Typed
        Flags that hold for all points.
    axes : sequence of Axis
        Of ``--grid``.
    records : pair of sequences of Record
        Of ``--serve-params`` and ``--bench-params``: every pair of both.
    num_replications : int
        Seeds per combination.

    Raises
    ------
    ConfigError
        A setting is wrong, or is set twice.
    """
    from blis_sim.capacity.grid import check_number, grid_points

    num_pairs = len(records[0]) * len(records[1])
    num_each = num_replications
    for each in axes:
        num_each *= len(each.values)
    check_number(num_pairs * num_each)
    points: list[Point] = []
    notices: dict[str, None] = {}
    called: set[frozenset[tuple[str, Label]]] = set()
    for serve, bench in product(*records):
        one = copy.deepcopy(settings)
        one.apply([*typed, *serve.typed, *bench.typed])
        labels = _joined(serve.labels, bench.labels)
        _check_new(labels, called)
        points += grid_points(one.draft, axes, num_replications=num_replications, labels=labels)
        notices |= dict.fromkeys(one.notices)
    return points, list(notices)


def _check_new(labels: Mapping[str, Label], called: set[frozenset[tuple[str, Label]]]) -> None:
    """Check that records are told apart: those with the same labels would be one row."""
    from blis_sim.capacity.sweep import words_of

    before = len(called)
    called.add(frozenset(labels.items()))
    if len(called) == before:
        raise ConfigError(
            f"records must differ; got two that are called {words_of(labels)}; leave one out, or "
            "name them with _benchmark_name"
        )


def _joined(serve: Mapping[str, Label], bench: Mapping[str, Label]) -> dict[str, Label]:
    """Return the labels of both records; names of records stay apart."""
    if "name" in serve and "name" in bench:
        return {"serve": serve["name"], "bench": bench["name"]}
    return {**serve, **bench}
