from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from blis_sim.atomic import atomic_write, check_output_path
from blis_sim.errors import ConfigError

needs_permissions = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")


def fail_after_writing(path: Path) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt


def test_file_appears_whole(tmp_path: Path) -> None:
    """Nothing stands at the path before the end, and nothing else is left after it."""
    path = tmp_path / "out.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("done")
        assert temporary.parent == tmp_path
        assert not path.exists()
    assert path.read_text() == "done"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("before", [None, "old"])
def test_failure_leaves_what_was_there(tmp_path: Path, before: str | None) -> None:
    """When writing breaks off, an old file stays as it was and no new one appears."""
    path = tmp_path / "out.txt"
    if before is not None:
        path.write_text(before)
    with pytest.raises(KeyboardInterrupt):
        fail_after_writing(path)
    assert [(file, file.read_text()) for file in tmp_path.iterdir()] == (
        [] if before is None else [(path, before)]
    )


def test_link_stays_a_link(tmp_path: Path) -> None:
    """Writing to a link replaces the file it points to."""
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    with atomic_write(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_device_is_written_to_directly() -> None:
    """A device is never replaced by a file."""
    with atomic_write("/dev/null") as path:
        assert path == Path("/dev/null")
        path.write_text("gone")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_permissions_are_those_of_a_new_file(tmp_path: Path) -> None:
    """The file is as readable as one opened in the ordinary way."""
    path, ordinary = tmp_path / "out", tmp_path / "ordinary"
    ordinary.write_text("")
    with atomic_write(path) as temporary:
        temporary.write_text("")
    assert path.stat().st_mode == ordinary.stat().st_mode


def test_error_of_the_file_system_is_one_line(tmp_path: Path) -> None:
    """A folder that has gone is an error of ours that names the file."""
    path = tmp_path / "gone" / "out.txt"
    with (
        pytest.raises(ConfigError, match=r"output file .*out.txt must be writable; got: No such"),
        atomic_write(path) as temporary,
    ):
        temporary.write_text("x")


def test_good_paths_pass(tmp_path: Path) -> None:
    """A new file, an old file and a device can be written."""
    old = tmp_path / "old"
    old.write_text("")
    for path in (tmp_path / "new", old, str(old), "/dev/null"):
        check_output_path(path, "--json")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no/such/file", "--json must be a file in an existing folder; got .*; create .*no/such"),
        ("folder", "--json must be a file; got the folder .*folder; add a file name"),
        ("x" * 300, "--json must be a writable file; got .*: File name too long"),
    ],
)
def test_bad_paths(tmp_path: Path, name: str, message: str) -> None:
    """What cannot become a file is refused before the run, with the remedy."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match=message):
        check_output_path(tmp_path / name, "--json")


def test_empty_path() -> None:
    """An empty name is not the current folder."""
    with pytest.raises(ConfigError, match="--json must be a file name; got an empty one"):
        check_output_path("", "--json")


@needs_permissions
def test_write_protected(tmp_path: Path) -> None:
    """A protected folder or file is named."""
    protected = tmp_path / "file"
    protected.write_text("")
    protected.chmod(0o400)
    with pytest.raises(ConfigError, match=r"change the permissions of .*file or"):
        check_output_path(protected, "--json")
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o500)
    with pytest.raises(ConfigError, match=r"change the permissions of .*folder or"):
        check_output_path(folder / "new", "--json")
