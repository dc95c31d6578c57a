"""Where work stands against the roofs of a machine, and what would help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blis_sim.roofline.analysis import (
        Analysis,
        KernelAnalysis,
        PhaseAnalysis,
        Suggestion,
        SuggestionKind,
    )
    from blis_sim.roofline.analyzer import RooflineAnalyzer
    from blis_sim.roofline.ceilings import Bandwidth, Ceilings, Peak, ceilings_of_gpu
    from blis_sim.roofline.points import MeasuredPoint, read_points
    from blis_sim.roofline.specs import (
        A10Specs,
        A40Specs,
        A10040Specs,
        A10080Specs,
        B200Specs,
        CustomConfig,
        H100Specs,
        H200Specs,
        L4Specs,
        L40SSpecs,
        Llama2_7BConfig,
        Llama2_13BConfig,
        Llama2_70BConfig,
        Llama3_8BConfig,
        Llama3_70BConfig,
        MistralConfig,
        T4Specs,
        V100Specs,
    )
    from blis_sim.roofline.totals import Phase
    from blis_sim.roofline.work import Bottleneck, Work

__all__ = [
    "A10Specs",
    "A40Specs",
    "A10040Specs",
    "A10080Specs",
    "Analysis",
    "B200Specs",
    "Bandwidth",
    "Bottleneck",
    "Ceilings",
    "CustomConfig",
    "H100Specs",
    "H200Specs",
    "KernelAnalysis",
    "L4Specs",
    "L40SSpecs",
    "Llama2_7BConfig",
    "Llama2_13BConfig",
    "Llama2_70BConfig",
    "Llama3_8BConfig",
    "Llama3_70BConfig",
    "MeasuredPoint",
    "MistralConfig",
    "Peak",
    "Phase",
    "PhaseAnalysis",
    "RooflineAnalyzer",
    "Suggestion",
    "SuggestionKind",
    "T4Specs",
    "V100Specs",
    "Work",
    "ceilings_of_gpu",
    "read_points",
]

_MODULES = {
    "analysis": ("Analysis", "KernelAnalysis", "PhaseAnalysis", "Suggestion", "SuggestionKind"),
    "analyzer": ("RooflineAnalyzer",),
    "ceilings": ("Bandwidth", "Ceilings", "Peak", "ceilings_of_gpu"),
    "points": ("MeasuredPoint", "read_points"),
    "totals": ("Phase",),
    "work": ("Bottleneck", "Work"),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: the commands start at once."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = next((module for module, names in _MODULES.items() if name in names), "specs")
    return getattr(import_module(f"{__name__}.{module}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
