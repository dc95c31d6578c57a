"""Points on a roofline: what was measured, or computed, of one piece of work."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from blis_sim.errors import ConfigError
from blis_sim.roofline.ceilings import DRAM


@dataclass(frozen=True, slots=True)
class MeasuredPoint:
    """One piece of work and how fast it went.

    Attributes
    ----------
    name : str
        Of the work: a kernel, a phase.
    oi : float
        Operational intensity, FLOP per byte of ``level``, > 0.
    tflops : float
        Achieved rate, 1e12 FLOP/s, > 0.
    level : str
        Level of the memory whose bytes count.
    duration_us : float or None
        How long it took, where known: the size of the mark.
    """

    name: str
    oi: float
    tflops: float
    level: str = DRAM
    duration_us: float | None = None

    @property
    def gb_per_s(self) -> float:
        """Achieved bandwidth of ``level``, 1e9 bytes per second."""
        return 1000 * self.tflops / self.oi


def read_points(points: Iterable[MeasuredPoint | Mapping[str, Any]]) -> list[MeasuredPoint]:
    """Return points from mappings with ``name``, ``oi`` and ``tflops``.

    Raises
    ------
    ConfigError
        A key is missing or unknown, or a figure is no number > 0; the message says where.
    """
    return [
        point if isinstance(point, MeasuredPoint) else _read(number, point)
        for number, point in enumerate(points)
    ]


def _read(number: int, point: Mapping[str, Any]) -> MeasuredPoint:
    where = f"measured_points[{number}]"
    known = {"name", "oi", "tflops", "level", "duration_us"}
    missing = [key for key in ("name", "oi", "tflops") if key not in point]
    unknown = [str(key) for key in point if key not in known]
    if missing or unknown:
        raise ConfigError(
            f"{where} must have name, oi and tflops, and may have level and duration_us; "
            f"got {', '.join(map(str, point))}"
        )
    for key in ("oi", "tflops", "duration_us"):
        value: Any = point.get(key)
        if value is None and key == "duration_us":
            continue
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 < float(value) < math.inf:
            raise ConfigError(f"{where}.{key} must be a number above 0; got {value!r}")
    duration_us: Any = point.get("duration_us")
    return MeasuredPoint(
        str(point["name"]),
        float(point["oi"]),
        float(point["tflops"]),
        str(point.get("level", DRAM)),
        None if duration_us is None else float(duration_us),
    )
