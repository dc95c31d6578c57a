"""The model catalog: shipped Hugging Face configs, found by long and short names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from blis_sim.catalog.model_config import model_spec_from_config, with_sampling
from blis_sim.catalog.model_spec import ModelSpec
from blis_sim.catalog.names import NameIndex, normalize_name, short_name
from blis_sim.catalog.paths import configs_dir, read_shipped_yaml
from blis_sim.errors import CatalogError

CONFIG_FILE = "config.json"
GENERATION_FILE = "generation_config.json"
_INDEX_FILE = "index.yaml"
_REMEDY = "or give the folder of its config.json with --model-config-folder"


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One folder of the catalog.

    Attributes
    ----------
    folder
        Folder under ``configs/models``; also a name of the model.
    name
        Long name on the Hugging Face hub.
    aliases
        Long names of models with the same config (a slash in them), and short spellings.
    """

    folder: str
    name: str
    aliases: tuple[str, ...] = ()


def models_dir() -> Path:
    """Return the folder of shipped model configs."""
    return configs_dir() / "models"


def list_models() -> tuple[ModelEntry, ...]:
    """Return the shipped models in the order of their folders; reads only the index.

    Raises
    ------
    CatalogError
        When the index is missing or malformed.
    """
    return _read_index(models_dir() / _INDEX_FILE)


@lru_cache(maxsize=4)
def _read_index(path: Path) -> tuple[ModelEntry, ...]:
    import yaml

    try:
        index = read_shipped_yaml(path)
    except (OSError, yaml.YAMLError) as error:
        raise CatalogError(f"{path} must be the index of the model catalog; {error}") from None
    if not isinstance(index, dict):
        raise CatalogError(f"{path} must map folders to names; got {type(index).__name__}")
    return tuple(_entry(folder, value, path) for folder, value in sorted(index.items()))


def _entry(folder: object, value: object, path: Path) -> ModelEntry:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise CatalogError(f"{path}: {folder} must have a name; got {value!r}")
    aliases = value.get("aliases", [])
    if not isinstance(aliases, list):
        raise CatalogError(f"{path}: {folder}.aliases must be a list; got {aliases!r}")
    return ModelEntry(str(folder), value["name"], tuple(map(str, aliases)))


def _family(name: str) -> str:
    """Return ``name`` without the suffixes of its tuning (``-instruct``, ``-hf``, ...)."""
    return re.sub(r"(-(instruct|chat|it|hf))+$", "", normalize_name(name))


def _spellings(entries: Sequence[ModelEntry]) -> Iterator[tuple[str, str]]:
    """Yield (spelling, long name), the most exact first: the first of a spelling counts."""
    long_names = [(entry, (entry.name, *filter(_is_long, entry.aliases))) for entry in entries]
    for _, names in long_names:
        yield from ((name, name) for name in names)
    for entry in entries:
        yield entry.folder, entry.name
        yield from ((alias, entry.name) for alias in entry.aliases if not _is_long(alias))
    for _, names in long_names:
        yield from ((short_name(name), name) for name in names)
    for _, names in long_names:
        for name in names:
            yield _family(name), name
            yield _family(short_name(name)), name


def _is_long(name: str) -> bool:
    return "/" in name


@lru_cache(maxsize=4)
def _index(entries: tuple[ModelEntry, ...]) -> NameIndex:
    return NameIndex.build("model", _spellings(entries))


def resolve_model_name(name: str) -> str:
    """Return the long name that ``name`` stands for, in the catalog's spelling.

    Case does not matter. Long names (``Qwen/Qwen3-14B``), short ones (``qwen3-14b``) and,
    where no model is called so, those without ``-instruct``, ``-chat``, ``-it`` and ``-hf``
    are known. A long alias stays itself: a base model is not renamed to its tuned sibling.

    Raises
    ------
    CatalogError
        When the name is unknown; the message lists the nearest names.
    """
    return _index(list_models()).resolve(name, _REMEDY)


def find_model(name: str) -> ModelEntry:
    """Return the catalog entry that serves ``name``.

    Two names with the same entry are models of the same shape.

    Raises
    ------
    CatalogError
        When the name is unknown.
    """
    entries = list_models()
    return _entry_of(_index(entries).resolve(name, _REMEDY), entries)


def _entry_of(long_name: str, entries: Sequence[ModelEntry]) -> ModelEntry:
    return next(e for e in entries if long_name == e.name or long_name in e.aliases)


def load_model(name: str, folder: Path | None = None) -> ModelSpec:
    """Return the model called ``name``.

    Parameters
    ----------
    name
        Any spelling ``resolve_model_name`` knows; with ``folder`` any name. A name that the
        catalog does not know may be a path to a local folder or file.
    folder
        Folder with a ``config.json`` (or that file itself); it wins over the shipped one. A
        ``generation_config.json`` beside it says how the model is sampled.

    Raises
    ------
    CatalogError
        When the model is unknown, or its config is missing, malformed or inconsistent.
    """
    entries = list_models()
    index = _index(entries)
    if folder is None and is_local_model(name):
        folder = Path(name)
        name = (folder.parent if folder.is_file() else folder).resolve().name
    if folder is not None:
        path = _config_path(folder)
        long_name = index.find(name) or name
    else:
        long_name = index.resolve(name, _REMEDY)
        path = models_dir() / _entry_of(long_name, entries).folder / CONFIG_FILE
    spec = model_spec_from_config(_read_json(path), long_name, str(path))
    beside = path.with_name(GENERATION_FILE)
    return with_sampling(spec, _read_json(beside), str(beside)) if beside.is_file() else spec


def is_local_model(name: str) -> bool:
    """Return whether ``name`` is a path that exists, and no name of the catalog."""
    if _index(list_models()).find(name) is not None:
        return False
    try:
        return bool(name.strip()) and Path(name).exists()
    except (OSError, ValueError):  # a name no file system could hold
        return False


def _config_path(folder: Path) -> Path:
    if not folder.exists():
        raise CatalogError(
            f"model config folder must be an existing folder with a {CONFIG_FILE}; got {folder}"
        )
    path = folder / CONFIG_FILE if folder.is_dir() else folder
    if not path.is_file():
        raise CatalogError(f"model config folder must hold a {CONFIG_FILE}; {path} is missing")
    return path


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise CatalogError(
            f"{path}:{error.lineno}:{error.colno} must be valid JSON; {error.msg}"
        ) from None
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise CatalogError(f"{path} must be a readable UTF-8 JSON file; {error}") from None
    if not isinstance(value, dict):
        raise CatalogError(f"{path} must hold a JSON object; got {type(value).__name__}")
    return value
