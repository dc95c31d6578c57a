"""Print computed against measured KV blocks, and what a leave-one-out refit would give.

Run from the root of a checkout: python scripts/kv_capacity_report.py
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from blis_sim.catalog.gpus import load_gpu
from blis_sim.catalog.models import load_model
from blis_sim.engine.kv_capacity import (
    KvCapacity,
    KvSettings,
    compute_num_kv_blocks,
    reserve_constants,
)
from blis_sim.units import GIB

MEASURED = Path(__file__).resolve().parent.parent / "tests" / "engine" / "kv_blocks_measured.csv"


def settings_of(row: dict[str, str]) -> KvSettings:
    return KvSettings(
        tp=int(row["tp"]),
        max_num_batched_tokens=int(row["max_num_batched_tokens"]),
        max_num_seqs=int(row["max_num_seqs"]),
        engine_version=row["engine_version"],
        gpu_memory_utilization=float(row["gpu_memory_utilization"]),
    )


def refit(
    rows: list[dict[str, str]], capacities: list[KvCapacity], fitted: list[int]
) -> np.ndarray:
    """Return the fixed and tensor-parallel GiB that fit ``fitted`` best, in relative error."""
    left, right = [], []
    for i in fitted:
        row, capacity = rows[i], capacities[i]
        kv_bytes = int(row["num_kv_blocks"]) * capacity.block_bytes
        several = int(row["tp"]) > 1
        constants = reserve_constants(row["engine_version"])
        used = (constants.fixed_gib + several * constants.tensor_parallel_gib) * GIB
        wanted = capacity.usable_bytes - capacity.weight_bytes - kv_bytes
        left.append(np.array([1.0, float(several)]) * GIB / kv_bytes)
        right.append((wanted - (capacity.reserve_bytes - used)) / kv_bytes)
    return np.linalg.lstsq(np.array(left), np.array(right), rcond=None)[0]


def main() -> None:
    with MEASURED.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    capacities = [
        compute_num_kv_blocks(load_model(r["model"]), load_gpu(r["gpu"]), settings_of(r))
        for r in rows
    ]
    fitted = [i for i, r in enumerate(rows) if r["aim_percent"] and r["engine_version"] < "0.17"]
    print(f"{'model':52} GPU      TP  mbt  computed measured  error  left out  reserve GiB")
    for i, (row, capacity) in enumerate(zip(rows, capacities, strict=True)):
        measured = int(row["num_kv_blocks"])
        error = 100 * (capacity.num_blocks / measured - 1)
        fixed, group = refit(rows, capacities, [j for j in fitted if j != i])
        several = int(row["tp"]) > 1
        constants = reserve_constants(row["engine_version"])
        change = fixed - constants.fixed_gib + several * (group - constants.tensor_parallel_gib)
        left_out = error - 100 * change * GIB / capacity.block_bytes / measured
        print(
            f"{row['model'][:52]:52} {row['gpu']:8} {row['tp']:>2}"
            f" {row['max_num_batched_tokens']:>5}"
            f" {capacity.num_blocks:8} {measured:8} {error:+5.2f} % {left_out:+7.2f} %"
            f" {capacity.reserve_bytes / GIB:8.2f}  {row['settings']}"
        )
    print("refit on all: fixed, tensor parallel GiB =", refit(rows, capacities, fitted).round(3))


if __name__ == "__main__":
    main()
