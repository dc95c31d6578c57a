"""A host model of the user's own, for roofline-v2."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path

from blis_sim.config.yaml_file import read_yaml
from blis_sim.errors import ConfigError, unknown_name
from blis_sim.latency.roofline_v2.host import HostModel

HOST_SUFFIXES = (".yaml", ".yml")
"""Of coefficient files that hold a host model."""


def is_host_file(path: Path) -> bool:
    """Return whether a coefficient file holds a host model, judged by its name."""
    return path.suffix.lower() in HOST_SUFFIXES


def read_host(path: Path) -> HostModel:
    """Return the host model of a YAML file.

    Parameters
    ----------
    path : Path
        A mapping with every figure of `HostModel` and nothing else: numbers >= 0, in
        microseconds. ``blis calibrate`` writes one.

    Raises
    ------
    ConfigError
        The file cannot be read, a figure is missing or unknown, or is no finite number >= 0;
        names the place and the figure.
    """
    document = read_yaml(path, what="host model")
    names = [field.name for field in fields(HostModel)]
    for keys, place in document.places.items():
        if keys[0] not in names:
            raise ConfigError(f"{place}: {unknown_name('figure', keys[0], names)}; take it out")
    missing = [name for name in names if name not in document.values]
    if missing:
        raise ConfigError(
            f"{path} must have every figure of the host model ({', '.join(names)}); missing: "
            f"{', '.join(missing)}; write them down, 0 where there is nothing"
        )
    figures = {name: _figure(document.values[name]) for name in names}
    for name, figure in figures.items():
        if figure is None:
            raise ConfigError(
                f"{document.places[name,]}: {name} must be a finite number >= 0 (us); got "
                f"{document.values[name]!r}"
            )
    return HostModel(**{name: figure for name, figure in figures.items() if figure is not None})


def _figure(value: object) -> float | None:
    """Return a figure; None where it is something else than a finite number >= 0."""
    if type(value) not in {int, float}:
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except OverflowError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
