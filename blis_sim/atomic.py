"""Output files that are whole or absent, and checks of their paths before a long run."""

from __future__ import annotations

import gzip
import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from blis_sim.errors import ConfigError

_GZIP_LEVEL = 4


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write to; on success it becomes ``path`` in one step.

    The temporary file lies in the same folder. When the body raises, it is removed and
    ``path`` keeps what it held. A device or a pipe is written to directly.

    Yields
    ------
    Path
        Where to write; it does not exist yet.

    Raises
    ------
    ConfigError
        The file system refused to write.
    """
    # A link keeps pointing where it does; the file behind it is replaced.
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        with _one_line_errors(path):
            yield target
        return
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        with _one_line_errors(path):
            yield temporary
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _one_line_errors(path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"output file {path} must be writable; got: {reason}; choose another path"
        ) from error


@contextmanager
def open_text(path: Path, *, compressed: bool) -> Iterator[TextIO]:
    """Open a UTF-8 text file for writing, gzip or plain; line ends are written as they are."""
    if not compressed:
        with path.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        return
    with path.open("wb") as raw:
        # No name and no time inside: the same text is the same bytes.
        packed = gzip.GzipFile("", "wb", _GZIP_LEVEL, raw, mtime=0)
        with packed, io.TextIOWrapper(packed, encoding="utf-8", newline="") as stream:
            yield stream


def check_output_path(path: str | Path, flag: str) -> None:
    """Check, before a run, that ``path`` can be written.

    Parameters
    ----------
    path : str or Path
        The file to be written; it may exist.
    flag : str
        Who asked for it, for the message: ``--json``.

    Raises
    ------
    ConfigError
        The folder does not exist, the path is a folder, or either may not be written to.
    """
    if not str(path):
        raise ConfigError(f"{flag} must be a file name; got an empty one")
    target = Path(path)
    try:
        _check_target(target, flag)
    except OSError as error:  # e.g. a name too long, or a folder that may not be entered
        reason = error.strerror or str(error)
        raise ConfigError(f"{flag} must be a writable file; got {path}: {reason}") from error


def _check_target(target: Path, flag: str) -> None:
    folder = target.resolve().parent
    if target.is_dir():
        raise ConfigError(f"{flag} must be a file; got the folder {target}; add a file name")
    if not folder.is_dir():
        raise ConfigError(
            f"{flag} must be a file in an existing folder; got {target}; create {folder} first"
        )
    needed = [target] if target.exists() else []
    if not target.exists() or target.is_file():
        needed.append(folder)  # the new file is made beside the old one
    for place in needed:
        if not os.access(place, os.W_OK):
            raise ConfigError(
                f"{flag} must be writable; got {target}; change the permissions of {place} or "
                "choose another path"
            )
