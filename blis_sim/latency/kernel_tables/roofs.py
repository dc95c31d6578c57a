"""Roofline bounds of kernels: no kernel is faster than max(FLOPs / peak, bytes / bandwidth).

Every bound is a function of one variable ``x`` that is proportional to the work: rows of a
GEMM, context of a decode step, area of a causal triangle. ``shapes`` makes them from kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from blis_sim.latency.kernel_tables.arrays import FloatArray, floats

_TAIL_DOUBLINGS = 12


class Roof(Protocol):
    """A bound on the time of one kernel family, for one batch entry."""

    def us(self, x: FloatArray) -> FloatArray:
        """Return the least time in us at ``x``, increasing."""

    def is_compute_bound(self, x: float) -> bool:
        """Whether the FLOPs, not the bytes, decide at ``x``."""

    def tail(self, last: float) -> list[float]:
        """Return where, beyond ``last``, knots are needed to draw the bound with lines."""


@dataclass(frozen=True, slots=True)
class LinearRoof:
    """``max(compute x, fixed + memory x)``, us.

    Attributes
    ----------
    compute_us : float
        FLOPs of one unit of ``x`` over the peak.
    fixed_us, memory_us : float
        Bytes moved whatever ``x`` is, and by one unit of ``x``, over the bandwidth.
    """

    compute_us: float
    fixed_us: float
    memory_us: float

    def us(self, x: FloatArray) -> FloatArray:
        """Return the least time in us at ``x``."""
        return np.maximum(self.compute_us * x, self.fixed_us + self.memory_us * x)

    def is_compute_bound(self, x: float) -> bool:
        """Whether the FLOPs decide at ``x``."""
        return self.compute_us * x >= self.fixed_us + self.memory_us * x

    def tail(self, last: float) -> list[float]:
        """Return the one place where the bound bends, when it lies beyond ``last``."""
        rise = self.compute_us - self.memory_us
        bend = self.fixed_us / rise if rise > 0 else 0.0
        return [bend] if bend > last else []


@dataclass(frozen=True, slots=True)
class CausalRoof:
    """Bound of full causal attention over ``s`` tokens as a function of its area ``s**2``.

    Attributes
    ----------
    compute_us : float
        FLOPs of one unit of area over the peak.
    memory_us : float
        Bytes of one token (query, key, value, result) over the bandwidth.
    """

    compute_us: float
    memory_us: float

    def us(self, x: FloatArray) -> FloatArray:
        """Return the least time in us at the area ``x``."""
        return np.maximum(self.compute_us * x, self.memory_us * np.sqrt(x))

    def is_compute_bound(self, x: float) -> bool:
        """Whether the FLOPs decide at the area ``x``."""
        return self.compute_us**2 * x >= self.memory_us**2

    def tail(self, last: float) -> list[float]:
        """Return areas of doubled lengths."""
        return [last * 4.0**i for i in range(1, _TAIL_DOUBLINGS // 2 + 1)]


@dataclass(frozen=True, slots=True)
class ExpertsRoof:
    """Bound of the routed experts of a layer as a function of the tokens.

    Attributes
    ----------
    compute_us : float
        FLOPs of one token over the peak.
    memory_us : float
        Activation bytes of one token over the bandwidth.
    expert_us : float
        Weight bytes of one expert over the bandwidth.
    num_experts, top_k : int
        Experts in all, and how many a token uses.
    num_local : float
        Experts on this GPU.
    """

    compute_us: float
    memory_us: float
    expert_us: float
    num_experts: int
    top_k: int
    num_local: float

    def us(self, x: FloatArray) -> FloatArray:
        """Return the least time in us for ``x`` tokens."""
        return np.maximum(self.compute_us * x, self._bytes_us(x))

    def _bytes_us(self, x: FloatArray) -> FloatArray:
        touched = self.num_local * (1.0 - (1.0 - self.top_k / self.num_experts) ** x)
        return self.expert_us * touched + self.memory_us * x

    def is_compute_bound(self, x: float) -> bool:
        """Whether the FLOPs decide for ``x`` tokens."""
        return bool(self.compute_us * x >= self._bytes_us(floats(x)))

    def tail(self, last: float) -> list[float]:
        """Return doubled token counts."""
        return [last * 2.0**i for i in range(1, _TAIL_DOUBLINGS + 1)]
