"""Predict measured GEMMs from the other measured shapes, and print how far off that is.

Run from the root of a checkout: python scripts/leave_one_out.py [H100 A100-80:fp8 ...]

Each shape of a shipped table is left out in turn; its times at the measured numbers of rows are
predicted by roofline-v2's rule (the nearest shape on each side, by the inverse square of the
log distance) and, for comparison, from the nearest shape alone.
"""

from __future__ import annotations

import sys

import numpy as np

from blis_sim.catalog.gpus import load_gpu
from blis_sim.latency.kernel_tables.arrays import FloatArray
from blis_sim.latency.kernel_tables.borrow import shipped_bench_data, source_in
from blis_sim.latency.kernel_tables.fit import (
    Match,
    Share,
    blended_fit,
    make_fit,
    nearest_shape,
    shares_around,
)
from blis_sim.latency.kernel_tables.source import measured_roof

GPUS = ("H100", "A100-80", "L40S", "H200")
DECODE_ROWS = 256


def errors(gpu: str, dtype: str) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Return the rows, and |predicted / measured - 1|, by rule."""
    source = source_in(shipped_bench_data(), load_gpu(gpu))
    file = next(file for file in source.files("gemm") if file.dtype == dtype)
    shapes = list(source.series(file))
    rows, found = [], {"nearest": [], "blended": []}
    for shape in shapes:
        match, roof = Match(source, file, shape), measured_roof(source.gpu, file, shape)
        others = [other for other in shapes if other != shape]
        cells = make_fit(match, roof).parts[0].cells
        rules = {
            "nearest": [Share(nearest_shape(shape, others), 1.0)],
            "blended": shares_around(shape, others),
        }
        for rule, shares in rules.items():
            line = blended_fit(match, shares, roof).surface.line(1)
            found[rule].append(np.abs(line.at(cells.x) / cells.us[0] - 1))
        rows.append(cells.x)
    return {rule: (np.concatenate(rows), np.concatenate(each)) for rule, each in found.items()}


def show(gpu: str, dtype: str) -> None:
    for rule, (rows, found) in errors(gpu, dtype).items():
        few = found[rows <= DECODE_ROWS]
        print(
            f"{gpu:12} {dtype:5} {rule:8} all: {summary(found)}; "
            f"up to {DECODE_ROWS} rows: {summary(few)}"
        )


def summary(found: FloatArray) -> str:
    return f"median {100 * np.median(found):.1f} %, p95 {100 * np.percentile(found, 95):.1f} %"


def main() -> None:
    for name in sys.argv[1:] or GPUS:
        gpu, _, dtype = name.partition(":")
        show(gpu, dtype or "bf16")


if __name__ == "__main__":
    main()
