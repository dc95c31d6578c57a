"""Work and the roofs above it: FLOPs, bytes, intensity, and what bounds its time."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Bottleneck(StrEnum):
    """Which roof is above a piece of work."""

    MEMORY = "memory-bound"
    COMPUTE = "compute-bound"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Some work on one GPU, and the roofs above it.

    Attributes
    ----------
    flops : float
        Operations, >= 0; a multiply-add is two.
    bytes : float
        Bytes that cross the bus of the memory, > 0, each operand once.
    message_bytes : float
        Bytes of messages to other GPUs; they are not part of ``bytes``.
    peak_tflops : float
        Peak of the format it is computed in, TFLOP/s; of work in several formats the mean,
        weighted by the time at the peak.
    bandwidth_gb_per_s : float
        Bandwidth of the memory, 1e9 bytes/s.
    link_s : float or None
        Least time of the messages, s; None = the link is not known.
    measured_s : float or None
        How long it took, s; None = not measured.

    Notes
    -----
    Williams, Waterman, Patterson, CACM 52(4), 2009.
    """

    flops: float
    bytes: float
    peak_tflops: float
    bandwidth_gb_per_s: float
    message_bytes: float = 0.0
    link_s: float | None = 0.0
    measured_s: float | None = None

    @property
    def intensity(self) -> float:
        """Operational intensity, FLOP per byte of the memory; 0 of work that only moves."""
        return self.flops / self.bytes if self.bytes else 0.0

    @property
    def ridge(self) -> float:
        """Intensity from which on arithmetic bounds, FLOP/byte: peak / bandwidth."""
        return 1000 * self.peak_tflops / self.bandwidth_gb_per_s

    @property
    def distance_to_ridge(self) -> float:
        """Intensity / ridge: below 1 the memory bounds, and this share of the peak is left."""
        return self.intensity / self.ridge

    @property
    def bottleneck(self) -> Bottleneck:
        """``memory-bound`` below the ridge, ``compute-bound`` from it on."""
        is_compute = self.compute_s >= self.memory_s
        return Bottleneck.COMPUTE if is_compute else Bottleneck.MEMORY

    @property
    def compute_s(self) -> float:
        """Time of the FLOPs at the peak, s."""
        return self.flops / (1e12 * self.peak_tflops)

    @property
    def memory_s(self) -> float:
        """Time of the bytes at the full bandwidth, s."""
        return self.bytes / (1e9 * self.bandwidth_gb_per_s)

    @property
    def roof_s(self) -> float:
        """Least time, s: the longer of ``compute_s`` and ``memory_s``; without messages."""
        return max(self.compute_s, self.memory_s)

    @property
    def attainable_tflops(self) -> float:
        """min(peak, bandwidth x intensity), TFLOP/s."""
        return self.flops / self.roof_s / 1e12 if self.roof_s else 0.0

    @property
    def attainable_gb_per_s(self) -> float:
        """min(bandwidth, peak / intensity), 1e9 bytes/s."""
        return self.bytes / self.roof_s / 1e9 if self.roof_s else 0.0

    @property
    def achieved_tflops(self) -> float | None:
        """FLOPs / measured time, TFLOP/s; None = not measured."""
        return None if self.measured_s is None else self.flops / self.measured_s / 1e12

    @property
    def achieved_gb_per_s(self) -> float | None:
        """Bytes / measured time, 1e9 bytes/s; None = not measured."""
        return None if self.measured_s is None else self.bytes / self.measured_s / 1e9

    @property
    def roof_fraction(self) -> float | None:
        """Share of the roof that was reached, time at the roof / measured time.

        1 = on the roof; above 1 the measurement or the specification is wrong. None = not
        measured.
        """
        return None if self.measured_s is None else self.roof_s / self.measured_s

    @property
    def distance_to_roof(self) -> float | None:
        """Measured time / time at the roof: how many times too slow; None = not measured."""
        return None if self.measured_s is None else self.measured_s / self.roof_s
