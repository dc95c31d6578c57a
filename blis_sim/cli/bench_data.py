"""``blis bench-data``: what the measured kernel tables hold and what a lookup uses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blis_sim.cli.common import EXIT_FAILED, note, out, text_table
from blis_sim.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from blis_sim.latency.kernel_tables.check import CheckReport
    from blis_sim.latency.kernel_tables.explain import Explanation
    from blis_sim.latency.kernel_tables.tables import KernelTables

HELP = "Look into the measured kernel tables behind roofline-v2."
EXPLAIN_HELP = "Look one kernel up and say which measurements answer."
CHECK_HELP = "Read all tables of a folder: coverage and anomalies."

_NEEDED = {
    "gemm": ("m", "n", "k"),
    "prefill": ("shape", "new"),
    "decode": ("shape", "batch", "kv_len"),
    "mla-prefill": ("shape", "new"),
    "mla-decode": ("shape", "batch", "kv_len"),
    "moe": ("shape", "tokens"),
    "allreduce": ("bytes", "tp"),
}
_OPTIONAL = {"prefill": ("context", "window"), "mla-prefill": ("context",)}
_SHAPES = {
    "prefill": "heads-KV heads-head dim",
    "decode": "heads-KV heads-head dim",
    "mla-prefill": "heads-QK head dim-V head dim",
    "mla-decode": "heads-latent dim-rope dim",
    "moe": "experts-top k-hidden-expert width[-expert parallelism]",
}


def explain(  # noqa: PLR0913 (one parameter per flag)
    *,
    gpu: Annotated[str, typer.Option("--gpu", "--hardware", help="GPU name.")],
    op: Annotated[str, typer.Option("--op", help=f"{', '.join(_NEEDED)}.")],
    m: Annotated[int | None, typer.Option("--m", help="gemm: rows (tokens).")] = None,
    n: Annotated[int | None, typer.Option("--n", help="gemm: output width.")] = None,
    k: Annotated[int | None, typer.Option("--k", help="gemm: input width.")] = None,
    shape: Annotated[
        str | None,
        typer.Option("--shape", help="Heads H-K-h, or experts E-k-d-F, on one GPU."),
    ] = None,
    batch: Annotated[int | None, typer.Option("--batch", help="decode: requests.")] = None,
    kv_len: Annotated[int | None, typer.Option("--kv-len", help="decode: mean context.")] = None,
    new: Annotated[int | None, typer.Option("--new", help="prefill: tokens computed.")] = None,
    context: Annotated[
        int | None, typer.Option("--context", help="prefill: tokens in the cache before.")
    ] = None,
    window: Annotated[
        int | None, typer.Option("--window", help="prefill: sliding window.")
    ] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", help="moe: tokens.")] = None,
    num_bytes: Annotated[
        int | None, typer.Option("--bytes", help="allreduce: size of the message.")
    ] = None,
    tp: Annotated[int | None, typer.Option("--tp", help="allreduce: GPUs.")] = None,
    dtype: Annotated[
        str, typer.Option("--dtype", help="Format of weights, or of queries.")
    ] = "bf16",
    kv_dtype: Annotated[
        str | None, typer.Option("--kv-dtype", help="Format of the KV cache; that of --dtype.")
    ] = None,
    path: Annotated[
        Path | None, typer.Option("--bench-data-path", help="Folder of tables; the shipped ones.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the answer, or JSON."""
    operation = op.lower().replace("_", "-")
    if operation not in _NEEDED:
        raise ConfigError(unknown_name("--op", op, _NEEDED))
    given = {
        "m": m,
        "n": n,
        "k": k,
        "shape": shape,
        "batch": batch,
        "kv_len": kv_len,
        "new": new,
        "context": context,
        "window": window,
        "tokens": tokens,
        "bytes": num_bytes,
        "tp": tp,
    }
    sizes = _checked(
        operation, {name: value for name, value in given.items() if value is not None}
    )

    from blis_sim.catalog.gpus import load_gpu
    from blis_sim.latency.kernel_tables.borrow import tables_for

    tables, _ = tables_for(load_gpu(gpu), path)
    explanation = _explained(tables, operation, sizes, dtype, kv_dtype)
    for notice in tables.notices:
        note(notice)
    out(json.dumps(_as_json(explanation), indent=2) if as_json else _as_text(explanation))


def _checked(operation: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the sizes given, or raise for one missing, out of place or too small."""
    needed, optional = _NEEDED[operation], _OPTIONAL.get(operation, ())
    for name in needed:
        if name not in given:
            flags = " ".join(_flag(each) for each in needed)
            raise ConfigError(
                f"{_flag(name)} must be given with --op {operation}; got none; it needs {flags}"
            )
    for name, value in given.items():
        if name not in (*needed, *optional):
            raise ConfigError(
                f"{_flag(name)} must not be given with --op {operation}; got {value}"
            )
        least = {"context": 0, "tp": 2}.get(name, 1)
        if isinstance(value, int) and value < least:
            raise ConfigError(f"{_flag(name)} must be at least {least}; got {value}")
    return given


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _numbers(operation: str, text: str) -> tuple[int, ...]:
    parts = text.split("-")
    counts = (4, 5) if operation == "moe" else (3,)
    is_sound = all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts)
    if not is_sound or len(parts) not in counts:
        raise ConfigError(f"--shape must be {_SHAPES[operation]}, whole numbers; got {text!r}")
    return tuple(map(int, parts))


def _explained(
    tables: KernelTables,
    operation: str,
    sizes: dict[str, Any],
    dtype: str,
    kv_dtype: str | None,
) -> Explanation:
    from blis_sim.latency.kernel_tables import explain as explanations
    from blis_sim.latency.kernel_tables.precision import normalised_dtype
    from blis_sim.latency.kernel_tables.shapes import (
        ExpandedShape,
        ExpertsShape,
        Formats,
        HeadShape,
        LatentShape,
    )
    from blis_sim.transformer.dtypes import dtype_bits

    dtype = normalised_dtype(dtype)
    formats = Formats(dtype, dtype if kv_dtype is None else normalised_dtype(kv_dtype))
    for name in formats:
        dtype_bits(name)
    if operation == "gemm":
        return explanations.explain_gemm(tables, sizes["m"], sizes["k"], sizes["n"], dtype)
    if operation == "allreduce":
        return explanations.explain_allreduce(tables, sizes["bytes"], sizes["tp"])
    numbers = _numbers(operation, sizes["shape"])
    if operation == "moe":
        shape = ExpertsShape(*numbers)
        return explanations.explain_moe(tables, sizes["tokens"], shape, dtype)
    if operation.endswith("decode"):
        heads = (LatentShape if operation == "mla-decode" else HeadShape)(*numbers)
        return explanations.explain_decode(tables, heads, sizes["batch"], sizes["kv_len"], formats)
    prompt_heads = (ExpandedShape if operation == "mla-prefill" else HeadShape)(*numbers)
    return explanations.explain_prefill(
        tables,
        prompt_heads,
        sizes.get("context", 0),
        sizes["new"],
        formats,
        window=sizes.get("window"),
    )


def _as_json(explanation: Explanation) -> dict[str, Any]:
    from dataclasses import asdict

    shown = asdict(explanation) | {"efficiency": explanation.efficiency}
    shown["shapes"] = [used._asdict() for used in explanation.shapes]
    shown["points"] = [
        {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in point._asdict().items()
        }
        for point in explanation.points
    ]
    return shown


def _as_text(explanation: Explanation) -> str:
    request = ", ".join(f"{name} {value}" for name, value in explanation.request.items())
    lines = [
        f"{explanation.operation} on {explanation.gpu}: {request}",
        f"time        {explanation.us:.4g} us"
        + (", the bound: measurements are faster" if explanation.is_at_bound else ""),
        f"bound       {explanation.bound_us:.4g} us ({explanation.limited_by})",
        f"efficiency  {100 * explanation.efficiency:.1f} % of the bound",
        f"table       {explanation.file} ({explanation.table_format}, "
        f"measured on {explanation.measured_on})",
        f"shape       {_shapes_text(explanation)}",
        f"lookup      {explanation.how}",
    ]
    if explanation.context_us:
        lines.append(f"context     {explanation.context_us:.4g} us more, by whole waves of tiles")
    lines.append("")
    rows = [
        (
            _dashed(point.shape),
            str(point.batch),
            str(point.size),
            "not measured" if math.isnan(point.measured_us) else f"{point.measured_us:.4g}",
            f"{point.us:.4g}",
            f"{point.weight:.4g}",
        )
        for point in explanation.points
    ]
    header = ("shape", "batch", "size", "measured us", "us here", "weight")
    return "\n".join(lines) + text_table(header, rows)


def _shapes_text(explanation: Explanation) -> str:
    shapes = explanation.shapes
    if len(shapes) > 1:
        shares = ", ".join(f"{_dashed(used.shape)} ({100 * used.weight:.1f} %)" for used in shapes)
        return f"{shares}: what their efficiencies mean here, averaged"
    text = _dashed(shapes[0].shape)
    return text if explanation.is_same_kernel else f"{text}, its efficiency is carried over"


def _dashed(shape: tuple[int, ...]) -> str:
    return "-".join(map(str, shape))


def check(
    *,
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="Folder of tables; the shipped ones by default."),
    ] = None,
    gpu: Annotated[
        str | None, typer.Option("--gpu", "--hardware", help="Only this GPU; all of DIR.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print a table, or JSON; exit with 1 when a file cannot be used."""
    from blis_sim.catalog.locate import locate
    from blis_sim.latency.kernel_tables.borrow import shipped_bench_data
    from blis_sim.latency.kernel_tables.check import check_folder

    root = shipped_bench_data() if folder is None else locate(folder).path
    reports = check_folder(root, gpu)
    if as_json:
        out(json.dumps([_report_json(report) for report in reports], indent=2))
    else:
        out("\n\n".join(map(_report_text, reports)))
    if any(report.num_errors for report in reports):
        raise typer.Exit(EXIT_FAILED)


def _report_json(report: CheckReport) -> dict[str, Any]:
    from blis_sim.catalog.locate import shown_path

    return {
        "folder": shown_path(report.path),
        "gpu": report.gpu,
        "num_errors": report.num_errors,
        "num_warnings": len(report.findings) - report.num_errors,
        "coverage": [entry._asdict() for entry in report.coverage],
        "findings": [finding._asdict() for finding in report.findings],
    }


def _report_text(report: CheckReport) -> str:
    from blis_sim.catalog.locate import shown_path

    num_warnings = len(report.findings) - report.num_errors
    lines = [
        f"{shown_path(report.path)}, against the roofs of {report.gpu}: "
        f"{report.num_errors} errors, {num_warnings} warnings"
    ]
    if report.coverage:
        header = ("operation", "format", "files", "shapes", "points", "ranges")
        lines.append(text_table(header, [tuple(map(str, entry)) for entry in report.coverage]))
    lines += [f"{finding.severity}: {finding.text}" for finding in report.findings]
    return "\n".join(lines)
