"""Loads written for other programs, in this package's words.

The formats are those of BLIS workload specs (github.com/inference-sim/inference-sim,
docs/reference/workload-spec.md and sim/workload/spec.go), inference-perf configurations
(github.com/kubernetes-sigs/inference-perf, inference_perf/config) and ServeGen folders
(github.com/alibaba/ServeGen, README.md). Settings that cannot be expressed are errors;
settings whose meaning changes are named in notices.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from blis_sim.config.yaml_file import read_yaml
from blis_sim.errors import ConfigError, unknown_name
from blis_sim.workload.importing.blis_spec import import_blis_spec, is_blis_spec
from blis_sim.workload.importing.inference_perf import (
    import_inference_perf,
    is_inference_perf,
)
from blis_sim.workload.importing.servegen import import_servegen, is_servegen
from blis_sim.workload.importing.source import Imported, Source, check_load

KINDS = ("blis", "inference-perf", "servegen")

__all__ = ["KINDS", "Imported", "import_servegen", "is_servegen", "read_foreign"]


def read_foreign(path: Path, kind: str | None = None) -> Imported | None:
    """Return the load of another program's YAML file or folder, None when it is none of these.

    Parameters
    ----------
    path : Path
        YAML file of BLIS or inference-perf, or a ServeGen folder.
    kind : str, optional
        One of `KINDS`; recognised by its settings when absent.

    Raises
    ------
    ConfigError
        The file cannot be read, is not of the given kind, or says something that cannot be
        expressed; with file, line and column where they are known.
    """
    imported = _read(path, kind)
    if imported is not None:
        check_load(imported.settings, str(path))
    return imported


def _read(path: Path, kind: str | None) -> Imported | None:
    if kind is not None and kind not in KINDS:
        raise ConfigError(unknown_name("kind of load", kind, KINDS))
    if kind == "servegen" or (kind is None and path.is_dir()):
        return import_servegen(path) if kind or is_servegen(path) else None
    document = read_yaml(path, what="workload spec", number_keys=True)
    values: dict[str, Any] = document.values
    source = Source(values, path, document.places)
    if kind == "blis" or (kind is None and is_blis_spec(values)):
        return import_blis_spec(source)
    if kind == "inference-perf" or (kind is None and is_inference_perf(values)):
        return import_inference_perf(source)
    return None
