"""The tree of settings: which parts are sections, lists of sections, or files."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from blis_sim.config.section import Section

KeyPath = tuple[str, ...]
"""Names of settings from the top; an item of a list is named by its number, from 0."""

S = TypeVar("S", bound=Section)


def dotted(keys: KeyPath) -> str:
    """Return a path as people write it: ``workload.clients[0].prompt``."""
    text = ""
    for key in keys:
        if text:
            text += f"[{key}]" if key.isdecimal() else f".{key}"
        else:
            text = key
    return text


def options(annotation: Any) -> tuple[Any, ...]:
    """Return the alternatives of a union, or the type itself."""
    if typing.get_origin(annotation) in {types.UnionType, typing.Union}:
        return typing.get_args(annotation)
    return (annotation,)


def section(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """Return the model of a field that is a section of settings, else None."""
    for option in _options_of(model, name):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def item_section(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """Return the model of the items of a field that is a list of sections, else None."""
    for option in _options_of(model, name):
        if typing.get_origin(option) is tuple:
            item = typing.get_args(option)[0]
            if isinstance(item, type) and issubclass(item, BaseModel):
                return item
    return None


def _options_of(model: type[BaseModel], name: str) -> tuple[Any, ...]:
    info = model.model_fields.get(name)
    return () if info is None else options(info.annotation)


def is_path(model: type[BaseModel], name: str) -> bool:
    """Return whether a field names a file or a folder."""
    return Path in _options_of(model, name)


def is_mapping(model: type[BaseModel], name: str) -> bool:
    """Return whether a field holds values by names of the user's own."""
    return any(typing.get_origin(option) is dict for option in _options_of(model, name))


def written_paths(
    values: Any, model: type[BaseModel], keys: KeyPath = ()
) -> Iterator[tuple[KeyPath, str]]:
    """Yield the files that settings name before they are validated, with their paths of keys."""
    if not isinstance(values, Mapping):
        return
    for name, value in values.items():
        key = str(name)
        part, item = section(model, key), item_section(model, key)
        if is_path(model, key) and isinstance(value, str) and value:
            yield (*keys, key), value
        elif part is not None:
            yield from written_paths(value, part, (*keys, key))
        elif item is not None and isinstance(value, list | tuple):
            for number, one in enumerate(value):
                yield from written_paths(one, item, (*keys, key, str(number)))


def with_paths(settings: S, change: Callable[[Path], Path]) -> S:
    """Return settings with every file they name changed; what was given stays what was given."""
    update: dict[str, object] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, Path):
            update[name] = change(value)
        elif isinstance(value, Section):
            update[name] = with_paths(value, change)
        elif isinstance(value, tuple) and any(isinstance(one, Section) for one in value):
            update[name] = tuple(with_paths(one, change) for one in value)
    changed = {name: value for name, value in update.items() if value != getattr(settings, name)}
    return settings.model_copy(update=changed) if changed else settings
