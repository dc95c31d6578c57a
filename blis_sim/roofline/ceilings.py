"""The roofs of a machine: rates of arithmetic, and of moving bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from blis_sim.errors import ConfigError
from blis_sim.roofline.gpu_roofs import roofs_of

if TYPE_CHECKING:
    from blis_sim.catalog.gpus import GpuSpec

_T = TypeVar("_T")

DRAM = "DRAM"
"""The level that every machine has; intensity is relative to its bytes unless said otherwise."""
VECTOR = "fp32 vector"
"""Peak of what does not run on tensor cores."""


@dataclass(frozen=True, slots=True)
class Peak:
    """A rate of arithmetic.

    Attributes
    ----------
    name : str
        Data type, and unit where there are several: ``bf16``, ``fp8``, ``fp32 vector``.
    tflops : float
        1e12 operations per second, > 0; dense.
    """

    name: str
    tflops: float


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """A rate of moving bytes.

    Attributes
    ----------
    level : str
        ``DRAM``, ``L2`` or ``L1``; of a measured machine also ``DRAM read``, ``DRAM copy``.
    gb_per_s : float
        1e9 bytes per second, > 0.
    """

    level: str
    gb_per_s: float


@dataclass(frozen=True, slots=True)
class Ceilings:
    """The roofs of one machine.

    Attributes
    ----------
    machine : str
        Its name.
    peaks : tuple of Peak
        At least one; the first is the default.
    bandwidths : tuple of Bandwidth
        At least one; the first is the default, that of the memory.
    source : str
        Where the figures come from.
    """

    machine: str
    peaks: tuple[Peak, ...]
    bandwidths: tuple[Bandwidth, ...]
    source: str = ""

    def peak(self, name: str | None = None) -> Peak:
        """Return the peak with a name, or the first.

        Raises
        ------
        ConfigError
            There is none with this name; the message lists those there are.
        """
        return _named("dtype", self.peaks, [peak.name for peak in self.peaks], name)

    def bandwidth(self, level: str | None = None) -> Bandwidth:
        """Return the bandwidth of a level, or the first.

        Raises
        ------
        ConfigError
            There is none of this level; the message lists those there are.
        """
        levels = [bandwidth.level for bandwidth in self.bandwidths]
        return _named("level", self.bandwidths, levels, level)

    def ridge(self, dtype: str | None = None, level: str | None = None) -> float:
        """Return the intensity from which on arithmetic bounds, FLOP/byte: peak / bandwidth."""
        return 1000 * self.peak(dtype).tflops / self.bandwidth(level).gb_per_s

    def attainable_tflops(
        self, intensity: float, dtype: str | None = None, level: str | None = None
    ) -> float:
        """Return min(peak, bandwidth x intensity), TFLOP/s (Williams et al., CACM 52(4), 2009)."""
        return min(self.peak(dtype).tflops, intensity * self.bandwidth(level).gb_per_s / 1000)


def _named(what: str, there: tuple[_T, ...], names: list[str], name: str | None) -> _T:
    if name is None:
        return there[0]
    for each, known in zip(there, names, strict=True):
        if known.casefold() == name.casefold():
            return each
    raise ConfigError(f"{what} must be one of {', '.join(names)}; got {name!r}")


def ceilings_of_gpu(gpu: GpuSpec) -> Ceilings:
    """Return the roofs of a GPU of the catalog.

    Dense tensor peaks (16 bits first, then fp8 or int8), the fp32 peak of the vector units, the
    bandwidth of its memory, and those of L2 and L1, as far as each is known.
    """
    known = roofs_of(gpu.name)
    peaks = [
        (known.half, gpu.bf16_tflops_dense),
        ("fp8", gpu.fp8_tflops_dense),
        ("int8", known.int8_tflops_dense),
        (VECTOR, known.fp32_vector_tflops),
    ]
    bandwidths = [(DRAM, gpu.hbm_gb_per_s), ("L2", known.l2_gb_per_s), ("L1", known.l1_gb_per_s)]
    source = "configs/gpus"
    if known.measured:
        source += f"; caches measured on {known.measured}"
    return Ceilings(
        gpu.name,
        tuple(Peak(name, tflops) for name, tflops in peaks if tflops is not None),
        tuple(Bandwidth(level, rate) for level, rate in bandwidths if rate is not None),
        source,
    )
