"""From YAML or a mapping to a scenario."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from blis_sim.config.draft import ScenarioDraft
from blis_sim.config.overrides import parse_override
from blis_sim.config.scenario import Scenario
from blis_sim.config.workload import WorkloadSettings
from blis_sim.errors import ConfigError


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
    elif isinstance(source, str | os.PathLike):
        draft = ScenarioDraft.from_file(Path(source))
    else:
        raise ConfigError(
            "the source of a scenario must be a mapping of settings, or the path of a YAML file; "
            f"got {type(source).__name__}; {{}} has all defaults"
        )
    if isinstance(overrides, str | Mapping):
        raise ConfigError(
            "overrides must be a list of texts, such as ['engine.max_num_seqs=64']; got "
            f"a {type(overrides).__name__}"
        )
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
