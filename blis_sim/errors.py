"""Every error a user can cause, in one tree.

Messages have one form: ``<where> must be <constraint with unit>; got <value>`` followed by
what to do about it. The command line prints the message on one line and exits with 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BlisError(Exception):
    """Base class of all errors raised on purpose by this package."""


class ConfigError(BlisError):
    """A scenario, flag or file of settings is wrong or contradicts itself."""


class TraceError(BlisError):
    """A trace file is missing, malformed or inconsistent."""


class CatalogError(BlisError):
    """A model, GPU, coefficient or price is unknown or its data are unusable."""


class SimulationError(BlisError):
    """A simulation could not be carried out with these settings."""


class InvariantError(BlisError):
    """A conservation law was violated: a defect of the program, never a wrong input."""


class MissingExtraError(BlisError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}; install it with: "
            f"pip install 'blis-sim[{extra}]'"
        )


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return the known names most similar to ``name``, best first.

    The comparison ignores case; at least one name is returned when any is known.
    """
    by_lower = {k.lower(): k for k in known}
    hits = difflib.get_close_matches(name.lower(), list(by_lower), n=count, cutoff=0.4)
    if not hits:
        hits = difflib.get_close_matches(name.lower(), list(by_lower), n=count, cutoff=0.0)
    return [by_lower[h] for h in hits]


def unknown_name(where: str, name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown name, with the nearest valid ones."""
    known = list(known)
    if not known:
        return f"{where} must be a known name; got {name!r}; none is available"
    return (
        f"{where} must be a known name; got {name!r}; nearest: {', '.join(nearest(name, known))}"
    )
