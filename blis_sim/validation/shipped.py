"""The measurements that are shipped: rows of licensed sources only."""

from __future__ import annotations

from pathlib import Path

from blis_sim.catalog.paths import data_root
from blis_sim.errors import CatalogError

RUNS = "bench_data/serving/runs.csv"
"""Measured servers, compared where nothing else is named."""


def shipped(name: str) -> Path:
    """Return where a shipped file lies.

    Parameters
    ----------
    name : str
        Below the data root, such as ``RUNS``.

    Raises
    ------
    CatalogError
        This installation does not have it.
    """
    path = data_root() / name
    if not path.is_file():
        raise CatalogError(
            f"the shipped measurements must be in {path}; got no such file; install again, or "
            "give --runs FILE"
        )
    return path
