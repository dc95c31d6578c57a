"""Which code and which shipped data answered."""

from __future__ import annotations

import hashlib
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
    for root, path in _files():
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"{package_version()}+{digest.hexdigest()[:12]}"


def _files() -> Iterator[tuple[Path, Path]]:
    """Yield the folders and the files in them."""
    for path in sorted(_PACKAGE.rglob("*.py")):
        if path.relative_to(_PACKAGE).parts[0] not in _SHOWS_ONLY:
            yield _PACKAGE, path
    root = data_root()
    for folder in _SHIPPED:
        yield from ((root, path) for path in sorted((root / folder).rglob("*")) if path.is_file())
