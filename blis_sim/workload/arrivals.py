"""Arrival times drawn from a renewal process."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blis_sim.config.scenario import ArrivalProcess
from blis_sim.rng import named_stream
from blis_sim.units import US_PER_S
from blis_sim.workload.base import Int64Array

_LAST_US = float(2**62)
_SPAN_CHUNK = 65_536
_SMALLEST_GAP = 1e-300


def chunk_sizes(total: int | None, chunk: int) -> Iterator[int]:
    """Yield sizes of at most ``chunk`` that add up to ``total``; without end when it is None."""
    while total is None:
        yield chunk
    for start in range(0, total, chunk):
        yield min(chunk, total - start)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Arrivals at a mean rate, the first one a gap after time 0.

    The gaps are drawn with mean 1, added up, and only then divided by the rate and rounded
    to microseconds: times never decrease, do not depend on how many are drawn at once, and
    another rate stretches the very same arrivals.

    Attributes
    ----------
    process : ArrivalProcess
        ``poisson``: exponential gaps. ``constant``: equal gaps. ``gamma``: gaps with
        coefficient of variation ``1/sqrt(burstiness)``, as ``vllm bench serve`` draws them.
    request_rate : float
        Requests per second, > 0; ``inf`` = all at time 0.
    burstiness : float
        Gamma shape, > 0.
    num_normalized : int or None
        If given, the gaps are rescaled so that the arrival of this number is at exactly
        ``num_normalized / request_rate`` seconds.
    """

    process: ArrivalProcess
    request_rate: float
    burstiness: float = 1.0
    num_normalized: int | None = None

    def times_us(self, seed: int, sizes: Iterable[int]) -> Iterator[Int64Array]:
        """Yield the arrival times in microseconds, one array per entry of ``sizes``."""
        if math.isinf(self.request_rate):
            for count in sizes:
                yield np.zeros(count, dtype=np.int64)
            return
        if self.num_normalized is None:
            unit, span_us = self.request_rate, float(US_PER_S)
        else:
            unit = self._total(seed, self.num_normalized)
            span_us = self.num_normalized * US_PER_S / self.request_rate
        for unit_times in self._unit_times(seed, sizes):
            # Normalised, the last time equals the unit, so its quotient is exactly 1.
            times = np.rint(unit_times / unit * span_us)
            yield np.minimum(times, _LAST_US).astype(np.int64)

    def _total(self, seed: int, count: int) -> float:
        """Return the sum of the first ``count`` gaps.

        A walk of its own over the same stream, instead of keeping a million gaps.
        """
        total = 0.0
        for times in self._unit_times(seed, chunk_sizes(count, _SPAN_CHUNK)):
            total = float(times[-1])
        return total

    def _unit_times(self, seed: int, sizes: Iterable[int]) -> Iterator[npt.NDArray[np.float64]]:
        rng = named_stream(seed, "workload", "arrivals")
        elapsed = 0.0
        for count in sizes:
            times = self._unit_gaps(rng, count)
            # cumsum adds one by one from the left: carrying the sum in the first gap gives
            # the same bits for every chunk size.
            times[0] += elapsed
            np.cumsum(times, out=times)
            elapsed = float(times[-1])
            yield times

    def _unit_gaps(self, rng: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
        match self.process:
            case ArrivalProcess.POISSON:
                return rng.standard_exponential(count)
            case ArrivalProcess.CONSTANT:
                return np.ones(count)
            case ArrivalProcess.GAMMA:
                gaps = rng.standard_gamma(self.burstiness, count) / self.burstiness
                # Very bursty gaps underflow to 0; a load of such gaps alone must have a sum.
                return np.maximum(gaps, _SMALLEST_GAP)

    def __str__(self) -> str:
        if math.isinf(self.request_rate):
            return "all at once"
        shape = f" (burstiness {self.burstiness:g})" * (self.process == ArrivalProcess.GAMMA)
        return f"{self.process.value}{shape} arrivals at {self.request_rate:g} requests/s"
