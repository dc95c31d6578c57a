"""The measurements that are shipped: rows of licensed sources only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blis_sim.catalog.csv_table import read_csv
from blis_sim.catalog.paths import data_root
from blis_sim.errors import CatalogError

RUNS = "bench_data/serving/runs.csv"
"""Measured servers, compared where nothing else is named."""

SILICON = "bench_data/serving/silicon.csv"
"""Measured servers at fixed concurrency: those of AIConfigurator's sample that are simulated."""
SILICON_LEFT_OUT = "bench_data/serving/silicon_left_out.csv"
"""How many others there are, and why they are not."""
SILICON_SAMPLE = 5
"""Experiments of each model, GPU and tensor parallel size that are simulated unless told
otherwise: about half a minute on two processors."""


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


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Published rows that the shipped table does not have.

    Attributes
    ----------
    engine, model, gpu : str
        As they were published.
    reason : str
        Why they are not in the table.
    num_rows : int
        How many.
    """

    engine: str
    model: str
    gpu: str
    reason: str
    num_rows: int


def read_left_out(path: Path) -> tuple[LeftOut, ...]:
    """Return what a table of published rows was made without.

    Parameters
    ----------
    path : Path
        CSV with the columns ``engine``, ``model``, ``gpu``, ``reason`` and ``rows``.

    Raises
    ------
    CatalogError
        The file cannot be read, or a cell is not what it must be.
    """
    columns = ("engine", "model", "gpu", "reason", "rows")
    return tuple(
        LeftOut(
            engine=row.text("engine"),
            model=row.text("model"),
            gpu=row.text("gpu"),
            reason=row.text("reason"),
            num_rows=row.count("rows"),
        )
        for row in read_csv(path, columns, ())
    )
