"""Gaps between arrivals, in units of their mean."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blis_sim.config.workload import ArrivalProcess, ArrivalSettings
from blis_sim.errors import ConfigError
from blis_sim.rng import named_stream

FloatArray = npt.NDArray[np.float64]

_BLOCK = 4096
_SMALLEST_GAP = 1e-300
_MIN_BURSTINESS = 1e-3
_MIN_CV = 1e-3
_MAX_CV = 30.0
_CV_USERS = (ArrivalProcess.GAMMA, ArrivalProcess.WEIBULL)
_SHAPED = {
    "burstiness": (ArrivalProcess.GAMMA,),
    "cv": _CV_USERS,
    "num_users": (ArrivalProcess.CLOSED_LOOP,),
    "think_time_s": (ArrivalProcess.CLOSED_LOOP,),
}


@dataclass(frozen=True, slots=True)
class GapProcess:
    """A renewal process whose gaps have mean 1.

    Attributes
    ----------
    process : ArrivalProcess
        ``poisson``: exponential gaps. ``constant``: equal gaps. ``gamma``: gaps with
        coefficient of variation ``1/sqrt(shape)``, as ``vllm bench serve`` draws them.
        ``weibull``: gaps with ``cv^2 = Gamma(1 + 2/shape) / Gamma(1 + 1/shape)^2 - 1``.
        ``all_at_once``: no gaps.
    shape : float
        Shape of gamma and Weibull gaps, > 0; 1 = Poisson.
    cv_given : float or None
        The coefficient of variation, where the user gave that instead of the shape; for
        descriptions only.
    """

    process: ArrivalProcess
    shape: float = 1.0
    cv_given: float | None = None

    @property
    def cv(self) -> float:
        """Coefficient of variation of the gaps."""
        match self.process:
            case ArrivalProcess.GAMMA:
                return 1 / math.sqrt(self.shape)
            case ArrivalProcess.WEIBULL:
                return _weibull_cv(self.shape)
            case ArrivalProcess.POISSON:
                return 1.0
            case _:
                return 0.0

    def draw(self, rng: np.random.Generator, count: int) -> FloatArray:
        """Return the next ``count`` gaps; how many are drawn at once does not matter."""
        match self.process:
            case ArrivalProcess.POISSON:
                return rng.standard_exponential(count)
            case ArrivalProcess.CONSTANT:
                return np.ones(count)
            case ArrivalProcess.GAMMA:
                gaps = rng.standard_gamma(self.shape, count) / self.shape
                # Very bursty gaps underflow to 0; a load of such gaps alone must have a sum.
                return np.maximum(gaps, _SMALLEST_GAP)
            case ArrivalProcess.WEIBULL:
                gaps = rng.weibull(self.shape, count) / math.exp(math.lgamma(1 + 1 / self.shape))
                return np.maximum(gaps, _SMALLEST_GAP)
            case _:
                return np.zeros(count)

    def sums(self, seed: int, *names: str) -> Iterator[FloatArray]:
        """Yield the sums of the gaps, block by block without end.

        Parameters
        ----------
        seed : int
            Seed of the run, >= 0.
        *names : str
            Names of the random stream.
        """
        rng = named_stream(seed, *names)
        elapsed = 0.0
        while True:
            sums = self.draw(rng, _BLOCK)
            # cumsum adds one by one from the left: with the sum so far in the first gap,
            # the bits are those of one long sum.
            sums[0] += elapsed
            np.cumsum(sums, out=sums)
            elapsed = float(sums[-1])
            yield sums

    def total(self, count: int, seed: int, *names: str) -> float:
        """Return the sum of the first ``count`` gaps, > 0.

        A walk of its own over the same stream, instead of keeping a million gaps.
        """
        blocks = self.sums(seed, *names)
        for _ in range((count - 1) // _BLOCK):
            next(blocks)
        return float(next(blocks)[(count - 1) % _BLOCK])

    def __str__(self) -> str:
        if self.process == ArrivalProcess.GAMMA and self.cv_given is None:
            return f"gamma (burstiness {self.shape:g})"
        if self.process in _CV_USERS:
            return f"{self.process.value} (cv {self.cv_given or self.cv:g})"
        return self.process.value.replace("_", " ")


def gap_process(where: str, settings: ArrivalSettings) -> GapProcess:
    """Return the process that the settings describe.

    Parameters
    ----------
    where : str
        Name of the settings in messages, e.g. ``workload.arrivals``.
    settings : ArrivalSettings
        ``burstiness`` alone selects gamma. Gamma and Weibull gaps without ``burstiness`` or
        ``cv`` have the spread of Poisson's.

    Raises
    ------
    ConfigError
        If a setting is given that the process cannot use, is out of range, or if the process
        has no gaps of its own (closed loop).
    """
    process = settings.process
    burstiness, cv = settings.burstiness, settings.cv
    if burstiness is not None and cv is not None:
        raise ConfigError(
            f"{where}.cv must not be set together with {where}.burstiness; got {cv:g} and "
            f"{burstiness:g}; leave one of them out (cv = 1/sqrt(burstiness))"
        )
    if burstiness is not None and "process" not in settings.model_fields_set:
        process = ArrivalProcess.GAMMA
    _refuse_unused(where, settings, process)
    if process == ArrivalProcess.CLOSED_LOOP:
        raise ConfigError(
            f"{where}.process must be a process with gaps between arrivals; got closed_loop, "
            "whose arrivals follow the answers"
        )
    if burstiness is not None:
        if burstiness < _MIN_BURSTINESS:
            raise ConfigError(
                f"{where}.burstiness must be >= {_MIN_BURSTINESS}; got {burstiness:g}"
            )
        return GapProcess(process, burstiness)
    if cv is None:
        return GapProcess(process)
    if not _MIN_CV <= cv <= _MAX_CV:
        remedy = "; take constant arrivals for equal gaps" if cv < 1 else ""
        raise ConfigError(
            f"{where}.cv must be between {_MIN_CV:g} and {_MAX_CV:g}; got {cv:g}{remedy}"
        )
    shape = 1 / cv**2 if process == ArrivalProcess.GAMMA else _weibull_shape(cv)
    return GapProcess(process, shape, cv)


def _refuse_unused(where: str, settings: ArrivalSettings, process: ArrivalProcess) -> None:
    for name, users in _SHAPED.items():
        value = getattr(settings, name)
        if value is None or process in users:
            continue
        got = f"{value:g}" if isinstance(value, int | float) else "a distribution"
        known = " or ".join(user.value for user in users)
        remedy = "leave one of them out"
        if "process" not in settings.model_fields_set:
            remedy = f"leave it out or set {where}.process to {known}"
        raise ConfigError(
            f"{where}.{name} must not be set with {process.value} arrivals ({where}.process); "
            f"got {got}; {remedy}"
        )


def _weibull_cv(shape: float) -> float:
    """Return sqrt(Gamma(1 + 2/k) / Gamma(1 + 1/k)^2 - 1)."""
    return math.sqrt(math.expm1(math.lgamma(1 + 2 / shape) - 2 * math.lgamma(1 + 1 / shape)))


def _weibull_shape(cv: float) -> float:
    """Return the shape whose gaps have this coefficient of variation, by bisection.

    The coefficient falls as the shape rises: it is above 30 at 0.1 and below 0.001 at 2000.
    """
    low, high = 0.1, 2000.0
    while True:
        middle = math.sqrt(low * high)
        if not low < middle < high:
            return middle
        if _weibull_cv(middle) > cv:
            low = middle
        else:
            high = middle
