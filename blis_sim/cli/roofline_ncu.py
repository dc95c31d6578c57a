"""``blis roofline ncu``: kernels that Nsight Compute measured, as points of a roofline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blis_sim.cli.common import note, out, text_table
from blis_sim.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from blis_sim.roofline.ceilings import Ceilings
    from blis_sim.roofline.points import MeasuredPoint

HELP = "Read kernels measured with Nsight Compute (ncu --csv) as points of a roofline."
_MOST_NAME = 48


def ncu(
    *,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="CSV export, long or wide (--page raw)."),
    ] = None,
    level: Annotated[
        str | None,
        typer.Option(
            "--level", metavar="NAMES", help="DRAM, L2, L1, commas between; those in the file."
        ),
    ] = None,
    by: Annotated[
        str, typer.Option("--by", help="What is one point: kernel (launches summed), launch, all.")
    ] = "kernel",
    flops_per_tensor_inst: Annotated[
        float,
        typer.Option(
            "--flops-per-tensor-inst",
            help="FLOPs of one tensor instruction: 512 on Volta, 4096 for m16n8k16 of Ampere.",
        ),
    ] = 512,
    gpu: Annotated[
        str | None, typer.Option("--gpu", "--hardware", help="Compare with the roofs of this GPU.")
    ] = None,
    csv: Annotated[
        str | None,
        typer.Option(
            "--csv", metavar="FILE|-", help="Write points for measured points; - prints them."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    command: Annotated[
        bool, typer.Option("--command", help="Print the command that collects the metrics.")
    ] = False,
) -> None:
    """Print a table of points, CSV or JSON; what was left out goes to stderr."""
    from blis_sim.catalog.locate import locate
    from blis_sim.cli.flag_command import STDOUT, write_text
    from blis_sim.roofline.ncu import Grouping, collect_command, import_ncu
    from blis_sim.roofline.points_file import points_csv, points_json

    levels = None if level is None else [each.strip() for each in level.split(",")]
    if command:
        out(collect_command(levels))
        return
    if file is None:
        raise ConfigError("FILE must be a CSV export of Nsight Compute; got none; see --command")
    if by not in list(Grouping):
        raise ConfigError(unknown_name("--by", by, list(Grouping)))
    _check_outputs(csv, as_json, file)
    imported = import_ncu(
        locate(file).path,
        levels=levels,
        grouping=Grouping(by),
        flops_per_tensor_inst=flops_per_tensor_inst,
    )
    for notice in imported.notices:
        note(notice)
    if csv is not None:
        write_text(points_csv(imported.points), csv)
    if as_json:
        out(points_json(imported.points))
    elif csv != STDOUT:
        out(_table(imported.points, gpu))


def _check_outputs(csv: str | None, as_json: bool, file: Path) -> None:
    from blis_sim.atomic import check_output_path
    from blis_sim.cli.flag_command import STDOUT

    if csv == STDOUT and as_json:
        raise ConfigError("--csv must be a file with --json; got - for both on one output")
    if csv is not None and csv != STDOUT:
        check_output_path(csv, "--csv")
        if Path(csv).resolve() == file.resolve():
            raise ConfigError(f"--csv must be another file than {file}; it would be overwritten")


def _table(points: Sequence[MeasuredPoint], gpu: str | None) -> str:
    from blis_sim.catalog.gpus import load_gpu
    from blis_sim.roofline.ceilings import ceilings_of_gpu

    ceilings = None if gpu is None else ceilings_of_gpu(load_gpu(gpu))
    header = ["kernel", "level", "FLOP/byte", "TFLOP/s", "GB/s", "time us"]
    if ceilings is not None:
        header.append(f"of the {ceilings.peaks[0].name} roof")
    return text_table(header, [_row(point, ceilings) for point in points])


def _row(point: MeasuredPoint, ceilings: Ceilings | None) -> list[str]:
    name = point.name
    shown = name if len(name) <= _MOST_NAME else f"{name[: _MOST_NAME - 3]}..."
    duration = "-" if point.duration_us is None else f"{point.duration_us:.4g}"
    figures = (point.oi, point.tflops, point.gb_per_s)
    row = [shown, point.level, *(f"{figure:.4g}" for figure in figures), duration]
    if ceilings is None:
        return row
    known = {bandwidth.level for bandwidth in ceilings.bandwidths}
    if point.level not in known:
        return [*row, "-"]
    attainable = ceilings.attainable_tflops(point.oi, level=point.level)
    return [*row, f"{100 * point.tflops / attainable:.1f} %"]
