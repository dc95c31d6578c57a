"""What makes two points the same: scenario, files, window, limits, and the code."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from blis_sim.capacity.code_version import code_version
from blis_sim.catalog.locate import locate
from blis_sim.catalog.models import CONFIG_FILE, is_local_model
from blis_sim.config.tree import with_paths
from blis_sim.metrics.plain import canonical_sha256

if TYPE_CHECKING:
    from blis_sim.capacity.study import Point
    from blis_sim.config.scenario import Scenario


class PointKeys:
    """Makes the keys of points; files they name are read once.

    A file counts by what it holds, not by where it lies. Settings left at their defaults are
    absent: what they stand for follows from the code. ``coalesce`` has no part in results.
    """

    def __init__(self) -> None:
        self._digests: dict[Path, str] = {}
        self._local: dict[str, bool] = {}

    def key(self, point: Point) -> str:
        """Return the key of a point, 64 hexadecimal digits."""
        window = None if point.window is None else asdict(point.window)
        asked = {
            "scenario": self._scenario(point.scenario),
            "window": window,
            "limits": [asdict(limit) for limit in point.limits],
            "code": code_version(),
        }
        return canonical_sha256(asked)

    def _scenario(self, scenario: Scenario) -> dict[str, Any]:
        by_content = with_paths(scenario, lambda path: Path(self._digest(path)))
        written = by_content.model_dump(exclude_unset=True)
        written.pop("coalesce", None)
        pools = scenario.cluster.pools or ()
        names = [scenario.model, *(pool.model for pool in pools if pool.model)]
        configs = {name: self._digest(Path(name)) for name in names if self._is_local(name)}
        return {**written, "model_configs": configs} if configs else written

    def _is_local(self, name: str) -> bool:
        found = self._local.get(name)
        if found is None:
            found = self._local[name] = is_local_model(name)
        return found

    def _digest(self, path: Path) -> str:
        found = self._digests.get(path)
        if found is None:
            found = self._digests[path] = _digest(locate(path).path)
        return found


def _digest(path: Path) -> str:
    """Return a hash of a file's or a folder's content; of what cannot be read, its name.

    Of a folder with a model only the config counts: weights have no part in results.
    """
    digest = hashlib.sha256()
    try:
        for file in _files(path):
            if file != path:
                digest.update(file.relative_to(path).as_posix().encode())
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    except OSError:
        return f"unreadable:{path}"
    return digest.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    if (path / CONFIG_FILE).is_file():
        yield path / CONFIG_FILE
    elif path.is_dir():
        yield from (each for each in sorted(path.rglob("*")) if each.is_file())
    else:
        yield path


def given_settings(scenario: BaseModel) -> dict[str, Any]:
    """Return a scenario as it was written, with plain values."""
    written: dict[str, Any] = scenario.model_dump(mode="json", exclude_unset=True)
    return written
