from __future__ import annotations

from pathlib import Path

import pytest

from blis_sim.catalog.locate import locate, shown_path
from blis_sim.catalog.paths import configs_dir, data_root

SHIPPED = Path("configs/hardware_config.json")


def test_shipped_files_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path below a data folder means the shipped file, with a notice."""
    monkeypatch.chdir(tmp_path)
    located = locate(SHIPPED)
    assert located.path == configs_dir() / "hardware_config.json"
    assert located.notice.startswith("configs/hardware_config.json is not in the current folder")


def test_the_users_file_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is where it says stays there."""
    monkeypatch.chdir(tmp_path)
    SHIPPED.parent.mkdir()
    SHIPPED.write_text("{}")
    assert locate(SHIPPED).path == SHIPPED
    assert locate(SHIPPED).notice == ""


@pytest.mark.parametrize(
    "path", ["pyproject.toml", "configs/none.json", "/configs", "", "../configs"]
)
def test_everything_else_stays_as_written(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but the data folders is searched."""
    monkeypatch.chdir(tmp_path)
    assert locate(Path(path)).path == Path(path)
    assert locate(Path(path)).notice == ""


def test_shipped_paths_are_shown_short() -> None:
    """Reports name shipped files alike wherever the package is installed."""
    assert shown_path(data_root() / SHIPPED) == "configs/hardware_config.json"
    assert shown_path(f"{data_root() / SHIPPED}:7") == "configs/hardware_config.json:7"
    assert shown_path("/somewhere/else.json") == "/somewhere/else.json"
