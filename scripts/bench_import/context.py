"""What every kind of table needs, and the way all of them go: clean, thin, MFU, report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from blis_sim.catalog.gpus import GpuSpec

from .clean import CleanStats, clean_grid
from .grid import Floats, Grid, round_to_digits
from .kernels import WorkOf, bound_and_flops, peak_flops_per_s
from .needs import Needs
from .thin import Limits, ThinStats, apply_thinning, thin_grid
from .wheel import SourceTable, Wheel

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class TableReport:
    """What ``SOURCE.md`` and the terminal say about one kind of table."""

    name: str
    source: str
    kernels: str
    num_shapes: int
    cleaned: CleanStats
    thinned: ThinStats
    num_above_roof: int | None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """A cleaned and thinned grid with its MFU (None where no FLOPs are defined)."""

    grid: Grid
    mfu: Floats | None
    cleaned: Grid
    clean_stats: CleanStats
    thin_stats: ThinStats
    num_above_roof: int | None

    def report(
        self, name: str, source: str, kernels: str, remarks: Sequence[str] = ()
    ) -> TableReport:
        return TableReport(
            name=name,
            source=source,
            kernels=kernels,
            num_shapes=len(self.grid.shapes),
            cleaned=self.clean_stats,
            thinned=self.thin_stats,
            num_above_roof=self.num_above_roof,
            remarks=tuple(remarks),
        )


@dataclass(frozen=True, slots=True)
class Context:
    """One GPU of the import."""

    wheel: Wheel
    system: str
    gpu: GpuSpec
    out: Path
    needs: Needs
    limits: Limits
    l2_bytes: float

    def first(
        self, operation: str, file: str, frameworks: Sequence[str], **wanted: object
    ) -> tuple[SourceTable, pd.DataFrame] | None:
        """Return the first framework's newest table that has ``wanted`` rows, and these rows.

        A column that a table lacks is taken to hold what is wanted.
        """
        for framework in frameworks:
            table = self.wheel.read(self.system, operation, framework, file)
            if table is None:
                continue
            frame = table.frame
            for column, value in wanted.items():
                frame = frame[frame[column] == value] if column in frame else frame
            if len(frame):
                return table, frame
        return None

    def finish(
        self,
        raw: Grid,
        work_of: WorkOf | None,
        dtype: str,
        always: tuple[int, ...] = (),
        prepare: Callable[[Grid], Grid] | None = None,
    ) -> Finished:
        """Clean ``raw``, take what ``prepare`` makes of it, thin and compute the MFU."""
        everything, clean_stats = clean_grid(raw)
        cleaned = everything if prepare is None else prepare(everything)
        keep_rows, keep_columns, thin_stats = thin_grid(cleaned, self.limits, always)
        thinned = apply_thinning(cleaned, keep_rows, keep_columns)
        thinned = thinned.with_latency(round_to_digits(thinned.latency_us))
        mfu, above = None, None
        if work_of is not None:
            peak = peak_flops_per_s(self.gpu, dtype)
            bound, flops = bound_and_flops(thinned, work_of, peak, self.gpu.hbm_gb_per_s * 1e9)
            mfu = flops / (thinned.latency_us * 1e-6 * peak)
            above = int(np.count_nonzero(thinned.latency_us < bound))
        return Finished(thinned, mfu, everything, clean_stats, thin_stats, above)


def kernel_names(frame: pd.DataFrame) -> str:
    """Return the kernel sources of ``frame`` with their shares of the rows."""
    shares = frame["kernel_source"].value_counts(normalize=True)
    ordered = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} ({share:.0%})" for name, share in ordered)
