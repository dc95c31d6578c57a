"""What is wrong with a scenario, in one line: pydantic's findings in this package's words."""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from blis_sim.config.tree import KeyPath, item_section, options, section
from blis_sim.errors import unknown_name

_SHOWN_CHARS = 60
_UNITS = {
    "_gb_per_s": "GB/s",
    "_s": "s",
    "_ms": "ms",
    "_us": "us",
    "_tokens": "tokens",
    "_len": "tokens",
}
_KINDS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "path_type": "a path",
    "model_type": "a mapping of settings",
    "model_attributes_type": "a mapping of settings",
    "string_type": "text",
    "string_too_short": "text with at least one character",
    "dict_type": "values by name",
    "tuple_type": "a list",
    "missing": "given",
}
_LIMITS = {
    "greater_than": (">", "gt"),
    "greater_than_equal": (">=", "ge"),
    "less_than": ("<", "lt"),
    "less_than_equal": ("<=", "le"),
}


def explain(
    errors: Sequence[Mapping[str, Any]],
    model: type[BaseModel],
    values: Mapping[str, Any],
    where: Callable[[KeyPath], str],
) -> str:
    """Return the first of pydantic's findings as one line.

    Parameters
    ----------
    errors : sequence
        ``ValidationError.errors()``.
    model : type
        The model that was validated.
    values : mapping
        What was validated.
    where : callable
        How to call the setting with a given path.
    """
    first = errors[0]
    path = setting_path(first["loc"], model)
    place = where(path)
    if first["type"] in {"extra_forbidden", "invalid_key"}:
        parent = _model_at(path[:-1], model)
        return unknown_name(place, path[-1], parent.model_fields if parent else ())
    about = [error for error in errors if setting_path(error["loc"], model) == path]
    # A union reports every alternative, a list each of its items.
    wanted = " or ".join(dict.fromkeys(_constraint(error, path, model) for error in about))
    got = _value_at(path, values)
    if got is _MISSING and first["type"] == "missing":
        return f"{place} must be given; it is missing"
    while got is _MISSING:  # a short form, such as a name for the part that begins with it
        path = path[:-1]
        place, got = where(path), _value_at(path, values)
    text = f"{place} must be {wanted}; got {shown(got)}"
    if first["type"] == "string_type" and isinstance(got, int | float):
        text += "; put it in quotes"
    return text


def shown(value: object) -> str:
    """Return a value for a message, on one line and of bounded length."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."


_MISSING = object()


def _value_at(path: KeyPath, values: Mapping[str, Any]) -> object:
    value: Any = values
    for part in path:
        if isinstance(value, list | tuple) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, Mapping) and part in value:
            value = value[part]
        else:
            return _MISSING
    return value


def _constraint(error: Mapping[str, Any], path: KeyPath, model: type[BaseModel]) -> str:
    kind, context = str(error["type"]), error.get("ctx", {})
    length = _tuple_length(path, model)
    if length and kind != "value_error":
        return f"a list of {length} numbers"
    if kind in _LIMITS:
        sign, key = _LIMITS[kind]
        if context[key] == math.inf:
            return "finite"
        unit = next((f" {u}" for end, u in _UNITS.items() if path[-1].endswith(end)), "")
        return f"{sign} {_plain(context[key])}{unit}"
    if kind in {"literal_error", "enum"}:
        return str(context["expected"]).replace("'", "")
    if kind == "value_error":
        return str(context["error"]).removeprefix("must be ")
    return _KINDS.get(kind, str(error["msg"]).lower())


def _plain(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def setting_path(loc: Sequence[Any], model: type[BaseModel]) -> KeyPath:
    """Return the part of a location that names settings; the rest names types and items."""
    path: list[str] = []
    current: type[BaseModel] | None = model
    item: type[BaseModel] | None = None
    for part in loc:
        name = str(part)
        if item is not None and isinstance(part, int):
            current, item = item, None
        elif current is not None:
            item = item_section(current, name)
            current = section(current, name)
        else:
            break
        path.append(name)
    return tuple(path)


def _model_at(path: KeyPath, model: type[BaseModel]) -> type[BaseModel] | None:
    current: type[BaseModel] | None = model
    item: type[BaseModel] | None = None
    for part in path:
        if item is not None:
            current, item = item, None
        elif current is not None:
            item = item_section(current, part)
            current = section(current, part)
    return current


def _tuple_length(path: KeyPath, model: type[BaseModel]) -> int:
    """Return how many items a setting has that is a tuple, 0 when it is none."""
    parent = _model_at(path[:-1], model)
    if parent is None or path[-1] not in parent.model_fields:
        return 0
    for option in options(parent.model_fields[path[-1]].annotation):
        if typing.get_origin(option) is tuple and Ellipsis not in typing.get_args(option):
            return len(typing.get_args(option))
    return 0
