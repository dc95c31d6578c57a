"""Simulate LLM inference serving: TTFT, inter-token latency, throughput, without GPUs.

``simulate(load_scenario({"workload": {"request_rate": 8}})).summary`` holds the figures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blis_sim.api import Resolved, Result, Scenario, load_scenario, resolve, simulate
    from blis_sim.capacity.planning import plan
    from blis_sim.capacity.replicate import replicate
    from blis_sim.capacity.sweep import sweep
    from blis_sim.capacity.tune import tune
    from blis_sim.errors import (
        BlisError,
        CatalogError,
        ConfigError,
        InvariantError,
        SimulationError,
        TraceError,
    )

    __version__: str

__all__ = [
    "BlisError",
    "CatalogError",
    "ConfigError",
    "InvariantError",
    "Resolved",
    "Result",
    "Scenario",
    "SimulationError",
    "TraceError",
    "__version__",
    "load_scenario",
    "plan",
    "replicate",
    "resolve",
    "simulate",
    "sweep",
    "tune",
]

_STUDIES = {
    "plan": "blis_sim.capacity.planning",
    "replicate": "blis_sim.capacity.replicate",
    "sweep": "blis_sim.capacity.sweep",
    "tune": "blis_sim.capacity.tune",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: ``import blis_sim`` stays light."""
    if name == "__version__":
        from blis_sim.version import package_version

        return package_version()
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = "blis_sim.errors" if name.endswith("Error") else _STUDIES.get(name, "blis_sim.api")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
