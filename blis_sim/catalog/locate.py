"""Finding a user's file: where it says, else among the shipped data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blis_sim.catalog.paths import data_root

_SHIPPED_FOLDERS = ("bench_data", "configs", "workloads")


@dataclass(frozen=True, slots=True)
class Located:
    """A file or folder a user named.

    Attributes
    ----------
    path : pathlib.Path
        Where it is; as written when it is nowhere.
    notice : str
        What to tell the user; empty = it is where it says.
    """

    path: Path
    notice: str = ""


def locate(path: Path) -> Located:
    """Return where ``path`` is.

    A relative path that does not exist from the current folder but among the shipped data
    (``workloads/chat_small.csv``, ``configs/hardware_config.json``) means the shipped file,
    so that the commands of the documentation work from any folder.
    """
    if path.is_absolute() or not path.parts or path.parts[0] not in _SHIPPED_FOLDERS:
        return Located(path)
    shipped = data_root() / path
    if path.exists() or not shipped.exists():
        return Located(path)
    return Located(
        shipped, f"{path.as_posix()} is not in the current folder: the shipped one is used"
    )


def shown_path(path: str | Path) -> str:
    """Return a path for reports: of shipped files only the part below the data root."""
    try:
        return Path(path).relative_to(data_root()).as_posix()
    except ValueError:
        return str(path)
