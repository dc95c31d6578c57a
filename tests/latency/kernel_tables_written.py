"""Small tables on a GPU with round numbers: 100 FLOP/ps and 1 byte/ps."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from blis_sim.catalog.gpus import GpuSpec, RooflineV1Constants
from blis_sim.latency.kernel_tables.layout import Folder, read_folder
from blis_sim.latency.kernel_tables.source import Source
from blis_sim.latency.kernel_tables.tables import KernelTables

FLOPS_PER_US = 1e8
BYTES_PER_US = 1e6


def make_gpu(name: str = "Bench-1", **changes: Any) -> GpuSpec:
    """1e8 FLOP/us in bf16, 2e8 in fp8, 1e6 bytes/us, links of 600 GB/s."""
    values: dict[str, Any] = {
        "bf16_tflops_dense": 100.0,
        "fp8_tflops_dense": 200.0,
        "hbm_gb_per_s": 1000.0,
        "nvlink_gb_per_s": 600.0,
        "roofline_v1": RooflineV1Constants(100.0, 1.0),
    }
    return GpuSpec(name=name, **(values | changes))


def write_csv(path: Path, header: str, rows: Iterable[tuple[object, ...]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_gemm(
    folder: Path, rows: Iterable[tuple[object, ...]], dtype: str = "bf16", header: str = ""
) -> Path:
    name = folder / "gemm_bench" / f"gemm_{dtype}.csv"
    return write_csv(name, header or "m,k,n,latency_us", rows)


def write_decode(
    folder: Path,
    rows: Iterable[tuple[object, ...]],
    heads: str = "8-2-128",
    suffix: str = "bf16_tp1",
) -> Path:
    name = folder / "mha_decode" / heads / f"mha_decode_{suffix}.csv"
    return write_csv(name, "batch,kv_len,latency_us", rows)


def write_prefill(
    folder: Path,
    rows: Iterable[tuple[object, ...]],
    heads: str = "8-2-128",
    suffix: str = "bf16",
    header: str = "seq_len,latency_us",
) -> Path:
    name = folder / "mha_prefill" / heads / f"mha_prefill_{suffix}.csv"
    return write_csv(name, header, rows)


def write_all(folder: Path) -> Path:
    """Write one small table of each kind a step of a dense model needs."""
    write_gemm(folder, [(1, 1024, 1024, 10), (1024, 1024, 1024, 50)])
    write_decode(folder, [(1, 1000, 20), (1, 2000, 30), (4, 1000, 40), (4, 2000, 80)])
    write_prefill(folder, [(1000, 100), (2000, 300)])
    return folder


def tables_of(folder: Path, gpu: GpuSpec | None = None, on: GpuSpec | None = None) -> KernelTables:
    """Return the tables of one folder, measured on ``on`` and used for ``gpu``."""
    measured = on or make_gpu()
    found: Folder = read_folder(folder, measured.name)
    return KernelTables(gpu or measured, [Source.of(found, measured)])
