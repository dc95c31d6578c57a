"""The latency model, as a user writes it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import field_validator

from blis_sim.config.section import Section


class LatencyModelName(StrEnum):
    """Which latency model answers for the step time."""

    AUTO = "auto"
    BLACKBOX = "blackbox"
    ROOFLINE_V1 = "roofline-v1"
    ROOFLINE_V2 = "roofline-v2"


class LatencySettings(Section):
    """Which latency model, and with what data."""

    model: LatencyModelName = LatencyModelName.AUTO
    alpha: tuple[float, float, float] | None = None
    """Blackbox alpha: us, us per prompt token, us per output token."""
    beta: tuple[float, float, float] | None = None
    """Blackbox beta: us, us per prefill token, us per decode."""
    coefficients_file: Path | None = None
    """CSV in the layout of configs/coefficients.csv (blackbox), or YAML with a host model
    (roofline-v2)."""
    model_config_folder: Path | None = None
    """Folder with (or path of) an HF config.json that wins over the shipped one."""
    hardware_config: Path | None = None
    """Hardware file in BLIS JSON form that wins over the shipped one."""
    bench_data_path: Path | None = None
    """Folder of measured kernel tables (roofline-v2)."""

    @field_validator("alpha", "beta")
    @classmethod
    def _finite_and_not_negative(
        cls, value: tuple[float, float, float] | None
    ) -> tuple[float, float, float] | None:
        if value is not None and not all(0 <= v < float("inf") for v in value):
            raise ValueError("must be three finite numbers >= 0 (microseconds)")
        return value
