"""From YAML or a mapping to a scenario."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from blis_sim.config.draft import ScenarioDraft
from blis_sim.config.overrides import parse_override
from blis_sim.config.scenario import Scenario
from blis_sim.config.workload import WorkloadSettings


def load_scenario(
    source: str | Path | Mapping[str, Any], overrides: Iterable[str] = ()
) -> Scenario:
    """Return the scenario that a file or a mapping describes.

    Parameters
    ----------
    source : str, Path or mapping
        YAML file, or its content as nested dictionaries. Paths in a file are relative to the
        folder of the file; in a mapping, to the current folder.
    overrides : iterable of str
        Settings that win over ``source``, such as ``engine.max_num_seqs=64``; the values are
        YAML.

    Raises
    ------
    ConfigError
        The file cannot be read, or a setting is unknown, there twice, of the wrong type or out
        of range; one line with file, line and column, or the path of the setting.
    """
    if isinstance(source, Mapping):
        draft = ScenarioDraft(source)
    else:
        draft = ScenarioDraft.from_file(Path(source))
    apply_overrides(draft, overrides)
    return draft.build()


def load_workload(path: str | Path) -> WorkloadSettings:
    """Return the load that a YAML file describes.

    Parameters
    ----------
    path : str or Path
        File with the ``workload`` part of a scenario, under that key or alone. Paths in it
        are relative to its folder.

    Raises
    ------
    ConfigError
        The file cannot be read, or a setting is unknown, there twice, of the wrong type or out
        of range; one line with file, line and column.
    """
    draft = ScenarioDraft()
    draft.include_workload(Path(path), "workload spec")
    return draft.build().workload


def apply_overrides(draft: ScenarioDraft, overrides: Iterable[str]) -> None:
    """Set what ``a.b=value`` texts say.

    Raises
    ------
    ConfigError
        A text is malformed, names no setting, or contradicts another.
    """
    for text in overrides:
        path, value = parse_override(text)
        draft.set(path, value, f"--set {path}")
