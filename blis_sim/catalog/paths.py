"""Where the shipped data lie, in a checkout and in an installed wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def data_root() -> Path:
    """Return the folder that holds ``configs/``, ``bench_data/`` and ``workloads/``.

    An installed wheel carries them inside the package; a checkout has them beside it.
    """
    installed = _PACKAGE / "_data"
    return installed if installed.is_dir() else _PACKAGE.parent


def configs_dir() -> Path:
    """Return the folder of catalogs: GPUs, models, coefficients, prices, scenarios."""
    return data_root() / "configs"


def workloads_dir() -> Path:
    """Return the folder of shipped workload specs and small traces."""
    return data_root() / "workloads"
