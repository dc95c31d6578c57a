"""The catalog's names of what scenarios deploy; an unknown one is an error, not a result."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blis_sim.catalog.gpus import load_gpu
from blis_sim.catalog.locate import locate
from blis_sim.catalog.models import load_model
from blis_sim.config.cluster import PoolSettings, scaled_parts

if TYPE_CHECKING:
    from blis_sim.config.scenario import Scenario
    from blis_sim.config.section import Section


def model_and_gpu(scenario: Scenario, pool: PoolSettings | None = None) -> tuple[str, str]:
    """Return the catalog's names of the model and GPU of a pool, by default of the scenario.

    Raises
    ------
    CatalogError
        One is unknown; the nearest are listed.
    """
    return _names_of(*_written(scenario, pool))


def check_names(scenarios: Iterable[Scenario]) -> None:
    """Check that all models and GPUs are known.

    A slip of the pen is no deployment that cannot be: it shall be seen before anything runs.

    Raises
    ------
    CatalogError
        One is unknown; the nearest are listed.
    """
    found = {
        _written(scenario, part if isinstance(part, PoolSettings) else None)
        for scenario in scenarios
        for _, part in scaled_parts(scenario.cluster)
    }
    for written in sorted(found, key=str):
        _names_of(*written)


def first_given(sections: tuple[Section, Section], name: str) -> Any:
    """Return a setting of a pool, or the scenario's where the pool does not give it."""
    own, common = sections
    return getattr(own if own.is_given(name) else common, name)


_Written = tuple[str, Path | None, str, Path | None]


def _written(scenario: Scenario, pool: PoolSettings | None) -> _Written:
    """Return model, folder of configs, GPU and hardware file as they are written."""
    if pool is None:
        pool = PoolSettings(name="default")
    latency = (pool.latency, scenario.latency)
    return (
        pool.model or scenario.model,
        first_given(latency, "model_config_folder"),
        pool.hardware or scenario.hardware,
        first_given(latency, "hardware_config"),
    )


def _names_of(model: str, folder: Path | None, gpu: str, file: Path | None) -> tuple[str, str]:
    return load_model(model, _located(folder)).name, load_gpu(gpu, _located(file)).name


def _located(path: Path | None) -> Path | None:
    return None if path is None else locate(path).path
