"""How much of the memory's bandwidth operations reach: achieved / peak, with a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from blis_sim.catalog.csv_table import read_csv
from blis_sim.errors import ConfigError
from blis_sim.roofline.ceilings import DRAM, Ceilings

_MOST_SHARE = 1.1
_READ, _COPY = f"{DRAM} read", f"{DRAM} copy"


class Band(StrEnum):
    """What a share of the read bandwidth means."""

    NEAR_OPTIMAL = "near-optimal"
    """>= 90 %: only fewer bytes make it faster."""
    GOOD = "good"
    """70 to 90 %."""
    ROOM = "room to improve"
    """50 to 70 %."""
    LOW = "inefficient or compute-heavy"
    """< 50 %: look at the arithmetic first; the memory is not what bounds it."""


def band_of(share: float) -> Band:
    """Return the band of a share of the bandwidth, 1 = all of it; >= 0.

    Raises
    ------
    ConfigError
        The share is below 0 or no number.
    """
    if not share >= 0:
        raise ConfigError(f"share of the bandwidth must be a number >= 0; got {share}")
    if share >= 0.9:
        return Band.NEAR_OPTIMAL
    if share >= 0.7:
        return Band.GOOD
    return Band.ROOM if share >= 0.5 else Band.LOW


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that was timed.

    Attributes
    ----------
    name : str
        What it is: ``lm_head``, ``gate_up``.
    bytes : float
        Bytes it moves, > 0.
    seconds : float
        How long it takes, > 0.
    """

    name: str
    bytes: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Utilisation:
    """What an operation reaches.

    Attributes
    ----------
    operation : Operation
        What was timed.
    read_frac : float
        Achieved / read bandwidth; above 1 it came from a cache, or the peak is too low.
    copy_frac : float or None
        Achieved / bandwidth of a copy; None = that is not known.
    """

    operation: Operation
    read_frac: float
    copy_frac: float | None

    @property
    def gb_per_s(self) -> float:
        """Achieved bandwidth, 1e9 bytes/s."""
        return self.operation.bytes / self.operation.seconds / 1e9

    @property
    def band(self) -> Band:
        """The verdict, by the read bandwidth: weights are read."""
        return band_of(self.read_frac)

    @property
    def is_above_peak(self) -> bool:
        """Whether it is faster than the memory by more than measurements differ, 10 %."""
        return self.read_frac > _MOST_SHARE


def utilisations(operations: Iterable[Operation], ceilings: Ceilings) -> list[Utilisation]:
    """Return what operations reach of a machine's bandwidth.

    Parameters
    ----------
    operations : iterable of Operation
        What was timed.
    ceilings : Ceilings
        The machine; without ``DRAM read`` the bandwidth of ``DRAM`` stands for it.

    Raises
    ------
    ConfigError
        Bytes or seconds of an operation are not above 0.
    """
    by_level = {each.level: each.gb_per_s for each in ceilings.bandwidths}
    read = by_level.get(_READ, ceilings.bandwidth().gb_per_s)
    copy = by_level.get(_COPY)
    found = []
    for operation in operations:
        for what, value in (("bytes", operation.bytes), ("seconds", operation.seconds)):
            if not 0 < value < math.inf:
                raise ConfigError(
                    f"{what} of {operation.name} must be a number above 0; got {value}"
                )
        achieved = operation.bytes / operation.seconds / 1e9
        found.append(
            Utilisation(operation, achieved / read, None if copy is None else achieved / copy)
        )
    return found


def read_operations(path: Path) -> list[Operation]:
    """Return the operations of a CSV file with the columns name, bytes and seconds.

    Raises
    ------
    CatalogError
        The file cannot be read, or a cell is wrong; the message has file, line and column.
    """
    return [
        Operation(
            row.text("name"),
            row.number("bytes", "bytes", positive=True),
            row.number("seconds", "s", positive=True),
        )
        for row in read_csv(path, ("name", "bytes", "seconds"), ())
    ]


def utilisation_rows(found: Iterable[Utilisation]) -> list[tuple[str, ...]]:
    """Return a table: a header, then a row per operation."""
    header = ("operation", "MB", "time us", "GB/s", "of read", "of copy", "verdict")
    rows: list[tuple[str, ...]] = [header]
    for each in found:
        copy = "-" if each.copy_frac is None else f"{100 * each.copy_frac:.1f} %"
        rows.append(
            (
                each.operation.name,
                f"{each.operation.bytes / 1e6:.4g}",
                f"{1e6 * each.operation.seconds:.0f}",
                f"{each.gb_per_s:.4g}",
                f"{100 * each.read_frac:.1f} %",
                copy,
                "above the peak: a cache, or noise" if each.is_above_peak else each.band.value,
            )
        )
    return rows
