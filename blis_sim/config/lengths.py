"""How lengths and waiting times are drawn, as a user writes it."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import Field

from blis_sim.config.section import Section

_PART = re.compile(r"\s*(\d+)\s*(?::\s*([0-9.eE+-]+)\s*)?")


class LengthKind(StrEnum):
    """Distributions of token lengths."""

    CONSTANT = "constant"
    NORMAL = "normal"
    LOGNORMAL = "lognormal"
    UNIFORM = "uniform"
    EXPONENTIAL = "exponential"
    PARETO_LOGNORMAL = "pareto_lognormal"
    EMPIRICAL = "empirical"
    MIXTURE = "mixture"


class LengthSettings(Section):
    """Token lengths: drawn, rounded to whole tokens and clamped to ``min`` and ``max``.

    A number alone is a constant, and ``256:0.5|4096:0.5`` a mixture of constants.
    """

    kind: LengthKind = LengthKind.NORMAL
    mean: float | None = Field(default=None, ge=0, lt=float("inf"))
    """Mean before rounding and clamping, tokens (constant, normal, lognormal, exponential)."""
    stdev: float | None = Field(default=None, ge=0, lt=float("inf"))
    """Standard deviation before clamping, tokens (normal: 0 unless given; lognormal)."""
    min: int = Field(default=1, ge=0)
    max: int = Field(default=2**31 - 1, ge=0)
    mu: float | None = Field(default=None, gt=float("-inf"), lt=float("inf"))
    """Mean of the logarithm of the length (lognormal, pareto_lognormal)."""
    sigma: float | None = Field(default=None, ge=0, lt=float("inf"))
    """Standard deviation of the logarithm (lognormal, pareto_lognormal)."""
    pareto_alpha: float | None = Field(default=None, gt=0, lt=float("inf"))
    """Tail index of the Pareto part (pareto_lognormal)."""
    pareto_min: float | None = Field(default=None, gt=0, lt=float("inf"))
    """Smallest length of the Pareto part, tokens (pareto_lognormal)."""
    pareto_share: float | None = Field(default=None, ge=0, le=1)
    """Share of lengths drawn from the Pareto part (pareto_lognormal)."""
    values: tuple[int, ...] | None = None
    """Lengths to draw from (empirical), tokens."""
    weights: tuple[float, ...] | None = None
    """How often each of ``values`` is drawn, relative to the others; equal when absent."""
    file: Path | None = None
    """Text file with one length, or one ``length,weight``, per line (empirical)."""
    parts: tuple[LengthPart, ...] | None = None
    """Distributions to choose from (mixture)."""

    @classmethod
    def from_short(cls, value: Any) -> Any:
        """Return the settings of ``512`` or ``256:0.5|4096:0.5``."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {"kind": LengthKind.CONSTANT, "mean": value}
        if isinstance(value, str):
            return _from_text(value)
        return value


class LengthPart(LengthSettings):
    """One distribution of a mixture."""

    weight: float = Field(default=1.0, gt=0, lt=float("inf"))
    """How often it is chosen, relative to the others."""


LengthSettings.model_rebuild()


def _from_text(text: str) -> dict[str, Any]:
    """Return the distribution written as ``512`` or ``256:0.5|4096:0.5``."""
    matches = [_PART.fullmatch(part) for part in text.split("|")]
    if not all(matches):
        raise ValueError("must be a number of tokens, or shares of them such as 256:0.5|4096:0.5")
    parts = [match.groups() for match in matches if match is not None]
    if len(parts) == 1 and parts[0][1] is None:
        return {"kind": LengthKind.CONSTANT, "mean": int(parts[0][0])}
    if any(share is None for _, share in parts):
        raise ValueError("must be lengths with a share behind each, such as 256:0.5|4096:0.5")
    return {
        "kind": LengthKind.MIXTURE,
        "parts": [
            {"kind": LengthKind.CONSTANT, "mean": int(tokens), "weight": share}
            for tokens, share in parts
        ],
    }


class DurationKind(StrEnum):
    """Distributions of waiting times."""

    CONSTANT = "constant"
    NORMAL = "normal"
    LOGNORMAL = "lognormal"
    UNIFORM = "uniform"
    EXPONENTIAL = "exponential"


class DurationSettings(Section):
    """Times, clamped to ``min`` and ``max``, in seconds; a number alone is a constant."""

    kind: DurationKind = DurationKind.CONSTANT
    mean: float | None = Field(default=None, ge=0, lt=float("inf"))
    """Mean before clamping, seconds (all but uniform)."""
    stdev: float | None = Field(default=None, ge=0, lt=float("inf"))
    """Standard deviation before clamping, seconds (normal, lognormal)."""
    min: float = Field(default=0.0, ge=0, lt=float("inf"))
    max: float = Field(default=1e6, ge=0, le=1e6)

    @classmethod
    def from_short(cls, value: Any) -> Any:
        """Return the settings of a number of seconds."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {"kind": DurationKind.CONSTANT, "mean": value}
        return value
