"""Which code and which shipped data answered."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from blis_sim.catalog.paths import data_root
from blis_sim.version import package_version

_PACKAGE = Path(__file__).resolve().parent.parent
_SHIPPED = ("bench_data", "configs")
_SHOWS_ONLY = {"cli", "report", "benchmark.py"}
"""Rooms that show results and have no part in them."""


@lru_cache(maxsize=1)
def code_version() -> str:
    """Return the package's version and a hash over its sources, shipped data and numpy.

    Two results are interchangeable only when the same code answered, with the same tables and
    draws: ``0.1.0+1c9f3a5e7b20``. Read once in a process.
    """
    digest = hashlib.sha256(f"numpy {np.__version__}".encode())
    for name, path in _files():
        with open(path, "rb") as file:  # noqa: PTH123 - thousands of files: paths cost time
            content = file.read()
        digest.update(name.encode())
        digest.update(hashlib.sha256(content).digest())
    return f"{package_version()}+{digest.hexdigest()[:12]}"


def _files() -> Iterator[tuple[str, str]]:
    """Yield name and path of each file, in an order that is the same everywhere."""
    for name, path in _below(str(_PACKAGE)):
        if name.endswith(".py") and name.partition("/")[0] not in _SHOWS_ONLY:
            yield name, path
    root = data_root()
    for folder in _SHIPPED:
        yield from ((f"{folder}/{name}", path) for name, path in _below(str(root / folder)))


def _below(root: str) -> list[tuple[str, str]]:
    """Return all files below a folder, by their names from there on."""
    found = []
    for folder, _, names in os.walk(root):
        parts = Path(folder).relative_to(root).parts
        found += [("/".join((*parts, name)), os.path.join(folder, name)) for name in names]  # noqa: PTH118
    return sorted(found)
