"""Where the shipped data lie, in a checkout and in an installed wheel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


def read_shipped_yaml(path: Path) -> Any:
    """Return what a shipped YAML file holds.

    The C loader is the same safe loader, ten times as fast; not every build has it.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
