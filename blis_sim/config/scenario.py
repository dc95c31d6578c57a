"""The scenario: everything a user may say about one simulation.

The command line, YAML files and the Python API are three ways to write the same tree.
Field names are vLLM's; times are in seconds here (``*_s``) and in microseconds inside the
engine.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from blis_sim.config.cluster import ClusterSettings
from blis_sim.config.engine import EngineSettings
from blis_sim.config.latency import LatencySettings
from blis_sim.config.section import Section
from blis_sim.config.workload import WorkloadSettings

DEFAULT_MODEL = "meta-llama/Llama-3.1-8B-Instruct"
DEFAULT_HARDWARE = "H100"


class SloSettings(Section):
    """Limits a request must meet to count towards goodput, milliseconds."""

    ttft_ms: float | None = Field(default=None, gt=0)
    tpot_ms: float | None = Field(default=None, gt=0)
    e2el_ms: float | None = Field(default=None, gt=0)


class Scenario(Section):
    """One simulation, completely described."""

    model: str = DEFAULT_MODEL
    """Model name (long or short)."""
    hardware: str = DEFAULT_HARDWARE
    """GPU name."""
    engine: EngineSettings = EngineSettings()
    latency: LatencySettings = LatencySettings()
    workload: WorkloadSettings = WorkloadSettings()
    cluster: ClusterSettings = ClusterSettings()
    slo: SloSettings = SloSettings()
    seed: int = Field(default=42, ge=0, lt=2**63)
    horizon_s: float | None = Field(default=None, gt=0, lt=float("inf"))
    """Stop the clock here; requests not finished are counted where they are."""
    prices: Path | None = None
    """Prices of GPUs, CSV in the layout of configs/prices.csv; it wins GPU by GPU."""
    coalesce: bool = True
    """Run decode steps in exact batches; false = one event per step (same results)."""
