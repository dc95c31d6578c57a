"""Finding a point of a study by what people call it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from blis_sim.capacity.grid import split_list
from blis_sim.capacity.sweep import words_of
from blis_sim.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blis_sim.capacity.study import Label, StoredPoint, Study

_KEY = re.compile(r"[0-9a-f]{4,64}")
_MOST_NAMES = 3
_SWITCHES = {"on": True, "true": True, "off": False, "false": False}


def find_point(study: Study, text: str, where: str = "--point") -> StoredPoint:
    """Return the one point of a study that a text means.

    Parameters
    ----------
    study : Study
        With its points.
    text : str
        The beginning of its key, at least four digits; or labels, as many as are needed to
        tell it from the others: ``hardware=H100,request_rate=8``.
    where : str
        How the user named it.

    Raises
    ------
    ConfigError
        None or several are called so.
    """
    asked = text.strip()
    if _KEY.fullmatch(asked):
        found = [point for point in study.points if point.key.startswith(asked)]
    else:
        pairs = [part.partition("=") for part in split_list(asked)]
        found = [
            point
            for point in study.points
            if all(_has(point.labels, name.strip(), value.strip()) for name, _, value in pairs)
        ]
    if len(found) == 1:
        return found[0]
    if not found:
        names = [words_of(point.labels) for point in study.points]
        near = "; ".join(nearest(asked, names, _MOST_NAMES)) or "the study has no points"
        raise ConfigError(
            f"{where} must be the key or the labels of a point of study {study.number}; got "
            f"{text!r}; nearest: {near}"
        )
    shown = "; ".join(
        f"{words_of(point.labels)} (key {point.key[:12]})" for point in found[:_MOST_NAMES]
    )
    more = f"; and {len(found) - _MOST_NAMES} more" if len(found) > _MOST_NAMES else ""
    raise ConfigError(
        f"{where} must mean one point of study {study.number}; got {text!r}, which are "
        f"{len(found)}: {shown}{more}; add labels"
    )


def _has(labels: Mapping[str, Label], name: str, value: str) -> bool:
    """Return whether a label is called so, by its path or the last part of it."""
    return any(
        _is(label, value)
        for path, label in labels.items()
        if name in {path, path.rpartition(".")[2]}
    )


def _is(label: Label, text: str) -> bool:
    if isinstance(label, bool):
        return _SWITCHES.get(text.lower()) is label
    if isinstance(label, int | float):
        try:
            return float(text) == label
        except ValueError:
            return False
    return text == ("-" if label is None else label)
