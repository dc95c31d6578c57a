"""``blis models``: the models that are shipped."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blis_sim.cli.common import out, text_table
from blis_sim.errors import CatalogError
from blis_sim.units import GIB

if TYPE_CHECKING:
    from blis_sim.catalog.model_spec import ModelSpec
    from blis_sim.catalog.models import ModelEntry

HELP = "List the models that are known by name."
_BILLION = 1e9
_KIB = 1024


def models(
    *,
    pattern: Annotated[
        str, typer.Argument(metavar="[FILTER]", help="Part of a name.", show_default=False)
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print a table, or JSON."""
    from blis_sim.catalog.models import list_models, load_model

    found = [
        (entry, load_model(entry.name))
        for entry in list_models()
        if pattern.lower() in " ".join((entry.folder, entry.name, *entry.aliases)).lower()
    ]
    if not found:
        raise CatalogError(
            f"FILTER must be part of a model's name; got {pattern!r}; 'blis models' lists all"
        )
    if as_json:
        out(json.dumps([_as_json(entry, spec) for entry, spec in found], indent=2))
        return
    header = ("model", "params", "active", "weights", "context", "KV/token")
    units = ("", "1e9", "1e9", "GiB", "tokens", "KiB")
    out(text_table(header, [units, *(_row(entry, spec) for entry, spec in found)]))


def _row(entry: ModelEntry, spec: ModelSpec) -> tuple[str, ...]:
    return (
        entry.folder,
        f"{spec.num_parameters / _BILLION:.1f}",
        f"{spec.num_active_parameters / _BILLION:.1f}",
        f"{spec.weight_bytes() / GIB:.1f}",
        str(spec.max_position_embeddings),
        f"{spec.kv_bytes_per_token(1) / _KIB:.0f}",
    )


def _as_json(entry: ModelEntry, spec: ModelSpec) -> dict[str, Any]:
    return {
        "model": entry.folder,
        "name": entry.name,
        "aliases": list(entry.aliases),
        "num_parameters": spec.num_parameters,
        "num_active_parameters": spec.num_active_parameters,
        "weight_bytes": spec.weight_bytes(),
        "max_position_embeddings": spec.max_position_embeddings,
        "kv_bytes_per_token": spec.kv_bytes_per_token(1),
        "dtype": spec.dtype,
        "quantization": spec.quantization,
    }
