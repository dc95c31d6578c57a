"""``blis roofline formats``: the bytes of weight formats, and what they mean for a decode."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blis_sim.cli.common import out, text_table
from blis_sim.errors import ConfigError

if TYPE_CHECKING:
    from blis_sim.roofline.block_formats import BlockFormat
    from blis_sim.roofline.format_bounds import FormatBound

HELP = "List weight formats with their true bytes; with --model what a decode reads."


def formats(
    *,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Formats; all by default.", show_default=False),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Bytes that one token of this model reads.")
    ] = None,
    machine: Annotated[
        Path | None,
        typer.Option(
            "--machine",
            metavar="FILE",
            help="With --model: tokens/s this machine's memory allows.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print a table, or JSON. A multiply-add is two FLOPs; MACs are counted beside them."""
    from blis_sim.roofline.block_formats import block_format, block_formats, format_rows

    if machine is not None and model is None:
        raise ConfigError("--machine must be given with --model; got it alone")
    chosen = [block_format(name) for name in names] if names else list(block_formats())
    bounds = [] if model is None else _bounds(model, machine, chosen)
    if as_json:
        documents = [_as_json(known) for known in chosen]
        for document, bound in zip(documents, bounds, strict=False):
            document |= {"weight_bytes": bound.weight_bytes, "tokens_per_s": bound.tokens_per_s}
        out(json.dumps(documents, indent=2))
        return
    header, *rows = format_rows(chosen)
    if bounds:
        header = (*header, "GB/token", "tokens/s")
        rows = [(*row, *_cells(bound)) for row, bound in zip(rows, bounds, strict=True)]
    out(text_table(header, rows))


def _bounds(model: str, machine: Path | None, chosen: Sequence[BlockFormat]) -> list[FormatBound]:
    from blis_sim.catalog.locate import locate
    from blis_sim.catalog.models import load_model
    from blis_sim.roofline.format_bounds import format_bounds
    from blis_sim.roofline.machine_profile import read_profile

    bandwidth = None
    if machine is not None:
        bandwidth = read_profile(locate(machine).path).bandwidth("DRAM read").gb_per_s
    return format_bounds(load_model(model), bandwidth, chosen)


def _cells(bound: FormatBound) -> tuple[str, str]:
    rate = bound.tokens_per_s
    return f"{bound.weight_bytes / 1e9:.3g}", "-" if rate is None else f"{rate:.3g}"


def _as_json(known: BlockFormat) -> dict[str, Any]:
    return {
        "name": known.name,
        "weights_per_block": known.weights_per_block,
        "bytes_per_block": known.bytes_per_block,
        "bits_per_weight": known.bits_per_weight,
        "gemv_flops_per_byte": known.gemv_flops_per_byte,
        "gemv_macs_per_byte": known.gemv_macs_per_byte,
        "layout": known.layout,
    }
