"""Files that the settings of a load name, and settings written to a file."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from blis_sim.config.tree import written_paths
from blis_sim.config.workload import WorkloadSettings

_MAX_INLINE_VALUES = 64
_LENGTHS = ("prompt", "output", "question_len", "output_len", "rounds")


def resolve_paths(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a load in which paths relative to ``folder`` start from the current folder.

    Parameters
    ----------
    settings : mapping
        Plain values that `WorkloadSettings` accepts.
    folder : Path
        Where the file lies that they were read from.
    """
    return _with_paths(settings, lambda path: str(folder / Path(path).expanduser()))


def relative_paths(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a load in which paths that start from the current folder start from ``folder``."""
    return _with_paths(settings, lambda path: os.path.relpath(Path(path).expanduser(), folder))


def _with_paths(settings: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    changed = copy.deepcopy(dict(settings))
    for keys, written in list(written_paths(changed, WorkloadSettings)):
        parent: Any = changed
        for key in keys[:-1]:
            parent = parent[int(key)] if isinstance(parent, list) else parent[key]
        parent[keys[-1]] = change(written)
    return changed


def move_long_lengths(
    settings: Mapping[str, Any], spec: Path
) -> tuple[dict[str, Any], list[Path]]:
    """Write long tables of lengths to files beside ``spec`` and return a load that names them.

    Parameters
    ----------
    settings : mapping
        Plain values that `WorkloadSettings` accepts.
    spec : Path
        The file the load will be written to; the tables are in the folder ``<stem>-lengths``
        beside it, one ``length,weight`` per line.

    Returns
    -------
    dict and list of Path
        The load, and the files written.
    """
    changed = copy.deepcopy(dict(settings))
    folder = spec.parent / f"{spec.stem}-lengths"
    written: list[Path] = []
    loads = [changed, *(client for client in changed.get("clients") or ())]
    for number, load in enumerate(loads):
        owner = _file_name(str(load.get("name") or (f"client-{number}" if number else "load")))
        for key in _LENGTHS:
            table = load.get(key)
            if not isinstance(table, dict) or len(table.get("values") or ()) <= _MAX_INLINE_VALUES:
                continue
            path = folder / f"{owner}-{key}.txt"
            if path in written:
                path = folder / f"{owner}-{key}-{number}.txt"
            weights = table.get("weights") or [1] * len(table["values"])
            rows = zip(table["values"], weights, strict=True)
            folder.mkdir(exist_ok=True)
            path.write_text("".join(f"{tokens},{weight}\n" for tokens, weight in rows))
            written.append(path)
            rest = {k: v for k, v in table.items() if k not in {"values", "weights"}}
            load[key] = rest | {"file": f"{folder.name}/{path.name}"}
    return changed, written


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-") or "client"
