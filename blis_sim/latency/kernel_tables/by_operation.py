"""The layout with the operation first, as InferSim and early BLIS have it.

::

    gemm/<gpu>/data.csv                 m,k,n,latency_us,mfu
    mha/prefill/<gpu>/<H>-<K>-<h>.csv   dtype,seq_len,latency_us,mfu
    mha/decode/<gpu>/<H>-<K>-<h>[-tp<tp>].csv
                                        dtype,kv_dtype,batch_size,kv_len,latency_us,mfu
    mla/prefill/<gpu>/<H>-<nope>-<rope>.csv, mla/decode/<gpu>/<H>-<latent>-<rope>.csv
    grouped_gemm/{prefill,decode}/<gpu>/data.csv
                                        one row per model shape and size, both GEMMs apart

Source: the README and ``bench_data`` of github.com/alibaba/InferSim, and of
github.com/inference-sim/inference-sim before its v2 tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from blis_sim.catalog.csv_table import read_csv
from blis_sim.catalog.gpus import same_gpu_key
from blis_sim.latency.kernel_tables.arrays import floats
from blis_sim.latency.kernel_tables.layout import (
    Folder,
    TableFile,
    columns_of,
    rank_heads,
)
from blis_sim.latency.kernel_tables.points import Columns, Points, read_points
from blis_sim.latency.kernel_tables.precision import normalised_dtype, peak_flops_per_us

if TYPE_CHECKING:
    from blis_sim.catalog.gpus import GpuSpec

_FILE_NAME = re.compile(r"(\d+)-(\d+)-(\d+)(?:-tp([1-9]\d*))?\.csv")
_ATTENTION = {
    ("mha", "prefill"): "prefill",
    ("mha", "decode"): "decode",
    ("mla", "prefill"): "mla_prefill",
    ("mla", "decode"): "mla_decode",
}
_EXPERT_KEYS = (
    "num_experts",
    "num_gpus",
    "num_local_experts",
    "topk",
    "hidden_size",
    "intermediate_size",
    "tokens_per_expert",
)
_EXPERT_DTYPE = "fp8"


def read_by_operation(root: Path, gpu: GpuSpec, gpus: Sequence[GpuSpec]) -> Folder | None:
    """Return the tables of a GPU in this layout, None when there are none.

    Parameters
    ----------
    root : Path
        Holds ``gemm``, ``mha``, ...
    gpu : GpuSpec
        The GPU; its folders may have any of its names.
    gpus : sequence of GpuSpec
        The catalog.

    Raises
    ------
    CatalogError
        A file is malformed: these files are small and read at once, as only their rows tell
        which formats they hold.

    Notes
    -----
    GEMM files do not name their format: it is the one whose peak explains their MFU (both
    known collections are fp8). Grouped GEMMs are DeepGEMM's, in fp8; the time of a layer's
    experts is that of both products, ``num_tokens`` those of all GPUs together.
    """
    key = same_gpu_key(gpu.name, gpus)

    def own(folder: Path) -> Iterator[Path]:
        if folder.is_dir():
            for entry in sorted(folder.iterdir()):
                if entry.is_dir() and same_gpu_key(entry.name, gpus) == key:
                    yield entry

    files: list[TableFile] = []
    for folder in own(root / "gemm"):
        files += _gemm_tables(folder / "data.csv", gpu)
    for (family, phase), operation in _ATTENTION.items():
        for folder in own(root / family / phase):
            files += _attention_tables(folder, operation)
    experts = [
        folder for phase in ("prefill", "decode") for folder in own(root / "grouped_gemm" / phase)
    ]
    files += _expert_tables([folder / "data.csv" for folder in experts])
    return Folder(root, tuple(files), (), gpu.name) if files else None


def _gemm_tables(path: Path, gpu: GpuSpec) -> Iterator[TableFile]:
    points = read_points(path, columns_of("gemm"))
    flops = 2 * points.values["m"] * points.values["n"] * points.values["k"]
    both = np.isfinite(points.latency_us) & np.isfinite(points.mfu) & (points.mfu > 0)
    dtype = "bf16"
    if both.any() and gpu.fp8_tflops_dense is not None:
        # Sums, as single small MFUs are rounded to one digit.
        implied = np.sum(flops[both] / points.latency_us[both]) / np.sum(points.mfu[both])
        dtype = min(
            ("bf16", "fp8"), key=lambda name: abs(np.log(implied / peak_flops_per_us(gpu, name)))
        )
    yield TableFile("gemm", (), dtype, dtype, path, points)


def _attention_tables(folder: Path, operation: str) -> Iterator[TableFile]:
    is_decode = operation.endswith("decode")
    plain = columns_of(operation)
    columns = Columns(
        plain.keys,
        plain.optional,
        {"batch_size": "batch"},
        ("dtype", "kv_dtype") if is_decode else ("dtype",),
    )
    for path in sorted(folder.glob("*.csv")):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            continue
        first, second, third, tp = (int(number or 1) for number in match.groups())
        shape: tuple[int, ...] = (first, second, third)
        if operation == "mla_prefill":
            # Named by the parts of a key; values are as wide as the part without rotation.
            shape = (first, second + third, second)
        elif operation == "decode":
            shape = rank_heads(shape, tp, path)
        points = read_points(path, columns)
        pairs = list(zip(*(points.text[name] for name in columns.formats), strict=True))
        for pair in sorted(set(pairs)):
            chosen = points.where(np.array([found == pair for found in pairs]))
            dtype, kv_dtype = normalised_dtype(pair[0]), normalised_dtype(pair[-1])
            yield TableFile(operation, shape, dtype, kv_dtype, path, chosen, tp)


def _expert_tables(paths: list[Path]) -> Iterator[TableFile]:
    """Yield one table per shape; where both phases measured a size the faster counts."""
    times: dict[tuple[int, ...], dict[int, float]] = {}
    source: dict[tuple[int, ...], Path] = {}
    for path in paths:
        sizes = f"{'seq_len' if path.parent.parent.name == 'prefill' else 'batch_size'}_per_gpu"
        required = (*_EXPERT_KEYS, sizes, "up_proj_us", "down_proj_us")
        for row in read_csv(path, required, ("up_mfu", "down_mfu")):
            gpus = row.count("num_gpus")
            shape = (
                row.count("num_experts"),
                row.count("topk"),
                row.count("hidden_size"),
                row.count("intermediate_size"),
                gpus,
            )
            us = row.number("up_proj_us", "us", positive=True)
            us += row.number("down_proj_us", "us", positive=True)
            tokens = row.count(sizes) * gpus
            of_shape = times.setdefault(shape, {})
            of_shape[tokens] = min(us, of_shape.get(tokens, us))
            source.setdefault(shape, path)
    for key, of_shape in sorted(times.items()):
        latency_us = floats(list(of_shape.values()))
        tokens_column = {"num_tokens": floats(list(of_shape))}
        points = Points(source[key], tokens_column, latency_us, np.full(len(latency_us), np.nan))
        yield TableFile("moe", key, _EXPERT_DTYPE, _EXPERT_DTYPE, source[key], points)
