"""The tables inside the wheel ``aiconfigurator-core``."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

PACKAGE = "aiconfigurator-core"
VERSION = "0.12.0"
DATA = PurePosixPath("aiconfigurator_core/systems/data")


@dataclass(frozen=True, slots=True)
class SourceTable:
    """One parquet file: where it lies in the wheel, and its rows as published."""

    path: str
    framework: str
    version: str
    frame: pd.DataFrame

    def describe(self, column: str) -> str:
        """Return the different values of ``column``, or ``not stated``."""
        if column not in self.frame:
            return "not stated"
        return ", ".join(sorted(map(str, self.frame[column].unique())))


def version_key(version: str) -> tuple[int, ...]:
    """Return the numbers in ``version``, so that 1.3.0rc20 sorts after 1.3.0rc9."""
    return tuple(int(number) for number in re.findall(r"\d+", version))


class Wheel:
    """A wheel opened for reading."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        try:
            self._zip = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise ConfigError(
                f"--wheel must be a wheel (a zip file); got {path}: {error}"
            ) from None
        self._names = sorted(name for name in self._zip.namelist() if name.endswith(".parquet"))

    def versions(self, system: str, operation: str, framework: str, file: str) -> list[str]:
        """Return the versions for which the file exists, newest first."""
        folder = DATA / system / operation / framework
        found = [
            PurePosixPath(name).parent.name
            for name in self._names
            if PurePosixPath(name).parent.parent == folder and PurePosixPath(name).name == file
        ]
        return sorted(found, key=version_key, reverse=True)

    def read(self, system: str, operation: str, framework: str, file: str) -> SourceTable | None:
        """Return the newest version of a table, or None when there is none."""
        for version in self.versions(system, operation, framework, file):
            return self.read_version(system, operation, framework, file, version)
        return None

    def read_version(
        self, system: str, operation: str, framework: str, file: str, version: str
    ) -> SourceTable:
        import pandas as pd

        path = str(DATA / system / operation / framework / version / file)
        frame = pd.read_parquet(io.BytesIO(self._zip.read(path)))
        return SourceTable(path, framework, version, frame)


def download(folder: Path) -> Path:
    """Fetch the wheel with pip into ``folder`` and return its path."""
    command = [sys.executable, "-m", "pip", "download", f"{PACKAGE}=={VERSION}", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        last = (done.stderr.strip() or "no wheel came").splitlines()[-1]
        raise ConfigError(f"pip could not download {PACKAGE} {VERSION}: {last}; use --wheel PATH")
    return wheels[0]
