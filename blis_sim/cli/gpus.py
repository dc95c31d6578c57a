"""``blis gpus``: the GPUs that are shipped."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blis_sim.cli.common import out, text_table
from blis_sim.errors import CatalogError

if TYPE_CHECKING:
    from blis_sim.catalog.gpus import GpuSpec

HELP = "List the GPUs that are known by name."


def gpus(
    *,
    pattern: Annotated[
        str, typer.Argument(metavar="[FILTER]", help="Part of a name.", show_default=False)
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print a table, or JSON."""
    from blis_sim.catalog.gpus import list_gpus

    found = [
        gpu for gpu in list_gpus() if pattern.lower() in " ".join((gpu.name, *gpu.aliases)).lower()
    ]
    if not found:
        raise CatalogError(
            f"FILTER must be part of a GPU's name; got {pattern!r}; 'blis gpus' lists all"
        )
    if as_json:
        out(json.dumps([_as_json(gpu) for gpu in found], indent=2))
        return
    header = ("GPU", "memory", "bf16", "fp8", "bandwidth", "NVLink", "power")
    units = ("", "GiB", "TFLOP/s", "TFLOP/s", "GB/s", "GB/s", "W")
    out(text_table(header, [units, *map(_row, found)]))


def _row(gpu: GpuSpec) -> tuple[str, ...]:
    return (
        gpu.name,
        *(
            "-" if value is None else f"{value:g}"
            for value in (
                gpu.memory_gib,
                gpu.bf16_tflops_dense,
                gpu.fp8_tflops_dense,
                gpu.hbm_gb_per_s,
                gpu.nvlink_gb_per_s,
                gpu.tdp_w,
            )
        ),
    )


def _as_json(gpu: GpuSpec) -> dict[str, Any]:
    from dataclasses import asdict

    shown = asdict(gpu)
    del shown["source"]
    return shown
